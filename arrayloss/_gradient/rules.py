"""The derivative rules of array API functions, for the tape.

A rule takes the namespace and plain arrays (or numbers) and returns the value and, for each argument in order, the
function from the gradient of the value to the gradient of that argument. Arguments without a rule behind the last
one given are constants (axes, shapes, indices). At a kink the gradient is the mean of both sides, at a tie of maxima it
is shared evenly among them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from arrayloss._machines.namespace import device_of

Array = Any
Namespace = Any
Vjp = Callable[[Array], Array]
Rule = tuple[Array, tuple[Vjp, ...]]

RULES: dict[str, Callable[..., Rule]] = {}
#: Functions whose first argument is a list of arrays.
OF_LISTS = frozenset({"concat", "stack"})
#: Functions whose result does not change where their argument changes a little, or that have no value to differentiate.
CONSTANTS = frozenset(
    {
        "all",
        "any",
        "argmax",
        "argmin",
        "argsort",
        "can_cast",
        "ceil",
        "count_nonzero",
        "empty_like",
        "equal",
        "finfo",
        "floor",
        "full_like",
        "greater",
        "greater_equal",
        "iinfo",
        "isdtype",
        "isfinite",
        "isinf",
        "isnan",
        "less",
        "less_equal",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "nonzero",
        "not_equal",
        "ones_like",
        "result_type",
        "round",
        "searchsorted",
        "sign",
        "signbit",
        "trunc",
        "zeros_like",
    }
)


def rule(function: Callable[..., Rule]) -> Callable[..., Rule]:
    """Register a rule under the name of the function it is for."""
    RULES[function.__name__.rstrip("_")] = function
    return function


def _to(xp: Namespace, g: Array, x: Any) -> Array:
    """Sum a gradient over the axes along which the argument `x` was broadcast, in its dtype."""
    shape = getattr(x, "shape", ())
    if g.shape != shape:
        extra = g.ndim - len(shape)
        axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
        g = xp.sum(g, axis=axes, keepdims=True)
        g = xp.reshape(g, tuple(shape))
    return _cast(xp, g, x) if hasattr(x, "dtype") else g


def _cast(xp: Namespace, g: Array, x: Any) -> Array:
    return g if g.dtype == x.dtype else xp.astype(g, x.dtype)


def _unary(name: str, slope: Callable[[Namespace, Array, Array], Array]) -> None:
    def unary(xp: Namespace, x: Array) -> Rule:
        y = getattr(xp, name)(x)
        return y, (lambda g: g * slope(xp, x, y),)

    RULES[name] = unary


def _binary(name: str, left: Callable[..., Array], right: Callable[..., Array]) -> None:
    operation = _OPERATORS.get(name)

    def binary(xp: Namespace, a: Any, b: Any) -> Rule:
        y = operation(a, b) if operation is not None else getattr(xp, name)(a, b)
        return y, (lambda g: _to(xp, left(xp, g, a, b, y), a), lambda g: _to(xp, right(xp, g, a, b, y), b))

    RULES[name] = binary


#: Operators take Python numbers on either side, the functions of the array API do not everywhere.
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "pow": operator.pow,
}


def _share(xp: Namespace, chosen: Array, tie: Array, like: Array) -> Array:
    """Return 1 where an argument was chosen, 1/2 where both were equal, 0 elsewhere."""
    return xp.astype(chosen, like.dtype) + 0.5 * xp.astype(tie, like.dtype)


def _power_left(xp: Namespace, g: Array, a: Any, b: Any, y: Array) -> Array:
    if isinstance(b, (int, float)):
        return g * (b * a ** (b - 1)) if b else xp.zeros_like(y)
    # An exponent of 0 has slope 0, at a base of 0 too, where a ** -1 is infinite.
    return g * (b * a ** (xp.where(b == 0, xp.ones_like(b), b) - 1))


def _power_right(xp: Namespace, g: Array, a: Any, b: Any, y: Array) -> Array:
    if isinstance(a, (int, float)):
        return g * y * (math.log(a) if a > 0 else 0.0)
    log = xp.log(xp.where(a > 0, a, xp.ones_like(a)))
    return g * y * log


def _sign(xp: Namespace, x: Array) -> Array:
    return xp.astype(x > 0, x.dtype) - xp.astype(x < 0, x.dtype)


_unary("negative", lambda xp, x, y: -1.0)
_unary("exp", lambda xp, x, y: y)
_unary("expm1", lambda xp, x, y: y + 1.0)
_unary("log", lambda xp, x, y: 1.0 / x)
_unary("log1p", lambda xp, x, y: 1.0 / (1.0 + x))
_unary("log2", lambda xp, x, y: (1.0 / math.log(2.0)) / x)
_unary("log10", lambda xp, x, y: (1.0 / math.log(10.0)) / x)
_unary("sqrt", lambda xp, x, y: 0.5 / y)
_unary("square", lambda xp, x, y: 2.0 * x)
_unary("abs", lambda xp, x, y: _sign(xp, x))
_unary("reciprocal", lambda xp, x, y: -y * y)
_unary("sin", lambda xp, x, y: xp.cos(x))
_unary("cos", lambda xp, x, y: -xp.sin(x))
_unary("tan", lambda xp, x, y: 1.0 + y * y)
_unary("sinh", lambda xp, x, y: xp.cosh(x))
_unary("cosh", lambda xp, x, y: xp.sinh(x))
_unary("tanh", lambda xp, x, y: 1.0 - y * y)
_unary("asin", lambda xp, x, y: 1.0 / xp.sqrt(1.0 - x * x))
_unary("acos", lambda xp, x, y: -1.0 / xp.sqrt(1.0 - x * x))
_unary("atan", lambda xp, x, y: 1.0 / (1.0 + x * x))

_binary("add", lambda xp, g, a, b, y: g, lambda xp, g, a, b, y: g)
_binary("subtract", lambda xp, g, a, b, y: g, lambda xp, g, a, b, y: -g)
_binary("multiply", lambda xp, g, a, b, y: g * b, lambda xp, g, a, b, y: g * a)
_binary("divide", lambda xp, g, a, b, y: g / b, lambda xp, g, a, b, y: -g * y / b)
_binary("pow", _power_left, _power_right)
_binary(
    "maximum",
    lambda xp, g, a, b, y: g * _share(xp, a > b, a == b, y),
    lambda xp, g, a, b, y: g * _share(xp, b > a, a == b, y),
)
_binary(
    "minimum",
    lambda xp, g, a, b, y: g * _share(xp, a < b, a == b, y),
    lambda xp, g, a, b, y: g * _share(xp, b < a, a == b, y),
)
_binary(
    "logaddexp",
    lambda xp, g, a, b, y: g * xp.exp(a - y),
    lambda xp, g, a, b, y: g * xp.exp(b - y),
)
_binary("atan2", lambda xp, g, a, b, y: g * b / (a * a + b * b), lambda xp, g, a, b, y: -g * a / (a * a + b * b))
_binary("hypot", lambda xp, g, a, b, y: g * a / y, lambda xp, g, a, b, y: g * b / y)


@rule
def where(xp: Namespace, mask: Array, a: Any, b: Any) -> Rule:
    y = xp.where(mask, a, b)
    zero = xp.zeros_like(y)
    return y, (
        lambda g: zero,
        lambda g: _to(xp, xp.where(mask, g, zero), a),
        lambda g: _to(xp, xp.where(mask, zero, g), b),
    )


@rule
def astype(xp: Namespace, x: Array, dtype: Any, **options: Any) -> Rule:
    y = xp.astype(x, dtype, **options)
    # Whole numbers do not follow a small step.
    real = xp.isdtype(y.dtype, "real floating") or "float" in str(y.dtype)
    return y, (lambda g: _cast(xp, g, x) if real else xp.zeros_like(x),)


def _spread(xp: Namespace, g: Array, x: Array, axis: Any, keepdims: bool) -> Array:
    """Bring a gradient of a reduction back to the shape of its argument."""
    if not keepdims and g.ndim:
        axes = range(x.ndim) if axis is None else [a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis)]
        g = xp.reshape(g, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))
    return xp.broadcast_to(g, x.shape)


@rule
def sum_(xp: Namespace, x: Array, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Rule:
    y = xp.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
    return y, (lambda g: _spread(xp, _cast(xp, g, x), x, axis, keepdims),)


@rule
def mean(xp: Namespace, x: Array, *, axis: Any = None, keepdims: bool = False) -> Rule:
    y = xp.mean(x, axis=axis, keepdims=keepdims)
    share = float(y.size) / float(x.size) if x.size else 0.0
    return y, (lambda g: _spread(xp, g * share, x, axis, keepdims),)


@rule
def prod(xp: Namespace, x: Array, *, axis: Any = None, keepdims: bool = False) -> Rule:
    # Through logarithms a zero would lose the gradient, so the product of the others is taken for each entry.
    y = xp.prod(x, axis=axis, keepdims=keepdims)

    def vjp(g: Array) -> Array:
        axes = tuple(range(x.ndim)) if axis is None else ((axis,) if isinstance(axis, int) else tuple(axis))
        axes = tuple(a % x.ndim for a in axes)
        rest = tuple(i for i in range(x.ndim) if i not in axes)
        order = rest + axes
        lines = xp.reshape(xp.permute_dims(x, order), (*(x.shape[i] for i in rest), -1))
        n = lines.shape[-1]
        if n == 0:
            return xp.zeros_like(x)
        others = xp.stack(
            [xp.prod(xp.concat([lines[..., :i], lines[..., i + 1 :]], axis=-1), axis=-1) for i in range(n)],
            axis=-1,
        )
        back = xp.reshape(others, tuple(x.shape[i] for i in order))
        inverse = tuple(order.index(i) for i in range(x.ndim))
        return _spread(xp, g, x, axis, keepdims) * xp.permute_dims(back, inverse)

    return y, (vjp,)


def _extremum(name: str) -> None:
    def extremum(xp: Namespace, x: Array, *, axis: Any = None, keepdims: bool = False) -> Rule:
        y = getattr(xp, name)(x, axis=axis, keepdims=keepdims)

        def vjp(g: Array) -> Array:
            hit = xp.astype(x == _spread(xp, y, x, axis, keepdims), x.dtype)
            return _spread(xp, g, x, axis, keepdims) * hit / xp.sum(hit, axis=axis, keepdims=True)

        return y, (vjp,)

    RULES[name] = extremum


_extremum("max")
_extremum("min")


def _only_axis(name: str, x: Array, axis: int | None) -> int:
    if axis is None and x.ndim != 1:
        raise TypeError(f"value_and_grad: {name} of {x.ndim} dimensions needs an axis")
    return 0 if axis is None else axis


@rule
def cumulative_sum(xp: Namespace, x: Array, *, axis: int | None = None) -> Rule:
    along = _only_axis("cumulative_sum", x, axis)
    return xp.cumulative_sum(x, axis=along), (
        lambda g: xp.flip(xp.cumulative_sum(xp.flip(g, axis=along), axis=along), axis=along),
    )


@rule
def diff(xp: Namespace, x: Array, *, axis: int = -1, n: int = 1) -> Rule:
    if n != 1:
        raise TypeError("value_and_grad: diff has a gradient rule for n=1 only; apply it repeatedly")

    def vjp(g: Array) -> Array:
        zero = xp.zeros_like(_cut(x, axis, 0, 1))
        return xp.concat([zero, g], axis=axis) - xp.concat([g, zero], axis=axis)

    return xp.diff(x, axis=axis), (vjp,)


@rule
def reshape(xp: Namespace, x: Array, shape: Any, **options: Any) -> Rule:
    return xp.reshape(x, shape, **options), (lambda g: xp.reshape(g, x.shape),)


@rule
def permute_dims(xp: Namespace, x: Array, axes: Any) -> Rule:
    inverse = tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))
    return xp.permute_dims(x, tuple(axes)), (lambda g: xp.permute_dims(g, inverse),)


@rule
def matrix_transpose(xp: Namespace, x: Array) -> Rule:
    return xp.matrix_transpose(x), (lambda g: xp.matrix_transpose(g),)


@rule
def moveaxis(xp: Namespace, x: Array, source: Any, destination: Any) -> Rule:
    return xp.moveaxis(x, source, destination), (lambda g: xp.moveaxis(g, destination, source),)


@rule
def expand_dims(xp: Namespace, x: Array, *, axis: int = 0) -> Rule:
    return xp.expand_dims(x, axis=axis), (lambda g: xp.reshape(g, x.shape),)


@rule
def squeeze(xp: Namespace, x: Array, axis: Any) -> Rule:
    return xp.squeeze(x, axis=axis), (lambda g: xp.reshape(g, x.shape),)


@rule
def broadcast_to(xp: Namespace, x: Array, shape: Any) -> Rule:
    return xp.broadcast_to(x, tuple(shape)), (lambda g: _to(xp, g, x),)


@rule
def flip(xp: Namespace, x: Array, *, axis: Any = None) -> Rule:
    return xp.flip(x, axis=axis), (lambda g: xp.flip(g, axis=axis),)


@rule
def roll(xp: Namespace, x: Array, shift: Any, *, axis: Any = None) -> Rule:
    back = tuple(-s for s in shift) if isinstance(shift, tuple) else -shift
    return xp.roll(x, shift, axis=axis), (lambda g: xp.roll(g, back, axis=axis),)


def _cut(g: Array, axis: int, start: int, stop: int) -> Array:
    return g[tuple(slice(start, stop) if i == axis % g.ndim else slice(None) for i in range(g.ndim))]


@rule
def concat(xp: Namespace, arrays: list[Array], *, axis: int | None = 0) -> Rule:
    if axis is None:
        raise TypeError("value_and_grad: concat has a gradient rule for a given axis only")
    ends = [0]
    for x in arrays:
        ends.append(ends[-1] + x.shape[axis])
    return xp.concat(arrays, axis=axis), tuple(lambda g, a=a, b=b: _cut(g, axis, a, b) for a, b in pairwise(ends))


@rule
def stack(xp: Namespace, arrays: list[Array], *, axis: int = 0) -> Rule:
    return xp.stack(arrays, axis=axis), tuple(
        lambda g, i=i: xp.squeeze(_cut(g, axis, i, i + 1), axis=axis % g.ndim) for i in range(len(arrays))
    )


@rule
def getitem(xp: Namespace, x: Array, key: Any) -> Rule:
    plain = key if isinstance(key, tuple) else (key,)
    if not all(k is None or k is Ellipsis or isinstance(k, (int, slice)) for k in plain):
        raise TypeError(
            "value_and_grad: indexing has a gradient rule for integers, slices, None and ... only; use take, "
            "take_along_axis or where"
        )

    def vjp(g: Array) -> Array:
        out = xp.zeros_like(x)
        kept = tuple(k for k in plain if k is not None)
        out[kept] = xp.reshape(g, x[kept].shape)
        return out

    return x[key], (vjp,)


@rule
def take(xp: Namespace, x: Array, indices: Array, *, axis: int | None = None) -> Rule:
    axis = _only_axis("take", x, axis)
    y = xp.take(x, indices, axis=axis)
    indices = xp.where(indices < 0, indices + x.shape[axis], indices)

    def vjp(g: Array) -> Array:
        index = xp.arange(x.shape[axis], dtype=indices.dtype, device=device_of(indices))
        hit = xp.astype(xp.expand_dims(index, axis=1) == xp.expand_dims(indices, axis=0), g.dtype)
        last = (*(i for i in range(g.ndim) if i != axis % g.ndim), axis % g.ndim)
        spread = xp.matmul(hit, xp.expand_dims(xp.permute_dims(g, last), axis=-1))[..., 0]
        return xp.permute_dims(spread, tuple(last.index(i) for i in range(g.ndim)))

    return y, (vjp,)


@rule
def take_along_axis(xp: Namespace, x: Array, indices: Array, *, axis: int = -1) -> Rule:
    y = xp.take_along_axis(x, indices, axis=axis)
    at = axis % x.ndim
    indices = xp.where(indices < 0, indices + x.shape[at], indices)

    def vjp(g: Array) -> Array:
        if indices.shape[at] == 0:
            return xp.zeros_like(x)
        shape = tuple(x.shape[at] if i == at else 1 for i in range(x.ndim + 1))
        index = xp.reshape(xp.arange(x.shape[at], dtype=indices.dtype, device=device_of(indices)), shape)
        # One column of indices at a time along a new last axis, so that equal indices add up.
        last = xp.expand_dims(indices, axis=-1)
        total = None
        for i in range(indices.shape[at]):
            column = _cut(last, at, i, i + 1)
            step = _cut(xp.expand_dims(g, axis=-1), at, i, i + 1)
            part = xp.where(index == column, step, xp.zeros_like(step))
            total = part if total is None else total + part
        return _to(xp, xp.squeeze(total, axis=-1), x)

    return y, (vjp,)


@rule
def matmul(xp: Namespace, a: Array, b: Array) -> Rule:
    y = xp.matmul(a, b)

    def left(g: Array) -> Array:
        if a.ndim == 1 and b.ndim == 1:
            return g * b
        if b.ndim == 1:
            return _to(xp, xp.expand_dims(g, axis=-1) * b, a)
        grown = xp.expand_dims(g, axis=-2) if a.ndim == 1 else g
        found = xp.matmul(grown, xp.matrix_transpose(b))
        return _to(xp, found[..., 0, :], a) if a.ndim == 1 else _to(xp, found, a)

    def right(g: Array) -> Array:
        if a.ndim == 1 and b.ndim == 1:
            return g * a
        if a.ndim == 1:
            return _to(xp, xp.expand_dims(a, axis=-1) * xp.expand_dims(g, axis=-2), b)
        grown = xp.expand_dims(g, axis=-1) if b.ndim == 1 else g
        found = xp.matmul(xp.matrix_transpose(a), grown)
        return _to(xp, found[..., 0], b) if b.ndim == 1 else _to(xp, found, b)

    return y, (left, right)


@rule
def sort(xp: Namespace, x: Array, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Rule:
    order = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    back = xp.argsort(order, axis=axis)
    return xp.take_along_axis(x, order, axis=axis), (lambda g: xp.take_along_axis(g, back, axis=axis),)


@rule
def clip(xp: Namespace, x: Array, min: Any = None, max: Any = None) -> Rule:
    # At a bound the gradient is that of what is clipped.
    below = x < min if min is not None else xp.zeros_like(x, dtype=xp.bool)
    above = x > max if max is not None else xp.zeros_like(x, dtype=xp.bool)

    def towards(argument: Any, chosen: Array) -> Vjp:
        return lambda g: _to(xp, xp.where(chosen, g, xp.zeros_like(g)), argument)

    return xp.clip(x, min, max), (towards(x, ~(below | above)), towards(min, below & ~above), towards(max, above))
