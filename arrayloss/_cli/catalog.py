"""The losses by name, and their options from text."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

import arrayloss
from arrayloss._cli import UserError, one_line
from arrayloss._core.loss import Loss

#: The families of losses, in the order in which they are listed, and the modules of each.
_FAMILIES: dict[str, tuple[str, ...]] = {
    "Classification": ("cross_entropy", "binary", "focal", "robust", "margin"),
    "Hard pixels": ("hard_mining",),
    "Regions and their overlap": ("dice", "tversky", "lovasz", "connectivity"),
    "Boundaries": ("boundary", "distance"),
    "Relations between pixels": ("relation",),
    "Auxiliary heads": ("heads",),
    "Distillation": ("divergence",),
    "Regression": ("regression", "robust_regression", "likelihood"),
    "Mixtures": ("mixed",),
}


def loss_classes() -> list[type[Loss]]:
    """Return every public loss class, in alphabetical order."""
    public = [getattr(arrayloss, name) for name in sorted(arrayloss.__all__)]
    return [x for x in public if isinstance(x, type) and issubclass(x, Loss) and x is not Loss]


def families() -> dict[str, list[type[Loss]]]:
    """Return the loss classes by family; a module that no family lists is one, by its docstring, and comes last."""
    found: dict[str, list[type[Loss]]] = {family: [] for family in _FAMILIES}
    for loss in loss_classes():
        found.setdefault(family_of(loss), []).append(loss)
    return {family: losses for family, losses in found.items() if losses}


def family_of(loss: type[Loss]) -> str:
    """Return the name of the family of a loss class."""
    module = sys.modules[loss.function.__module__]
    listed = (family for family, modules in _FAMILIES.items() if module.__name__.rpartition(".")[2] in modules)
    return next(listed, (module.__doc__ or module.__name__).partition("\n")[0].rstrip("."))


def options_of(loss: type[Loss]) -> dict[str, Field[Any]]:
    """Return the options of a loss class by name."""
    return {field.name: field for field in fields(loss)}  # type: ignore[arg-type]  # every subclass is a dataclass


def required_options(loss: type[Loss]) -> list[str]:
    """Return the names of the options without a default."""
    return [name for name, field in options_of(loss).items() if field.default is MISSING]


def call_arrays(loss: type[Loss]) -> list[str]:
    """Return the names of the arrays a call takes beside logits and target, such as `pixel_weight`."""
    parameters = list(inspect.signature(loss.function).parameters)
    # A random generator is passed with a call, too, but is no array.
    return [name for name in parameters[2:] if name not in options_of(loss) and name != "rng"]


def brief(loss: Any) -> str:
    """Return a loss as code that makes it, without options at their defaults; so are the losses of a mixture."""
    changed = [
        (name, value)
        for name, field in options_of(type(loss)).items()
        if (value := getattr(loss, name)) != field.default
    ]
    given = [f"{k}=[{', '.join(map(brief, v))}]" if k == "losses" else f"{k}={v!r}" for k, v in changed]
    return f"{type(loss).__name__}({', '.join(given)})"


def _key(name: str) -> str:
    """Return what `DiceLoss`, `dice_loss`, `dice-loss` and `dice` have in common."""
    return name.lower().replace("_", "").replace("-", "").removesuffix("loss")


def find_loss(name: str) -> type[Loss]:
    """Return the loss class of a name as a user may write it."""
    known = {_key(loss.__name__): loss for loss in loss_classes()}
    if _key(name) in known:
        return known[_key(name)]
    close = difflib.get_close_matches(_key(name), known, n=1)
    hint = f", did you mean {known[close[0]].__name__}?" if close else ""
    raise UserError(f"no loss {name!r}{hint} (the losses: {', '.join(loss.__name__ for loss in known.values())})")


def make_loss(loss: type[Loss], texts: Sequence[str]) -> Loss:
    """Return a loss object from options written as `name=value`."""
    options: dict[str, Any] = {}
    for name, text in split_pairs(texts, "--option"):
        if name not in options_of(loss):
            raise UserError(_unknown_option(loss, name))
        options[name] = _losses(text) if name == "losses" else _literal(text)
    missing = [name for name in required_options(loss) if name not in options]
    if missing:
        raise UserError(f"{loss.__name__} needs {' and '.join(f'--option {name}=...' for name in missing)}")
    try:
        return loss(**options)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(one_line(error)) from error


def split_pairs(texts: Sequence[str], flag: str) -> list[tuple[str, str]]:
    """Return `name=value` texts as pairs, each name once."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UserError(f"{flag} is {text!r}, expected NAME=VALUE")
        if name.strip() in dict(pairs):
            raise UserError(f"{flag} {name.strip()} is given twice")
        pairs.append((name.strip(), value))
    return pairs


def _literal(text: str) -> Any:
    """Return a Python literal as its value and anything else as the text it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _losses(text: str) -> list[Loss]:
    """Return the losses of a mixture from their names, or from the code that makes them where they have options."""
    if "(" not in text:
        return [make_loss(find_loss(name.strip()), ()) for name in text.split(",")]
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        parts = tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree]
        return [_called_loss(part) for part in parts]
    except (SyntaxError, MemoryError, RecursionError) as error:
        expected = "cross_entropy,dice or CrossEntropyLoss(), DiceLoss(smooth=1.0)"
        raise UserError(f"--option losses is {text!r}, expected losses such as {expected}") from error


def _called_loss(node: ast.expr) -> Loss:
    """Return the loss that code like `DiceLoss(smooth=1.0)` makes, of options by name and without running it."""
    if isinstance(node, ast.Name):
        return make_loss(find_loss(node.id), ())
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise SyntaxError(ast.unparse(node))
    return make_loss(find_loss(node.func.id), [f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords])


def _unknown_option(loss: type[Loss], name: str) -> str:
    options = options_of(loss)
    close = difflib.get_close_matches(name, options, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    listed = ", ".join(n if field.default is MISSING else f"{n}={field.default!r}" for n, field in options.items())
    arrays = call_arrays(loss)
    more = f"; with --array: {', '.join(arrays)}" if arrays else ""
    return f"{loss.__name__} has no option {name!r}{hint} (its options: {listed}{more})"
