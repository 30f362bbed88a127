"""Executes notebooks and prints how long each took: `python docs/_shared/execute.py docs/notebooks/*.md`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbclient
from executed import SECONDS_A_CELL
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook
from myst_parser.config.main import MdParserConfig

DOCS = Path(__file__).resolve().parent.parent


def execute(path: Path) -> float:
    """Execute a notebook in its folder, and return how many seconds it took; an exception in a cell is raised."""
    text = path.read_text(encoding="utf-8")
    notebook = read_myst_markdown_notebook(text, MdParserConfig(), path=path)
    began = time.perf_counter()
    nbclient.execute(notebook, cwd=path.parent, timeout=SECONDS_A_CELL, kernel_name="python3")
    return time.perf_counter() - began


def main() -> None:
    """Execute the files named on the command line, leaving out Markdown that is no notebook."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DOCS), os.environ.get("PYTHONPATH")]))
    for path in map(Path, sys.argv[1:]):
        if is_myst_markdown_notebook(path.read_text(encoding="utf-8")):
            print(f"{path}: {execute(path):.1f} s", flush=True)


if __name__ == "__main__":
    main()
