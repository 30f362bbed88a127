"""Executes notebooks and prints how long each took: `python docs/_shared/execute.py docs/notebooks/*.md`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from executed import execute, has_cells

DOCS = Path(__file__).resolve().parent.parent


def main() -> None:
    """Execute the files named on the command line, leaving out Markdown that is no notebook."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(DOCS), os.environ.get("PYTHONPATH")]))
    for path in map(Path, sys.argv[1:]):
        if has_cells(path):
            print(f"{path}: {execute(path)[1]:.1f} s", flush=True)


if __name__ == "__main__":
    main()
