"""Losses of entries, each by itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arrayloss._machines.formula import BINARY, Array, Formula
from arrayloss._machines.generic.entries import opened
from arrayloss._machines.jax.compiled import NAMESPACE, along, held, kernel, rule
from arrayloss._machines.jax.facts import where_or

#: Entries from which on a total is worth a loop of its own.
_LARGE = 1 << 20


@jax.custom_jvp
def _softplus(x: Array) -> Array:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _softplus(*primals), jax.nn.sigmoid(primals[0]) * tangents[0]


softplus = kernel(1)(_softplus)


@kernel(1)
def sigmoid(x: Array) -> Array:
    return jax.nn.sigmoid(x)


@kernel(3)
def entry_losses(x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float) -> Array:
    return _entries(x, t, valid, formula, numbers, False)


@kernel(3)
def entry_total(x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float) -> Array:
    return _entries(x, t, valid, formula, numbers, True)


def _plain(x: Array, t: Array | None, valid: Array | None, formula: Formula, numbers: Any, total: bool) -> Array:
    x, t, valid = opened(NAMESPACE, x, t, valid)
    if not total:
        return where_or(jnp, valid, formula.losses(NAMESPACE, x, t, *numbers), 0)
    if formula is not BINARY:
        return _sum(where_or(jnp, valid, formula.losses(NAMESPACE, x, t, *numbers), 0))
    # An infinite score costs nothing on the right side and, with the largest number for it, what the sum tells apart:
    # selections within the sum would triple its time on the CPU.
    largest, away = float(np.finfo(x.dtype).max), jnp.abs(x)
    losses = jnp.log1p(jnp.exp(-away)) + jnp.where(x > 0, 1 - t, t) * jnp.minimum(away, largest)
    found = _sum(where_or(jnp, valid, losses, 0))
    return jnp.where(found >= largest, jnp.inf, found)


def _sum(x: Array) -> Array:
    """Return the sum of all entries, by rows first: a long running sum in float32 drifts."""
    return jnp.sum(jnp.sum(x, axis=-1)) if x.ndim else x


@partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _entries(x: Array, t: Array | None, valid: Array | None, formula: Formula, numbers: Any, total: bool) -> Array:
    return _plain(x, t, valid, formula, numbers, total)


@rule(_entries)
def _entries_jvp(formula: Formula, numbers: Any, total: bool, primals: Any, tangents: Any) -> tuple[Array, Array]:
    losses = partial(_entries, formula=formula, numbers=numbers, total=total)
    if total and primals[0].size >= _LARGE:
        # On its own, since XLA on the CPU shares passes between it and the slopes.
        value = held(losses, lambda *arrays: jnp.sum(_plain(*arrays, formula, numbers, False)), *primals)
    else:
        value = losses(*primals)
    change = along(partial(_plain, formula=formula, numbers=numbers, total=total), primals, (None, *tangents[1:]))
    if isinstance(tangents[0], jax.Array):
        x, t, valid = opened(NAMESPACE, *primals)
        slopes = where_or(jnp, valid, formula.slopes(NAMESPACE, x, t, *numbers) * tangents[0], 0)
        slopes = _sum(slopes) if total else slopes
        change = slopes if change is None else change + slopes
    return value, jnp.zeros_like(value) if change is None else change
