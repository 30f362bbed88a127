"""Margin losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import Position, Result, class_axis, class_weights, classes_last, labelled_pixels, reduce, times
from reference.binary import binary_target


def _entries(logits: Any, target: Any, power: int, ignore_index: int | None, reduction: str, axis: int) -> Result:
    """max(0, 1 - (2 y - 1) z)^power over the valid entries."""
    z = classes_last(logits, axis)
    y, valid = binary_target(target, z, ignore_index, False, axis)
    losses: dict[Position, float] = {}
    for entry in np.ndindex(z.shape):
        if valid[entry]:
            t, x = float(y[entry]), float(z[entry])
            losses[entry] = max(0.0, 1 - times(2 * t - 1, x)) ** power
    result = reduce(z.shape, losses, len(losses), reduction)
    return np.moveaxis(result, -1, class_axis(z.ndim, axis)) if isinstance(result, np.ndarray) else result


def hinge_loss(
    logits: Any, target: Any, *, ignore_index: int | None = 255, reduction: str = "mean", axis: int = 1
) -> Result:
    """max(0, 1 - s z), s = 2 y - 1."""
    return _entries(logits, target, 1, ignore_index, reduction, axis)


def squared_hinge_loss(
    logits: Any, target: Any, *, ignore_index: int | None = 255, reduction: str = "mean", axis: int = 1
) -> Result:
    """max(0, 1 - s z)^2, s = 2 y - 1."""
    return _entries(logits, target, 2, ignore_index, reduction, axis)


def multi_margin_loss(
    logits: Any,
    target: Any,
    *,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w_y / C sum over c other than y of max(0, margin - z_y + z_c)^p."""
    z = classes_last(logits, axis)
    classes = z.shape[-1]
    w = class_weights(weight, classes)
    losses: dict[Position, float] = {}
    for position, y in labelled_pixels(z, target, ignore_index, axis):
        own = float(z[position][y])
        over = [max(0.0, margin + (float(z[position][c]) - own)) ** p for c in range(classes) if c != y]
        losses[position] = times(w[y] / classes, math.fsum(over))
    return reduce(z.shape[:-1], losses, len(losses), reduction)
