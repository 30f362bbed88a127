"""What the kernels share: how they are compiled and differentiated, what is computed once, and what on the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
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


class Kernel:
    """A jitted function of so many arrays and what is static, which a kernel is given behind its namespace."""

    def __init__(self, arrays: int, function: Callable[..., Any]) -> None:
        update_wrapper(self, function)
        self._arrays, self._function = arrays, function
        self._jitted: Any = jax.jit(lambda given, static: function(*given, *static), static_argnums=1)

    def __call__(self, _: Any, *arguments: Any) -> Any:
        return self._jitted(arguments[: self._arrays], arguments[self._arrays :])

    def rule(self, forward: Callable[..., tuple[Array, Array]]) -> None:
        """Differentiate by `forward(dx, x, ...)`, which gives the value and how it changes along the first array.

        The others, which are constants as a rule, get no pass where they are, and autodiff where they are not.
        """

        def jvp(static: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
            moved = [i for i, tangent in enumerate(tangents) if i and isinstance(tangent, jax.Array)]
            value: Any
            if isinstance(tangents[0], jax.Array):
                value, change = forward(tangents[0], *primals, *static)
            else:
                value = function(static, *primals)
                change = jnp.zeros_like(value)
            if moved:
                others, changes = (tuple(x[i] for i in moved) for x in (primals, tangents))

                def of(*given: Array) -> Array:
                    arrays = (given[moved.index(i)] if i in moved else x for i, x in enumerate(primals))
                    return self._function(*arrays, *static)

                change = change + jax.jvp(of, others, changes)[1]
            return value, change

        function: Any = jax.custom_jvp(lambda static, *given: self._function(*given, *static), nondiff_argnums=(0,))
        function.defjvp(jvp, symbolic_zeros=True)
        self._jitted = jax.jit(lambda given, static: function(static, *given), static_argnums=1)


def kernel(arrays: int) -> Callable[[Callable[..., Any]], Kernel]:
    return partial(Kernel, arrays)


def held(function: Callable[..., Any], x: Array, *arguments: Any, other: Callable[..., Any] | None = None) -> Any:
    """Return `function(x, ...)`, on the CPU computed once and held; `other` is the same in the form for other devices.

    XLA on the CPU computes again, within each class of whatever uses it, what it thinks cheap. It does not look into a
    conditional, whose condition here is one that it does not know, and that no data enters: they may be sharded.
    """

    def conditional(*arguments: Any) -> Any:
        jitted: Any = jax.jit(function)  # traced once
        barrier: Any = jax.lax.optimization_barrier
        hold = barrier(jnp.asarray(True))

        def never(hold: Array, *given: Any) -> Any:
            # XLA finds two conditionals equal only where both branches are given something: here it is the condition.
            return jax.tree.map(lambda x: jnp.full_like(x, hold), jitted(*given))

        return jax.lax.cond(hold, lambda _, *given: jitted(*given), never, hold, *arguments)

    if x.size == 0:
        return (other or function)(x, *arguments)
    return jax.lax.platform_dependent(x, *arguments, cpu=conditional, default=other or function)


def on_cpu_host(compute: Callable[..., Any], other: Callable[..., Any], like: Any, *arrays: Any) -> Any:
    """Return the arrays that NumPy makes, in the memory of JAX on the CPU; `other` is what JAX does by itself."""

    def fill(_: Any, out: Any, *given: Any) -> None:
        for array, found in zip(out, compute(*(None if a is None else np.asarray(a) for a in given)), strict=True):
            np.asarray(array)[...] = found

    # XLA would gather a sharded batch for a callback.
    single = jax.local_device_count("cpu") == 1
    if buffer_callback is None or namespace.PORTABLE or arrays[0].size == 0 or not single:
        return other(*arrays)
    shared = buffer_callback(fill, like, vmap_method="sequential")
    return jax.lax.platform_dependent(*arrays, cpu=shared, default=other)
