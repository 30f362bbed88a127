"""The regression losses and likelihoods beside those of other libraries, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peers import by_torch

import arrayloss as al


@pytest.fixture
def arrays(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a target, some entries of which are equal."""
    x, t = rng.normal(size=(2, 3, 5, 7)) * 2, rng.normal(size=(2, 3, 5, 7))
    t[:, 0] = x[:, 0]
    return x, t


def close(found: tuple[np.ndarray, np.ndarray], expected: tuple[Any, Any]) -> None:
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, np.asarray(e), rtol=1e-11, atol=1e-15)


# torch --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("width", [0.3, 1.0, 2.5])
def test_torch_smooth_l1_and_huber(width: float, reduction: str, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    close(
        al.value_and_grad(al.SmoothL1Loss(width, reduction))(*arrays),
        by_torch(torch.nn.SmoothL1Loss(beta=width, reduction=reduction), *arrays),
    )
    close(
        al.value_and_grad(al.HuberLoss(width, reduction))(*arrays),
        by_torch(torch.nn.HuberLoss(delta=width, reduction=reduction), *arrays),
    )


def test_torch_smooth_l1_without_width(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    close(al.value_and_grad(al.SmoothL1Loss(0.0))(*arrays), by_torch(torch.nn.SmoothL1Loss(beta=0.0), *arrays))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log_input", [False, True])
def test_torch_poisson(log_input: bool, full: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, t = rng.random((2, 3, 4)) + 0.1, rng.poisson(2.0, (2, 3, 4)).astype(np.float64)
    close(
        al.value_and_grad(al.PoissonNLLLoss(log_input, full, 1e-4))(x, t),
        by_torch(torch.nn.PoissonNLLLoss(log_input=log_input, full=full, eps=1e-4), x, t),
    )


@pytest.mark.parametrize("full", [False, True])
def test_torch_gaussian(full: bool, arrays: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    """Below eps too, where torch as well gives a variance the gradient at eps. torch has the target second."""
    torch = pytest.importorskip("torch")
    mean, target = arrays
    variance = rng.random(mean.shape) * 0.2
    assert (variance < 0.05).any()
    theirs = torch.nn.GaussianNLLLoss(full=full, eps=0.05)
    value, slopes = al.value_and_grad(al.GaussianNLLLoss(full, 0.05))((mean, variance), target)
    expected = by_torch(lambda m, v, t: theirs(m, t, v), mean, variance, target, wanted=2)
    close((value, *slopes), expected)


def test_kornia_charbonnier(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    """kornia's is that of epsilon 1, less 1."""
    kornia = pytest.importorskip("kornia")
    value, slope = by_torch(lambda x, t: kornia.losses.charbonnier_loss(x, t, reduction="mean"), *arrays)
    close(al.value_and_grad(al.CharbonnierLoss(1.0))(*arrays), (value + 1.0, slope))


# optax, scikit-learn, SciPy -----------------------------------------------------------------------------------------


def by_jax(loss: Callable[..., Any], x: np.ndarray, t: np.ndarray) -> tuple[Any, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    found: tuple[Any, Any] = jax.value_and_grad(lambda x: loss(x, t).mean())(jax.numpy.asarray(x))
    return found


@pytest.mark.parametrize("delta", [0.3, 1.0])
def test_optax_huber(delta: float, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    optax = pytest.importorskip("optax")
    expected = by_jax(lambda x, t: optax.huber_loss(x, t, delta=delta), *arrays)
    close(al.value_and_grad(al.HuberLoss(delta))(*arrays), expected)


def test_optax_log_cosh(arrays: tuple[np.ndarray, np.ndarray]) -> None:
    optax = pytest.importorskip("optax")
    value, slope = by_jax(optax.log_cosh, *arrays)
    close(al.value_and_grad(al.LogCoshLoss())(*arrays), (value, slope))


@pytest.mark.parametrize("q", [0.05, 0.5, 0.8])
def test_sklearn_pinball(q: float, arrays: tuple[np.ndarray, np.ndarray]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    x, t = (a.reshape(-1) for a in arrays)
    np.testing.assert_allclose(al.QuantileLoss(q)(x, t), metrics.mean_pinball_loss(t, x, alpha=q), rtol=1e-12)


def test_scipy_likelihoods(arrays: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    """With `full`, the normal likelihood exactly, and that of counts by Stirling's approximation."""
    stats = pytest.importorskip("scipy.stats")
    mean, target = arrays
    variance = rng.random(mean.shape) + 0.1
    np.testing.assert_allclose(
        al.GaussianNLLLoss(True, reduction="none")((mean, variance), target),
        -stats.norm.logpdf(target, mean, np.sqrt(variance)),
        rtol=1e-12,
    )
    x, t = rng.normal(size=50) + 3.0, rng.poisson(40.0, 50)
    found = al.PoissonNLLLoss(full=True, reduction="none")(x, t)
    np.testing.assert_allclose(found, -stats.poisson.logpmf(t, np.exp(x)), atol=0.01)
    np.testing.assert_allclose(found + 1.0 / (12.0 * t), -stats.poisson.logpmf(t, np.exp(x)), atol=1e-6)
