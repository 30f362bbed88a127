"""The library of an array, and with it the machine that runs formulas on it: the one place that picks one.

It stands above the machines, which know nothing of each other but what is generic. An array that is recorded on the
way, as the variables of a tape are, has a method `__arrayloss_library__` that tells its own, and a `library_name`.
"""

from __future__ import annotations

import sys
from typing import Any

from arrayloss._core.advice import conversion, of_no_array
from arrayloss._machines.namespace import Library, library_name


def name_of(x: Any) -> str | None:
    """Return what `library_name` does, for recorded arrays without a look at all it could be."""
    if getattr(type(x), "__arrayloss_library__", None) is not None:
        recorded: str = x.library_name
        return recorded
    return library_name(x)


def library_of(x: Any, name: str | None = None) -> Library:
    """Return the library of one array that `library_name` recognises; its name, where that is known."""
    if getattr(type(x), "__arrayloss_library__", None) is not None:
        recorded: Library = x.__arrayloss_library__()
        return recorded
    name = name or library_name(x)
    # An import statement costs as much as all the rest of a look-up, the modules that are loaded next to nothing.
    machine = getattr(sys.modules.get(_MACHINES.get(name or "", "")), "LIBRARY", None)
    return machine or _imported(x, name)


#: The modules of the machines, by the names of their libraries, but for torch: its compiler, should it find one that is
#: not loaded yet, would compile anew once it is.
_MACHINES = {name: f"arrayloss._machines.{name}" for name in ("numpy", "jax", "cupy")}


def _imported(x: Any, name: str | None) -> Library:
    # Imports are written out: importlib and cached look-ups break the graph under torch.compile.
    match name:
        case "torch":
            from arrayloss._machines.torch import LIBRARY
        case "numpy":
            from arrayloss._machines.numpy import LIBRARY
        case "jax":
            from arrayloss._machines.jax import LIBRARY
        case "cupy":
            from arrayloss._machines.cupy import LIBRARY
        case _:
            from arrayloss._machines.generic import library

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
        name = name_of(x)
        if name is None:
            kind = type(x)
            came = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
            raise TypeError(
                f"{function}: {argument} is a {came}, expected an array of NumPy, CuPy, torch, JAX or another array "
                f"API library" + of_no_array(argument, x, arrays)
            )
        if not first:
            first, home = argument, name
        elif name != home:
            raise TypeError(
                f"{function}: {first} is an array of {home} but {argument} is an array of {name}; one call takes "
                f"arrays of one library: convert with {conversion(home, argument)}"
            )
    return library_of(arrays[first], home)
