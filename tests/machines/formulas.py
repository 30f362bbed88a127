"""All formulas of the package, and what each is given: arrays by its shape, numbers by the dtype."""

from __future__ import annotations

import functools
import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import arrayloss._core
import arrayloss._machines
import arrayloss.losses
from arrayloss._machines.formula import Formula

#: The options of a formula, of a number far below what counts and of the largest number of a dtype.
Numbers = Callable[[float, float], tuple[Any, ...]]


@dataclass(frozen=True)
class Given:
    """What a formula is given."""

    #: "entries", "classes" or "regions"
    shape: str
    #: Several options of it.
    numbers: tuple[Numbers, ...] = (lambda least, largest: (),)
    #: Of classes: "target", "field" (a target, and a value beside it), "teacher" or "gap". Of entries: "score" (and the
    #: share of the yes), "difference" (of any two numbers), "count", or "entropy", -log p, to which no target belongs.
    kind: str = ""

    def options(self, dtype: str) -> list[tuple[Any, ...]]:
        info = np.finfo(dtype)
        return [numbers(float(info.smallest_normal) ** 0.5, float(info.max)) for numbers in self.numbers]


def plain(*options: tuple[Any, ...]) -> tuple[Numbers, ...]:
    """Return options that no dtype changes."""
    return tuple((lambda least, largest, option=option: option) for option in options)  # type: ignore[misc]


def with_least(*options: tuple[Any, ...], far: bool = False) -> tuple[Numbers, ...]:
    def of(option: tuple[Any, ...]) -> Numbers:
        return lambda least, largest: (*option, least, -math.log(least)) if far else (*option, least)

    return tuple(of(option) for option in options)


GAMMAS = ((0.0,), (0.5,), (1.0,), (1.7,), (2.0,), (3.0,))
SIGMOID = with_least((0.0, 1.0, 1.0), (0.7, 0.25, 0.75), (1.0, 0.5, 0.5), (2.0, 0.25, 0.75), far=True)
ASYMMETRIC = with_least((4.0, 1.0, 0.05), (2.0, 0.5, 0.0), (0.0, 0.0, 0.3), far=True)
RATES: tuple[Numbers, ...] = tuple(
    (lambda least, largest, full=full: (full, largest))  # type: ignore[misc]
    for full in (False, True)
)
SQUARED: tuple[Numbers, ...] = (lambda least, largest: (largest**0.5,),)
MIXED = plain((1.0, 0.0), (1.0, 2.0), (0.0, 4.0), (0.1, 0.4))

#: By the module and name of each formula. One that is missing here fails the tests.
GIVEN = {
    "formula.BINARY": Given("entries", kind="score"),
    "formula.ABSOLUTE": Given("entries", kind="difference"),
    "formula.SQUARED": Given("entries", kind="difference"),
    "formula.HUBER": Given("entries", plain((1.0,), (0.3,)), "difference"),
    "formula.SMOOTH": Given("entries", plain((1.0,), (0.3,), (5.0,)), "difference"),
    "formula.AREAS": Given("regions"),
    "areas._SQUARES": Given("regions"),
    "areas._ERRORS": Given("regions"),
    "formula.CROSS": Given("classes", kind="target"),
    "focal._FOCAL": Given("entries", with_least(*GAMMAS), "entropy"),
    "focal._FOCAL_OF_CLASS": Given("classes", with_least(*GAMMAS), "target"),
    "focal._SIGMOID_FOCAL": Given("entries", SIGMOID, "score"),
    "focal._ASYMMETRIC": Given("entries", ASYMMETRIC, "score"),
    "robust._MIXED": Given("entries", MIXED, "entropy"),
    "robust._MIXED_OF_CLASS": Given("classes", MIXED, "target"),
    "robust._BOTH_WAYS": Given("classes", plain((0.1, 1.0, -4.0), (0.0, 1.0, -0.1)), "target"),
    "robust._GENERALIZED": Given("entries", plain((0.7,), (1.0,), (0.1,)), "entropy"),
    "robust._GENERALIZED_OF_CLASS": Given("classes", plain((0.7,), (1.0,), (0.1,)), "target"),
    "robust_regression._CHARBONNIER": Given("entries", plain((1e-3,), (3.0,)), "difference"),
    "robust_regression._PINBALL": Given("entries", plain((0.5,), (0.9,), (1e-3,)), "difference"),
    "robust_regression._LOG_COSH": Given("entries", kind="difference"),
    "margin._HINGE": Given("entries", kind="score"),
    "margin._SQUARED": Given("entries", SQUARED, "score"),
    "margin._GAP": Given("classes", plain((1, 1.0), (2, 1.0), (1, 0.0), (2, -0.5)), "gap"),
    "likelihood._LOG_RATE": Given("entries", RATES, "count"),
    "likelihood._RATE": Given("entries", plain((False, 1e-8), (True, 1e-8), (True, 0.0)), "count"),
    "divergence._KL": Given("classes", kind="teacher"),
    "divergence._CROSS": Given("classes", kind="teacher"),
    "divergence._JS": Given("classes", with_least(()), "teacher"),
    "distance._MEAN": Given("classes", kind="target"),
    "distance._SQUARES": Given("classes", kind="field"),
}


@functools.cache
def found() -> dict[str, Formula]:
    """Return all formulas of the package, by the module of what they are made of and their name."""
    rooms = (arrayloss.losses, arrayloss._core)
    names = [info.name for room in rooms for info in pkgutil.iter_modules(room.__path__, room.__name__ + ".")]
    formulas: dict[int, tuple[str, Formula]] = {}
    for name in ["arrayloss._machines.formula", *names]:
        for attribute, value in vars(importlib.import_module(name)).items():
            if isinstance(value, Formula):
                module = value.losses.__module__.rpartition(".")[2]
                formulas.setdefault(id(value), (f"{module}.{attribute}", value))
    return dict(formulas.values())
