"""Focal losses over classes and over entries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    are_labels,
    class_axis,
    class_weights,
    classes_last,
    labelled_pixels,
    log_softmax,
    reduce,
    softplus,
    times,
)
from reference.binary import binary_target


def weighed_classes(
    logits: Any,
    target: Any,
    cost: Callable[[float], float],
    weight: Any,
    ignore_index: int | None,
    smoothing: float,
    reduction: str,
    axis: int,
) -> Result:
    """Labels: (1-s) w_y cost(log p_y) + (s/C) sum_c w_c cost(log p_c). Probabilities: sum_c w_c t'_c cost(log p_c)."""
    z = classes_last(logits, axis)
    classes = z.shape[-1]
    w = class_weights(weight, classes)
    losses: dict[Position, float] = {}
    weights: dict[Position, float] = {}
    if are_labels(target):
        for position, y in labelled_pixels(z, target, ignore_index, axis):
            log_p = log_softmax(z[position])
            spread = math.fsum(times(smoothing / classes * w[c], cost(log_p[c])) for c in range(classes))
            losses[position] = times((1 - smoothing) * w[y], cost(log_p[y])) + spread
            weights[position] = w[y]
    else:
        t = classes_last(target, axis)
        for position in np.ndindex(z.shape[:-1]):
            log_p = log_softmax(z[position])
            smoothed = [(1 - smoothing) * float(t[position][c]) + smoothing / classes for c in range(classes)]
            losses[position] = math.fsum(times(w[c] * smoothed[c], cost(log_p[c])) for c in range(classes))
            weights[position] = 1.0
    return reduce(z.shape[:-1], losses, math.fsum(weights.values()), reduction)


def focal_loss(
    logits: Any,
    target: Any,
    *,
    gamma: float = 2.0,
    alpha: Any = None,
    ignore_index: int | None = 255,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """alpha_y (1 - p_y)^gamma (-log p_y); alpha is one number for all classes or one for each."""

    def cost(log_p: float) -> float:
        return float((-math.expm1(log_p)) ** gamma * -log_p)

    if alpha is not None and np.ndim(alpha) == 0:
        alpha = [float(alpha)] * np.moveaxis(np.asarray(logits), class_axis(np.ndim(logits), axis), -1).shape[-1]
    return weighed_classes(logits, target, cost, alpha, ignore_index, label_smoothing, reduction, axis)


def _entrywise(
    logits: Any,
    target: Any,
    cost: Callable[[float, float], float],
    ignore_index: int | None,
    reduction: str,
    axis: int,
) -> Result:
    """The cost of each score against its target in [0, 1]."""
    z = classes_last(logits, axis)
    y, valid = binary_target(target, z, ignore_index, False, axis)
    losses = {e: cost(float(z[e]), float(y[e])) for e in np.ndindex(z.shape) if valid[e]}
    value = reduce(z.shape, losses, len(losses), reduction)
    return np.moveaxis(value, -1, class_axis(z.ndim, axis)) if isinstance(value, np.ndarray) else value


def _sigmoid(x: float) -> float:
    return math.exp(-softplus(-x))


def sigmoid_focal_loss(
    logits: Any,
    target: Any,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """(alpha y + (1-alpha)(1-y)) ((1-p) y + p (1-y))^gamma bce(p, y)."""

    def cost(x: float, y: float) -> float:
        balance = 1.0 if alpha is None else alpha * y + (1 - alpha) * (1 - y)
        missed = _sigmoid(-x) * y + _sigmoid(x) * (1 - y)
        return balance * missed**gamma * (times(y, softplus(-x)) + times(1 - y, softplus(x)))

    return _entrywise(logits, target, cost, ignore_index, reduction, axis)


def asymmetric_loss(
    logits: Any,
    target: Any,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    clip: float = 0.05,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """y (1-p)^gamma_pos (-log p) + (1-y) p_m^gamma_neg (-log(1-p_m)), p_m = max(p - clip, 0)."""

    def cost(x: float, y: float) -> float:
        positive = _sigmoid(-x) ** gamma_pos * softplus(-x)
        shifted = max(_sigmoid(x) - clip, 0.0)
        entropy = softplus(x) if clip == 0 else -math.log1p(-shifted)
        return times(y, positive) + times(1 - y, shifted**gamma_neg * entropy)

    return _entrywise(logits, target, cost, ignore_index, reduction, axis)
