"""The variable of NumPy's tape: NumPy's own functions work on it where they are those of the array API."""

from __future__ import annotations

from typing import Any

from arrayloss._gradient import rules
from arrayloss._gradient.tape import Variable

#: Ufuncs and functions of NumPy under another name than in the array API. In NumPy 2 the others have its names.
_RENAMED = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arctan2": "atan2",
    "concatenate": "concat",
    "cumsum": "cumulative_sum",
    "power": "pow",
    "transpose": "permute_dims",
}
#: What reduces by a ufunc.
_REDUCED = {"add": "sum", "maximum": "max", "minimum": "min", "multiply": "prod"}
#: Functions, no ufuncs, whose arguments mean in NumPy what they mean in the array API.
_SAME = frozenset(
    {
        "all",
        "any",
        "argmax",
        "argmin",
        "broadcast_to",
        "clip",
        "concat",
        "expand_dims",
        "flip",
        "full_like",
        "max",
        "mean",
        "min",
        "moveaxis",
        "ones_like",
        "prod",
        "reshape",
        "squeeze",
        "stack",
        "sum",
        "take_along_axis",
        "where",
        "zeros_like",
    }
)
#: Of these, those whose second argument is the axis, which the array API takes by keyword alone.
_ALONG = frozenset(
    {"all", "any", "argmax", "argmin", "concat", "expand_dims", "flip", "max", "mean", "min", "prod", "stack", "sum"}
)
#: The keywords that these have in both.
_KEYWORDS = frozenset({"axis", "dtype", "keepdims", "max", "min", "shape"})


class NumPyVariable(Variable):
    """A variable whose value is NumPy's. CuPy looks for `__array_ufunc__ = None` on an array, which is the base's."""

    __slots__ = ()

    def __array_ufunc__(self, ufunc: Any, method: str, *arguments: Any, **options: Any) -> Any:
        name = _RENAMED.get(ufunc.__name__, ufunc.__name__)
        out = options.pop("out", None)
        # `array += variable` asks for the result in the array, and binds the name to what is returned.
        in_place = out is not None and len(out) == 1 and out[0] is arguments[0] and not isinstance(out[0], Variable)
        if method != "__call__" or options or (out is not None and not in_place):
            how = "with such arguments" if method == "__call__" else f"by its {method}"
            name = _REDUCED.get(name, name) if method == "reduce" else name
            raise TypeError(_instead(f"numpy.{ufunc.__name__} {how}", name))
        return self._apply(f"numpy.{ufunc.__name__}", name, *arguments)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: dict[str, Any]) -> Any:
        name = _RENAMED.get(function.__name__, function.__name__)
        said = f"numpy.{function.__name__}"
        if name not in _SAME or not _KEYWORDS.issuperset(options):
            raise TypeError(_instead(said, name))
        if len(arguments) == 2 and name in _ALONG:
            arguments, options = arguments[:1], {"axis": arguments[1], **options}
        return self._apply(said, name, *arguments, **options)

    def _apply(self, said: str, name: str, *arguments: Any, **options: Any) -> Any:
        if name not in rules.RULES and name not in rules.CONSTANTS:
            raise TypeError(_instead(said, name))
        try:
            return getattr(self.tape.traced.xp, name)(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"{_instead(said, name)} ({error})") from error


def _instead(said: str, name: str) -> str:
    has_rule = name in rules.RULES or name in rules.CONSTANTS
    what = f"xp.{name}(...)" if has_rule else "functions of xp that have a gradient rule"
    return (
        f"value_and_grad: {said} is not recorded, without which there is no gradient; write {what}, with "
        f"xp = logits.__array_namespace__()"
    )
