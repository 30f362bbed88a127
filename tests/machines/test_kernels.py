"""The kernels of each library against the portable form, which is their meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend

import arrayloss as al
from arrayloss._core.library import library_of
from arrayloss._machines import generic

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
        np.testing.assert_array_equal(found, generic.KERNELS.kth_largest(portable(), rows, k))


@pytest.mark.backends("torch", "jax", "cupy", "torch-cuda")
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
    expected = generic.KERNELS.lovasz_weights(portable(), errors.astype(np.float64), positive, valid)
    np.testing.assert_allclose(found, expected, rtol=1e-12 if dtype == "float64" else 1e-6, atol=1e-30)
    if valid is not None:
        assert (found[~valid] == 0).all()
    # The whole set is wrong at once: the Jaccard loss of it is 1.
    some = np.ones(len(errors), dtype=bool) if valid is None else valid.any(axis=1)
    np.testing.assert_allclose(found.sum(axis=1)[some], 1, rtol=1e-6)


#: Of each scene the shape of the scores, how many steps they take, and the share of positions that are right.
SCENES = {
    "distinct": ((2, 4, 500), 1 << 20, 0.5),
    "tied": ((2, 4, 500), 16, 0.5),
    "well trained": ((3, 4, 40, 30), 1 << 20, 0.99),
    "absent classes": ((1, 30, 50), 64, 0.3),
    "one position": ((1, 3, 1), 4, 0.5),
    "many classes": ((1, 300, 90), 256, 0.5),
}


@pytest.mark.backends("numpy", "torch", "jax", "cupy", "torch-cuda")
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kernel", ["lovasz_softmax", "lovasz_hinge"])
@pytest.mark.parametrize("name", SCENES)
def test_lovasz_extensions(
    name: str, kernel: str, dtype: str, ignored: float, per_image: bool, backend: Backend, rng: np.random.Generator
) -> None:
    """Scores are whole fractions, so that errors are exact in float32 too and their order is the same."""
    shape, steps, right = SCENES[name]
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    hit = labels[:, None] == np.arange(shape[1]).reshape(1, -1, *(1,) * (len(shape) - 2))
    scores = rng.integers(0, steps + 1, shape) / steps
    scores = np.where(rng.random(labels.shape)[:, None] < right, np.where(hit, 1 - scores / 8, scores / 8), scores)
    labels[rng.random(labels.shape) < 0.05] = shape[1]  # of no class
    if kernel == "lovasz_hinge":
        labels, scores = (labels == 0).astype(np.intp), 4.0 * scores[:, :1] - 2.0
    valid = None if ignored == 0.0 else rng.random(labels.shape) >= ignored
    if valid is not None:
        scores = np.where(valid[:, None], scores, 0.0)
    expected, back = getattr(generic.KERNELS, f"{kernel}_rule")(portable(), scores, labels, valid, per_image)

    def total(x: Any, _: Any) -> Any:
        library = library_of(x)
        given = [None if a is None else backend.array(a) for a in (labels, valid)]
        losses = getattr(library.kernels, kernel)(library.xp, x, *given, per_image)
        seen.append(losses)
        return library.xp.sum(losses)

    seen: list[Any] = []
    x = backend.array(scores.astype(dtype))
    _, slopes = al.value_and_grad(total)(x, None)
    close = 1e-12 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(backend.numpy(slopes), back(np.ones_like(expected)), rtol=close, atol=1e-30)
    seen.clear()
    total(x, None)
    np.testing.assert_allclose(backend.numpy(seen[0]), expected, rtol=close, atol=close * 1e-3)
    np.testing.assert_array_equal(backend.numpy(x), scores.astype(dtype))


@pytest.mark.backends("numpy", "torch", "jax", "cupy", "torch-cuda")
def test_errors_that_tie_by_rounding(backend: Backend, rng: np.random.Generator) -> None:
    """Among half a million float32 errors many tie that in float64 do not: the gradient is the same to rounding."""
    labels = (rng.random((1, 700, 700)) < 0.3).astype(np.int64)
    logits = rng.normal(size=(1, 1, 700, 700)).astype(np.float32)
    errors = (1 - logits * (2 * labels[:, None] - 1)).ravel()
    assert np.unique(errors).size < errors.size - 1000
    for loss in (al.LovaszHingeLoss(), al.LovaszSoftmaxLoss()):
        scores = logits if loss == al.LovaszHingeLoss() else np.concatenate([-logits, logits], axis=1) / 2
        wide = al.value_and_grad(loss)(scores.astype(np.float64), labels)[1]
        found = backend.numpy(al.value_and_grad(loss)(backend.array(scores), backend.array(labels))[1])
        assert np.linalg.norm(found - wide) < 2e-4 * np.linalg.norm(wide)


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
        weights = generic.KERNELS.lovasz_weights(portable(), errors[None], positive[None], None)[0]
        np.testing.assert_allclose((errors * weights).sum(), brute_force(errors, positive), atol=1e-14)


@pytest.mark.backends("torch", "jax")
def test_no_rows(backend: Backend) -> None:
    errors, positive = backend.array(np.zeros((0, 4))), backend.array(np.zeros((0, 4), dtype=bool))
    library = library_of(errors)
    assert backend.numpy(library.kernels.lovasz_weights(library.xp, errors, positive, None)).shape == (0, 4)
