"""Gradients by the autodiff of torch and of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arrayloss._gradient.total import total_of

Array = Any
Call = Callable[..., Any]


def torch_value_and_grad(call: Call, logits: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
    import torch

    if torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None:
        # Inside torch.compile and torch.func only the functional form composes; it costs more to set up.
        def total(*parts: Array) -> tuple[Array, Any]:
            value = call(*parts)
            return total_of(value).sum(), value

        gradients, (_, value) = torch.func.grad_and_value(total, tuple(range(len(logits))), has_aux=True)(*logits)
        return value, gradients
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "value_and_grad: torch differentiates nothing under torch.inference_mode(); use torch.no_grad() instead"
        )
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_() for x in logits]
        value = call(*leaves)
        whole = total_of(value)
        whole = whole if whole.ndim == 0 else whole.sum()
        # A loss that does not depend on the logits (nothing selected by its options) has no graph to go back through.
        found = torch.autograd.grad(whole, leaves, allow_unused=True) if whole.requires_grad else [None] * len(leaves)
    gradients = tuple(torch.zeros_like(x) if g is None else g for x, g in zip(logits, found, strict=True))
    return (tuple(v.detach() for v in value) if isinstance(value, tuple) else value.detach()), gradients


def jax_value_and_grad(call: Call, logits: tuple[Array, ...]) -> tuple[Any, tuple[Array, ...]]:
    import jax

    def total(*parts: Array) -> tuple[Array, Any]:
        value = call(*parts)
        return total_of(value).sum(), value

    (_, value), gradients = jax.value_and_grad(total, tuple(range(len(logits))), has_aux=True)(*logits)
    return value, gradients
