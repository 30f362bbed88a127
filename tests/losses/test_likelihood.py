"""What the likelihoods need beyond the contract suite: bad rates and variances, limits, and both gradients."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import Case, counts, measured, rates

import arrayloss as al

# Poisson ------------------------------------------------------------------------------------------------------------


@pytest.mark.variants
def test_poisson_by_hand(backend: Backend) -> None:
    x, t = backend.array(np.asarray([0.0, 1.0, -2.0, 7.0])), backend.array(np.asarray([0, 1, 4, 255]))
    value, slope = backend.value_and_grad(al.PoissonNLLLoss(reduction="none", ignore_index=255), x, t)
    np.testing.assert_allclose(backend.numpy(value), [1.0, math.e - 1.0, math.exp(-2) + 8.0, 0.0], rtol=1e-14)
    np.testing.assert_allclose(backend.numpy(slope), [1.0, math.e - 1.0, math.exp(-2) - 4.0, 0.0], rtol=1e-14)
    full, _ = backend.value_and_grad(al.PoissonNLLLoss(full=True, reduction="none", ignore_index=255), x, t)
    factorial = 4 * math.log(4) - 4 + 0.5 * math.log(8 * math.pi)
    np.testing.assert_allclose(backend.numpy(full) - backend.numpy(value), [0.0, 0.0, factorial, 0.0], rtol=1e-14)


@pytest.mark.variants
def test_poisson_of_rates_is_that_of_their_logarithms(backend: Backend, rng: np.random.Generator) -> None:
    sample = counts(rng)
    target = backend.array(sample.target)
    rate = np.exp(sample.logits)
    value, slope = backend.value_and_grad(al.PoissonNLLLoss(ignore_index=255), backend.array(sample.logits), target)
    same, by_rate = backend.value_and_grad(
        al.PoissonNLLLoss(False, eps=0.0, ignore_index=255), backend.array(rate), target
    )
    np.testing.assert_allclose(backend.numpy(same), backend.numpy(value), rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(by_rate) * rate, backend.numpy(slope), rtol=1e-12, atol=1e-16)


@pytest.mark.variants
@pytest.mark.parametrize("size", [2, 1 << 14])
def test_a_count_of_0_at_a_rate_of_0_costs_nothing(size: int, backend: Backend) -> None:
    zero = backend.array(np.zeros(size))
    value, slope = backend.value_and_grad(al.PoissonNLLLoss(), backend.array(np.full(size, -np.inf)), zero)
    assert backend.numpy(value) == 0
    assert (backend.numpy(slope) == 0).all()
    value, slope = backend.value_and_grad(al.PoissonNLLLoss(False, eps=0.0), zero, zero)
    assert backend.numpy(value) == 0
    np.testing.assert_allclose(backend.numpy(slope), 1 / size)
    # While a count of 1 at that rate is impossible.
    one = backend.array(np.ones(2))
    losses = al.PoissonNLLLoss(reduction="none")(backend.array(np.full(2, -np.inf)), one)
    assert (backend.numpy(losses) > 1e308).all()


def test_an_infinite_rate_costs_infinity(backend: Backend) -> None:
    """Not infinity less infinity, which a count times a large logarithm may be."""
    logits, target = backend.array(np.asarray([np.inf, 1e308, 800.0])), backend.array(np.asarray([3.0, 3.0, 0.0]))
    losses = backend.numpy(backend.value(al.PoissonNLLLoss(reduction="none"), logits, target))
    np.testing.assert_array_equal(losses, np.inf)


def bad(backend: Backend, loss: al.Loss, logits: Any, target: np.ndarray, message: str) -> None:
    """Hold that a call raises where values are read, and is NaN with a NaN gradient elsewhere."""
    given = tuple(map(backend.array, logits)) if isinstance(logits, tuple) else backend.array(logits)
    if backend.reads:
        with pytest.raises(ValueError, match=message):
            loss(given, backend.array(target))
        return
    with np.errstate(invalid="ignore"):  # of NumPy under array-api-strict, which computes on
        value, slope = backend.value_and_grad(loss, given, backend.array(target))
    assert np.isnan(backend.numpy(value))
    for g in slope if isinstance(slope, tuple) else (slope,):
        assert np.isnan(backend.numpy(g)).any()


@pytest.mark.eager
@pytest.mark.variants
@pytest.mark.parametrize("log_input", [True, False])
def test_negative_counts_and_rates(log_input: bool, backend: Backend, rng: np.random.Generator) -> None:
    loss = al.PoissonNLLLoss(log_input, ignore_index=255)
    sample = (counts if log_input else rates)(rng)
    spoilt = sample.target.copy()
    spoilt[tuple(np.argwhere(~sample.ignored)[-1])] = -1.0
    bad(
        backend,
        loss,
        sample.logits,
        spoilt,
        r"^poisson_nll_loss: target holds values from -1 to \d+, expected counts of",
    )
    place = tuple(np.argwhere(~sample.ignored)[-1])
    logits = sample.logits.copy()
    logits[place] = -0.5
    if not log_input:
        message = r"^poisson_nll_loss: logits holds values from -0.5 to [\d.]+, expected numbers of at least 0"
        bad(backend, loss, logits, sample.target, message)
    # What is ignored may be anything.
    logits[place] = sample.logits[place]
    logits[sample.ignored] = -5.0
    found = backend.value(loss, backend.array(logits), backend.array(sample.target))
    np.testing.assert_allclose(backend.numpy(found), Case(loss, counts).reference(sample), rtol=1e-9)
    ignoring = replace(loss, ignore_index=-1)
    masked = np.where(sample.ignored, -1.0, sample.target)
    found = backend.value(ignoring, backend.array(sample.logits), backend.array(masked))
    np.testing.assert_allclose(backend.numpy(found), Case(loss, counts).reference(sample), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_counts_of_any_dtype(dtype: str, backend: Backend, rng: np.random.Generator) -> None:
    target = rng.integers(0, 2, size=(3, 4))
    x = rng.normal(size=target.shape)
    found = backend.value(al.PoissonNLLLoss(), backend.array(x), backend.array(target.astype(dtype)))
    np.testing.assert_allclose(backend.numpy(found), np.mean(np.exp(x) - target * x), rtol=1e-13)


def test_a_nan_prediction_is_no_bad_rate(backend: Backend) -> None:
    """A network that has diverged gives NaN, not an error about its output."""
    x, t = backend.array(np.asarray([1.0, np.nan])), backend.array(np.asarray([1.0, 2.0]))
    assert np.isnan(backend.numpy(backend.value(al.PoissonNLLLoss(False), x, t)))
    assert np.isnan(backend.numpy(backend.value(al.GaussianNLLLoss(), (x, x), t)))


# Gaussian -----------------------------------------------------------------------------------------------------------


@pytest.mark.variants
def test_gaussian_by_hand(backend: Backend) -> None:
    mean, variance, target = ([1.0, 2.0, 7.0], [1.0, 4.0, 9.0], [3.0, 2.0, 255.0])
    logits = tuple(backend.array(np.asarray(x)) for x in (mean, variance))
    loss = al.GaussianNLLLoss(reduction="none", ignore_index=255)
    value, slopes = backend.value_and_grad(loss, logits, backend.array(np.asarray(target)))
    np.testing.assert_allclose(backend.numpy(value), [2.0, math.log(2.0), 0.0], rtol=1e-14)
    np.testing.assert_allclose(backend.numpy(slopes[0]), [-2.0, 0.0, 0.0], rtol=1e-14)
    np.testing.assert_allclose(backend.numpy(slopes[1]), [-1.5, 0.125, 0.0], rtol=1e-14)
    full = backend.value(replace(loss, full=True), logits, backend.array(np.asarray(target)))
    added = backend.numpy(full) - backend.numpy(value)
    np.testing.assert_allclose(added, [0.5 * math.log(2 * math.pi)] * 2 + [0.0], rtol=1e-13)


@pytest.mark.variants
def test_a_variance_below_eps_counts_as_eps_and_is_led_back(backend: Backend) -> None:
    eps = 0.01
    variance = np.asarray([0.0, 1e-12, 0.005, 0.01, 1.0])
    logits = backend.array(np.zeros(5)), backend.array(variance)
    target = backend.array(np.full(5, 2.0))
    value, slopes = backend.value_and_grad(al.GaussianNLLLoss(eps=eps, reduction="none"), logits, target)
    v = np.maximum(variance, eps)
    np.testing.assert_allclose(backend.numpy(value), 0.5 * (np.log(v) + 4.0 / v), rtol=1e-13)
    np.testing.assert_allclose(backend.numpy(slopes[0]), -2.0 / v, rtol=1e-13)
    np.testing.assert_allclose(backend.numpy(slopes[1]), 0.5 / v - 2.0 / v**2, rtol=1e-13)


@pytest.mark.variants
def test_the_default_eps_in_float32(backend: Backend) -> None:
    logits = tuple(backend.array(np.asarray([x, x], dtype=np.float32)) for x in (0.0, 1e-9))
    target = backend.array(np.asarray([0.0, 1e-3], dtype=np.float32))
    value, slopes = backend.value_and_grad(al.GaussianNLLLoss(reduction="none"), logits, target)
    np.testing.assert_allclose(backend.numpy(value), 0.5 * (math.log(1e-6) + np.asarray([0.0, 1.0])), rtol=1e-5)
    np.testing.assert_allclose(backend.numpy(slopes[1]), [0.5e6, 0.0], rtol=1e-5, atol=1.0)


@pytest.mark.variants
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -1.0, 0.0])
def test_ignored_variances_change_nothing(garbage: float, backend: Backend, rng: np.random.Generator) -> None:
    sample = measured(rng)
    mean, variance = sample.logits
    target = backend.array(sample.target)
    expected = backend.value_and_grad(
        al.GaussianNLLLoss(ignore_index=255), tuple(map(backend.array, sample.logits)), target
    )
    spoilt = (np.where(sample.ignored, garbage, x) for x in (mean, variance))
    found = backend.value_and_grad(al.GaussianNLLLoss(ignore_index=255), tuple(map(backend.array, spoilt)), target)
    np.testing.assert_allclose(backend.numpy(found[0]), backend.numpy(expected[0]), rtol=1e-14)
    for g, e in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(backend.numpy(g), backend.numpy(e), rtol=1e-13, atol=1e-18)
        assert (backend.numpy(g)[sample.ignored] == 0).all()


@pytest.mark.eager
@pytest.mark.variants
def test_negative_variances(backend: Backend, rng: np.random.Generator) -> None:
    sample = measured(rng)
    mean, variance = sample.logits
    variance[tuple(np.argwhere(~sample.ignored)[0])] = -0.25
    message = r"^gaussian_nll_loss: logits\[1\] holds values from -0.25 to [\d.]+, expected numbers of at least 0"
    bad(backend, al.GaussianNLLLoss(ignore_index=255), (mean, variance), sample.target, message)


def test_misfits_of_the_variance_are_named(backend: Backend) -> None:
    if backend.name == "torch-compiled":
        pytest.skip("raised while tracing, wrapped by the tracer")
    x = backend.array(np.zeros((2, 3)))
    loss = al.GaussianNLLLoss()
    shape = (
        r"^gaussian_nll_loss: logits\[1\] has shape \(2, 1\), expected \(2, 3\), the shape of the prediction; shapes"
    )
    with pytest.raises(ValueError, match=shape):
        loss((x, x[:, :1]), x)
    with pytest.raises(TypeError, match=r"^gaussian_nll_loss: logits\[1\] has dtype int64, expected a real floating"):
        loss((x, backend.array(np.ones((2, 3), dtype=np.int64))), x)
    with pytest.raises(TypeError, match=r"^gaussian_nll_loss: logits is a tuple of 3, expected .*\(mean, variance\)"):
        loss((x, x, x), x)
    with pytest.raises(TypeError, match=r"^gaussian_nll_loss: logits is .*, expected a tuple of two arrays"):
        loss(x, x)


def test_means_and_variances_of_two_dtypes(backend: Backend) -> None:
    """The result has the dtype of the mean, each gradient that of its own array."""
    mean, variance = np.zeros(3, dtype=np.float32), np.ones(3)
    value, slopes = backend.value_and_grad(
        al.GaussianNLLLoss(), (backend.array(mean), backend.array(variance)), backend.array(mean + 1)
    )
    assert str(backend.numpy(value).dtype) == "float32"
    assert [str(backend.numpy(g).dtype) for g in slopes] == ["float32", "float64"]
    np.testing.assert_allclose(backend.numpy(value), 0.5)


@pytest.mark.backends("torch", "jax")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
def test_gaussian_hessian_of_both(backend: Backend) -> None:
    """Second derivatives with respect to mean and variance, by the formula."""
    m, v, t = 0.5, 2.0, 1.5

    def value(x: Any) -> Any:
        return al.GaussianNLLLoss(reduction="sum")((x[:1], x[1:]), backend.array(np.asarray([t])))

    if backend.name == "torch":
        import torch

        found = torch.func.hessian(value)(backend.array(np.asarray([m, v])))
    else:
        import jax

        found = jax.hessian(value)(backend.array(np.asarray([m, v])))
    d = m - t
    mixed = -d / v**2
    expected = [[1 / v, mixed], [mixed, -0.5 / v**2 + d**2 / v**3]]
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-12)
