"""NumPy kernels: blocks of positions that stay in the cache, work arrays reused, partition instead of sort."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import array_api_compat.numpy
import numpy as np

from arrayloss._kernels import generic
from arrayloss._kernels.generic import Array, Namespace, Rule, _numpy_gumbel

#: Positions per block: with 19 classes in float32 a block is 300 kB, within the second-level cache.
_BLOCK = 4096


def host_range(x: Array) -> tuple[float, float] | None:
    if x.size == 0:
        return None
    # The reductions of the ufuncs, since the methods around them cost as much again on small arrays.
    return np.minimum.reduce(x, axis=None).item(), np.maximum.reduce(x, axis=None).item()


def label_dtype(xp: Namespace, dtype: str) -> Any:
    return np.dtype(np.intp)


def as_array(x: Array) -> Array:
    # A gradient that is the same everywhere comes as a read-only view of one number.
    return np.require(x, requirements="W")


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return np.asarray(value, dtype=x.dtype)


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def _planes(x: Array) -> Array:
    """Return `(N, C, *S)` as `(planes, C, positions)`: one plane an image, or one for all where that fits a block."""
    images, classes = x.shape[:2]
    positions = math.prod(x.shape[2:])
    x = x.reshape((images, classes, positions))
    if images > 1 and images * positions <= _BLOCK:
        return x.transpose((1, 0, 2)).reshape((1, classes, images * positions))
    return x


def _rows(x: Array, planes: Array) -> Array:
    """Return `(N, *S)` as `(planes, positions)`, in the order of the positions of `_planes`."""
    return x.reshape((planes.shape[0], planes.shape[2]))


def _from_planes(planes: Array, shape: tuple[int, ...]) -> Array:
    """Undo `_planes` for an array of the given shape."""
    if planes.shape[0] != shape[0]:
        planes = planes.reshape((shape[1], shape[0], -1)).transpose((1, 0, 2))
    return planes.reshape(shape)


def _blocks(images: int, positions: int) -> Iterator[tuple[int, slice]]:
    for n in range(images):
        for start in range(0, positions, _BLOCK):
            yield n, slice(start, min(start + _BLOCK, positions))


def _quiet() -> np.errstate:
    # Infinities and NaN at ignored positions are replaced afterwards; at valid ones the result says what came.
    return np.errstate(invalid="ignore", over="ignore", divide="ignore")


def _label_nll(z: Array, labels: Array, valid: Array | None, *, keep: bool) -> tuple[Array, Callable[[Array], Array]]:
    """Return the losses and the rule, which works in place on the exponentials and can be used once, given `keep`."""
    zs = _planes(z)
    ys = _rows(labels, zs)
    planes, classes, positions = zs.shape
    nll, totals = np.empty((2, planes, positions), dtype=z.dtype)
    # Kept exponentials become the gradient: the logits are read once and one array of their size is written.
    kept = np.empty((planes if keep else 0, classes, positions), dtype=z.dtype)
    work = np.empty((0 if keep else classes, min(_BLOCK, positions)), dtype=z.dtype)
    index = np.arange(min(_BLOCK, positions))
    with _quiet():
        for n, at in _blocks(planes, positions):
            block, y = zs[n, :, at], ys[n, at]
            e = kept[n, :, at] if keep else work[:, : y.size]
            np.subtract(block, np.maximum.reduce(block, axis=0), out=e)
            at_label = e[y, index[: y.size]]
            np.exp(e, out=e)
            total = np.add.reduce(e, axis=0, out=totals[n, at])
            np.subtract(np.log(total), at_label, out=nll[n, at])
    ms = None if valid is None else _rows(valid, zs)
    if ms is not None:
        nll[~ms] = 0.0

    def vjp(g: Array) -> Array:
        gs = _rows(np.broadcast_to(g, labels.shape), zs)
        with _quiet():
            for n, at in _blocks(planes, positions):
                y, q, g_at = ys[n, at], kept[n, :, at], gs[n, at]
                q *= g_at / totals[n, at]
                q[y, index[: y.size]] -= g_at
                if ms is not None:
                    q[:, ~ms[n, at]] = 0.0
        return _from_planes(kept, z.shape)

    return nll.reshape(labels.shape), vjp


def label_nll_rule(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Rule:
    return _label_nll(z, labels, valid, keep=True)


def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return _label_nll(z, labels, valid, keep=False)[0]


def softmax_rule(xp: Namespace, z: Array, valid: Array | None) -> Rule:
    zs = _planes(z)
    images, _, positions = zs.shape
    p = np.empty_like(zs, order="C")
    with _quiet():
        for n, at in _blocks(images, positions):
            block, e = zs[n, :, at], p[n, :, at]
            np.subtract(block, np.maximum.reduce(block, axis=0), out=e)
            np.exp(e, out=e)
            e /= np.add.reduce(e, axis=0)
    if valid is not None:
        p.transpose((0, 2, 1))[~_rows(valid, zs)] = 0.0

    def vjp(g: Array) -> Array:
        gs = _planes(np.broadcast_to(g, z.shape))
        out = np.empty_like(p)
        for n, at in _blocks(images, positions):
            block, q = gs[n, :, at], out[n, :, at]
            np.multiply(block, p[n, :, at], out=q)
            np.subtract(block, np.add.reduce(q, axis=0), out=q)
            q *= p[n, :, at]
        return _from_planes(out, z.shape)

    return _from_planes(p, z.shape), vjp


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return softmax_rule(xp, z, valid)[0]


def label_sums_rule(xp: Namespace, p: Array, labels: Array) -> Rule:
    images, classes = p.shape[:2]
    positions = math.prod(p.shape[2:])
    ps, ys = p.reshape((images, classes, positions)), labels.reshape((images, positions))
    sums = np.empty((images, classes), dtype=p.dtype)
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
    counts = np.empty((labels.shape[0], classes), dtype=dtype)
    for n, y in enumerate(labels):
        counts[n] = np.bincount(y.ravel() if valid is None else y[valid[n]], minlength=classes)
    return counts


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    return _numpy_gumbel(like.shape, rng).astype(like.dtype)


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    at = rows.shape[1] - k
    return np.partition(rows, at, axis=1)[:, at]


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    weights = np.zeros_like(errors)
    for row, hit, out, mask in zip(
        errors, positive, weights, [None] * len(errors) if valid is None else valid, strict=True
    ):
        _lovasz_row(row, hit, mask, out)
    return weights


def _lovasz_row(errors: Array, positive: Array, valid: Array | None, out: Array) -> None:
    """Write the weights of one row of errors into `out`, which is 0."""
    g = np.count_nonzero(positive)
    order = None
    if valid is not None:
        order = np.flatnonzero(valid)
        errors, positive = errors[order], positive[order]
    if errors.size == 0:
        return
    ranked, hit, order = _rank(errors, positive, order)
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    sizes = np.diff(starts, append=ranked.size)
    if g == 0:
        out[order[: sizes[0]]] = 1.0 / sizes[0]
        return
    dk = np.add.reduceat(hit, starts, dtype=np.int64)
    k1 = np.cumsum(dk) - dk
    db = sizes - dk
    after = g + starts + sizes - k1 - dk
    # After the last positive g - k1 is 0 and negatives weigh nothing: the groups before it are all that matter.
    weights = ((g - k1) * (db / (g + starts - k1)) + dk) / after / sizes
    used = int(np.searchsorted(k1, g, side="left"))
    reach = starts[used] if used < starts.size else ranked.size
    out[order[:reach]] = np.repeat(weights[:used].astype(out.dtype), sizes[:used])


def _rank(errors: Array, positive: Array, places: Array | None) -> tuple[Array, Array, Array]:
    """Return keys that rise where errors fall, the positives as 0 and 1 and the places of the errors, all in order.

    Non-negative floats are ordered as their bits are. For float32 the bits, inverted, share a 64-bit integer with the
    place and the flag: one sort of integers gives the order, the places and the flags at once.
    """
    if errors.dtype == np.float32 and errors.size < 2**31:
        keys = (~np.ascontiguousarray(errors).view(np.uint32)).astype(np.uint64)
        keys <<= np.uint64(32)
        keys |= (np.arange(errors.size, dtype=np.uint64) << np.uint64(1)) | positive
        keys.sort()
        order = ((keys & np.uint64(0xFFFFFFFF)) >> np.uint64(1)).astype(np.intp)
        ranked, hit = (keys >> np.uint64(32)).astype(np.uint32), (keys & np.uint64(1)).astype(np.uint8)
    else:
        order = np.argsort(-errors, kind="stable")
        ranked, hit = errors[order], positive[order].astype(np.uint8)
    return ranked, hit, order if places is None else places[order]


LIBRARY = generic.extended("numpy", array_api_compat.numpy, globals())
