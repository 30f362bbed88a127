"""The paragraphs that docstrings share are those that stand once, in `docs/_shared/paragraphs.py`."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import arrayloss as al

SCRIPT = Path(__file__).parents[1] / "docs" / "_shared" / "docstrings.py"
FUNCTIONS = sorted(x.function.__name__ for x in vars(al).values() if isinstance(x, type) and hasattr(x, "function"))


def run(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_script_changes_nothing() -> None:
    done = run(SCRIPT, "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_shared_paragraph_that_was_edited_or_left_out_comes_back(tmp_path: Path) -> None:
    """The check fails with the command to run, which mends both."""
    losses, shared = tmp_path / "arrayloss" / "losses", tmp_path / "docs" / "_shared"
    for folder in (losses, shared):
        folder.mkdir(parents=True)
    for name in (SCRIPT.name, "paragraphs.py"):
        (shared / name).write_text((SCRIPT.parent / name).read_text(encoding="utf-8"), encoding="utf-8")
    source = Path(inspect.getfile(al.MSELoss)).read_text(encoding="utf-8")
    index = re.search(r" {4}ignore_index : int or None\n {8}.*\n", source)
    assert index is not None
    edited = source.replace(index[0], "").replace("Of a real floating or integer dtype.", "Anything.")
    (losses / "regression.py").write_text(edited, encoding="utf-8")
    failed = run(shared / SCRIPT.name, "--check")
    assert failed.returncode == 1
    assert failed.stdout.startswith("regression.py: ")
    assert failed.stdout.endswith("run: python docs/_shared/docstrings.py\n")
    assert run(shared / SCRIPT.name).returncode == 0
    assert (losses / "regression.py").read_text(encoding="utf-8") == source


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_has_a_paragraph(name: str) -> None:
    """In the order of the signature, but for those that no loss object takes."""
    function = getattr(al, name)
    parameters = inspect.getdoc(function).partition("\nParameters\n")[2].partition("\nReturns\n")[0]
    assert set(re.findall(r"^([\w, ]+) : ", parameters, re.MULTILINE)) >= set(inspect.signature(function).parameters)
