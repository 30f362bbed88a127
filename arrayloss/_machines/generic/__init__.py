"""Every kernel in plain array API functions: complete, for any library, and the meaning of the faster ones.

Kernels get clean shapes: scores `(N, C, *S)` with the classes on axis 1, labels and masks `(N, *S)`. `valid` is a
boolean mask, or None where all is valid. At a position that is not valid a kernel returns 0 and has gradient 0,
whatever stands there, NaN included: inputs are cleaned before the formula, not its result after.

Libraries without automatic differentiation get it from the rules (`rule.py`).
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

from arrayloss._machines import namespace
from arrayloss._machines.formula import Array, Namespace
from arrayloss._machines.generic import classes, components, entries, facts, places, ranking, regions, windows
from arrayloss._machines.generic.rule import kernels_of
from arrayloss._machines.namespace import Library, library_name

#: What a library tells about its arrays, which has no portable form.
_FACTS = ("as_array", "constant", "gumbel", "host_range", "label_dtype", "on_host", "scalar_like")

#: How the tape takes a kernel that has no `_rule`: on plain arrays, its result being a constant to differentiation ...
CONSTANTS = (
    {"any_of", "constant", "count", "gumbel", "host_range", "label_dtype", "on_host", "one_hot", "running_sum"}
    | {"components", "label_counts", "scalar_like", "take_rows", "top_class"}
    | {"kth_largest", "kth_largest_below", "lovasz_weights"}
)
#: ... or in the portable form, which runs on variables.
SHIMS = {"matmul", "sum_positions", "take_class", "triangle", "where_or", "where_valid"}


def _kernels(*modules: ModuleType) -> dict[str, Any]:
    """Return what is defined in modules, but what is private to them."""
    found: dict[str, Any] = {}
    for module in modules:
        for name, x in vars(module).items():
            if not name.startswith("_") and getattr(x, "__module__", None) == module.__name__:
                found |= kernels_of(name, x)
    return found


_GENERIC = _kernels(classes, components, entries, facts, places, ranking, regions, windows)
KERNELS = SimpleNamespace(**_GENERIC)


def library(x: Array) -> Library:
    """Return the library of an array whose package has no kernels of its own."""
    import array_api_compat

    return Library(str(library_name(x)), array_api_compat.array_namespace(x), KERNELS)


def extended(name: str, xp: Namespace, *modules: ModuleType) -> Library:
    """Return a library whose kernels are those of its modules, and the portable ones where they have none.

    torch and JAX keep their differentiable kernels in any case: their autodiff has conventions of its own.
    """
    faster = _kernels(*modules)
    if namespace.PORTABLE and name not in ("torch", "jax"):
        faster = {fact: faster[fact] for fact in _FACTS if fact in faster}
    return Library(name, xp, SimpleNamespace(**{**_GENERIC, **faster}))
