"""Divergences and margin losses beside the implementations that others know them by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from peers import by_torch

import arrayloss as al


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def compare(ours: Any, theirs: Any, *arrays: np.ndarray) -> None:
    """Compare values and gradients of two functions of tensors."""
    for found, expected in zip(by_torch(ours, *arrays), by_torch(theirs, *arrays), strict=True):
        close(found, expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_torch_kl_div(temperature: float, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    logits, teacher = rng.normal(size=(2, 4, 5, 6)), rng.normal(size=(2, 4, 5, 6))

    def theirs(x: Any, t: Any) -> Any:
        # torch's "sum", since its "mean" divides by classes too, and its "batchmean" by N alone: here by positions.
        log_p, log_q = (torch.log_softmax(a / temperature, dim=1) for a in (x, t))
        loss = torch.nn.KLDivLoss(reduction="sum", log_target=True)(log_p, log_q)
        return loss * temperature**2 / 60

    compare(al.KLDivLoss(temperature=temperature), theirs, logits, teacher)


def test_torch_soft_cross_entropy(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    logits, teacher, weight = rng.normal(size=(2, 4, 5)), rng.normal(size=(2, 4, 5)), (0.5, 1.0, 2.0, 3.0)

    def theirs(x: Any, t: Any) -> Any:
        return torch.nn.CrossEntropyLoss(torch.tensor(weight, dtype=torch.float64))(x, t.softmax(dim=1))

    compare(al.DistillCrossEntropyLoss(weight), theirs, logits, teacher)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weight", [None, (0.5, 1.0, 2.0, 3.0)])
def test_torch_multi_margin(p: int, weight: Any, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    logits, labels = rng.normal(size=(30, 4)), rng.integers(0, 4, size=30)
    given = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    theirs = torch.nn.MultiMarginLoss(p, margin=0.7, weight=given)
    compare(al.MultiMarginLoss(p, 0.7, weight), theirs, logits, labels)


def test_optax_hinge(rng: np.random.Generator) -> None:
    """optax takes targets of -1 and 1."""
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    scores, target = rng.normal(size=(40, 1)), rng.integers(0, 2, size=(40, 1))
    x, y = jax.numpy.asarray(scores), jax.numpy.asarray(target)
    for loss, power in ((al.HingeLoss(), 1), (al.SquaredHingeLoss(), 2)):

        def theirs(x: Any, power: int = power) -> Any:
            return (optax.losses.hinge_loss(x, 2 * y - 1) ** power).mean()

        value, gradient = jax.value_and_grad(theirs)(x)
        found, slope = al.value_and_grad(loss)(x, y)
        close(found, value)
        close(slope, gradient)


def test_optax_kl_divergence(rng: np.random.Generator) -> None:
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    logits, teacher = (jax.numpy.asarray(rng.normal(size=(30, 4))) for _ in range(2))

    def theirs(x: Any) -> Any:
        return optax.losses.kl_divergence_with_log_targets(jax.nn.log_softmax(x), jax.nn.log_softmax(teacher)).mean()

    value, gradient = jax.value_and_grad(theirs)(logits)
    found, slope = al.value_and_grad(al.KLDivLoss())(logits, teacher)
    close(found, value)
    close(slope, gradient)


def test_scipy_jensen_shannon(rng: np.random.Generator) -> None:
    """SciPy's is the square root of the divergence, with natural logarithms by default."""
    distance = pytest.importorskip("scipy.spatial.distance")
    special = pytest.importorskip("scipy.special")
    logits, teacher = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    expected = distance.jensenshannon(special.softmax(logits, axis=1), special.softmax(teacher, axis=1), axis=1) ** 2
    close(al.js_div_loss(logits, teacher, reduction="none"), expected)
