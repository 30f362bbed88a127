"""The gradients without autodiff: every derivative rule, what the tape refuses, its agreement with torch and JAX."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from cases import CASES, Case
from reference import numerical_gradient

import arrayloss as al
from arrayloss._gradient.rules import CONSTANTS, RULES

Arrays = tuple[np.ndarray, ...]
Function = Callable[..., Any]
#: What torch autograd and the tape may differ by in float64, relative to the largest entry of a gradient.
TORCH_TOLERANCE = 1e-14
HAS = {name: importlib.util.find_spec(name) is not None for name in ("torch", "jax")}
own = pytest.mark.backends("numpy", "strict")


def numbers(*shape: int, seed: int = 0, low: float = 0.2, high: float = 0.9) -> np.ndarray:
    """Return different numbers within the domain of every function here, away from all kinks."""
    return np.asarray(np.random.default_rng([seed, *shape]).uniform(low, high, shape))


def signed(*shape: int, seed: int = 0) -> np.ndarray:
    """Return numbers of both signs, none near 0."""
    x = numbers(*shape, seed=seed)
    return np.where(numbers(*shape, seed=seed + 1) < 0.55, -x, x)


# An example for every rule ------------------------------------------------------------------------------------------


def unary(name: str, make: Callable[..., np.ndarray] = signed) -> list[tuple[Function, Arrays]]:
    """Return calls of a function of one array, 0-d and empty ones included."""
    return [(lambda xp, x: getattr(xp, name)(x), (make(*shape),)) for shape in [(2, 3), (), (0, 3)]]


#: Pairs of shapes that broadcast to each other, either way.
BROADCAST = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((1,), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((4, 1, 3), (2, 1)),
    ((0, 3), (3,)),
    ((), ()),
]


def binary(
    name: str, operator: Callable[[Any, Any], Any] | None = None, make: Callable[..., np.ndarray] = signed
) -> list[tuple[Function, Arrays]]:
    """Return calls of a function of two arrays, and of its operator with a Python number on either side."""
    examples: list[tuple[Function, Arrays]] = [
        (lambda xp, a, b: getattr(xp, name)(a, b), (make(*left), make(*right, seed=7))) for left, right in BROADCAST
    ]
    examples.append((lambda xp, a: getattr(xp, name)(a, a * 0.5 + 1.0), (make(2, 3),)))
    if operator is not None:
        examples += [
            (lambda xp, a: operator(a, 0.75), (make(2, 3),)),
            (lambda xp, a: operator(0.75, a), (make(2, 3),)),
            (lambda xp, a: operator(a, 2), (make(2, 3),)),
            (lambda xp, a: operator(2, a), (make(2, 3),)),
            (lambda xp, a, b: operator(a, b), (make(2, 1), make(3, seed=7))),
        ]
    return examples


#: Axes of an array (2, 3, 4), and keepdims.
REDUCTIONS: list[dict[str, Any]] = [
    {"axis": axis, "keepdims": keepdims}
    for axis, keepdims in itertools.product([None, 0, -1, (0, 2), (-1, 1)], [False, True])
]


def reduction(name: str, *shapes: tuple[int, ...]) -> list[tuple[Function, Arrays]]:
    """Return calls of a reduction over every kind of axis."""
    examples: list[tuple[Function, Arrays]] = [
        (lambda xp, x, options=options: getattr(xp, name)(x, **options), (signed(2, 3, 4),)) for options in REDUCTIONS
    ]
    return [*examples, *((lambda xp, x: getattr(xp, name)(x), (signed(*shape),)) for shape in ((), (1,), *shapes))]


def each(x: Arrays, *functions: Function) -> list[tuple[Function, Arrays]]:
    """Return several calls on the same arrays."""
    return [(function, x) for function in functions]


def constant(xp: Any, like: Any, values: Any) -> Any:
    """Return a constant array on the device of another."""
    return xp.asarray(values, device=None if xp.__name__.startswith("jax") else like.device)


def from_the_end(xp: Any) -> tuple[int, ...]:
    """Return a permutation of three axes, named from the end where the library takes that."""
    return (2, 1, 0) if xp.__name__.startswith("jax") else (-1, 1, 0)


X, FLAT = (signed(2, 3, 4),), (signed(5),)
MASK = np.asarray([[True, False, True], [False, False, True]])
EXAMPLES: dict[str, list[tuple[Function, Arrays]]] = {
    **{name: unary(name) for name in ("abs", "atan", "cos", "cosh", "exp", "expm1", "log1p", "negative", "reciprocal")},
    **{name: unary(name) for name in ("sin", "sinh", "square", "tan", "tanh", "asin", "acos")},
    **{name: unary(name, numbers) for name in ("log", "log10", "log2", "sqrt")},
    "add": binary("add", lambda a, b: a + b),
    "subtract": binary("subtract", lambda a, b: a - b),
    "multiply": binary("multiply", lambda a, b: a * b),
    "divide": binary("divide", lambda a, b: a / b),
    "pow": [
        *binary("pow", lambda a, b: a**b, numbers),
        *each((signed(2, 3),), *(lambda xp, a, b=b: a**b for b in (0, 1, 2, 3, -1, 2.0))),
    ],
    "maximum": binary("maximum"),
    "minimum": binary("minimum"),
    "logaddexp": binary("logaddexp"),
    "atan2": binary("atan2"),
    "hypot": binary("hypot"),
    "where": [
        *[
            (lambda xp, a, b: xp.where(constant(xp, a, MASK), a, b), (signed(*left), signed(*right, seed=7)))
            for left, right in [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2, 3)), ((1, 1), ())]
        ],
        (lambda xp, a: xp.where(a > 0.0, a, xp.zeros_like(a)), (signed(2, 3),)),
    ],
    "astype": each(X, lambda xp, x: xp.astype(x, xp.float64), lambda xp, x: xp.astype(x, xp.float64, copy=False)),
    "sum": [
        *reduction("sum", (0, 3), (0,)),
        *each(X, lambda xp, x: xp.sum(x, axis=1, dtype=xp.float64)),
    ],
    "mean": reduction("mean"),
    "prod": [
        *each(X, lambda xp, x: xp.prod(x, axis=-1), lambda xp, x: xp.prod(x, axis=1, keepdims=True)),
        *each(FLAT, lambda xp, x: xp.prod(x)),
        *each((np.asarray([0.5, 0.0, -2.0]),), lambda xp, x: xp.prod(x)),
        *each((np.asarray([0.5, 0.0, 0.0]),), lambda xp, x: xp.prod(x)),
        *each((np.asarray(0.5),), lambda xp, x: xp.prod(x)),
    ],
    "max": reduction("max"),
    "min": reduction("min"),
    "cumulative_sum": [
        *each(X, *(lambda xp, x, axis=axis: xp.cumulative_sum(x, axis=axis) for axis in (0, 1, -1))),
        *each(FLAT, lambda xp, x: xp.cumulative_sum(x)),
        *each((signed(0, 3),), lambda xp, x: xp.cumulative_sum(x, axis=0)),
    ],
    "diff": [
        *each(X, lambda xp, x: xp.diff(x), *(lambda xp, x, axis=axis: xp.diff(x, axis=axis) for axis in (0, 1, -2))),
        *each((signed(1),), lambda xp, x: xp.diff(x)),
    ],
    "reshape": [
        *each(X, lambda xp, x: xp.reshape(x, (6, 4)), lambda xp, x: xp.reshape(x, (-1,))),
        *each((signed(),), lambda xp, x: xp.reshape(x, (1, 1))),
        *each((signed(0, 3),), lambda xp, x: xp.reshape(x, (3, 0))),
    ],
    "permute_dims": [
        *each(X, lambda xp, x: xp.permute_dims(x, (2, 0, 1)), lambda xp, x: xp.permute_dims(x, from_the_end(xp))),
        *each((signed(2, 3),), lambda xp, x: x.T),
    ],
    "matrix_transpose": each(X, lambda xp, x: xp.matrix_transpose(x)),
    "moveaxis": each(X, lambda xp, x: xp.moveaxis(x, 0, -1), lambda xp, x: xp.moveaxis(x, (0, -1), (1, 0))),
    "expand_dims": each(X, *(lambda xp, x, axis=axis: xp.expand_dims(x, axis=axis) for axis in (0, 2, -1))),
    "squeeze": each(
        (signed(1, 3, 1),),
        *(lambda xp, x, axis=axis: xp.squeeze(x, axis=axis) for axis in (0, -1, (0, 2))),
    ),
    "broadcast_to": [
        *each((signed(2, 1),), lambda xp, x: xp.broadcast_to(x, (4, 2, 3)), lambda xp, x: xp.broadcast_to(x, (2, 1))),
        *each((signed(),), lambda xp, x: xp.broadcast_to(x, (2, 2))),
    ],
    "flip": each(
        X, lambda xp, x: xp.flip(x), *(lambda xp, x, axis=axis: xp.flip(x, axis=axis) for axis in (1, (0, -1)))
    ),
    "roll": each(
        X,
        lambda xp, x: xp.roll(x, 5),
        lambda xp, x: xp.roll(x, -1, axis=1),
        lambda xp, x: xp.roll(x, (2, -1), axis=(0, -1)),
    ),
    "concat": [
        (lambda xp, a, b: xp.concat([a, b], axis=1), (signed(2, 3), signed(2, 2))),
        (lambda xp, a, b: xp.concat((a, b, a), axis=-1), (signed(2, 3), signed(2, 2))),
        (lambda xp, a: xp.concat([a, xp.ones_like(a)]), (signed(2, 3),)),
        (lambda xp, a, b: xp.concat([a, b]), (signed(0, 3), signed(2, 3))),
    ],
    "stack": [
        (lambda xp, a, b, axis=axis: xp.stack([a, b, a], axis=axis), (signed(2, 3), signed(2, 3, seed=7)))
        for axis in (0, 1, -1)
    ],
    "getitem": each(
        X,
        lambda xp, x: x[1, ...],
        lambda xp, x: x[:, 1:, -1],
        lambda xp, x: x[..., ::2],
        lambda xp, x: x[0, 1, 2],
        lambda xp, x: x[:, None, 0, ...],
        lambda xp, x: x[..., 0] * x[..., 1],
        lambda xp, x: x[:, 3:, :],
    ),
    "take": [
        *each(
            X,
            *(lambda xp, x, axis=axis: xp.take(x, constant(xp, x, [1, 0, 1]), axis=axis) for axis in (0, 1, -1)),
        ),
        *each(FLAT, lambda xp, x: xp.take(x, constant(xp, x, [4, 4, 0]), axis=0)),
    ],
    "take_along_axis": [
        (lambda xp, x: xp.take_along_axis(x, constant(xp, x, [[[2, 0, 2, 1]], [[1, 1, 0, 0]]]), axis=1), X),
        (lambda xp, x: xp.take_along_axis(x, constant(xp, x, [[0, 0, 2], [1, 1, 1]]), axis=-1), (signed(2, 3),)),
        (lambda xp, x: xp.take_along_axis(x, constant(xp, x, [[1, 0, 1]]), axis=0), (signed(2, 3),)),
    ],
    "matmul": [
        (lambda xp, a, b: xp.matmul(a, b), (signed(*left), signed(*right, seed=7)))
        for left, right in [
            ((2, 3), (3, 4)),
            ((3,), (3,)),
            ((2, 3), (3,)),
            ((3,), (3, 4)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((5, 1, 2, 3), (2, 3, 4)),
            ((5, 2, 3), (3,)),
            ((3,), (5, 3, 4)),
        ]
    ]
    + [(lambda xp, a, b: a @ b, (signed(2, 3), signed(3, 2)))],
    "sort": [
        *each(X, lambda xp, x: xp.sort(x), lambda xp, x: xp.sort(x, axis=1, descending=True)),
        *each(FLAT, lambda xp, x: xp.sort(x, axis=0, stable=True)),
    ],
    "clip": each(
        X,
        lambda xp, x: xp.clip(x, -0.47, 0.53),
        lambda xp, x: xp.clip(x, min=0.1),
        lambda xp, x: xp.clip(x, None, 0.41),
        lambda xp, x: xp.clip(x, xp.zeros_like(x), xp.ones_like(x)),
    ),
}
every_rule = pytest.mark.parametrize("name", sorted(RULES))


def test_every_rule_has_an_example() -> None:
    assert set(EXAMPLES) == set(RULES)
    assert not set(RULES) & CONSTANTS


def weighted_sum(xp: Any, function: Function) -> Function:
    """Return a function that adds up a result, each entry with a weight of its own, so that none hides another."""

    def total(*arrays: Any) -> Any:
        y = function(xp, *arrays)
        size = int(np.prod(y.shape))
        weights = np.cos(np.arange(1.0, size + 1.0)).reshape(tuple(y.shape))
        return xp.sum(y * constant(xp, arrays[0], weights))

    return total


def tape_gradient(backend: Backend, function: Function, arrays: Arrays) -> list[np.ndarray]:
    """Return the gradients of the weighted sum by the tape, after checking their kind."""

    def loss(variables: tuple[Any, ...], _: None) -> Any:
        return weighted_sum(variables[0].__array_namespace__(), function)(*variables)

    given = tuple(map(backend.array, arrays))
    _, gradients = al.value_and_grad(loss)(given, None)
    assert all(map(backend.is_array, gradients))
    assert [g.shape for g in gradients] == [x.shape for x in arrays]
    assert {str(g.dtype).rpartition(".")[2] for g in gradients} == {"float64"}
    return list(map(backend.numpy, gradients))


def agree(found: list[np.ndarray], expected: Any, tolerance: float) -> None:
    for f, e in zip(found, expected, strict=True):
        e = np.asarray(e)
        np.testing.assert_allclose(f, e, rtol=0, atol=tolerance * max(np.abs(e).max(initial=0.0), 1e-3))


@own
@every_rule
def test_rule_against_finite_differences(name: str, backend: Backend) -> None:
    import array_api_compat.numpy as xp

    for function, arrays in EXAMPLES[name]:
        found = tape_gradient(backend, function, arrays)
        total = weighted_sum(xp, function)
        # Of fourth order, with steps well inside the distance to the next kink.
        expected = numerical_gradient(lambda xs, total=total: float(total(*xs)), arrays, step=1e-3)
        agree(found, expected, 1e-8)


@own
@every_rule
@pytest.mark.skipif(not HAS["torch"], reason="torch is not installed")
def test_rule_against_torch(name: str, backend: Backend) -> None:
    import array_api_compat.torch as xp
    import torch

    for function, arrays in EXAMPLES[name]:
        leaves = [torch.tensor(x, requires_grad=True) for x in arrays]
        expected = torch.autograd.grad(weighted_sum(xp, function)(*leaves), leaves, allow_unused=True)
        expected = [torch.zeros_like(x) if e is None else e for x, e in zip(leaves, expected, strict=True)]
        agree(tape_gradient(backend, function, arrays), expected, TORCH_TOLERANCE)


@own
@every_rule
@pytest.mark.skipif(not HAS["jax"], reason="JAX is not installed")
def test_rule_against_jax(name: str, backend: Backend) -> None:
    if backend.name != "numpy":
        pytest.skip("once: what the tape does on the others is held against finite differences and torch")
    import jax
    import jax.numpy as xp

    @jax.jit
    def gradients(inputs: list[Arrays]) -> Any:
        functions = [weighted_sum(xp, function) for function, _ in EXAMPLES[name]]
        return [jax.grad(f, tuple(range(len(x))))(*x) for f, x in zip(functions, inputs, strict=True)]

    for (function, arrays), expected in zip(EXAMPLES[name], gradients([x for _, x in EXAMPLES[name]]), strict=True):
        # XLA's elementary functions differ from NumPy's by a few units in the last place.
        agree(tape_gradient(backend, function, arrays), expected, 1e-13)


# Kinks, ties and dtypes ---------------------------------------------------------------------------------------------

KINKS: list[tuple[str, Function, Arrays, list[Any]]] = [
    ("max", lambda xp, x: xp.max(x), (np.asarray([1.0, 3.0, 3.0, 0.0]),), [[0, 0.5, 0.5, 0]]),
    ("min", lambda xp, x: xp.min(x, axis=0), (np.asarray([1.0, 1.0, 1.0, 2.0]),), [[1 / 3, 1 / 3, 1 / 3, 0]]),
    (
        "maximum",
        lambda xp, a, b: xp.maximum(a, b),
        (np.asarray([1.0, 2.0]), np.asarray([1.0, 5.0])),
        [[0.5, 0], [0.5, 1]],
    ),
    (
        "minimum",
        lambda xp, a, b: xp.minimum(a, b),
        (np.asarray([1.0, 2.0]), np.asarray([1.0, 5.0])),
        [[0.5, 1], [0.5, 0]],
    ),
    ("maximum of one", lambda xp, a: xp.maximum(a, a), (np.asarray([1.0, 2.0]),), [[1, 1]]),
    ("abs", lambda xp, x: xp.abs(x), (np.asarray([0.0, -1.0]),), [[0, -1]]),
    ("sort", lambda xp, x: xp.sort(x)[1:], (np.asarray([2.0, 1.0, 1.0]),), [[1, 0, 1]]),
    ("clip", lambda xp, x: xp.clip(x, 0.0, 1.0), (np.asarray([-0.5, 0.0, 1.0, 1.5]),), [[0, 1, 1, 0]]),
    ("pow", lambda xp, x: x**2 + x**1 + x**0, (np.asarray([0.0, 2.0]),), [[1, 5]]),
    ("logaddexp", lambda xp, a, b: xp.logaddexp(a, b), (np.asarray([1e3]), np.asarray([-1e3])), [[1], [0]]),
]


@own
@pytest.mark.parametrize(("function", "arrays", "expected"), [k[1:] for k in KINKS], ids=[k[0] for k in KINKS])
def test_kinks_and_ties(function: Function, arrays: Arrays, expected: list[Any], backend: Backend) -> None:
    def loss(variables: tuple[Any, ...], _: None) -> Any:
        xp = variables[0].__array_namespace__()
        return xp.sum(function(xp, *variables))

    _, found = al.value_and_grad(loss)(tuple(map(backend.array, arrays)), None)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.numpy(f), e, rtol=1e-15)


def gradient_of(function: Callable[[Any, Any], Any], x: Any) -> Any:
    """Return the gradient of the sum of `function(xp, x)` by the tape."""
    return al.value_and_grad(lambda v, _: function(_first(v).__array_namespace__(), v))(x, None)[1]


def _first(v: Any) -> Any:
    return v[0] if isinstance(v, tuple) else v


@own
def test_a_cast_on_the_way_gives_a_gradient_in_the_dtype_of_the_logits(backend: Backend) -> None:
    x = backend.array(signed(2, 3).astype(np.float32))
    gradient = gradient_of(lambda xp, v: xp.sum(xp.astype(v, xp.float64) ** 2), x)
    assert gradient.dtype == x.dtype
    np.testing.assert_allclose(backend.numpy(gradient), 2 * signed(2, 3), rtol=1e-6)


def test_a_wider_constant_gives_a_gradient_in_the_dtype_of_the_logits() -> None:
    x = signed(3).astype(np.float32)
    assert gradient_of(lambda xp, v: xp.sum(v * np.ones(3)), x).dtype == np.float32


def test_an_integer_in_between_has_no_gradient() -> None:
    def through_integers(xp: Any, v: Any) -> Any:
        return xp.sum(xp.astype(xp.astype(v, xp.int64), xp.float64) * 3.0)

    np.testing.assert_array_equal(gradient_of(through_integers, np.asarray([1.5, 2.5])), [0, 0])


def test_bounds_of_clip_have_a_gradient_or_are_refused() -> None:
    x, low = np.asarray([0.0, 5.0]), np.asarray([1.0, 1.0])
    try:
        _, found = gradient_of(lambda xp, v: xp.sum(xp.clip(v[0], v[1], 9.0)), (x, low))
    except TypeError:
        return
    np.testing.assert_array_equal(found, [1, 0])


def test_clip_to_wider_bounds() -> None:
    x = np.asarray([0.5, 5.0])
    found = gradient_of(lambda xp, v: xp.sum(xp.clip(v, np.zeros((3, 2)), np.ones((3, 2)))), x)
    np.testing.assert_array_equal(found, [3, 0])


@pytest.mark.parametrize("name", ["take", "take_along_axis"])
def test_negative_indices_count_from_the_end(name: str) -> None:
    found = gradient_of(lambda xp, v: xp.sum(getattr(xp, name)(v, np.asarray([-1, 0]), axis=0)), signed(3))
    np.testing.assert_array_equal(found, [1, 0, 1])


def test_take_along_axis_of_nothing() -> None:
    index = np.zeros((2, 0), dtype=np.int64)
    found = gradient_of(lambda xp, v: xp.sum(xp.take_along_axis(v, index, axis=1)), signed(2, 3))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_take_along_axis_broadcasts() -> None:
    index = np.asarray([[1, 0], [0, 2]])
    found = gradient_of(lambda xp, v: xp.sum(xp.take_along_axis(v, index, axis=1)), signed(1, 3))
    np.testing.assert_array_equal(found, [[2, 1, 1]])


@pytest.mark.parametrize("base", [0.0, 0])
def test_zero_to_a_power(base: float) -> None:
    np.testing.assert_array_equal(gradient_of(lambda xp, v: xp.sum(base**v), np.asarray([1.0, 2.0])), [0, 0])


def test_an_array_of_exponents_with_zeros() -> None:
    exponents = np.asarray([0.0, 0.0, 1.0, 2.0])
    found = gradient_of(lambda xp, v: xp.sum(v**exponents), np.asarray([0.0, 3.0, 0.0, 3.0]))
    np.testing.assert_array_equal(found, [0, 0, 1, 6])


def test_gradients_of_two_logits_share_no_memory() -> None:
    first, second = gradient_of(lambda xp, v: v[0] + v[1], (signed(3), signed(3)))
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("name", ["cumulative_sum", "take"])
def test_an_axis_has_to_be_named_where_there_are_several(name: str) -> None:
    further = (np.asarray([0, 1]),) if name == "take" else ()
    with pytest.raises((TypeError, ValueError), match="axis"):
        gradient_of(lambda xp, v: xp.sum(getattr(xp, name)(v, *further)), signed(2, 3))


def test_the_product_of_nothing() -> None:
    assert gradient_of(lambda xp, v: xp.prod(v), np.zeros(0)).shape == (0,)


# What the tape refuses ----------------------------------------------------------------------------------------------

#: Functions of the standard that take no array: they make one, or tell about dtypes and the library.
WITHOUT_ARRAYS = frozenset({"arange", "empty", "eye", "linspace", "ones", "zeros", "__array_namespace_info__"})


def standard_functions() -> list[str]:
    strict = pytest.importorskip("array_api_strict")
    names = [n for n in strict.__all__ if callable(getattr(strict, n)) and not isinstance(getattr(strict, n), type)]
    flags = {n for n in names if n.endswith("array_api_strict_flags") or n == "Device"}
    return sorted(set(names) - flags - WITHOUT_ARRAYS)


def test_every_function_of_the_standard_has_a_rule_or_raises() -> None:
    names = standard_functions()
    assert len(names) > 120
    unknown = []
    for name in names:
        if name in RULES or name in CONSTANTS:
            continue
        with pytest.raises(TypeError, match=rf"^value_and_grad: {name} has no gradient rule"):
            gradient_of(lambda xp, v, name=name: getattr(xp, name)(v), signed(2, 3))
        unknown.append(name)
    assert {"asarray", "full", "std", "var", "repeat", "tensordot", "remainder"} <= set(unknown)


def test_rules_and_constants_are_named_as_in_the_standard() -> None:
    assert set(RULES) - {"getitem"} <= set(standard_functions())
    assert set(standard_functions()) >= CONSTANTS


@own
@pytest.mark.parametrize("name", sorted(CONSTANTS))
def test_constants_are_plain_and_do_not_follow_their_argument(name: str, backend: Backend) -> None:
    """The value is no variable, and a small step of the argument changes no floating result."""
    second = {"equal", "greater", "greater_equal", "less", "less_equal", "not_equal", "searchsorted"}
    if name.startswith("logical") or name in ("can_cast", "finfo", "iinfo", "isdtype", "result_type", "all", "any"):
        return  # these have no floating result, and most take no floating array
    if name == "empty_like":
        return  # its values are arbitrary
    if backend.name == "strict" and name.startswith(("unique", "nonzero")):
        pytest.skip("array-api-strict refuses shapes that depend on data, as set here")
    results = []

    def loss(v: Any, _: None) -> Any:
        xp = v.__array_namespace__()
        further = {"full_like": 1.0} | dict.fromkeys(second, backend.array(np.sort(signed(6, seed=7))))
        extra = (further[name],) if name in further else ()
        result = getattr(xp, name)(v, *extra)
        for part in result if isinstance(result, tuple) else (result,):
            assert backend.is_array(part) or np.isscalar(part), type(part)
            results.append(backend.numpy(part))
        return xp.sum(v)

    for step in (0.0, 1e-9):
        al.value_and_grad(loss)(backend.array(np.sort(signed(6)) + step), None)
    half = len(results) // 2
    for before, after in zip(results[:half], results[half:], strict=True):
        np.testing.assert_array_equal(before, after)


@own
@pytest.mark.parametrize(
    "cut",
    [float, int, bool, complex, list, np.asarray, np.from_dlpack, hash, lambda v: 1 if v else 0],
    ids=["float", "int", "bool", "complex", "list", "asarray", "dlpack", "hash", "if"],
)
def test_a_plain_value_cannot_be_had(cut: Callable[[Any], Any], backend: Backend) -> None:
    def loss(v: Any, _: None) -> Any:
        cut(v[0])
        return v

    # NumPy looks for __dlpack_device__ first and says itself that there is none.
    with pytest.raises((TypeError, BufferError) if cut is np.from_dlpack else TypeError) as error:
        al.value_and_grad(loss)(backend.array(signed(3)), None)
    if cut is not np.from_dlpack:
        assert "would cut the gradient; use the operators and array API functions" in str(error.value)


@pytest.mark.backends("strict", "cupy")
@pytest.mark.parametrize(
    "function",
    [np.exp, np.sum, lambda v: np.add(1.0, v), lambda v: np.maximum(v, 0.0), lambda v: np.where([True], v, 0.0)],
    ids=["exp", "sum", "add", "maximum", "where"],
)
def test_functions_of_numpy_are_refused_elsewhere(function: Callable[[Any], Any], backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"Variable|would cut the gradient"):
        al.value_and_grad(lambda v, _: function(v))(backend.array(signed(3)), None)


def test_extensions_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^value_and_grad: "):
        gradient_of(lambda xp, v: xp.linalg.vector_norm(v), signed(3))


@own
def test_nothing_is_written_into_a_variable(backend: Backend) -> None:
    def loss(v: Any, _: None) -> Any:
        v[0] = 1.0
        return v

    with pytest.raises(TypeError, match=r"^value_and_grad: "):
        al.value_and_grad(loss)(backend.array(signed(3)), None)


@pytest.mark.parametrize(
    "index", [[0], np.asarray([0, 1]), np.asarray([True, False, True])], ids=["list", "array", "mask"]
)
def test_indexing_by_arrays_is_refused(index: Any) -> None:
    with pytest.raises(TypeError, match=r"^value_and_grad: indexing has a gradient rule for integers"):
        gradient_of(lambda xp, v: v[index], signed(3))


@pytest.mark.parametrize(
    "call",
    [lambda xp, v: xp.diff(v, n=2), lambda xp, v: xp.concat([v, v], axis=None)],
    ids=["diff", "concat"],
)
def test_forms_without_a_rule_are_refused(call: Function) -> None:
    with pytest.raises(TypeError, match=r"^value_and_grad: \w+ has a gradient rule for"):
        gradient_of(call, signed(3))


@own
def test_variables_of_two_tapes_are_refused(backend: Backend) -> None:
    kept = []

    def first(v: Any, _: None) -> Any:
        kept.append(v)
        return v

    x = backend.array(signed(3))
    al.value_and_grad(first)(x, None)
    with pytest.raises(TypeError, match="variables of two tapes"):
        al.value_and_grad(lambda v, _: v * kept[0])(x, None)


@own
def test_a_gradient_of_a_gradient_is_refused(backend: Backend) -> None:
    def inner(v: Any, _: None) -> Any:
        return al.value_and_grad(lambda w, _: w * w * w)(v, None)[1]

    with pytest.raises(TypeError, match=r"^value_and_grad: "):
        al.value_and_grad(inner)(backend.array(signed(3)), None)


@own
@pytest.mark.parametrize("value", [3.0, None, [1.0], "loss"], ids=str)
def test_a_loss_that_is_no_array_is_refused(value: Any, backend: Backend) -> None:
    with pytest.raises(
        TypeError, match=rf"^value_and_grad: the loss returned a {type(value).__name__}, expected an array"
    ):
        al.value_and_grad(lambda v, _: value)(backend.array(signed(3)), None)


# User functions -----------------------------------------------------------------------------------------------------


def test_a_loss_that_ignores_its_logits_has_a_zero_gradient(backend: Backend) -> None:
    if backend.name in ("torch", "torch-cuda"):
        pytest.skip("test_transforms has torch's own way")
    x = backend.array(signed(2, 3).astype(np.float32))
    value, gradient = al.value_and_grad(lambda v, t: t * 2.0)(x, backend.array(np.asarray(1.5)))
    assert float(backend.numpy(value)) == 3.0
    assert gradient.dtype == x.dtype
    np.testing.assert_array_equal(backend.numpy(gradient), np.zeros((2, 3)))


@own
def test_the_logits_themselves(backend: Backend) -> None:
    value, gradient = al.value_and_grad(lambda v, _: v)(backend.array(signed(2, 3)), None)
    np.testing.assert_array_equal(backend.numpy(value), signed(2, 3))
    np.testing.assert_array_equal(backend.numpy(gradient), np.ones((2, 3)))


def test_losses_mix_with_operators(backend: Backend) -> None:
    """A user's regularised loss has the same value and gradient on every library."""
    x, t = signed(2, 3, 5), np.asarray([[0, 1, 2, 255, 1], [2, 2, 0, 1, 255]])

    def loss(logits: Any, target: Any, sums: Any) -> Any:
        return al.dice_loss(logits, target) + 0.5 * sums(logits**2) - al.cross_entropy_loss(logits, target) / 3.0

    def sums(v: Any) -> Any:
        import array_api_compat

        return array_api_compat.array_namespace(v).sum(v)

    def tape_or_native(v: Any) -> Any:
        return v.__array_namespace__().sum(v) if backend.name in ("numpy", "strict") else sums(v)

    value, gradient = al.value_and_grad(lambda v, t: loss(v, t, tape_or_native))(backend.array(x), backend.array(t))

    def by_reference(logits: np.ndarray) -> float:
        from reference import LOSSES

        penalty = 0.5 * float((logits**2).sum())
        return LOSSES["dice_loss"](logits, t) + penalty - LOSSES["cross_entropy_loss"](logits, t) / 3

    np.testing.assert_allclose(backend.numpy(value), by_reference(x), rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(gradient), numerical_gradient(by_reference, x), rtol=1e-8, atol=1e-9)


