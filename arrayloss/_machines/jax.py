"""JAX kernels: reductions over the classes in the form XLA compiles well, with differentiation rules that stay cheap.

Rules are forward ones (`custom_jvp`), so that grad, jvp, vmap and hessian all still work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any

import array_api_compat
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from arrayloss._machines import generic, numpy_components, numpy_lovasz
from arrayloss._machines.generic import Array, Formula, Namespace, one_hot, ranked_lovasz_weights, where_valid

try:
    from jax.experimental import buffer_callback as _callbacks

    buffer_callback: Any = _callbacks.buffer_callback
except ImportError:  # in older versions of JAX
    buffer_callback = None

NAMESPACE = array_api_compat.array_namespace(jnp.zeros(()))
#: Up to so many classes a reduction over them is written out.
_UNROLL = 32
#: Entries from which on a reduction is worth a loop of its own.
_LARGE = 1 << 20


def constant(x: Array) -> Array:
    return jax.lax.stop_gradient(x)


def host_range(x: Array) -> tuple[float, float] | None:
    if isinstance(x, jax.core.Tracer) or x.size == 0 or any(d.platform != "cpu" for d in x.devices()):
        return None
    on_host = np.asarray(x)
    return on_host.min().item(), on_host.max().item()


def on_host(x: Array) -> Any:
    if isinstance(x, jax.core.Tracer):
        raise TypeError("JAX traces it (jit, vmap or a gradient), and it has no values yet")
    return np.asarray(x)


def label_dtype(xp: Namespace, dtype: str) -> Any:
    # Without x64 there is no int64; a uint32 beyond int32 wraps to a negative number and is refused as a label.
    return jnp.int64 if dtype in ("int64", "uint64") else jnp.int32


@cache
def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, static_argnums=(0, 2))


def triangle(xp: Namespace, x: Array, axis: int) -> Array:
    # As two windows, which compile three times as fast as slices.
    window = tuple(5 if i == axis else 1 for i in range(x.ndim))
    for _ in range(2):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * x.ndim, "valid")
    return x / 25


def matmul(xp: Namespace, a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")


def take_positions(xp: Namespace, x: Array, places: Array) -> Array:
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    there = places < flat.shape[0] * flat.shape[2]
    at = jnp.where(there, places, 0)
    rows = flat.at[at // flat.shape[2], :, at % flat.shape[2]].get(mode="promise_in_bounds")
    return where_or(jnp, there[:, None], rows, 0)


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return jnp.asarray(value, dtype=x.dtype)


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else jnp.where(mask, x, jnp.asarray(value, dtype=x.dtype))


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def _max_and_total(z: Array) -> tuple[Array, Array]:
    """Return max(z) and the sum of exp(z - max(z)) over the classes."""
    top = jnp.max(z, axis=1)
    return top, jnp.sum(jnp.exp(z - top[:, None]), axis=1)


def _unrolled_max_and_total(z: Array) -> tuple[Array, Array]:
    """The same, class by class: XLA on the CPU fuses the sum with the exponentials, which it then need not store."""
    if z.shape[1] > _UNROLL:
        return _max_and_total_by_product(z)
    top = z[:, 0]
    for c in range(1, z.shape[1]):
        top = jnp.maximum(top, z[:, c])
    total = jnp.exp(z[:, 0] - top)
    for c in range(1, z.shape[1]):
        total = total + jnp.exp(z[:, c] - top)
    return top, total


def _max_and_total_by_product(z: Array) -> tuple[Array, Array]:
    """The same for many classes: a product with ones, where a sum over the middle axis is slow on the CPU."""
    top = jnp.max(z, axis=1)
    e = jnp.exp(z - top[:, None]).reshape((*z.shape[:2], math.prod(z.shape[2:])))
    total = jnp.einsum("ncp,c->np", e, jnp.ones((z.shape[1],), dtype=z.dtype), precision="highest")
    return top, total.reshape(top.shape)


def _top_and_total(z: Array) -> tuple[Array, Array]:
    """Return max(z) and the sum of exp(z - max(z)) over the classes, for a value."""
    if z.size == 0:
        return _max_and_total(z)
    return jax.lax.platform_dependent(z, cpu=_unrolled_max_and_total, default=_max_and_total)


def _held_top_and_total(z: Array) -> tuple[Array, Array]:
    """The same where every class needs them again, as a gradient does."""
    return _held(_unrolled_max_and_total, _max_and_total, z)


def _at_label(z: Array, labels: Array) -> Array:
    return jnp.take_along_axis(z, labels[:, None], axis=1, mode="clip")[:, 0]


def _softmax_of(z: Array, valid: Array | None, top: Array, total: Array) -> Array:
    # The mask lies on the result alone: no derivative passes through what it hides, and the logits stay as they are.
    return where_valid(jnp, valid, jnp.exp(z - top[:, None]) * (1 / total)[:, None])


@jax.custom_jvp
def _softmax(z: Array, valid: Array | None) -> Array:
    return _softmax_of(z, valid, *_held_top_and_total(z))


@_softmax.defjvp
def _softmax_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    p = _softmax(*primals)
    return p, p * (tangents[0] - jnp.sum(p * tangents[0], axis=1, keepdims=True))


def _held(function: Callable[..., Any], other: Callable[..., Any], z: Array, *arguments: Any) -> Any:
    """Return `function(z, ...)`, on the CPU computed once and held; `other` is the same in another form.

    XLA on the CPU computes again, within each class of whatever uses it, what it thinks cheap. It does not look into a
    conditional, whose condition here is one that it does not know, and that no data enters: they may be sharded.
    """
    if z.size == 0:
        return other(z, *arguments)

    def held(z: Array, *arguments: Any) -> Any:
        barrier: Any = jax.lax.optimization_barrier
        return jax.lax.cond(barrier(jnp.asarray(True)), function, other, z, *arguments)

    return jax.lax.platform_dependent(z, *arguments, cpu=held, default=other)


def count(xp: Namespace, mask: Array) -> Array:
    def by_rows(mask: Array) -> Array:
        # Whole numbers up to 2^24 are exact in float32, whose sums are the faster ones.
        rows = mask if mask.ndim == 0 or mask.shape[-1] > 1 << 24 else jnp.sum(mask, axis=-1, dtype=jnp.float32)
        return jnp.sum(rows, dtype=jnp.int32)

    return _held_reduction(by_rows, partial(jnp.sum, dtype=jnp.int32), mask)


def any_of(xp: Namespace, mask: Array) -> Array:
    return _held_reduction(jnp.any, lambda mask: jnp.any(jnp.any(mask, axis=-1)), mask)


def _held_reduction(reduce: Callable[..., Array], other: Callable[..., Array], mask: Array) -> Array:
    """Reduce a mask; a large one on its own, since XLA on the CPU fuses reductions into one slow loop."""
    return reduce(mask) if mask.size < _LARGE else _held(reduce, other, mask)


@jax.custom_jvp
def _softmax_sums(z: Array, labels: Array, valid: Array | None) -> Array:
    p = _held_softmax(z, valid)
    return jnp.stack([_label_totals(_at_label(p, labels), labels, z.shape[1]), _position_totals(p)])


@_softmax_sums.defjvp
def _softmax_sums_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, labels, valid = primals
    p, dz = _held_softmax(z, valid), tangents[0]
    at_label = _at_label(p, labels)
    overlap = _label_totals(at_label, labels, z.shape[1])
    mean = jnp.sum(p * dz, axis=1)
    # Written so that its transpose is a product of p with one number a class, and one pass over the logits.
    change = generic.sum_positions(jnp, p * dz) - jnp.einsum("nc...,n...->nc", p, mean, precision="highest")
    dz_at_label = jnp.sum(where_or(jnp, one_hot(jnp, labels, z.shape[1]), dz, 0), axis=1)
    overlap_change = _label_totals(at_label * (dz_at_label - mean), labels, z.shape[1])
    return jnp.stack([overlap, _position_totals(p)]), jnp.stack([overlap_change, change])


def _held_softmax(z: Array, valid: Array | None) -> Array:
    def divided(z: Array, valid: Array | None, top: Array, total: Array) -> Array:
        return where_valid(jnp, valid, jnp.exp(z - top[:, None]) / total[:, None])

    return _held(_softmax_of, divided, z, valid, *_held_top_and_total(z))


def _position_totals(x: Array) -> Array:
    """Return the sum over the positions, in two steps where they can be split: a long running sum in float32 drifts."""
    positions = math.prod(x.shape[2:])
    width = math.gcd(positions, 1 << (positions.bit_length() // 2))
    return jnp.sum(jnp.sum(x.reshape((*x.shape[:2], positions // max(width, 1), width)), axis=-1), axis=-1)


def _label_totals(x: Array, labels: Array, classes: int) -> Array:
    """Return the sum of `x` over the positions of each image with each label, shape `(N, classes)`."""
    images, positions = labels.shape[0], math.prod(labels.shape[1:])
    # Bins of their own for every so many positions: a long running sum in float32 drifts.
    block = max(math.isqrt(positions) + 1, classes)
    first = jnp.arange(positions, dtype=labels.dtype)[None] // block * classes
    place = first + labels.reshape((images, positions))
    blocks = -(-positions // block)
    bins = jnp.zeros((images, blocks * classes), dtype=x.dtype)
    # Image by image, so that a batch that is sharded stays so.
    add: Any = jax.vmap(lambda bins, place, x: bins.at[place].add(x, mode="promise_in_bounds"))
    bins = add(bins, place, x.reshape((images, positions)))
    return jnp.sum(bins.reshape((images, blocks, classes)), axis=1)


def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Array:
    return _bin_totals(x, bins, size)


_bin_totals = jax.jit(_label_totals, static_argnums=2)
_jitted_softmax_sums = jax.jit(_softmax_sums)


def softmax_sums(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return _jitted_softmax_sums(z, labels, valid)


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    return _label_counts(labels, valid, classes, dtype)


@partial(jax.jit, static_argnums=(2, 3))
def _label_counts(labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    ones = jnp.ones(labels.shape, dtype=jnp.int32) if valid is None else valid.astype(jnp.int32)
    return _label_totals(ones, labels, classes).astype(dtype)


@jax.custom_jvp
def _label_nll(z: Array, labels: Array, valid: Array | None) -> Array:
    top, total = _top_and_total(z)
    return where_or(jnp, valid, jnp.log(total) - (_at_label(z, labels) - top), 0)


@_label_nll.defjvp
def _label_nll_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, labels, valid = primals
    top, total = _held_top_and_total(z)
    hit = one_hot(jnp, labels, z.shape[1])
    if valid is not None:
        hit = hit & valid[:, None]
    q = _softmax(z, valid) - hit.astype(z.dtype)
    return where_or(jnp, valid, jnp.log(total) - (_at_label(z, labels) - top), 0), jnp.sum(q * tangents[0], axis=1)


_jitted_label_nll = jax.jit(_label_nll)


def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return _jitted_label_nll(z, labels, valid)


_jitted_softmax = jax.jit(_softmax)


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return _jitted_softmax(z, valid)


def _summed_mean(z: Array, values: Array, top: Array, total: Array) -> Array:
    return jnp.sum(jnp.exp(z - top[:, None]) * values, axis=1) / total


def _unrolled_mean(z: Array, values: Array, top: Array, total: Array) -> Array:
    """The same, class by class, where that is fast."""
    if z.shape[1] > _UNROLL:
        return _summed_mean(z, values, top, total)
    mean = jnp.exp(z[:, 0] - top) * values[:, 0]
    for c in range(1, z.shape[1]):
        mean = mean + jnp.exp(z[:, c] - top) * values[:, c]
    return mean / total


@jax.custom_jvp
def _softmax_mean(z: Array, values: Array, valid: Array | None) -> Array:
    mean = _held(_unrolled_mean, _summed_mean, z, values, *_held_top_and_total(z))
    return where_or(jnp, valid, mean, 0)


@_softmax_mean.defjvp
def _softmax_mean_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, values, valid = primals
    top, total = _held_top_and_total(z)
    mean = where_or(jnp, valid, _held(_unrolled_mean, _summed_mean, z, values, top, total), 0)
    # The probabilities are computed again where they are used, and never stored.
    slopes = where_valid(jnp, valid, _softmax_of(z, valid, top, total) * (values - mean[:, None]))
    return mean, jnp.sum(slopes * tangents[0], axis=1)


_jitted_softmax_mean = jax.jit(_softmax_mean)


def softmax_mean(xp: Namespace, z: Array, values: Array, valid: Array | None) -> Array:
    return _jitted_softmax_mean(z, values, valid)


def _summed_squares(z: Array, labels: Array, values: Array, top: Array, total: Array) -> Array:
    error = jnp.exp(z - top[:, None]) / total[:, None] - one_hot(jnp, labels, z.shape[1]).astype(z.dtype)
    return jnp.sum(error * error * values, axis=1)


def _unrolled_squares(z: Array, labels: Array, values: Array, top: Array, total: Array) -> Array:
    """The same, class by class, where that is fast."""
    if z.shape[1] > _UNROLL:
        return _summed_squares(z, labels, values, top, total)
    share, losses = 1 / total, jnp.zeros_like(top)
    for c in range(z.shape[1]):
        error = jnp.exp(z[:, c] - top) * share - (labels == c).astype(z.dtype)
        losses = losses + error * error * values[:, c]
    return losses


@jax.custom_jvp
def _softmax_squares(z: Array, labels: Array, values: Array, valid: Array | None) -> Array:
    losses = _held(_unrolled_squares, _summed_squares, z, labels, values, *_held_top_and_total(z))
    return where_or(jnp, valid, losses, 0)


@_softmax_squares.defjvp
def _softmax_squares_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, labels, values, valid = primals
    top, total = _held_top_and_total(z)
    losses = where_or(jnp, valid, _held(_unrolled_squares, _summed_squares, z, labels, values, top, total), 0)
    at_label = _at_label(values, labels) * (jnp.exp(_at_label(z, labels) - top) / total - 1)
    # As above, the probabilities are never stored.
    p = _softmax_of(z, valid, top, total)
    error = p - one_hot(jnp, labels, z.shape[1]).astype(z.dtype)
    slopes = where_valid(jnp, valid, 2 * p * (error * values - (losses + at_label)[:, None]))
    return losses, jnp.sum(slopes * tangents[0], axis=1)


_jitted_softmax_squares = jax.jit(_softmax_squares)


def softmax_squares(xp: Namespace, z: Array, labels: Array, values: Array, valid: Array | None) -> Array:
    return _jitted_softmax_squares(z, labels, values, valid)


@jax.custom_jvp
def _softmax_at(z: Array, classes: Array, valid: Array | None) -> Array:
    top, total = _held_top_and_total(z)
    return where_valid(jnp, valid, jnp.exp(_at_classes(z, classes) - top[:, None]) / total[:, None])


@_softmax_at.defjvp
def _softmax_at_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, classes, valid = primals
    at_classes, p, dz = _softmax_at(*primals), _softmax(z, valid), tangents[0]
    # As sums over all classes, whose transposes are selections: XLA scatters slowly.
    index = jnp.arange(z.shape[1], dtype=classes.dtype).reshape(1, -1, *(1,) * (z.ndim - 2))
    picked = [jnp.sum(where_or(jnp, classes[:, i, None] == index, dz, 0), axis=1) for i in range(classes.shape[1])]
    return at_classes, at_classes * (jnp.stack(picked, axis=1) - jnp.sum(p * dz, axis=1, keepdims=True))


def _at_classes(z: Array, classes: Array) -> Array:
    return jnp.take_along_axis(z, classes, axis=1, mode="clip")


_jitted_softmax_at = jax.jit(_softmax_at)


def softmax_at(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Array:
    return _jitted_softmax_at(z, classes, valid)


@jax.jit
def _log_softmax(z: Array, valid: Array | None) -> Array:
    z = where_valid(jnp, valid, z)
    top, total = _held_top_and_total(z)
    return where_valid(jnp, valid, z - top[:, None] - jnp.log(total)[:, None])


def log_softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return _log_softmax(z, valid)


@jax.custom_jvp
def _softplus(x: Array) -> Array:
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@_softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return _softplus(*primals), jax.nn.sigmoid(primals[0]) * tangents[0]


_jitted_softplus = jax.jit(_softplus)


def softplus(xp: Namespace, x: Array) -> Array:
    return _jitted_softplus(x)


def sigmoid(xp: Namespace, x: Array) -> Array:
    return jax.nn.sigmoid(x)


@jax.custom_jvp
def _binary_total(x: Array, y: Array, valid: Array | None) -> Array:
    largest = float(np.finfo(x.dtype).max)
    away = jnp.abs(x)
    # An infinite score costs nothing on the right side and, with the largest number for it, what the sum tells apart:
    # selections within the sum would triple its time on the CPU.
    losses = jnp.log1p(jnp.exp(-away)) + jnp.where(x > 0, 1 - y, y) * jnp.minimum(away, largest)
    total = _sum(where_or(jnp, valid, losses, 0))
    return jnp.where(total >= largest, jnp.inf, total)


def _sum(x: Array) -> Array:
    """Return the sum of all entries, by rows first: a long running sum in float32 drifts."""
    return jnp.sum(jnp.sum(x, axis=-1)) if x.ndim else x


def _binary_total_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    x, y, valid = primals
    change = jnp.zeros((), dtype=x.dtype)
    if not isinstance(tangents[0], SymbolicZero):
        change += jnp.sum(where_or(jnp, valid, jax.nn.sigmoid(x) - y, 0) * tangents[0])
    if not isinstance(tangents[1], SymbolicZero):
        change -= jnp.sum(where_or(jnp, valid, x, 0) * tangents[1])
    return _binary_total(x, y, valid), change


# Targets can be learned too, but are constants as a rule, to which no pass is given.
_binary_total.defjvp(_binary_total_jvp, symbolic_zeros=True)

_jitted_binary_total = jax.jit(_binary_total)


def binary_total(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Array:
    return _jitted_binary_total(x, y, valid)


@jax.custom_jvp
def _binary_label_total(x: Array, labels: Array, valid: Array | None) -> Array:
    hit = one_hot(jnp, labels, x.shape[1])
    losses = jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.where(hit, jnp.maximum(-x, 0), jnp.maximum(x, 0))
    return jnp.sum(where_valid(jnp, valid, losses))


@_binary_label_total.defjvp
def _binary_label_total_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    x, labels, valid = primals
    side = jnp.where(one_hot(jnp, labels, x.shape[1]), -1, 1).astype(x.dtype)
    slopes = where_valid(jnp, valid, jax.nn.sigmoid(side * x) * side)
    return _binary_label_total(x, labels, valid), jnp.sum(slopes * tangents[0])


_jitted_binary_label_total = jax.jit(_binary_label_total)


def binary_label_total(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Array:
    return _jitted_binary_label_total(x, labels, valid)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4, 5))
def _entries(
    x: Array, t: Array | None, valid: Array | None, formula: Formula, options: tuple[float, ...], total: bool
) -> Array:
    losses = where_or(jnp, valid, formula.losses(NAMESPACE, where_or(jnp, valid, x, 0), t, *options), 0)
    return _sum(losses) if total else losses


def _entries_jvp(
    formula: Formula, options: tuple[float, ...], total: bool, primals: Any, tangents: Any
) -> tuple[Array, Array]:
    x, t, valid = primals
    clean = where_or(jnp, valid, x, 0)
    change = jnp.zeros_like(x)
    if not isinstance(tangents[0], SymbolicZero):
        change += formula.slopes(NAMESPACE, clean, t, *options) * tangents[0]
    if t is not None and not isinstance(tangents[1], SymbolicZero):
        change += jax.jvp(lambda t: formula.losses(NAMESPACE, clean, t, *options), (t,), (tangents[1],))[1]
    change = where_or(jnp, valid, change, 0)
    return _held_entries(x, t, valid, formula, options, total), _sum(change) if total else change


_entries.defjvp(_entries_jvp, symbolic_zeros=True)


def _held_entries(
    x: Array, t: Array | None, valid: Array | None, formula: Formula, options: tuple[float, ...], total: bool
) -> Array:
    """Return `_entries`; a large total on its own, since XLA on the CPU shares passes between it and the slopes."""
    if not total or x.size < _LARGE:
        return _entries(x, t, valid, formula, options, total)
    return _held(
        lambda *arrays: _entries(*arrays, formula, options, True),
        lambda *arrays: jnp.sum(_entries(*arrays, formula, options, False)),
        *(x, t, valid),
    )


@partial(jax.jit, static_argnums=(3, 4, 5))
def _jitted_entries(
    x: Array, t: Array | None, valid: Array | None, formula: Formula, options: tuple[float, ...], total: bool
) -> Array:
    return _entries(x, t, valid, formula, options, total)


def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    return _jitted_entries(x, t, valid, formula, options, False)


def entry_total(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    return _jitted_entries(x, t, valid, formula, options, True)


def _normalisers(z: Array, t: Array, valid: Array | None, scale: float) -> tuple[Array, ...]:
    """Return the largest z and the logarithm of the sum of exp(scale (z - largest)), and likewise of t."""
    found = []
    for x in (where_valid(jnp, valid, z), where_valid(jnp, valid, t)):
        top = jax.lax.stop_gradient(jnp.max(x, axis=1))
        found += [top, jnp.log(jnp.sum(jnp.exp((x - top[:, None]) * scale), axis=1))]
    return tuple(found)


def _unrolled_normalisers(z: Array, t: Array, valid: Array | None, scale: float) -> tuple[Array, ...]:
    if z.shape[1] > _UNROLL:
        return _normalisers(z, t, valid, scale)
    found = []
    for x in (z, t):
        each = [where_or(jnp, valid, x[:, c], 0) for c in range(x.shape[1])]
        top = jax.lax.stop_gradient(reduce(jnp.maximum, each))
        found += [top, jnp.log(reduce(jnp.add, [jnp.exp((a - top) * scale) for a in each]))]
    return tuple(found)


def _of_classes(
    z: Array, t: Array, valid: Array | None, weight: Array | None, *normalisers: Array, scale: float, formula: Formula
) -> tuple[Array, Array, Array]:
    """Return losses and slopes of classes and p, from scores, masks and normalisers that broadcast together."""
    top, log_total, other_top, other_log_total = normalisers
    log_p = (where_or(jnp, valid, z, 0) - top) * scale - log_total
    log_q = (where_or(jnp, valid, t, 0) - other_top) * scale - other_log_total
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    given = (NAMESPACE, *generic._ruled_in(NAMESPACE, log_p, log_q, q), p, q)
    losses, slopes = formula.losses(*given), formula.slopes(*given)
    if weight is not None:
        losses, slopes = (jnp.where(weight != 0, a, 0) * weight for a in (losses, slopes))
    return losses, slopes, p


def _at_entries(
    z: Array, t: Array, valid: Array | None, weight: Array | None, *normalisers: Array, **how: Any
) -> tuple[Array, Array, Array]:
    mask = None if valid is None else valid[:, None]
    weight = None if weight is None else weight.reshape((1, -1) + (1,) * (z.ndim - 2))
    return _of_classes(z, t, mask, weight, *(a[:, None] for a in normalisers), **how)


def _class_totals(z: Array, *arguments: Any, **how: Any) -> tuple[Array, Array]:
    """Return the sums of losses and of slopes over the classes."""
    losses, slopes, _ = _at_entries(z, *arguments, **how)
    return jnp.sum(losses, axis=1), jnp.sum(slopes, axis=1)


def _unrolled_class_totals(
    z: Array, t: Array, valid: Array | None, weight: Array | None, *normalisers: Array, **how: Any
) -> tuple[Array, Array]:
    if z.shape[1] > _UNROLL:
        return _class_totals(z, t, valid, weight, *normalisers, **how)
    each = [
        _of_classes(z[:, c], t[:, c], valid, None if weight is None else weight[c], *normalisers, **how)
        for c in range(z.shape[1])
    ]
    return reduce(jnp.add, [a[0] for a in each]), reduce(jnp.add, [a[1] for a in each])


def _divergence_totals(
    z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> tuple[Array, Array, tuple[Array, ...]]:
    """Return the sums over the classes, losses and slopes, and the normalisers, each held (see `_held`)."""
    normalisers = _held(partial(_unrolled_normalisers, scale=scale), partial(_normalisers, scale=scale), z, t, valid)
    how: dict[str, Any] = {"scale": scale, "formula": formula}
    written, summed = partial(_unrolled_class_totals, **how), partial(_class_totals, **how)
    losses, slopes = _held(written, summed, z, t, valid, weight, *normalisers)
    return where_or(jnp, valid, losses, 0), slopes, normalisers


@partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _divergence(z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula) -> Array:
    return _divergence_totals(z, t, valid, weight, scale, formula)[0]


def _divergence_jvp(scale: float, formula: Formula, primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, t, valid, weight = primals
    losses, total, normalisers = _divergence_totals(z, t, valid, weight, scale, formula)
    change = jnp.zeros_like(losses)
    if not isinstance(tangents[0], SymbolicZero):
        _, slopes, p = _at_entries(z, t, valid, weight, *normalisers, scale=scale, formula=formula)
        change += jnp.sum((slopes - p * total[:, None]) * scale * tangents[0], axis=1)
    # The other scores and the weights are constants as a rule, to which no pass is given.
    for i in (1, 3):
        if primals[i] is not None and not isinstance(tangents[i], SymbolicZero):

            def of(x: Array, i: int = i) -> Array:
                arguments: Any = (*primals[:i], x, *primals[i + 1 :], scale, formula)
                return _divergence_totals(*arguments)[0]

            change += jax.jvp(of, (primals[i],), (tangents[i],))[1]
    return losses, where_or(jnp, valid, change, 0)


_divergence.defjvp(_divergence_jvp, symbolic_zeros=True)

_jitted_divergence = jax.jit(_divergence, static_argnums=(4, 5))


def divergence(
    xp: Namespace, z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> Array:
    return _jitted_divergence(z, t, valid, weight, scale, formula)


def _gap_totals(
    of: Callable[..., Array], z: Array, labels: Array, valid: Array | None, at_label: Array, options: tuple[float, ...]
) -> Array:
    """Return the sum over the classes other than the label, of losses or of slopes."""
    return jnp.sum(_gap_entries(of, z, labels, valid, at_label, options), axis=1)


def _unrolled_gap_totals(
    of: Callable[..., Array], z: Array, labels: Array, valid: Array | None, at_label: Array, options: tuple[float, ...]
) -> Array:
    if z.shape[1] > _UNROLL:
        return _gap_totals(of, z, labels, valid, at_label, options)
    each = [
        jnp.where(labels == c, 0, of(NAMESPACE, where_or(jnp, valid, z[:, c], 0) - at_label, None, *options))
        for c in range(z.shape[1])
    ]
    return reduce(jnp.add, each)


def _gap_entries(
    of: Callable[..., Array], z: Array, labels: Array, valid: Array | None, at_label: Array, options: tuple[float, ...]
) -> Array:
    found = of(NAMESPACE, where_valid(jnp, valid, z) - at_label[:, None], None, *options)
    return jnp.where(one_hot(jnp, labels, z.shape[1]), 0, found)


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _gap_losses(z: Array, labels: Array, valid: Array | None, formula: Formula, options: tuple[float, ...]) -> Array:
    at_label = where_or(jnp, valid, _at_label(z, labels), 0)
    written, summed = (partial(f, formula.losses, options=options) for f in (_unrolled_gap_totals, _gap_totals))
    return where_or(jnp, valid, _held(written, summed, z, labels, valid, at_label), 0)


@_gap_losses.defjvp
def _gap_losses_jvp(formula: Formula, options: tuple[float, ...], primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, labels, valid = primals
    at_label = where_or(jnp, valid, _at_label(z, labels), 0)
    written, summed = (partial(f, formula.slopes, options=options) for f in (_unrolled_gap_totals, _gap_totals))
    total = _held(written, summed, z, labels, valid, at_label)
    slopes = _gap_entries(formula.slopes, z, labels, valid, at_label, options)
    slopes = jnp.where(one_hot(jnp, labels, z.shape[1]), -total[:, None], slopes)
    change = jnp.sum(slopes * tangents[0], axis=1)
    return _gap_losses(z, labels, valid, formula, options), where_or(jnp, valid, change, 0)


_jitted_gap_losses = jax.jit(_gap_losses, static_argnums=(3, 4))


def gap_losses(xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float) -> Array:
    return _jitted_gap_losses(z, labels, valid, formula, options)


def _shares_of_members(z: Array, members: Array, valid: Array | None) -> tuple[Array, Array, Array]:
    """Return the members' largest score, the sum of their exponentials less it, and the share of each in that.

    Where all members are -inf the sum is 1, and the shares are 0.
    """
    z = where_valid(jnp, valid, z)
    if valid is not None:
        members = members | ~valid[:, None]
    # The least score, where -inf would do, loses to every member's, and is infinite only where one is.
    own = jax.lax.stop_gradient(jnp.min(z, axis=1, keepdims=True))
    own = jnp.where(members, z, own)
    top = jax.lax.stop_gradient(jnp.max(own, axis=1))
    some = ~(top == -math.inf)
    e = where_or(jnp, members & some[:, None], jnp.exp(own - where_or(jnp, some, top, 0)[:, None]), 0)
    total = where_or(jnp, some, jnp.sum(e, axis=1), 1)
    return top, total, e / total[:, None]


@jax.custom_jvp
def _members_nll(z: Array, members: Array, valid: Array | None) -> Array:
    top, total = _top_and_total(where_valid(jnp, valid, z))
    top_own, total_own, _ = _shares_of_members(z, members, valid)
    return where_or(jnp, valid, jnp.log(total) - jnp.log(total_own) + (top - top_own), 0)


@_members_nll.defjvp
def _members_nll_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    z, members, valid = primals
    slopes = where_valid(jnp, valid, _softmax(z, valid) - _shares_of_members(z, members, valid)[2])
    return _members_nll(*primals), jnp.sum(slopes * tangents[0], axis=1)


_jitted_members_nll = jax.jit(_members_nll)


def members_nll(xp: Namespace, z: Array, members: Array, valid: Array | None) -> Array:
    return _jitted_members_nll(z, members, valid)


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _unexplained(predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    with jax.default_matmul_precision("highest"):
        return generic._window_rules(NAMESPACE, *_held_windows(predicted, true, valid, radius))[0]


def _held_windows(predicted: Array, true: Array, valid: Array | None, radius: int) -> tuple[Array, Array, Array | None]:
    """Return the windows, of cells that are computed once: XLA on the CPU would do so again for each window."""

    def once(x: Array) -> Array:
        return _held(lambda x: x, lambda x: x + 0, x)

    predicted, true, weights = generic._all_windows(NAMESPACE, once(predicted), once(true), valid, radius)
    return predicted, true, None if weights is None else once(weights)


def _unexplained_jvp(radius: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    with jax.default_matmul_precision("highest"):
        value, rules = generic._window_rules(NAMESPACE, *_held_windows(primals[0], primals[1], primals[2], radius))
        change = jnp.zeros_like(value)
        for vjp, tangent in zip(rules, tangents, strict=False):
            if not isinstance(tangent, SymbolicZero):
                windows = generic._windows(NAMESPACE, tangent, radius)
                change += jnp.sum(vjp(jnp.ones_like(value)) * windows, axis=(2, 3))
    return value, change


_unexplained.defjvp(_unexplained_jvp, symbolic_zeros=True)

_jitted_unexplained = jax.jit(_unexplained, static_argnums=3)


def unexplained(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    return _jitted_unexplained(predicted, true, valid, radius)


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    if rng is None:
        raise ValueError("JAX has no default generator: expected rng=, a JAX key such as jax.random.key(0), or noise=")
    if not isinstance(rng, jax.Array):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a JAX key such as jax.random.key(0)")
    return jax.random.gumbel(rng, like.shape, like.dtype)


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    return _kth_largest(rows, k)


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    enough = jnp.sum(row > bound, dtype=jnp.int32) >= k
    largest = float(np.finfo(row.dtype).max)
    return jax.lax.cond(
        enough, lambda row: jnp.full(1, largest, dtype=row.dtype), lambda row: _kth_largest(row, k), row
    )


@partial(jax.jit, static_argnums=1)
def _kth_largest(rows: Array, k: int) -> Array:
    """Find the k-th largest bit by bit, from the highest: a pass over the rows each, where XLA's sort is slow."""
    bits = 8 * rows.dtype.itemsize
    unsigned = jnp.dtype(f"uint{bits}")
    sign = jnp.asarray(1 << (bits - 1), dtype=unsigned)
    # Integers in the order of the numbers, a NaN of either sign above all.
    raw = jax.lax.bitcast_convert_type(jnp.where(jnp.isnan(rows), jnp.nan, rows), unsigned)
    keys = jnp.where(raw >= sign, ~raw, raw | sign)

    def refine(i: Array, found: Array) -> Array:
        higher = found | (sign >> i.astype(unsigned))
        enough = jnp.sum(keys >= higher[:, None], axis=1, dtype=jnp.int32) >= k
        return jnp.where(enough, higher, found)

    found = jax.lax.fori_loop(0, bits, refine, jnp.zeros(rows.shape[:1], dtype=unsigned))
    return jax.lax.bitcast_convert_type(jnp.where(found >= sign, found ^ sign, ~found), rows.dtype)


