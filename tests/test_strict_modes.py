"""Every loss where a library is told to be strict: JAX's own modes, and NumPy's floating-point errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import CASES, MOST, Case, Sample, images, labels
from test_transforms import close, directions, given, hessian_times, like, parts, tape

import arrayloss as al

jax_only = pytest.mark.backends("jax")
#: The case of each loss with the most options, and what JAX takes in another way. All of them run, as those of a
#: parameter of the name `case` do not where each is compiled.
TRIED = [
    *MOST,
    Case(al.BCELoss(), labels),
    Case(al.BCELoss(pos_weight="dynamic"), labels),
    Case(al.BootstrappedCrossEntropyLoss(5, 0.5), labels),
    Case(al.DiceLoss(batch=True, include_background=False), labels),
    Case(al.OhemCrossEntropyLoss(0.0, 20), labels),
    Case(al.RelaxBoundaryLoss(), images),
]


@pytest.fixture
def strict() -> Iterator[Any]:
    """JAX that promotes no rank and no dtype, and stops at NaN and at infinity."""
    jax = pytest.importorskip("jax")
    with (
        jax.numpy_rank_promotion("raise"),
        jax.numpy_dtype_promotion("strict"),
        jax.debug_infs(True),
        jax.debug_nans(True),
    ):
        yield jax


def finite(case: Case, rng: np.random.Generator) -> Sample:
    """Return a sample without the infinite scores of a teacher, at which the modes would stop before any loss."""
    sample = case.make(rng)
    return replace(sample, target=np.maximum(sample.target, -50.0)) if "taught" in case.make.__name__ else sample


@jax_only
@pytest.mark.parametrize("tried", TRIED, ids=str)
def test_strict_jax(tried: Case, backend: Backend, strict: Any, rng: np.random.Generator) -> None:
    """Operation by operation, each of which is looked at: no NaN, and no infinity, is made and masked afterwards."""
    case, sample = tried, finite(tried, rng)
    logits, target, arrays = given(backend, sample)
    value, gradients = al.value_and_grad(case.loss)(logits, target, **arrays)
    expected, expected_gradients = tape(case, sample)
    close(value, expected)
    for f, e in zip(parts(gradients), expected_gradients, strict=True):
        close(f, e)


@jax_only
@pytest.mark.parametrize("tried", CASES, ids=str)
def test_strict_jax_traces(tried: Case, backend: Backend, strict: Any, rng: np.random.Generator) -> None:
    """Ranks and dtypes of every case: of value, gradient and, for the rules of JAX, the gradient's own change."""
    logits, target, arrays = given(backend, finite(tried, rng), "float32")

    def slopes(x: Any) -> Any:
        return al.value_and_grad(tried.loss)(x, target, **arrays)

    (value, gradients), _ = strict.eval_shape(lambda x: strict.jvp(slopes, (x,), (x,)), logits)
    assert (value.shape, value.dtype) == ((), np.float32)
    assert [(g.shape, g.dtype) for g in parts(gradients)] == [(x.shape, np.float32) for x in parts(logits)]


@jax_only
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "BCELoss", "DiceLoss", "JSDivLoss", "RelaxBoundaryLoss"])
def test_strict_jax_twice(name: str, backend: Backend, strict: Any, rng: np.random.Generator) -> None:
    case = next(c for c in MOST if type(c.loss).__name__ == name)
    sample = finite(case, rng)
    logits, target, arrays = given(backend, sample)
    tangents = directions(sample)
    v = like(sample.logits, list(map(backend.array, tangents)))
    slope = strict.grad(lambda x: case.loss(x, target, **arrays))
    found = strict.jvp(slope, (logits,), (v,))[1]
    for f, e in zip(parts(found), hessian_times(case, sample, tangents), strict=True):
        close(f, e, 1e-6)


ON_THE_HOST = ("LovaszHingeLoss", "LovaszSoftmaxLoss", "SemanticConnectivityLoss")


@pytest.mark.backends("torch", "jax")
@pytest.mark.parametrize("size", [None, 1e4])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_numpy_may_raise_meanwhile(case: Case, size: float | None, backend: Backend, rng: np.random.Generator) -> None:
    """What NumPy computes for other libraries does not heed how it is told to take floating-point errors."""
    if size is not None and case.make.__name__ in ("counts", "rates", "probabilities", "shares"):
        return  # probabilities and rates are never large
    if backend.name == "jax" and type(case.loss).__name__ not in ON_THE_HOST:
        return
    sample = case.make(rng)
    if size is not None:
        sample = replace(sample, logits=like(sample.logits, (np.sign(sample.parts[0]) * size, *sample.parts[1:])))
    logits, target, arrays = given(backend, sample, "float32")
    with np.errstate(all="raise"):
        value, gradients = al.value_and_grad(case.loss)(logits, target, **arrays)
        assert np.isfinite(backend.numpy(value))
    assert all(np.isfinite(backend.numpy(g)).all() for g in parts(gradients))


@pytest.mark.backends("torch", "jax")
@pytest.mark.parametrize("loss", [al.LovaszHingeLoss(), al.LovaszSoftmaxLoss()], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extensions_of_what_underflows(loss: al.Loss, dtype: str, backend: Backend, rng: np.random.Generator) -> None:
    """Likewise where errors are the least numbers, or infinite, in arrays large enough for NumPy."""
    logits = rng.choice([-np.inf, -1e38, -100.0, -90.0, 0.0, 90.0, 100.0, 1e38], (2, 2, 64, 65)).astype(dtype)
    logits[:, 0] = np.where(np.isinf(logits[:, 0]), 0.0, logits[:, 0])
    target = backend.array(rng.integers(0, 2, (2, 64, 65)))
    if type(loss) is al.LovaszHingeLoss:
        logits = logits[:, :1]
    x = backend.array(logits)
    if backend.name == "torch":
        x.requires_grad_()  # by which torch's rule is taken
    with np.errstate(all="raise"):
        value, gradient = al.value_and_grad(loss)(x, target)
        assert not np.isnan(backend.numpy(value))
    assert np.isfinite(backend.numpy(gradient)).all()
