"""Losses of entries and of positions, block by block: what lies between stays in the cache.

For NumPy, and torch on the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from arrayloss._kernels.generic import Array, Formula, Namespace, Rule, _log_probabilities, _weighed, one_hot


def entries_rule(
    xp: Namespace,
    size: int,
    x: Array,
    t: Array | None,
    valid: Array | None,
    total: bool,
    formula: Formula,
    *options: float,
) -> Rule:
    """Return the losses of a formula or their total, and the rule, both computed `size` entries at a time.

    The rule computes slopes anew: that is cheaper than to write them and read them again, and nothing is kept.
    """
    number, shape = math.prod(x.shape), tuple(x.shape)
    flat = [None if a is None else xp.reshape(a, (-1,)) for a in (x, t, valid)]
    blocks = [slice(start, start + size) for start in range(0, number, size)]

    def each(of: Any) -> Iterator[tuple[slice, Array]]:
        for at in blocks:
            x, t, valid = (None if a is None else a[at] for a in flat)
            yield at, _where(xp, valid, of(xp, _where(xp, valid, x), t, *options))

    def vjp(g: Array) -> Array:
        gradient = xp.empty_like(flat[0])
        g = g if g.ndim == 0 else xp.reshape(g, (-1,))
        for at, slopes in each(formula.slopes):
            xp.multiply(slopes, g if g.ndim == 0 else g[at], out=gradient[at])
        return xp.reshape(gradient, shape)

    if total:
        sums = [xp.sum(losses) for _, losses in each(formula.losses)]
        return xp.sum(xp.stack(sums)) if sums else xp.sum(x), vjp
    found = xp.empty_like(flat[0])
    for at, losses in each(formula.losses):
        found[at] = losses
    return xp.reshape(found, shape), vjp


def divergence_rule(
    xp: Namespace,
    size: int,
    z: Array,
    t: Array,
    valid: Array | None,
    weight: Array | None,
    scale: float,
    formula: Formula,
    keep: bool,
) -> Rule:
    """Return the losses of `divergence` and, given `keep`, the rule, used once: its slopes become the gradient."""
    zs, ts, ms = _by_position(xp, z, t, valid)
    losses, slopes = xp.empty_like(zs[:, :1, :]), xp.empty_like(zs) if keep else None
    for n, at in _tiles(zs.shape, size):
        mask = None if ms is None else ms[n, :, at]
        (log_p, p), (log_q, q) = (_log_probabilities(xp, _where(xp, mask, x[n, :, at]), scale) for x in (zs, ts))
        each = _weighed(xp, weight, formula.losses(xp, log_p, log_q, p, q))
        losses[n, :, at] = _where(xp, mask, xp.sum(each, axis=1, keepdims=True))
        if slopes is not None:
            each = _weighed(xp, weight, formula.slopes(xp, log_p, log_q, p, q))
            p *= xp.sum(each, axis=1, keepdims=True)
            xp.subtract(each, p, out=slopes[n, :, at])

    def vjp(g: Array) -> Array:
        g = _where(xp, ms, xp.reshape(g, losses.shape)) * scale
        return xp.reshape(xp.multiply(slopes, g, out=slopes), z.shape)

    return xp.reshape(losses, (z.shape[0], *z.shape[2:])), vjp


def gap_losses_rule(
    xp: Namespace,
    size: int,
    z: Array,
    labels: Array,
    valid: Array | None,
    formula: Formula,
    *options: float,
) -> Rule:
    """Return the losses of `gap_losses` and the rule, which computes slopes anew."""
    zs, ys, ms = _by_position(xp, z, labels, valid)

    def each(of: Any) -> Iterator[tuple[Any, Any, Array, Array]]:
        for n, at in _tiles(zs.shape, size):
            part, y = _where(xp, None if ms is None else ms[n, :, at], zs[n, :, at]), ys[n, :, at]
            own = one_hot(xp, y[:, 0, :], zs.shape[1])
            found = of(xp, part - xp.take_along_axis(part, y, axis=1), None, *options)
            yield n, at, own, _where(xp, ~own, found)

    def vjp(g: Array) -> Array:
        g = _where(xp, ms, xp.reshape(g, ys.shape))
        gradient = xp.empty_like(zs)
        for n, at, own, slopes in each(formula.slopes):
            slopes = xp.where(own, -xp.sum(slopes, axis=1, keepdims=True), slopes)
            xp.multiply(slopes, g[n, :, at], out=gradient[n, :, at])
        return xp.reshape(gradient, z.shape)

    losses = xp.empty_like(zs[:, :1, :])
    for n, at, _, found in each(formula.losses):
        losses[n, :, at] = xp.sum(found, axis=1, keepdims=True)
    return xp.reshape(_where(xp, ms, losses), labels.shape), vjp


def _by_position(xp: Namespace, z: Array, *arrays: Array | None) -> list[Any]:
    """Return `(N, C, *S)`, and arrays of that shape or of the positions, as `(N, classes or 1, positions)`."""
    images, positions = z.shape[0], math.prod(z.shape[2:])
    return [
        None if a is None else xp.reshape(a, (images, a.shape[1] if a.ndim == z.ndim else 1, positions))
        for a in (z, *arrays)
    ]


def _tiles(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, slice]]:
    """Give the places of blocks of about `size` entries in `(N, C, positions)`, all classes in each.

    They are about as wide as each other: a sum over the classes of a single position is made in another order, and
    positions that tie would tie no more.
    """
    images, classes, positions = shape
    wide = -(-positions // max(1, -(-positions * classes // size))) or 1
    high = max(1, size // (classes * wide))
    for n in range(0, images, high):
        for start in range(0, positions, wide):
            yield slice(n, n + high), slice(start, start + wide)


def _where(xp: Namespace, mask: Array | None, x: Array) -> Array:
    return x if mask is None else xp.where(mask, x, xp.zeros_like(x))
