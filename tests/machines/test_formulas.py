"""Formulas hold to the words that every machine has, run as GPU kernels, and keep their digits in float32."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import math
import os
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import formula_sweep
import formulas
import numpy as np
import pytest

from arrayloss._machines.formula import above

FOUND = formulas.found()
WORDS = {"exp", "log", "log1p", "expm1", "abs", "sign", "maximum", "minimum", "where", "sqrt", "tanh", "pow"}
WORDS |= {"zeros_like", "ones_like", "full_like"}


def test_every_formula_is_tested() -> None:
    """One that is new is to be described in formulas.py."""
    assert set(FOUND) == set(formulas.GIVEN)


# The words ------------------------------------------------------------------------------------------------------------


class Reader(ast.NodeVisitor):
    """Reads a function and finds what is not among the words of a formula, and which functions it calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.offences: list[str] = []
        self.helpers: list[Callable[..., Any]] = []
        self.globals = function.__globals__
        self.name = function.__qualname__
        if function.__closure__ or "<" in self.name:
            self.offences.append(f"{self.name} is no function of a module")
            return
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        assert isinstance(tree, ast.FunctionDef)
        arguments = tree.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs or arguments.defaults:
            self.refuse(tree, "arguments other than plain ones")
        if [a.arg for a in arguments.args[:1]] != ["xp"]:
            self.refuse(tree, "no xp that comes first")
        options = ("int", "float", "bool")
        self.static = {a.arg for a in arguments.args if a.annotation and ast.unparse(a.annotation) in options}
        self.local = {a.arg for a in arguments.args}
        self.masks: set[str] = set()
        body = tree.body
        if ast.get_docstring(tree) is not None:
            body = body[1:]
        for statement in body:
            self.visit(statement)

    def refuse(self, node: ast.AST, what: str) -> None:
        self.offences.append(f"{self.name}, line {getattr(node, 'lineno', 0)}: {what}")

    def generic_visit(self, node: ast.AST) -> None:
        self.refuse(node, type(node).__name__)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.refuse(node, "returns nothing")
        else:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        [target] = node.targets
        names, values = [target], [node.value]
        if isinstance(target, ast.Tuple):
            names = target.elts
            if isinstance(node.value, ast.Tuple) and len(node.value.elts) == len(names):
                values = node.value.elts
        for value in values:
            if not isinstance(value, ast.Compare):
                self.visit(value)
        for at, name in enumerate(names):
            if not isinstance(name, ast.Name):
                self.refuse(node, f"assigns to {ast.unparse(name)}")
                continue
            self.local.add(name.id)
            if len(values) == len(names) and isinstance(values[at], ast.Compare):
                self.comparison(values[at])
                self.masks.add(name.id)

    def visit_If(self, node: ast.If) -> None:
        self.branch(node.test)
        for statement in node.body + node.orelse:
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.branch(node.test)
        self.visit(node.body)
        self.visit(node.orelse)

    def branch(self, test: ast.expr) -> None:
        """A condition is one of options."""
        if not {n.id for n in ast.walk(test) if isinstance(n, ast.Name)} <= self.static:
            self.refuse(test, f"branches on {ast.unparse(test)}, which is no option")
        for node in ast.walk(test):
            if not isinstance(node, (ast.Compare, ast.cmpop, ast.Name, ast.Load, ast.Constant)):
                self.refuse(test, f"branches on {ast.unparse(test)}")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
            self.refuse(node, f"the operator of {ast.unparse(node)}")
        self.visit(node.left)
        self.visit(node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if not isinstance(node.op, ast.USub):
            self.refuse(node, f"the operator of {ast.unparse(node)}")
        self.visit(node.operand)

    def visit_Compare(self, node: ast.Compare) -> None:
        self.refuse(node, f"{ast.unparse(node)} is no mask of a selection")

    def comparison(self, node: ast.expr) -> None:
        assert isinstance(node, ast.Compare)
        if len(node.ops) != 1 or not isinstance(node.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)):
            self.refuse(node, f"compares as {ast.unparse(node)}")
        self.visit(node.left)
        self.visit(node.comparators[0])

    def visit_Call(self, node: ast.Call) -> None:
        arguments = node.args
        if node.keywords:
            self.refuse(node, f"names arguments in {ast.unparse(node)}")
        if isinstance(node.func, ast.Attribute):
            if ast.unparse(node.func.value) != "xp" or node.func.attr not in WORDS:
                self.refuse(node, f"calls {ast.unparse(node.func)}")
            if node.func.attr == "where":
                mask, *arguments = arguments
                if isinstance(mask, ast.Compare):
                    self.comparison(mask)
                elif not (isinstance(mask, ast.Name) and mask.id in self.masks):
                    self.refuse(node, f"selects by {ast.unparse(mask)}")
        elif isinstance(node.func, ast.Name) and isinstance(
            helper := self.globals.get(node.func.id), types.FunctionType
        ):
            if node.func.id in self.local:
                self.refuse(node, f"calls {node.func.id}, which hides a function")
            self.helpers.append(helper)
            if not (arguments and ast.unparse(arguments[0]) == "xp"):
                self.refuse(node, f"{ast.unparse(node)} is not given xp")
            arguments = arguments[1:]
        else:
            self.refuse(node, f"calls {ast.unparse(node.func)}")
        for argument in arguments:
            self.visit(argument)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.masks:
            self.refuse(node, f"{node.id} is a mask")
        elif node.id in self.local and node.id.startswith("_"):
            self.refuse(node, f"reads {node.id}, which by its name it does not")
        elif node.id == "xp" or not (node.id in self.local or type(self.globals.get(node.id)) in (int, float)):
            self.refuse(node, f"uses {node.id}")

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) not in (int, float):
            self.refuse(node, f"the constant {node.value!r}")

    def visit_Tuple(self, node: ast.Tuple) -> None:
        for element in node.elts:
            self.visit(element)


