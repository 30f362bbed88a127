"""Gradients by differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def _scalar(value: Any) -> float:
    """The number whose gradient is meant: an array stands for its sum, (total, weight) for its total."""
    if isinstance(value, tuple):
        value = value[0]
    return math.fsum(float(x) for x in np.asarray(value, dtype=np.float64).flat)


def numerical_gradient(
    f: Callable[[Any], Any], x: Any, step: float = 1e-4, order: int = 4, most: int | None = None
) -> Any:
    """Gradient of f at x by central differences, of 2nd or 4th order in `step`; a tuple of arrays gives a tuple.

    f takes what x is (an array or a tuple of arrays, in float64). Infinite and NaN entries cannot be moved and so get 0
    where f is finite. Of an array with more than `most` entries, so many are tried, the same ones each time; the
    others are NaN.
    """
    if order not in (2, 4):
        raise ValueError(f"order is 2 or 4, not {order}")
    is_tuple = isinstance(x, tuple)
    arrays = [np.array(a, dtype=np.float64) for a in (x if is_tuple else (x,))]

    def value_at(which: int, entry: tuple[int, ...], shift: float) -> float:
        moved = [a.copy() for a in arrays]
        moved[which][entry] += shift
        return _scalar(f(tuple(moved) if is_tuple else moved[0]))

    gradients = [np.full(a.shape, np.nan) for a in arrays]
    for which, array in enumerate(arrays):
        tried = np.random.default_rng(0).permutation(array.size)[:most]
        for entry in zip(*np.unravel_index(tried, array.shape), strict=True) if array.ndim else [()]:
            slope = (value_at(which, entry, step) - value_at(which, entry, -step)) / (2 * step)
            if order == 4:
                wide = (value_at(which, entry, 2 * step) - value_at(which, entry, -2 * step)) / (4 * step)
                slope = (4 * slope - wide) / 3
            gradients[which][entry] = slope
    return tuple(gradients) if is_tuple else gradients[0]
