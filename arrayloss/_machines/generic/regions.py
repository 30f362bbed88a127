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
    p, back, t, entries = _opened(xp, softmax, sigmoid, z, t, valid, activation)

    def vjp(g: Array) -> Array:
        slopes: Any = formula.slopes(xp, p, t, *numbers)
        steps = (xp.reshape(g[i, ...], p.shape[:2] + (1,) * (p.ndim - 2)) * s for i, s in enumerate(slopes))
        return where_or(xp, entries, back(sum(steps, start=xp.zeros_like(p))), 0.0)

    return _summed(xp, p, t, formula, *numbers), vjp


def _by_autodiff(xp: Namespace, softmax: Callable[..., Array], sigmoid: Callable[..., Array], *arguments: Any) -> Array:
    """Return `regions` by the activations of a library, whose autodiff leads back from them."""
    p, _, t, _ = _opened(xp, lambda *of: (softmax(*of), None), lambda *of: (sigmoid(*of), None), *arguments[:4])
    return _summed(xp, p, t, *arguments[4:])


def _opened(
    xp: Namespace, softmax: Any, sigmoid: Any, z: Array, t: Array, valid: Array | None, activation: str | None
) -> tuple[Array, Any, Array, Array | None]:
    """Return probabilities, what leads back from them, truths and the mask of entries."""
    x, t, entries = opened(xp, z, t, valid)
    t = where_or(xp, entries, t, 0.0)
    if activation is None:
        return x, lambda g: g, t, entries
    if activation == "softmax":
        return *softmax(xp, z, valid), t, entries
    p, back = sigmoid(xp, x)
    return where_or(xp, entries, p, 0.0), back, t, entries


def _summed(xp: Namespace, p: Array, t: Array, formula: Formula, *numbers: float) -> Array:
    """Return what the entries add to each sum, `(K, N, C)`."""
    return xp.stack([sum_positions(xp, x) for x in formula.losses(xp, p, t, *numbers)], axis=0)
