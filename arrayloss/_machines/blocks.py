"""Losses of entries and of positions, block by block: what lies between stays in the cache.

For NumPy, and torch on the host.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from arrayloss._machines.generic import Array, Formula, Namespace, Rule, _ruled_in, _weighed, where_or


def entries_rule(
    library: Any,
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

    The formula is given `xp`; what is called once for each block besides is of the module `library` itself, to save
    time. The rule computes slopes anew: that is cheaper than to write them and read them again, and nothing is kept.
    """
    flat, shape = library.reshape(x, (-1,)), tuple(x.shape)
    given = _split(library, size, flat, t, valid)

    def each(of: Any) -> Iterator[Array]:
        for x, t, valid in given:
            if valid is None:
                yield of(xp, x, t, *options)
            else:
                yield library.where(valid, of(xp, library.where(valid, x, 0.0), t, *options), 0.0)

    def vjp(g: Array) -> Array:
        gradient = library.empty_like(flat)
        scales = _split(library, size, g) if g.ndim else itertools.repeat((g,))
        for slopes, (scale,), (out,) in zip(
            each(formula.slopes), scales, _split(library, size, gradient), strict=False
        ):
            library.multiply(slopes, scale, out=out)
        return library.reshape(gradient, shape)

    if total:
        sums = [losses.sum() for losses in each(formula.losses)]
        return library.sum(library.stack(sums)) if sums else library.sum(x), vjp
    found = library.empty_like(flat)
    for losses, (out,) in zip(each(formula.losses), _split(library, size, found), strict=True):
        out[...] = losses
    return library.reshape(found, shape), vjp


