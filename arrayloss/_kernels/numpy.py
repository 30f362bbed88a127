"""NumPy kernels: blocks of positions that stay in the cache, work arrays reused, partition instead of sort."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy
import numpy as np

from arrayloss._kernels.generic import *  # whatever has no faster form below is the portable one
from arrayloss._kernels.generic import Array, Namespace, Rule
from arrayloss._namespace import Library

LIBRARY = Library("numpy", array_api_compat.numpy, sys.modules[__name__])
#: Positions per block: with 19 classes in float32 a block is 600 kB, within the second-level cache.
_BLOCK = 8192


def host_range(x: Array) -> tuple[float, float] | None:
    return (x.min().item(), x.max().item()) if x.size else None


def label_dtype(xp: Namespace, dtype: str) -> Any:
    return np.dtype(np.intp)


def as_array(x: Array) -> Array:
    return np.asarray(x)


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return np.asarray(value, dtype=x.dtype)


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def _planes(x: Array) -> Array:
    """Return `(N, C, *S)` as `(N, C, positions)`, without a copy where the layout allows."""
    return x.reshape((*x.shape[:2], math.prod(x.shape[2:])))


def _rows(x: Array) -> Array:
    """Return `(N, *S)` as `(N, positions)`."""
    return x.reshape((x.shape[0], math.prod(x.shape[1:])))


def _blocks(images: int, positions: int) -> Iterator[tuple[int, slice]]:
    for n in range(images):
        for start in range(0, positions, _BLOCK):
            yield n, slice(start, min(start + _BLOCK, positions))


def _quiet() -> np.errstate:
    # Infinities and NaN at ignored positions are replaced afterwards; at valid ones the result says what came.
    return np.errstate(invalid="ignore", over="ignore", divide="ignore")


def label_nll_rule(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Rule:
    zs, ys = _planes(z), _rows(labels)
    images, classes, positions = zs.shape
    nll, tops, totals = np.empty((3, images, positions), dtype=z.dtype)
    index = np.arange(min(_BLOCK, positions))
    with _quiet():
        work = np.empty((classes, index.size), dtype=z.dtype)
        for n, at in _blocks(images, positions):
            block, y = zs[n, :, at], ys[n, at]
            e = work[:, : y.size]
            top, total, loss = tops[n, at], totals[n, at], nll[n, at]
            np.max(block, axis=0, out=top)
            np.subtract(block, top, out=e)
            np.exp(e, out=e)
            np.sum(e, axis=0, out=total)
            np.subtract(block[y, index[: y.size]], top, out=loss)
            np.subtract(np.log(total), loss, out=loss)
    ms = None if valid is None else _rows(valid)
    if ms is not None:
        nll[~ms] = 0.0

    def vjp(g: Array) -> Array:
        gs = _rows(np.broadcast_to(g, labels.shape))
        out = np.empty(zs.shape, dtype=z.dtype)
        with _quiet():
            for n, at in _blocks(images, positions):
                y, q, g_at = ys[n, at], out[n, :, at], gs[n, at]
                np.subtract(zs[n, :, at], tops[n, at], out=q)
                np.exp(q, out=q)
                q *= g_at / totals[n, at]
                q[y, index[: y.size]] -= g_at
                if ms is not None:
                    q[:, ~ms[n, at]] = 0.0
        return out.reshape(z.shape)

    return nll.reshape(labels.shape), vjp


def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return label_nll_rule(xp, z, labels, valid)[0]


def softmax_rule(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    zs = _planes(z)
    images, classes, positions = zs.shape
    p = np.empty_like(zs, order="C")
    with _quiet():
        for n, at in _blocks(images, positions):
            block, e = zs[n, :, at], p[n, :, at]
            np.subtract(block, block.max(axis=0), out=e)
            np.exp(e, out=e)
            e /= np.add.reduce(e, axis=0)
    if valid is not None:
        p.transpose((0, 2, 1))[~_rows(valid)] = 0.0

    def vjp(g: Array) -> Array:
        gs = _planes(np.broadcast_to(g, z.shape))
        out = np.empty_like(p)
        for n, at in _blocks(images, positions):
            block, q = gs[n, :, at], out[n, :, at]
            np.multiply(block, p[n, :, at], out=q)
            np.subtract(block, np.add.reduce(q, axis=0), out=q)
            q *= p[n, :, at]
        return out.reshape(z.shape)

    return p.reshape(z.shape), vjp


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return softmax_rule(xp, z, valid)[0]


def label_sums_rule(xp: Namespace, p: Array, labels: Array) -> Rule:
    classes, ps, ys = p.shape[1], _planes(p), _rows(labels)
    sums = np.empty(ps.shape[:2], dtype=p.dtype)
    for n, y in enumerate(ys):
        hit = np.take_along_axis(ps[n], y[None], axis=0)[0]
        sums[n] = np.bincount(y, weights=hit, minlength=classes)

    def vjp(g: Array) -> Array:
        out = np.zeros_like(ps)
        for n, y in enumerate(ys):
            np.put_along_axis(out[n], y[None], g[n][y][None], axis=0)
        return out.reshape(p.shape)

    return sums, vjp


def label_sums(xp: Namespace, p: Array, labels: Array) -> Array:
    return label_sums_rule(xp, p, labels)[0]


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    ys = _rows(labels)
    ms = None if valid is None else valid.reshape(ys.shape)
    counts = [np.bincount(y if ms is None else y[ms[n]], minlength=classes) for n, y in enumerate(ys)]
    return np.asarray(counts, dtype=dtype).reshape((-1, classes))


def kth_largest(xp: Namespace, values: Array, k: int) -> Array:
    at = values.size - k
    return np.partition(values.reshape(-1), at)[at]
