"""How values are shown in errors: short, and arrays by their shape."""

from __future__ import annotations

import reprlib
from typing import Any

from arrayloss._machines.namespace import library_name


class _Short(reprlib.Repr):
    """`repr`, cut; an array is described, never read."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 6
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        return described(x) if library_name(x) is not None and len(x.shape) else super().repr1(x, level)


_SHORT = _Short()


def shown(value: object) -> str:
    """Return `repr(value)`, or what tells as much of it in little space."""
    return _SHORT.repr(value)


def described(x: Any) -> str:
    """Return "an array of shape (2, 3) of numpy"."""
    return f"an array of shape {tuple(x.shape)} of {library_name(x)}"


def rank_of(value: Any) -> int | None:
    """Return the rank of an array, one more for each list or tuple around it; None where there is none."""
    if isinstance(value, (list, tuple)):
        ranks = [rank for item in value if (rank := rank_of(item)) is not None]
        return 1 + max(ranks) if ranks else None
    return len(value.shape) if library_name(value) is not None else None
