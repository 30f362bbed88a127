"""Mixtures of losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def mixed_loss_terms(
    logits: Any, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float]
) -> list[float]:
    """coef_i * losses_i(logits, target), one by one."""
    return [float(factor) * loss(logits, target) for loss, factor in zip(losses, coef, strict=True)]


def mixed_loss(logits: Any, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float]) -> float:
    """The sum of coef_i * losses_i(logits, target)."""
    return sum(mixed_loss_terms(logits, target, losses=losses, coef=coef))
