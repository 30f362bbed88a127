"""Losses of entries, each by itself."""

from __future__ import annotations

from arrayloss._machines.formula import Array, Formula, Namespace
from arrayloss._machines.generic.facts import one_hot, where_or
from arrayloss._machines.generic.rule import Rule, rule


@rule
def softplus(xp: Namespace, x: Array) -> Rule:
    """Return log(1 + exp(x)), with gradient sigmoid(x) everywhere, infinities included."""
    zero = xp.zeros_like(x)
    small = xp.exp(-xp.abs(x))
    return xp.maximum(x, zero) + xp.log1p(small), lambda g: g * (xp.exp(xp.minimum(x, zero)) / (1.0 + small))


@rule
def sigmoid(xp: Namespace, x: Array) -> Rule:
    """Return 1 / (1 + exp(-x))."""
    small = xp.exp(-xp.abs(x))
    whole = 1.0 + small
    slope = small / (whole * whole)
    return xp.exp(xp.minimum(x, xp.zeros_like(x))) / whole, lambda g: g * slope


@rule
def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float
) -> Rule:
    """Return the losses that a formula gives the entries of x, by the entries of t.

    t has the shape of x, and `valid` is a mask of that shape; or t is labels `(N, *S)` of scores `(N, C, *S)`, 1 for
    the class of the label and 0 for the others, and `valid` is a mask of positions. t is finite where not valid.
    """
    x, t, valid = opened(xp, x, t, valid)
    losses = where_or(xp, valid, formula.losses(xp, x, t, *numbers), 0.0)
    return losses, lambda g: where_or(xp, valid, formula.slopes(xp, x, t, *numbers) * g, 0.0)


@rule
def entry_total(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float
) -> Rule:
    """Return the sum of `entry_losses`, 0-d."""
    losses, vjp = entry_losses(xp, x, t, valid, formula, *numbers)
    return xp.sum(losses), vjp


def opened(xp: Namespace, x: Array, t: Array | None, valid: Array | None) -> tuple[Array, Array | None, Array | None]:
    """Return scores that are 0 where not valid, targets and the mask of entries: labels in their one-hot form."""
    if t is not None and t.ndim < x.ndim:
        t = xp.astype(one_hot(xp, t, x.shape[1]), x.dtype)
    if valid is not None and valid.ndim < x.ndim:
        valid = xp.broadcast_to(xp.expand_dims(valid, axis=1), x.shape)
    return where_or(xp, valid, x, 0.0), t, valid
