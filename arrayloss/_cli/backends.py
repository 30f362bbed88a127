"""`arrayloss backends`: what is installed, what runs here, and what is only checked."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import arrayloss
from arrayloss._cli.libraries import NAMES, find


def run(args: argparse.Namespace) -> None:
    """Print what is known of each array library."""
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
