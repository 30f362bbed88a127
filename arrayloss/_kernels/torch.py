"""torch kernels: native operations whose gradients autograd knows, and guards that cost no pass over the logits.

Values are read only from tensors that lie on the host and are not being traced; everywhere else masks are always
applied, so that a compiled or batched call never depends on data.
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat.torch
import torch

from arrayloss._kernels import generic
from arrayloss._kernels.generic import Array, Namespace, ranked_lovasz_weights

#: The label that torch's own losses leave out.
_LEFT_OUT = -100


def constant(x: Array) -> Array:
    return x.detach()


def host_range(x: Array) -> tuple[float, float] | None:
    if torch.compiler.is_compiling() or x.device.type != "cpu" or x.numel() == 0:
        return None
    try:
        low, high = torch.aminmax(x.detach())
        return low.item(), high.item()
    except RuntimeError:  # vmap, fake and meta tensors hold no value to read
        return None


def _host_finite(x: Array) -> bool:
    """Whether a sum says that nothing in `x` is NaN or infinite; False where that cannot be read."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    try:
        return bool(torch.isfinite(x.detach().sum()))
    except RuntimeError:  # vmap, fake and meta tensors hold no value to read
        return False


def label_dtype(xp: Namespace, dtype: str) -> Any:
    return torch.int64


def scalar_like(xp: Namespace, x: Array, value: Any) -> Array:
    return torch.tensor(value, dtype=x.dtype, device=x.device)


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else torch.where(mask, x, value)


def where_valid(xp: Namespace, valid: Array | None, x: Array) -> Array:
    return x if valid is None else torch.where(valid.unsqueeze(1), x, 0.0)


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    log_p = torch.log_softmax(z, 1)
    if valid is not None:
        # nll_loss leaves out a label of its own and does not look there, but NaN would reach the gradient through the
        # softmax. Where a position holds NaN or infinity its first class tells: a pass over one class, not over all.
        if not _host_finite(log_p[:, 0]):
            log_p = torch.log_softmax(where_valid(xp, valid, z), 1)
        labels = torch.where(valid, labels, _LEFT_OUT)
    return torch.nn.functional.nll_loss(log_p, labels, reduction="none", ignore_index=_LEFT_OUT)


def _clean(z: Array, valid: Array | None) -> Array:
    return z if valid is None or _host_finite(z) else torch.where(valid.unsqueeze(1), z, 0.0)


def log_softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return where_valid(xp, valid, torch.log_softmax(_clean(z, valid), 1))


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return where_valid(xp, valid, torch.softmax(_clean(z, valid), 1))


def softplus(xp: Namespace, x: Array) -> Array:
    return torch.logaddexp(x, torch.zeros_like(x))


def label_sums(xp: Namespace, p: Array, labels: Array) -> Array:
    n, c = p.shape[:2]
    index = labels.reshape(n, math.prod(labels.shape[1:]))
    hit = p.gather(1, labels.unsqueeze(1)).reshape(index.shape)
    # Bins in float64: a float32 running sum drifts over a large image.
    bins = torch.zeros((n, c), dtype=torch.float64, device=p.device)
    return bins.scatter_add(1, index, hit.to(torch.float64)).to(p.dtype)


def members_nll(xp: Namespace, z: Array, members: Array, valid: Array | None) -> Array:
    log_p = torch.log_softmax(_clean(z, valid), 1)
    if valid is not None:
        # A position that is not valid has no members; all of them keep its logarithm finite.
        members = members | ~valid.unsqueeze(1)
    return where_or(xp, valid, -torch.logsumexp(torch.where(members, log_p, -torch.inf), 1), 0.0)


def gumbel(xp: Namespace, like: Array, rng: Any) -> Array:
    if rng is not None and not isinstance(rng, torch.Generator):
        raise TypeError(f"rng is a {type(rng).__name__}, expected a torch.Generator")
    # -log of an exponential sample is Gumbel; the least positive number keeps it finite.
    tiny = torch.finfo(like.dtype).tiny
    return -torch.empty_like(like, requires_grad=False).exponential_(generator=rng).clamp_min(tiny).log()


def kth_largest(xp: Namespace, rows: Array, k: int) -> Array:
    return torch.kthvalue(rows, rows.shape[1] - k + 1, dim=1).values


def _running_sum(xp: Namespace, x: Array) -> Array:
    return torch.cumsum(x, dim=-1)


def _running_max(xp: Namespace, x: Array) -> Array:
    return torch.cummax(x, dim=-1).values


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    keys = errors if valid is None else torch.where(valid, errors, -1.0)
    ranked, order = torch.sort(keys, dim=-1, descending=True)
    weights = ranked_lovasz_weights(xp, ranked, positive.gather(-1, order).to(torch.int64), _running_sum, _running_max)
    return torch.zeros_like(weights).scatter(-1, order, weights)


LIBRARY = generic.extended("torch", array_api_compat.torch, globals())
