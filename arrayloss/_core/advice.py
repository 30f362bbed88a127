"""What is added to the errors of arrays: what a caller who meets them most likely wanted, and how to write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arrayloss._core.shown import shown
from arrayloss._machines.namespace import library_name

Shape = tuple[int, ...]

#: How a user turns an array of anything into an array of one library.
_CONVERSIONS = {
    "numpy": "numpy.asarray({0})",
    "torch": "torch.as_tensor({0})",
    "jax": "jax.numpy.asarray({0})",
    "cupy": "cupy.asarray({0})",
}


def conversion(library: str, argument: str) -> str:
    """Return how to write an argument as an array of a library."""
    return _CONVERSIONS.get(library, f"{library}.asarray({{0}})").format(argument)


def of_swapped(function: str) -> str:
    """Return what to write where the arguments seem to be swapped."""
    return f"; the scores come first: were they swapped? Write {function}(logits, target)"


def of_shapes(function: str, logits: Any, target: Any, axis: int, names: str = "logits", name: str = "target") -> str:
    """Return what to write for scores and labels whose shapes do not go together, or "" where that is not plain.

    `axis` is the class axis as a non-negative number, `names` and `name` what the caller calls the two.
    """
    whole, shape = tuple(logits.shape), tuple(target.shape)
    advice = []
    if axis == 1 and len(whole) > 2 and shape in (whole[:-1], (*whole[:-1], 1)):
        one = f"; one image has a batch axis too: {names}[None], {name}[None]" if len(whole) == 3 else ""
        advice.append(f"where the classes are on the last axis, write axis=-1{one}")
    elif axis == 1 and len(whole) > 1 and shape in (whole[1:], (1, *whole[1:])):
        advice.append(f"one image has a batch axis too: write {names}[None], {name}[None]")
    elif len(whole) > 2 and whole[0] == 1 and shape == (*whole[1:axis], *whole[axis + 1 :]):
        advice.append(f"the labels of one image have a batch axis too: write {name}[None]")
    elif axis == 1 and len(shape) > 2 and len(shape) == len(whole) and shape == (whole[0], *whole[2:], whole[1]):
        advice.append(f"the classes of {name} are on its last axis: move it to 1")
    if len(shape) > 1 and len(shape) == len(whole) + 1 and whole in ((shape[0], *shape[2:]), shape[:-1], shape[1:]):
        return of_swapped(function)
    return f"; {advice[0]}" if advice else ""


def of_length_1(argument: str, shape: Shape, expected: Shape) -> str:
    """Return what to write where two shapes differ by axes of length 1 alone, or ""."""
    if [n for n in shape if n != 1] != [n for n in expected if n != 1]:
        return ""
    return f"; write {argument}.reshape({expected})"


def of_no_array(argument: str, x: Any, arrays: dict[str, Any]) -> str:
    """Return what to do with an argument that is no array, given all those of the call."""
    if x is None:
        return f"; nothing came: is {argument} missing, or does what makes it return nothing?"
    if isinstance(x, str):
        return "; a string is no data"
    if type(x).__name__ == "MaskedArray":
        return (
            f"; pass {argument}.data, and where it is masked ignore_index in the target"
            if argument.startswith("logits")
            else f"; pass {argument}.filled(ignore_index), so that what is masked is ignored"
        )
    if getattr(x, "logits", None) is not None:
        return f"; it is the output of a model, which holds them: pass {argument}.logits"
    if isinstance(x, Mapping):
        keys = ", ".join(map(shown, list(x)[:6]))
        return f"; pass what it holds under a key, of {keys}" if keys else "; it is empty"
    if isinstance(x, (list, tuple)) and any(library_name(item) is not None for item in x):
        return "; it holds arrays: pass one of them, or one array of all"
    if callable(x):
        return "; pass what it returns"
    if isinstance(x, tuple):
        return ""
    return f"; convert it first, for instance with {_converted(argument, x, arrays)}"


def _converted(argument: str, x: Any, arrays: dict[str, Any]) -> str:
    homes = [name for other in arrays.values() if (name := library_name(other)) is not None]
    home = homes[0] if homes else "numpy"
    # torch reads numbers and what NumPy knows, other objects by way of NumPy.
    through = argument if isinstance(x, (list, int, float)) or home == "numpy" else f"numpy.asarray({argument})"
    return conversion(home, through)
