"""Executes pages, keeps their outputs, and says how long a cell may take."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import sys
import time
from pathlib import Path

import nbclient
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
#: Where outputs are kept, in a folder for all that they follow from.
KEPT = ROOT / "docs" / "_build" / "executed"
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


def folder() -> Path:
    """Return the folder of outputs, made for all processes, and remove those of other sources."""
    mine = KEPT / key()
    for other in KEPT.glob("*"):
        if other != mine:
            shutil.rmtree(other)
    get_cache(mine).list_cache_records()
    return mine


def has_cells(page: Path) -> bool:
    """Whether a page is executed."""
    return is_myst_markdown_notebook(page.read_text(encoding="utf-8"))


def execute(page: Path) -> tuple[NotebookNode, float]:
    """Execute a page in its folder; return it with its outputs, and how many seconds it took. An error is raised."""
    began = time.perf_counter()
    # Times would be metadata of the cells, by which outputs are found again.
    notebook = nbclient.execute(_read(page), cwd=page.parent, timeout=SECONDS_A_CELL, record_timing=False)
    return notebook, time.perf_counter() - began


def keep(page: Path, outputs: Path) -> None:
    """Execute a page unless its outputs are kept already, and keep them where Sphinx looks for them."""
    cache = get_cache(outputs)
    try:
        cache.match_cache_notebook(_read(page))
    except KeyError:
        notebook, seconds = execute(page)
        bundle = CacheBundleIn(notebook, str(page), data={"execution_seconds": seconds})
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def _read(page: Path) -> NotebookNode:
    return read_myst_markdown_notebook(page.read_text(encoding="utf-8"), MdParserConfig(), path=page)
