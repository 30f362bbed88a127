"""Sums over regions, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayloss._machines.formula import AREAS, Array, Formula, Namespace
from arrayloss._machines.generic import regions as generic
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy import tiles
from arrayloss._machines.numpy.classes import exponentials, hit
from arrayloss._machines.numpy.places import label_counts
from arrayloss._machines.numpy.tiles import XP, Pool, Tile, array


def _by_image(x: Array) -> Array:
    """Return `(N, C, *S)` as `(N, C, positions)`."""
    return x.reshape((*x.shape[:2], -1))


def _softmax(block: Array, out: Array, ignored: Array | None) -> None:
    """Write softmax of a block, 0 where ignored."""
    scale = np.divide(1.0, exponentials(block, out, out))
    if ignored is not None:
        if not np.isfinite(scale[ignored]).all():
            out[:, ignored] = 0.0
        scale[ignored] = 0.0
    out *= scale


def _label_areas(z: Array, labels: Array, valid: Array | None, *, keep: bool) -> Rule:
    """Return AREAS of labels under softmax: what overlaps is picked, and not multiplied."""
    zs, ys = _by_image(z), labels.reshape((z.shape[0], -1))
    ms = None if valid is None else valid.reshape(ys.shape)
    count, places = z.shape[1], tiles.blocks(zs.shape, tiles.CLASSES)
    kept = np.empty(zs.shape if keep else 0, dtype=z.dtype)
    sums, index = np.zeros((len(places), 2, count)), np.arange(places[0][1].stop if places else 0)

    def forward(pool: Pool, i: int) -> None:
        n, at = places[i]
        y, work = ys[n, at], pool.empty(zs[n, :, at].shape)
        p = kept[n, :, at] if keep else work.a
        _softmax(zs[n, :, at], p, None if ms is None else ~ms[n, at])
        sums[i, 0] = np.bincount(y, weights=p[y, index[: y.size]], minlength=count)
        sums[i, 1] = np.add.reduce(p, axis=1)

    def vjp(g: Array) -> Array:
        def back(pool: Pool, place: Any) -> None:
            n, at = place
            y, q, shift = ys[n, at], kept[n, :, at], pool.empty(kept[n, :, at].shape)
            at_label = q[y, index[: y.size]] * g[0, n][y]
            np.subtract(g[1, n][:, None], g[1, n] @ q + at_label, out=shift.a)
            q *= shift.a
            q[y, index[: y.size]] += at_label

        tiles.run(z.dtype, back, places)
        return kept.reshape(z.shape)

    tiles.run(z.dtype, forward, list(range(len(places))))
    true = label_counts(np, labels, valid, count, z.dtype)
    overlap, predicted = _by_plane(sums, places, z.shape[0]).astype(z.dtype)
    return np.stack([overlap, predicted, true]), vjp


def _by_plane(sums: Array, places: list[Any], images: int) -> Array:
    """Return the sums of blocks `(blocks, K, C)` of each image, `(K, N, C)`, added in their order."""
    found = np.zeros((images, *sums.shape[1:]))
    for (n, _), each in zip(places, sums, strict=True):
        found[n] += each
    return found.transpose((1, 0, 2))


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
        return _label_areas(z, t, valid, keep=keep)
    zs, ts = _by_image(z), t.reshape((z.shape[0], -1)) if labelled else _by_image(t)
    ms = None if valid is None else _by_image(valid if valid.ndim == z.ndim else valid[:, None])
    places = tiles.blocks(zs.shape, tiles.CLASSES)
    found: list[Any] = [None] * len(places)

    def given(pool: Pool, n: int, at: slice) -> tuple[Tile, Tile, tuple[Tile, ...]]:
        """Return the probabilities and the truth of a block, 0 where not valid, and factors of the former's slopes."""
        x, y = zs[n, :, at], ts[n, ..., at]
        p, truth = pool.empty(x.shape), hit(pool, y, x.shape) if labelled else pool.lent(y)
        factors: tuple[Tile, ...] = ()
        if activation == "softmax":
            _softmax(x, p.a, None)
        elif activation == "sigmoid":
            factors = _sigmoid(pool, x, p.a)
        else:
            np.copyto(p.a, x)
        if ms is not None:
            ignored = ~ms[n, :, at]
            if not labelled:
                truth = pool.empty(x.shape)
                np.copyto(truth.a, y)
            np.copyto(p.a, 0.0, where=ignored)
            np.copyto(truth.a, 0.0, where=ignored)
        return p, truth, factors

    def forward(pool: Pool, i: int) -> None:
        p, truth, _ = given(pool, *places[i])
        each = (array(x) for x in formula.losses(XP, p, truth, *numbers))
        found[i] = [np.add.reduce(np.broadcast_to(x, p.a.shape), axis=1, dtype=z.dtype) for x in each]

    def vjp(g: Array) -> Array:
        gradient = np.empty(zs.shape, z.dtype)

        def back(pool: Pool, place: Any) -> None:
            n, at = place
            p, truth, factors = given(pool, n, at)
            out, work = gradient[n, :, at], pool.empty(p.a.shape)
            out.fill(0.0)
            for each, slope in zip(g[:, n, :, None], formula.slopes(XP, p, truth, *numbers), strict=True):
                if type(slope) is Tile:
                    out += np.multiply(slope.a, each, out=work.a)
                elif slope:
                    out += slope * each
            if activation == "softmax":
                out -= np.add.reduce(np.multiply(out, p.a, out=work.a), axis=0)
                out *= p.a
            for factor in factors:
                out *= factor.a
            if ms is not None:
                np.copyto(out, 0.0, where=~ms[n, :, at])

        tiles.run(z.dtype, back, places)
        return gradient.reshape(z.shape)

    tiles.run(z.dtype, forward, list(range(len(places))))
    return _by_plane(np.asarray(found, dtype=np.float64), places, z.shape[0]).astype(z.dtype), vjp


def _sigmoid(pool: Pool, x: Array, out: Array) -> tuple[Tile, ...]:
    """Write the sigmoid of a block; return factors of its slope, exp(-|x|) / (1 + exp(-|x|))^2 with all its digits."""
    small, share = pool.empty(x.shape), pool.empty(x.shape)
    np.exp(np.negative(np.abs(x, out=small.a), out=small.a), out=small.a)
    np.divide(1.0, np.add(small.a, 1.0, out=share.a), out=share.a)
    np.maximum(small.a, x >= 0.0, out=out)
    out *= share.a
    return small, share, share
