"""Runs the Python blocks of pages that are not notebooks, so that they cannot rot."""

from __future__ import annotations

import re
from pathlib import Path


def run(page: Path, *, without: str) -> None:
    """Run each Python block of a Markdown page by itself, but for those that mention `without`."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        if without not in found[1]:
            # Blank lines in front give a traceback the line numbers of the page.
            line = text[: found.start(1)].count("\n")
            exec(compile("\n" * line + found[1], str(page), "exec"), {})
