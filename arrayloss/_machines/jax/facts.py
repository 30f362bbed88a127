"""What JAX tells of its arrays, and what is small."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arrayloss._machines.formula import Array, Namespace


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


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    if rng is None:
        raise ValueError("JAX has no default generator: expected rng=, a JAX key such as jax.random.key(0), or noise=")
    if not isinstance(rng, jax.Array):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a JAX key such as jax.random.key(0)")
    return jax.random.gumbel(rng, like.shape, like.dtype)


@cache
def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(function, static_argnums=(0, 2))


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return jnp.asarray(value, dtype=x.dtype)


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else jnp.where(mask, x, jnp.asarray(value, dtype=x.dtype))


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def matmul(xp: Namespace, a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")


def count(xp: Namespace, mask: Array) -> Array:
    # By rows, whose whole numbers up to 2^24 are exact in float32: its sums are the faster ones.
    if mask.ndim and mask.shape[-1] <= 1 << 24:
        mask = jnp.sum(mask, axis=-1, dtype=jnp.float32)
    return jnp.sum(mask, dtype=jnp.int32)


def running_sum(xp: Namespace, x: Array) -> Array:
    return jnp.cumsum(x, axis=-1, dtype=x.dtype)
