"""Losses of positions over their classes, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss._machines.formula import CROSS, Array, Namespace, OfClasses
from arrayloss._machines.generic import classes as generic
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy import tiles
from arrayloss._machines.numpy.tiles import XP, Pool, Tile, array

# Rules work in place on what they keep, and can be used once.


@rule
def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None, *, keep: bool = True) -> Rule:
    zs = tiles.planes(z)
    ys, ms = tiles.rows(labels, zs), None if valid is None else tiles.rows(valid, zs)
    places = tiles.blocks(zs.shape, tiles.CLASSES)
    nll, totals = np.empty((2, zs.shape[0], zs.shape[2]), dtype=z.dtype)
    # Kept exponentials become the gradient: the logits are read once and one array of their size is written.
    kept = np.empty(zs.shape if keep else 0, dtype=z.dtype)
    index = np.arange(places[0][1].stop if places else 0)

    def forward(pool: Pool, place: Any) -> None:
        n, at = place
        block, y = zs[n, :, at], ys[n, at]
        work = None if keep else pool.empty(block.shape)
        e = kept[n, :, at] if work is None else work.a
        np.subtract(block, np.maximum.reduce(block, axis=0), out=e)
        at_label = e[y, index[: y.size]]
        np.exp(e, out=e)
        total = np.add.reduce(e, axis=0, out=totals[n, at])
        np.subtract(np.log(total), at_label, out=nll[n, at])

    def vjp(g: Array) -> Array:
        gs = tiles.rows(g, zs)

        def back(pool: Pool, place: Any) -> None:
            n, at = place
            y, q, g_at = ys[n, at], kept[n, :, at], gs[n, at]
            q *= g_at / totals[n, at]
            q[y, index[: y.size]] -= g_at
            if ms is not None:
                q[:, ~ms[n, at]] = 0.0

        tiles.run(z.dtype, back, places)
        return tiles.from_planes(kept, z.shape)

    tiles.run(z.dtype, forward, places)
    if ms is not None:
        nll[~ms] = 0.0
    return nll.reshape(labels.shape), vjp


@rule
def softmax(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    zs = tiles.planes(z)
    p, places = np.empty(zs.shape, dtype=z.dtype), tiles.blocks(zs.shape, tiles.CLASSES)

    def forward(pool: Pool, place: Any) -> None:
        n, at = place
        e = p[n, :, at]
        e /= exponentials(zs[n, :, at], e, e)

    def vjp(g: Array) -> Array:
        # Into p itself, which every later step has read by now: a tape is gone through once, from its end.
        gs = tiles.planes(g)

        def back(pool: Pool, place: Any) -> None:
            n, at = place
            block, q = gs[n, :, at], p[n, :, at]
            product = pool.empty(q.shape)
            np.multiply(block, q, out=product.a)
            q *= np.subtract(block, np.add.reduce(product.a, axis=0), out=product.a)

        tiles.run(z.dtype, back, places)
        return tiles.from_planes(p, z.shape)

    tiles.run(z.dtype, forward, places)
    if valid is not None:
        p.transpose((0, 2, 1))[~tiles.rows(valid, zs)] = 0.0
    return tiles.from_planes(p, z.shape), vjp


def exponentials(x: Array, shifted: Array, out: Array, scale: float = 1.0) -> Array:
    """Write scale (x - max(x)) of a block, and its exponential, into one array or two; return the sum of the latter."""
    np.subtract(x, np.maximum.reduce(x, axis=0), out=shifted)
    if scale != 1.0:
        shifted *= scale
    np.exp(shifted, out=out)
    return np.add.reduce(out, axis=0)


def hit(pool: Pool, labels: Array, shape: tuple[int, ...], on: float = 1.0, off: float = 0.0) -> Tile:
    """Return a tile `(C, P)` that is `on` at the labels and else `off`."""
    tile = pool.empty(shape)
    tile.a.fill(off)
    tile.a[labels, np.arange(labels.size)] = on
    return tile


def log_probabilities(pool: Pool, x: Array, scale: float, exact: bool) -> tuple[Tile, Tile]:
    """Return log p and p of a block. `exact`: p is that of the logarithm as it was rounded, which costs more."""
    log_p, p = pool.empty(x.shape), pool.empty(x.shape)
    d, e = log_p.a, p.a
    total = exponentials(x, d, e, scale)
    d -= np.log(total)
    if exact:
        np.exp(d, out=e)
    else:
        e *= np.divide(1.0, total, out=total)
    return log_p, p


@rule
def classes(
    xp: Namespace,
    z: Array,
    t: Array,
    field: Array | None,
    valid: Array | None,
    weight: Array | None,
    how: OfClasses,
    *,
    keep: bool = True,
) -> Rule:
    if z.size <= tiles.SMALL:
        return generic.classes(xp, z, t, field, valid, weight, how)
    zs = tiles.planes(z)
    labelled = t.ndim < z.ndim
    ts, fs = tiles.rows(t, zs) if labelled else tiles.planes(t), None if field is None else tiles.planes(field)
    ms = None if valid is None else tiles.rows(valid, zs)
    losses, slopes = np.empty((zs.shape[0], zs.shape[2]), dtype=z.dtype), np.empty(zs.shape if keep else 0, z.dtype)
    w = None if weight is None else weight[:, None]
    shares = generic.shares(how.smoothing, z.shape[1])
    places = tiles.blocks(zs.shape, tiles.CLASSES)
    #: Of smoothed labels, for each block: what the exponentials are to be scaled by, and the weight of the label.
    left: dict[tuple[int, int], tuple[Array, Any]] = {}

    def given(pool: Pool, n: int, at: slice, plain: bool) -> tuple[Tile, ...]:
        x, y = zs[n, :, at], ts[n, ..., at]
        if how.kind == "gap":
            gap, own = pool.empty(x.shape), hit(pool, y, x.shape)
            np.subtract(x, x[y, np.arange(y.size)], out=gap.a)
            gap.a[y, np.arange(y.size)] = 0.0
            return gap, own
        log_p, p = log_probabilities(pool, x, how.scale, how.kind == "teacher")
        operands: tuple[Tile, ...]
        if how.kind == "teacher":
            operands = log_probabilities(pool, y, how.scale, True)
        else:
            operands = (hit(pool, y, x.shape, *shares) if labelled else pool.lent(y),)
        if not plain and not labelled:
            for tile in (log_p, *operands[:-1]):
                np.copyto(tile.a, 0.0, where=operands[-1].a == 0.0)
        return (log_p, p, *operands) if fs is None else (log_p, p, *operands, pool.lent(fs[n, :, at]))

    def weighed(pool: Pool, x: Any, shape: tuple[int, ...], plain: bool) -> Array:
        """Return what a formula gave each class, by the weights of the classes."""
        x = np.broadcast_to(array(x), shape)
        if w is None:
            return x
        return np.multiply(x if plain else np.where(w != 0.0, x, 0.0), w)

    def linear(pool: Pool, n: int, at: slice) -> None:
        """Compute a block of CROSS, which is linear in the scores and in their normaliser: with a few sums."""
        x, y, shifted = zs[n, :, at], ts[n, ..., at], pool.empty(zs[n, :, at].shape)
        work = None if keep else pool.empty(x.shape)
        d, e = shifted.a, slopes[n, :, at] if work is None else work.a
        total = exponentials(x, d, e)
        if labelled:
            on, off = shares[0] - shares[1], shares[1]
            on, even = (on, np.add.reduce(d, axis=0)) if w is None else (on * w[y, 0], w[:, 0] @ d)
            mass = on + off * (x.shape[0] if w is None else np.sum(w))
            even *= off
            even += on * d[y, np.arange(y.size)]
        else:
            y = y if w is None else y * w
            mass, even = np.add.reduce(y, axis=0), np.einsum("cp,cp->p", y, d)
        np.subtract(mass * np.log(total), even, out=losses[n, at])
        if keep and labelled:
            # What is left to do is done on the way back, in passes that it takes anyhow.
            left[n, at.start] = np.divide(mass, total, out=total), on
        elif keep:
            e *= np.divide(mass, total, out=total)
            e -= y

    def compute(pool: Pool, n: int, at: slice, plain: bool) -> Any:
        """Compute a block; `plain`: as if nothing were infinite. Return the sum of its losses."""
        if plain and how.formula is CROSS and how.kind == "target":
            linear(pool, n, at)
        else:
            by_formula(pool, n, at, plain)
        if ms is not None:
            ignored = ~ms[n, at]
            losses[n, at][ignored] = 0.0
            if keep and (n, at.start) not in left:
                slopes[n, :, at][:, ignored] = 0.0
        return np.add.reduce(losses[n, at])

    def by_formula(pool: Pool, n: int, at: slice, plain: bool) -> None:
        left.pop((n, at.start), None)
        arrays = given(pool, n, at, plain)
        share = arrays[1].a
        each = weighed(pool, how.formula.losses(XP, *arrays, *how.numbers), share.shape, plain)
        np.add.reduce(each, axis=0, out=losses[n, at])
        if keep:
            out = slopes[n, :, at]
            each = weighed(pool, how.formula.slopes(XP, *arrays, *how.numbers), share.shape, plain)
            np.multiply(share, np.add.reduce(each, axis=0), out=out)
            np.subtract(each, out, out=out)

    def forward(pool: Pool, place: Any) -> None:
        # What rules infinities out costs more than most formulas, and is needed in few blocks.
        n, at = place
        if not np.isfinite(compute(pool, n, at, True)):
            compute(pool, n, at, False)

    def vjp(g: Array) -> Array:
        gs = tiles.rows(g * how.scale if how.scale != 1.0 else g, zs)
        if ms is not None:
            gs = np.where(ms, gs, 0.0)

        def back(pool: Pool, place: Any) -> None:
            n, at = place
            q, g_at = slopes[n, :, at], gs[n, at]
            if (n, at.start) not in left:
                q *= g_at
                return
            scale, on = left[n, at.start]
            q *= scale * g_at
            q -= g_at * shares[1] if w is None else w * (g_at * shares[1])
            q[ts[n, at], np.arange(g_at.size)] -= on * g_at
            if ms is not None:
                q[:, ~ms[n, at]] = 0.0

        tiles.run(z.dtype, back, places)
        return tiles.from_planes(slopes, z.shape)

    tiles.run(z.dtype, forward, places)
    return losses.reshape((z.shape[0], *z.shape[2:])), vjp
