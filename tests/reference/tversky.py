"""Jaccard and Tversky losses."""

from __future__ import annotations

from typing import Any

from reference._tools import Result
from reference.dice import one_minus, region_loss


def jaccard_loss(logits: Any, target: Any, *, smooth: float = 0.0, **options: Any) -> Result:
    """d_nc = 1 - (sum p t + smooth) / (sum p + sum t - sum p t + smooth)."""
    return region_loss(lambda o, p, t: one_minus(o + smooth, p + t - o + smooth), logits, target, **options)


def tversky_loss(
    logits: Any,
    target: Any,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 0.0,
    gamma: float = 1.0,
    **options: Any,
) -> Result:
    """d_nc = (1 - (o + smooth) / (o + alpha FP + beta FN + smooth))^gamma, o = sum p t.

    FP = sum p (1 - t) and FN = sum (1 - p) t, or the sums of max(p - t, 0)^2 and max(t - p, 0)^2 of the squared form.
    """

    def of(o: float, false_positive: float, false_negative: float) -> float:
        return one_minus(o + smooth, o + alpha * false_positive + beta * false_negative + smooth) ** gamma

    def terms(p: float, t: float) -> tuple[float, float, float]:
        if options.get("squared"):
            return p * t, max(p - t, 0.0) ** 2, max(t - p, 0.0) ** 2
        return p * t, p * (1 - t), (1 - p) * t

    return region_loss(of, logits, target, terms=terms, **options)
