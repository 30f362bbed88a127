"""The losses of the catalogue as their papers write them, for every array library, where no library has them.

Written for speed by the means of the day: fused cross entropy, no one-hot where a gather will do. `ops` holds what the
libraries spell differently. A label of 255 is ignored, as by arrayloss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Array = Any
Formula = Callable[[Any, Any, Any], Any]


def of_cross_entropy(formula: Callable[[Any, Array], Array]) -> Formula:
    """Return the mean over the valid positions of a function of the cross entropy."""

    def loss(ops: Any, x: Array, y: Array) -> Array:
        valid = y != 255
        losses = formula(ops, ops.cross_entropy(x, ops.where(valid, y, 0)))
        return ops.where(valid, losses, 0.0).sum() / valid.sum()

    return loss


focal = of_cross_entropy(lambda ops, ce: (1 - ops.exp(-ce)) ** 2 * ce)
poly = of_cross_entropy(lambda ops, ce: ce + 1 - ops.exp(-ce))
symmetric = of_cross_entropy(lambda ops, ce: 0.1 * ce + 4 * (1 - ops.exp(-ce)))
generalized = of_cross_entropy(lambda ops, ce: (1 - ops.exp(-0.7 * ce)) / 0.7)


def sigmoid_focal(ops: Any, x: Array, t: Array) -> Array:
    """Lin et al. with entries for targets, as torchvision has it."""
    p = ops.sigmoid(x)
    ce = ops.bce(x, t)
    p_t = p * t + (1 - p) * (1 - t)
    return (ce * (1 - p_t) ** 2 * (0.25 * t + 0.75 * (1 - t))).mean()


def asymmetric(ops: Any, x: Array, t: Array) -> Array:
    """Ridnik et al., with the shift of 0.05 and the exponents 1 and 4."""
    p = ops.sigmoid(x)
    shifted = ops.clip(p - 0.05, 0.0, 1.0)
    positive = t * (1 - p) * ops.log_sigmoid(x)
    negative = (1 - t) * shifted**4 * ops.log(1 - shifted)
    return -(positive + negative).mean()


def _overlaps(ops: Any, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """The overlap, the predicted and the true area of each class in each image."""
    valid = y != 255
    t = ops.one_hot(ops.where(valid, y, 0), x) * valid[:, None]
    p = ops.softmax(x) * valid[:, None]
    return tuple(a.sum((2, 3)) for a in (p * t, p, t))


def jaccard(ops: Any, x: Array, y: Array) -> Array:
    overlap, p, t = _overlaps(ops, x, y)
    return (1 - overlap / (p + t - overlap)).mean()


def tversky(ops: Any, x: Array, y: Array) -> Array:
    overlap, p, t = _overlaps(ops, x, y)
    return (1 - overlap / (overlap + 0.3 * (p - overlap) + 0.7 * (t - overlap))).mean()


def generalized_dice(ops: Any, x: Array, y: Array) -> Array:
    overlap, p, t = _overlaps(ops, x, y)
    w = 1 / t**2
    return (1 - 2 * (w * overlap).sum(1) / (w * (p + t)).sum(1)).mean()


def log_cosh_dice(ops: Any, x: Array, y: Array) -> Array:
    overlap, p, t = _overlaps(ops, x, y)
    return ops.log(ops.cosh(1 - 2 * overlap / (p + t))).mean()


def dice_ce(ops: Any, x: Array, y: Array) -> Array:
    overlap, p, t = _overlaps(ops, x, y)
    valid = y != 255
    losses = ops.cross_entropy(x, ops.where(valid, y, 0))
    return ops.where(valid, losses, 0.0).sum() / valid.sum() + (1 - 2 * overlap / (p + t)).mean()


def bce_dice(ops: Any, x: Array, t: Array) -> Array:
    p = ops.sigmoid(x)
    overlap, predicted, true = (a.sum((2, 3)) for a in (p * t, p, t))
    return ops.bce(x, t).mean() + (1 - 2 * overlap / (predicted + true)).mean()


def kl_div(ops: Any, x: Array, t: Array) -> Array:
    log_p, log_q = ops.log_softmax(x), ops.log_softmax(t)
    return (ops.exp(log_q) * (log_q - log_p)).sum(1).mean()


def js_div(ops: Any, x: Array, t: Array) -> Array:
    log_p, log_q = ops.log_softmax(x), ops.log_softmax(t)
    p, q = ops.exp(log_p), ops.exp(log_q)
    log_m = ops.log((p + q) / 2)
    return ((p * (log_p - log_m)).sum(1) + (q * (log_q - log_m)).sum(1)).mean() / 2


def distill_cross_entropy(ops: Any, x: Array, t: Array) -> Array:
    return -(ops.softmax(t) * ops.log_softmax(x)).sum(1).mean()


def distillation(ops: Any, x: Array, both: tuple[Array, Array]) -> Array:
    t, y = both
    return 0.5 * ops.cross_entropy(x, y).mean() + 0.5 * 4 * kl_div(ops, x / 2, t / 2)


def boundary(ops: Any, x: Array, both: tuple[Array, Array]) -> Array:
    y, distance = both
    valid = y != 255
    losses = (ops.softmax(x) * distance).sum(1)
    return ops.where(valid, losses, 0.0).sum() / (valid.sum() * x.shape[1])


def hausdorff(ops: Any, x: Array, both: tuple[Array, Array]) -> Array:
    y, distance = both
    valid = y != 255
    error = ops.softmax(x) - ops.one_hot(ops.where(valid, y, 0), x)
    losses = (error**2 * distance**2).sum(1)
    return ops.where(valid, losses, 0.0).sum() / (valid.sum() * x.shape[1])


def hinge(ops: Any, x: Array, t: Array) -> Array:
    return ops.relu(1 - (2 * t - 1) * x).mean()


def squared_hinge(ops: Any, x: Array, t: Array) -> Array:
    return (ops.relu(1 - (2 * t - 1) * x) ** 2).mean()


def multi_margin(ops: Any, x: Array, y: Array) -> Array:
    """Without an ignored label: the sum over the classes, less the margin of the own."""
    margins = ops.relu(1 - ops.at_label(x, y) + x)
    return ((margins.sum(1) - 1) / x.shape[1]).mean()


def log_cosh(ops: Any, x: Array, t: Array) -> Array:
    d = x - t
    return (d + ops.softplus(-2 * d) - math.log(2)).mean()


def charbonnier(ops: Any, x: Array, t: Array) -> Array:
    return ops.sqrt((x - t) ** 2 + 1e-6).mean()


def quantile(ops: Any, x: Array, t: Array) -> Array:
    d = t - x
    return ops.maximum(0.9 * d, -0.1 * d).mean()


def smooth_l1(ops: Any, x: Array, t: Array) -> Array:
    away = abs(x - t)
    return ops.where(away < 1, 0.5 * away * away, away - 0.5).mean()


def poisson_nll(ops: Any, x: Array, t: Array) -> Array:
    return (ops.exp(x) - t * x).mean()


def gaussian_nll(ops: Any, x: tuple[Array, Array], t: Array) -> Array:
    mean, variance = x
    return (0.5 * (ops.log(variance) + (mean - t) ** 2 / variance)).mean()


def scene(ops: Any, x: Array, y: Array) -> Array:
    """Which classes stand in each image, by comparison with every class, and their binary cross entropies."""
    classes = ops.classes(x.shape[1], y)
    there = (y.reshape(len(y), 1, -1) == classes.reshape(1, -1, 1)).any(-1)
    return ops.bce(x, ops.floats(there, x)).mean()


def points(ops: Any, x: tuple[Array, Array], y: Array) -> Array:
    """Cross entropy at points, the label read at the pixel of each."""
    scores, at = x
    height, width = y.shape[1:]
    column = ops.integers(ops.clip(at[..., 0] * width, 0, width - 1))
    row = ops.integers(ops.clip(at[..., 1] * height, 0, height - 1))
    labels = ops.take(y.reshape(len(y), -1), row * width + column)
    return of_cross_entropy(lambda _, ce: ce)(ops, scores, labels)
