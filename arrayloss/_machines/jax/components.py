"""Connected components of label maps, ranked by size."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import Array
from arrayloss._machines.generic.components import _least_neighbour, _neighbours
from arrayloss._machines.jax.compiled import NAMESPACE, kernel, on_cpu_host
from arrayloss._machines.numpy.components import ranked_components


@kernel(1)
def components(labels: Array, classes: int, most: int) -> Array:
    def portable(labels: Array) -> tuple[Array]:
        rows = labels.reshape((labels.shape[0], math.prod(labels.shape[1:])))
        return (jax.vmap(partial(_size_ranks, most=most))(rows, _roots(labels)).reshape(labels.shape),)

    (found,) = on_cpu_host(lambda labels: (ranked_components(labels, classes, most),), portable, (labels,), labels)
    return found


def _roots(labels: Array) -> Array:
    """Return the first position of the component of each position, `(N, P)`: the rounds of `generic`, by need."""
    images, positions = labels.shape[0], math.prod(labels.shape[1:])
    touching = _neighbours(NAMESPACE, labels)

    def join(root: Array) -> Array:
        near = _least_neighbour(NAMESPACE, root.reshape(labels.shape), touching).reshape(root.shape)
        parent = jax.vmap(lambda root, near: root.at[root].min(near))(root, near)
        # The end of each chain of parents.
        return _settled(jax.vmap(lambda parent: parent[parent]), parent)

    return _settled(join, jnp.broadcast_to(jnp.arange(positions, dtype=jnp.int32), (images, positions)))


def _settled(step: Callable[[Array], Array], x: Array) -> Array:
    """Return what steps lead to that change nothing any more."""

    def advance(state: tuple[Array, Array]) -> tuple[Array, Array]:
        following = step(state[0])
        return following, jnp.any(following != state[0])

    return jax.lax.while_loop(lambda state: state[1], advance, (x, jnp.asarray(True)))[0]


def _size_ranks(labels: Array, root: Array, most: int) -> Array:
    """Return the rank of each position's component among those of its label, by falling size, in one image."""
    index = jnp.arange(root.size, dtype=jnp.int32)
    size = jnp.zeros_like(root).at[root].add(1)
    # Roots of a label come together, the largest first; behind them, or before them, stands what is not ranked.
    label = jnp.where(root == index, labels, -1).astype(jnp.int32)
    label, _, place = jax.lax.sort((label, -size, index), num_keys=2, is_stable=True)
    fresh = jnp.concatenate([jnp.ones(min(1, root.size), dtype=bool), label[1:] != label[:-1]])
    rank = jnp.zeros_like(root).at[place].set(index - jax.lax.cummax(jnp.where(fresh, index, 0)))
    return jnp.where(labels >= 0, jnp.minimum(rank[root], most), most).astype(labels.dtype)
