"""The errors of arrays, each text written once: who refuses which argument, what came, and what would fit.

What a caller most likely wanted instead is said by `advice.py`, and comes as `more`.
"""

from __future__ import annotations

from typing import Any

from arrayloss._machines.namespace import FLOATS, dtype_name

A_FLOAT = f"a real floating dtype ({', '.join(sorted(FLOATS))})"


def shape(function: str, argument: str, x: Any, expected: str, more: str = "") -> ValueError:
    """Return the error for an array, or an array's shape, that does not fit."""
    came = tuple(getattr(x, "shape", x))
    return ValueError(f"{function}: {argument} has shape {came}, expected {expected}{more}")


def dtype(function: str, argument: str, x: Any, expected: str, more: str = "") -> TypeError:
    """Return the error for an array of a kind that does not fit."""
    return TypeError(f"{function}: {argument} has dtype {dtype_name(x)}, expected {expected}{more}")


def no_classes(function: str, logits: Any, axis: int) -> ValueError:
    """Return the error for scores of no class at all."""
    return ValueError(f"{function}: logits has shape {tuple(logits.shape)}: no classes on axis {axis}")


def values(function: str, argument: str, found: tuple[float, float], expected: str, more: str = "") -> ValueError:
    """Return the error for an array of which some values, found to lie in a range, are out of another."""
    low, high = found
    return ValueError(f"{function}: {argument} holds values from {low:g} to {high:g}, expected {expected}{more}")