def offences(function: Callable[..., Any], seen: set[Any] | None = None) -> list[str]:
    """Return what is not among the words in a function and the functions that it calls."""
    seen = set() if seen is None else seen
    seen.add(function)
    reader = Reader(function)
    return reader.offences + [x for f in reader.helpers if f not in seen for x in offences(f, seen)]


@pytest.mark.parametrize("name", FOUND)
def test_words(name: str) -> None:
    for function in FOUND[name]:
        if function is not None:
            assert not offences(function)


def _power(xp: Any, x: Any, gamma: float) -> Any:
    return x**gamma


def _limit(xp: Any, x: Any) -> Any:
    return xp.maximum(x, xp.finfo(x.dtype).smallest_normal)


def _by_value(xp: Any, x: Any) -> Any:
    return x if x > 0.0 else -x


def _mask(xp: Any, x: Any) -> Any:
    return x * (x > 0.0)


def _named(xp: Any, x: Any) -> Any:
    return xp.where(x > 0.0, x, xp.full_like(x, fill_value=0.0))


def _sum(xp: Any, x: Any) -> Any:
    return xp.sum(x)


def _each(xp: Any, x: Any) -> Any:
    return [xp.exp(y) for y in x]


def _number(xp: Any, x: Any) -> Any:
    return float(x)


def _left_out(xp: Any, x: Any, _t: Any) -> Any:
    return x * _t


def _through_a_helper(xp: Any, x: Any) -> Any:
    return above(xp, _sum(xp, x))


def _within(number: float) -> Callable[..., Any]:
    def inner(xp: Any, x: Any) -> Any:
        return x * number

    return inner


@pytest.mark.parametrize(
    "function",
    [
        _power,
        _limit,
        _by_value,
        _mask,
        _named,
        _sum,
        _each,
        _number,
        _left_out,
        _through_a_helper,
        _within(2.0),
        lambda xp, x: x,
    ],
)
def test_other_words_are_found(function: Callable[..., Any]) -> None:
    assert offences(function)


# On GPUs --------------------------------------------------------------------------------------------------------------


def on_triton(how: str, cache: Path) -> dict[str, Any]:
    """Return the error of each formula, in a process of its own: what Triton does is read when it is imported."""
    for module in ("triton", "torch"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, here / "triton_runs.py", how]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(map(json.loads, done.stdout.splitlines()))


def told(errors: dict[str, Any]) -> str:
    return "\n\n".join(f"{name}: {error}" for name, error in errors.items() if error)


def test_as_triton_kernels(tmp_path: Path) -> None:
    """Values and slopes of the same text in a kernel of its shape are those of the portable machine."""
    errors = on_triton("interpret", tmp_path)
    assert set(errors) == {"words", *FOUND}
    assert not any(errors.values()), told(errors)


