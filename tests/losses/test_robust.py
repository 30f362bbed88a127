"""What is special to the cross entropies of another shape: their limits, bounds and values by hand."""

from __future__ import annotations

import math
from typing import Any

import cases
import numpy as np
import pytest
from backends import Backend
from cases import Sample

import arrayloss as al

MAKERS = [cases.labels, cases.soft]


def same(found: Any, expected: Any, sample: Sample, rtol: float = 1e-13, scale: float = 1.0) -> None:
    """Hold value and gradient of a loss against a multiple of those of another."""
    f = al.value_and_grad(found)(sample.logits, sample.target)
    e = al.value_and_grad(expected)(sample.logits, sample.target)
    for a, b in zip(f, e, strict=True):
        np.testing.assert_allclose(a, scale * b, rtol=rtol, atol=rtol * np.abs(b).max())


def missed(logits: Any, target: Any) -> Any:
    """Return the mean of 1 - p_y over what is valid, written down."""
    xp = logits.__array_namespace__()
    e = xp.exp(logits)
    p = e / xp.sum(e, axis=1, keepdims=True)
    if target.dtype.kind == "f":
        return xp.mean(xp.sum(target * (1.0 - p), axis=1))
    hit = (target[:, None] == np.arange(logits.shape[1]).reshape(1, -1, 1, 1)).astype(float)
    return xp.sum(xp.sum((1.0 - p) * hit, axis=1) * (target != 255)) / np.count_nonzero(target != 255)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_epsilon_0_is_cross_entropy(make: Any, smoothing: float, rng: np.random.Generator) -> None:
    sample = make(rng)
    weight = (0.5, 1.0, 0.0, 3.0)[: sample.logits.shape[1]]
    expected = al.CrossEntropyLoss(weight, label_smoothing=smoothing)
    same(al.PolyLoss(0.0, weight, label_smoothing=smoothing), expected, sample)


@pytest.mark.parametrize("make", MAKERS)
def test_poly_adds_what_is_missed(make: Any, rng: np.random.Generator) -> None:
    sample = make(rng)
    found = al.value_and_grad(al.PolyLoss(1.5))(sample.logits, sample.target)
    first = al.value_and_grad(al.CrossEntropyLoss())(sample.logits, sample.target)
    second = al.value_and_grad(missed)(sample.logits, sample.target)
    for f, a, b in zip(found, first, second, strict=True):
        np.testing.assert_allclose(f, a + 1.5 * b, rtol=1e-12, atol=1e-15)


def test_poly_by_hand() -> None:
    """Of p = 0.8: -log 0.8 + 2 0.2."""
    logits = np.asarray([[math.log(4.0), 0.0]])
    np.testing.assert_allclose(al.PolyLoss(2.0)(logits, np.asarray([0])), -math.log(0.8) + 0.4, rtol=1e-14)


@pytest.mark.parametrize("make", MAKERS)
def test_beta_0_is_cross_entropy(make: Any, rng: np.random.Generator) -> None:
    same(al.SymmetricCrossEntropyLoss(1.0, 0.0), al.CrossEntropyLoss(), make(rng))


def test_alpha_0_is_what_is_missed(rng: np.random.Generator) -> None:
    """Of labels, reverse cross entropy is -A (1 - p_y)."""
    sample = cases.labels(rng)
    same(al.SymmetricCrossEntropyLoss(0.0, 1.0, log_zero=-4.0), missed, sample, 1e-12, 4.0)


def test_symmetric_of_labels_is_poly(rng: np.random.Generator) -> None:
    sample = cases.labels(rng)
    same(al.SymmetricCrossEntropyLoss(2.0, 0.5, log_zero=-8.0), al.PolyLoss(2.0), sample, scale=2.0)


def test_symmetric_of_one_hot_probabilities_is_that_of_labels(rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(3, 4, 5)), rng.integers(0, 4, size=(3, 5))
    one_hot = (labels[:, None] == np.arange(4)[:, None]).astype(float)
    for loss in (
        al.SymmetricCrossEntropyLoss(0.3, 0.7),
        al.PolyLoss(label_smoothing=0.3),
        al.GeneralizedCrossEntropyLoss(),
    ):
        found, expected = (al.value_and_grad(loss)(logits, t) for t in (one_hot, labels))
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-16)


