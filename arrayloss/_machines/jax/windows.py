"""Windows of neighbouring cells."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from arrayloss._machines.formula import Array
from arrayloss._machines.generic.rule import Rule
from arrayloss._machines.generic.windows import _all_windows, _window_rule, _windows
from arrayloss._machines.jax.compiled import NAMESPACE, held, kernel


@kernel(1)
def triangle(x: Array, axis: int) -> Array:
    # As two windows, which compile three times as fast as slices.
    window = tuple(5 if i == axis else 1 for i in range(x.ndim))
    for _ in range(2):
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1,) * x.ndim, "valid")
    return x / 25


@kernel(3)
def unexplained(*arguments: Any) -> Array:
    return _rule(*arguments)[0]


@unexplained.rule
def _(dx: Array, *arguments: Any) -> tuple[Array, Array]:
    value, vjp = _rule(*arguments)
    with jax.default_matmul_precision("highest"):
        return value, jnp.sum(vjp(jnp.ones_like(value)) * _windows(NAMESPACE, dx, arguments[-1]), axis=(2, 3))


def _rule(predicted: Array, true: Array, valid: Array | None, radius: int) -> Rule:
    # The cells are computed once: XLA on the CPU would do so again for each window.
    predicted, true = (held(lambda x: x, x) for x in (predicted, true))
    with jax.default_matmul_precision("highest"):
        predicted, true, weights = _all_windows(NAMESPACE, predicted, true, valid, radius)
        return _window_rule(NAMESPACE, predicted, true, None if weights is None else held(lambda x: x, weights))
