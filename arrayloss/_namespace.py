"""Which array library an argument belongs to, and what that library offers.

The only module that asks array-api-compat for a namespace. A library is recognised by the type of the array, through
`sys.modules`: an array of a library that was never imported cannot exist, so nothing is imported to find out.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

#: Real floating dtypes the losses take, by name: `isdtype` and `finfo` refuse bfloat16 on some libraries.
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
HALVES = frozenset({"float16", "bfloat16"})
LABELS = frozenset({"bool"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})

#: How a user turns an array of anything into an array of one library; for error messages.
CONVERSION = {
    "numpy": "numpy.asarray({0})",
    "torch": "torch.as_tensor({0})",
    "jax": "jax.numpy.asarray({0})",
    "cupy": "cupy.asarray({0})",
}


@dataclass(frozen=True, eq=False, slots=True)
class Library:
    """One array library as the losses see it: its array API namespace and its kernels."""

    name: str
    xp: Any
    kernels: Any


def library_name(x: object) -> str | None:
    """Return `"numpy"`, `"torch"`, `"jax"`, `"cupy"`, the module of another array API library, or None: no array."""
    modules = sys.modules
    if (numpy := modules.get("numpy")) is not None and type(x) is numpy.ndarray:
        return "numpy"
    if (torch := modules.get("torch")) is not None and isinstance(x, torch.Tensor):
        return "torch"
    if (jax := modules.get("jax")) is not None and isinstance(x, jax.Array):
        return "jax"
    if numpy is not None and isinstance(x, (numpy.ndarray, numpy.generic)):
        return None if isinstance(x, numpy.ma.MaskedArray) else "numpy"
    if (cupy := modules.get("cupy")) is not None and isinstance(x, cupy.ndarray):
        return "cupy"
    if hasattr(x, "__array_namespace__"):
        return str(getattr(x, "library_name", None) or type(x).__module__.partition(".")[0])
    return None


def library_of(x: Any) -> Library:
    """Return the library of one array that `library_name` recognises."""
    # Imports are written out: importlib and cached look-ups break the graph under torch.compile.
    if hasattr(x, "tape"):
        from arrayloss._gradient.tape import traced_library

        return traced_library(x)
    match library_name(x):
        case "torch":
            from arrayloss._kernels.torch import LIBRARY
        case "numpy":
            from arrayloss._kernels.numpy import LIBRARY
        case "jax":
            from arrayloss._kernels.jax import LIBRARY
        case "cupy":
            from arrayloss._kernels.cupy import LIBRARY
        case _:
            from arrayloss._kernels.generic import library

            return library(x)
    return LIBRARY


def common_library(function: str, arrays: dict[str, Any]) -> Library:
    """Return the one library of all arrays given by argument name.

    Raises
    ------
    TypeError
        An argument is no array, or two arguments come from different libraries.
    """
    first, home = "", ""
    for argument, x in arrays.items():
        name = library_name(x)
        if name is None:
            from arrayloss._advice import of_no_array

            kind = type(x)
            came = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
            raise TypeError(
                f"{function}: {argument} is a {came}, expected an array of NumPy, CuPy, torch, JAX or another array "
                f"API library" + of_no_array(argument, x, arrays)
            )
        if not first:
            first, home = argument, name
        elif name != home:
            conversion = CONVERSION.get(home, f"{home}.asarray({{0}})").format(argument)
            raise TypeError(
                f"{function}: {first} is an array of {home} but {argument} is an array of {name}; one call takes "
                f"arrays of one library: convert with {conversion}"
            )
    return library_of(arrays[first])


_NAMES: dict[Any, str] = {}


def dtype_name(x: Any) -> str:
    """Return the plain name of an array's dtype, `"float32"` for `torch.float32`."""
    dtype = x.dtype
    if not hasattr(dtype, "kind"):
        return str(dtype).rpartition(".")[2]
    # The dtypes of NumPy, CuPy and JAX are NumPy's, which spell their names slowly. The name says nothing of the byte
    # order, which a string would.
    name = _NAMES.get(dtype)
    if name is None:
        name = _NAMES[dtype] = str(dtype.name)
    return name


def device_of(x: Any) -> Any:
    """Return the device of an array, for `device=`; None where it has none to tell, as JAX arrays traced or sharded.

    array-api-compat's `device` does the same through cached look-ups, of which torch.compile warns.
    """
    device = getattr(x, "device", None)
    return None if hasattr(device, "device_set") else device
