"""Losses entry by entry, block by block: what lies between stays in the cache. For NumPy, and torch on the host."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from arrayloss._kernels.generic import Array, Formula, Namespace, Rule


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
    number, shape = math.prod(x.shape), tuple(x.shape)
    flat = [None if a is None else xp.reshape(a, (-1,)) for a in (x, t, valid)]
    kept, found = xp.empty_like(flat[0]), None if total else xp.empty_like(flat[0])
    sums = []
    for start in range(0, number, size):
        at = slice(start, start + size)
        x_at, t_at, mask = (None if a is None else a[at] for a in flat)
        losses, slopes = formula.both(xp, _where(xp, mask, x_at), t_at, *options)
        losses, kept[at] = _where(xp, mask, losses), _where(xp, mask, slopes)
        if found is None:
            sums.append(xp.sum(losses))
        else:
            found[at] = losses

    def vjp(g: Array) -> Array:
        g = g if g.ndim == 0 else xp.reshape(g, (-1,))
        return xp.reshape(xp.multiply(kept, g, out=kept), shape)

    if found is not None:
        return xp.reshape(found, shape), vjp
    return xp.sum(xp.stack(sums)) if sums else xp.sum(x), vjp


def _where(xp: Namespace, mask: Array | None, x: Array) -> Array:
    return x if mask is None else xp.where(mask, x, xp.zeros_like(x))
