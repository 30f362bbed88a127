"""What can be known about CuPy without a GPU.

Every call that losses, kernels and tape make on CuPy arrays fits the real interface of CuPy (see `cupy_interface.py`),
nothing waits for the device, and nothing is made on another device than that of the inputs. What CuPy's kernels compute
is seen only where there is a GPU: there the contract suite runs on the backend `cupy`.
"""

from __future__ import annotations

import ctypes
import inspect
import operator
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import array_api_compat.numpy
import formulas
import numpy as np
import pytest
from cases import CASES, Case

import arrayloss as al
from arrayloss._core.library import library_of
from arrayloss._gradient.rules import CONSTANTS, RULES
from arrayloss._gradient.tape import Tape, Variable
from arrayloss._machines import generic
from arrayloss._machines.formula import AREAS, Formula, OfClasses
from arrayloss._machines.namespace import library_name

pytestmark = pytest.mark.once
LOSSES = {name for name in al.__all__ if isinstance(getattr(al, name), type) and name != "Loss"}
#: The floating dtype of a call and the integer dtype of its labels.
DTYPES = [("float64", "int64"), ("float32", "uint8"), ("float16", "int32"), ("bfloat16", "uint64")]


@pytest.fixture(scope="session")
def interface() -> Any:
    pytest.importorskip("cupy", reason="CuPy is not installed, nothing to hold calls against", exc_type=ImportError)
    import cupy_interface

    return cupy_interface


@pytest.fixture(scope="session")
def stand_in(interface: Any) -> Any:
    return interface.StandIn()


