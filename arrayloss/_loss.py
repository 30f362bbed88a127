"""The base of the loss classes: a loss object is its options, bound to the function that defines the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform, overload

from arrayloss._options import check

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
        # What stands in the class body is for editors, which do not run this; `help` gets the function's text.
        cls.__doc__ = _class_doc(cls.__name__, function)

    def __post_init__(self) -> None:
        """Check the options and turn arrays among them into plain numbers."""
        options = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in vars(self).items()}
        for name, value in check(type(self).function.__name__, **options).items():
            object.__setattr__(self, name, value)

    @overload
    def __call__(self, logits: tuple[A, B], target: Any, **arrays: Any) -> A: ...
    @overload
    def __call__(self, logits: A, target: Any, **arrays: Any) -> A: ...
    def __call__(self, logits: Any, target: Any, **arrays: Any) -> Any:
        """Return the loss of `logits` against `target`; see the function for the further arrays a call may take."""
        return type(self).function(logits, target, **vars(self), **arrays)


def _class_doc(name: str, function: Callable[..., Any]) -> str:
    """Return the docstring of a loss class: one sentence of its own, then the text of its function."""
    summary, _, rest = (function.__doc__ or "").partition("\n")
    bound = f"The options of `arrayloss.{function.__name__}`, bound: `{name}(...)(logits, target)`."
    return f"{summary}\n\n    {bound}\n{rest}"
