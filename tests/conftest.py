"""Which backends a run tests, and the fixtures over them."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import processes
import pytest
from backends import BACKENDS, GPU, VARIANTS, Backend

#: Tests of what JAX makes of the programs: those in float64, where there are others, are compiled fast all the same.
AS_THEY_ARE = ("test_fast_paths.py", "test_kernels.py")
#: Where a program is of many repeated minima, which takes minutes without XLA's fusion emitters.
OF_MINIMA = ("test_connectivity.py",)
#: How values and gradients of every case are compiled. What torch compiles in float64, further tests ask again.
ALL_CASES = (("jax-jitted", "float32"), ("torch-compiled", "float64"))

#: Whether programs are being compiled without XLA's fusion emitters; only where they are compiled fast.
FUSION = {"left out": False}

# One thread a worker: the arrays of the tests are small, and the workers share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backends",
        default="",
        help="comma-separated libraries to test, which must then be installed: numpy, strict, torch, jax, cupy "
        "(default: all that are installed)",
    )

    parser.addoption(
        "--every-case",
        action="store_true",
        help="run every test on every case of `cases.py` (default: on one of each loss, where each is compiled)",
    )


def pytest_configure(config: pytest.Config) -> None:
    wanted = [name for name in config.getoption("--backends").split(",") if name]
    for name in wanted:
        if name not in {n.partition("-")[0] for n in BACKENDS}:
            raise pytest.UsageError(f"--backends: no backend {name!r}")
        if name != "cupy" and (missing := BACKENDS[name].available()):
            raise pytest.UsageError(f"--backends: {missing}")
    if importlib.util.find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
        # Most tests make many small programs, which are compiled fast rather than well.
        jax.config.update("jax_disable_most_optimizations", True)
        if tuple(map(int, jax.__version__.split(".")[:2])) >= (0, 8):
            _compile_without_fusion_emitters()
            _share_programs(config)
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)


def _compile_without_fusion_emitters() -> None:
    """Where a program is compiled fast, leave out a stage of XLA on the CPU that takes most of the time, and threads.

    XLA cuts each program into 32 parts, to compile them at once: on one core that takes half as long again.

    Both are options of each compilation, since those of the process would also hold where programs are compiled well.
    They are asked for where JAX makes the options of a compilation, which is not public: where that or one of them is
    no more, tests take longer.
    """
    import jax

    fast = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    try:
        from jax._src import compiler

        jax.jit(lambda x: x, compiler_options=fast)(0.0)
        options_of = compiler.get_compile_options
    except (AttributeError, ImportError, RuntimeError):
        return

    def options(*args: Any, env_options_overrides: dict[str, Any] | None = None, **others: Any) -> Any:
        if jax.config.read("jax_disable_most_optimizations") and FUSION["left out"]:
            env_options_overrides = {**fast, **(env_options_overrides or {})}
        return options_of(*args, env_options_overrides=env_options_overrides, **others)

    compiler.get_compile_options = options
    processes.JAX["XLA_FLAGS"] = " ".join(f"--{name}={value}".lower() for name, value in fast.items())


def _share_programs(config: pytest.Config) -> None:
    """Let the processes of a run share what JAX has compiled: a test makes many small programs, most of them again."""
    import jax

    if not hasattr(config, "workerinput"):
        directory = tempfile.mkdtemp(prefix="arrayloss-jax-")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        os.environ["ARRAYLOSS_TESTS_JAX_CACHE"] = directory
    jax.config.update("jax_compilation_cache_dir", os.environ["ARRAYLOSS_TESTS_JAX_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _chosen(config: pytest.Config) -> list[str]:
    wanted = [name for name in config.getoption("--backends").split(",") if name]
    return [name for name in BACKENDS if not wanted or name.partition("-")[0] in wanted]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("backends")
    variants, eager = (metafunc.definition.get_closest_marker(mark) for mark in ("variants", "eager"))
    left_out = set() if variants else set(VARIANTS)
    # JAX is jitted: operation by operation it compiles each on its own, which takes four times as long.
    if not eager:
        left_out.add("jax")
    elif not variants:
        left_out.add("jax-jitted")
    names = [n for n in _chosen(metafunc.config) if (n in only.args if only else n not in left_out)]
    metafunc.parametrize(
        "backend",
        [pytest.param(BACKENDS[n], id=n, marks=[pytest.mark.gpu] if n in GPU else []) for n in names],
        scope="session",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what says nothing new: what is marked `once` without NumPy, and most cases where each is compiled.

    Of each loss, run one case where every case is compiled anew, but for values and gradients in one dtype: all.

    `--every-case` runs all. The one is that with the most options; elsewhere all of them run all tests. A test that is
    for one case of each loss in any case, or for fewer, is left as it is.

    A test that cannot run says so once, not for each of its parameters.
    """
    _say_once(config, items)
    if not {"numpy", "strict"} & set(_chosen(config)):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("once")])
        items[:] = [item for item in items if not item.get_closest_marker("once")]
    if config.getoption("--every-case"):
        return
    from cases import MOST, Case

    most = set(map(id, MOST))
    cases: dict[Any, set[int]] = {}
    for item in items:
        if "case" in (values := _parameters(item)):
            cases.setdefault(item.function, set()).add(id(values["case"]))  # type: ignore[attr-defined]
    kept, dropped = [], []
    for item in items:
        values = _parameters(item)
        # A test that no backend of this run is for has a placeholder for one.
        once = isinstance(values.get("case"), Case) and getattr(values.get("backend"), "compiles", False)
        of = getattr(values.get("backend"), "name", "")
        all_cases = "value_and_gradient" in item.name and (of, values.get("dtype")) in ALL_CASES
        if (
            once and not all_cases and id(values["case"]) not in most and len(cases[item.function]) > len(most)  # type: ignore[attr-defined]
        ):
            dropped.append(item)
        else:
            kept.append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_collection_finish(session: pytest.Session) -> Iterator[None]:
    """Ask what compiles all about a loss in a row: what is compiled for one question answers others in that process."""

    def of(item: pytest.Item) -> tuple[str, str]:
        values = _parameters(item)
        if not hasattr(values.get("case"), "loss"):
            return "", ""
        backend = values.get("backend")
        name = backend.name if getattr(backend, "compiles", False) else ""
        # The table of capabilities runs several libraries.
        if "way" in values:
            name = {"jax": "jax-jitted", "torch": "torch-compiled"}.get(values["library"], "")
        return name, type(values["case"].loss).__name__ if name else ""

    session.items.sort(key=of)
    # Thousands of items, which live as long as the run: the collector need not look at them each time.
    gc.freeze()
    gc.set_threshold(20_000)
    return (yield)


