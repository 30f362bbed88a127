"""Losses of entries: a single operation where torch has one, else NumPy's machine."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from arrayloss._machines.formula import ABSOLUTE, HUBER, SMOOTH, SQUARED, Array, Formula, Namespace
from arrayloss._machines.generic import entries as generic
from arrayloss._machines.torch.host import hosted

#: Where softplus(x) is x in float64 too; torch's own bound serves float32 alone.
_LINEAR = 40.0
#: What torch has as one operation, with the derivative that the formula says.
_NATIVE: dict[Formula, Any] = {
    ABSOLUTE: F.l1_loss,
    SQUARED: F.mse_loss,
    HUBER: lambda x, t, delta, reduction: F.huber_loss(x, t, reduction, delta),
    SMOOTH: lambda x, t, beta, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=beta),
}


def softplus(xp: Namespace, x: Array) -> Array:
    return torch.nn.functional.softplus(x, threshold=_LINEAR)


def sigmoid(xp: Namespace, x: Array) -> Array:
    return torch.sigmoid(x)


def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float
) -> Array:
    if valid is None and formula in _NATIVE:
        return _NATIVE[formula](x, t, *numbers, reduction="none")
    return _entry_losses(xp, x, t, valid, formula, *numbers)


def entry_total(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float
) -> Array:
    if valid is None and formula in _NATIVE:
        return _NATIVE[formula](x, t, *numbers, reduction="sum")
    return _entry_total(xp, x, t, valid, formula, *numbers)


@hosted("entry_losses")
def _entry_losses(xp: Namespace, *arguments: Any) -> Array:
    return generic.entry_losses(xp, *arguments)[0]


@hosted("entry_total")
def _entry_total(xp: Namespace, *arguments: Any) -> Array:
    return generic.entry_total(xp, *arguments)[0]
