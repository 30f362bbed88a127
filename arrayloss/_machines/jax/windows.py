"""Windows of neighbouring cells."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import Array
from arrayloss._machines.generic.windows import _all_windows, _window_rules, _windows
from arrayloss._machines.jax.compiled import NAMESPACE, held, kernel, rule


@kernel(1)
def triangle(x: Array, axis: int) -> Array:
    # As two windows, which compile three times as fast as slices.
    window = tuple(5 if i == axis else 1 for i in range(x.ndim))
    for _ in range(2):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * x.ndim, "valid")
    return x / 25


def _rules(predicted: Array, true: Array, valid: Array | None, radius: int) -> Any:
    """Return the rules of windows, of cells that are computed once: XLA on the CPU would do so again for each."""

    def once(x: Array) -> Array:
        return held(lambda x: x, lambda x: x + 0, x)

    with jax.default_matmul_precision("highest"):
        predicted, true, weights = _all_windows(NAMESPACE, once(predicted), once(true), valid, radius)
        return _window_rules(NAMESPACE, predicted, true, None if weights is None else once(weights))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _unexplained(predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    value: Array = _rules(predicted, true, valid, radius)[0]
    return value


@rule(_unexplained)
def _unexplained_jvp(radius: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    value, rules = _rules(*primals, radius)
    change = jnp.zeros_like(value)
    with jax.default_matmul_precision("highest"):
        for vjp, tangent in zip(rules, tangents, strict=False):
            if isinstance(tangent, jax.Array):
                change += jnp.sum(vjp(jnp.ones_like(value)) * _windows(NAMESPACE, tangent, radius), axis=(2, 3))
    return value, change


unexplained = kernel(3)(_unexplained)
