"""Cross entropy over classes."""

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
    k_largest,
    labelled_pixels,
    log_softmax,
    reduce,
    times,
)


def cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = 255,
    top_k_percent_pixels: float = 1.0,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = 1,
    pixel_weight: Any = None,
) -> Result:
    """Labels: (1-s) w_y ce + (s/C) sum_c w_c (-log p_c). Probabilities: -sum_c w_c t'_c log p_c. Times pixel_weight.

    ignore_index concerns labels only: with probabilities every position is valid.
    """
    z = classes_last(logits, axis)
    shape, classes = z.shape[:-1], z.shape[-1]
    w = class_weights(weight, classes)
    s = label_smoothing
    pixel_weights = np.ones(shape) if pixel_weight is None else np.asarray(pixel_weight).astype(np.float64)
    if pixel_weights.shape != shape:
        raise ValueError(f"pixel_weight of shape {pixel_weights.shape} does not fit positions {shape}")

    losses: dict[Position, float] = {}
    weights: dict[Position, float] = {}
    if are_labels(target):
        for position, y in labelled_pixels(z, target, ignore_index, axis):
            log_p = log_softmax(z[position])
            at_label = times((1 - s) * w[y], -log_p[y])
            spread = math.fsum(times(s / classes * w[c], -log_p[c]) for c in range(classes))
            pixel = float(pixel_weights[position])
            losses[position] = times(pixel, at_label + spread)
            weights[position] = w[y] * pixel
    else:
        t = classes_last(target, axis)
        if t.shape != z.shape:
            raise ValueError(f"target of shape {np.shape(target)} for logits of shape {np.shape(logits)}")
        for position in np.ndindex(shape):
            log_p = log_softmax(z[position])
            smoothed = [(1 - s) * float(t[position][c]) + s / classes for c in range(classes)]
            pixel = float(pixel_weights[position])
            losses[position] = times(pixel, math.fsum(times(w[c] * smoothed[c], -log_p[c]) for c in range(classes)))
            weights[position] = pixel

    kept = set(losses)
    if top_k_percent_pixels < 1:
        kept = k_largest(losses, int(top_k_percent_pixels * math.prod(shape)))
    return reduce(
        shape,
        {position: loss for position, loss in losses.items() if position in kept},
        math.fsum(weights[position] for position in kept),
        reduction,
    )
