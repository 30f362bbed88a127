"""`arrayloss backends`: what is installed, what runs here, and what is only checked."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

import arrayloss
from arrayloss._cli.catalog import loss_classes
from arrayloss._cli.libraries import NAMES, find
from arrayloss._core import capabilities


def run(args: argparse.Namespace) -> None:
    """Print what is known of each array library."""
    if args.table:
        if args.json:
            print(json.dumps(_table(), indent=2))
        else:
            _print_table()
        return
    found = [find(name) for name in NAMES]
    if args.json:
        backends = {
            f.name: {k: v for k, v in asdict(f).items() if k != "name"} | {"runs": bool(f.devices)} for f in found
        }
        print(json.dumps({"arrayloss": arrayloss.__version__, "backends": backends}, indent=2))
        return
    print(f"arrayloss {arrayloss.__version__}\n")
    rows = [(f.name, f.version or "-", ", ".join(f.devices) or "-", f.note) for f in found]
    rows.insert(0, ("library", "version", "devices", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip())


def _table() -> dict[str, Any]:
    """Return which loss works in which way on which library: true, or the reason why not."""
    return {
        library: {
            "dtypes": capabilities.DTYPES[library],
            "note": capabilities.UNTRIED.get(library, ""),
            "losses": {loss: {way: _works(loss, library, way) for way in ways} for loss in _names()},
        }
        for library, ways in capabilities.WAYS.items()
    }


def _works(loss: str, library: str, way: str) -> bool | str:
    limit = capabilities.limit(loss, library, way)
    return limit.reason if limit else True


def _names() -> list[str]:
    return [loss.__name__ for loss in loss_classes()]


def _print_table() -> None:
    """Print which loss works in which way on which library."""
    losses = _names()
    width = max(map(len, losses))
    for library, ways in capabilities.WAYS.items():
        note = f"  ({capabilities.UNTRIED[library]})" if library in capabilities.UNTRIED else ""
        print(f"{library}: {', '.join(capabilities.DTYPES[library])}{note}")
        print(f"  {'':{width}}  {'  '.join(ways)}")
        for loss in losses:
            cells = ["x" if _works(loss, library, way) is True else "-" for way in ways]
            print(f"  {loss:{width}}  {'  '.join(f'{c:{len(w)}}' for c, w in zip(cells, ways, strict=True))}".rstrip())
        print()
    if not capabilities.LIMITS:
        print("x: works, in every dtype listed; no exceptions")
    for found in capabilities.LIMITS:
        print(f"-: {found.loss or 'every loss'}, {found.library}, {found.way}: {found.reason}")