def _split(library: Any, size: int, x: Array, *arrays: Array | None) -> list[tuple[Any, ...]]:
    """Return the blocks of `size` entries of x and of arrays like it, side by side; None for one that is None."""

    def blocks(a: Array | None) -> Any:
        if a is None:
            return itertools.repeat(None)
        a = library.reshape(a, (-1,))
        # torch alone has this method, and its slices are slow.
        return a.split(size) if hasattr(a, "split") else [a[i : i + size] for i in range(0, a.shape[0], size)]

    number = -(-math.prod(x.shape) // size)
    return list(itertools.islice(zip(*map(blocks, (x, *arrays)), strict=False), number))


def both_rule(
    xp: Namespace,
    size: int,
    x: Array,
    t: Array | None,
    valid: Array | None,
    total: bool,
    formula: Formula,
    *options: float,
) -> Rule:
    """Return what `entries_rule` returns, by a formula that gives losses and slopes in one go.

    Its slopes are kept and become the gradient: the rule works in place and is used once.
    """
    assert formula.both is not None
    flat, shape = xp.reshape(x, (-1,)), tuple(x.shape)
    kept, found = xp.empty_like(flat), None if total else xp.empty_like(flat)
    sums = []
    for part, target, mask, slopes_out, losses_out in _split(xp, size, flat, t, valid, kept, found):
        losses, slopes = formula.both(xp, where_or(xp, mask, part, 0.0), target, *options)
        losses, slopes_out[...] = where_or(xp, mask, losses, 0.0), where_or(xp, mask, slopes, 0.0)
        if losses_out is None:
            sums.append(xp.sum(losses))
        else:
            losses_out[...] = losses

    def vjp(g: Array) -> Array:
        g = g if g.ndim == 0 else xp.reshape(g, (-1,))
        return xp.reshape(xp.multiply(kept, g, out=kept), shape)

    if found is not None:
        return xp.reshape(found, shape), vjp
    return xp.sum(xp.stack(sums)) if sums else xp.sum(x), vjp


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
    zs, ts, ms = by_position(xp, z, t, valid)
    losses, slopes = xp.empty_like(zs[:, :1, :]), xp.empty_like(zs) if keep else None
    per_class = None if weight is None else xp.reshape(weight, (1, -1, 1))

    def compute(place: Any, plain: bool) -> Any:
        """Compute a block; `plain`: as if nothing were ignored, infinite or NaN. Return the sum of its losses."""
        mask = None if ms is None or plain else ms[place]
        (log_p, p), (log_q, q) = (_log_probabilities(xp, where_or(xp, mask, x[place], 0.0), scale) for x in (zs, ts))
        if not plain:
            log_p, log_q = _ruled_in(xp, log_p, log_q, q)

        def weighed(x: Array) -> Array:
            return _weighed(xp, weight, x) if not plain else x if per_class is None else x * per_class

        losses[place] = xp.sum(weighed(formula.losses(xp, log_p, log_q, p, q)), axis=1, keepdims=True)
        if slopes is not None:
            each = weighed(formula.slopes(xp, log_p, log_q, p, q))
            p *= xp.sum(each, axis=1, keepdims=True)
            xp.subtract(each, p, out=slopes[place])
        return xp.sum(losses[place])

    for place in tiles(zs.shape, size):
        # Masks cost more than the formula, and are needed in few blocks.
        if not math.isfinite(compute(place, True)):
            compute(place, False)

    def vjp(g: Array) -> Array:
        g = where_or(xp, ms, xp.reshape(g, losses.shape), 0.0) * scale
        return xp.reshape(xp.multiply(slopes, g, out=slopes), z.shape)

    return xp.reshape(where_or(xp, ms, losses, 0.0), (z.shape[0], *z.shape[2:])), vjp


def gap_losses_rule(
    xp: Namespace,
    size: int,
    put: Callable[[Array, Array, Any], None],
    z: Array,
    labels: Array,
    valid: Array | None,
    formula: Formula,
    *options: float,
) -> Rule:
    """Return the losses of `gap_losses` and the rule, which computes slopes anew.

    `put` writes into an array, along axis 1 at an index, an array of the shape of the index or a number.
    """
    zs, ys, ms = by_position(xp, z, labels, valid)
    losses = xp.empty_like(zs[:, :1, :])
    unclean = []

    def each(of: Any, place: Any, plain: bool) -> Array:
        part = where_or(xp, None if ms is None or plain else ms[place], zs[place], 0.0)
        found = of(xp, part - xp.take_along_axis(part, ys[place], axis=1), None, *options)
        put(found, ys[place], 0.0)
        return found

    for place in tiles(zs.shape, size):
        for plain in (True, False):
            losses[place] = xp.sum(each(formula.losses, place, plain), axis=1, keepdims=True)
            if math.isfinite(xp.sum(losses[place])):
                break
            unclean.append(place)

    def vjp(g: Array) -> Array:
        g = where_or(xp, ms, xp.reshape(g, ys.shape), 0.0)
        gradient = xp.empty_like(zs)
        for place in tiles(zs.shape, size):
            slopes = each(formula.slopes, place, place not in unclean)
            put(slopes, ys[place], -xp.sum(slopes, axis=1, keepdims=True))
            xp.multiply(slopes, g[place], out=gradient[place])
        return xp.reshape(gradient, z.shape)

    return xp.reshape(where_or(xp, ms, losses, 0.0), labels.shape), vjp


def _log_probabilities(xp: Namespace, z: Array, scale: float) -> tuple[Array, Array]:
    """Return what the portable form does, made in place: memory asked for anew costs as much as the arithmetic."""
    log_p = z - xp.max(z, axis=1, keepdims=True)
    if scale != 1.0:
        log_p *= scale
    log_p -= xp.log(xp.sum(xp.exp(log_p), axis=1, keepdims=True))
    return log_p, xp.exp(log_p)


def by_position(xp: Namespace, z: Array, *arrays: Array | None) -> list[Any]:
    """Return `(N, C, *S)`, and arrays of that shape or of the positions, as `(N, classes or 1, positions)`."""
    images, positions = z.shape[0], math.prod(z.shape[2:])
    return [
        None if a is None else xp.reshape(a, (images, a.shape[1] if a.ndim == z.ndim else 1, positions))
        for a in (z, *arrays)
    ]


def tiles(shape: tuple[int, ...], size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Give the places of blocks of about `size` entries in `(N, C, positions)`, all classes in each.

    They are about as wide as each other: a sum over the classes of a single position is made in another order, and
    positions that tie would tie no more.
    """
    images, classes, positions = shape
    wide = -(-positions // max(1, -(-positions * classes // size))) or 1
    high = max(1, size // (classes * wide))
    for n in range(0, images, high):
        for start in range(0, positions, wide):
            yield slice(n, n + high), slice(None), slice(start, start + wide)
