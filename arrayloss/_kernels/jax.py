"""JAX kernels: reductions over the classes in the form XLA compiles well, with differentiation rules that stay cheap.

Rules are forward ones (`custom_jvp`), so that grad, jvp, vmap and hessian all still work.
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat
import jax
import jax.numpy as jnp

from arrayloss._kernels import generic
from arrayloss._kernels.generic import Array, Namespace, one_hot, ranked_lovasz_weights, where_valid

NAMESPACE = array_api_compat.array_namespace(jnp.zeros(()))
#: Up to so many classes a reduction over them is written out: XLA on the CPU then fuses it with what feeds it.
_UNROLL = 32


def constant(x: Array) -> Array:
    return jax.lax.stop_gradient(x)


def host_range(x: Array) -> tuple[float, float] | None:
    if isinstance(x, jax.core.Tracer) or x.size == 0 or any(d.platform != "cpu" for d in x.devices()):
        return None
    import numpy as np

    on_host = np.asarray(x)
    return on_host.min().item(), on_host.max().item()


def label_dtype(xp: Namespace, dtype: str) -> Any:
    # Without x64 there is no int64; a uint32 beyond int32 wraps to a negative number and is refused as a label.
    return jnp.int64 if dtype in ("int64", "uint64") else jnp.int32


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return jnp.asarray(value, dtype=x.dtype)


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else jnp.where(mask, x, jnp.asarray(value, dtype=x.dtype))


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def _sum_by_product(x: Array) -> Array:
    flat = x.reshape((*x.shape[:2], math.prod(x.shape[2:])))
    total = jnp.einsum("ncp,c->np", flat, jnp.ones((x.shape[1],), dtype=x.dtype), precision="highest")
    return total.reshape((x.shape[0], *x.shape[2:]))


def _sum_plainly(x: Array) -> Array:
    return jnp.sum(x, axis=1)


def _sum_classes(x: Array) -> Array:
    """Sum over axis 1; on the CPU as a product with ones, which is not recomputed inside whatever uses it."""
    if x.size == 0:
        return _sum_plainly(x)
    return jax.lax.platform_dependent(x, cpu=_sum_by_product, default=_sum_plainly)


def _top_and_total(z: Array) -> tuple[Array, Array]:
    """Return max(z) and the sum of exp(z - max(z)) over the classes."""
    if z.shape[1] > _UNROLL:
        return _held_top_and_total(z)
    top = z[:, 0]
    for c in range(1, z.shape[1]):
        top = jnp.maximum(top, z[:, c])
    total = jnp.exp(z[:, 0] - top)
    for c in range(1, z.shape[1]):
        total = total + jnp.exp(z[:, c] - top)
    return top, total


def _held_top_and_total(z: Array) -> tuple[Array, Array]:
    """The same where every class needs the sum again, as a gradient does: it is computed once and held."""
    top = jax.lax.stop_gradient(jnp.max(z, axis=1))
    return top, _sum_classes(jnp.exp(z - top[:, None]))


def _at_label(z: Array, labels: Array) -> Array:
    return jnp.take_along_axis(z, labels[:, None], axis=1, mode="clip")[:, 0]


@jax.custom_jvp
def _softmax(z: Array, valid: Array | None) -> Array:
    top, total = _held_top_and_total(z)
    # The mask lies on the result alone: no derivative passes through what it hides, and the logits stay as they are.
    return where_valid(jnp, valid, jnp.exp(z - top[:, None]) * (1 / total)[:, None])


@_softmax.defjvp
def _softmax_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    p = _softmax(*primals)
    return p, p * (tangents[0] - jnp.sum(p * tangents[0], axis=1, keepdims=True))


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


@jax.jit
def _members_nll(z: Array, members: Array, valid: Array | None) -> Array:
    z = where_valid(jnp, valid, z)
    if valid is not None:
        members = members | ~valid[:, None]
    top, total = _held_top_and_total(z)
    own = jnp.where(members, z - top[:, None], -jnp.inf)
    own_top, own_total = _held_top_and_total(own)
    return where_or(jnp, valid, jnp.log(total) - jnp.log(own_total) - own_top, 0)


def members_nll(xp: Namespace, z: Array, members: Array, valid: Array | None) -> Array:
    return _members_nll(z, members, valid)


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    if rng is None:
        raise ValueError("JAX has no default generator: expected rng=, a JAX key such as jax.random.key(0), or noise=")
    if not isinstance(rng, jax.Array):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a JAX key such as jax.random.key(0)")
    return jax.random.gumbel(rng, like.shape, like.dtype)


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    return jax.lax.top_k(rows, k)[0][:, k - 1]


def _running_sum(xp: Namespace, x: Array) -> Array:
    return jnp.cumsum(x, axis=-1, dtype=x.dtype)


def _running_max(xp: Namespace, x: Array) -> Array:
    return jax.lax.cummax(x, axis=x.ndim - 1)


@jax.jit
def _lovasz_weights(errors: Array, positive: Array, valid: Array | None) -> Array:
    keys = where_or(jnp, valid, errors, -1)
    place = jax.lax.broadcasted_iota(jnp.int32, keys.shape, 1)
    _, ranked, hit, order = jax.lax.sort((-keys, keys, positive.astype(jnp.int32), place), dimension=1, num_keys=1)
    weights = ranked_lovasz_weights(NAMESPACE, ranked, hit, _running_sum, _running_max)
    return jax.lax.sort((order, weights), dimension=1, num_keys=1)[1]


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    return _lovasz_weights(jax.lax.stop_gradient(errors), positive, valid)


LIBRARY = generic.extended("jax", NAMESPACE, globals())
