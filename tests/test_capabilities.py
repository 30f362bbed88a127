"""The table of what works where: every loss in every way on every library, marked as the table says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from cases import CASES, MOST, Case, Sample
from test_contract import close, rounded, to_backend

import arrayloss as al
from arrayloss._core import capabilities

#: The backend of the tests that stands for a library of the table.
STANDS_FOR = {"numpy": "numpy", "cupy": "cupy", "array-api": "strict", "torch": "torch", "jax": "jax"}
#: One case of each loss.
FIRST = {type(case.loss).__name__: case for case in reversed(CASES)}
#: The one of which the contract suite has JAX compile value and gradient, in these dtypes.
COMPILED = {type(case.loss).__name__: case for case in MOST}
COMPILED_IN = ("float64", "bfloat16")


def rows() -> Iterator[Any]:
    for library, ways in capabilities.WAYS.items():
        for way in ways:
            for name, case in FIRST.items():
                marks = [pytest.mark.gpu] if library == "cupy" else []
                if (found := capabilities.limit(name, library, way)) is not None:
                    marks.append(pytest.mark.xfail(strict=True, reason=found.reason))
                yield pytest.param(library, way, case, id=f"{library}-{way}-{name}", marks=marks)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "way" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--backends") or ",".join(STANDS_FOR.values())
        chosen = [row for row in rows() if STANDS_FOR[row.values[0]] in wanted.split(",")]
        metafunc.parametrize(("library", "way", "case"), chosen)


def test_row(library: str, way: str, case: Case, rng: np.random.Generator) -> None:
    backend = BACKENDS[STANDS_FOR[library]]
    if (missing := backend.available()) is not None:
        pytest.skip(missing)
    # What torch compiles is what it has compiled for test_contract.py.
    one = "float64" if way == "compile" else "float32"
    for dtype in capabilities.DTYPES[library] if way == "value" else (one,):
        compiled = library == "jax" and way == "value" and dtype in COMPILED_IN
        asked = COMPILED[type(case.loss).__name__] if compiled else case
        sample = rounded(asked.make(rng), dtype)
        logits, target, arrays = to_backend(backend, sample, dtype)
        several = isinstance(logits, tuple)
        parts = logits if several else (logits,)

        def loss(*parts: Any, target: Any = target, arrays: Any = arrays, several: bool = several) -> Any:
            return case.loss(parts if several else parts[0], target, **arrays)

        if way in ("value", "jit"):
            if compiled:
                value, _ = BACKENDS["jax-jitted"].value_and_grad(asked.loss, logits, target, **arrays)
            else:
                jitted = library == "jax" and (way == "jit" or dtype != "float32")
                run = BACKENDS["jax-jitted"] if jitted else backend
                value = run.value(asked.loss, logits, target, **arrays)
            close(backend.numpy(value), asked.reference(sample), asked.float32_tolerance)
        elif library == "jax":
            JAX_WAYS[way](loss, parts, backend, case, sample)
        else:
            value, gradient = al.value_and_grad(case.loss)(logits, target, **arrays)
            first = gradient[0] if several else gradient
            assert np.isfinite(backend.numpy(first)).all()
            assert np.abs(backend.numpy(first)).max() > 0
            if way == "compile":
                found, _ = BACKENDS["torch-compiled"].value_and_grad(case.loss, logits, target, **arrays)
                close(backend.numpy(found), backend.numpy(value), 1e-12)
            elif library == "torch":
                TORCH_WAYS[way](loss, parts, backend, value, first)


def torch_backward(loss: Any, parts: Any, backend: Backend, value: Any, first: Any) -> None:
    leaves = [x.clone().requires_grad_() for x in parts]
    loss(*leaves).backward()
    close(backend.numpy(leaves[0].grad), backend.numpy(first), 1e-6)


def torch_grad(loss: Any, parts: Any, backend: Backend, value: Any, first: Any) -> None:
    import torch

    close(backend.numpy(torch.func.grad(loss)(*parts)), backend.numpy(first), 1e-6)


def torch_vmap(loss: Any, parts: Any, backend: Backend, value: Any, first: Any) -> None:
    import torch

    stacked = [torch.stack([x, x * 0.5]) for x in parts]
    mapped = torch.func.vmap(loss)(*stacked)
    expected = [backend.numpy(loss(*(x[i] for x in stacked))) for i in range(2)]
    close(backend.numpy(mapped), np.stack(expected), 1e-6)


TORCH_WAYS = {
    "gradient": torch_backward,
    "func.grad": torch_grad,
    "vmap": torch_vmap,
}


# On JAX ways are jitted, but for values in float32: operation by operation they would take four times as long. What is
# expected comes from NumPy, and programs are those of other tests where that can be: little is compiled.


def jax_gradient(loss: Any, parts: Any, backend: Backend, case: Case, sample: Sample) -> None:
    """`jax.grad` by itself is tested in `test_transforms.py`."""
    logits, target, arrays = to_backend(backend, sample, "float32")
    _, gradient = BACKENDS["jax-jitted"].value_and_grad(case.loss, logits, target, **arrays)
    _, expected = al.value_and_grad(case.loss)(sample.logits, sample.target, **sample.arrays)
    gradient, expected = (x[0] if len(parts) > 1 else x for x in (gradient, expected))
    assert np.abs(expected).max() > 0
    close(backend.numpy(gradient), expected, case.float32_tolerance)


def jax_vmap(loss: Any, parts: Any, backend: Backend, case: Case, sample: Sample) -> None:
    import jax

    several = isinstance(sample.logits, tuple)
    halved = replace(sample, logits=tuple(x * 0.5 for x in sample.parts) if several else sample.logits * 0.5)
    stacked = [backend.array(np.stack(x).astype(np.float32)) for x in zip(sample.parts, halved.parts, strict=True)]
    found = backend.numpy(jax.jit(jax.vmap(loss))(*stacked))
    close(found, np.stack([case.reference(sample), case.reference(halved)]), case.float32_tolerance)


def jax_hessian(loss: Any, parts: Any, backend: Backend, case: Case, sample: Sample) -> None:
    import jax

    _, target, arrays = to_backend(backend, sample, "float32")

    small = tuple(x[:1, ..., :3] for x in parts)
    cut = {k: v[:1, ..., :3] for k, v in arrays.items()}
    if case.make.__name__ in ("images", "noisy", "label_map", "patches"):
        small, cut = tuple(x[:1, :, :3, :3] for x in parts), {k: v[:1, :, :3, :3] for k, v in arrays.items()}
        near = target[:1, :3, :3]
    elif case.make.__name__ in ("detailed", "pointed", "scenes"):
        # What a score is about is not at its place in the target, so that nothing can be cut off.
        small, near = tuple(x[:1] for x in parts), target[:1]
    else:
        near = target[:1, ..., :3]
    twice = jax.jit(jax.hessian(partial(loss, target=near, arrays=cut)))(*small)
    assert twice.shape == small[0].shape * 2
    assert np.isfinite(backend.numpy(twice)).all()


JAX_WAYS = {"gradient": jax_gradient, "vmap": jax_vmap, "hessian": jax_hessian}


def test_the_table_lists_what_exists() -> None:
    assert set(STANDS_FOR) == set(capabilities.WAYS) == set(capabilities.DTYPES)
    for library, ways in (("torch", TORCH_WAYS), ("jax", JAX_WAYS)):
        assert {"value", *ways} == set(capabilities.WAYS[library]) - {"jit", "compile"}
    for found in capabilities.LIMITS:
        assert found.loss is None or found.loss in FIRST
        assert found.way in capabilities.WAYS[found.library]
        assert found.reason
