"""Robust and quantile regression losses, entry by entry."""

from __future__ import annotations

import math
from typing import Any

from reference._tools import Result
from reference.regression import entrywise


def smooth_l1_loss(
    logits: Any, target: Any, *, beta: float = 1.0, reduction: str = "mean", ignore_index: int | None = 255
) -> Result:
    """d^2 / (2 beta) within beta, |d| - beta / 2 beyond."""

    def loss(d: float) -> float:
        return d * d / (2 * beta) if abs(d) < beta else abs(d) - beta / 2

    return entrywise(logits, target, loss, ignore_index, reduction)


def huber_loss(
    logits: Any, target: Any, *, delta: float = 1.0, reduction: str = "mean", ignore_index: int | None = 255
) -> Result:
    """d^2 / 2 within delta, delta (|d| - delta / 2) beyond."""

    def loss(d: float) -> float:
        return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)

    return entrywise(logits, target, loss, ignore_index, reduction)


def log_cosh_loss(logits: Any, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> Result:
    """log cosh d, by sinh(d / 2) near 0 and without cosh where that overflows."""

    def loss(d: float) -> float:
        if abs(d) < 1:
            return math.log1p(2 * math.sinh(d / 2) ** 2)
        return abs(d) - math.log(2) + math.log1p(math.exp(-2 * abs(d)))

    return entrywise(logits, target, loss, ignore_index, reduction)


def charbonnier_loss(
    logits: Any, target: Any, *, epsilon: float = 1e-3, reduction: str = "mean", ignore_index: int | None = 255
) -> Result:
    """sqrt(d^2 + epsilon^2)."""
    return entrywise(logits, target, lambda d: math.hypot(d, epsilon), ignore_index, reduction)


def quantile_loss(
    logits: Any, target: Any, *, quantile: float = 0.5, reduction: str = "mean", ignore_index: int | None = 255
) -> Result:
    """quantile of how much too low, 1 - quantile of how much too high."""

    def loss(d: float) -> float:
        return (1 - quantile) * d if d > 0 else quantile * -d

    return entrywise(logits, target, loss, ignore_index, reduction)
