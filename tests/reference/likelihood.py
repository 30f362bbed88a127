"""Negative log likelihoods, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from reference._tools import Position, Result, reduce, times


def _over_entries(
    target: Any, loss: Callable[[Position, float], float], ignore_index: int | None, reduction: str
) -> Result:
    truth = np.asarray(target).astype(np.float64)
    losses = {e: loss(e, float(truth[e])) for e in np.ndindex(truth.shape) if float(truth[e]) != ignore_index}
    return reduce(truth.shape, losses, len(losses), reduction)


def poisson_nll_loss(
    logits: Any,
    target: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    ignore_index: int | None = 255,
) -> Result:
    """rate - count log(rate), and with `full` Stirling's approximation of log(count!) of counts above 1."""
    x = np.asarray(logits).astype(np.float64)

    def loss(entry: Position, count: float) -> float:
        rate = math.exp(x[entry]) if log_input else float(x[entry])
        if count < 0 or rate < 0:
            raise ValueError(f"count {count} of rate {rate}")
        if log_input:
            value = rate - times(count, float(x[entry]))
        else:
            value = rate - (0.0 if count == 0 else count * math.log(rate + eps))
        if full and count > 1:
            value += count * math.log(count) - count + math.log(2 * math.pi * count) / 2
        return value

    return _over_entries(target, loss, ignore_index, reduction)


def gaussian_nll_loss(
    logits: Any,
    target: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    ignore_index: int | None = 255,
) -> Result:
    """(log v + (mean - target)^2 / v) / 2 with v the variance, at least eps; `full` adds log(2 pi) / 2."""
    mean, variance = (np.asarray(x).astype(np.float64) for x in logits)

    def loss(entry: Position, truth: float) -> float:
        if variance[entry] < 0:
            raise ValueError(f"variance {variance[entry]}")
        v = max(float(variance[entry]), eps)
        value = (math.log(v) + (float(mean[entry]) - truth) ** 2 / v) / 2
        return value + math.log(2 * math.pi) / 2 if full else value

    return _over_entries(target, loss, ignore_index, reduction)
