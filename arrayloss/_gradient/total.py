"""What is differentiated of a loss's value."""

from __future__ import annotations

from typing import Any

from arrayloss._core.library import name_of


def total_of(value: Any) -> Any:
    """Return what is differentiated of a loss's value: the total of two parts, the value otherwise."""
    total = value[0] if isinstance(value, tuple) else value
    if name_of(total) is None:
        raise TypeError(f"value_and_grad: the loss returned a {type(total).__name__}, expected an array")
    return total
