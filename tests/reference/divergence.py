"""Divergences from the probabilities of a teacher."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from reference._tools import (
    Position,
    Result,
    class_weights,
    classes_last,
    k_largest,
    labelled_pixels,
    log_softmax,
    reduce,
    times,
)


def _pixels(z: np.ndarray, labels: Any, ignore_index: int | None, axis: int) -> Iterator[tuple[Position, int | None]]:
    """(position, label) of every valid pixel; without labels, every pixel."""
    if labels is None:
        yield from ((position, None) for position in np.ndindex(z.shape[:-1]))
    else:
        yield from labelled_pixels(z, labels, ignore_index, axis)


def _kl(log_p: list[float], log_q: list[float]) -> float:
    """KL(q || p)."""
    return math.fsum(times(math.exp(b), b - a) for a, b in zip(log_p, log_q, strict=True) if b > -math.inf)


def _js(log_p: list[float], log_q: list[float]) -> float:
    """Half of KL(p || m) and half of KL(q || m), m the mean of p and q."""
    p, q = [math.exp(a) for a in log_p], [math.exp(b) for b in log_q]
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    halves = [math.fsum(a * math.log(a / c) for a, c in zip(x, m, strict=True) if a > 0) for x in (p, q)]
    return sum(halves) / 2


def _losses(
    of: Callable[[list[float], list[float]], float],
    logits: Any,
    target: Any,
    labels: Any,
    ignore_index: int | None,
    temperature: float,
    axis: int,
) -> tuple[tuple[int, ...], dict[Position, float]]:
    """The shape of the positions, and T^2 times a function of both logarithms of probabilities where they are valid."""
    z, t = classes_last(logits, axis), classes_last(target, axis)
    if z.shape != t.shape:
        raise ValueError(f"target of shape {np.shape(target)} for logits of shape {np.shape(logits)}")
    losses = {
        position: temperature**2 * of(log_softmax(z[position] / temperature), log_softmax(t[position] / temperature))
        for position, _ in _pixels(z, labels, ignore_index, axis)
    }
    return z.shape[:-1], losses


def kl_div_loss(
    logits: Any,
    target: Any,
    *,
    labels: Any = None,
    ignore_index: int | None = 255,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """T^2 sum_c q_c (log q_c - log p_c)."""
    shape, losses = _losses(_kl, logits, target, labels, ignore_index, temperature, axis)
    return reduce(shape, losses, len(losses), reduction)


def js_div_loss(
    logits: Any,
    target: Any,
    *,
    labels: Any = None,
    ignore_index: int | None = 255,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """T^2 times the mean of KL(p || m) and KL(q || m), m = (p + q) / 2."""
    shape, losses = _losses(_js, logits, target, labels, ignore_index, temperature, axis)
    return reduce(shape, losses, len(losses), reduction)


def distillation_loss(
    logits: Any,
    target: Any,
    *,
    labels: Any = None,
    alpha: float = 0.5,
    temperature: float = 1.0,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """(1 - alpha) ce + alpha T^2 KL(q || p)."""
    shape, soft = _losses(_kl, logits, target, labels, ignore_index, temperature, axis)
    z = classes_last(logits, axis)
    losses = {
        position: times(alpha, soft[position]) + (0.0 if y is None else times(1 - alpha, -log_softmax(z[position])[y]))
        for position, y in _pixels(z, labels, ignore_index, axis)
    }
    return reduce(shape, losses, len(losses), reduction)


def distill_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    labels: Any = None,
    weight: Any = None,
    ignore_index: int | None = 255,
    top_k_percent_pixels: float = 1.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    axis: int = 1,
    pixel_weight: Any = None,
) -> Result:
    """-T^2 sum_c w_c q_c log p_c, times pixel_weight."""
    w = class_weights(weight, classes_last(logits, axis).shape[-1])

    def of(log_p: list[float], log_q: list[float]) -> float:
        return math.fsum(times(w[c] * math.exp(log_q[c]), -log_p[c]) for c in range(len(w)))

    shape, losses = _losses(of, logits, target, labels, ignore_index, temperature, axis)
    pixel = np.ones(shape) if pixel_weight is None else np.asarray(pixel_weight).astype(np.float64)
    losses = {position: times(float(pixel[position]), loss) for position, loss in losses.items()}
    kept = set(losses)
    if top_k_percent_pixels < 1:
        kept = k_largest(losses, int(top_k_percent_pixels * math.prod(shape)))
    return reduce(
        shape,
        {position: loss for position, loss in losses.items() if position in kept},
        math.fsum(float(pixel[position]) for position in kept),
        reduction,
    )
