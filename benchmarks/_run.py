"""What the measuring scripts share: their options, the processes that measure, and the report."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import _timing

LIBRARIES = ("numpy", "torch", "jax")
PACKAGES = (*LIBRARIES, "kornia", "monai", "optax", "segmentation-models-pytorch")
Record = dict[str, Any]


def options(description: str | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="parts of the names of losses; all without")
    parser.add_argument("--library", choices=LIBRARIES, action="append", help="may be given more than once")
    parser.add_argument("--rounds", type=int, default=11, help="how often each contestant is timed")
    parser.add_argument("--json", type=Path, help="file to write the results into")
    parser.add_argument("--quick", action="store_true", help="every row on small inputs, once: tries, does not measure")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.library = chosen.library or list(LIBRARIES)
    return chosen


def wanted(options: argparse.Namespace, name: str) -> bool:
    """Return whether a row was asked for."""
    return not options.names or any(part.lower() in name.lower() for part in options.names)


def child(script: str, job: list[str], settings: dict[str, str]) -> list[Record]:
    """Run this script for one job in a process of its own; return its records."""
    command = [sys.executable, script, *sys.argv[1:], "--job", json.dumps(job)]
    environment = {**os.environ, **_timing.ONE_THREAD, **settings}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    return [json.loads(line) for line in done.stdout.splitlines()]


def answer(records: Iterable[Record]) -> int:
    """Hand the records of a job to the process that asked for it."""
    for record in records:
        print(json.dumps(record), flush=True)
    return 0


def report(options: argparse.Namespace, records: list[Record], tables: Callable[[list[Record]], str]) -> int:
    """Print the tables, write the file, and return the exit status: 1 where a row could not be measured."""
    print(tables(records))
    if options.json:
        versions = {package: importlib.metadata.version(package) for package in PACKAGES}
        machine = {"machine": platform.machine(), "python": platform.python_version(), **versions}
        lines = ",\n".join(json.dumps(record) for record in records)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(f'{{"machine": {json.dumps(machine)},\n"records": [\n{lines}\n]}}\n')
    return int(any("error" in record for record in records))


def progress(*words: object) -> None:
    """Say on stderr what is being measured."""
    print(*words, file=sys.stderr, flush=True)
