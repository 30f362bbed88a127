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


def _where(xp: Namespace, mask: Array | None, x: Array) -> Array:
    return x if mask is None else xp.where(mask, x, xp.zeros_like(x))
