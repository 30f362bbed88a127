"""The base of the loss classes: a loss object is its options, bound to the function that defines the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import update_wrapper
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform, overload

from arrayloss._core.library import library_of
from arrayloss._core.options import check
from arrayloss._machines.namespace import dtype_name, library_name

A = TypeVar("A")
B = TypeVar("B")


@dataclass_transform(frozen_default=True)
class Loss:
    """Options of a loss function, bound: immutable plain data that is called like the function.

    A subclass names its function, `class DiceLoss(Loss, function=dice_loss)`, and lists the options as dataclass
    fields; construction, `repr`, `==`, hash and pickling follow from that. Options are checked when the object is
    made. Arrays among them, such as class weights, are kept as plain numbers.
    """

    function: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, *, function: Callable[..., Any], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.function = staticmethod(function)
        dataclass(frozen=True)(cls)
        cls.__init__ = _guarded(cls)  # type: ignore[method-assign]
        # What stands in the class body is for editors, which do not run this; `help` gets the function's text.
        cls.__doc__ = _class_doc(cls.__name__, function)

    def __post_init__(self) -> None:
        """Check the options and turn arrays among them into plain numbers."""
        options = {name: _plain(type(self), name, value) for name, value in vars(self).items()}
        for name, value in check(type(self).function.__name__, options).items():
            object.__setattr__(self, name, value)

    @overload
    def __call__(self, logits: tuple[A, B], target: Any, **arrays: Any) -> A: ...
    @overload
    def __call__(self, logits: A, target: Any, **arrays: Any) -> A: ...
    def __call__(self, logits: Any, target: Any, **arrays: Any) -> Any:
        """Return the loss of `logits` against `target`; see the function for the further arrays a call may take."""
        for name in arrays:
            if name in vars(self):
                raise TypeError(
                    f"{type(self).__name__}: {name} is an option of the object, expected {name}= where it is made: "
                    f"{type(self).__name__}({name}=...)(logits, target)"
                )
        return type(self).function(logits, target, **vars(self), **arrays)


def _guarded(cls: type[Loss]) -> Callable[..., None]:
    """Return `__init__` of a loss class, with errors for options it does not have and for the arrays of a call."""
    made = cast(Callable[..., None], cls.__init__)
    known = frozenset(field.name for field in fields(cast(Any, cls)))

    def __init__(self: Loss, *options: Any, **named: Any) -> None:
        for name in named:
            if name not in known:
                _refuse_options(cls, named)
        arrays = False
        for value in (*options, *named.values()):
            arrays = arrays or type(value) not in _PLAIN
        if arrays:
            _make_of_arrays(cls, made, self, options, named)
        else:
            made(self, *options, **named)

    return cast(Callable[..., None], update_wrapper(__init__, made))


#: Types of options that are no array and hold none.
_PLAIN = (float, int, str, bool, type(None))


def _refuse_options(cls: type[Loss], named: dict[str, Any]) -> None:
    from arrayloss._core.forgotten import refuse_options

    refuse_options(cls, named)


def _make_of_arrays(cls: type[Loss], made: Any, loss: Loss, options: tuple[Any, ...], named: dict[str, Any]) -> None:
    from arrayloss._core.forgotten import explained, refuse_arrays

    refuse_arrays(cls, options, named)
    try:
        made(loss, *options, **named)
    except (TypeError, ValueError) as error:
        raise explained(cls, error, options) from None


def _plain(cls: type[Loss], option: str, value: Any) -> Any:
    """Return an option, an array of any library being numbers."""
    if type(value) in _PLAIN:
        return value
    if library_name(value) is None:
        return value.tolist() if hasattr(value, "tolist") else value
    library = library_of(value)
    if dtype_name(value) == "bfloat16":  # NumPy has none
        value = library.xp.astype(value, library.xp.float32)
    try:
        return library.kernels.on_host(value).tolist()
    except TypeError as error:
        raise TypeError(
            f"{cls.function.__name__}: {option} is an array whose values cannot be read here: {error}; expected "
            f"numbers, or the array in a call of the function"
        ) from None


def _class_doc(name: str, function: Callable[..., Any]) -> str:
    """Return the docstring of a loss class: one sentence of its own, then the text of its function."""
    summary, _, rest = (function.__doc__ or "").partition("\n")
    bound = f"The options of `arrayloss.{function.__name__}`, bound: `{name}(...)(logits, target)`."
    return f"{summary}\n\n    {bound}\n{rest}"
