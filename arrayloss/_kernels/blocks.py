"""Losses entry by entry, block by block: what lies between stays in the cache. For NumPy, and torch on the host."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from arrayloss._kernels.generic import Array, Formula, Namespace, Rule


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
    number, shape = math.prod(x.shape), tuple(x.shape)

    def split(a: Array | None) -> list[Any]:
        starts = range(0, number, size)
        if a is None:
            return [None] * len(starts)
        a = library.reshape(a, (-1,))
        # torch alone has this method, and its slices are slow.
        return a.split(size) if hasattr(a, "split") else [a[start : start + size] for start in starts]

    flat = library.reshape(x, (-1,))
    given = [split(a) for a in (flat, t, valid)]

    def each(of: Any) -> Iterator[Array]:
        for x, t, valid in zip(*given, strict=True):
            if valid is None:
                yield of(xp, x, t, *options)
            else:
                yield library.where(valid, of(xp, library.where(valid, x, 0.0), t, *options), 0.0)

    def vjp(g: Array) -> Array:
        gradient = library.empty_like(flat)
        scales = split(g) if g.ndim else itertools.repeat(g)
        for slopes, scale, out in zip(each(formula.slopes), scales, split(gradient), strict=False):
            library.multiply(slopes, scale, out=out)
        return library.reshape(gradient, shape)

    if total:
        sums = [losses.sum() for losses in each(formula.losses)]
        return library.sum(library.stack(sums)) if sums else library.sum(x), vjp
    found = library.empty_like(flat)
    for losses, out in zip(each(formula.losses), split(found), strict=True):
        out[...] = losses
    return library.reshape(found, shape), vjp
