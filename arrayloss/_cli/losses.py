"""`arrayloss losses`: which losses there are, and their options."""

from __future__ import annotations

import argparse
import inspect
import json
from typing import Any

from arrayloss._cli.catalog import (
    call_arrays,
    families,
    family_of,
    find_loss,
    loss_classes,
    options_of,
    required_options,
)
from arrayloss._cli.plain import plain
from arrayloss._core.loss import Loss


def run(args: argparse.Namespace) -> None:
    """Print a line for each loss, by family, or everything about those named."""
    chosen = [find_loss(name) for name in args.names] or loss_classes()
    if args.json:
        print(json.dumps([_described(loss) for loss in chosen], indent=2))
    elif args.names:
        print("\n\n".join(f"{loss.__name__}{_signature(loss)}\n\n{inspect.getdoc(loss)}" for loss in chosen))
    else:
        width = max(len(loss.__name__) for loss in chosen)
        lines = {loss: f"  {loss.__name__:<{width}}  {_summary(loss)}" for loss in chosen}
        print("\n\n".join("\n".join([family, *(lines[x] for x in losses)]) for family, losses in families().items()))


def _summary(loss: type[Loss]) -> str:
    return " ".join((inspect.getdoc(loss) or "").partition("\n\n")[0].split())


def _signature(loss: type[Loss]) -> inspect.Signature:
    """Return the options with their defaults, without types."""
    nothing = inspect.Parameter.empty
    parameters = inspect.signature(loss).parameters.values()
    return inspect.Signature([parameter.replace(annotation=nothing) for parameter in parameters])


def _described(loss: type[Loss]) -> dict[str, Any]:
    required = required_options(loss)
    return {
        "loss": loss.__name__,
        "family": family_of(loss),
        "function": loss.function.__name__,
        "summary": _summary(loss),
        "required": required,
        "options": {name: plain(field.default) for name, field in options_of(loss).items() if name not in required},
        "arrays": call_arrays(loss),
    }
