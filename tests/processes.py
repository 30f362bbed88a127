"""Python processes of their own, for what a user runs from a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import arrayloss

#: What else is set in processes of their own, where JAX shall compile fast rather than well.
JAX = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def environment(*first: Path, **variables: str) -> dict[str, str]:
    """Return the variables of a process that finds this arrayloss, and modules in `first` before all others."""
    path = [*map(str, first), str(Path(arrayloss.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    # A thread for each process: they share the cores with those of the other tests.
    return {**os.environ, **JAX, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, path)), **variables}


def python(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments in a folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
