"""Where the outputs of executed pages are kept, and how long executing a cell may take."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What the cells of pages import from the checkout.
SOURCES = ("arrayloss", "benchmarks", "docs")
#: Several times what the slowest one takes on two cores: a busy machine is no error.
SECONDS_A_CELL = 900


def key() -> str:
    """Return a digest of all that the outputs follow from beside the cells: sources here, and what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in (".py", ".json") and not name.startswith("docs/_build/"):
                digest.update(f"\0{name}\0".encode() + path.read_bytes())
    installed = {f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}
    digest.update("\0".join(sorted(installed)).encode())
    return digest.hexdigest()[:16]


def folder(parent: Path) -> Path:
    """Return the folder of outputs in `parent`, and remove those of other sources."""
    mine = parent / key()
    for other in parent.glob("*"):
        if other != mine:
            shutil.rmtree(other)
    return mine
