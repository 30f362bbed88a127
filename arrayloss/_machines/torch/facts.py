"""What torch tells of its tensors, and what is small."""

from __future__ import annotations

from typing import Any

import torch

from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.torch.host import eager


def constant(x: Array) -> Array:
    return x.detach()


def host_range(x: Array) -> tuple[float, float] | None:
    if not eager(x) or x.numel() == 0:
        return None
    low, high = torch.aminmax(x.detach() if x.requires_grad else x)
    return low.item(), high.item()


def on_host(x: Array) -> Any:
    traced = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x)
    if traced or x.is_meta or isinstance(x, torch._subclasses.FakeTensor):
        raise TypeError("torch traces it (compile, torch.func, meta or fake tensors), and it has no values yet")
    return x.detach().cpu().numpy()


def label_dtype(xp: Namespace, dtype: str) -> Any:
    return torch.int64


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    if rng is not None and not isinstance(rng, torch.Generator):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a torch.Generator")
    # -log of an exponential sample is Gumbel; the least positive number keeps it finite.
    tiny = torch.finfo(like.dtype).tiny
    return -torch.empty_like(like, requires_grad=False).exponential_(generator=rng).clamp_min(tiny).log()


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else torch.where(mask, x, value)


def where_valid(xp: Namespace, valid: Array | None, x: Array) -> Array:
    return x if valid is None else torch.where(valid.unsqueeze(1), x, 0.0)


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def matmul(xp: Namespace, a: Array, b: Array) -> Array:
    if a.device.type == "mps":  # where there is no float64
        return torch.matmul(a, b)
    # In float64, which autocast leaves alone, also in a backward pass that runs under it.
    return torch.matmul(a.double(), b.double()).to(a.dtype)


def running_sum(xp: Namespace, x: Array) -> Array:
    return torch.cumsum(x, dim=-1)
