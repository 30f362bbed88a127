"""Losses of positions over their classes."""

from __future__ import annotations

import math
from collections.abc import Callable

from arrayloss._machines.formula import Array, Namespace, OfClasses
from arrayloss._machines.generic.facts import constant, one_hot, where_or, where_valid
from arrayloss._machines.generic.rule import Rule, rule


def exponentials(xp: Namespace, z: Array, scale: float = 1.0) -> tuple[Array, Array, Array]:
    """Return scale (z - max(z)), its exponential and the sum of that over the classes.

    The shifted scores are kept apart from log(sum): added to the maximum first, large scores would lose the digits
    that tell losses apart. So they would in a product with the scale.
    """
    shifted = z - xp.max(z, axis=1, keepdims=True)
    if scale != 1.0:
        shifted = shifted * scale
    e = xp.exp(shifted)
    return shifted, e, xp.sum(e, axis=1, keepdims=True)


@rule
def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Rule:
    """Return -log softmax(z) at the label of each position, shape `(N, *S)`: what no other class need be known for."""
    shifted, e, total = exponentials(xp, where_valid(xp, valid, z))
    at_label = xp.take_along_axis(shifted, xp.expand_dims(labels, axis=1), axis=1)

    def vjp(g: Array) -> Array:
        g = xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1)
        return g * (e / total - xp.astype(one_hot(xp, labels, z.shape[1]), z.dtype))

    return where_or(xp, valid, xp.squeeze(xp.log(total) - at_label, axis=1), 0.0), vjp


@rule
def softmax(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    """Return softmax(z) over the classes."""
    _, e, total = exponentials(xp, where_valid(xp, valid, z))
    p = where_valid(xp, valid, e / total)
    return p, lambda g: p * (g - xp.sum(g * p, axis=1, keepdims=True))


@rule
def members_nll(
    xp: Namespace, z: Array, members: Array, valid: Array | None, constant: Callable[[Array], Array] = constant
) -> Rule:
    """Return -log of the summed softmax(z) of the member classes (at least one) of each position, shape `(N, *S)`.

    `constant` is that of the library.
    """
    z = where_valid(xp, valid, z)
    if valid is not None:
        members = members | ~xp.expand_dims(valid, axis=1)
    # What maxima add to a derivative is 0.
    top = constant(xp.max(z, axis=1, keepdims=True))
    # The members are shifted by a maximum of their own, since their probabilities may all underflow, and by that of the
    # scores: beside large ones, shifted scores have lost the digits that tell members apart.
    own = where_or(xp, members, z, -math.inf)
    top_own = constant(xp.max(own, axis=1, keepdims=True))
    # Where all members are -inf the loss is infinite, and they share in no gradient.
    some = ~(top_own == -math.inf)
    e, e_own = xp.exp(z - top), xp.exp(own - where_or(xp, some, top_own, 0.0))
    total, total_own = (xp.sum(x, axis=1, keepdims=True) for x in (e, e_own))
    total_own = where_or(xp, some, total_own, 1.0)

    def vjp(g: Array) -> Array:
        return xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1) * (e / total - e_own / total_own)

    losses = xp.log(total) - xp.log(total_own) + (top - top_own)
    return where_or(xp, valid, xp.squeeze(losses, axis=1), 0.0), vjp


@rule
def classes(
    xp: Namespace,
    z: Array,
    t: Array,
    field: Array | None,
    valid: Array | None,
    weight: Array | None,
    how: OfClasses,
    log_softmax: Callable[[Namespace, Array, float], Array] | None = None,
) -> Rule:
    """Return the sum over the classes, by their weights `(C,)` if there are any, of what a formula gives each.

    The result has the shape of the positions, `(N, *S)`. t is labels of that shape or, of the shape of z, shares of the
    classes or the scores of a teacher; so is `field`, which not every formula has: see `OfClasses`. `log_softmax` is
    that of a library whose autodiff has one of its own.
    """
    normal = log_softmax or _log_softmax
    z, belongs = where_valid(xp, valid, z), one_hot(xp, t, z.shape[1]) if t.ndim < z.ndim else where_valid(xp, valid, t)
    if how.kind == "gap":
        # As a sum: torch's take_along_axis would tie a compiled graph to the size of the batch.
        d = z - xp.sum(where_or(xp, belongs, z, 0.0), axis=1, keepdims=True)
    else:
        d = normal(xp, z, how.scale)
    if how.kind == "teacher":
        belongs = normal(xp, belongs, how.scale)
    field = None if field is None else where_valid(xp, valid, field)
    given = belonging(xp, how, d, belongs, field, z.shape[1])
    losses = xp.sum(weighed(xp, weight, how.formula.losses(xp, *given, *how.numbers)), axis=1)

    def vjp(g: Array) -> Array:
        slopes = weighed(xp, weight, how.formula.slopes(xp, *given, *how.numbers))
        slopes = slopes - given[1] * xp.sum(slopes, axis=1, keepdims=True)
        return slopes * (xp.expand_dims(where_or(xp, valid, g, 0.0), axis=1) * how.scale)

    return where_or(xp, valid, losses, 0.0), vjp


def belonging(
    xp: Namespace, how: OfClasses, d: Array, t: Array, field: Array | None, count: int, p: Array | None = None
) -> tuple[Array, ...]:
    """Return the arrays that a formula is given of classes, from the scores less what they are normalised by.

    t is log q, the shares of an array or, of labels, their one-hot form; p may be known.
    """
    if how.kind == "gap":
        return where_or(xp, ~t, d, 0.0), xp.astype(t, d.dtype)
    p = xp.exp(d) if p is None else p
    if how.kind == "teacher":
        q = xp.exp(t)
        some = q > 0.0
        return where_or(xp, some, d, 0.0), p, where_or(xp, some, t, 0.0), q
    if t.dtype == xp.bool:
        on, off = shares(how.smoothing, count)
        t = xp.astype(t, d.dtype) * (on - off) + off
    else:
        d = where_or(xp, t != 0.0, d, 0.0)
    return (d, p, t) if field is None else (d, p, t, field)


def shares(smoothing: float, count: int) -> tuple[float, float]:
    """Return the share of the class of a label in its target, and that of another class."""
    return 1.0 - smoothing + smoothing / count, smoothing / count


def weighed(xp: Namespace, weight: Array | None, x: Array) -> Array:
    """Return `x` times the weights of its classes, where a weight of 0 takes out even an infinite `x`."""
    if weight is None:
        return x
    weight = xp.reshape(weight, (1, -1) + (1,) * (x.ndim - 2))
    return where_or(xp, weight != 0.0, x, 0.0) * weight


def _log_softmax(xp: Namespace, z: Array, scale: float) -> Array:
    shifted, _, total = exponentials(xp, z, scale)
    return shifted - xp.log(total)
