"""Sums over regions, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss._machines.formula import AREAS, Array, Formula, Namespace
from arrayloss._machines.generic import regions as generic
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy.classes import probabilities
from arrayloss._machines.numpy.places import label_counts
from arrayloss._machines.numpy.tiles import XP, Block, Blocks, Tile, array


def _by_plane(sums: Array, call: Blocks) -> Array:
    """Return the sums of blocks `(blocks, K, C)` of each image, `(K, N, C)`, added in their order."""
    found = np.zeros((call.shape[0], *sums.shape[1:]))
    np.add.at(found, [n for n, _ in call.places], sums)
    return found.transpose((1, 0, 2)).astype(call.dtype)


def _label_areas(z: Array, labels: Array, valid: Array | None, keep: bool) -> Rule:
    """Return AREAS of labels under softmax: what overlaps is picked, and not multiplied."""
    call, count = Blocks(z, valid, apart=True), z.shape[1]
    zs, ys, kept = call.planes(z), call.planes(labels), call.empty() if keep else None
    sums = np.empty((len(call.places), 2, count))

    def forward(b: Block) -> None:
        y, work = b(ys), b.into(kept)
        probabilities(b, b(zs), work.a)
        sums[b.number, 0] = np.bincount(y, weights=work.a[y, b.index], minlength=count)
        sums[b.number, 1] = np.add.reduce(work.a, axis=1)

    def vjp(g: Array) -> Array:
        def back(b: Block) -> None:
            y, q, shift, each = b(ys), b(kept), b.empty(), g[1, b.plane]
            plane, places = b.flat(kept, y)
            at_label = plane[places] * g[0, b.plane][y]
            q *= np.subtract(each[:, None], each @ q + at_label, out=shift.a)
            plane[places] += at_label

        call.run(back)
        return call.restored(kept)

    call.run(forward)
    true = label_counts(np, labels, valid, count, z.dtype)
    return np.stack([*_by_plane(sums, call), true]), vjp


@rule
def regions(
    xp: Namespace,
    z: Array,
    t: Array,
    valid: Array | None,
    activation: str | None,
    formula: Formula,
    *numbers: float,
    keep: bool = True,
) -> Rule:
    labelled = t.ndim < z.ndim
    if z.size == 0:
        return generic.regions(xp, z, t, valid, activation, formula, *numbers)
    if labelled and activation == "softmax" and formula is AREAS:
        return _label_areas(z, t, valid, keep)
    call = Blocks(z, valid, apart=True)
    zs, ts = call.planes(z), call.planes(t)
    found: list[Any] = [None] * len(call.places)

    def given(b: Block) -> tuple[Tile, Tile, list[Tile]]:
        """Return the probabilities and the truth of a block, 0 where not valid, and factors of the former's slopes."""
        p, truth, factors = b.lent(b(zs)), b.hit(b(ts)) if labelled else b.lent(b(ts)), []
        if activation == "softmax":
            p = b.empty()
            probabilities(b, b(zs), p.a)
        elif activation == "sigmoid":
            p, *factors = _sigmoid(b, b(zs))
        return b.cleared(p), b.cleared(truth), factors

    def forward(b: Block) -> None:
        p, truth, _ = given(b)
        each = (array(x) for x in formula.losses(XP, p, truth, *numbers))
        found[b.number] = [np.add.reduce(np.broadcast_to(x, b.shape), axis=1, dtype=z.dtype) for x in each]

    def vjp(g: Array) -> Array:
        gradient = call.empty()

        def back(b: Block) -> None:
            p, truth, factors = given(b)
            out, work = b(gradient), b.empty()
            out.fill(0.0)
            for each, slope in zip(g[:, b.plane, :, None], formula.slopes(XP, p, truth, *numbers), strict=True):
                if type(slope) is Tile:
                    out += np.multiply(slope.a, each, out=work.a)
                elif slope:
                    out += slope * each
            if activation == "softmax":
                out -= np.add.reduce(np.multiply(out, p.a, out=work.a), axis=0)
                out *= p.a
            for factor in factors:
                out *= factor.a
            b.clear(out)

        call.run(back)
        return call.restored(gradient)

    call.run(forward)
    return _by_plane(np.asarray(found), call), vjp


def _sigmoid(b: Block, x: Array) -> tuple[Tile, ...]:
    """Return sigmoid of a block, and factors of its slope, exp(-|x|) / (1 + exp(-|x|))^2 with all its digits."""
    p, small, share = b.empty(), b.empty(), b.empty()
    np.exp(np.negative(np.abs(x, out=small.a), out=small.a), out=small.a)
    np.divide(1.0, np.add(small.a, 1.0, out=share.a), out=share.a)
    np.maximum(small.a, x >= 0.0, out=p.a)
    p.a *= share.a
    return p, small, share, share
