# /// script
# dependencies = ["nox"]
# ///
"""The checks of arrayloss.

`nox` runs those that `nox --list` marks with *, `nox -s torch` one. What follows `--` goes to pytest:
`nox -s tests -- -k dice`.

Environments are kept between runs, except under CI; `nox --reuse-venv=never` makes them anew. The one that sessions
share, `.nox/torch-and-jax`, is kept until it is deleted.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "never" if os.environ.get("CI") else "yes"

# What a process compiles to bytecode the next one finds, also for those who want none beside their sources: importing
# torch and JAX takes 4 seconds for 10, in a hundred processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PYTHONPYCACHEPREFIX"] = str(Path(".nox", "bytecode").absolute())

PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
# Pinned, because a newer torch than the one at hand is a download of gigabytes.
TORCH = "torch==2.13.0"
# What is also tested with the fast paths switched off: array-api-strict runs all tests on the same portable kernels.
PORTABLE = ("tests/test_golden.py", "tests/test_contract.py", "-k", "(golden or value_and_gradient) and not compiled")


def group(*names: str) -> tuple[str, ...]:
    """Return what is in dependency groups of pyproject.toml, which the pip of a fresh environment may not know."""
    return nox.project.dependency_groups(PYPROJECT, *names)


def install(session: nox.Session, *what: str) -> None:
    """Install without compiling to bytecode: most of these libraries is never imported, and what is compiles itself."""
    session.install("--no-compile", *what)


def shared(session: nox.Session, *what: str) -> Path:
    """Install torch, JAX and more into the environment of all sessions that want both; return where its programs are.

    Those sessions are declared without one of their own: installing the two takes longer than some of what is done.
    """
    folder = Path(".nox", "torch-and-jax").absolute()
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if not programs.is_dir():
        session.run(sys.executable, "-m", "virtualenv", "--quiet", folder)
    installed = (TORCH, *EXTRAS["jax"], *what)
    session.run(programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", *installed)
    return programs


#: A thread of torch or BLAS in each of two processes: with more of them they wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
#: What pages of the documentation are executed with: most of the time of JAX is that of its compiler.
EXECUTED = {**ONE_THREAD, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def pytest(session: nox.Session, *args: str | Path, programs: Path = Path(), **env: str) -> None:
    """Run pytest on two processes; one that is done takes over from the other."""
    of = programs / "pytest"
    session.run(of, "-n", "2", "--dist", "worksteal", *args, *session.posargs, env={**ONE_THREAD, **env})


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, lint and the directions of imports, and the project's files against the Scientific Python guide."""
    install(session, *group("lint"), "-e", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")
    session.run("repo-review", ".")


@nox.session(venv_backend="none")
def typing(session: nox.Session) -> None:
    """Check the package's types, then what a user's type checker sees of the installed package."""
    programs = shared(session, *group("typing"), ".")
    session.run(programs / "mypy")
    user_files = [path.resolve() for path in sorted(Path("tests/typing").glob("*.py"))]
    # With the package's options and its cache, by which torch and JAX are known already.
    how = ("--config-file", Path("pyproject.toml").resolve(), "--cache-dir", Path(".mypy_cache").resolve())
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
        session.run(programs / "mypy", *how, *user_files)


@nox.session
def tests(session: nox.Session) -> None:
    """Test on NumPy and array-api-strict, with no other array library to be had; then without the fast paths."""
    install(session, *group("test"), "-e", ".")
    others = "('cupy', 'jax', 'torch')"
    session.run(
        "python", "-c", f"from importlib.util import find_spec; assert not [m for m in {others} if find_spec(m)]"
    )
    pytest(session, "--backends", "numpy,strict")
    pytest(session, *PORTABLE, "--backends", "numpy", ARRAYLOSS_PORTABLE="1")


@nox.session
def torch(session: nox.Session) -> None:
    """Test on torch, formulas as Triton kernels among it, then without the fast paths."""
    install(session, TORCH, *group("test", "triton"), "-e", ".")
    pytest(session, "--backends", "torch")
    pytest(session, *PORTABLE, "--backends", "torch", ARRAYLOSS_PORTABLE="1")


@nox.session(default=False)
def formulas(session: nox.Session) -> None:
    """Hold formulas in float32, all of them or those named after `--`, against float64 at all 2^32 scores: hours."""
    install(session, *group("test"), "-e", ".")
    session.run("python", "tests/machines/formula_sweep.py", *session.posargs, env=ONE_THREAD)


@nox.session
def jax(session: nox.Session) -> None:
    """Test on JAX, then what sorts without the fast paths."""
    install(session, *EXTRAS["jax"], *group("test"), "-e", ".")
    pytest(session, "--backends", "jax")
    # XLA's own sort is also what `minimums` tests, with a JAX that cannot call NumPy back.
    pytest(session, *PORTABLE[:2], "--backends", "jax", "-k", "Lovasz and not Mixed", ARRAYLOSS_PORTABLE="1")


@nox.session
def minimums(session: nox.Session) -> None:
    """Test values and gradients on the lowest NumPy, array-api-compat and JAX that pyproject.toml admits."""
    lowest = [bound.replace(">=", "==") for bound in PYPROJECT["project"]["dependencies"] + EXTRAS["jax"]]
    install(session, *lowest, *group("test"), "-e", ".")
    files = ("tests/test_golden.py", "tests/test_contract.py")
    which = "(golden and numpy) or (value_and_gradient and float32)"
    pytest(session, *files, "--backends", "numpy,jax", "-k", which)


@nox.session(venv_backend="none")
def peers(session: nox.Session) -> None:
    """Hold values and gradients against torch.nn, optax, MONAI, kornia and segmentation_models_pytorch."""
    programs = shared(session, *group("test", "peers"), "-e", ".")
    # Where a library is missing its tests skip themselves: here none may be.
    session.run(
        programs / "python",
        "-c",
        "import expecttest, kornia, monai, optax; from importlib.util import find_spec as find; "
        "assert find('segmentation_models_pytorch')",
    )
    files = sorted(Path("tests/peers").glob("test_*.py"))
    pytest(session, *files, "--backends", "numpy,torch,jax", programs=programs)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist; install and run each far from the checkout."""
    install(session, *group("build"))
    check = (
        "import arrayloss, importlib.metadata, pathlib, sys; "
        "root = pathlib.Path(arrayloss.__file__).parent; "
        "assert root.is_relative_to(sys.prefix), root; "
        "assert (root / 'py.typed').is_file(); "
        "assert importlib.metadata.version('arrayloss') == arrayloss.__version__"
    )
    with tempfile.TemporaryDirectory() as elsewhere:
        dist = Path(elsewhere) / "dist"
        session.run("python", "-m", "build", "--outdir", dist)
        session.run("twine", "check", "--strict", *dist.iterdir())
        session.run("check-wheel-contents", dist)
        with session.chdir(elsewhere):
            for archive in sorted(dist.iterdir()):
                session.log(f"installing {archive.name}")
                session.run(sys.executable, "-m", "virtualenv", "--quiet", "--clear", "installed", external=True)
                python = Path("installed", "Scripts" if os.name == "nt" else "bin", "python").absolute()
                session.run(python, "-m", "pip", "install", "--quiet", archive, external=True)
                session.run(python, "-c", check, external=True)
                session.run(python, "-m", "arrayloss", "backends", external=True)
                session.run(python.with_name("arrayloss"), "losses", external=True)


@nox.session(default=False)
def examples(session: nox.Session) -> None:
    """Run the examples, with the libraries they integrate."""
    install(session, TORCH, *EXTRAS["jax"], *group("test", "examples"), "-e", ".")
    pytest(session, "tests/test_examples.py")


@nox.session(venv_backend="none")
def doctest(session: nox.Session) -> None:
    """Run the examples in the docstrings."""
    programs = shared(session, *group("test"), "-e", ".")
    # Importing CuPy's kernels takes CuPy; they have no examples.
    pytest(session, "--doctest-modules", "--ignore=arrayloss/_machines/cupy", "arrayloss", programs=programs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build/html, its pages and notebooks executed, warnings being errors."""
    programs = shared(session, "-e", ".[docs]")
    how = ("-W", "--keep-going", *session.posargs)
    session.run(programs / "sphinx-build", *how, "docs", "docs/_build/html", env=EXECUTED)


@nox.session(default=False, venv_backend="none")
def notebooks(session: nox.Session) -> None:
    """Execute the notebooks of the documentation alone, or the pages named after `--`."""
    programs = shared(session, "-e", ".[docs]")
    pages = session.posargs or sorted(map(str, Path("docs/notebooks").glob("*.md")))
    session.run(programs / "python", "docs/_shared/execute.py", *pages, env=EXECUTED)


@nox.session
def cupy(session: nox.Session) -> None:
    """Check every call against CuPy's interface; run the tests on CuPy where there is a GPU."""
    install(session, *EXTRAS["cupy"], *group("test"), "-e", ".")
    pytest(session, "-m", "cupy", "--backends", "numpy,strict")
    count_gpus = (
        "import cupy\n"
        "try: print(cupy.cuda.runtime.getDeviceCount())\n"
        "except cupy.cuda.runtime.CUDARuntimeError as error: print(error)"
    )
    answer = str(session.run("python", "-c", count_gpus, silent=True)).strip()
    if not answer.isdecimal() or answer == "0":
        session.skip(f"no GPU for CuPy ({answer}): its interface was checked, none of its kernels ran")
    # One process: two would share the GPU's memory.
    session.run("pytest", "-m", "gpu", "--backends", "cupy", *session.posargs)


@nox.session(name="all", default=False)
def all_backends(session: nox.Session) -> None:
    """Test on NumPy, array-api-strict, torch and JAX in one environment, and measure coverage."""
    install(session, TORCH, *EXTRAS["jax"], *group("test"), "-e", ".")
    pytest(session, "--backends", "numpy,strict,torch,jax", "--cov", "--cov-report=term", "--cov-fail-under=95")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure speed, memory, soft targets, growth and the whole catalogue beside the peers, and draw the plots.

    `-- --quick` only tries every row.
    """
    install(session, TORCH, *EXTRAS["jax"], *group("bench"), "-e", ".")
    for what in ("speed", "memory", "shares", "growth", "catalogue"):
        # Only a whole run replaces the results that the documentation shows.
        kept = () if session.posargs else ("--json", f"benchmarks/results/{what}.json")
        session.run("python", f"benchmarks/{what}.py", *kept, *session.posargs)
    if not session.posargs:
        session.run("python", "benchmarks/plots.py")


@nox.session(default=False)
def accuracy(session: nox.Session) -> None:
    """Count matched golden values, and measure the Lovasz losses against float64 on 2^24 pixels."""
    install(session, TORCH, *EXTRAS["jax"], *group("test"), "-e", ".")
    session.run("python", "benchmarks/golden.py")
    session.run("python", "benchmarks/lovasz_accuracy.py")


if __name__ == "__main__":
    nox.main()
