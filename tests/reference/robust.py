"""Cross entropies with another shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    are_labels,
    classes_last,
    labelled_pixels,
    log_softmax,
    reduce,
    times,
)
from reference.focal import weighed_classes


def poly_loss(
    logits: Any,
    target: Any,
    *,
    epsilon: float = 1.0,
    weight: Any = None,
    ignore_index: int | None = 255,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """-log p_y + epsilon (1 - p_y)."""

    def cost(log_p: float) -> float:
        return -log_p + epsilon * (1 - math.exp(log_p))

    return weighed_classes(logits, target, cost, weight, ignore_index, label_smoothing, reduction, axis)


def symmetric_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    alpha: float = 0.1,
    beta: float = 1.0,
    ignore_index: int | None = 255,
    log_zero: float = -4.0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """alpha sum_c t_c (-log p_c) + beta sum_c p_c (-max(log t_c, log_zero)), t one-hot where the target has labels."""
    z = classes_last(logits, axis)
    classes = z.shape[-1]
    truth: dict[Position, list[float]] = {}
    if are_labels(target):
        for position, y in labelled_pixels(z, target, ignore_index, axis):
            truth[position] = [float(c == y) for c in range(classes)]
    else:
        t = classes_last(target, axis)
        truth = {position: [float(x) for x in t[position]] for position in np.ndindex(z.shape[:-1])}
    losses: dict[Position, float] = {}
    for position, t in truth.items():
        log_p = log_softmax(z[position])
        log_t = [max(math.log(x), log_zero) if x > 0 else log_zero for x in t]
        forward = math.fsum(times(alpha * t[c], -log_p[c]) for c in range(classes))
        losses[position] = forward + beta * math.fsum(math.exp(log_p[c]) * -log_t[c] for c in range(classes))
    return reduce(z.shape[:-1], losses, len(losses), reduction)


def generalized_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    q: float = 0.7,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """(1 - p_y^q) / q."""

    def cost(log_p: float) -> float:
        return -math.expm1(q * log_p) / q

    return weighed_classes(logits, target, cost, weight, ignore_index, 0.0, reduction, axis)