def converted(case: Case, rng: np.random.Generator, floats: str, integers: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return logits, target and further arrays of a case as NumPy arrays of the dtypes."""
    sample = case.make(rng)
    parts = tuple(x.astype(floats) for x in sample.parts)
    logits = parts if isinstance(sample.logits, tuple) else parts[0]
    target = sample.target
    target = target.astype(integers if target.dtype.kind in "iu" else floats)
    arrays = {name: x.astype(integers if x.dtype.kind in "iu" else floats) for name, x in sample.arrays.items()}
    return logits, target, arrays


def every_form(case: Case) -> Iterator[al.Loss]:
    """Give the loss of a case with each reduction it takes."""
    yield case.loss
    # The losses of a mixed one need not have "none" in one shape.
    for reduction in ("sum",) if isinstance(case.loss, al.MixedLoss) else ("sum", "none", "parts"):
        try:
            yield case.with_options(reduction=reduction).loss
        except ValueError:
            continue


def flat(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]


def problems(interface: Any, stand_in: Any) -> list[str]:
    """Return what is wrong with the calls since the stand-in was installed."""
    return [problem for call in stand_in.calls.values() for problem in interface.problems(call)]


def test_every_loss_has_a_case() -> None:
    assert {type(case.loss).__name__ for case in CASES} == LOSSES


# Calls on CuPy arrays -------------------------------------------------------------------------------------------------


@pytest.mark.cupy
@pytest.mark.parametrize(("floats", "integers"), DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_losses(
    interface: Any, stand_in: Any, case: Case, floats: str, integers: str, rng: np.random.Generator
) -> None:
    if floats == "bfloat16" and not interface.has_bfloat16():
        pytest.skip("this CuPy has no bfloat16")
    logits, target, arrays = converted(case, rng, floats, integers)
    for loss in every_form(case):
        expected = al.value_and_grad(loss)(logits, target, **arrays)
        with stand_in.installed():
            given = stand_in.array(logits), stand_in.array(target), stand_in.array(arrays)
            value = loss(given[0], given[1], **given[2])
            again, gradient = al.value_and_grad(loss)(given[0], given[1], **given[2])
        assert {call.module for call in stand_in.calls.values()} == set(interface.REAL)
        assert not problems(interface, stand_in)
        tolerance = {"float64": 1e-12, "float32": 1e-5}.get(floats, 1e-2)
        pairs = zip(
            [*flat(value), *flat(again), *flat(gradient)],
            [*flat(expected[0]), *flat(expected[0]), *flat(expected[1])],
            strict=True,
        )
        for x, y in pairs:
            assert isinstance(x, stand_in.ndarray)
            assert x.dtype == y.dtype
            np.testing.assert_allclose(
                x.held.astype("float64"), np.asarray(y, dtype="float64"), rtol=tolerance, atol=tolerance
            )


@pytest.mark.cupy
@pytest.mark.parametrize(
    ("loss", "shape", "target"),
    [
        (al.CrossEntropyLoss((1.0, 2.0, 0.5), axis=-1, reduction="none"), (2, 5, 3), [[0, 1, 2, 255, 1]] * 2),
        (al.CrossEntropyLoss(axis=-1), (2, 5, 3), np.full((2, 5, 3), 1 / 3)),
        (al.CrossEntropyLoss(label_smoothing=0.1, reduction="none"), (3,), 1),
        (al.BCELoss(axis=-1, pos_weight=(1.0, 2.0, 3.0), reduction="none"), (2, 5, 3), [[0, 1, 2, 255, 1]] * 2),
        (al.DiceLoss(axis=-1), (2, 5, 3), [[0, 1, 2, 255, 1]] * 2),
        (al.DiceLoss(reduction="none"), (3,), 1),
    ],
    ids=str,
)
def test_class_axis_and_single_samples(interface: Any, stand_in: Any, loss: al.Loss, shape: Any, target: Any) -> None:
    logits = np.linspace(-2.0, 2.0, int(np.prod(shape))).reshape(shape)
    expected = al.value_and_grad(loss)(logits, np.asarray(target))
    with stand_in.installed():
        found = al.value_and_grad(loss)(stand_in.array(logits), stand_in.array(np.asarray(target)))
    assert not problems(interface, stand_in)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x.held, y, rtol=1e-12)


@pytest.mark.cupy
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64"])
def test_label_edges(interface: Any, stand_in: Any, dtype: str) -> None:
    labels = np.eye(9, dtype=dtype)[None]
    with stand_in.installed():
        edges = al.label_edges(stand_in.array(labels))
    assert not problems(interface, stand_in)
    np.testing.assert_array_equal(edges.held, al.label_edges(labels))


SQUARED = Formula(lambda xp, x, t: (x - t) * (x - t), lambda xp, x, t: 2.0 * (x - t))


@pytest.mark.cupy
def test_what_the_host_reads_distances_with(interface: Any) -> None:
    # Reading takes a GPU; no loss does it unless it is to compute distances.
    import cupy

    inspect.signature(cupy.asnumpy).bind(interface.real_array(interface.Array("int64")))
    assert "asnumpy" in interface.READING


CROSSED = Formula(lambda xp, log_p, p, log_q, q: -q * log_p, lambda xp, log_p, p, log_q, q: -q)
GAPS = Formula(lambda xp, gap, own, m: xp.exp(gap - m), lambda xp, gap, own, m: xp.exp(gap - m))
SHARES = Formula(lambda xp, log_p, p, t, f: -t * log_p * f, lambda xp, log_p, p, t, f: -t * f)
#: The arguments of each kernel, made from scores z, labels y and a mask m. A kernel with a rule is tried with it too.
KERNELS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "as_array": lambda xp, z, y, m: (z,),
    "bin_totals": lambda xp, z, y, m: (xp, _rows(xp, z), xp.reshape(xp.stack([y, y, y, y], axis=1), (8, 1200)), 7),
    "classes": lambda xp, z, y, m: (xp, z, -z, None, m, z[0, :, 0, 0] + 5.0, OfClasses(CROSSED, (), "teacher", 0.5)),
    "components": lambda xp, z, y, m: (xp, xp.where(m, y, -xp.ones_like(y)), 4, 3),
    "constant": lambda xp, z, y, m: (z,),
    "entry_losses": lambda xp, z, y, m: (xp, z, -z, z < 2.0, SQUARED),
    "entry_total": lambda xp, z, y, m: (xp, z, -z, z < 2.0, SQUARED),
    "host_range": lambda xp, z, y, m: (z,),
    "kth_largest": lambda xp, z, y, m: (xp, _rows(xp, z), 5),
    "kth_largest_below": lambda xp, z, y, m: (xp, xp.reshape(z, (1, -1)), 5, 1.0),
    "any_of": lambda xp, z, y, m: (xp, m),
    "count": lambda xp, z, y, m: (xp, m),
    "label_counts": lambda xp, z, y, m: (xp, y, m, 4, z.dtype),
    "label_dtype": lambda xp, z, y, m: (xp, "uint8"),
    "label_nll": lambda xp, z, y, m: (xp, z, y, m),
    "lovasz_hinge": lambda xp, z, y, m: (xp, z[:, :1, ...], xp.astype(y > 1, y.dtype), m, False),
    "lovasz_softmax": lambda xp, z, y, m: (xp, z, y, m, True),
    "lovasz_weights": lambda xp, z, y, m: (xp, xp.abs(_rows(xp, z)), _rows(xp, z > 1.0), _rows(xp, z < 2.0)),
    "matmul": lambda xp, z, y, m: (xp, z, xp.matrix_transpose(z)),
    "members_nll": lambda xp, z, y, m: (xp, z, (z > 0.0) | generic.KERNELS.one_hot(xp, y, 4), m),
    "one_hot": lambda xp, z, y, m: (xp, y, 4),
    "put_positions": lambda xp, z, y, m: (xp, z[0, 0, 0, :3], _places(xp, y), tuple(y.shape)),
    "ranked_lovasz_weights": lambda xp, z, y, m: (
        xp,
        xp.sort(xp.abs(_rows(xp, z)), descending=True),
        xp.astype(_rows(xp, z > 1.0), xp.int32),
        generic.KERNELS.running_sum,
        generic.ranking._running_max,
    ),
    "regions": lambda xp, z, y, m: (xp, z, y, m, "sigmoid", AREAS),
    "running_sum": lambda xp, z, y, m: (xp, y),
    "scalar_like": lambda xp, z, y, m: (xp, z, (1.0, 2.0)),
    "sigmoid": lambda xp, z, y, m: (xp, z),
    "softmax": lambda xp, z, y, m: (xp, z, m),
    "softplus": lambda xp, z, y, m: (xp, z),
    "sum_positions": lambda xp, z, y, m: (xp, z),
    "take_class": lambda xp, z, y, m: (xp, z[0, :, 0, 0], y),
    "top_class": lambda xp, z, y, m: (xp, z),
    "take_rows": lambda xp, z, y, m: (xp, xp.reshape(m, (m.shape[0], -1)), xp.reshape(y, (y.shape[0], -1))),
    "take_positions": lambda xp, z, y, m: (xp, z, _places(xp, y)),
    "triangle": lambda xp, z, y, m: (xp, z, 3),
    "unexplained": lambda xp, z, y, m: (xp, xp.tanh(z), xp.tanh(z**2), m[:, None, ...], 2),
    "where_or": lambda xp, z, y, m: (xp, z > 0.0, z, 1.0),
    "where_valid": lambda xp, z, y, m: (xp, m, z),
}


#: Further calls of kernels above.
FURTHER: list[tuple[str, Callable[..., tuple[Any, ...]]]] = [
    ("classes", lambda xp, z, y, m: (xp, z, y, None, m, None, OfClasses(GAPS, (1.0,), "gap"))),
    ("classes", lambda xp, z, y, m: (xp, z, y, xp.abs(z), m, None, OfClasses(SHARES, smoothing=0.1))),
    ("classes", lambda xp, z, y, m: (xp, z, xp.abs(z), z, m, None, OfClasses(SHARES))),
    ("entry_total", lambda xp, z, y, m: (xp, z, y, m, SQUARED)),
    ("regions", lambda xp, z, y, m: (xp, z, xp.abs(z), m, "softmax", AREAS)),
]


def _places(xp: Any, y: Any) -> Any:
    """Return two positions of labels `(2, 30, 40)` and the place that is none."""
    return xp.asarray([1700, 2400, 30], dtype=y.dtype)


def _rows(xp: Any, x: Any) -> Any:
    return xp.reshape(x, (8, 1200))


@pytest.mark.cupy
def test_what_the_noise_is_drawn_with(interface: Any) -> None:
    # A CuPy generator cannot be made without a GPU, and two of one seed need not agree with NumPy's.
    import cupy

    inspect.signature(cupy.random.default_rng).bind()
    assert callable(cupy.random.Generator.standard_exponential)
    assert "size" in (cupy.random.Generator.standard_exponential.__doc__ or "")


def test_every_kernel_has_a_call() -> None:
    names = {name.removesuffix("_rule") for name in vars(generic.KERNELS)}
    helpers = {"belonging", "exponentials", "numpy_gumbel", "opened", "shares", "weighed"}
    assert names - helpers - {"gumbel", "on_host", "whole"} == set(KERNELS)


@pytest.mark.cupy
@pytest.mark.parametrize("kernels", ["generic", "cupy"])
@pytest.mark.parametrize(("name", "call"), [*KERNELS.items(), *FURTHER])
def test_kernels(interface: Any, stand_in: Any, name: str, call: Any, kernels: str, rng: np.random.Generator) -> None:
    def run(kernels: Any, xp: Any, *arrays: Any) -> list[Any]:
        arguments = call(xp, *arrays)
        results = [getattr(kernels, name)(*arguments)]
        if (rule := getattr(kernels, f"{name}_rule", None)) is not None:
            value, vjp = rule(*arguments)
            results += [value, vjp(xp.ones_like(value))]
        return results

    # More positions than CuPy's partition sorts whole.
    arrays = rng.normal(size=(2, 4, 30, 40)), rng.integers(0, 4, size=(2, 30, 40)), rng.random((2, 30, 40)) < 0.8
    with stand_in.installed():
        module = stand_in.kernels.LIBRARY.kernels if kernels == "cupy" else generic.KERNELS
        given = map(stand_in.array, arrays)
        found = run(module, stand_in.namespace, *given)
    assert not problems(interface, stand_in)
    for x, y in zip(found, run(generic.KERNELS, array_api_compat.numpy, *arrays), strict=True):
        if isinstance(x, stand_in.ndarray):
            np.testing.assert_allclose(x.held, y, rtol=1e-12)
        else:
            assert x == y


@pytest.mark.cupy
@pytest.mark.skipif(shutil.which("g++") is None, reason="a C++ compiler is what can run their text without a GPU")
def test_entrywise_formulas_as_c(interface: Any, tmp_path: Path) -> None:
    """What CuPy would compile for the GPU, compiled for the host: the losses and slopes of every formula of entries."""
    from arrayloss._machines.cupy import entries

    text, calls = ["#include <cmath>", "#define __device__", "using namespace std;", entries._PREAMBLE], []
    scores = np.asarray([-np.inf, -90.0, -3.5, -1.0, -1e-3, -0.0, 1e-20, 0.3, 1.0, 7.0, 88.0, np.inf, np.nan])
    for name, formula in formulas.found().items():
        if (kind := formulas.GIVEN[name]).shape != "entries":
            continue
        for dtype, c in (("float32", "float"), ("float64", "double")):
            x, t = (a.ravel().astype(dtype) for a in np.meshgrid(scores, [0.0, 0.25, 1.0]))
            for numbers in kind.options(dtype):
                for function in formula[:2]:
                    given = ("x",) if kind.kind == "entropy" else ("x", "t")
                    made = entries.kernel(function, numbers, given)
                    names = ", ".join(f"const {c}* {a}_" for a in given)
                    values = " ".join(f"const T {a} = {a}_[i];" for a in given)
                    text.append(
                        f'extern "C" void k{len(calls)}(int n, {names}, {c}* out_) {{ typedef {c} T; '
                        f"for (int i = 0; i < n; i++) {{ T out; {values} {made.operation} out_[i] = out; }} }}"
                    )
                    calls.append((name, function, numbers, (x, t)[: len(given)]))
    (tmp_path / "all.cpp").write_text("\n".join(text))
    library = tmp_path / "all.so"
    options = ["-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run(["g++", *options, str(tmp_path / "all.cpp")], check=True)
    loaded = ctypes.CDLL(str(library))
    assert len(calls) > 100
    for i, (name, function, numbers, arrays) in enumerate(calls):
        found = np.empty_like(arrays[0])
        getattr(loaded, f"k{i}")(found.size, *(ctypes.c_void_p(a.ctypes.data) for a in (*arrays, found)))
        with np.errstate(all="ignore"):
            targets = arrays if len(arrays) == 2 else (*arrays, None)
            expected = function(array_api_compat.numpy, *targets, *numbers)
        expected = np.broadcast_to(expected, found.shape)
        digits = 2e-6 if found.dtype == np.float32 else 1e-14
        np.testing.assert_allclose(found, expected, rtol=digits, atol=1e-37, err_msg=f"{name} {numbers}")


#: Calls of the functions with a derivative rule, on an array (2, 3) of numbers in (0, 1); of the others with it alone.
DERIVED: dict[str, Callable[[Any, Any], list[Any]]] = {
    "add": lambda xp, x: [xp.add(x, x), x + 1.0, 1.0 + x],
    "astype": lambda xp, x: [xp.astype(x, xp.float32), xp.astype(x, xp.float64, copy=False)],
    "atan2": lambda xp, x: [xp.atan2(x, x)],
    "broadcast_to": lambda xp, x: [xp.broadcast_to(x, (4, 2, 3))],
    "clip": lambda xp, x: [xp.clip(x, 0.2, 0.7)],
    "concat": lambda xp, x: [xp.concat([x, x], axis=1)],
    "cumulative_sum": lambda xp, x: [xp.cumulative_sum(x, axis=1)],
    "diff": lambda xp, x: [xp.diff(x, axis=1)],
    "divide": lambda xp, x: [xp.divide(x, x), x / 2.0, 2.0 / x],
    "expand_dims": lambda xp, x: [xp.expand_dims(x, axis=1)],
    "flip": lambda xp, x: [xp.flip(x), xp.flip(x, axis=1)],
    "getitem": lambda xp, x: [x[0, ...], x[:, 1:], x[None, 0, 1], x[..., ::-1]],
    "hypot": lambda xp, x: [xp.hypot(x, x)],
    "logaddexp": lambda xp, x: [xp.logaddexp(x, xp.zeros_like(x))],
    "matmul": lambda xp, x: [x @ xp.matrix_transpose(x), xp.matmul(x, x[0, :]), x[:, 0] @ x, x[0, :] @ x[0, :]],
    "max": lambda xp, x: [xp.max(x), xp.max(x, axis=1, keepdims=True)],
    "maximum": lambda xp, x: [xp.maximum(x, xp.flip(x))],
    "mean": lambda xp, x: [xp.mean(x), xp.mean(x, axis=(0, 1))],
    "min": lambda xp, x: [xp.min(x), xp.min(x, axis=(0, 1))],
    "minimum": lambda xp, x: [xp.minimum(x, xp.flip(x))],
    "moveaxis": lambda xp, x: [xp.moveaxis(x, 0, 1)],
    "multiply": lambda xp, x: [xp.multiply(x, x), x * 2.0, 2.0 * x],
    "permute_dims": lambda xp, x: [xp.permute_dims(x, (1, 0)), x.T],
    "pow": lambda xp, x: [xp.pow(x, x), x**2, x**0.5, 2.0**x],
    "prod": lambda xp, x: [xp.prod(x), xp.prod(x, axis=1)],
    "reshape": lambda xp, x: [xp.reshape(x, (-1,))],
    "roll": lambda xp, x: [xp.roll(x, 1), xp.roll(x, 1, axis=0), xp.roll(x, (1, -1), axis=(0, 1))],
    "sort": lambda xp, x: [xp.sort(x, axis=0), xp.sort(x, descending=True)],
    "squeeze": lambda xp, x: [xp.squeeze(xp.expand_dims(x, axis=0), axis=0)],
    "stack": lambda xp, x: [xp.stack([x, x], axis=1)],
    "subtract": lambda xp, x: [xp.subtract(x, x), x - 1.0, 1.0 - x],
    "sum": lambda xp, x: [xp.sum(x, dtype=x.dtype), xp.sum(x, axis=1), xp.sum(x, axis=(0, 1), keepdims=True)],
    "take": lambda xp, x: [xp.take(x, xp.argsort(x[0, ...].value), axis=1)],
    "take_along_axis": lambda xp, x: [xp.take_along_axis(x, xp.argsort(x, axis=1), axis=1)],
    "where": lambda xp, x: [xp.where(x > 0.5, x, 2.0 * x)],
}


@pytest.mark.cupy
@pytest.mark.parametrize("name", sorted(RULES))
def test_derivative_rules(interface: Any, stand_in: Any, name: str, rng: np.random.Generator) -> None:
    call = DERIVED.get(name, lambda xp, x: [getattr(xp, name)(x)])

    def total(x: Any, _: Any) -> Any:
        xp = x.__array_namespace__()
        sums = [xp.sum(y * y) for y in call(xp, x)]
        return sum(sums[1:], start=sums[0])

    x = rng.random((2, 3))
    with stand_in.installed():
        if name == "clip":  # array_api_compat's own selects by a mask on CuPy; so no loss may use it
            with pytest.raises(interface.HostReadError):
                al.value_and_grad(total)(stand_in.array(x), None)
            return
        value, gradient = al.value_and_grad(total)(stand_in.array(x), None)
    assert not problems(interface, stand_in)
    expected = al.value_and_grad(total)(x, None)
    np.testing.assert_allclose(value.held, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient.held, expected[1], rtol=1e-12)


@pytest.mark.cupy
def test_functions_without_a_derivative_are_there(interface: Any) -> None:
    namespace = interface.REAL["array_api_compat.cupy"]
    assert not [name for name in CONSTANTS if not hasattr(namespace, name)]


# Real CuPy arrays, on which everything up to the device works ---------------------------------------------------------


@pytest.mark.cupy
def test_real_arrays_are_recognised(interface: Any) -> None:
    import cupy

    from arrayloss._machines import cupy as kernels

    x = interface.real_array(interface.Array("float32"))
    assert type(x) is cupy.ndarray
    assert library_name(x) == "cupy"
    assert library_of(x) is kernels.LIBRARY
    with pytest.raises(TypeError, match=r"logits is an array of cupy but target is an array of numpy.*cupy\.asarray"):
        al.l1_loss(x, np.zeros((2, 3), dtype="float32"))


@pytest.mark.cupy
@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "pow", "matmul", "eq", "ne", "lt", "le", "gt", "ge"])
def test_cupy_leaves_operators_to_the_tape(interface: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}.get(name, f"r{name}")
    monkeypatch.setattr(Variable, f"__{mirrored}__", lambda self, other: ("left to", self, other))
    x = interface.real_array(interface.Array("float32"))
    variable = Tape(library_of(x)).variable(x, [])
    found = getattr(operator, name)(x, variable)
    assert found[0] == "left to"
    assert found[1] is variable
    assert found[2] is x


# The check can fail ---------------------------------------------------------------------------------------------------


def planted(interface: Any) -> dict[str, tuple[Any, str]]:
    """Return wrong calls, and what has to be said about them."""
    call, x = interface.Call, interface.Array("float32")
    compat = "array_api_compat.cupy"
    return {
        "no such function": (call(compat, "log_softmax", x), "has no log_softmax"),
        "no such method": (call("cupy.ndarray", "to_device", x), "to_device"),
        "wrong keyword": (call(compat, "sum", x, dim=1), "unexpected keyword argument 'dim'"),
        "missing argument": (call("cupy", "take_along_axis", x, interface.Array("int64")), "missing a required"),
        "too many positionals": (call("cupy", "take", x, x, 0, None, "clip"), "too many positional"),
        "keyword only": (call(compat, "sort", x, 0), "too many positional"),
        "wrong keyword through **kwargs": (call(compat, "sort", x, order="C"), "order"),
        "wrong keyword of a method": (call("cupy.ndarray", "astype", x, "float64", device=0), "device"),
        "too few inputs": (call(compat, "maximum", x), "1 inputs, expected 2"),
        "too many inputs": (call(compat, "exp", x, x), "2 inputs, expected 1"),
        "keyword of NumPy's ufuncs": (call(compat, "exp", x, order="C"), "no keyword order"),
        "no loop": (call("cupy", "bitwise_and", x, x), "no loop"),
        "no loop that needs no cast": (call("cupy", "invert", interface.Array("float16")), "no loop"),
        "NumPy array": (call("cupy", "where", interface.Array("bool"), x, np.zeros((2, 3))), "array of NumPy"),
        "NumPy array in a list": (call("cupy", "concatenate", [x, np.zeros((2, 3))]), "array of NumPy"),
        "indices that are no integers": (call(compat, "take_along_axis", x, x, axis=1), "IndexError"),
        "axis out of range": (call(compat, "sum", x, axis=2), "AxisError"),
        "shapes that do not fit": (call("cupy", "reshape", x, (4, 2)), "ValueError"),
    }


@pytest.mark.cupy
def test_planted_calls_are_caught(interface: Any) -> None:
    for name, (call, message) in planted(interface).items():
        assert message in " ".join(interface.problems(call)), name


def bad_losses() -> dict[str, Callable[[Any, Any], Any]]:
    """Return losses that NumPy and the tape take and CuPy does not."""

    def xp(x: Any) -> Any:
        return x.__array_namespace__()

    def plain(x: Any) -> Any:
        return x.value if isinstance(x, Variable) else x

    return {
        "initial": lambda x, y: xp(x).sum(x) + xp(x).max(plain(x), initial=0.0),
        "where": lambda x, y: xp(x).sum(x) + xp(x).exp(plain(x), order="C")[0, 0],
        "kind": lambda x, y: xp(x).sum(x) + xp(x).partition(plain(x), 1, kind="introselect")[0, 0],
        "numpy": lambda x, y: xp(x).sum(x) + xp(x).add(plain(x), np.zeros((2, 3)))[0, 0],
    }


@pytest.mark.cupy
@pytest.mark.parametrize("name", bad_losses())
def test_bad_losses_are_caught(interface: Any, stand_in: Any, name: str) -> None:
    with stand_in.installed():
        al.value_and_grad(bad_losses()[name])(stand_in.array(np.ones((2, 3))), None)
    assert problems(interface, stand_in)


@pytest.mark.cupy
@pytest.mark.parametrize(
    "read",
    [
        bool,
        float,
        int,
        complex,
        operator.index,
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: x[:, None][x > 0, 0],
    ],
)
def test_reads_by_the_host_are_caught(interface: Any, stand_in: Any, read: Callable[[Any], Any]) -> None:
    with stand_in.installed(), pytest.raises(interface.HostReadError):
        read(stand_in.array(np.ones(1)))
    with stand_in.installed(), pytest.raises(TypeError, match="Implicit conversion"):
        np.exp(np.asarray(stand_in.array(np.ones(1))))


# Of any library: nothing is read, nothing is made on another device ---------------------------------------------------


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """array-api-strict whose arrays cannot be read and have no shapes that depend on values."""
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a value of an array was read")

    array = type(strict.asarray(0.0))
    for name in ("array", "bool", "buffer", "complex", "dlpack", "float", "index", "int", "iter"):
        monkeypatch.setattr(array, f"__{name}__", refuse, raising=False)
    with strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()):
        yield strict


@pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_read_and_everything_stays_on_its_device(
    strict: Any, case: Case, device: str, rng: np.random.Generator
) -> None:
    def array(x: np.ndarray) -> Any:
        return strict.asarray(x, device=strict.Device(device))

    logits, target, arrays = converted(case, rng, "float32", "int64")
    given = tuple(map(array, logits)) if isinstance(logits, tuple) else array(logits)
    target, arrays = array(target), {name: array(x) for name, x in arrays.items()}
    for loss in every_form(case):
        value = loss(given, target, **arrays)
        again, gradient = al.value_and_grad(loss)(given, target, **arrays)
        results = [*flat(value), *flat(again), *flat(gradient)]
        assert [x.device for x in results] == [strict.Device(device)] * len(results)


@pytest.mark.parametrize(
    "loss",
    [
        lambda xp, x, y: xp.sum(x) if x[0, 0] > 0 else x[0, 0],
        lambda xp, x, y: xp.sum(x) * float(xp.max(y)),
        lambda xp, x, y: xp.sum(x[: int(xp.max(y))]),
        lambda xp, x, y: xp.sum(x[y > 0.0]),
        lambda xp, x, y: xp.sum(x) * float(np.asarray(y).max()),
        lambda xp, x, y: xp.sum(x) + xp.sum(xp.nonzero(y)[0]),
        lambda xp, x, y: xp.sum(x + xp.ones((2, 3), dtype=xp.float32)),
    ],
)
def test_reads_and_mixed_devices_are_caught(strict: Any, loss: Callable[..., Any]) -> None:
    x = strict.ones((2, 3), dtype=strict.float32, device=strict.Device("device1"))
    with pytest.raises((AssertionError, IndexError, RuntimeError, ValueError)):
        loss(strict, x, x)
