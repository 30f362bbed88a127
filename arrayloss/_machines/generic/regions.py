"""Sums over regions: the entries of a class in an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arrayloss._machines.formula import Array, Formula, Namespace
from arrayloss._machines.generic.classes import softmax
from arrayloss._machines.generic.entries import opened, sigmoid
from arrayloss._machines.generic.facts import sum_positions, where_or
from arrayloss._machines.generic.rule import Rule, rule


@rule
def regions(
    xp: Namespace, z: Array, t: Array, valid: Array | None, activation: str | None, formula: Formula, *numbers: float
) -> Rule:
    """Return the sums, over each class of each image, of what a formula gives its entries, shape `(K, N, C)`.

    The formula is given the probability of an entry, which an activation makes of its score ("softmax", "sigmoid", or
    None, where z is it already), and its truth. t and `valid` are those of `entry_losses`.
    """
    x, t, entries = opened(xp, z, t, valid)
    t = where_or(xp, entries, t, 0.0)
    p, back = softmax(xp, z, valid) if activation == "softmax" else (x, None)
    if activation == "sigmoid":
        p, back = sigmoid(xp, x)
        p = where_or(xp, entries, p, 0.0)

    def vjp(g: Array) -> Array:
        slopes: Any = formula.slopes(xp, p, t, *numbers)
        steps = (xp.reshape(g[i, ...], p.shape[:2] + (1,) * (p.ndim - 2)) * s for i, s in enumerate(slopes))
        total = sum(steps, start=xp.zeros_like(p))
        return where_or(xp, entries, total if back is None else back(total), 0.0)

    return _summed(xp, p, t, formula, *numbers), vjp


def _by_autodiff(
    xp: Namespace,
    softmax: Callable[..., Array],
    sigmoid: Callable[..., Array],
    z: Array,
    t: Array,
    valid: Array | None,
    activation: str | None,
    formula: Formula,
    *numbers: float,
) -> Array:
    """Return `regions` by the activations of a library, whose autodiff leads back from them."""
    x, t, entries = opened(xp, z, t, valid)
    p = softmax(xp, z, valid) if activation == "softmax" else x
    if activation == "sigmoid":
        p = where_or(xp, entries, sigmoid(xp, x), 0.0)
    return _summed(xp, p, where_or(xp, entries, t, 0.0), formula, *numbers)


def _summed(xp: Namespace, p: Array, t: Array, formula: Formula, *numbers: float) -> Array:
    """Return what the entries add to each sum, `(K, N, C)`."""
    return xp.stack([sum_positions(xp, x) for x in formula.losses(xp, p, t, *numbers)], axis=0)
