"""torch kernels: native operations whose gradients autograd knows, and guards that cost no pass over the logits.

Values are read, and memory is shared with NumPy, only where tensors lie on the host and nothing but autograd looks on
(`_eager`); everywhere else masks are always applied and torch sorts, so that a compiled or batched call never depends
on data.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import array_api_compat.torch
import numpy as np
import torch

from arrayloss._machines import blocks, formulas, generic, numpy_components, numpy_lovasz
from arrayloss._machines.generic import Array, Formula, Namespace, Rule, ranked_lovasz_weights

#: Where softplus(x) is x in float64 too; torch's own bound serves float32 alone.
_LINEAR = 40.0
#: Entries below which autograd's own operations are faster than a rule.
_SMALL = 1 << 13
#: Entries per block, of losses entry by entry.
_ENTRIES = 1 << 15
#: Entries per block, of losses position by position.
_POSITIONS = 1 << 16
#: Entries per block, of the binary cross entropy of labels.
_LABELLED = 1 << 18
#: The label that torch's own losses leave out.
_LEFT_OUT = -100
#: The namespace as blocks see it, in which nothing need be traced and dtypes are all one: the sign of array_api_compat
#: takes four passes, and its other functions look at dtypes first.
_NATIVE = {name: getattr(torch, name) for name in ("maximum", "minimum", "sign")}
_BLOCKS: Any = SimpleNamespace(**{**vars(array_api_compat.torch), **_NATIVE})
#: What torch has as one operation, and comparisons, which it is slow at, not at all.
_FASTER: dict[Formula, Formula] = {
    formulas.ABSOLUTE: Formula(lambda xp, x, t: (x - t).abs_(), lambda xp, x, t: (x - t).sign_()),
    formulas.SQUARED: Formula(
        lambda xp, x, t: torch.nn.functional.mse_loss(x, t, reduction="none"), lambda xp, x, t: (x - t).mul_(2.0)
    ),
    formulas.HUBER: Formula(
        lambda xp, x, t, delta: torch.nn.functional.huber_loss(x, t, reduction="none", delta=delta),
        lambda xp, x, t, delta: (x - t).clamp_(-delta, delta),
    ),
    formulas.SMOOTH: Formula(
        lambda xp, x, t, beta: torch.nn.functional.smooth_l1_loss(x, t, reduction="none", beta=beta),
        lambda xp, x, t, beta: _divided((x - t).clamp_(-beta, beta), beta),
    ),
    formulas.LOG_COSH: Formula(lambda xp, x, t: _log_cosh(x - t), lambda xp, x, t: (x - t).tanh_()),
}


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


def on_host(x: Array) -> Any:
    traced = torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(x)
    if traced or x.is_meta or isinstance(x, torch._subclasses.FakeTensor):
        raise TypeError("torch traces it (compile, torch.func, meta or fake tensors), and it has no values yet")
    return x.detach().cpu().numpy()


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
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def where_or(xp: Namespace, mask: Array | None, x: Array, value: float) -> Array:
    return x if mask is None else torch.where(mask, x, value)


def where_valid(xp: Namespace, valid: Array | None, x: Array) -> Array:
    return x if valid is None else torch.where(valid.unsqueeze(1), x, 0.0)


def take_class(xp: Namespace, per_class: Array, labels: Array) -> Array:
    return per_class[labels]


def take_rows(xp: Namespace, rows: Array, index: Array) -> Array:
    # torch gathers no unsigned integers wider than a byte, but does so as signed ones.
    signed = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}.get(rows.dtype)
    return rows.gather(1, index) if signed is None else rows.view(signed).gather(1, index).view(rows.dtype)


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


def _finite_softmax(z: Array, valid: Array | None) -> Array:
    """Return softmax(z), finite where not valid."""
    p = torch.softmax(z.detach(), 1)
    return p if valid is None or _host_finite(p[:, 0]) else torch.where(valid.unsqueeze(1), p, 0.0)


def _softmax_mean(xp: Namespace, z: Array, values: Array, valid: Array | None) -> Array:
    return (softmax(xp, z, valid) * _clean(values, valid)).sum(1)


def _softmax_mean_rule(z: Array, values: Array, valid: Array | None) -> Rule:
    p, values = _finite_softmax(z, valid), _clean(values, valid)
    mean = torch.zeros_like(p[:, 0])
    for at in _slabs(p):
        mean += (p[:, at] * values[:, at]).sum(1)

    def vjp(g: Array) -> Array:
        # p (values - mean) g, into p itself, slab by slab: what lies between is small.
        g = where_or(array_api_compat.torch, valid, g, 0.0).unsqueeze(1)
        for at in _slabs(p):
            p[:, at].mul_((values[:, at] - mean.unsqueeze(1)).mul_(g))
        return p

    return where_or(array_api_compat.torch, valid, mean, 0.0), vjp


def softmax_mean(xp: Namespace, z: Array, values: Array, valid: Array | None) -> Array:
    return _by_rule(_softmax_mean, _softmax_mean_rule, z, values, valid)


def _softmax_squares(xp: Namespace, z: Array, labels: Array, values: Array, valid: Array | None) -> Array:
    index = labels.unsqueeze(1)
    error = softmax(xp, z, valid).scatter_add(1, index, -torch.ones_like(index, dtype=z.dtype))
    return where_or(xp, valid, (error.square() * _clean(values, valid)).sum(1), 0.0)


def _softmax_squares_rule(z: Array, labels: Array, values: Array, valid: Array | None) -> Rule:
    index, values = labels.unsqueeze(1), _clean(values, valid)
    error = _finite_softmax(z, valid)
    error.scatter_add_(1, index, -torch.ones_like(index, dtype=z.dtype))
    losses = torch.zeros_like(error[:, 0])
    for at in _slabs(error):
        losses += error[:, at].square().mul_(values[:, at]).sum(1)
    losses = where_or(array_api_compat.torch, valid, losses, 0.0)

    def vjp(g: Array) -> Array:
        # p (v e - sum of p v e) 2 g with p = e + [c = label], into the error e itself, slab by slab.
        g = where_or(array_api_compat.torch, valid, 2.0 * g, 0.0).unsqueeze(1)
        mean = losses.unsqueeze(1) + values.gather(1, index) * error.gather(1, index)
        for at in _slabs(error):
            error[:, at].mul_((values[:, at] * error[:, at]).sub_(mean).mul_(g))
        return error.scatter_add_(1, index, losses.unsqueeze(1) * -g)

    return losses, vjp


def softmax_squares(xp: Namespace, z: Array, labels: Array, values: Array, valid: Array | None) -> Array:
    return _by_rule(_softmax_squares, _softmax_squares_rule, z, labels, values, valid)


def _softmax_at(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Array:
    return softmax(xp, z, valid).gather(1, classes)


def _softmax_at_rule(z: Array, classes: Array, valid: Array | None) -> Rule:
    p, _ = _softmax_rule(z, valid)
    at_classes = p.gather(1, classes)

    def vjp(g: Array) -> Array:
        steps = g * at_classes
        return p.mul_(-steps.sum(1, keepdim=True)).scatter_add_(1, classes, steps)

    return at_classes, vjp


def softmax_at(xp: Namespace, z: Array, classes: Array, valid: Array | None) -> Array:
    return _by_rule(_softmax_at, _softmax_at_rule, z, classes, valid)


def softplus(xp: Namespace, x: Array) -> Array:
    return torch.nn.functional.softplus(x, threshold=_LINEAR)


def sigmoid(xp: Namespace, x: Array) -> Array:
    return torch.sigmoid(x)


def _slabs(x: Array) -> list[slice]:
    """Return slices of the classes, not many, of which each stays in the cache."""
    classes = x.shape[1]
    step = -(-classes // max(1, min(classes, 32, x.numel() >> 17)))
    return [slice(c, c + step) for c in range(0, classes, step)]


def _binary_entries(xp: Namespace, x: Array, y: Array) -> Array:
    # log(1 + exp(-|x|)), and |x| times the share on the other side: softplus(x) - x y would cancel.
    minus = -x
    small = torch.minimum(x, minus).exp_().log1p_()
    return small.addcmul_(x, minus.lt_(0.0).sub_(y))


_BINARY = Formula(_binary_entries, lambda xp, x, y: torch.sigmoid(x).sub_(y))


def _binary_total_rule(x: Array, y: Array, valid: Array | None) -> Rule:
    x, y = x.detach(), y.detach()
    total, vjp = blocks.entries_rule(torch, _BLOCKS, _ENTRIES, x, y, valid, True, _BINARY)
    if not _host_finite(total):
        return generic.binary_total_rule(array_api_compat.torch, x, y, valid)
    return total, vjp


def binary_total(xp: Namespace, x: Array, y: Array, valid: Array | None) -> Array:
    return _by_rule(generic.binary_total, _binary_total_rule, x, y, valid)


def _turned(x: Array, labels: Array) -> Array:
    """Return a copy of `(N, C, P)` with the scores at the labels turned round."""
    return x.scatter(1, labels, -x.gather(1, labels))


def _binary_label_total_rule(x: Array, labels: Array, valid: Array | None) -> Rule:
    xs, ys, ms = blocks.by_position(torch, x.detach(), labels, valid)
    places, totals = list(blocks.tiles(xs.shape, _LABELLED)), []
    for place in places:
        losses = softplus(array_api_compat.torch, _turned(xs[place], ys[place])).sum(1, keepdim=True)
        # Before the mask: what is ignored must be finite to be left out by a product.
        if not _host_finite(losses):
            return generic.binary_label_total_rule(array_api_compat.torch, x, labels, valid)
        totals.append((losses if ms is None else losses.mul_(ms[place])).sum())

    def vjp(g: Array) -> Array:
        slopes = torch.empty_like(xs)
        for place in places:
            y, scale = ys[place], g if ms is None else ms[place].to(g.dtype).mul_(g)
            each = _turned(xs[place], y).sigmoid_()
            torch.mul(each.scatter_(1, y, -each.gather(1, y)), scale, out=slopes[place])
        return slopes.reshape(x.shape)

    return torch.stack(totals).sum() if totals else xs.sum(), vjp


def binary_label_total(xp: Namespace, x: Array, labels: Array, valid: Array | None) -> Array:
    return _by_rule(generic.binary_label_total, _binary_label_total_rule, x, labels, valid)


def _divided(x: Array, number: float) -> Array:
    return x if number == 1.0 else x.div_(number)


def _log_cosh(d: Array) -> Array:
    size = d.abs_()
    near = size.clamp_max(formulas.FAR)
    e = near.expm1()  # cosh near - 1 is e^2 / (1 + e) / 2
    return (e * e).div_(e.add_(1.0)).mul_(0.5).log1p_().add_(size.sub_(near))


def _entries_rule(
    x: Array, t: Array | None, valid: Array | None, total: bool, formula: Formula, *options: float
) -> Rule:
    t = None if t is None else t.detach()
    formula = _FASTER.get(formula, formula)
    return blocks.entries_rule(torch, _BLOCKS, _ENTRIES, x.detach(), t, valid, total, formula, *options)


def _both_rule(x: Array, t: Array | None, valid: Array | None, *arguments: Any) -> Rule:
    return blocks.both_rule(_BLOCKS, _ENTRIES, x.detach(), None if t is None else t.detach(), valid, *arguments)


def _rule_of(x: Array, formula: Formula) -> Any:
    """Return the rule that a formula is fastest by: the slopes are computed with the losses only where wanted."""
    return _both_rule if formula.both is not None and x.requires_grad else _entries_rule


def _entries(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, total: bool, formula: Formula, *options: float
) -> Array:
    losses = generic.entry_losses(xp, x, t, valid, formula, *options)
    return losses.sum() if total else losses


def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    return _by_rule(_entries, _rule_of(x, formula), x, t, valid, False, formula, *options)


def entry_total(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *options: float
) -> Array:
    return _by_rule(_entries, _rule_of(x, formula), x, t, valid, True, formula, *options)


def _log_probabilities(z: Array, valid: Array | None, scale: float) -> Array:
    """Return log softmax(scale z), finite where not valid."""
    z = where_valid(array_api_compat.torch, valid, z)
    return torch.log_softmax((z - z.detach().amax(1, keepdim=True)) * scale if scale != 1.0 else z, 1)


def _divergence_rule(z: Array, *arguments: Any) -> Rule:
    return blocks.divergence_rule(_BLOCKS, _POSITIONS, z.detach(), *arguments)


def _divergence(
    xp: Namespace,
    z: Array,
    t: Array,
    valid: Array | None,
    weight: Array | None,
    scale: float,
    formula: Formula,
    keep: bool,
) -> Array:
    log_p, log_q = (_log_probabilities(x, valid, scale) for x in (z, t))
    p, q = log_p.exp(), log_q.exp()
    losses = formula.losses(xp, *generic._ruled_in(xp, log_p, log_q, q), p, q)
    return where_or(xp, valid, generic._weighed(xp, weight, losses).sum(1), 0.0)


def divergence(
    xp: Namespace, z: Array, t: Array, valid: Array | None, weight: Array | None, scale: float, formula: Formula
) -> Array:
    keep = z.requires_grad and torch.is_grad_enabled()
    return _by_rule(_divergence, _divergence_rule, z, t, valid, weight, scale, formula, keep)


def _gap_losses_rule(z: Array, *arguments: Any) -> Rule:
    return blocks.gap_losses_rule(_BLOCKS, _POSITIONS, _put, z.detach(), *arguments)


def _put(x: Array, index: Array, values: Any) -> None:
    x.scatter_(1, index, values)


def _gap_losses(
    xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float
) -> Array:
    # Gathered, since torch's own take_along_axis would tie a compiled graph to the size of the batch.
    z, own = where_valid(xp, valid, z), generic.one_hot(xp, labels, z.shape[1])
    gaps = torch.where(own, 0.0, z - z.gather(1, labels.unsqueeze(1)))
    return where_or(xp, valid, torch.where(own, 0.0, formula.losses(xp, gaps, None, *options)).sum(1), 0.0)


def gap_losses(xp: Namespace, z: Array, labels: Array, valid: Array | None, formula: Formula, *options: float) -> Array:
    return _by_rule(_gap_losses, _gap_losses_rule, z, labels, valid, formula, *options)


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
    z = _clean(z, valid)
    if valid is not None:
        # A position that is not valid has no members; all of them keep its logarithm finite.
        members = members | ~valid.unsqueeze(1)
    # As in the portable form. Maxima are constants: what they add to a derivative is 0.
    own = torch.where(members, z, -torch.inf)
    top, top_own = (x.detach().amax(1, keepdim=True) for x in (z, own))
    some = top_own != -torch.inf
    total = (z - top).exp().sum(1)
    total_own = (own - torch.where(some, top_own, 0.0)).exp().sum(1)
    total_own = torch.where(some.squeeze(1), total_own, 1.0)
    return where_or(xp, valid, total.log() - total_own.log() + (top - top_own).squeeze(1), 0.0)


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


def bin_totals(xp: Namespace, x: Array, bins: Array, size: int) -> Array:
    # In float64: a float32 running sum drifts over a large image.
    zero = torch.zeros((x.shape[0], size), dtype=torch.float64, device=x.device)
    return zero.scatter_add(1, bins, x.to(torch.float64)).to(x.dtype)


def top_class(xp: Namespace, z: Array) -> Array:
    return z.max(1).indices  # the first, as of argmax, which is slower on the CPU


def _components_of(labels: Array, classes: int, most: int) -> Array:
    if labels.device.type == "cpu" and not generic.PORTABLE:
        return torch.from_numpy(numpy_components.ranked_components(labels.numpy(), classes, most))
    return generic.components(array_api_compat.torch, labels, classes, most)


# An operator of its own, into which nothing looks: a compiler sees one step, and on the host NumPy labels the regions
# under the transforms too.
_components: Any = torch.library.custom_op(
    "arrayloss::components",
    _components_of,
    mutates_args=(),
    schema="(Tensor labels, SymInt classes, SymInt most) -> Tensor",
)


def _components_mapped(info: Any, in_dims: Any, labels: Array, classes: int, most: int) -> tuple[Array, int]:
    labels = labels.movedim(in_dims[0], 0)
    return _components(labels.flatten(0, 1), classes, most).reshape(labels.shape), 0


_components.register_fake(lambda labels, classes, most: torch.empty_like(labels, memory_format=torch.contiguous_format))
_components.register_vmap(_components_mapped)


def components(xp: Namespace, labels: Array, classes: int, most: int) -> Array:
    return _components(labels, classes, most)


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
