"""Losses of entries, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss._machines.formula import BINARY, Array, Formula, Namespace
from arrayloss._machines.generic import entries as generic
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy import tiles
from arrayloss._machines.numpy.classes import hit
from arrayloss._machines.numpy.tiles import XP, Pool, Tile, array


@rule
def entry_losses(
    xp: Namespace,
    x: Array,
    t: Array | None,
    valid: Array | None,
    formula: Formula,
    *numbers: float,
    keep: bool = True,
    total: bool = False,
) -> Rule:
    if x.size <= tiles.SMALL:
        return (generic.entry_total if total else generic.entry_losses)(xp, x, t, valid, formula, *numbers)
    labelled = t is not None and t.ndim < x.ndim
    # Labels need their classes; entries that are alike lie in one row.
    xs: Array = tiles.planes(x) if labelled else x.reshape((1, 1, -1))
    ts, ms = (
        None if a is None else tiles.rows(a, xs)[:, None] if labelled else a.reshape(xs.shape) for a in (t, valid)
    )
    places = tiles.blocks(xs.shape, tiles.ENTRIES)
    shorter = (_BY_LABEL if labelled else _SHORTER).get(formula)
    both = keep and not (shorter is None and formula.both is None)
    sums, found = np.zeros(len(places), x.dtype), np.empty(0 if total else xs.shape, x.dtype)
    kept = np.empty(xs.shape if both else 0, x.dtype)

    def given(pool: Pool, n: int, at: slice) -> tuple[Tile, Tile | None]:
        block = xs[n, :, at]
        if ts is None:
            return pool.lent(block), None
        return pool.lent(block), hit(pool, ts[n, 0, at], block.shape) if labelled else pool.lent(ts[n, :, at])

    def write(result: Any, n: int, at: slice, out: Array) -> Array:
        """Write the losses or slopes of a block, 0 where not valid, whatever was computed there."""
        if result is not out:
            np.copyto(out, array(result))
        if labelled and ms is not None:
            out[:, ~ms[n, 0, at]] = 0.0
        elif ms is not None:
            np.copyto(out, 0.0, where=~ms[n, :, at])
        return out

    def settle(pool: Pool, i: int, losses: Any) -> Any:
        """Write the losses of a block, or their sum; return whether that is finite."""
        n, at = places[i]
        if not total:
            out = write(losses, n, at, found[n, :, at])
        elif ms is None:
            out = array(losses)
        elif labelled:
            out = np.add.reduce(array(losses), axis=0)
            out[~ms[n, 0, at]] = 0.0
        else:
            # In place where the losses are a tile of their own.
            own = type(losses) is Tile and losses.key is not None
            work = losses if own else pool.empty(xs[n, :, at].shape)
            out = write(work.a if own else losses, n, at, work.a)
        if total or shorter is not None:
            sums[i] = np.add.reduce(out, axis=None)
        return np.isfinite(sums[i])

    def forward(pool: Pool, i: int) -> None:
        n, at = places[i]
        slopes = kept[n, :, at] if both else None
        if shorter is not None and ts is not None:
            losses = shorter(pool.lent(xs[n, :, at]), ts[n, 0, at] if labelled else ts[n, :, at], slopes)
            if slopes is not None:
                write(slopes, n, at, slopes)
            # It is right where its sum is finite; else the formula itself is asked.
            if settle(pool, i, losses):
                return
        arrays = given(pool, n, at)
        if slopes is None:
            losses = formula.losses(XP, *arrays, *numbers)
        elif formula.both is not None:
            losses, each = formula.both(XP, *arrays, *numbers)
            write(each, n, at, slopes)
        else:
            losses = formula.losses(XP, *arrays, *numbers)
            write(formula.slopes(XP, *arrays, *numbers), n, at, slopes)
        settle(pool, i, losses)

    def vjp(g: Array) -> Array:
        gs = None if g.ndim == 0 else tiles.planes(g) if labelled else g.reshape((1, 1, -1))
        slopes = kept if both else np.empty(xs.shape, x.dtype)

        def back(pool: Pool, place: Any) -> None:
            n, at = place
            out = slopes[n, :, at]
            each = out if both else array(formula.slopes(XP, *given(pool, n, at), *numbers))
            np.multiply(each, g if gs is None else gs[n, :, at], out=out)
            if not (both and gs is None):  # else it is masked already
                write(out, n, at, out)

        tiles.run(x.dtype, back, places)
        return laid_out(slopes)

    def laid_out(a: Array) -> Array:
        return tiles.from_planes(a, x.shape) if labelled else a.reshape(x.shape)

    tiles.run(x.dtype, forward, list(range(len(places))))
    return (np.sum(sums) if total else laid_out(found)), vjp


@rule
def entry_total(xp: Namespace, *arguments: Any, keep: bool = True) -> Rule:
    return entry_losses(xp, *arguments, keep=keep, total=True)


# Shorter forms of binary cross entropy: of a block of scores, its targets and, where slopes are wanted, where these are
# written. They return the losses.


def _tail(x: Array, pool: Pool, sigmoid: Array | None) -> Tile:
    """Return log(1 + exp(-|x|)) and, where it is wanted, write sigmoid(x)."""
    tile = pool.empty(x.shape)
    out = tile.a
    np.exp(np.negative(np.abs(x, out=out), out=out), out=out)
    if sigmoid is not None:
        # max([x >= 0], exp(-|x|)) / (1 + exp(-|x|)), since the exponential is at most 1.
        whole = pool.empty(x.shape)
        np.maximum(out, x >= 0.0, out=sigmoid)
        np.divide(sigmoid, np.add(out, 1.0, out=whole.a), out=sigmoid)
    np.log1p(out, out=out)
    return tile


# What is added to the tail is the size of the score, times the share that is on the other side: softplus(x) - x t would
# cancel where a score is large and right.
def _binary(x: Tile, t: Array, slopes: Array | None) -> Tile:
    losses, work = _tail(x.a, x.pool, slopes), x.pool.empty(x.a.shape)
    np.subtract(np.greater(x.a, 0.0, out=work.a), t, out=work.a)
    losses.a += np.multiply(work.a, x.a, out=work.a)
    if slopes is not None:
        slopes -= t
    return losses


def _binary_by_label(x: Tile, y: Array, slopes: Array | None) -> Tile:
    """Return softplus of the scores turned round at the label."""
    turned, index = x.pool.empty(x.a.shape), np.arange(y.size)
    np.copyto(turned.a, x.a)
    turned.a[y, index] *= -1.0
    losses = _tail(turned.a, x.pool, slopes)
    losses.a += np.maximum(turned.a, 0.0, out=turned.a)
    if slopes is not None:
        slopes[y, index] *= -1.0
    return losses


_SHORTER, _BY_LABEL = {BINARY: _binary}, {BINARY: _binary_by_label}