def running_sum(xp: Namespace, x: Array) -> Array:
    return jnp.cumsum(x, axis=-1, dtype=x.dtype)


def _running_max(xp: Namespace, x: Array) -> Array:
    return jax.lax.cummax(x, axis=x.ndim - 1)


def _lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    errors = jax.lax.stop_gradient(errors)
    keys = where_or(jnp, valid, errors, -1)
    place = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 1)
    _, ranked, hit, order = jax.lax.sort((-keys, keys, positive.astype(jnp.int32), place), dimension=1, num_keys=1)
    weights = ranked_lovasz_weights(NAMESPACE, ranked, hit, running_sum, _running_max)
    return jax.lax.sort((order, weights), dimension=1, num_keys=1)[1]


lovasz_weights = jax.jit(_lovasz_weights, static_argnums=0)


@partial(jax.jit, static_argnums=(1, 2))
def _components(labels: Array, classes: int, most: int) -> Array:
    def portable(labels: Array) -> Array:
        positions = math.prod(labels.shape[1:])
        touching = generic._neighbours(NAMESPACE, labels)
        roots = _roots(labels, touching)
        rows = labels.reshape((labels.shape[0], positions))
        return jax.vmap(partial(_size_ranks, most=most))(rows, roots).reshape(labels.shape)

    def shared(labels: Array) -> Array:
        def compute(_: Any, out: Any, labels: Any) -> None:
            np.asarray(out)[...] = numpy_components.ranked_components(np.asarray(labels), classes, most)

        found: Array = buffer_callback(compute, labels, vmap_method="sequential")(labels)
        return found

    if not _calls_host(labels):
        return portable(labels)
    return jax.lax.platform_dependent(labels, cpu=shared, default=portable)


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    return _components(labels, classes, most)


