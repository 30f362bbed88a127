"""What the kernels share: how they are compiled, what XLA computes once, who computes on the host, and rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arrayloss._machines import namespace
from arrayloss._machines.formula import Array

try:
    from jax.experimental import buffer_callback as _callbacks

    buffer_callback: Any = _callbacks.buffer_callback
except ImportError:  # in older versions of JAX
    buffer_callback = None

NAMESPACE = jnp


def kernel(arrays: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a kernel, of a namespace too, of a function whose arguments are static but for so many arrays."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(given: tuple[Any, ...], how: tuple[Any, ...]) -> Any:
            return function(*given, *how)

        run.__name__ = getattr(function, "__name__", "kernel")
        jitted = jax.jit(run, static_argnums=1)

        @wraps(function)
        def call(_: Any, *arguments: Any) -> Any:
            return jitted(arguments[:arrays], arguments[arrays:])

        return call

    return decorate


def held(function: Callable[..., Any], other: Callable[..., Any], x: Array, *arguments: Any) -> Any:
    """Return `function(x, ...)`, on the CPU computed once and held; `other` is the same in another form.

    XLA on the CPU computes again, within each class of whatever uses it, what it thinks cheap. It does not look into a
    conditional, whose condition here is one that it does not know, and that no data enters: they may be sharded.
    """
    if x.size == 0:
        return other(x, *arguments)

    def conditional(x: Array, *arguments: Any) -> Any:
        barrier: Any = jax.lax.optimization_barrier
        return jax.lax.cond(barrier(jnp.asarray(True)), function, other, x, *arguments)

    return jax.lax.platform_dependent(x, *arguments, cpu=conditional, default=other)


def on_cpu_host(
    compute: Callable[..., tuple[Any, ...]], other: Callable[..., tuple[Array, ...]], like: Any, *arrays: Any
) -> Any:
    """Return what NumPy makes of arrays, in the memory of JAX on the CPU; `other` is what JAX does by itself."""

    def fill(_: Any, out: tuple[Any, ...], *given: Any) -> None:
        for array, found in zip(out, compute(*(None if a is None else np.asarray(a) for a in given)), strict=True):
            np.asarray(array)[...] = found

    # XLA would gather a sharded batch for a callback.
    single = jax.local_device_count("cpu") == 1
    if buffer_callback is None or namespace.PORTABLE or arrays[0].size == 0 or not single:
        return other(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=buffer_callback(fill, like, vmap_method="sequential"), default=other)


def along(function: Callable[..., Array], primals: Any, tangents: Any) -> Array | None:
    """Return the change of a function, by autodiff, along the tangents that are there; None where there are none."""
    moved = [i for i, tangent in enumerate(tangents) if isinstance(tangent, jax.Array)]
    if not moved:
        return None

    def of(*given: Array) -> Array:
        at = dict(zip(moved, given, strict=True))
        return function(*(at.get(i, x) for i, x in enumerate(primals)))

    values, changes = zip(*((primals[i], tangents[i]) for i in moved), strict=True)
    return jax.jvp(of, values, changes)[1]


def rule(function: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a `custom_jvp` its rule, in which the tangents of what is constant are no arrays and get no pass."""
    return partial(function.defjvp, symbolic_zeros=True)