#: Losses of two arrays: the logits and something else that is learned with them.
LEARNED: dict[str, tuple[Callable[..., Any], np.ndarray]] = {
    "pixel_weight": (lambda x, w, t: al.cross_entropy_loss(x, t, pixel_weight=w), numbers(2, 5)),
    "weight of cross entropy": (lambda x, w, t: al.cross_entropy_loss(x, t, weight=w), numbers(3)),
    "weight of smoothing": (lambda x, w, t: al.cross_entropy_loss(x, t, weight=w, label_smoothing=0.3), numbers(3)),
    "weight of Dice": (lambda x, w, t: al.dice_loss(x, t, weight=w, smooth=1.0), numbers(3)),
    "weight of BCE": (lambda x, w, t: al.bce_loss(x, t, weight=w), numbers(2)),
    "pos_weight": (lambda x, w, t: al.bce_loss(x, t, pos_weight=w), numbers(3)),
    "target of cross entropy": (lambda x, w, t: al.cross_entropy_loss(x, w), numbers(2, 3, 5)),
    "target of Dice": (lambda x, w, t: al.dice_loss(x, w), numbers(2, 3, 5)),
    "target of BCE": (lambda x, w, t: al.bce_loss(x, w), numbers(2, 3, 5)),
    "target of MSE": (lambda x, w, t: al.mse_loss(x, w), numbers(2, 3, 5)),
}


