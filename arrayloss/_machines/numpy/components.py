"""Connected components on the host, by NumPy: runs of equal labels along the last axis, joined where they touch."""

from __future__ import annotations

import itertools
import math

import numpy as np

from arrayloss._machines.formula import Array, Namespace


def top_class(xp: Namespace, z: Array) -> Array:
    # Class by class: NumPy's argmax over an axis that is not the last goes position by position.
    top, found = z[:, 0].copy(), np.zeros((z.shape[0], *z.shape[2:]), dtype=np.intp)
    for c in range(1, z.shape[1]):
        np.copyto(found, c, where=z[:, c] > top)
        np.maximum(top, z[:, c], out=top)
    return found


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    return ranked_components(labels, classes, most)


@np.errstate(all="ignore")
def ranked_components(labels: Array, classes: int, most: int) -> Array:
    """Return what `generic.components` returns."""
    if labels.size == 0:
        return np.full_like(labels, most)
    grid = labels if labels.ndim > 1 else labels[:, None]
    fresh = np.ones(grid.shape, dtype=bool)
    np.not_equal(grid[..., 1:], grid[..., :-1], out=fresh[..., 1:])
    place = np.flatnonzero(fresh)
    length = np.diff(place, append=grid.size)
    joined = _joined(len(place), *_touching(grid, fresh))
    # Components are numbered by their first run: in the order of their first positions.
    first = np.flatnonzero(joined == np.arange(len(joined)))
    number = np.empty_like(joined)
    number[first] = np.arange(len(first))
    number = number[joined]
    sizes = np.bincount(number, weights=length).astype(np.int64)
    image, label = place[first] // math.prod(labels.shape[1:]), grid.reshape(-1)[place[first]]
    ranks = _ranks(image * classes + label, sizes, label >= 0, most)
    return np.repeat(ranks[number].astype(labels.dtype), length).reshape(labels.shape)


def _touching(grid: Array, fresh: Array) -> tuple[Array, Array]:
    """Return the runs that touch, a pair in two arrays, where equal labels of at least 0 are neighbours."""
    run = np.cumsum(fresh.reshape(-1)).reshape(grid.shape) - 1
    space, pairs = grid.ndim - 2, []
    # Half of the neighbours: the other half sees the same pairs. Within a row runs of equal labels never touch.
    ahead = [step for step in itertools.product((-1, 0, 1), repeat=space) if step > (0,) * space]
    for step in itertools.product(ahead, (-1, 0, 1)):
        here, there = zip(*(_cuts(d, n) for d, n in zip((*step[0], step[1]), grid.shape[1:], strict=True)), strict=True)
        here, there = (slice(None), *here), (slice(None), *there)
        touch = (grid[here] == grid[there]) & (grid[here] >= 0)
        # A pair of runs touches over and over along a row: once will do, where one of them begins or comes into view.
        begins = fresh[here] | fresh[there]
        begins[..., :1] = True
        touch &= begins
        pairs.append((run[here][touch], run[there][touch]))
    if not pairs:
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    one, other = zip(*pairs, strict=True)
    return np.concatenate(one), np.concatenate(other)


def _cuts(step: int, length: int) -> tuple[slice, slice]:
    """Return the positions along an axis that have a neighbour a step ahead, and those neighbours."""
    return slice(max(-step, 0), length - max(step, 0)), slice(max(step, 0), length - max(-step, 0))


def _joined(count: int, one: Array, other: Array) -> Array:
    """Return the first member of the set of each of `count` members, given pairs that belong together.

    As `generic.components` does: every set is hung below the first of its neighbours, which halves their number in
    two rounds, and then all chains are shortened.
    """
    parent = np.arange(count)
    while one.size:
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(above := parent[parent], parent):
            parent = above
        one, other = parent[one], parent[other]
        apart = one != other
        one, other = one[apart], other[apart]
    return parent


def _ranks(groups: Array, sizes: Array, valid: Array, most: int) -> Array:
    """Return the rank of every component in its group by falling size, `most` beyond that and where not valid."""
    ranks = np.full(len(groups), most)
    members = np.flatnonzero(valid)
    order = members[np.lexsort((-sizes[members], groups[members]))]
    ordered = groups[order]
    ranks[order] = np.minimum(np.arange(len(order)) - np.searchsorted(ordered, ordered), most)
    return ranks
