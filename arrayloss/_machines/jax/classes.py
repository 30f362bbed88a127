"""Losses of positions over their classes, whose sums over the classes are written out class by class.

XLA on the CPU fuses sums that are written out with what is summed, which it then need not store. What belongs to
positions has the shape `(N, 1, *S)` here, and entries that of a slice of the classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import CROSS, Array, OfClasses
from arrayloss._machines.generic import classes as generic
from arrayloss._machines.generic.classes import belonging, weighed
from arrayloss._machines.generic.facts import one_hot, where_valid
from arrayloss._machines.jax.compiled import NAMESPACE, held, kernel
from arrayloss._machines.jax.facts import where_or

#: Up to so many classes a reduction over them is written out.
_UNROLL = 32
_ALL = slice(None)


def _product(x: Array, **_: Any) -> Array:
    """Return the sum over the classes as a product with ones, where a sum over the middle axis is slow: on the CPU."""
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    total = jnp.einsum("ncp,c->np", flat, jnp.ones((x.shape[1],), dtype=x.dtype), precision="highest")
    return total.reshape((x.shape[0], 1, *x.shape[2:]))


def _over(written: bool, add: Any, entries: Callable[..., tuple[Array, ...]], z: Array, *arrays: Any) -> Any:
    """Return the sums, or maxima, over the classes of what `entries` gives those of a slice."""
    if written and z.shape[1] <= _UNROLL:
        each = [entries(slice(c, c + 1), z, *arrays) for c in range(z.shape[1])]
        return tuple(reduce(add, terms) for terms in zip(*each, strict=True))
    whole: Any = jnp.max if add is jnp.maximum else _product if written else jnp.sum
    return tuple(whole(x, axis=1, keepdims=True) for x in entries(_ALL, z, *arrays))


def _sums(entries: Callable[..., tuple[Array, ...]], *arrays: Any) -> tuple[Array, ...]:
    """Return the sums over the classes, held."""
    written, whole = (partial(_over, way, jnp.add, entries) for way in (True, False))
    found: tuple[Array, ...] = held(written, *arrays, other=whole)
    return found


def _shifted(at: slice, z: Array, valid: Array | None, top: Array, scale: float) -> Array:
    return (where_valid(NAMESPACE, valid, z[:, at]) - top) * scale


def _normaliser(
    z: Array, valid: Array | None = None, scale: float = 1.0, beside: Any = lambda *_: (), *arrays: Any
) -> tuple[Array, ...]:
    """Return max(z), a constant, the sum of exp(scale (z - max(z))), and what is summed beside it, held."""

    def of(written: bool, z: Array, valid: Array | None, *arrays: Any) -> tuple[Array, ...]:
        def entries(at: slice, z: Array, valid: Array | None, *arrays: Any) -> tuple[Array, ...]:
            return jnp.exp(_shifted(at, z, valid, top, scale)), *beside(at, z, *arrays, top, 0.0)

        (top,) = _over(written, jnp.maximum, lambda at, z: (where_valid(NAMESPACE, valid, z[:, at]),), z)
        top = jax.lax.stop_gradient(top)
        return top, *_over(written, jnp.add, entries, z, valid, *arrays)

    found: Any = held(partial(of, True), z, valid, *arrays, other=partial(of, False))
    return found


def at_label(x: Array, labels: Array) -> Array:
    return jnp.take_along_axis(x, labels[:, None], axis=1, mode="clip")[:, 0]


@kernel(4)
def _softmax(z: Array, valid: Array | None, top: Array, total: Array) -> Array:
    # The mask lies on the result alone: no derivative passes through what it hides, and the logits stay as they are.
    return where_valid(NAMESPACE, valid, jnp.exp(z - top) * (1 / total))


@_softmax.rule
def _(dz: Array, z: Array, valid: Array | None, top: Array, total: Array) -> tuple[Array, Array]:
    p = _softmax(NAMESPACE, z, valid, top, total)
    return p, p * (dz - jnp.sum(p * dz, axis=1, keepdims=True))


@kernel(2)
def softmax(z: Array, valid: Array | None) -> Array:
    p: Array = _softmax(NAMESPACE, z, valid, *map(jax.lax.stop_gradient, _normaliser(z)))
    return p


def held_softmax(z: Array, valid: Array | None) -> Array:
    """Return softmax(z), stored."""
    p: Array = held(partial(_softmax, NAMESPACE), z, valid, *map(jax.lax.stop_gradient, _normaliser(z)))
    return p


@kernel(3)
def label_nll(z: Array, labels: Array, valid: Array | None) -> Array:
    top, total = _normaliser(z)
    return where_or(jnp, valid, jnp.log(total)[:, 0] - (at_label(z, labels) - top[:, 0]), 0)


@label_nll.rule
def _(dz: Array, z: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
    hit = where_valid(NAMESPACE, valid, one_hot(jnp, labels, z.shape[1]).astype(z.dtype))
    return label_nll(NAMESPACE, z, labels, valid), jnp.sum((softmax(NAMESPACE, z, valid) - hit) * dz, axis=1)


@kernel(3)
def members_nll(z: Array, members: Array, valid: Array | None) -> Array:
    return generic.members_nll(NAMESPACE, z, members, valid)[0]


@members_nll.rule
def _(dz: Array, z: Array, members: Array, valid: Array | None) -> tuple[Array, Array]:
    losses, vjp = generic.members_nll(NAMESPACE, z, members, valid)
    return losses, jnp.sum(vjp(jnp.ones_like(losses)) * dz, axis=1)


@kernel(5)
def classes(z: Array, t: Array, field: Any, valid: Any, weight: Any, how: OfClasses) -> Array:
    (losses, *_), _ = _totals(how, (how.formula.losses,), z, valid, t, field, weight)
    return where_or(jnp, valid, losses[:, 0], 0)


@classes.rule
def _(dz: Array, z: Array, t: Array, field: Any, valid: Any, weight: Any, how: OfClasses) -> tuple[Array, Array]:
    given = (z, valid, t, field, weight)
    (losses, total), norm = _totals(how, how.formula[:2], *given)
    share, each = _entries(how, how.formula[1:2], _ALL, *given, *norm)
    slopes = where_valid(NAMESPACE, valid, (each - share * total) * how.scale)
    losses = jax.lax.stop_gradient(where_or(jnp, valid, losses[:, 0], 0))
    return _tied(NAMESPACE, z, losses, slopes), jnp.sum(slopes * dz, axis=1)


@kernel(3)
def _tied(z: Array, losses: Array, slopes: Array) -> Array:
    """Return losses, which change with z by their slopes: what they were computed from may be NaN where not valid."""
    return losses


@_tied.rule
def _(dz: Array, z: Array, losses: Array, slopes: Array) -> tuple[Array, Array]:
    return _tied(NAMESPACE, z, losses, slopes), jnp.sum(slopes * dz, axis=1)


def _totals(how: OfClasses, functions: Any, *given: Any) -> tuple[tuple[Array, ...], tuple[Any, ...]]:
    """Return the sums over the classes of what functions give, and what the scores are normalised by."""
    z, valid, t, field, weight = given

    def entries(functions: Any, *arrays: Any) -> tuple[Array, ...]:
        return _entries(how, functions, *arrays)[1:]

    if how.formula == CROSS:
        # It is linear in log p: what it gives the scores, less their normaliser, is summed beside that.
        beside = partial(entries, CROSS[:2])
        top, total, losses, slopes = _normaliser(z, None, 1.0, beside, valid, t, field, weight)
        log_total, p = jnp.log(total), _softmax(NAMESPACE, z, valid, top, jax.lax.stop_gradient(total))
        return (losses - slopes * log_total, slopes), (top, log_total, p)
    if how.kind == "gap":
        norm: tuple[Any, ...] = (where_or(jnp, valid, at_label(z, t), 0)[:, None], 0.0)
    else:
        tops = [_normaliser(x, valid, how.scale) for x in ((z, t) if how.kind == "teacher" else (z,))]
        norm = tuple(x for top, total in tops for x in (top, jnp.log(total)))
    if field is not None and len(functions) > 1:
        norm = (*norm, held_softmax(z, valid))
    # XLA on the CPU stores what two sums share and is dear to compute: that of a teacher twice as much as it is worth.
    groups = [(f,) for f in functions] if how.kind == "teacher" else [functions]
    return tuple(x for fs in groups for x in _sums(partial(entries, fs), *given, *norm)), norm


def _entries(
    how: OfClasses, functions: Any, at: slice, z: Array, valid: Any, t: Array, field: Any, weight: Any, *norm: Any
) -> tuple[Array, ...]:
    """Return the shares of the classes of a slice, and what functions give them, by weight."""

    def clean(x: Any) -> Any:
        return None if x is None else where_valid(NAMESPACE, valid, x[:, at])

    top, log_total, *more = norm
    # What the mask hides of the scores is left to the results where nothing else comes of it.
    d = _shifted(at, z, None if how.formula == CROSS else valid, top, how.scale) - log_total
    if how.kind == "teacher":
        t, more = _shifted(at, t, valid, more[0], how.scale) - more[1], []
    else:
        t = one_hot(jnp, t - (at.start or 0), d.shape[1]) if t.ndim < z.ndim else clean(t)
    given = belonging(NAMESPACE, how, d, t, clean(field), z.shape[1], *(p[:, at] for p in more))
    found = [f(NAMESPACE, *given, *how.numbers) for f in functions]
    return given[1], *(weighed(NAMESPACE, None if weight is None else weight[at], x) for x in found)
