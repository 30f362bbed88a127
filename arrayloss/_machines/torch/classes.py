"""Losses of positions over their classes: torch's own softmax, and NumPy's machine for what it gives each class."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch
import torch

from arrayloss._machines.formula import CROSS, Array, Namespace, OfClasses
from arrayloss._machines.generic import classes as generic
from arrayloss._machines.generic.rule import Rule
from arrayloss._machines.torch.facts import where_or, where_valid
from arrayloss._machines.torch.host import host_finite, hosted, ruled

#: The label that torch's own losses leave out.
_LEFT_OUT = -100


def _log_softmax(z: Array, valid: Array | None) -> Array:
    """Return log softmax(z), finite where not valid."""
    log_p = torch.log_softmax(z, 1)
    # Where a position holds NaN or infinity its first class tells: a pass over one class, not over all.
    if valid is not None and not host_finite(log_p[:, 0]):
        log_p = torch.log_softmax(torch.where(valid.unsqueeze(1), z, 0.0), 1)
    return log_p


def _label_nll_rule(z: Array, labels: Array, valid: Array | None, smoothing: float = 0.0) -> Rule:
    log_p = _log_softmax(z.detach(), valid)
    on, off = generic.shares(smoothing, z.shape[1])
    index = labels.unsqueeze(1)
    nll = log_p.gather(1, index).squeeze(1).mul_(off - on)
    if smoothing:
        nll.sub_(log_p.sum(1), alpha=off)

    def vjp(g: Array) -> Array:
        g = where_or(array_api_compat.torch, valid, g, 0.0).unsqueeze(1)
        slopes = log_p.exp_().sub_(off) if smoothing else log_p.exp_()
        return slopes.mul_(g).scatter_add_(1, index, g * (off - on))

    return where_or(array_api_compat.torch, valid, nll, 0.0), vjp


@ruled(_label_nll_rule)
def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    if valid is not None:
        labels = torch.where(valid, labels, _LEFT_OUT)
    return torch.nn.functional.nll_loss(_log_softmax(z, valid), labels, reduction="none", ignore_index=_LEFT_OUT)


@ruled(_label_nll_rule)
def _smoothed_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None, smoothing: float) -> Array:
    how = OfClasses(CROSS, smoothing=smoothing)
    return generic.classes(xp, z, labels, None, valid, None, how, _scaled_log_softmax)[0]


def softmax_rule(z: Array, valid: Array | None) -> Rule:
    p = torch.softmax(z.detach(), 1)
    if valid is not None:
        p = p.mul_(valid.unsqueeze(1)) if host_finite(p[:, 0]) else torch.where(valid.unsqueeze(1), p, 0.0)
    return p, lambda g: torch._softmax_backward_data(g, p, 1, p.dtype)


@ruled(softmax_rule)
def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return where_valid(xp, valid, torch.softmax(z if valid is None or host_finite(z) else where_valid(xp, valid, z), 1))


def _scaled_log_softmax(xp: Namespace, z: Array, scale: float) -> Array:
    # The difference first: large scores would lose digits in the product.
    return torch.log_softmax((z - z.detach().amax(1, keepdim=True)) * scale if scale != 1.0 else z, 1)


def classes(
    xp: Namespace, z: Array, t: Array, field: Array | None, valid: Array | None, weight: Array | None, how: OfClasses
) -> Array:
    if t.ndim < z.ndim and weight is None and how.formula is CROSS and how.kind == "target":
        return _smoothed_nll(xp, z, t, valid, how.smoothing)
    return _classes(xp, z, t, field, valid, weight, how)


@hosted("classes")
def _classes(xp: Namespace, *arguments: Any) -> Array:
    z, t, field, valid, weight, how = arguments
    return generic.classes(xp, z, t, field, valid, weight, how, _scaled_log_softmax)[0]


@hosted("members_nll")
def members_nll(xp: Namespace, z: Array, members: Array, valid: Array | None) -> Array:
    return generic.members_nll(xp, z, members, valid, torch.detach)[0]
