"""Rules: `f_rule` returns what `f` returns, and what leads from the gradient of that to the one of its first array."""

from __future__ import annotations

from collections.abc import Callable

from arrayloss._machines.formula import Array

Rule = tuple[Array, Callable[[Array], Array]]
