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


def _held_sums(sums: Callable[..., tuple[Array, ...]], *arrays: Any) -> tuple[Array, ...]:
    """Return sums over the classes, which are written out or not, held."""
    found: tuple[Array, ...] = held(partial(sums, True), *arrays, other=partial(sums, False))
    return found


def _normaliser(z: Array, scale: float = 1.0, beside: Any = lambda *_: (), *arrays: Any) -> tuple[Array, ...]:
    """Return max(z), a constant, the sum of exp(scale (z - max(z))), and what is summed beside it, held."""

    def sums(written: bool, z: Array, *arrays: Any) -> tuple[Array, ...]:
        def entries(at: slice, z: Array, *arrays: Any) -> tuple[Array, ...]:
            return jnp.exp((z[:, at] - top) * scale), *beside(at, z, *arrays, top, 0.0)

        (top,) = _over(written, jnp.maximum, lambda at, z: (z[:, at],), z)
        top = jax.lax.stop_gradient(top)
        return top, *_over(written, jnp.add, entries, z, *arrays)

    return _held_sums(sums, z, *arrays)


@kernel(2)
def _guarded(x: Array, valid: Array | None) -> Array:
    """Return x as it is, with a derivative of 0 where not valid: what hides the rest is a mask on the results alone."""
    return x


@_guarded.rule
def _(dx: Array, x: Array, valid: Array | None) -> tuple[Array, Array]:
    return _guarded(NAMESPACE, x, valid), where_valid(NAMESPACE, valid, dx)


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
    z = _guarded(NAMESPACE, z, valid)
    p: Array = held(_softmax_of, z, valid, *_normaliser(z))
    return p


def _softmax_of(z: Array, valid: Array | None, top: Array, total: Array) -> Array:
    return where_valid(NAMESPACE, valid, jnp.exp(z - top) * (1 / total))


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
    losses, *_ = _totals(how, (how.formula.losses,), z, t, field, valid, weight)
    return losses


@classes.rule
def _(dz: Array, z: Array, t: Array, field: Any, valid: Any, weight: Any, how: OfClasses) -> tuple[Array, Array]:
    losses, total, *given = _totals(how, how.formula[:2], z, t, field, valid, weight)
    share, each = _entries(how, how.formula[1:2], _ALL, *given)
    change = where_valid(NAMESPACE, valid, (each - share * total) * how.scale) * dz
    return losses, jnp.sum(change, axis=1)


def _totals(
    how: OfClasses, functions: Any, z: Array, t: Array, field: Any, valid: Array | None, weight: Any
) -> tuple[Any, ...]:
    """Return the losses, the sums of the other functions, and what entries are made of."""
    z, *fields = (x if x is None or x.ndim < z.ndim else _guarded(NAMESPACE, x, valid) for x in (z, t, field))
    given = [z, *fields, weight]
    if how.formula == CROSS:
        # It is linear in log p: what it gives the scores, less their normaliser, is summed beside that.
        top, total, losses, slopes = _normaliser(z, how.scale, partial(_terms, how, CROSS[:2]), *given[1:])
        given += [top, jnp.log(total)]
        sums = [losses - slopes * given[-1], slopes]
    else:
        if how.kind == "gap":
            given += [at_label(z, t)[:, None], 0.0]
        for x in [] if how.kind == "gap" else given[:2] if how.kind == "teacher" else given[:1]:
            top, total = _normaliser(x, how.scale)
            given += [top, jnp.log(total)]
        if field is not None and len(functions) > 1:
            given.append(held_softmax(z, valid))
        # XLA on the CPU stores what two sums share and is dear to compute: of a teacher twice as much as it is worth.
        sums = []
        for some in [(f,) for f in functions] if how.kind == "teacher" else [functions]:
            sums += _held_sums(lambda way, *of, some=some: _over(way, jnp.add, partial(_terms, how, some), *of), *given)
    return where_or(jnp, valid, sums[0][:, 0], 0), *sums[1:], *given


def _terms(how: OfClasses, functions: Any, *given: Any) -> tuple[Array, ...]:
    return _entries(how, functions, *given)[1:]


def _entries(
    how: OfClasses, functions: Any, at: slice, z: Array, t: Array, field: Any, weight: Any, *norm: Any
) -> tuple[Array, ...]:
    """Return the shares of the classes of a slice, and what functions give them, by weight."""
    top, log_total, *more = norm
    d = (z[:, at] - top) * how.scale - log_total
    if how.kind == "teacher":
        t, more = (t[:, at] - more[0]) * how.scale - more[1], []
    else:
        t = one_hot(jnp, t - (at.start or 0), d.shape[1]) if t.ndim < z.ndim else t[:, at]
    field, weight = None if field is None else field[:, at], None if weight is None else weight[at]
    given = belonging(NAMESPACE, how, d, t, field, z.shape[1], *(p[:, at] for p in more))
    return given[1], *(weighed(NAMESPACE, weight, f(NAMESPACE, *given, *how.numbers)) for f in functions)
