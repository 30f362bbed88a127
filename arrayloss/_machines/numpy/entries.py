"""Losses of entries, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss._machines.formula import BINARY, Array, Formula, Namespace
from arrayloss._machines.generic import entries as generic
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy import tiles
from arrayloss._machines.numpy.tiles import XP, Block, Blocks, Tile, array


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
    shape, labelled = x.shape, t is not None and t.ndim < x.ndim
    if not labelled:
        # Entries that are alike lie in one row, of which each is a position.
        x, t = (None if a is None else a.reshape((1, 1, -1)) for a in (x, t))
        valid = None if valid is None else valid.reshape((1, -1))
    call = Blocks(x, valid, tiles.ENTRIES)
    xs, ts = call.planes(x), None if t is None else call.planes(t)
    shorter = formula is BINARY
    both = keep and (shorter or formula.both is not None)
    kept, found = call.empty() if both else None, None if total else call.empty()
    sums = np.zeros(len(call.places), x.dtype)

    def given(b: Block) -> tuple[Tile, Tile | None]:
        return b.lent(b(xs)), None if ts is None else b.hit(b(ts)) if labelled else b.lent(b(ts))

    def settle(b: Block, losses: Any) -> bool:
        """Write the losses of a block, 0 where not valid, or their sum; return whether that is finite."""
        if found is not None:
            out = b(found)
            np.copyto(out, array(losses))
        else:
            out = array(losses) if valid is None else np.add.reduce(array(losses), axis=0)
        b.clear(out)
        if total or shorter:
            sums[b.number] = np.add.reduce(out, axis=None)
        return bool(np.isfinite(sums[b.number]))

    def forward(b: Block) -> None:
        if shorter and settle(b, _binary(b, b(xs), b(ts), labelled, kept)):
            return
        if both and formula.both is not None:
            losses, each = formula.both(XP, *given(b), *numbers)
            np.copyto(b(kept), array(each))
        else:
            losses = formula.losses(XP, *given(b), *numbers)
        settle(b, losses)

    def vjp(g: Array) -> Array:
        gs = None if g.ndim == 0 else call.planes(g.reshape(x.shape))
        slopes = call.empty() if kept is None else kept

        def back(b: Block) -> None:
            out = b(slopes)
            each = out if both else array(formula.slopes(XP, *given(b), *numbers))
            np.multiply(each, g if gs is None else b(gs), out=out)
            b.clear(out)

        call.run(back)
        return call.restored(slopes).reshape(shape)

    call.run(forward)
    return np.sum(sums) if found is None else call.restored(found).reshape(shape), vjp


@rule
def entry_total(xp: Namespace, *arguments: Any, keep: bool = True) -> Rule:
    return entry_losses(xp, *arguments, keep=keep, total=True)


def _binary(b: Block, x: Array, t: Array, labelled: bool, kept: Array | None) -> Tile:
    """Return BINARY of a block where that is finite and, where they are wanted, write the slopes.

    The cross entropy of labels is softplus of the scores turned round at the label.
    """
    tail, work, slopes = b.empty(), b.empty(), None if kept is None else b(kept)
    if labelled:
        turned = b.empty()
        np.copyto(turned.a, x)
        turned.a.reshape(-1)[t * len(b.index) + b.index] *= -1.0
        x = turned.a
    np.exp(np.negative(np.abs(x, out=tail.a), out=tail.a), out=tail.a)
    if slopes is not None:
        # sigmoid(x) is max([x >= 0], exp(-|x|)) / (1 + exp(-|x|)), since the exponential is at most 1.
        np.maximum(tail.a, x >= 0.0, out=slopes)
        slopes /= np.add(tail.a, 1.0, out=work.a)
    np.log1p(tail.a, out=tail.a)
    if labelled:
        np.maximum(x, 0.0, out=work.a)
    else:
        # What is added to log(1 + exp(-|x|)) is the size of the score, times the share that is on the other side:
        # softplus(x) - x t would cancel where a score is large and right.
        np.subtract(np.greater(x, 0.0, out=work.a), t, out=work.a)
        work.a *= x
    tail.a += work.a
    if kept is not None and labelled:
        plane, places = b.flat(kept, t)
        plane[places] *= -1.0
    elif slopes is not None:
        slopes -= t
    return tail
