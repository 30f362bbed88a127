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
from arrayloss._machines.generic import classes as generic
from arrayloss._machines.generic.classes import shares
from arrayloss._machines.generic.facts import one_hot, where_valid
from arrayloss._machines.jax.compiled import NAMESPACE, held, kernel
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


@kernel(2)
def softmax(z: Array, valid: Array | None) -> Array:
    return _softmax_of(z, valid, *_normaliser(z))


@softmax.rule
def _(dz: Array, z: Array, valid: Array | None) -> tuple[Array, Array]:
    p = softmax(NAMESPACE, z, valid)
    return p, p * (dz - jnp.sum(p * dz, axis=1, keepdims=True))


def held_softmax(z: Array, valid: Array | None) -> Array:
    """Return softmax(z), stored."""
    p: Array = held(_softmax_of, lambda *of: _softmax_of(*of) + 0, z, valid, *_normaliser(z))
    return p


def _softmax_of(z: Array, valid: Array | None, top: Array, total: Array) -> Array:
    # The mask lies on the result alone: no derivative passes through what it hides, and the logits stay as they are.
    return where_valid(NAMESPACE, valid, jnp.exp(z - top[:, None]) * (1 / total)[:, None])


@kernel(3)
def label_nll(z: Array, labels: Array, valid: Array | None) -> Array:
    top, total = _normaliser(z)
    return where_or(jnp, valid, jnp.log(total) - (at_label(z, labels) - top), 0)


@label_nll.rule
def _(dz: Array, z: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
    hit = where_valid(NAMESPACE, valid, one_hot(jnp, labels, z.shape[1]).astype(z.dtype))
    return label_nll(NAMESPACE, z, labels, valid), _sum((softmax(NAMESPACE, z, valid) - hit) * dz)


@kernel(3)
def members_nll(z: Array, members: Array, valid: Array | None) -> Array:
    return generic.members_nll(NAMESPACE, z, members, valid)[0]


@members_nll.rule
def _(dz: Array, z: Array, members: Array, valid: Array | None) -> tuple[Array, Array]:
    losses, vjp = generic.members_nll(NAMESPACE, z, members, valid)
    return losses, _sum(vjp(jnp.ones_like(losses)) * dz)


@kernel(5)
def classes(z: Array, t: Array, field: Any, valid: Any, weight: Any, how: OfClasses) -> Array:
    given = (z, t, field, valid, weight, *_normalisers(z, t, valid, how))
    (losses,) = _summed(lambda *of: _terms(how, (how.formula.losses,), *of)[1:], *given)
    return where_or(jnp, valid, losses, 0)


@classes.rule
def _(dz: Array, z: Array, t: Array, field: Any, valid: Any, weight: Any, how: OfClasses) -> tuple[Array, Array]:
    given, losses_and_slopes = (z, t, field, valid, weight, *_normalisers(z, t, valid, how)), how.formula[:2]
    # XLA on the CPU stores what two sums share and is dear to compute: that of a teacher twice as much as it is worth.
    if how.kind == "teacher":
        (losses,), (total,) = (_summed(lambda *of, f=f: _terms(how, (f,), *of)[1:], *given) for f in losses_and_slopes)
    else:
        given = given if field is None else (*given, held_softmax(z, valid))
        losses, total = _summed(lambda *of: _terms(how, losses_and_slopes, *of)[1:], *given)
    share, each = _terms(how, losses_and_slopes[1:], None, *given)
    change = where_valid(NAMESPACE, valid, (each - share * total[:, None]) * how.scale) * dz
    return where_or(jnp, valid, losses, 0), _sum(change)


def _normalisers(z: Array, t: Array, valid: Array | None, how: OfClasses) -> list[Array]:
    """Return what the scores of all classes are normalised by."""
    if how.kind == "gap":
        return [where_or(jnp, valid, at_label(z, t), 0)]
    found = [_normaliser(x, valid, how.scale) for x in ((z, t) if how.kind == "teacher" else (z,))]
    return [x for top, total in found for x in (top, jnp.log(total))]


def _terms(
    how: OfClasses, functions: Any, c: int | None, z: Array, t: Array, field: Any, valid: Any, weight: Any, *norm: Array
) -> tuple[Array, ...]:
    """Return the share of a class, or of all, and what functions give it, by weight: one of 0 takes out infinity."""
    given = _given(how, c, z, t, field, valid, *(_of(x, c) if x.ndim == z.ndim else _beside(x, c) for x in norm))
    found = [f(NAMESPACE, *given, *how.numbers) for f in functions]
    if weight is not None:
        weight = weight.reshape((1, -1) + (1,) * (z.ndim - 2)) if c is None else weight[c]
        found = [jnp.where(weight != 0, x, 0) * weight for x in found]
    return given[1], *found


def _given(
    how: OfClasses, c: int | None, z: Array, t: Array, field: Any, valid: Any, top: Array, *norm: Array
) -> tuple[Array, ...]:
    """Return what the formula is given for a class, or for all; p may be known."""
    x = _clean(z, valid, c) - top
    if how.kind == "gap":
        own = _hit(t, z.shape[1], c)
        return where_or(jnp, ~own, x, 0), own.astype(z.dtype)
    log_p = x * how.scale - norm[0]
    p = norm[1] if len(norm) == 2 else jnp.exp(log_p)
    if how.kind == "teacher":
        log_q = (_clean(t, valid, c) - norm[1]) * how.scale - norm[2]
        q = jnp.exp(log_q)
        return where_or(jnp, q > 0, log_p, 0), p, where_or(jnp, q > 0, log_q, 0), q
    if t.ndim < z.ndim:
        on, off = shares(how.smoothing, z.shape[1])
        t = _hit(t, z.shape[1], c).astype(z.dtype) * (on - off) + off
    else:
        t = _clean(t, valid, c)
        log_p = where_or(jnp, t != 0, log_p, 0)
    return (log_p, p, t) if field is None else (log_p, p, t, _clean(field, valid, c))