def test_compiled_for_gpus(tmp_path: Path) -> None:
    errors = on_triton("compile", tmp_path)
    assert {"80", "90"} <= set(errors.pop("targets"))
    assert set(errors) == set(FOUND)
    assert not any(errors.values()), told(errors)


# In float32 -----------------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("name", FOUND)
def test_digits_over_all_of_float32(name: str) -> None:
    """Values and slopes have the digits of float64: see formula_sweep.py, and the session `formulas` for all scores."""
    # For each target and option; of formulas with many of them, fewer for each.
    wrong = formula_sweep.sweep(name, 2**20 if len(list(formula_sweep.cells(name))) < 15 else 2**18)
    assert not wrong, "\n".join(wrong)


def test_what_is_wrong_is_found() -> None:
    nan, inf, large = math.nan, math.inf, 3.5e38
    for found, expected, allowed in (
        (1.0 + 3e-6, 1.0, 0.0),
        (0.0, 1e-37, 0.0),
        (1e-37, 0.0, 0.0),
        (nan, 1.0, inf),
        (nan, inf, 0.0),
        (inf, 1.0, 0.0),
        (1e38, large, 0.0),
        (-inf, large, 0.0),
    ):
        assert formula_sweep.compared(np.float32([found]), np.float64([expected]), allowed).all(), (found, expected)
    for found, expected, allowed in (
        (1.0, 1.0, 0.0),
        (inf, large, 0.0),
        (0.0, 1e-39, 0.0),
        (0.5, nan, 0.0),
        (2.0, 1.0, 1.0),
    ):
        assert not formula_sweep.compared(np.float32([found]), np.float64([expected]), allowed).any(), (found, expected)


#: Closed forms that keep their digits in a wider number, of scores whose forms do: nothing of them is in the package.
CLOSED = {
    "formula.BINARY": (
        (),
        lambda x, t: np.logaddexp(0.0, x) * (1.0 - t) + np.logaddexp(0.0, -x) * t,
        lambda x, t: (1.0 - t) / (1.0 + np.exp(-x)) - t / (1.0 + np.exp(x)),
    ),
    "focal._FOCAL": ((2.0, 1e-154), lambda x, t: np.expm1(-x) ** 2 * x, None),
    "focal._SIGMOID_FOCAL": (
        (2.0, 0.25, 0.75, 1e-154, 354.0),
        lambda x, t: (
            0.25 * t * np.logaddexp(0.0, -x) / (1.0 + np.exp(x)) ** 2
            + 0.75 * (1.0 - t) * np.logaddexp(0.0, x) / (1.0 + np.exp(-x)) ** 2
        ),
        None,
    ),
    "robust._MIXED": ((0.1, 0.4), lambda x, t: 0.1 * x - 0.4 * np.expm1(-x), lambda x, t: 0.1 + 0.4 * np.exp(-x)),
    "robust._GENERALIZED": ((0.7,), lambda x, t: -np.expm1(-0.7 * x) / 0.7, lambda x, t: np.exp(-0.7 * x)),
    "robust_regression._LOG_COSH": (
        (),
        lambda x, t: np.log1p(2.0 * np.sinh(0.5 * (x - t)) ** 2),
        lambda x, t: np.tanh(x - t),
    ),
    "robust_regression._CHARBONNIER": (
        (3.0,),
        lambda x, t: np.hypot(x - t, 3.0),
        lambda x, t: (x - t) / np.hypot(x - t, 3.0),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name: str, rng: np.random.Generator) -> None:
    """What float32 is held against is right itself: in float64, beside another form in a number as wide as there is."""
    numbers, *closed = CLOSED[name]
    x = np.exp(rng.uniform(-30.0, 4.0, 4000)) * rng.choice([-1.0, 1.0], 4000)
    kind = formulas.GIVEN[name].kind
    x = np.abs(x) if kind == "entropy" else x
    t = rng.choice([0.0, 1.0], x.size) if kind == "score" else np.zeros_like(x)
    wide = x.astype(np.longdouble), t.astype(np.longdouble)
    for run, form in zip(FOUND[name][:2], closed, strict=True):
        if form is not None:
            expected = form(*wide)
            np.testing.assert_allclose(run(formula_sweep.xp, x, t, *numbers), expected.astype(np.float64), rtol=3e-14)
