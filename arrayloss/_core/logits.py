"""Scores as they come: of one library, real, on one device, and where their classes stand."""

from __future__ import annotations

from typing import Any

from arrayloss._core import advice, errors
from arrayloss._core.library import common_library
from arrayloss._machines.namespace import FLOATS, HALVES, Library, dtype_name, library_name

Array = Any


def open_logits(function: str, arrays: dict[str, Any], names: str = "logits") -> tuple[Library, Array]:
    """Return the library of all arrays, and the first one checked to be real floating and raised to float32."""
    library = common_library(function, arrays)
    logits = next(iter(arrays.values()))
    name = dtype_name(logits)
    if name not in FLOATS:
        more = f"; {names} are scores, not labels" + _swapped(function, arrays)
        raise errors.dtype(function, names, logits, errors.A_FLOAT, more)
    _same_device(function, library, arrays)
    if name in HALVES or (library.name == "numpy" and not logits.dtype.isnative):
        logits = library.xp.astype(logits, library.xp.float64 if name == "float64" else library.xp.float32)
    return library, logits


def _swapped(function: str, arrays: dict[str, Any]) -> str:
    """Return what to write where the scores are no real numbers and the target holds such, or ""."""
    if "target" not in arrays or dtype_name(arrays["target"]) not in FLOATS:
        return ""
    return advice.of_swapped(function)


def _same_device(function: str, library: Library, arrays: dict[str, Any]) -> None:
    # A traced JAX array has no device, and JAX itself refuses two; the scalars of older NumPys have none either.
    if library.name in ("jax", "numpy"):
        return
    first = home = None
    for argument, x in arrays.items():
        device = x.device
        if first is None:
            first, home = argument, device
        elif device != home:
            raise ValueError(f"{function}: {first} is on device {home} but {argument} is on {device}; move one of them")


def of_library(weights: dict[str, Any]) -> dict[str, Any]:
    """Return those weights of a call that must be of the library of the logits: not sequences, nor NumPy's arrays."""
    return {
        name: x
        for name, x in weights.items()
        if x is not None and not isinstance(x, (list, tuple)) and library_name(x) != "numpy"
    }


def pair(function: str, logits: Any, meaning: str) -> tuple[Array, Array]:
    """Return the two arrays of logits that are a tuple; `meaning` names them in the error."""
    if not isinstance(logits, (tuple, list)) or len(logits) != 2:
        came = f"a {type(logits).__name__}" + (f" of {len(logits)}" if isinstance(logits, (tuple, list)) else "")
        swapped = "" if isinstance(logits, (tuple, list)) else f"; they come first: {function}(logits, target)"
        raise TypeError(f"{function}: logits is {came}, expected a tuple of two arrays: ({meaning})" + swapped)
    return logits[0], logits[1]


def class_axis(function: str, logits: Array, axis: int) -> int:
    """Return the class axis of the logits as a non-negative number."""
    rank = logits.ndim
    if axis == 1 and rank > 1:
        return 1
    if rank == 0:
        raise errors.shape(function, "logits", logits, "(N, C, *S) or (C,)")
    if rank == 1 and axis == 1:  # the default, for a single (C,) without a batch axis
        return 0
    if not -rank <= axis < rank:
        raise ValueError(
            f"{function}: axis is {axis}, expected -{rank} to {rank - 1} for logits of shape {tuple(logits.shape)}"
        )
    return axis % int(rank)


def class_axis_to_1(xp: Any, x: Array, axis: int) -> Array:
    """Return `x` with the class axis at 1; a single `(C,)` becomes `(1, C)`."""
    if x.ndim == 1:
        return xp.expand_dims(x, axis=0)
    if axis == 1:
        return x
    rest = [i for i in range(x.ndim) if i != axis]
    return xp.permute_dims(x, (rest[0], axis, *rest[1:]))


def class_axis_back(xp: Any, x: Array, axis: int) -> Array:
    """Undo `class_axis_to_1` for an array of more than one dimension."""
    if axis == 1:
        return x
    order = [0, *range(2, x.ndim)]
    order.insert(axis, 1)
    return xp.permute_dims(x, tuple(order))
