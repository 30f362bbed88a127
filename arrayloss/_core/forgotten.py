"""Errors of who makes a loss object: options it does not have, and the arrays of a call where options belong.

Loaded once somebody errs, or gives an array for an option. An array is told by its rank, which costs nothing to ask:
its values may be many.
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any, NoReturn

from arrayloss._core.options import has_check
from arrayloss._core.peers import LOGITS_AND_TARGET, no_option
from arrayloss._core.shown import rank_of, shown

#: The most axes of an array that may stand for an option. Others take numbers, and arrays without axes as such.
_AXES = {"classes": 1, "coef": 1, "pos_weight": 1, "spacing": 1, "weight": 1}
#: Where a loss differs; None: any.
_SPECIAL: dict[tuple[str, str], int | None] = {("bce_loss", "weight"): None, ("focal_loss", "alpha"): 1}


def made_then_called(cls: Any) -> str:
    """Return how an object of a loss class is made and called."""
    required = (f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)
    options = ", ".join(f"{name}=..." for name in required)
    first = next(iter(inspect.signature(cls.function).parameters.values()))
    several = ", logits being a tuple of two arrays" if str(first.annotation).startswith("tuple") else ""
    call = f"{cls.__name__}({options})(logits, target)"
    return f"a loss object is made of options first, and then called with arrays: {call}{several}"


def refuse_options(cls: Any, named: dict[str, Any]) -> NoReturn:
    """Raise the error for names that are no options of a loss class."""
    known = [f.name for f in fields(cls)]
    unknown = [name for name in named if name not in known]
    if any(name in LOGITS_AND_TARGET for name in unknown):
        raise TypeError(f"{cls.__name__}: no option {unknown[0]!r}; {made_then_called(cls)}")
    of_the_call = [name for name in inspect.signature(cls.function).parameters if name not in known]
    raise TypeError(no_option(cls.__name__, unknown, known, of_the_call))


def refuse_arrays(cls: Any, options: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raise the error for an array that has more axes than the option it is given for."""
    function = cls.function.__name__
    for name, value in zip((f.name for f in fields(cls)), options, strict=False):
        if _misfits(function, name, value):
            raise TypeError(f"{cls.__name__}: {name} is {shown(value)}; {made_then_called(cls)}")
    for name, value in named.items():
        if _misfits(function, name, value):
            expected = "a sequence or array of one axis" if _AXES.get(name) else "no array with axes"
            raise TypeError(f"{function}: {name} is {shown(value)}, expected {expected}")


def explained(cls: Any, error: Exception, options: tuple[Any, ...]) -> Exception:
    """Return the error of a check, with how a loss is called where an option could be the array of a call."""
    if all((rank_of(value) or 0) < 2 for value in options):
        return error
    return type(error)(f"{error}; {made_then_called(cls)}")


def _misfits(function: str, option: str, value: Any) -> bool:
    most = _SPECIAL.get((function, option), _AXES.get(option, 0))
    # An option without a check is that of a loss of the user's own.
    return most is not None and has_check(option) and (rank_of(value) or 0) > most
