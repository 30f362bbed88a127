"""Windows of neighbouring cells."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import Array
from arrayloss._machines.generic.rule import Rule
from arrayloss._machines.generic.windows import _all_windows, _window_rules, _windows
from arrayloss._machines.jax.compiled import NAMESPACE, held, kernel


@kernel(1)
def triangle(x: Array, axis: int) -> Array:
    # As two windows, which compile three times as fast as slices.
    window = tuple(5 if i == axis else 1 for i in range(x.ndim))
    for _ in range(2):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * x.ndim, "valid")
    return x / 25


@kernel(3)
def unexplained(predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    return _rule(predicted, true, valid, radius)[0]


@unexplained.rule
def _(dx: Array, predicted: Array, true: Array, valid: Array | None, radius: int) -> tuple[Array, Array]:
    value, vjp = _rule(predicted, true, valid, radius)
    with jax.default_matmul_precision("highest"):
        return value, jnp.sum(vjp(jnp.ones_like(value)) * _windows(NAMESPACE, dx, radius), axis=(2, 3))


def _rule(predicted: Array, true: Array, valid: Array | None, radius: int) -> Rule:
    """Return the rule of windows, of cells that are computed once: XLA on the CPU would do so again for each."""

    def once(x: Array) -> Array:
        return held(lambda x: x, x)

    with jax.default_matmul_precision("highest"):
        predicted, true, weights = _all_windows(NAMESPACE, once(predicted), once(true), valid, radius)
        value, (towards, _) = _window_rules(NAMESPACE, predicted, true, None if weights is None else once(weights))
    return value, towards