@pytest.mark.backends("numpy", "strict", "torch", "jax-jitted")
@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned_beside_the_logits(name: str, backend: Backend) -> None:
    """A gradient towards weights and targets is right, or refused; never silently cut."""
    loss, second = LEARNED[name]
    x, t = signed(2, 3, 5), np.asarray([[0, 1, 2, 255, 1], [2, 2, 0, 1, 255]])
    given = (backend.array(x), backend.array(second))
    try:
        _, found = backend.value_and_grad(lambda v, t: loss(v[0], v[1], t), given, backend.array(t))
    except TypeError:
        # An array of array-api-strict refuses a variable on its right.
        assert backend.name == "strict"
        return
    expected = numerical_gradient(lambda v: float(loss(v[0], v[1], t)), (x, second))
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(backend.numpy(f), e, rtol=1e-8, atol=1e-9)


# The losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy", "strict")
@pytest.mark.skipif(not HAS["torch"], reason="torch is not installed")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses_agree_with_torch_autograd(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    """In float64 the tape and torch autograd differ by no more than rounding."""
    sample = case.make(rng)
    gradients = []
    for library in (backend, BACKENDS["torch"]):
        logits = tuple(map(library.array, sample.parts))
        given = logits if isinstance(sample.logits, tuple) else logits[0]
        arrays = {name: library.array(x) for name, x in sample.arrays.items()}
        _, found = al.value_and_grad(case.loss)(given, library.array(sample.target), **arrays)
        gradients.append([library.numpy(g) for g in (found if isinstance(found, tuple) else (found,))])
    # What few windows leave unexplained is a small difference, in which rounding is larger.
    tolerance = TORCH_TOLERANCE * (100 if case.function == "rmi_loss" else 1)
    for tape, torch in zip(*gradients, strict=True):
        np.testing.assert_allclose(tape, torch, rtol=0, atol=tolerance * np.abs(torch).max(initial=1e-300))
