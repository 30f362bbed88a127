"""Losses of positions over their classes, whose sums over the classes are written out class by class.

XLA on the CPU fuses sums that are written out with what is summed, which it then need not store.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import Array, OfClasses
from arrayloss._machines.generic.classes import shares
from arrayloss._machines.generic.facts import one_hot, where_valid
from arrayloss._machines.jax.compiled import NAMESPACE, along, held, kernel, rule
from arrayloss._machines.jax.facts import where_or

#: Up to so many classes a reduction over them is written out.
_UNROLL = 32


def _of(x: Array, c: int | None) -> Array:
    """Return the entries of a class, or of all."""
    return x if c is None else x[:, c]


def _beside(x: Any, c: int | None) -> Any:
    """Return what positions have in the layout of the entries of a class, or of all."""
    return x[:, None] if x is not None and c is None else x


def _clean(x: Array, valid: Array | None, c: int | None) -> Array:
    return where_or(jnp, _beside(valid, c), _of(x, c), 0)


def _hit(labels: Array, classes: int, c: int | None) -> Array:
    return one_hot(jnp, labels, classes) if c is None else labels == c


def _sum(x: Array) -> Array:
    return jnp.sum(x, axis=1)


def _product(x: Array) -> Array:
    """The same as a product with ones, where a sum over the middle axis is slow: on the CPU."""
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    total = jnp.einsum("ncp,c->np", flat, jnp.ones((x.shape[1],), dtype=x.dtype), precision="highest")
    return total.reshape((x.shape[0], *x.shape[2:]))


def _top_and_total(z: Array, valid: Array | None, scale: float, written: bool) -> tuple[Array, Array]:
    """Return max(z), a constant, and the sum of exp(scale (z - max(z))) over the classes."""

    def e(c: int | None) -> Array:
        shifted = _clean(z, valid, c) - _beside(top, c)
        return jnp.exp(shifted if scale == 1.0 else shifted * scale)

    if written and z.shape[1] <= _UNROLL:
        top = jax.lax.stop_gradient(reduce(jnp.maximum, [_clean(z, valid, c) for c in range(z.shape[1])]))
        return top, reduce(jnp.add, [e(c) for c in range(z.shape[1])])
    top = jax.lax.stop_gradient(jnp.max(_clean(z, valid, None), axis=1))
    return top, (_product if written else _sum)(e(None))


def _normaliser(z: Array, valid: Array | None = None, scale: float = 1.0) -> tuple[Array, Array]:
    """Return the same, held: every class needs it again."""
    ways = (partial(_top_and_total, scale=scale, written=written) for written in (True, False))
    return held(*ways, z, valid)


def _summed(entries: Callable[..., tuple[Array, ...]], *arrays: Any) -> tuple[Array, ...]:
    """Return the sums over the classes of what `entries` gives a class c of arrays, or all, held."""

    def whole(*arrays: Any) -> tuple[Array, ...]:
        return tuple(_sum(x) for x in entries(None, *arrays))

    def written(*arrays: Any) -> tuple[Array, ...]:
        if arrays[0].shape[1] > _UNROLL:
            return whole(*arrays)
        each = [entries(c, *arrays) for c in range(arrays[0].shape[1])]
        return tuple(reduce(jnp.add, terms) for terms in zip(*each, strict=True))

    return held(written, whole, *arrays)


def at_label(x: Array, labels: Array) -> Array:
    return jnp.take_along_axis(x, labels[:, None], axis=1, mode="clip")[:, 0]


# By the label alone ---------------------------------------------------------------------------------------------------


@jax.custom_jvp
def _softmax(z: Array, valid: Array | None) -> Array:
    top, total = _normaliser(z)
    # The mask lies on the result alone: no derivative passes through what it hides, and the logits stay as they are.
    return where_valid(NAMESPACE, valid, jnp.exp(z - top[:, None]) * (1 / total)[:, None])


def held_softmax(z: Array, valid: Array | None) -> Array:
    """Return the same, stored."""
    return held(_softmax, lambda *arrays: _softmax(*arrays) + 0, z, valid)


@_softmax.defjvp
def _softmax_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    p = _softmax(*primals)
    return p, p * (tangents[0] - jnp.sum(p * tangents[0], axis=1, keepdims=True))


@jax.custom_jvp
def _label_nll(z: Array, labels: Array, valid: Array | None) -> Array:
    top, total = _normaliser(z)
    return where_or(jnp, valid, jnp.log(total) - (at_label(z, labels) - top), 0)


@_label_nll.defjvp
def _label_nll_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, labels, valid = primals
    hit = where_valid(NAMESPACE, valid, one_hot(jnp, labels, z.shape[1]).astype(z.dtype))
    return _label_nll(*primals), jnp.sum((_softmax(z, valid) - hit) * tangents[0], axis=1)


def _shares_of_members(z: Array, members: Array, valid: Array | None) -> tuple[Array, Array, Array]:
    """Return the members' largest score, the sum of their exponentials less it, and the share of each in that.

    Where all members are -inf the sum is 1, and the shares are 0.
    """
    z = where_valid(NAMESPACE, valid, z)
    if valid is not None:
        members = members | ~valid[:, None]
    # The least score, where -inf would do, loses to every member's, and is infinite only where one is.
    own = jnp.where(members, z, jax.lax.stop_gradient(jnp.min(z, axis=1, keepdims=True)))
    top = jax.lax.stop_gradient(jnp.max(own, axis=1))
    some = ~(top == -math.inf)
    e = where_or(jnp, members & some[:, None], jnp.exp(own - where_or(jnp, some, top, 0)[:, None]), 0)
    total = where_or(jnp, some, jnp.sum(e, axis=1), 1)
    return top, total, e / total[:, None]


@jax.custom_jvp
def _members_nll(z: Array, members: Array, valid: Array | None) -> Array:
    top, total = _normaliser(z, valid)
    top_own, total_own, _ = _shares_of_members(z, members, valid)
    return where_or(jnp, valid, jnp.log(total) - jnp.log(total_own) + (top - top_own), 0)


@_members_nll.defjvp
def _members_nll_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, members, valid = primals
    slopes = where_valid(NAMESPACE, valid, _softmax(z, valid) - _shares_of_members(z, members, valid)[2])
    return _members_nll(*primals), jnp.sum(slopes * tangents[0], axis=1)


softmax, label_nll, members_nll = kernel(2)(_softmax), kernel(3)(_label_nll), kernel(3)(_members_nll)

# By a formula ---------------------------------------------------------------------------------------------------------


def _given(
    how: OfClasses, c: int | None, z: Array, t: Array, field: Array | None, valid: Array | None, *normaliser: Array
) -> tuple[Array, ...]:
    """Return what the formula is given for a class, or for all."""
    count = z.shape[1]
    z, beside = _clean(z, valid, c), [_beside(x, c) for x in normaliser]
    if how.kind == "gap":
        own = _hit(t, count, c)
        return where_or(jnp, ~own, z - beside[0], 0), own.astype(z.dtype)
    log_p = (z - beside[0]) * how.scale - beside[1]
    p = jnp.exp(log_p)
    if how.kind == "teacher":
        log_q = (_clean(t, valid, c) - beside[2]) * how.scale - beside[3]
        q = jnp.exp(log_q)
        some = q > 0
        return where_or(jnp, some, log_p, 0), p, where_or(jnp, some, log_q, 0), q
    if t.ndim < z.ndim + (c is not None):
        on, off = shares(how.smoothing, count)
        t = _hit(t, count, c).astype(z.dtype) * (on - off) + off
    else:
        t = _clean(t, valid, c)
        log_p = where_or(jnp, t != 0, log_p, 0)
    return (log_p, p, t) if field is None else (log_p, p, t, _clean(field, valid, c))


def _terms(
    how: OfClasses, functions: Any, c: int | None, z: Array, t: Array, field: Any, valid: Any, weight: Any, *rest: Array
) -> tuple[Array, ...]:
    """Return what functions of a formula give a class, or all, with its weight: 0 takes out even what is infinite."""
    given = _given(how, c, z, t, field, valid, *rest)
    found = tuple(f(NAMESPACE, *given, *how.numbers) for f in functions)
    if weight is None:
        return found
    weight = weight.reshape((1, -1) + (1,) * (z.ndim - 2)) if c is None else weight[c]
    return tuple(jnp.where(weight != 0, x, 0) * weight for x in found)


def _normalisers(how: OfClasses, z: Array, t: Array, valid: Array | None) -> list[Array]:
    if how.kind == "gap":
        return [where_or(jnp, valid, at_label(z, t), 0)]
    found = [_normaliser(x, valid, how.scale) for x in ((z, t) if how.kind == "teacher" else (z,))]
    return [x for top, total in found for x in (top, jnp.log(total))]


def _losses(z: Array, t: Array, field: Any, valid: Any, weight: Any, how: OfClasses) -> Array:
    terms = partial(_terms, how, (how.formula.losses,))
    (losses,) = _summed(terms, z, t, field, valid, weight, *_normalisers(how, z, t, valid))
    return where_or(jnp, valid, losses, 0)


_classes = jax.custom_jvp(_losses, nondiff_argnums=(5,))


@rule(_classes)
def _classes_jvp(how: OfClasses, primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, t, _, valid, _ = primals
    change = along(partial(_losses, how=how), primals, (None, *tangents[1:]))
    if not isinstance(tangents[0], jax.Array):
        losses = _classes(*primals, how)
        return losses, jnp.zeros_like(losses) if change is None else change
    given = (*primals, *_normalisers(how, z, t, valid))
    losses, total = _summed(partial(_terms, how, how.formula[:2]), *given)
    (slopes,) = _terms(how, (how.formula.slopes,), None, *given)
    share = _given(how, None, *primals[:4], *given[5:])[1]
    slopes = where_valid(NAMESPACE, valid, (slopes - share * total[:, None]) * how.scale)
    moved = jnp.sum(slopes * tangents[0], axis=1)
    return where_or(jnp, valid, losses, 0), moved if change is None else change + moved


classes = kernel(5)(_classes)
