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
    quick = (_BY_LABEL if labelled else _SHORTER).get(formula, formula)
    both = keep and quick.both is not None
    sums, found = np.zeros(len(places), x.dtype), np.empty(0 if total else xs.shape, x.dtype)
    kept = np.empty(xs.shape if both else 0, x.dtype)

    def given(pool: Pool, form: Formula, n: int, at: slice) -> tuple[Any, ...]:
        block = xs[n, :, at]
        if ts is None:
            return pool.lent(block), None
        if not labelled:
            return pool.lent(block), pool.lent(ts[n, :, at])
        y = ts[n, 0, at]
        return pool.lent(block), hit(pool, y, block.shape) if form is formula else y

    def write(result: Any, n: int, at: slice, out: Array) -> Array:
        """Write the losses or slopes of a block, 0 where not valid, whatever was computed there."""
        if result is not out:
            np.copyto(out, array(result))
        if labelled and ms is not None:
            out[:, ~ms[n, 0, at]] = 0.0
        elif ms is not None:
            np.copyto(out, 0.0, where=~ms[n, :, at])
        return out

    def forward(pool: Pool, i: int) -> None:
        place = places[i]
        # A shorter form is right where its sum is finite; else the formula itself is asked.
        for form in dict.fromkeys((quick, formula)):
            arrays = given(pool, form, *place)
            if both:
                out = kept[place[0], :, place[1]]
                together: Any = form.both
                if form is not formula:  # a shorter form writes the slopes where they are kept
                    losses, slopes = together(XP, *arrays, pool.lent(out))[0], out
                else:
                    losses, slopes = together(XP, *arrays, *numbers) if together else _apart(form, arrays, numbers)
                write(slopes, *place, out)
            else:
                losses = form.losses(XP, *arrays, *numbers)
            if not total:
                out = write(losses, *place, found[place[0], :, place[1]])
                if form is formula:
                    return
            elif ms is None:
                out = array(losses)
            elif labelled:
                out = np.add.reduce(array(losses), axis=0)
                out[~ms[place[0], 0, place[1]]] = 0.0
            else:
                # In place where the losses are a tile of their own.
                own = type(losses) is Tile and losses.key is not None
                work = losses if own else pool.empty(arrays[0].a.shape)
                out = write(work.a if own else losses, *place, work.a)
            sums[i] = np.add.reduce(out, axis=None)
            if np.isfinite(sums[i]):
                return

    def vjp(g: Array) -> Array:
        gs = None if g.ndim == 0 else tiles.planes(g) if labelled else g.reshape((1, 1, -1))
        slopes = kept if both else np.empty(xs.shape, x.dtype)

        def back(pool: Pool, place: Any) -> None:
            n, at = place
            out = slopes[n, :, at]
            each = out if both else array(formula.slopes(XP, *given(pool, formula, n, at), *numbers))
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


def _apart(form: Formula, arrays: Any, numbers: Any) -> tuple[Any, Any]:
    return form.losses(XP, *arrays, *numbers), form.slopes(XP, *arrays, *numbers)


# Shorter forms of binary cross entropy ------------------------------------------------------------------------------


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
def _binary_both(xp: Namespace, x: Tile, t: Tile, slopes: Tile | None = None) -> tuple[Tile, Tile | None]:
    losses, work = _tail(x.a, x.pool, None if slopes is None else slopes.a), x.pool.empty(x.a.shape)
    np.subtract(np.greater(x.a, 0.0, out=work.a), t.a, out=work.a)
    losses.a += np.multiply(work.a, x.a, out=work.a)
    if slopes is not None:
        slopes.a -= t.a
    return losses, slopes


def _binary_by_label(xp: Namespace, x: Tile, y: Array, slopes: Tile | None = None) -> tuple[Tile, Tile | None]:
    """Return softplus of the scores turned round at the label."""
    turned, index = x.pool.empty(x.a.shape), np.arange(y.size)
    np.copyto(turned.a, x.a)
    turned.a[y, index] *= -1.0
    losses = _tail(turned.a, x.pool, None if slopes is None else slopes.a)
    losses.a += np.maximum(turned.a, 0.0, out=turned.a)
    if slopes is not None:
        slopes.a[y, index] *= -1.0
    return losses, slopes


def _shorter(both: Any) -> Formula:
    return Formula(
        lambda xp, x, t: both(xp, x, t)[0],
        lambda xp, x, t: both(xp, x, t, x.pool.empty(x.a.shape))[1],
        both,
    )


_SHORTER, _BY_LABEL = {BINARY: _shorter(_binary_both)}, {BINARY: _shorter(_binary_by_label)}