def _roots(labels: Array, touching: Any) -> Array:
    """Return the first position of the component of each position, `(N, P)`: the rounds of `generic`, by need."""
    images, positions = labels.shape[0], math.prod(labels.shape[1:])
    start = jnp.broadcast_to(jnp.arange(positions, dtype=jnp.int32), (images, positions))

    def join(state: tuple[Array, Array]) -> tuple[Array, Array]:
        root, _ = state
        near = generic._least_neighbour(NAMESPACE, root.reshape(labels.shape), touching).reshape(root.shape)
        parent = jax.vmap(lambda root, near: root.at[root].min(near))(root, near)
        parent = _shortened(parent)
        return parent, jnp.any(parent != root)

    return jax.lax.while_loop(lambda state: state[1], join, (start, jnp.asarray(True)))[0]


def _shortened(parent: Array) -> Array:
    """Return the end of the chain of parents of each position."""

    def jump(state: tuple[Array, Array]) -> tuple[Array, Array]:
        parent, _ = state
        above = jax.vmap(lambda parent: parent[parent])(parent)
        return above, jnp.any(above != parent)

    return jax.lax.while_loop(lambda state: state[1], jump, (parent, jnp.asarray(True)))[0]


def _size_ranks(labels: Array, root: Array, most: int) -> Array:
    """Return the rank of each position's component among those of its label, by falling size, in one image."""
    index = jnp.arange(root.size, dtype=jnp.int32)
    size = jnp.zeros_like(root).at[root].add(1)
    # Roots of a label come together, the largest first; behind them, or before them, stands what is not ranked.
    label = jnp.where(root == index, labels, -1).astype(jnp.int32)
    label, _, place = jax.lax.sort((label, -size, index), num_keys=2, is_stable=True)
    fresh = jnp.concatenate([jnp.ones(min(1, root.size), dtype=bool), label[1:] != label[:-1]])
    rank = jnp.zeros_like(root).at[place].set(index - jax.lax.cummax(jnp.where(fresh, index, 0)))
    return jnp.where(labels >= 0, jnp.minimum(rank[root], most), most).astype(labels.dtype)