def test_symmetric_by_hand() -> None:
    """Of p = (0.8, 0.2) and t = (0.5, 0.5): the entropies of both, log 0.5 being above log 0."""
    logits = np.asarray([[math.log(4.0), 0.0]])
    found = al.SymmetricCrossEntropyLoss(0.1, 2.0)(logits, np.asarray([[0.5, 0.5]]))
    expected = 0.1 * -0.5 * (math.log(0.8) + math.log(0.2)) + 2.0 * math.log(2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    # t = (1, 0) and (e^-3, ...): what is below log 0 counts as log 0.
    found = al.SymmetricCrossEntropyLoss(0.0, 1.0, log_zero=-2.0)(logits, np.asarray([[1.0, math.exp(-3.0)]]))
    np.testing.assert_allclose(found, 0.2 * 2.0, rtol=1e-14)


@pytest.mark.parametrize("make", MAKERS)
def test_q_near_0_is_cross_entropy(make: Any, rng: np.random.Generator) -> None:
    """The difference is q ce^2 / 2 and more of that order; no digits are lost."""
    sample = make(rng)
    weight = (0.5, 1.0, 2.0, 3.0)[: sample.logits.shape[1]]
    same(al.GeneralizedCrossEntropyLoss(1e-12, weight), al.CrossEntropyLoss(weight), sample, 1e-10)


@pytest.mark.parametrize("make", MAKERS)
def test_q_of_1_is_what_is_missed(make: Any, rng: np.random.Generator) -> None:
    """Half the sum of |t_c - p_c|, the mean absolute error of the paper, for labels."""
    sample = make(rng)
    same(al.GeneralizedCrossEntropyLoss(1.0), missed, sample, 1e-12)


def test_generalized_by_hand() -> None:
    """Of p = 0.8: (1 - 0.8^0.5) / 0.5."""
    logits = np.asarray([[math.log(4.0), 0.0]])
    found = al.GeneralizedCrossEntropyLoss(0.5)(logits, np.asarray([0]))
    np.testing.assert_allclose(found, 2.0 * (1.0 - math.sqrt(0.8)), rtol=1e-14)


@pytest.mark.parametrize(
    ("loss", "bound"),
    [(al.GeneralizedCrossEntropyLoss(0.7), 1 / 0.7), (al.SymmetricCrossEntropyLoss(0.0, 1.0), 4.0)],
    ids=repr,
)
def test_bounded_at_a_label_that_is_impossible(loss: al.Loss, bound: float, backend: Backend) -> None:
    """-inf at the true class: the bound, with no gradient."""
    for low in (-math.inf, -1e4):
        logits = backend.array(np.asarray([[low, 0.0], [low, 0.0]]))
        value, gradient = backend.value_and_grad(loss, logits, backend.array(np.asarray([0, 0])))
        np.testing.assert_allclose(backend.numpy(value), bound, rtol=1e-14)
        np.testing.assert_array_equal(backend.numpy(gradient), np.zeros((2, 2)))


@pytest.mark.parametrize("loss", [al.PolyLoss(), al.PolyLoss(-1.0), al.GeneralizedCrossEntropyLoss()], ids=repr)
def test_small_losses_keep_their_digits(loss: al.Loss, backend: Backend) -> None:
    """In float32, where the true class is all but certain: 1 - p by subtraction would be 0 or a multiple of 6e-8."""
    logits = backend.array(np.asarray([[15.0, 0.0]], dtype=np.float32))
    value = backend.numpy(backend.value(loss, logits, backend.array(np.asarray([0]))))
    entropy = math.log1p(math.exp(-15.0))
    expected = {
        al.PolyLoss(): entropy - math.expm1(-entropy),
        al.PolyLoss(-1.0): 0.0,
        al.GeneralizedCrossEntropyLoss(): -math.expm1(-0.7 * entropy) / 0.7,
    }[loss]
    np.testing.assert_allclose(value, expected, rtol=0.2, atol=1e-12)


def test_a_log_zero_that_no_number_has_as_logarithm(backend: Backend) -> None:
    logits, target = np.asarray([[math.log(4.0), 0.0]]), np.asarray([[1.0, 0.0]])
    for dtype in ("float32", "float64"):
        given = backend.array(logits.astype(dtype)), backend.array(target.astype(dtype))
        found = al.SymmetricCrossEntropyLoss(0.0, 1.0, log_zero=-5000.0)(*given)
        np.testing.assert_allclose(backend.numpy(found), 1000.0, rtol=1e-6)
