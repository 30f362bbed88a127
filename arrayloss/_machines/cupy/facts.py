"""What CuPy tells of its arrays, and what is small. Nothing here reads a device array."""

from __future__ import annotations

from typing import Any

import cupy

from arrayloss._machines.formula import Array, Namespace


def as_array(x: Array) -> Array:
    # A gradient that is the same everywhere comes as a view of one number, which must not be written through.
    return cupy.ascontiguousarray(x) if 0 in x.strides else x


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else cupy.where(mask, x, value)


def on_host(x: Array) -> Any:
    return cupy.asnumpy(x)


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    if rng is None:
        rng = cupy.random.default_rng()
    if not isinstance(rng, cupy.random.Generator):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a cupy.random.Generator")
    # -log of an exponential sample is Gumbel; the least positive number keeps it finite.
    samples = cupy.asarray(rng.standard_exponential(size=like.shape), dtype=like.dtype)
    return -cupy.log(cupy.maximum(samples, cupy.finfo(like.dtype).tiny))
