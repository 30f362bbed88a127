"""Losses of entries, each by itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arrayloss._machines.formula import BINARY, Array, Formula
from arrayloss._machines.generic.entries import opened
from arrayloss._machines.jax.compiled import NAMESPACE, held, kernel
from arrayloss._machines.jax.facts import where_or


@kernel(1)
def softplus(x: Array) -> Array:
    return jax.nn.softplus(x)


@kernel(1)
def sigmoid(x: Array) -> Array:
    return jax.nn.sigmoid(x)


@kernel(3)
def entry_losses(x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float) -> Array:
    x, t, valid = opened(NAMESPACE, x, t, valid)
    return where_or(jnp, valid, formula.losses(NAMESPACE, x, t, *numbers), 0)


@entry_losses.rule
def _(dx: Array, x: Array, t: Array, valid: Array | None, formula: Formula, *numbers: float) -> tuple[Array, Array]:
    clean, shares, entries = opened(NAMESPACE, x, t, valid)
    change = where_or(jnp, entries, formula.slopes(NAMESPACE, clean, shares, *numbers) * dx, 0)
    return entry_losses(NAMESPACE, x, t, valid, formula, *numbers), change


@kernel(3)
def entry_total(x: Array, t: Array, valid: Array | None, formula: Formula, *numbers: float) -> Array:
    if formula != BINARY:
        return _sum(entry_losses(NAMESPACE, x, t, valid, formula, *numbers))
    # An infinite score costs nothing on the right side and, with the largest number for it, what the sum tells apart:
    # selections within the sum would triple its time on the CPU.
    x, t, valid = opened(NAMESPACE, x, t, valid)
    largest, away = float(np.finfo(x.dtype).max), jnp.abs(x)
    losses = jnp.log1p(jnp.exp(-away)) + jnp.where(x > 0, 1 - t, t) * jnp.minimum(away, largest)
    total = _sum(where_or(jnp, valid, losses, 0))
    return jnp.where(total >= largest, jnp.inf, total)


@entry_total.rule
def _(dx: Array, x: Array, t: Array, valid: Array | None, formula: Formula, *numbers: float) -> tuple[Array, Array]:
    shares: Any
    clean, shares, entries = opened(NAMESPACE, x, t, valid)
    if formula != BINARY:
        slopes = formula.slopes(NAMESPACE, clean, shares, *numbers)
    elif t.ndim == x.ndim:
        slopes = jax.nn.sigmoid(clean) - shares
    else:  # where nothing cancels
        side = 1 - 2 * shares
        slopes = jax.nn.sigmoid(side * clean) * side
    # The total on its own, since XLA on the CPU shares passes between it and the slopes.
    value = held(lambda *arrays: entry_total(NAMESPACE, *arrays, formula, *numbers), x, t, valid)
    return value, _sum(where_or(jnp, entries, slopes * dx, 0))


def _sum(x: Array) -> Array:
    """Return the sum of all entries, by rows first: a long running sum in float32 drifts."""
    return jnp.sum(jnp.sum(x, axis=-1)) if x.ndim else x