def _say_once(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the items that skip themselves, for want of a library or of a GPU, keep the first of each test."""
    missing = {name for name in _chosen(config) if BACKENDS[name].available()}
    seen: set[Any] = set()
    kept, dropped = [], []
    for item in items:
        of = getattr(_parameters(item).get("backend"), "name", None)
        nowhere = any("empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip"))
        key = getattr(item, "function", None), of
        if (nowhere or of in missing) and key in seen:
            dropped.append(item)
        else:
            seen.add(key)
            kept.append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    if "backend" in request.fixturenames:
        backend: Backend = request.getfixturevalue("backend")
        if (missing := backend.available()) is not None:
            pytest.skip(missing)


@pytest.fixture(autouse=True)
def _compiled_well(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let JAX compile well, as it does by default, where its code is what is tested: values, gradients and kernels.

    That takes four times as long: one case of each loss is asked its value and gradient so, in float32.
    """
    values, name = _parameters(request.node), request.path.name
    FUSION["left out"] = name not in OF_MINIMA
    chosen = getattr(request.module, "COMPILED_WELL", None)
    well = name in AS_THEY_ARE and (chosen is None or "name" not in values or values["name"] in chosen)
    if "value_and_gradient" in request.node.name and getattr(values.get("backend"), "name", "") == "jax-jitted":
        from cases import MOST

        well = any(values.get("case") is case for case in MOST)
    if not (well and values.get("dtype", "float32") == "float32" and importlib.util.find_spec("jax")):
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)
