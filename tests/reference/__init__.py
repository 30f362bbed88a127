"""Independent float64 reference of every loss: the formulas of the public contract, written as loops.

Nothing here is fast and nothing is shared with the package: plain Python over pixels and classes, so that a person can
hold each function against its row of the contract. A module here stands for the module of that name in the package;
every function is named as the public one, takes its options by keyword and returns float64: a float for "mean" and
"sum", an array for "none", (total, weight) for "parts". Options are taken to be right; only labels out of range and
misfitting shapes raise, so that no index wraps unnoticed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from reference.differences import numerical_gradient

#: The reference of each public function, by its name.
LOSSES: dict[str, Callable[..., Any]] = {
    name: function
    for module in pkgutil.iter_modules(__path__)
    for name, function in vars(importlib.import_module(f"reference.{module.name}")).items()
    if name.endswith("_loss")
}

__all__ = ["LOSSES", "numerical_gradient"]
