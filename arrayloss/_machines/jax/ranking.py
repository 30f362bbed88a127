"""What ranks: the k-th largest, and the Lovasz extension of the Jaccard loss."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic import ranking as generic
from arrayloss._machines.generic.facts import sum_positions
from arrayloss._machines.generic.ranking import ranked_lovasz_weights
from arrayloss._machines.jax.compiled import NAMESPACE, Kernel, kernel, on_cpu_host
from arrayloss._machines.jax.facts import running_sum, where_or
from arrayloss._machines.numpy import lovasz


@kernel(1)
def kth_largest(rows: Array, k: int) -> Array:
    """Find the k-th largest bit by bit, from the highest: a pass over the rows each, where XLA's sort is slow."""
    bits = 8 * rows.dtype.itemsize
    unsigned = jnp.dtype(f"uint{bits}")
    sign = jnp.asarray(1 << (bits - 1), dtype=unsigned)
    # Integers in the order of the numbers, a NaN of either sign above all.
    raw = jax.lax.bitcast_convert_type(jnp.where(jnp.isnan(rows), jnp.nan, rows), unsigned)
    keys = jnp.where(raw >= sign, ~raw, raw | sign)

    def refine(i: Array, found: Array) -> Array:
        higher = found | (sign >> i.astype(unsigned))
        enough = jnp.sum(keys >= higher[:, None], axis=1, dtype=jnp.int32) >= k
        return jnp.where(enough, higher, found)

    found = jax.lax.fori_loop(0, bits, refine, jnp.zeros(rows.shape[:1], dtype=unsigned))
    return jax.lax.bitcast_convert_type(jnp.where(found >= sign, found ^ sign, ~found), rows.dtype)


@kernel(1)
def kth_largest_below(row: Array, k: int, bound: float) -> Array:
    enough = jnp.sum(row > bound, dtype=jnp.int32) >= k
    largest = jnp.full(1, float(np.finfo(row.dtype).max), dtype=row.dtype)
    return jax.lax.cond(enough, lambda row: largest, lambda row: kth_largest(NAMESPACE, row, k), row)


def _lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    keys = where_or(jnp, valid, jax.lax.stop_gradient(errors), -1)
    place = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 1)
    _, ranked, hit, order = jax.lax.sort((-keys, keys, positive.astype(jnp.int32), place), dimension=1, num_keys=1)
    weights = ranked_lovasz_weights(
        NAMESPACE, ranked, hit, running_sum, lambda _, x: jax.lax.cummax(x, axis=x.ndim - 1)
    )
    return jax.lax.sort((order, weights), dimension=1, num_keys=1)[1]


lovasz_weights = jax.jit(_lovasz_weights, static_argnums=0)


def _lovasz(on_host: Any, rule: Any) -> Kernel:
    """Return a Lovasz extension of scores, whose derivative is a product with the slopes."""

    def both(scores: Array, labels: Array, valid: Array | None, per_image: bool) -> Any:
        """Return the value and its slopes: by NumPy on the host, by XLA elsewhere."""

        def portable(*arrays: Any) -> tuple[Array, Array]:
            losses, vjp = rule(NAMESPACE, *arrays, per_image, _lovasz_weights)
            return losses, vjp(jnp.ones_like(losses))

        sets = scores.shape[0] if per_image else 1
        like = (jax.eval_shape(lambda x: jnp.empty((sets, x.shape[1]), x.dtype), scores), scores)
        shared = partial(on_host, per_image=per_image)
        return on_cpu_host(shared, portable, like, jax.lax.stop_gradient(scores), labels, valid)

    @kernel(3)
    def extension(*arguments: Any) -> Array:
        return both(*arguments)[0]

    @extension.rule
    def _(dx: Array, *arguments: Any) -> tuple[Array, Array]:
        losses, slopes = both(*arguments)
        change = sum_positions(NAMESPACE, slopes * dx)
        return losses, change if arguments[3] else jnp.sum(change, axis=0, keepdims=True)

    return extension


lovasz_softmax = _lovasz(lovasz.softmax_extension, generic.lovasz_softmax)
lovasz_hinge = _lovasz(lovasz.hinge_extension, generic.lovasz_hinge)
