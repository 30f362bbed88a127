"""Losses of whole regions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    are_labels,
    class_weights,
    classes_last,
    image_count,
    image_index,
    labelled_pixels,
    no_parts,
    reduce,
    softmax,
)


def dice_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    smooth: float = 0.0,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """d_nc = 1 - (2 sum p t + smooth) / (sum p + sum t + smooth); "none" gives w_c d_nc in the shape (N, C).

    ignore_index concerns labels only: with probabilities every position is valid.
    """
    no_parts(reduction)
    z = classes_last(logits, axis)
    classes, images = z.shape[-1], image_count(z)
    w = class_weights(weight, classes)

    truth: dict[Position, list[float]] = {}  # t at the valid positions
    if are_labels(target):
        for position, y in labelled_pixels(z, target, ignore_index, axis):
            truth[position] = [1.0 if c == y else 0.0 for c in range(classes)]
    else:
        t = classes_last(target, axis)
        if t.shape != z.shape:
            raise ValueError(f"target of shape {np.shape(target)} for logits of shape {np.shape(logits)}")
        for position in np.ndindex(z.shape[:-1]):
            truth[position] = [float(x) for x in t[position]]

    pairs: list[list[tuple[list[float], list[float]]]] = [[] for _ in range(images)]  # (p, t) by image
    for position, t_pixel in truth.items():
        pairs[image_index(position)].append((softmax(z[position]), t_pixel))

    values: dict[Position, float] = {}
    for n in range(images):
        for c in range(classes):
            overlap = math.fsum(p[c] * t[c] for p, t in pairs[n])
            p_sum = math.fsum(p[c] for p, _ in pairs[n])
            t_sum = math.fsum(t[c] for _, t in pairs[n])
            below = p_sum + t_sum + smooth
            d = 0.0 if below == 0 else 1.0 - (2.0 * overlap + smooth) / below
            values[n, c] = w[c] * d
    value = reduce((images, classes), values, images * math.fsum(w), reduction)
    return value[0] if isinstance(value, np.ndarray) and z.ndim == 1 else value
