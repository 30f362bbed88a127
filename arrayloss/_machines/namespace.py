"""What an array tells of itself: its library, by name, its dtype and its device.

A library is recognised by the type of the array, through `sys.modules`: an array of a library that was never imported
cannot exist, so nothing is imported to find out.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

#: Whether the environment asks for the portable forms, and for torch's and XLA's own sort.
PORTABLE = os.environ.get("ARRAYLOSS_PORTABLE", "0") not in ("", "0")

#: Real floating dtypes the losses take, by name: `isdtype` and `finfo` refuse bfloat16 on some libraries.
FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
HALVES = frozenset({"float16", "bfloat16"})
LABELS = frozenset({"bool"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})


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
