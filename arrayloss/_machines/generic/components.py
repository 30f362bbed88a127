"""Connected components of label maps, ranked by size; the class with the largest score."""

from __future__ import annotations

import itertools
import math

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.namespace import device_of


def top_class(xp: Namespace, z: Array) -> Array:
    """Return the class with the largest score, the first of equal ones, shape `(N, *S)`."""
    return xp.argmax(z, axis=1)


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    """Return the rank of the connected component of each position among those of its label in its image, by size.

    Positions of equal label that share a side or a corner are connected (8 neighbours in an image, 26 in a volume), in
    any number of steps. The largest component has rank 0, of equal ones the one whose first position comes first.
    `most` stands for all ranks from there on, and where the label is negative: such positions connect nothing.
    """
    if math.prod(labels.shape) == 0:
        return xp.full_like(labels, most)
    positions = math.prod(labels.shape[1:])
    index = xp.arange(labels.shape[0] * positions, dtype=xp.int64, device=device_of(labels))
    root, label = _roots(xp, labels, index, positions), xp.astype(xp.reshape(labels, (-1,)), xp.int64)
    ordered = xp.sort(root)
    sizes = xp.searchsorted(ordered, index, side="right") - xp.searchsorted(ordered, index)
    # Roots alone are ranked: by image and label, then by falling size, then by place.
    group = xp.where(
        (root == index) & (label >= 0),
        index // positions * classes + label,
        xp.full_like(index, labels.shape[0] * classes),
    )
    keys = group * (positions + 1) + (positions - xp.astype(sizes, index.dtype))
    order = xp.argsort(keys)
    ordered = xp.take(keys, order)
    begins = xp.searchsorted(ordered, ordered // (positions + 1) * (positions + 1))
    ranks = xp.take(index - xp.astype(begins, index.dtype), xp.argsort(order))
    beyond = xp.full_like(index, most)
    ranks = xp.where(label >= 0, xp.minimum(xp.take(ranks, root), beyond), beyond)
    return xp.reshape(xp.astype(ranks, labels.dtype), labels.shape)


def _roots(xp: Namespace, labels: Array, index: Array, positions: int) -> Array:
    """Return the first position of the component of each position, as an index into the flat batch.

    Positions found to be connected so far are a set, named by the first of them. In a round every set joins the first
    of its neighbours that comes before it. Of two rounds each leaves no set alone that can grow: one that comes before
    all of its neighbours, and that none of them joins in the first round, sees each of them join an earlier one, and
    so joins that itself in the second. Two rounds therefore halve the number of sets in a component at least, whatever
    its shape, and their number is known without reading anything.
    """
    touching = _neighbours(xp, labels)
    root, size = index, index.shape[0]
    left = positions
    while left > 1:
        for _ in range(2):
            near = xp.reshape(_least_neighbour(xp, xp.reshape(root, labels.shape), touching), (-1,))
            # The least of each set: the first of its keys, in order.
            keys = xp.sort(root * size + near)
            begins = xp.minimum(xp.searchsorted(keys, index * size), xp.full_like(index, size - 1))
            parent = xp.where(root == index, xp.take(keys, begins) % size, root)
            for _ in range(left.bit_length()):
                parent = xp.take(parent, parent)
            root = parent
        left //= 2
    return root


def _neighbours(xp: Namespace, labels: Array) -> list[tuple[tuple[int, ...], Array]]:
    """Return each step to a neighbour, as `roll` takes it, and where it leads to one of the same label."""
    space = labels.shape[1:]
    found = []
    for step in itertools.product((-1, 0, 1), repeat=len(space)):
        if not any(step):
            continue
        touch = (labels >= 0) & (xp.roll(labels, step, axis=tuple(range(1, labels.ndim))) == labels)
        for axis, (shift, length) in enumerate(zip(step, space, strict=True)):
            place = xp.arange(length, dtype=labels.dtype, device=device_of(labels))
            inside = (place >= shift) & (place < length + shift)
            touch = touch & xp.reshape(inside, tuple(length if i == axis + 1 else 1 for i in range(labels.ndim)))
        found.append((step, touch))
    return found


def _least_neighbour(xp: Namespace, x: Array, touching: list[tuple[tuple[int, ...], Array]]) -> Array:
    """Return the least of the entries of each position and of its neighbours of the same label."""
    least = x
    for step, touch in touching:
        rolled = xp.roll(x, step, axis=tuple(range(1, x.ndim)))
        least = xp.where(touch, xp.minimum(least, rolled), least)
    return least
