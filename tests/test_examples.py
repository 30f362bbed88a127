"""The examples, as a user runs them: each ends with a claim about what it did, and fails where that is not so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from processes import environment, python

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
#: The libraries of each example beside scikit-learn, from which all take their data.
NEEDS: dict[str, tuple[str, ...]] = {
    "jax_equinox.py": ("jax", "equinox", "optax"),
    "jax_sharding.py": ("jax",),
    "keras_loss.py": ("keras",),
    "sklearn_scorer.py": (),
    "torch_ddp.py": ("torch",),
    "torch_loop.py": ("torch",),
    "torch_skorch.py": ("torch", "skorch"),
}
RUNS = [
    *(
        pytest.param(name, {}, id=name, marks=() if needs else pytest.mark.once)
        for name, needs in NEEDS.items()
        if name != "keras_loss.py"
    ),
    *(pytest.param("keras_loss.py", {"KERAS_BACKEND": name}, id=f"keras_loss.py-{name}") for name in ("jax", "torch")),
]


def need(*modules: str) -> None:
    missing = [name for name in ("sklearn", *modules) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}")


@pytest.mark.parametrize(("name", "variables"), RUNS)
def test_example(name: str, variables: dict[str, str], tmp_path: Path) -> None:
    need(*NEEDS[name], *variables.values())
    # JAX compiles as it does by default: one example is about what devices exchange in such programs.
    variables = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": "", **variables}
    done = python(str(FOLDER / name), cwd=tmp_path, env=environment(**variables))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.once
def test_example_fails_with_its_claim(tmp_path: Path) -> None:
    need()
    code = (
        "import runpy, sys, arrayloss\n"
        "arrayloss.CrossEntropyLoss = arrayloss.LovaszSoftmaxLoss\n"
        f"runpy.run_path({str(FOLDER / 'sklearn_scorer.py')!r}, run_name='__main__')\n"
    )
    # Its second half gives an option that the wrong loss does not have; the claim of the first comes before that.
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert "the scorer is not scikit-learn's log loss" in done.stderr


def test_every_example_is_run_and_shown() -> None:
    assert sorted(NEEDS) == sorted(path.name for path in FOLDER.glob("[!_]*.py"))
    guide = (ROOT / "docs" / "guides" / "integrations.md").read_text(encoding="utf-8")
    assert [name for name in NEEDS if f"../../examples/{name}\n" not in guide] == []
