"""Sums and selections by place."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import Array
from arrayloss._machines.jax.compiled import kernel
from arrayloss._machines.jax.facts import where_or


@kernel(2)
def take_positions(x: Array, places: Array) -> Array:
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    there = places < flat.shape[0] * flat.shape[2]
    at = jnp.where(there, places, 0)
    rows = flat.at[at // flat.shape[2], :, at % flat.shape[2]].get(mode="promise_in_bounds")
    return where_or(jnp, there[:, None], rows, 0)


def in_bins(x: Array, bins: Array, size: int) -> Array:
    """Return the sum, in each image, of the entries of `x` with each number in `bins`, shape `(N, size)`."""
    images, positions = bins.shape[0], math.prod(bins.shape[1:])
    # Bins of their own for every so many positions: a long running sum in float32 drifts.
    block = max(math.isqrt(positions) + 1, size)
    first = jnp.arange(positions, dtype=bins.dtype)[None] // block * size
    place = first + bins.reshape((images, positions))
    blocks = -(-positions // block)
    totals = jnp.zeros((images, blocks * size), dtype=x.dtype)
    # Image by image, so that a batch that is sharded stays so.
    add: Any = jax.vmap(lambda totals, place, x: totals.at[place].add(x, mode="promise_in_bounds"))
    totals = add(totals, place, x.reshape((images, positions)))
    return jnp.sum(totals.reshape((images, blocks, size)), axis=1)


@kernel(2)
def bin_totals(x: Array, bins: Array, size: int) -> Array:
    return in_bins(x, bins, size)


@kernel(2)
def label_counts(labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    ones = jnp.ones(labels.shape, dtype=jnp.int32) if valid is None else valid.astype(jnp.int32)
    return in_bins(ones, labels, classes).astype(dtype)
