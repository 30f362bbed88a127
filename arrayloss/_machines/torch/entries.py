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


def _absolute(x: Array, t: Array, reduction: str) -> Array:
    if torch.is_grad_enabled() and (x.requires_grad or t.requires_grad):
        return F.l1_loss(x, t, reduction=reduction)
    losses = (x - t).abs_()  # the operation writes a further array
    return losses.sum() if reduction == "sum" else losses


#: What torch has as one operation, with the derivative that the formula says.
_NATIVE: dict[Formula, Any] = {
    ABSOLUTE: _absolute,
    SQUARED: F.mse_loss,
    HUBER: lambda x, t, delta, reduction: F.huber_loss(x, t, reduction, delta),
    SMOOTH: lambda x, t, beta, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=beta),
}


def softplus(xp: Namespace, x: Array) -> Array:
    return torch.nn.functional.softplus(x, threshold=_LINEAR)


def sigmoid(xp: Namespace, x: Array) -> Array:
    return torch.sigmoid(x)


def _entries(name: str, reduction: str) -> Any:
    """Return a kernel of entries: an operation of torch's, where it has one and nothing is ignored."""
    portable = getattr(generic, name)

    @hosted(name)
    def by_formula(xp: Namespace, *arguments: Any) -> Array:
        return portable(xp, *arguments)[0]

    def kernel(
        xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float
    ) -> Array:
        if valid is None and formula in _NATIVE:
            return _NATIVE[formula](x, t, *numbers, reduction=reduction)
        return by_formula(xp, x, t, valid, formula, *numbers)

    return kernel


entry_losses, entry_total = _entries("entry_losses", "none"), _entries("entry_total", "sum")
