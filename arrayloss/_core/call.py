"""What every public function does before its own work: it checks its options, and keeps NumPy quiet.

A loss is computed of exponentials that may underflow, and of ratios where 0/0 is replaced: where NumPy is told to warn
of such, or to raise, that is for the user's own code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from inspect import signature
from types import FunctionType
from typing import Any, TypeVar, cast

from arrayloss._core.library import name_of
from arrayloss._core.options import check, has_check, register

F = TypeVar("F", bound=Callable[..., Any])


def public(function: F) -> F:
    """Make a function public: options that are checked and plain data, no others, and no warnings of NumPy's."""
    return _guarded(function, on_numpy, quiet)


def public_caller(function: F) -> F:
    """The same of a function that calls what the user wrote, which NumPy's warnings are for: see `quietly`."""
    return _guarded(function, lambda first: False, quiet)


def _guarded(function: F, is_quiet: Callable[[Any], bool], quiet: Callable[[], Any]) -> F:
    name, parameters = function.__name__, signature(function).parameters
    names = tuple(parameters)
    known = frozenset(names)
    most = sum(p.kind is not p.KEYWORD_ONLY for p in parameters.values())
    arrays = sum(not has_check(argument) for argument in names[:most])
    register(name, parameters.values())
    refuse, make_plain = _refuse, check

    def call(*arguments: Any, **options: Any) -> Any:
        if len(arguments) > most or not known.issuperset(options):
            refuse(wrapper, arguments, options)
        if len(arguments) > arrays:
            by_position = dict(zip(names[arrays:], arguments[arrays:], strict=False))
            arguments = (*arguments[:arrays], *make_plain(name, by_position).values())
        if options:
            make_plain(name, options)
        if is_quiet(arguments[0] if arguments else options.get(names[0])):
            with quiet():
                return function(*arguments, **options)
        return function(*arguments, **options)

    # doctest takes a function to be of the module whose globals it has; of its own, this one needs none.
    scope = cast(FunctionType, function).__globals__
    wrapper = FunctionType(call.__code__, scope, name, None, call.__closure__)
    return cast(F, update_wrapper(wrapper, function))


def on_numpy(first: Any) -> bool:
    """Whether the first argument is NumPy's to compute: its array, one of a library built on it, or a tuple of such."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(first) is numpy.ndarray:
        return numpy is not None
    if (torch := sys.modules.get("torch")) is not None and isinstance(first, torch.Tensor):
        return False  # as `name_of` would find, a little later
    if isinstance(first, (tuple, list)) and first:
        first = first[0]
    return name_of(first) not in (None, "torch", "jax", "cupy")


def quiet() -> Any:
    """Return a context in which NumPy says nothing of floating-point numbers."""
    import numpy as np

    return np.errstate(all="ignore")


def quietly(operation: Callable[..., Any], *arguments: Any) -> Any:
    """Return an operation on arrays, of which NumPy says nothing."""
    if on_numpy(arguments[0]):
        with quiet():
            return operation(*arguments)
    return operation(*arguments)


def _refuse(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    from arrayloss._core.peers import refuse_call

    refuse_call(function, arguments, options)
