"""The kernels of each library against the portable form, which is their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend

from arrayloss._kernels import generic
from arrayloss._namespace import library_of

ROWS = {
    "distinct": lambda rng: rng.permutation(24).reshape(2, 12) / 24.0,
    "ties": lambda rng: rng.integers(0, 4, size=(3, 40)) / 4.0,
    "all tied": lambda rng: np.full((2, 9), 0.5),
    "zeros": lambda rng: np.zeros((2, 9)),
    "single": lambda rng: np.asarray([[0.25]]),
    "tiny and huge": lambda rng: rng.permutation(np.asarray([0.0, 1e-30, 1e-7, 0.1, 0.1, 1.0, 1.5, 1e30]))[None],
}


def portable() -> Any:
    import array_api_compat.numpy

    return array_api_compat.numpy


@pytest.mark.backends("numpy", "torch", "jax", "cupy", "torch-cuda")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ROWS)
def test_kth_largest(name: str, dtype: str, backend: Backend, rng: np.random.Generator) -> None:
    rows = ROWS[name](rng).astype(dtype)
    given = backend.array(rows)
    library = library_of(given)
    for k in {1, 2, rows.shape[1] // 2, rows.shape[1]} & set(range(1, rows.shape[1] + 1)):
        found = backend.numpy(library.kernels.kth_largest(library.xp, given, k))
        np.testing.assert_array_equal(found, np.sort(rows, axis=1)[:, ::-1][:, k - 1])
        np.testing.assert_array_equal(found, generic.kth_largest(portable(), rows, k))


@pytest.mark.backends("numpy", "torch", "jax", "cupy", "torch-cuda")
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ROWS)
def test_lovasz_weights(
    name: str, dtype: str, ignored: bool, share: float, backend: Backend, rng: np.random.Generator
) -> None:
    errors = ROWS[name](rng).astype(dtype)
    valid = rng.random(errors.shape) < 0.7 if ignored else None
    positive = rng.random(errors.shape) < share
    if valid is not None:
        positive &= valid
        errors = np.where(valid, errors, errors.dtype.type(0))
    given = [None if a is None else backend.array(a) for a in (errors, positive, valid)]
    library = library_of(given[0])
    found = backend.numpy(library.kernels.lovasz_weights(library.xp, *given))
    assert found.dtype == errors.dtype
    expected = generic.lovasz_weights(portable(), errors.astype(np.float64), positive, valid)
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype == "float64" else 1e-6, atol=1e-30)
    if valid is not None:
        assert (found[~valid] == 0).all()
    # The whole set is wrong at once: the Jaccard loss of it is 1.
    some = np.ones(len(errors), dtype=bool) if valid is None else valid.any(axis=1)
    np.testing.assert_allclose(found.sum(axis=1)[some], 1, rtol=1e-6)


def brute_force(errors: np.ndarray, positive: np.ndarray) -> float:
    """The Lovasz extension by its definition: sorted errors times the growth of the Jaccard loss of the set so far."""
    value, before, mistaken = 0.0, 0.0, np.zeros(errors.shape, dtype=bool)
    for i in np.argsort(-errors, kind="stable"):
        mistaken[i] = True
        union = (positive | mistaken).sum()
        loss = 1 - (positive & ~mistaken).sum() / union
        value += errors[i] * (loss - before)
        before = loss
    return value


@pytest.mark.parametrize("pixels", [1, 2, 5, 9])
def test_lovasz_weights_against_the_definition(pixels: int, rng: np.random.Generator) -> None:
    for _ in range(50):
        errors = rng.integers(0, 5, size=pixels) / 4.0
        positive = rng.random(pixels) < 0.5
        weights = generic.lovasz_weights(portable(), errors[None], positive[None], None)[0]
        np.testing.assert_allclose((errors * weights).sum(), brute_force(errors, positive), atol=1e-14)


@pytest.mark.backends("numpy", "torch", "jax")
def test_no_rows(backend: Backend) -> None:
    errors, positive = backend.array(np.zeros((0, 4))), backend.array(np.zeros((0, 4), dtype=bool))
    library = library_of(errors)
    assert backend.numpy(library.kernels.lovasz_weights(library.xp, errors, positive, None)).shape == (0, 4)
