"""Losses of positions over their classes, block by block."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from arrayloss._machines.formula import CROSS, Array, Namespace, OfClasses
from arrayloss._machines.generic import classes as generic
from arrayloss._machines.generic.rule import Rule, rule
from arrayloss._machines.numpy import tiles
from arrayloss._machines.numpy.tiles import XP, Block, Blocks, Tile, array

# Rules work in place on what they keep, and can be used once.


@rule
def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None, *, keep: bool = True) -> Rule:
    if z.ndim == 2 and z.size <= tiles.SMALL:
        return _of_few(z, labels, valid)
    return _of_labels(z, labels, valid, None, 0.0, keep)


def _of_few(z: Array, labels: Array, valid: Array | None) -> Rule:
    """Return the cross entropies of labels of a few positions `(N, C)`, where blocks cost as much as what they do."""
    e = z - np.maximum.reduce(z, axis=1, keepdims=True)
    at = np.arange(len(z)), labels
    at_label = e[at]
    np.exp(e, out=e)
    total = np.add.reduce(e, axis=1)
    losses = np.log(total) - at_label
    if valid is not None:
        losses[~valid] = 0.0

    def vjp(g: Array) -> Array:
        slopes = e * (g / total)[:, None]
        slopes[at] -= g
        if valid is not None:
            slopes[~valid] = 0.0
        return slopes

    return losses, vjp


def _of_labels(
    z: Array, labels: Array, valid: Array | None, weight: Array | None, smoothing: float, keep: bool
) -> Rule:
    """Return the cross entropies of smoothed labels, by the weights of the classes."""
    call = Blocks(z, valid)
    zs, ys, losses, scales = call.planes(z), call.planes(labels), call.positions(), call.positions()
    # Kept exponentials become the gradient: the logits are read once and one array of their size is written.
    kept = call.empty() if keep else None
    on, off = generic.shares(smoothing, z.shape[1])
    on -= off
    # What a target holds beside its label: each class, and all together.
    each, rest = (off, 1.0 - on) if weight is None else (off * weight[:, None], off * np.sum(weight))

    def own(y: Array) -> Any:
        """Return what the targets of labels hold at these, beside that."""
        return on if weight is None else on * weight[y]

    def forward(b: Block) -> None:
        x, y, work = b(zs), b(ys), b.into(kept)
        e = np.subtract(x, np.maximum.reduce(x, axis=0), out=work.a)
        linear = e[y, b.index]
        if smoothing or weight is not None:
            linear *= own(y)
        if smoothing:
            linear += off * (np.add.reduce(e, axis=0) if weight is None else weight @ e)
        np.exp(e, out=e)
        total, mass = np.add.reduce(e, axis=0), 1.0 if weight is None else own(y) + rest
        out = np.log(total, out=b(losses))
        if weight is not None:
            out *= mass
        out -= linear
        b.clear(out)
        if keep:
            b.clear_scale(np.divide(mass, total, out=b(scales)), e)

    def vjp(g: Array) -> Array:
        gs = call.planes(g) if call.valid is None else np.where(call.valid, call.planes(g), 0.0)

        def back(b: Block) -> None:
            y, q, g_at = b(ys), b(kept), b(gs)
            plane, places = b.flat(kept, y)
            q *= b(scales) * g_at
            if smoothing:
                q -= each * g_at
            plane[places] -= own(y) * g_at

        call.run(back)
        return call.restored(kept)

    call.run(forward)
    return call.restored(losses), vjp


@rule
def softmax(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    call = Blocks(z, valid)
    zs, p = call.planes(z), call.empty()

    def forward(b: Block) -> None:
        probabilities(b, b(zs), b(p))

    def vjp(g: Array) -> Array:
        # Into p itself, which every later step has read by now: a tape is gone through once, from its end.
        gs = call.planes(g)

        def back(b: Block) -> None:
            q, product = b(p), b.empty()
            np.multiply(b(gs), q, out=product.a)
            q *= np.subtract(b(gs), np.add.reduce(product.a, axis=0), out=product.a)

        call.run(back)
        return call.restored(p)

    call.run(forward)
    return call.restored(p), vjp


def exponentials(x: Array, shifted: Array, out: Array, scale: float = 1.0) -> Array:
    """Write scale (x - max(x)) of a block, and its exponential, into one array or two; return the sum of the latter."""
    np.subtract(x, np.maximum.reduce(x, axis=0), out=shifted)
    if scale != 1.0:
        shifted *= scale
    np.exp(shifted, out=out)
    return np.add.reduce(out, axis=0)


def probabilities(b: Block, x: Array, out: Array) -> None:
    """Write softmax of a block, 0 where not valid."""
    scale = np.divide(1.0, exponentials(x, out, out))
    b.clear_scale(scale, out)
    out *= scale


def _log_probabilities(b: Block, x: Array, scale: float, logarithms: bool, exact: bool) -> tuple[Tile | None, Tile]:
    """Return log p, if it is wanted, and p of a block.

    `exact`: p is that of the logarithm as it was rounded, which costs more.
    """
    p = b.empty()
    log_p = b.empty() if logarithms else None
    total = exponentials(x, p.a if log_p is None else log_p.a, p.a, scale)
    if log_p is not None:
        log_p.a -= np.log(total)
    if log_p is not None and exact:
        np.exp(log_p.a, out=p.a)
    else:
        p.a *= np.divide(1.0, total, out=total)
    return log_p, p


@cache
def _read(functions: tuple[Any, ...], place: int) -> bool:
    """Whether one of the functions of a formula reads its array at a place: those that it does not begin with `_`."""
    return any(not f.__code__.co_varnames[1 + place].startswith("_") for f in functions)


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
    labelled, linear = t.ndim < z.ndim, how.formula is CROSS and how.kind == "target"
    if labelled and linear and (weight is None or (weight > 0.0).all()):  # 0 takes out even an infinite loss
        return _of_labels(z, t, valid, weight, how.smoothing, keep)
    call = Blocks(z, valid)
    zs, ts, fs = call.planes(z), call.planes(t), None if field is None else call.planes(field)
    losses, slopes = call.positions(), call.empty() if keep else None
    w = None if weight is None else weight[:, None]
    shares = generic.shares(how.smoothing, z.shape[1])
    read = partial(_read, how.formula[: 2 if keep else 1])
    taught = how.kind == "teacher"

    def given(b: Block, plain: bool) -> tuple[Tile | None, ...]:
        x, y = b(zs), b(ts)
        if how.kind == "gap":
            gap, own = b.empty(), b.hit(y)
            np.subtract(x, x[y, b.index], out=gap.a)
            gap.a[y, b.index] = 0.0
            return gap, own
        log_p, p = _log_probabilities(b, x, how.scale, read(0), taught and read(1))
        if taught:
            log_q, t = _log_probabilities(b, y, how.scale, read(2), True)
        else:
            log_q, t = None, b.hit(y, *shares) if labelled else b.lent(y)
        if not plain and not labelled:
            for tile in (log_p, log_q):
                if tile is not None:
                    np.copyto(tile.a, 0.0, where=t.a == 0.0)
        operands = (log_q, t) if taught else (t,)
        return (log_p, p, *operands) if fs is None else (log_p, p, *operands, b.lent(b(fs)))

    def weighed(b: Block, x: Any, plain: bool) -> Array:
        """Return what a formula gave each class, by the weights of the classes."""
        each = np.broadcast_to(array(x), b.shape)
        if w is None:
            return each
        return np.multiply(each if plain else np.where(w != 0.0, each, 0.0), w)

    def of_shares(b: Block) -> None:
        """Compute a block of CROSS, which is linear in the scores and in their normaliser: with a few sums."""
        target, shifted, work = b.hit(b(ts), *shares) if labelled else b.lent(b(ts)), b.empty(), b.into(slopes)
        if w is not None:
            target = target * w
        y = target.a
        total = exponentials(b(zs), shifted.a, work.a)
        mass, even = np.add.reduce(y, axis=0), np.einsum("cp,cp->p", y, shifted.a)
        np.subtract(mass * np.log(total), even, out=b(losses))
        if keep:
            work.a *= np.divide(mass, total, out=total)
            work.a -= y

    def by_formula(b: Block, plain: bool) -> None:
        arrays = given(b, plain)
        share = array(arrays[1])
        each = weighed(b, how.formula.losses(XP, *arrays, *how.numbers), plain)
        total = np.add.reduce(each, axis=0, out=b(losses))
        if keep:
            if how.formula.slopes is not how.formula.losses:
                each = weighed(b, how.formula.slopes(XP, *arrays, *how.numbers), plain)
                total = np.add.reduce(each, axis=0)
            out = np.multiply(share, total, out=b(slopes))
            np.subtract(each, out, out=out)

    def forward(b: Block) -> None:
        # What rules infinities out costs more than most formulas, and is needed in few blocks.
        for plain in (True, False):
            of_shares(b) if plain and linear else by_formula(b, plain)
            b.clear(b(losses))
            if np.isfinite(np.add.reduce(b(losses))):
                break

    def vjp(g: Array) -> Array:
        gs = call.planes(g * how.scale if how.scale != 1.0 else g)

        def back(b: Block) -> None:
            q = b(slopes)
            q *= b(gs)
            b.clear(q)

        call.run(back)
        return call.restored(slopes)

    call.run(forward)
    return call.restored(losses), vjp
