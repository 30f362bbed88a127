"""Losses of entries: one launch for the losses that a formula gives, and one for its slopes.

A formula is called once with C in place of arrays, and what it returns is the body of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import cupy

from arrayloss._machines.formula import NUMBERS, Array, Formula, Namespace
from arrayloss._machines.generic.facts import _class_index
from arrayloss._machines.generic.rule import Rule, rule

#: The operations that C has no function of one name for; a NaN stays one.
_PREAMBLE = """
template <typename T> __device__ T select(bool mask, T x, T y) { return mask ? x : y; }
template <typename T> __device__ T larger(T x, T y) { return x >= y || x != x ? x : y; }
template <typename T> __device__ T smaller(T x, T y) { return x <= y || x != x ? x : y; }
template <typename T> __device__ T sign_of(T x) { return x == x ? T((x > T(0)) - (x < T(0))) : x; }
"""


class Code:
    """A value in C, and the lines that lead to it."""

    def __init__(self, lines: list[str], text: str) -> None:
        self.lines, self.text = lines, text


def _text(x: Any) -> str:
    return x.text if type(x) is Code else f"T({float(x)!r})"


def _operation(pattern: str, kind: str = "T") -> Callable[..., Code]:
    def operate(*operands: Any) -> Code:
        lines = next(x.lines for x in operands if type(x) is Code)
        found = Code(lines, f"v{len(lines)}")
        lines.append(f"const {kind} {found.text} = {pattern.format(*map(_text, operands))};")
        return found

    return operate


for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/"}.items():
    setattr(Code, f"__{_name}__", _operation(f"{{0}} {_sign} {{1}}"))
    setattr(Code, f"__r{_name}__", _operation(f"{{1}} {_sign} {{0}}"))
for _name, _sign in {"lt": "<", "gt": ">", "le": "<=", "ge": ">="}.items():
    setattr(Code, f"__{_name}__", _operation(f"{{0}} {_sign} {{1}}", "bool"))
setattr(Code, "__neg__", _operation("-{0}"))  # noqa: B010
_NAMES = {"abs": "fabs", "sign": "sign_of", "maximum": "larger", "minimum": "smaller", "where": "select", "pow": "pow"}
_NAMES |= {name: name for name in ("exp", "log", "log1p", "expm1", "sqrt", "tanh")}
_OPERANDS = {"maximum": 2, "minimum": 2, "pow": 2, "where": 3}
#: The namespace of C.
XP = SimpleNamespace(
    **{
        name: _operation(f"{function}({', '.join(f'{{{i}}}' for i in range(_OPERANDS.get(name, 1)))})")
        for name, function in _NAMES.items()
    },
    **NUMBERS,
)


@lru_cache(1024)
def kernel(function: Callable[..., Any], numbers: tuple[float, ...], given: tuple[str, ...]) -> Any:
    """Return the kernel of a function of scores x and, where they are `given`, targets.

    Those are t, or the labels y and the class c of an entry. By `valid` others are 0; g is what the result is to be
    multiplied by.
    """
    lines: list[str] = ["const T t = y == c;"] if "y" in given else []
    targets = [Code(lines, "t")] if {"t", "y"} & set(given) else [None]
    found = _text(function(XP, Code(lines, "x"), *targets, *numbers))
    if "g" in given:
        found = f"{found} * g"
    lines.append(f"out = select(valid, {found}, T(0));" if "valid" in given else f"out = {found};")
    kinds = {"y": "L", "c": "L", "valid": "bool"}
    inputs = ", ".join(f"{kinds.get(name, 'T')} {name}" for name in given)
    return cupy.ElementwiseKernel(inputs, "T out", "\n".join(lines), "arrayloss_entries", preamble=_PREAMBLE)


@rule
def entry_losses(
    xp: Namespace, x: Array, t: Array | None, valid: Array | None, formula: Formula, *numbers: float
) -> Rule:
    given = {"x": x}
    if t is not None and t.ndim < x.ndim:
        given |= {"y": t[:, None], "c": _class_index(xp, t, x.shape[1])}
    elif t is not None:
        given["t"] = t
    if valid is not None:
        given["valid"] = valid[:, None] if valid.ndim < x.ndim else valid

    def run(function: Callable[..., Any], given: dict[str, Array]) -> Array:
        return kernel(function, numbers, tuple(given))(*given.values())

    return run(formula.losses, given), lambda g: run(formula.slopes, {**given, "g": g})


@rule
def entry_total(xp: Namespace, *arguments: Any) -> Rule:
    losses, vjp = entry_losses(xp, *arguments)
    return xp.sum(losses), vjp
