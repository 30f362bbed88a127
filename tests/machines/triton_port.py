"""Formulas as Triton kernels: the words they are written in, as device functions, and a kernel for each shape.

Whether Triton interprets or compiles is read from the environment (TRITON_INTERPRET) when it is first imported.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# The namespace. What the language lacks, or has with few digits, is made up of what it has.


@triton.jit
def _maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _where(mask, x, y):
    return tl.where(mask, x, y)


@triton.jit
def _full_like(x, value):
    return tl.full(x.shape, value, x.dtype)


@triton.jit
def _zeros_like(x):
    return tl.full(x.shape, 0.0, x.dtype)


@triton.jit
def _ones_like(x):
    return tl.full(x.shape, 1.0, x.dtype)


@triton.jit
def _abs(x):
    return tl.abs(x)


@triton.jit
def _sign(x):
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, x))


@triton.jit
def _sqrt(x):
    return tl.sqrt_rn(x)


@triton.jit
def _exp(x):
    # As 2^k e^r with a small r: the power of 2 of a large number has the rounding of that number for its error.
    near = _minimum(_maximum(x, _full_like(x, -110.0)), _full_like(x, 100.0))
    k = tl.floor(near * 1.4426950408889634 + 0.5)
    r = (near - k * 0.693359375) + k * 2.1219444005469057e-4
    # In two steps, since 2^k alone may be no number where the product is one.
    half = tl.floor(k * 0.5)
    return tl.exp(r) * tl.exp2(half) * tl.exp2(k - half)


@triton.jit
def _log(x):
    return tl.log(x)


@triton.jit
def _log1p(x):
    u = 1.0 + x
    near = tl.log(u) * (x / (u - 1.0))
    return tl.where(u == 1.0, x, tl.where(x > 1e9, tl.log(x), near))


@triton.jit
def _expm1(x):
    # The sum of x^k / k! up to k = 9 where that is enough for all digits.
    near = _minimum(_maximum(x, _full_like(x, -0.5)), _full_like(x, 0.5))
    more = 1.0 + near * (1 / 6) * (1.0 + near * (1 / 7) * (1.0 + near * (1 / 8) * (1.0 + near * (1 / 9))))
    series = near * (
        1.0 + near * (1 / 2) * (1.0 + near * (1 / 3) * (1.0 + near * (1 / 4) * (1.0 + near * (1 / 5) * more)))
    )
    return tl.where(tl.abs(x) <= 0.5, series, _exp(x) - 1.0)


@triton.jit
def _tanh(x):
    size = _expm1(-2.0 * tl.abs(x))
    half = -size / (2.0 + size)
    return tl.where(x < 0.0, -half, half)


@triton.jit
def _pow(x, e):
    """x to the power e of a normal number x > 0, whose exponent and mantissa are taken apart."""
    bits = x.to(tl.int32, bitcast=True)
    k = ((bits >> 23) - 127).to(tl.float32)
    rest = tl.log2(((bits & 0x7FFFFF) | 0x3F800000).to(tl.float32, bitcast=True))
    # Of e so many digits that their product with k is exact, and the others.
    most: tl.constexpr = (e * 4096.0) // 1.0 / 4096.0
    whole = tl.floor(k * most)
    part = (k * most - whole) + (k * (e - most) + rest * e)
    whole = _minimum(_maximum(whole, _full_like(x, -300.0)), _full_like(x, 300.0))
    half = tl.floor(whole * 0.5)
    return tl.exp2(part) * tl.exp2(half) * tl.exp2(whole - half)


XP = types.SimpleNamespace(
    abs=_abs,
    exp=_exp,
    expm1=_expm1,
    full_like=_full_like,
    log=_log,
    log1p=_log1p,
    maximum=_maximum,
    minimum=_minimum,
    ones_like=_ones_like,
    pow=_pow,
    sign=_sign,
    sqrt=_sqrt,
    tanh=_tanh,
    where=_where,
    zeros_like=_zeros_like,
)
_PORTED: dict[Callable[..., Any], Any] = {}


def ported(function: Callable[..., Any] | None) -> Any:
    """Return a formula as a device function: its helpers are, too, and the numbers named in its module constants."""
    if function is None:
        return None
    if function not in _PORTED:
        names = {**function.__globals__, "tl": tl}
        for name in function.__code__.co_names:
            if isinstance(value := names.get(name), types.FunctionType):
                names[name] = ported(value)
            elif isinstance(value, (int, float)):
                names[name] = tl.constexpr(value)
        copy = types.FunctionType(function.__code__, names, function.__name__)
        copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
        _PORTED[function] = made = triton.jit(copy)
        if isinstance(made, triton.JITFunction):  # the compiler looks annotations up
            made._unsafe_update_src(_bare(function))
    return _PORTED[function]


def _bare(function: Callable[..., Any]) -> str:
    """Return the source of a function without annotations."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    tree.returns = None
    for argument in tree.args.args:
        argument.annotation = None
    return ast.unparse(tree)


