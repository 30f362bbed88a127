"""What the regression losses need beyond the contract suite: identities, kinks, and numbers far from 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from backends import Backend

import arrayloss as al

EACH = [
    al.L1Loss(reduction="none"),
    al.SmoothL1Loss(0.7, reduction="none"),
    al.SmoothL1Loss(0.0, reduction="none"),
    al.HuberLoss(0.7, reduction="none"),
    al.LogCoshLoss(reduction="none"),
    al.CharbonnierLoss(reduction="none"),
    al.CharbonnierLoss(0.0, reduction="none"),
    al.QuantileLoss(0.3, reduction="none"),
]
every_loss = pytest.mark.parametrize("loss", EACH, ids=repr)


def losses_and_slopes(
    backend: Backend, loss: al.Loss, difference: Any, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray]:
    """Return each loss of a prediction that differs from a target of 0, and its derivative."""
    x = np.asarray(difference, dtype=dtype)
    value, slope = backend.value_and_grad(loss, backend.array(x), backend.array(np.zeros_like(x)))
    return backend.numpy(value), backend.numpy(slope)


def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 40)) * 2, rng.normal(size=(3, 40))


# Values by hand -----------------------------------------------------------------------------------------------------

DIFFERENCES = [-3.0, -0.5, 0.0, 0.5, 2.0]
BY_HAND = [
    (al.SmoothL1Loss(), [2.5, 0.125, 0.0, 0.125, 1.5], [-1.0, -0.5, 0.0, 0.5, 1.0]),
    (al.SmoothL1Loss(2.0), [2.0, 0.0625, 0.0, 0.0625, 1.0], [-1.0, -0.25, 0.0, 0.25, 1.0]),
    (al.SmoothL1Loss(0.0), [3.0, 0.5, 0.0, 0.5, 2.0], [-1.0, -1.0, 0.0, 1.0, 1.0]),
    (al.HuberLoss(), [2.5, 0.125, 0.0, 0.125, 1.5], [-1.0, -0.5, 0.0, 0.5, 1.0]),
    (al.HuberLoss(2.0), [4.0, 0.125, 0.0, 0.125, 2.0], [-2.0, -0.5, 0.0, 0.5, 2.0]),
    (al.CharbonnierLoss(4.0), [5.0, math.sqrt(16.25), 4.0, math.sqrt(16.25), math.sqrt(20)], None),
    (al.CharbonnierLoss(0.0), [3.0, 0.5, 0.0, 0.5, 2.0], [-1.0, -1.0, 0.0, 1.0, 1.0]),
    (al.QuantileLoss(0.75), [2.25, 0.375, 0.0, 0.125, 0.5], [-0.75, -0.75, -0.25, 0.25, 0.25]),
    (al.LogCoshLoss(), [math.log(math.cosh(d)) for d in DIFFERENCES], [math.tanh(d) for d in DIFFERENCES]),
]


@pytest.mark.variants
@pytest.mark.parametrize(("loss", "values", "slopes"), BY_HAND, ids=repr)
def test_by_hand(loss: al.Loss, values: list[float], slopes: list[float] | None, backend: Backend) -> None:
    found, slope = losses_and_slopes(backend, type(loss)(**{**vars(loss), "reduction": "none"}), DIFFERENCES)
    np.testing.assert_allclose(found, values, rtol=1e-14)
    np.testing.assert_allclose(slope, slopes or np.asarray(DIFFERENCES) / values, rtol=1e-14)


# Identities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1e-3, 0.4, 1.0, 30.0])
def test_huber_is_smooth_l1_times_its_width(width: float, backend: Backend, rng: np.random.Generator) -> None:
    given = tuple(map(backend.array, pair(rng)))
    huber, huber_slope = backend.value_and_grad(al.HuberLoss(width), *given)
    smooth, smooth_slope = backend.value_and_grad(al.SmoothL1Loss(width), *given)
    np.testing.assert_allclose(backend.numpy(huber), width * backend.numpy(smooth), rtol=1e-14)
    np.testing.assert_allclose(backend.numpy(huber_slope), width * backend.numpy(smooth_slope), rtol=1e-14)


def test_what_is_l1_in_the_limit(backend: Backend, rng: np.random.Generator) -> None:
    """Exactly at width 0; half of it at quantile 1/2; and up to the width where that is not 0."""
    given = tuple(map(backend.array, pair(rng)))

    def both(loss: al.Loss) -> list[np.ndarray]:
        return [backend.numpy(a) for a in backend.value_and_grad(loss, *given)]

    value, slope = both(al.L1Loss())
    for loss in (al.SmoothL1Loss(0.0), al.CharbonnierLoss(0.0), al.SmoothL1Loss(1e-20), al.CharbonnierLoss(1e-20)):
        np.testing.assert_array_equal(both(loss)[0], value)
        np.testing.assert_array_equal(both(loss)[1], slope)
    half, half_slope = both(al.QuantileLoss(0.5))
    np.testing.assert_allclose(2 * half, value, rtol=1e-14)
    np.testing.assert_allclose(2 * half_slope, slope, rtol=1e-14)
    for loss in (al.SmoothL1Loss(1e-6), al.CharbonnierLoss(1e-6)):
        np.testing.assert_allclose(both(loss)[0], value, rtol=0, atol=1e-6)
    np.testing.assert_allclose(both(al.HuberLoss(1e3))[0], both(al.MSELoss())[0] / 2, rtol=1e-13)


def test_quantiles_of_two_sides_make_l1(backend: Backend, rng: np.random.Generator) -> None:
    given = tuple(map(backend.array, pair(rng)))
    for q in (0.0, 1e-3, 0.2):
        low, high = (backend.numpy(backend.value(al.QuantileLoss(a), *given)) for a in (q, 1.0 - q))
        np.testing.assert_allclose(low + high, backend.numpy(backend.value(al.L1Loss(), *given)), rtol=1e-14)


@pytest.mark.backends("numpy")
@pytest.mark.parametrize("q", [0.1, 0.5, 0.83])
def test_the_best_constant_is_the_quantile(q: float, backend: Backend, rng: np.random.Generator) -> None:
    target = rng.exponential(size=201)
    candidates = np.sort(target)
    costs = [float(al.quantile_loss(np.full_like(target, c), target, quantile=q)) for c in candidates]
    np.testing.assert_allclose(candidates[np.argmin(costs)], np.quantile(target, q, method="inverted_cdf"))


# Numbers far from 1 -------------------------------------------------------------------------------------------------


@pytest.mark.variants
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_log_cosh_of_tiny_differences_has_all_its_digits(dtype: str, backend: Backend) -> None:
    tiny = np.asarray([1e-3, -1e-5, 1e-8, -1e-12, 1e-16]).astype(dtype)
    value, slope = losses_and_slopes(backend, al.LogCoshLoss(reduction="none"), tiny, dtype)
    wide = tiny.astype(np.float64)
    close = 1e-12 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(value, wide**2 / 2 - wide**4 / 12, rtol=close)
    np.testing.assert_allclose(slope, np.tanh(wide), rtol=close)


@pytest.mark.variants
@every_loss
def test_huge_differences(loss: al.Loss, backend: Backend) -> None:
    """Neither value nor gradient overflows on the way, in float32."""
    d = np.asarray([1e30, -1e30, 3e38, -39.0, 41.0, 200.0], dtype=np.float32)
    # The square of a number does, where it is not used; NumPy under array-api-strict says so.
    with np.errstate(over="ignore"):
        value, slope = losses_and_slopes(backend, loss, d, "float32")
    size, sign, name = np.abs(d).astype(np.float64), np.sign(d).astype(np.float64), type(loss).__name__
    width = 0.7
    expected, expected_slope = {
        "SmoothL1Loss": (size - getattr(loss, "beta", 0.0) / 2, sign),
        "HuberLoss": (width * (size - width / 2), width * sign),
        "LogCoshLoss": (size - math.log(2), sign),
        "QuantileLoss": (size * np.where(d > 0, 0.7, 0.3), np.where(d > 0, 0.7, -0.3)),
    }.get(name, (size, sign))
    np.testing.assert_allclose(value, expected, rtol=3e-7)
    np.testing.assert_allclose(slope, expected_slope, rtol=3e-7)


@pytest.mark.variants
@pytest.mark.parametrize("epsilon", [1e-18, 1e-12, 1e-3, 1.0, 1e9])
def test_charbonnier_of_any_width(epsilon: float, backend: Backend) -> None:
    d = np.asarray([0.0, 1e-30, -1e-12, 1e-3, 1.0, -1e12, 1e25, 1e30], dtype=np.float32)
    with np.errstate(over="ignore"):
        value, slope = losses_and_slopes(backend, al.CharbonnierLoss(epsilon, reduction="none"), d, "float32")
    expected = np.hypot(d.astype(np.float64), epsilon)
    np.testing.assert_allclose(value, expected, rtol=5e-7)
    np.testing.assert_allclose(slope, d / expected, rtol=5e-7, atol=1e-37)


@pytest.mark.variants
def test_quantiles_keep_their_digits(backend: Backend) -> None:
    loss = al.QuantileLoss(1e-6, reduction="none")
    value, slope = losses_and_slopes(backend, loss, [-2.0, 0.0, 2.0], "float32")
    np.testing.assert_allclose(value, [2e-6, 0.0, 2.0 * (1 - 1e-6)], rtol=2e-7)
    np.testing.assert_allclose(slope, [-1e-6, 0.5 - 1e-6, 1 - 1e-6], rtol=2e-7)


# Derivatives at 0 and beyond the first ------------------------------------------------------------------------------

CURVATURE = [
    (al.SmoothL1Loss(0.5, reduction="sum"), 2.0),
    (al.HuberLoss(0.5, reduction="sum"), 1.0),
    (al.LogCoshLoss(reduction="sum"), 1.0),
    (al.CharbonnierLoss(0.25, reduction="sum"), 4.0),
    (al.L1Loss(reduction="sum"), 0.0),
    (al.QuantileLoss(0.3, reduction="sum"), 0.0),
]


@pytest.mark.backends("torch", "jax")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own forward mode
@pytest.mark.parametrize(("loss", "at_zero"), CURVATURE, ids=repr)
def test_second_derivatives(loss: al.Loss, at_zero: float, backend: Backend) -> None:
    """At a perfect prediction, where a form in absolute values would have none; and elsewhere, by differences."""
    d = np.asarray([0.0, 0.2, -0.3, 1.7])
    zero = backend.array(np.zeros_like(d))
    if backend.name == "torch":
        import torch

        found = torch.func.hessian(loss)(backend.array(d), zero)
    else:
        import jax

        found = jax.hessian(loss)(backend.array(d), zero)
    step = 1e-5
    slopes = [al.value_and_grad(loss)(d + s, np.zeros_like(d))[1] for s in (step, -step)]
    expected = (slopes[0] - slopes[1]) / (2 * step)
    expected[0] = at_zero
    np.testing.assert_allclose(backend.numpy(found), np.diag(expected), atol=1e-6)


@pytest.mark.backends("numpy", "torch", "jax")
@every_loss
def test_the_target_may_be_learned(loss: al.Loss, backend: Backend, rng: np.random.Generator) -> None:
    """The gradient to the target is that to the prediction, negative, at ties too."""
    x, t = pair(rng)
    t[:, :5] = x[:, :5]

    def both(arrays: tuple[Any, Any], _: None) -> Any:
        return loss(*arrays)

    _, (to_prediction, to_target) = al.value_and_grad(both)((backend.array(x), backend.array(t)), None)
    np.testing.assert_allclose(backend.numpy(to_target), -backend.numpy(to_prediction), rtol=1e-12, atol=1e-15)


@pytest.mark.backends("numpy", "torch", "jax")
def test_more_entries_than_are_taken_at_once(backend: Backend, rng: np.random.Generator) -> None:
    x, t = rng.normal(size=(2, 3, 400_001))
    t[rng.random(t.shape) < 0.1] = 255.0
    for loss in (al.HuberLoss(0.5, ignore_index=255), al.LogCoshLoss(ignore_index=255)):
        value, slope = backend.value_and_grad(loss, backend.array(x), backend.array(t))
        kept = t != 255.0
        d = np.where(kept, x - t, 0.0)
        size = np.abs(d)
        each = {
            "HuberLoss": np.where(size < 0.5, d * d / 2, 0.5 * (size - 0.25)),
            "LogCoshLoss": np.log(np.cosh(d)),
        }[type(loss).__name__]
        slopes = np.clip(d, -0.5, 0.5) if isinstance(loss, al.HuberLoss) else np.tanh(d)
        np.testing.assert_allclose(backend.numpy(value), each.sum() / kept.sum(), rtol=1e-12)
        np.testing.assert_allclose(backend.numpy(slope), slopes / kept.sum(), rtol=1e-12, atol=1e-20)
