"""Gradients by the tape, where a library has no autodiff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arrayloss._core.call import quiet
from arrayloss._gradient.numpy_variable import NumPyVariable
from arrayloss._gradient.tape import Tape, Variable, value_of
from arrayloss._gradient.total import total_of
from arrayloss._machines.namespace import Library

Array = Any


def tape_value_and_grad(
    call: Callable[..., Any], logits: tuple[Array, ...], library: Library
) -> tuple[Any, tuple[Array, ...]]:
    """Return the value of `call(*logits)` and its gradient with respect to each of the logits."""
    if any(isinstance(x, Variable) for x in logits):
        raise TypeError(
            "value_and_grad: the logits are being differentiated already; gradients of gradients need torch or JAX"
        )
    tape = Tape(library, NumPyVariable if library.name == "numpy" else Variable)
    variables = [tape.variable(x, []) for x in logits]
    value = call(*variables)
    total = total_of(value)
    with quiet():
        gradients = tape.gradients(total, variables)
    as_array = library.kernels.as_array
    plain = tuple(as_array(value_of(v)) for v in value) if isinstance(value, tuple) else as_array(value_of(value))
    return plain, tuple(as_array(g) for g in gradients)
