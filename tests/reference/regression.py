"""Regression losses, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference._tools import Position, Result, reduce


def entrywise(
    logits: Any, target: Any, loss: Callable[[float], float], ignore_index: int | None, reduction: str
) -> Result:
    prediction, truth = np.asarray(logits).astype(np.float64), np.asarray(target).astype(np.float64)
    if prediction.shape != truth.shape:
        raise ValueError(f"target of shape {truth.shape} for a prediction of shape {prediction.shape}")
    losses: dict[Position, float] = {}
    for entry in np.ndindex(truth.shape):
        if float(truth[entry]) != ignore_index:
            losses[entry] = loss(float(prediction[entry]) - float(truth[entry]))
    return reduce(truth.shape, losses, len(losses), reduction)


def l1_loss(logits: Any, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> Result:
    """|prediction - target| where the target is not ignore_index."""
    return entrywise(logits, target, abs, ignore_index, reduction)


def mse_loss(logits: Any, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> Result:
    """(prediction - target)^2 where the target is not ignore_index."""
    return entrywise(logits, target, lambda difference: difference * difference, ignore_index, reduction)
