"""Rules: a kernel that returns its value, and what leads from the gradient of that to the one of its first array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from arrayloss._machines.formula import Array

Rule = tuple[Array, Callable[[Array], Array]]
F = TypeVar("F", bound=Callable[..., Rule])


def rule(function: F) -> F:
    """Mark a function as a rule: a library has it as `f_rule`, and its value alone as the kernel `f`.

    One with an option `keep` keeps, or computes, what only the way back needs where that is true.
    """
    function.is_rule = True  # type: ignore[attr-defined]
    return function


def kernels_of(name: str, function: Any) -> dict[str, Any]:
    """Return the kernels that a function is, by name."""
    if not getattr(function, "is_rule", False):
        return {name: function}
    options: dict[str, Any] = {"keep": False} if "keep" in (function.__kwdefaults__ or {}) else {}

    def value(*arguments: Any) -> Array:
        return function(*arguments, **options)[0]

    return {name: value, f"{name}_rule": function}
