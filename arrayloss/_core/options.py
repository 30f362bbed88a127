"""Checks of options: every option name means one thing in the whole package, so its check is written once, here.

The decorator of the functions runs them on what a call gives, the classes when an object is made. A check returns the
option as plain Python data (numbers become `float` or `int`, sequences become tuples), so that no dtype of an option
ever promotes a result. Defaults are checked once, when a function is defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from inspect import Parameter
from numbers import Integral, Real
from typing import Any

from arrayloss._core.shown import shown
from arrayloss._machines.namespace import library_name

REDUCTIONS = ("mean", "sum", "none")
Check = Callable[[str, str, Any], Any]


def _fail(function: str, option: str, value: object, expected: str, error: type[Exception] = ValueError) -> Exception:
    return error(f"{function}: {option} is {shown(value)}, expected {expected}")


def _number(low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Check:
    """Return a check for a finite real number in [low, high], or in (low, high] with `open_low`."""
    if low == -math.inf:
        expected = "a finite number" if high == math.inf else f"a finite number of at most {high:g}"
    elif high == math.inf:
        expected = f"a finite number {'above' if open_low else 'of at least'} {low:g}"
    else:
        expected = f"a number in {'(' if open_low else '['}{low:g}, {high:g}]"

    def check_number(function: str, option: str, value: Any) -> float:
        # The plain types come first: asking the abstract ones costs more than the rest of the check.
        if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
            raise _fail(function, option, value, expected, TypeError)
        number = float(value)
        # Comparisons alone: a number that torch.compile holds to be variable can be compared, not asked.
        if not (low <= number <= high and -math.inf < number < math.inf) or (open_low and number == low):
            raise _fail(function, option, value, expected)
        return number

    return check_number


def _integer(low: int | None = None) -> Check:
    expected = "an integer" if low is None else f"an integer of at least {low}"

    def check_integer(function: str, option: str, value: Any) -> int:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise _fail(function, option, value, expected, TypeError)
        if low is not None and value < low:
            raise _fail(function, option, value, expected)
        return int(value)

    return check_integer


def _optional(inner: Check) -> Check:
    def check_optional(function: str, option: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return inner(function, option, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}, or None") from None

    return check_optional


def _flag(function: str, option: str, value: Any) -> bool:
    if value is not True and value is not False:
        raise _fail(function, option, value, "True or False", TypeError)
    return bool(value)


def _choice(*choices: str) -> Check:
    expected = "one of " + ", ".join(map(repr, choices))

    def check_choice(function: str, option: str, value: Any) -> str:
        if value not in choices:
            raise _fail(function, option, value, expected)
        return str(value)

    return check_choice


def _power(function: str, option: str, value: Any) -> int:
    if type(value) is not int or value not in (1, 2):
        raise _fail(function, option, value, "1 or 2")
    return value


_weight_number = _number()


def _weights(function: str, option: str, value: Any) -> Any:
    """Weights: an array is left alone (reading one may cost a synchronisation), sequences become tuples of floats."""
    if library_name(value) is not None:
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) == 0:
            raise _fail(function, option, value, "at least one weight")
        return tuple(
            _weights(function, option, item)
            if isinstance(item, Sequence) and not isinstance(item, str)
            else _weight_number(function, option, item)
            for item in value
        )
    raise _fail(function, option, value, "None, or a sequence or array of finite numbers", TypeError)


def _dynamic_or(inner: Check) -> Check:
    def check_dynamic(function: str, option: str, value: Any) -> Any:
        if isinstance(value, str):
            return _choice("dynamic")(function, option, value)
        return inner(function, option, value)

    return check_dynamic


def _number_or_weights(function: str, option: str, value: Any) -> Any:
    if isinstance(value, (int, float)) or (isinstance(value, Real) and library_name(value) is None):
        return _weight_number(function, option, value)
    return _weights(function, option, value)


def _classes(function: str, option: str, value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        return str(_choice("present", "all")(function, option, value))
    if not isinstance(value, Sequence) or not value:
        raise _fail(function, option, value, '"present", "all" or a list of classes', TypeError)
    classes = tuple(_integer(0)(function, option, item) for item in value)
    if len(set(classes)) < len(classes):
        raise _fail(function, option, value, "each class once")
    return classes


def _losses(function: str, option: str, value: Any) -> tuple[Any, ...]:
    losses = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if not losses or not all(callable(loss) for loss in losses):
        raise _fail(
            function, option, value, "a non-empty list of losses, each called as loss(logits, target)", TypeError
        )
    return losses


def _coefficients(function: str, option: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _fail(function, option, value, "a list of numbers, one per loss", TypeError)
    return tuple(_number()(function, option, item) for item in value)


def _spacing(function: str, option: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _fail(function, option, value, "a list of numbers above 0, one per spatial dimension", TypeError)
    return tuple(_number(0, open_low=True)(function, option, item) for item in value)


_CHECKS: dict[str, Check] = {
    "activation": _optional(_choice("softmax", "sigmoid")),
    "axis": _integer(),
    "base_temperature": _number(0, open_low=True),
    "batch": _flag,
    "bce_weight": _number(0, 1),
    "beta": _number(0),
    "border": _integer(0),
    "calculate_weights": _flag,
    "classes": _classes,
    "clip": _number(0, 1),
    "coef": _coefficients,
    "delta": _number(0, open_low=True),
    "edge_label": _flag,
    "edge_threshold": _number(),
    "eps": _number(0),
    "epsilon": _number(0, 1e9),
    "full": _flag,
    "gamma": _number(0),
    "gamma_neg": _number(0),
    "gamma_pos": _number(0),
    "ignore_index": _optional(_integer()),
    "include_background": _flag,
    "label_smoothing": _number(0, 1),
    "lambda_bce": _number(0),
    "lambda_ce": _number(0),
    "lambda_dice": _number(0),
    "log_input": _flag,
    "log_zero": _number(high=0),
    "loss_th": _number(),
    "losses": _losses,
    "max_components": _integer(1),
    "max_samples": _integer(1),
    "max_views": _integer(1),
    "min_K": _integer(0),
    "min_kept": _integer(0),
    "per_image": _flag,
    "pool": _choice("avg", "max"),
    "pos_weight": _optional(_dynamic_or(_number_or_weights)),
    "q": _number(0, 1, open_low=True),
    "quantile": _number(0, 1),
    "radius": _number(0),
    "reduction": _choice(*REDUCTIONS, "parts"),
    "signed": _flag,
    "smooth": _number(0),
    "spacing": _optional(_spacing),
    "squared": _flag,
    "stride": _integer(1),
    "tau": _number(0, open_low=True),
    "temperature": _number(0, open_low=True),
    "thresh": _number(0, 1),
    "threshold": _number(0, 1),
    "top_k_percent_pixels": _number(0, 1),
    "upper_bound": _number(0),
    "weight": _optional(_weights),
    "weight_type": _choice("square", "simple", "uniform"),
}
#: Losses whose mean is no total over a weight, and which have no two parts of it to give.
_WITHOUT_PARTS = (
    "bce_dice_loss",
    "bootstrapped_cross_entropy_loss",
    "detail_aggregate_loss",
    "dice_ce_loss",
    "dice_loss",
    "dual_task_loss",
    "generalized_dice_loss",
    "jaccard_loss",
    "log_cosh_dice_loss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "pixel_contrast_loss",
    "rmi_loss",
    "semantic_connectivity_loss",
    "tversky_loss",
)
#: Where a loss reads an option in its own way, or alone has it.
_SPECIAL: dict[tuple[str, str], Check] = {
    ("bce_loss", "weight"): _optional(_dynamic_or(_weights)),
    ("distance_map", "classes"): _integer(1),
    ("distillation_loss", "alpha"): _number(0, 1),
    ("focal_loss", "alpha"): _optional(_number_or_weights),
    ("gaussian_nll_loss", "eps"): _number(0, open_low=True),
    ("hausdorff_dt_loss", "alpha"): _number(0, open_low=True),
    ("mixed_loss", "reduction"): _optional(_choice(*REDUCTIONS)),
    ("multi_margin_loss", "margin"): _number(),
    ("multi_margin_loss", "p"): _power,
    ("poly_loss", "epsilon"): _number(-1),
    ("rmi_loss", "radius"): _integer(1),
    ("sigmoid_focal_loss", "alpha"): _optional(_number(0, 1)),
    ("symmetric_cross_entropy_loss", "alpha"): _number(0),
    ("symmetric_cross_entropy_loss", "beta"): _number(0),
    ("tversky_loss", "alpha"): _number(0),
    ("tversky_loss", "beta"): _number(0),
    ("tversky_loss", "gamma"): _number(0, open_low=True),
    **{(function, "reduction"): _choice(*REDUCTIONS) for function in _WITHOUT_PARTS},
}


def has_check(option: str) -> bool:
    """Whether the package has an option of that name."""
    return option in _CHECKS or any(option == name for _, name in _SPECIAL)


def check(function: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make the options that were given plain data, where they stand, and return them.

    Those by other names, arrays of a call and options of losses of a user's own, are left as they are.

    Raises
    ------
    TypeError, ValueError
        An option is of the wrong kind or out of its range; the message names the function, the option, what came
        and what would fit.
    """
    checks, defaults = _REGISTERED.get(function, _OTHERS)
    for option, value in options.items():
        if defaults.get(option, checks) is not value:
            options[option] = checks.get(option, _unchecked)(function, option, value)
    return options


#: For each function of the package, the checks of its arguments and their defaults.
_REGISTERED: dict[str, tuple[dict[str, Check], dict[str, Any]]] = {}
_OTHERS: tuple[dict[str, Check], dict[str, Any]] = (_CHECKS, {})


def register(function: str, parameters: Collection[Parameter]) -> None:
    """Check the defaults of a function, which no call does: they must be plain data as they stand."""
    checks = {p.name: _SPECIAL.get((function, p.name)) or _CHECKS.get(p.name, _unchecked) for p in parameters}
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    for option, default in defaults.items():
        if checks[option](function, option, default) is not default:
            raise _fail(function, option, default, "a default that is plain data as it stands")
    _REGISTERED[function] = checks, defaults


def _unchecked(function: str, option: str, value: Any) -> Any:
    return value
