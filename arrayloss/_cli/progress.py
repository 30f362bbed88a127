"""One line on the terminal about work that takes long; nothing is written where standard error is no terminal."""

from __future__ import annotations

import shutil
import sys

_BAR = 24


def show(text: str, done: int = 0, total: int = 0, detail: str = "") -> None:
    """Write what is being done over the line shown before, with a bar where there is a total."""
    if not sys.stderr.isatty():
        return
    filled = _BAR * done // total if total else 0
    bar = f" [{'#' * filled:<{_BAR}}] {done}/{total}" if total else ""
    # A line that wraps could not be overwritten.
    width = shutil.get_terminal_size().columns - 1
    line = f"{text}{bar} {detail}"[:width]
    print(f"\r{line:<{width}}", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Wipe the line."""
    if sys.stderr.isatty():
        print(f"\r{'':<{shutil.get_terminal_size().columns - 1}}\r", end="", file=sys.stderr, flush=True)
