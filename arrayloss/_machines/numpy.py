"""NumPy kernels: blocks of positions that stay in the cache, work arrays reused, partition instead of sort."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy
import numpy as np

from arrayloss._machines import blocks, generic
from arrayloss._machines.generic import Array, Formula, Namespace, Rule, _numpy_gumbel
from arrayloss._machines.numpy_components import ranked_components
from arrayloss._machines.numpy_lovasz import hinge_extension, softmax_extension

#: Positions per block: with 19 classes in float32 a block is 300 kB, within the second-level cache.
_BLOCK = 4096
#: Entries per block, of losses entry by entry.
_ENTRIES = 1 << 14
#: Entries per block, of losses position by position.
_POSITIONS = 1 << 15


def host_range(x: Array) -> tuple[float, float] | None:
    if x.size == 0:
        return None
    # The reductions of the ufuncs, since the methods around them cost as much again on small arrays.
    return np.minimum.reduce(x, axis=None).item(), np.maximum.reduce(x, axis=None).item()


def label_dtype(xp: Namespace, dtype: str) -> Any:
    return np.dtype(np.intp)


def as_array(x: Array) -> Array:
    # A gradient that is the same everywhere comes as a read-only view of one number, and one with respect to an array
    # of the other byte order in that order.
    return np.require(x, None if x.dtype.isnative else x.dtype.newbyteorder("="), "W")


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
    # What underflows is 0, or near it, as it should be.
    return np.errstate(all="ignore")


def _label_nll(z: Array, labels: Array, valid: Array | None, *, keep: bool) -> Rule:
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
        gs = _rows(g, zs)
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
        # Into p itself, which every later step has read by now: a tape is gone through once, from its end.
        gs = _planes(g)
        work = np.empty((p.shape[1], min(_BLOCK, positions)), dtype=p.dtype)
        for n, at in _blocks(images, positions):
            block, q = gs[n, :, at], p[n, :, at]
            product = np.multiply(block, q, out=work[:, : q.shape[1]])
            q *= np.subtract(block, np.add.reduce(product, axis=0), out=product)
        return _from_planes(p, z.shape)

    return _from_planes(p, z.shape), vjp


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return softmax_rule(xp, z, valid)[0]


def softmax_at_rule(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Rule:
    p, _ = softmax_rule(xp, z, valid)
    at_classes = np.take_along_axis(p, classes, axis=1)

    def vjp(g: Array) -> Array:
        # Into p itself: used once.
        steps = g * at_classes
        for n in range(len(p)):
            p[n] *= -np.add.reduce(steps[n], axis=0)
            for i in range(classes.shape[1]):
                index = classes[n, i : i + 1]
                np.put_along_axis(p[n], index, np.take_along_axis(p[n], index, axis=0) + steps[n, i : i + 1], axis=0)
        return p

    return at_classes, vjp


def softmax_at(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Array:
    return softmax_at_rule(xp, z, classes, valid)[0]


def _softmax_sums(z: Array, labels: Array, valid: Array | None, *, keep: bool) -> Rule:
    """Return the sums and the rule, which works in place on the probabilities and can be used once, given `keep`."""
    images, classes = z.shape[:2]
    positions = math.prod(z.shape[2:])
    zs, ys = z.reshape((images, classes, positions)), labels.reshape((images, positions))
    ms = None if valid is None else valid.reshape((images, positions))
    kept = np.empty((images if keep else 0, classes, positions), dtype=z.dtype)
    work = np.empty((classes, min(_BLOCK, positions)), dtype=z.dtype)
    index = np.arange(min(_BLOCK, positions))
    sums = np.zeros((2, images, classes))
    with _quiet():
        for n, at in _blocks(images, positions):
            block, y = zs[n, :, at], ys[n, at]
            p = kept[n, :, at] if keep else work[:, : y.size]
            np.subtract(block, np.maximum.reduce(block, axis=0), out=p)
            np.exp(p, out=p)
            total = np.add.reduce(p, axis=0)
            np.divide(1.0, total, out=total)
            _mask_scale(total, p, None if ms is None else ms[n, at])
            p *= total
            sums[0, n] += np.bincount(y, weights=p[y, index[: y.size]], minlength=classes)
            sums[1, n] += np.add.reduce(p, axis=1)

    def vjp(g: Array) -> Array:
        with _quiet():
            for n, at in _blocks(images, positions):
                y, q = ys[n, at], kept[n, :, at]
                hit, each = g[0, n], g[1, n]
                at_label = q[y, index[: y.size]] * hit[y]
                shift = work[:, : y.size]
                np.subtract(each[:, None], each @ q + at_label, out=shift)
                q *= shift
                q[y, index[: y.size]] += at_label
        return kept.reshape(z.shape)

    return sums.astype(z.dtype), vjp


def _mask_scale(scale: Array, x: Array, valid: Array | None) -> None:
    """Make scales 0, and `x` finite, where not valid."""
    if valid is None:
        return
    ignored = ~valid
    if not np.isfinite(scale[ignored]).all():
        x[:, ignored] = 0.0
    scale[ignored] = 0.0


def softmax_sums_rule(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Rule:
    return _softmax_sums(z, labels, valid, keep=True)


def softmax_sums(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return _softmax_sums(z, labels, valid, keep=False)[0]


def _binary_total(x: Array, target: Array, valid: Array | None, *, keep: bool) -> Rule:
    """Return the loss and, given `keep`, the rule, used once. Labels are told from entries by their rank."""
    labelled = target.ndim < x.ndim
    xs = _planes(x)

    def per_block(a: Array) -> Array:
        return _rows(a, xs) if labelled else _planes(a)

    ts, ms = per_block(target), None if valid is None else per_block(valid)
    planes, classes, positions = xs.shape
    slopes = np.empty((planes if keep else 0, classes, positions), dtype=x.dtype)
    small, spare, signed = np.empty((3, classes, min(_BLOCK, positions)), dtype=x.dtype)
    total = 0.0
    with _quiet():
        for n, at in _blocks(planes, positions):
            y, mask = ts[n, ..., at], None if ms is None else ms[n, ..., at]
            block, slope = xs[n, :, at], slopes[n, :, at] if keep else None
            e, work, side = (a[:, : block.shape[1]] for a in (small, spare, signed))
            if labelled:
                total += float(_of_labels(block, y, mask, e, work, side, slope))
            else:
                block = block if mask is None else np.where(mask, block, 0.0)
                total += float(_of_entries(block, y, mask, e, work, slope))

    def vjp(g: Array) -> Array:
        with _quiet():
            for n, at in _blocks(planes, positions):
                slopes[n, :, at] *= g
        return _from_planes(slopes, x.shape)

    return x.dtype.type(total), vjp


def _tail(x: Array, out: Array, work: Array, sigmoid: Array | None) -> None:
    """Write log(1 + exp(-|x|)) into `out` and, where it is wanted, sigmoid(x)."""
    np.negative(np.abs(x, out=out), out=out)
    np.exp(out, out=out)
    if sigmoid is not None:
        # max([x >= 0], exp(-|x|)) / (1 + exp(-|x|)), since the exponential is at most 1.
        np.maximum(out, x >= 0.0, out=sigmoid)
        sigmoid /= np.add(out, 1.0, out=work)
    np.log1p(out, out=out)


# What is added to the tail is the size of the score, times the share that is on the other side: softplus(x) - x y would
# cancel where a score is large and right.
def _of_labels(
    x: Array, y: Array, valid: Array | None, e: Array, work: Array, side: Array, slope: Array | None
) -> Array:
    """Return the sum of the losses of a block, softplus of the scores turned round at the label; write the slopes."""
    index = np.arange(y.size)
    np.copyto(side, x)
    side[y, index] = -x[y, index]
    _tail(side, e, work, slope)
    e += np.maximum(side, 0.0, out=work)
    losses = np.add.reduce(e, axis=0)
    if slope is not None:
        slope[y, index] *= -1.0
    if valid is not None:
        losses[~valid] = 0.0
        if slope is not None:
            slope[:, ~valid] = 0.0
    return np.add.reduce(losses)


def _of_entries(x: Array, y: Array, valid: Array | None, e: Array, work: Array, slope: Array | None) -> Array:
    """Return the sum of the losses of a block, finite where not valid; write the slopes."""
    _tail(x, e, work, slope)
    np.greater(x, 0.0, out=work)
    work -= y
    work *= x
    e += work
    if slope is not None:
        slope -= y
    if valid is not None:
        e *= valid
        if slope is not None:
            slope *= valid
    total = np.sum(e)
    return total if np.isfinite(total) else _sum_infinite(x, y, valid)


def _sum_infinite(x: Array, y: Array, valid: Array | None) -> Array:
    """Return the loss of a block with infinite scores, in the form in which 0 times infinity counts nothing."""
    losses = generic._binary_entries(array_api_compat.numpy, x, y.astype(x.dtype))[0]
    return np.sum(generic.where_or(array_api_compat.numpy, valid, losses, 0.0))


def binary_total_rule(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Rule:
    return _binary_total(x, y, valid, keep=True)


def binary_total(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Array:
    return _binary_total(x, y, valid, keep=False)[0]


def binary_label_total_rule(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Rule:
    return _binary_total(x, labels, valid, keep=True)


def binary_label_total(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Array:
    return _binary_total(x, labels, valid, keep=False)[0]


def _entries_rule(*arguments: Any) -> Rule:
    return _quiet_rule(blocks.entries_rule, np, array_api_compat.numpy, _ENTRIES, *arguments)


def _quiet_rule(rule: Any, *arguments: Any) -> Rule:
    with _quiet():
        value, vjp = rule(*arguments)

    def quiet_vjp(g: Array) -> Array:
        with _quiet():
            return vjp(g)

    return value, quiet_vjp


def _rule_of(x: Array, t: Array | None, valid: Array | None, total: bool, formula: Formula, *options: float) -> Rule:
    """Return the rule that a formula is fastest by."""
    if formula.both is None:
        return _entries_rule(x, t, valid, total, formula, *options)
    with _quiet():
        return blocks.both_rule(array_api_compat.numpy, _ENTRIES, x, t, valid, total, formula, *options)


def entry_losses_rule(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Rule:
    return _rule_of(x, t, valid, False, formula, *options)


def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    return _entries_rule(x, t, valid, False, formula, *options)[0]


def entry_total_rule(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Rule:
    return _rule_of(x, t, valid, True, formula, *options)


def entry_total(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    return _entries_rule(x, t, valid, True, formula, *options)[0]


def _divergence(
    z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula, *, keep: bool
) -> Rule:
    with _quiet():
        return blocks.divergence_rule(array_api_compat.numpy, _POSITIONS, z, t, valid, weight, scale, formula, keep)


def divergence_rule(
    xp: Namespace, z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> Rule:
    return _divergence(z, t, valid, weight, scale, formula, keep=True)


def divergence(
    xp: Namespace, z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> Array:
    return _divergence(z, t, valid, weight, scale, formula, keep=False)[0]


def _put(x: Array, index: Array, values: Any) -> None:
    np.put_along_axis(x, index, values, axis=1)


def gap_losses_rule(
    xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float
) -> Rule:
    return _quiet_rule(
        blocks.gap_losses_rule, array_api_compat.numpy, _POSITIONS, _put, z, labels, valid, formula, *options
    )


def gap_losses(xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float) -> Array:
    return gap_losses_rule(xp, z, labels, valid, formula, *options)[0]


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    counts = np.empty((labels.shape[0], classes), dtype=dtype)
    for n, y in enumerate(labels):
        counts[n] = np.bincount(y.ravel() if valid is None else y[valid[n]], minlength=classes)
    return counts


def bin_totals_rule(xp: Namespace, x: Array, bins: Array, size: int) -> Rule:
    images = x.shape[0]
    flat = bins + np.arange(images)[:, None] * size
    totals = np.bincount(flat.reshape(-1), weights=x.reshape(-1), minlength=images * size)
    return totals.reshape(images, size).astype(x.dtype), lambda g: np.take_along_axis(g, bins, axis=1)


def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Array:
    return bin_totals_rule(xp, x, bins, size)[0]


def top_class(xp: Namespace, z: Array) -> Array:
    # Class by class: NumPy's argmax over an axis that is not the last goes position by position.
    top, found = z[:, 0].copy(), np.zeros((z.shape[0], *z.shape[2:]), dtype=np.intp)
    for c in range(1, z.shape[1]):
        np.copyto(found, c, where=z[:, c] > top)
        np.maximum(top, z[:, c], out=top)
    return found


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    return ranked_components(labels, classes, most)


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    return _numpy_gumbel(like.shape, rng).astype(like.dtype)


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    at = rows.shape[1] - k
    return np.partition(rows, at, axis=1)[:, at]


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    # Counting costs a tenth of a partition, and is all that is needed where enough is above the bound.
    if np.count_nonzero(row > bound) >= k:
        return np.full(1, np.inf, dtype=row.dtype)
    return kth_largest(xp, row, k)


def take_positions_rule(xp: Namespace, x: Array, places: Array) -> Rule:
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    there = places < flat.shape[0] * flat.shape[2]
    image, position = np.divmod(places[there], flat.shape[2])
    rows = np.zeros((places.size, flat.shape[1]), dtype=x.dtype)
    rows[there] = flat[image, :, position]

    def vjp(g: Array) -> Array:
        back = np.zeros(flat.shape, dtype=x.dtype)
        back[image, :, position] = g[there]
        return back.reshape(x.shape)

    return rows, vjp


def take_positions(xp: Namespace, x: Array, places: Array) -> Array:
    return take_positions_rule(xp, x, places)[0]


def lovasz_softmax_rule(xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool) -> Rule:
    losses, slopes = softmax_extension(p, labels, valid, per_image)
    return losses, lambda g: _scaled(slopes, g)


def lovasz_softmax(xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return softmax_extension(p, labels, valid, per_image)[0]


def lovasz_hinge_rule(xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool) -> Rule:
    losses, slopes = hinge_extension(z, labels, valid, per_image)
    return losses, lambda g: _scaled(slopes, g)


def lovasz_hinge(xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return hinge_extension(z, labels, valid, per_image)[0]


def _scaled(slopes: Array, g: Array) -> Array:
    """Return slopes times the gradient of each set and class, in place: a rule is used once."""
    slopes *= g.reshape(g.shape + (1,) * (slopes.ndim - 2))
    return slopes


LIBRARY = generic.extended("numpy", array_api_compat.numpy, globals())
