"""torch kernels: native operations whose gradients autograd knows, and guards that cost no pass over the logits.

Values are read, and memory is shared with NumPy, only where tensors lie on the host and nothing but autograd looks on
(`_eager`); everywhere else masks are always applied and torch sorts, so that a compiled or batched call never depends
on data.
"""

from __future__ import annotations

import math
from typing import Any

import array_api_compat.torch
import numpy as np
import torch

from arrayloss._kernels import generic, numpy_lovasz
from arrayloss._kernels.generic import Array, Namespace, Rule, ranked_lovasz_weights

#: Where softplus(x) is x in float64 too; torch's own bound serves float32 alone.
_LINEAR = 40.0
#: Entries below which autograd's own operations are faster than a rule.
_SMALL = 1 << 13
#: The label that torch's own losses leave out.
_LEFT_OUT = -100


def constant(x: Array) -> Array:
    return x.detach()


def _eager(x: Array) -> bool:
    """Whether `x` lies on the host, and neither a compiler, nor torch.func, nor forward mode, nor a mode looks on."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch._C._len_torch_dispatch_stack() == 0
        and torch.autograd.forward_ad._current_level < 0
    )


def host_range(x: Array) -> tuple[float, float] | None:
    if not _eager(x) or x.numel() == 0:
        return None
    low, high = torch.aminmax(x.detach() if x.requires_grad else x)
    return low.item(), high.item()


def _host_finite(x: Array) -> bool:
    """Whether a sum says that nothing in `x` is NaN or infinite; False where that cannot be read."""
    return _eager(x) and math.isfinite(x.detach().sum().item())


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


def _by_rule(native: Any, rule: Any, x: Array, *constants: Any) -> Array:
    """Return the kernel `native` of `x`, computed by a rule where that is possible and worth its overhead."""
    if (
        x.numel() < _SMALL
        or generic.PORTABLE
        or not _eager(x)
        or any(isinstance(a, torch.Tensor) and a.requires_grad for a in constants)
    ):
        return native(array_api_compat.torch, x, *constants)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return rule(x, *constants)[0]
    apply: Any = _Ruled.apply
    return apply(native, rule, x, *constants)


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


def _log_softmax(z: Array, valid: Array | None) -> Array:
    """Return log softmax(z), finite where not valid."""
    log_p = torch.log_softmax(z, 1)
    # Where a position holds NaN or infinity its first class tells: a pass over one class, not over all.
    if valid is not None and not _host_finite(log_p[:, 0]):
        log_p = torch.log_softmax(torch.where(valid.unsqueeze(1), z, 0.0), 1)
    return log_p


def _label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    if valid is not None:
        labels = torch.where(valid, labels, _LEFT_OUT)
    return torch.nn.functional.nll_loss(_log_softmax(z, valid), labels, reduction="none", ignore_index=_LEFT_OUT)


def _label_nll_rule(z: Array, labels: Array, valid: Array | None) -> Rule:
    log_p = _log_softmax(z.detach(), valid)
    index = labels.unsqueeze(1)
    nll = log_p.gather(1, index).squeeze(1).neg_()

    def vjp(g: Array) -> Array:
        g = where_or(array_api_compat.torch, valid, g, 0.0).unsqueeze(1)
        return log_p.exp_().mul_(g).scatter_add_(1, index, -g)

    return where_or(array_api_compat.torch, valid, nll, 0.0), vjp


def label_nll(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return _by_rule(_label_nll, _label_nll_rule, z, labels, valid)


def matmul(xp: Namespace, a: Array, b: Array) -> Array:
    if a.device.type == "mps":  # where there is no float64
        return torch.matmul(a, b)
    # In float64, which autocast leaves alone, also in a backward pass that runs under it.
    return torch.matmul(a.double(), b.double()).to(a.dtype)


def take_positions(xp: Namespace, x: Array, places: Array) -> Array:
    flat = x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))
    there = places < flat.shape[0] * flat.shape[2]
    at = torch.where(there, places, 0)
    return torch.where(there.unsqueeze(1), flat[at // flat.shape[2], :, at % flat.shape[2]], 0.0)


def _unexplained(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    if predicted.device.type == "mps":
        return generic.unexplained(xp, predicted, true, valid, radius)
    # In float64, as in `matmul`.
    return generic.unexplained(xp, predicted.double(), true.double(), valid, radius).to(predicted.dtype)


def _unexplained_rule(predicted: Array, true: Array, valid: Array | None, radius: int) -> Rule:
    with torch.autocast("cpu", enabled=False):
        value, vjp = generic.unexplained_rule(array_api_compat.torch, predicted.detach(), true, valid, radius)

    def without_autocast(g: Array) -> Array:
        with torch.autocast("cpu", enabled=False):
            return vjp(g)

    return value, without_autocast


def unexplained(xp: Namespace, predicted: Array, true: Array, valid: Array | None, radius: int) -> Array:
    return _by_rule(_unexplained, _unexplained_rule, predicted, true, valid, radius)


def label_counts(xp: Namespace, labels: Array, valid: Array | None, classes: int, dtype: Any) -> Array:
    rows = labels.reshape(labels.shape[0], math.prod(labels.shape[1:]))
    ones = torch.ones_like(rows) if valid is None else valid.reshape(rows.shape).to(rows.dtype)
    zero = torch.zeros((rows.shape[0], classes), dtype=rows.dtype, device=rows.device)
    return zero.scatter_add(1, rows, ones).to(dtype)


def _clean(z: Array, valid: Array | None) -> Array:
    return z if valid is None or _host_finite(z) else torch.where(valid.unsqueeze(1), z, 0.0)


def log_softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return where_valid(xp, valid, torch.log_softmax(_clean(z, valid), 1))


def _softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return where_valid(xp, valid, torch.softmax(_clean(z, valid), 1))


def _softmax_rule(z: Array, valid: Array | None) -> Rule:
    p = torch.softmax(z.detach(), 1)
    if valid is not None:
        p = p.mul_(valid.unsqueeze(1)) if _host_finite(p[:, 0]) else torch.where(valid.unsqueeze(1), p, 0.0)
    return p, lambda g: torch._softmax_backward_data(g, p, 1, p.dtype)


def softmax(xp: Namespace, z: Array, valid: Array | None) -> Array:
    return _by_rule(_softmax, _softmax_rule, z, valid)


def softplus(xp: Namespace, x: Array) -> Array:
    return torch.nn.functional.softplus(x, threshold=_LINEAR)


def _slabs(x: Array) -> list[slice]:
    """Return slices of the classes, not many, of which each stays in the cache."""
    classes = x.shape[1]
    step = -(-classes // max(1, min(classes, 32, x.numel() >> 17)))
    return [slice(c, c + step) for c in range(0, classes, step)]


def _binary_total_rule(x: Array, y: Array, valid: Array | None) -> Rule:
    x, total = x.detach(), torch.zeros((), dtype=x.dtype)
    for at in _slabs(x):
        mask = None if valid is None else valid[:, at]
        part = where_or(array_api_compat.torch, mask, x[:, at], 0.0)
        losses = softplus(array_api_compat.torch, part).addcmul_(part, y[:, at], value=-1)
        total = total + where_or(array_api_compat.torch, mask, losses, 0.0).sum()
    if not _host_finite(total):
        return generic.binary_total_rule(array_api_compat.torch, x, y, valid)

    def vjp(g: Array) -> Array:
        slopes = torch.sigmoid(x).sub_(y)
        return (slopes if valid is None else slopes.masked_fill_(~valid, 0.0)).mul_(g)

    return total, vjp


def binary_total(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Array:
    return _by_rule(generic.binary_total, _binary_total_rule, x, y, valid)


def _binary_label_total_rule(x: Array, labels: Array, valid: Array | None) -> Rule:
    x, index = x.detach(), labels.unsqueeze(1)
    losses = -x.gather(1, index).squeeze(1)
    for at in _slabs(x):
        losses = losses + softplus(array_api_compat.torch, x[:, at]).sum(1)
    # Here too before the mask: what is ignored must be finite to be left out by a product.
    if not _host_finite(losses):
        return generic.binary_label_total_rule(array_api_compat.torch, x, labels, valid)

    def vjp(g: Array) -> Array:
        each = (torch.ones_like(losses) if valid is None else valid.to(x.dtype)).mul_(g).unsqueeze(1)
        return torch.sigmoid(x).mul_(each).scatter_add_(1, index, -each)

    return where_or(array_api_compat.torch, valid, losses, 0.0).sum(), vjp


def binary_label_total(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Array:
    return _by_rule(generic.binary_label_total, _binary_label_total_rule, x, labels, valid)


def _softmax_sums(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    p = softmax(xp, z, valid)
    return _label_and_class_sums(p, p.gather(1, labels.unsqueeze(1)), labels)


def _label_and_class_sums(p: Array, at_label: Array, labels: Array) -> Array:
    n, c = p.shape[:2]
    index = labels.reshape(n, math.prod(labels.shape[1:]))
    # Bins in float64: a float32 running sum drifts over a large image.
    bins = torch.zeros((n, c), dtype=torch.float64, device=p.device)
    overlap = bins.scatter_add(1, index, at_label.reshape(index.shape).to(torch.float64)).to(p.dtype)
    return torch.stack([overlap, p.reshape(n, c, index.shape[1]).sum(2)])


def _softmax_sums_rule(z: Array, labels: Array, valid: Array | None) -> Rule:
    p, _ = _softmax_rule(z, valid)
    index = labels.unsqueeze(1)
    at_label = p.gather(1, index)

    def vjp(g: Array) -> Array:
        n, c = p.shape[:2]
        rows = labels.reshape(n, math.prod(labels.shape[1:]))
        hit = g[0].gather(1, rows).reshape(index.shape) * at_label
        # p (g - sum of p g), into p itself, slab by slab: what lies between is small.
        with torch.autocast("cpu", enabled=False):  # which would make it a product of bfloat16
            mean = torch.bmm(g[1].unsqueeze(1), p.reshape(n, c, rows.shape[1])).reshape(labels.shape) + hit.squeeze(1)
        each = g[1].reshape(n, c, *(1,) * (mean.ndim - 1))
        for at in _slabs(p):
            p[:, at].mul_(each[:, at] - mean.unsqueeze(1))
        return p.scatter_add_(1, index, hit)

    return _label_and_class_sums(p, at_label, labels), vjp


def softmax_sums(xp: Namespace, z: Array, labels: Array, valid: Array | None) -> Array:
    return _by_rule(_softmax_sums, _softmax_sums_rule, z, labels, valid)


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
    at = rows.shape[1] - k
    if _eager(rows) and not generic.PORTABLE:
        # A partition, where torch sorts; copied, since the column keeps all rows.
        return torch.from_numpy(np.partition(rows.detach().numpy(), at, axis=1)[:, at].copy())
    return torch.kthvalue(rows, at + 1, dim=1).values


def kth_largest_below(xp: Namespace, row: Array, k: int, bound: float) -> Array:
    if _eager(row) and int((row > bound).count_nonzero()) >= k:
        return torch.full((1,), torch.inf, dtype=row.dtype)
    return kth_largest(xp, row, k)


def running_sum(xp: Namespace, x: Array) -> Array:
    return torch.cumsum(x, dim=-1)


def _running_max(xp: Namespace, x: Array) -> Array:
    return torch.cummax(x, dim=-1).values


def lovasz_weights(xp: Namespace, errors: Array, positive: Array, valid: Array | None) -> Array:
    errors = errors.detach()
    keys = errors if valid is None else torch.where(valid, errors, -1.0)
    ranked, order = torch.sort(keys, dim=-1, descending=True)
    weights = ranked_lovasz_weights(xp, ranked, positive.gather(-1, order).to(torch.int64), running_sum, _running_max)
    return torch.zeros_like(weights).scatter(-1, order, weights)


def _lovasz_softmax(xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return generic.lovasz_softmax(xp, p, labels, valid, per_image, lovasz_weights)


def lovasz_softmax(xp: Namespace, p: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return _by_rule(_lovasz_softmax, _on_numpy(numpy_lovasz.softmax_extension), p, labels, valid, per_image)


def _lovasz_hinge(xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return generic.lovasz_hinge(xp, z, labels, valid, per_image, lovasz_weights)


def lovasz_hinge(xp: Namespace, z: Array, labels: Array, valid: Array | None, per_image: bool) -> Array:
    return _by_rule(_lovasz_hinge, _on_numpy(numpy_lovasz.hinge_extension), z, labels, valid, per_image)


def _on_numpy(extension: Any) -> Any:
    """Return the rule of a Lovasz extension computed by NumPy on the memory of the tensors."""

    def rule(scores: Array, labels: Array, valid: Array | None, per_image: bool) -> Rule:
        arrays = (None if a is None else a.detach().numpy() for a in (scores, labels, valid))
        losses, slopes = map(torch.from_numpy, extension(*arrays, per_image))
        return losses, lambda g: slopes.mul_(g.reshape(g.shape + (1,) * (slopes.ndim - 2)))

    return rule


LIBRARY = generic.extended("torch", array_api_compat.torch, globals())
