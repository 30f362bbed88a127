"""Mixtures of losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reference._tools import no_parts
from reference.binary import bce_loss
from reference.cross_entropy import cross_entropy_loss
from reference.dice import dice_loss


def mixed_loss_terms(
    logits: Any, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float]
) -> list[float]:
    """coef_i * losses_i(logits, target), one by one."""
    return [float(factor) * loss(logits, target) for loss, factor in zip(losses, coef, strict=True)]


def mixed_loss(logits: Any, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float]) -> float:
    """The sum of coef_i * losses_i(logits, target)."""
    return sum(mixed_loss_terms(logits, target, losses=losses, coef=coef))


def _both(of: Callable[..., Any], dice: Callable[..., Any], reduction: str, batched: bool) -> Any:
    """The sum of two losses; "none" is what each image adds to their "sum"."""
    if reduction != "none":
        return of(reduction=reduction) + dice(reduction=reduction)
    entropy, overlap = (np.asarray(loss(reduction="none")) for loss in (of, dice))
    kept = 1 if batched else 0
    return entropy.sum(axis=tuple(range(kept, entropy.ndim))) + overlap.sum(axis=tuple(range(kept, overlap.ndim)))


def dice_ce_loss(
    logits: Any,
    target: Any,
    *,
    lambda_ce: float = 1.0,
    lambda_dice: float = 1.0,
    smooth: float = 0.0,
    weight: Any = None,
    label_smoothing: float = 0.0,
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    **common: Any,
) -> Any:
    """lambda_ce cross entropy + lambda_dice Dice."""
    no_parts(reduction)
    areas = {"smooth": smooth, "batch": batch, "include_background": include_background, "squared": squared}

    def entropy(**of: Any) -> Any:
        value = cross_entropy_loss(logits, target, weight=weight, label_smoothing=label_smoothing, **common, **of)
        return lambda_ce * value

    def overlap(**of: Any) -> Any:
        return lambda_dice * dice_loss(logits, target, weight=weight, **areas, **common, **of)

    return _both(entropy, overlap, reduction, np.ndim(logits) > 1)


def bce_dice_loss(
    logits: Any,
    target: Any,
    *,
    lambda_bce: float = 1.0,
    lambda_dice: float = 1.0,
    smooth: float = 0.0,
    pos_weight: Any = None,
    batch: bool = False,
    include_background: bool = True,
    squared: bool = False,
    reduction: str = "mean",
    axis: int = 1,
    **common: Any,
) -> Any:
    """lambda_bce binary cross entropy + lambda_dice Dice of sigmoids."""
    no_parts(reduction)
    areas = {"smooth": smooth, "batch": batch, "include_background": include_background, "squared": squared}

    def entropy(**of: Any) -> Any:
        value = lambda_bce * bce_loss(logits, target, pos_weight=pos_weight, axis=axis, **common, **of)
        return np.moveaxis(value, axis, -1) if np.ndim(value) > 1 else value

    def overlap(**of: Any) -> Any:
        return lambda_dice * dice_loss(logits, target, activation="sigmoid", axis=axis, **areas, **common, **of)

    return _both(entropy, overlap, reduction, np.ndim(logits) > 1)
