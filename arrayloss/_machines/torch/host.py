"""Kernels of tensors on the host: their memory is NumPy's, whose machine runs there too, on as many threads as torch.

Values are read, and memory is shared, only where nothing but autograd looks on (`eager`); everywhere else masks are
always applied and torch sorts, so that a compiled or batched call never depends on data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import array_api_compat.numpy
import array_api_compat.torch
import numpy as np
import torch

from arrayloss._machines import namespace
from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic.rule import Rule
from arrayloss._machines.numpy import LIBRARY as NUMPY
from arrayloss._machines.numpy import tiles

Decorator = Callable[[Callable[..., Array]], Callable[..., Array]]

#: Entries below which autograd's own operations are faster than a rule.
_SMALL = 1 << 13


def eager(x: Array) -> bool:
    """Whether `x` lies on the host, and neither a compiler, nor torch.func, nor forward mode, nor a mode looks on."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch.autograd.forward_ad._current_level < 0
    )


def host_finite(x: Array) -> bool:
    """Whether a sum says that nothing in `x` is NaN or infinite; False where that cannot be read."""
    return eager(x) and math.isfinite(x.detach().sum().item())


class _Ruled(torch.autograd.Function):
    """A kernel computed by a rule: its value, and the one function that leads back from it.

    The rule may work in place and is used once; where autograd asks again it is made anew. Where a gradient is wanted
    that can itself be differentiated, it is that of the native kernel.
    """

    @staticmethod
    def forward(ctx: Any, native: Any, rule: Any, x: Array, *constants: Any) -> Array:
        value, ctx.vjp = rule(x, *constants)
        ctx.native, ctx.rule, ctx.constants = native, rule, constants
        ctx.save_for_backward(x)
        return value

    @staticmethod
    def backward(ctx: Any, g: Array) -> Any:
        nothing = (None,) * len(ctx.constants)
        (x,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            value = ctx.native(array_api_compat.torch, x, *ctx.constants)
            return None, None, *torch.autograd.grad(value, x, g, create_graph=True), *nothing
        vjp, ctx.vjp = ctx.vjp or ctx.rule(x, *ctx.constants)[1], None
        return None, None, vjp(g), *nothing


def ruled(rule: Callable[..., Rule], value: Callable[..., Array] | None = None) -> Decorator:
    """Compute a native kernel by a rule where that is possible and worth its overhead; `value` alone, if there is one.

    Both take the first array and what is constant to its gradient.
    """

    def decorate(native: Callable[..., Array]) -> Callable[..., Array]:
        @wraps(native)
        def kernel(xp: Namespace, x: Array, *constants: Any) -> Array:
            if (
                x.numel() < _SMALL
                or namespace.PORTABLE
                or not eager(x)
                or any(isinstance(a, torch.Tensor) and a.requires_grad for a in constants)
            ):
                return native(array_api_compat.torch, x, *constants)
            if not (x.requires_grad and torch.is_grad_enabled()):
                return rule(x, *constants)[0] if value is None else value(x, *constants)
            apply: Any = _Ruled.apply
            return apply(native, rule, x, *constants)

        return kernel

    return decorate


def hosted(name: str) -> Decorator:
    """Compute a native kernel by NumPy's of a name where that is possible and worth its overhead."""
    value, rule = (getattr(NUMPY.kernels, name + suffix) for suffix in ("", "_rule"))

    def by_value(x: Array, *constants: Any) -> Array:
        with _as_torch():
            return _shared(value(array_api_compat.numpy, *_memory(x, *constants)))

    def by_rule(x: Array, *constants: Any) -> Rule:
        with _as_torch():
            found, vjp = rule(array_api_compat.numpy, *_memory(x, *constants))

        def back(g: Array) -> Array:
            with _as_torch():
                return _shared(vjp(g.detach().numpy()))

        return _shared(found), back

    return ruled(by_rule, by_value)


@contextmanager
def _as_torch() -> Iterator[None]:
    """Let NumPy run on as many threads as torch does, and say nothing of infinities and NaN."""
    with tiles.threads(torch.get_num_threads()), np.errstate(all="ignore"):
        yield


def _memory(*arguments: Any) -> list[Any]:
    return [a.detach().numpy() if isinstance(a, torch.Tensor) else a for a in arguments]


def _shared(x: Any) -> Array:
    return torch.from_numpy(np.asarray(x))