def _calls_host(x: Array) -> bool:
    """Whether the host may compute on the memory of JAX on the CPU."""
    # XLA would gather a sharded batch for a callback.
    single = jax.local_device_count("cpu") == 1
    return buffer_callback is not None and not generic.PORTABLE and x.size > 0 and single


def _extension(on_host: Any, rule: Any, scores: Array, labels: Array, valid: Array | None, per_image: bool) -> Any:
    """Return the value of a Lovasz extension and its slopes: by NumPy on the host, by XLA elsewhere."""

    def portable(scores: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
        losses, vjp = rule(NAMESPACE, scores, labels, valid, per_image, _lovasz_weights)
        return losses, vjp(jnp.ones_like(losses))

    def shared(scores: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
        def compute(_: Any, out: Any, *given: Any) -> None:
            arrays = (None if a is None else np.asarray(a) for a in given)
            for array, found in zip(out, on_host(*arrays, per_image), strict=True):
                np.asarray(array)[...] = found

        sets = scores.shape[0] if per_image else 1
        like = (jax.eval_shape(lambda: jnp.empty((sets, scores.shape[1]), scores.dtype)), scores)
        found: tuple[Array, Array] = buffer_callback(compute, like, vmap_method="sequential")(scores, labels, valid)
        return found

    scores = jax.lax.stop_gradient(scores)
    if not _calls_host(scores):
        return portable(scores, labels, valid)
    return jax.lax.platform_dependent(scores, labels, valid, cpu=shared, default=portable)


def _lovasz(on_host: Any, rule: Any) -> Any:
    """Return a Lovasz extension of scores, whose derivative is a product with the slopes."""

    @partial(jax.custom_jvp, nondiff_argnums=(3,))
    def value(scores: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
        losses: Array = _extension(on_host, rule, scores, labels, valid, per_image)[0]
        return losses

    @value.defjvp
    def value_jvp(per_image: bool, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
        losses, slopes = _extension(on_host, rule, primals[0], primals[1], primals[2], per_image)
        change = generic.sum_positions(jnp, slopes * tangents[0])
        return losses, change if per_image else jnp.sum(change, axis=0, keepdims=True)

    jitted = jax.jit(value, static_argnums=3)
    return lambda xp, *arguments: jitted(*arguments)


lovasz_softmax = _lovasz(numpy_lovasz.softmax_extension, generic.lovasz_softmax_rule)
lovasz_hinge = _lovasz(numpy_lovasz.hinge_extension, generic.lovasz_hinge_rule)


LIBRARY = generic.extended("jax", NAMESPACE, globals())