def constants(formula: Any, numbers: tuple[Any, ...]) -> dict[str, Any]:
    """Return what a kernel is given of a formula."""
    return {
        "XP": XP,
        "LOSSES": ported(formula.losses),
        "SLOPES": ported(formula.slopes),
        "BOTH": ported(formula.both),
        "NUMBERS": numbers,
    }


@triton.jit
def words(x, out, N, WORD: tl.constexpr, NUMBERS: tl.constexpr, BLOCK: tl.constexpr):
    """A word of formulas at numbers (N,)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + at, WORD(tl.load(x + at, mask=at < N, other=1.0), *NUMBERS), mask=at < N)


@triton.jit
def entries(
    x, t, valid, losses, slopes, both, N,
    XP: tl.constexpr, LOSSES: tl.constexpr, SLOPES: tl.constexpr, BOTH: tl.constexpr, NUMBERS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Losses and slopes (N,) of entries, and the same as the formula gives both (2, N); 0 where not valid."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = at < N
    counts = tl.load(valid + at, mask=on, other=0) != 0
    score, target = tl.load(x + at, mask=counts, other=0.0), tl.load(t + at, mask=counts, other=0.0)
    tl.store(losses + at, tl.where(counts, LOSSES(XP, score, target, *NUMBERS), 0.0), mask=on)
    tl.store(slopes + at, tl.where(counts, SLOPES(XP, score, target, *NUMBERS), 0.0), mask=on)
    if BOTH is not None:
        first, second = BOTH(XP, score, target, *NUMBERS)
        tl.store(both + at, tl.where(counts, first, 0.0), mask=on)
        tl.store(both + N + at, tl.where(counts, second, 0.0), mask=on)


@triton.jit
def _log_softmax(x, inside, SCALE: tl.constexpr):
    shifted = (x - tl.max(x, 0)[None, :]) * SCALE
    total = tl.sum(tl.where(inside, tl.exp(shifted), 0.0), 0)
    return shifted - tl.log(total)[None, :]


@triton.jit
def classes(
    z, t, field, labels, valid, g, losses, dz, P,
    XP: tl.constexpr, LOSSES: tl.constexpr, SLOPES: tl.constexpr, BOTH: tl.constexpr, NUMBERS: tl.constexpr,
    C: tl.constexpr, KIND: tl.constexpr, SCALE: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    """Losses (N, P) of positions and their gradient (N, C, P), by what the losses are worth, g (N, P)."""
    n = tl.program_id(1)
    p = tl.program_id(0) * BP + tl.arange(0, BP)
    c = tl.arange(0, BC)
    on = p < P
    counts = tl.load(valid + n * P + p, mask=on, other=0) != 0
    at = (n * C + c[:, None]) * P + p[None, :]
    stored = (c[:, None] < C) & on[None, :]
    inside = (c[:, None] < C) & counts[None, :]
    x = tl.load(z + at, mask=inside, other=-1e30)
    target = tl.load(t + at, mask=inside, other=0.0)
    if KIND == "gap":
        own = inside & (c[:, None] == tl.load(labels + n * P + p, mask=counts, other=-1)[None, :])
        d = tl.where(own | ~inside, 0.0, x - tl.sum(tl.where(own, x, 0.0), 0)[None, :])
        share = tl.where(own, 1.0, 0.0)
        found, slope = LOSSES(XP, d, share, *NUMBERS), SLOPES(XP, d, share, *NUMBERS)
    else:
        log_p = _log_softmax(x, inside, SCALE)
        share = tl.where(inside, tl.exp(log_p), 0.0)
        if KIND == "teacher":
            log_q = _log_softmax(tl.where(inside, target, -1e30), inside, SCALE)
            q = tl.where(inside, tl.exp(log_q), 0.0)
            d, log_q = tl.where(q > 0.0, log_p, 0.0), tl.where(q > 0.0, log_q, 0.0)
            found, slope = LOSSES(XP, d, share, log_q, q, *NUMBERS), SLOPES(XP, d, share, log_q, q, *NUMBERS)
        else:
            d = tl.where(target != 0.0, log_p, 0.0)
            if KIND == "field":
                value = tl.load(field + at, mask=inside, other=0.0)
                found = LOSSES(XP, d, share, target, value, *NUMBERS)
                slope = SLOPES(XP, d, share, target, value, *NUMBERS)
            else:
                found, slope = LOSSES(XP, d, share, target, *NUMBERS), SLOPES(XP, d, share, target, *NUMBERS)
    slope = tl.where(inside, slope, 0.0)
    worth = tl.load(g + n * P + p, mask=on, other=0.0) * SCALE
    slope = (slope - share * tl.sum(slope, 0)[None, :]) * worth[None, :]
    tl.store(losses + n * P + p, tl.where(counts, tl.sum(tl.where(inside, found, 0.0), 0), 0.0), mask=on)
    tl.store(dz + at, tl.where(counts[None, :], slope, 0.0), mask=stored)


@triton.jit
def _probabilities(z, t, valid, n, p, P, C: tl.constexpr, BC: tl.constexpr):
    c = tl.arange(0, BC)
    counts = tl.load(valid + n * P + p, mask=p < P, other=0) != 0
    inside = (c[:, None] < C) & counts[None, :]
    at = (n * C + c[:, None]) * P + p[None, :]
    x = tl.load(z + at, mask=inside, other=-1e30)
    e = tl.exp(x - tl.max(x, 0)[None, :])
    return tl.where(inside, e / tl.sum(e, 0)[None, :], 0.0), tl.load(t + at, mask=inside, other=0.0), inside


@triton.jit
def regions(
    z, t, valid, g, sums, dz, P,
    XP: tl.constexpr, LOSSES: tl.constexpr, SLOPES: tl.constexpr, BOTH: tl.constexpr, NUMBERS: tl.constexpr,
    C: tl.constexpr, K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Sums (K, N, C) over the positions of images, a program each, and the gradient by what the sums are worth, g."""
    n, images = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, BC)
    first, second, third = tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32), tl.zeros([BC], tl.float32)
    for step in range(STEPS):
        p = step * BP + tl.arange(0, BP)
        share, true, inside = _probabilities(z, t, valid, n, p, P, C, BC)
        found = LOSSES(XP, share, true, *NUMBERS)
        first += tl.sum(tl.where(inside, found[0], 0.0), 1)
        second += tl.sum(tl.where(inside, found[1], 0.0), 1)
        if K == 3:
            third += tl.sum(tl.where(inside, found[2], 0.0), 1)
    at = n * C + c
    tl.store(sums + at, first, mask=c < C)
    tl.store(sums + images * C + at, second, mask=c < C)
    if K == 3:
        tl.store(sums + 2 * images * C + at, third, mask=c < C)
    for step in range(STEPS):
        p = step * BP + tl.arange(0, BP)
        share, true, inside = _probabilities(z, t, valid, n, p, P, C, BC)
        slopes = SLOPES(XP, share, true, *NUMBERS)
        total = slopes[0] * tl.load(g + at, mask=c < C, other=0.0)[:, None]
        total += slopes[1] * tl.load(g + images * C + at, mask=c < C, other=0.0)[:, None]
        if K == 3:
            total += slopes[2] * tl.load(g + 2 * images * C + at, mask=c < C, other=0.0)[:, None]
        total = tl.where(inside, total, 0.0)
        total = share * (total - tl.sum(share * total, 0)[None, :])
        tl.store(dz + (n * C + c[:, None]) * P + p[None, :], total, mask=(c[:, None] < C) & (p < P)[None, :])
