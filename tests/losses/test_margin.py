"""What is special to the margin losses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend

import arrayloss as al


def call(backend: Backend, loss: Any, logits: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    value, gradient = backend.value_and_grad(loss, backend.array(np.asarray(logits)), backend.array(np.asarray(target)))
    return backend.numpy(value), backend.numpy(gradient)


def test_hinges_by_hand(backend: Backend) -> None:
    """Scores before, at and beyond the margin, and on the wrong side, as a positive, a negative and neither."""
    scores = [[[-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]]]
    hinge, squared = al.HingeLoss(reduction="none"), al.SquaredHingeLoss(reduction="none")
    positive, slope = [3.0, 2.0, 1.0, 0.5, 0.0, 0.0], [-1.0, -1.0, -1.0, -1.0, -0.5, 0.0]
    negative, other_slope = [0.0, 0.0, 1.0, 1.5, 2.0, 4.0], [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    value, gradient = call(backend, hinge, scores, [[[1] * 6]])
    np.testing.assert_array_equal(value[0, 0], positive)
    np.testing.assert_array_equal(gradient[0, 0], slope)
    value, gradient = call(backend, hinge, scores, [[[0] * 6]])
    np.testing.assert_array_equal(value[0, 0], negative)
    np.testing.assert_array_equal(gradient[0, 0], other_slope)
    value, gradient = call(backend, hinge, scores, [[[0.5] * 6]])
    assert (value == 1).all()
    assert (gradient == 0).all()
    value, gradient = call(backend, squared, scores, [[[1] * 6]])
    np.testing.assert_array_equal(value[0, 0], np.square(positive))
    np.testing.assert_array_equal(gradient[0, 0], -2 * np.array(positive))


def test_labels_are_one_hot(backend: Backend, rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(2, 3, 5)), rng.integers(0, 3, size=(2, 5))
    one_hot = (labels[:, None] == np.arange(3)[:, None]).astype(np.float64)
    for loss in (al.HingeLoss(), al.SquaredHingeLoss()):
        value, gradient = call(backend, loss, logits, labels)
        expected, expected_gradient = call(backend, loss, logits, one_hot)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-14)


@pytest.mark.eager
@pytest.mark.parametrize("loss", [al.HingeLoss(), al.SquaredHingeLoss()], ids=repr)
def test_signs_for_targets(backend: Backend, loss: al.Loss) -> None:
    logits, target = backend.array(np.zeros((2, 1))), np.array([[-1], [1]])
    if backend.reads:
        for given in (target, target * 1.0):
            with pytest.raises(ValueError, match=r"holds values from -1 to 1, expected .*pass \(target \+ 1\) / 2"):
                loss(logits, backend.array(given))
    np.testing.assert_allclose(backend.numpy(loss(logits, backend.array((target + 1) / 2))), 1.0)


@pytest.mark.parametrize("loss", [al.HingeLoss(), al.SquaredHingeLoss()], ids=repr)
def test_infinite_scores(backend: Backend, loss: al.Loss) -> None:
    """On the right side they cost nothing; on the wrong side no more than fits, and never NaN."""
    value, gradient = call(backend, loss, [[np.inf], [-np.inf]], [[1], [0]])
    assert value == 0
    assert (gradient == 0).all()
    value, gradient = call(backend, loss, [[np.inf], [0.0], [0.0]], [[0], [0], [0]])
    assert value > 1e300
    assert np.isfinite(gradient).all()


def test_multi_margin_by_hand(backend: Backend) -> None:
    logits, labels = [[0.1, 0.2, 0.4, 0.8], [3.0, 2.5, 0.0, 2.0]], [3, 0]
    # max(0, 1 - z_y + z_c): 0.3, 0.4, 0.6 at the first position; 0.5, 0 and 0, at the margin itself, at the second.
    value, gradient = call(backend, al.MultiMarginLoss(reduction="none"), logits, labels)
    np.testing.assert_allclose(value, [1.3 / 4, 0.5 / 4], rtol=1e-12)
    np.testing.assert_allclose(gradient * 4, [[1, 1, 1, -3], [-1.5, 1, 0, 0.5]], rtol=1e-12)
    value, _ = call(backend, al.MultiMarginLoss(2, weight=(2.0, 1.0, 1.0, 3.0), reduction="none"), logits, labels)
    np.testing.assert_allclose(value, [3 * (0.09 + 0.16 + 0.36) / 4, 2 * 0.25 / 4], rtol=1e-12)
    # The mean is over positions, not over weights.
    mean, _ = call(backend, al.MultiMarginLoss(2, weight=(2.0, 1.0, 1.0, 3.0)), logits, labels)
    np.testing.assert_allclose(mean, value.mean(), rtol=1e-12)


def test_a_small_loss_beside_a_large_margin(backend: Backend) -> None:
    """The class of the label is left out, not taken off: no digit of the others is lost."""
    logits = np.array([[1000.0, 1e-3, -5.0]], dtype=np.float32)
    value, _ = call(backend, al.MultiMarginLoss(margin=1000.0), logits, [0])
    np.testing.assert_allclose(value, np.float32(1e-3) / 3, rtol=1e-1)
    value, _ = call(backend, al.MultiMarginLoss(margin=1e6), np.array([[2e6, 1e6 + 0.125, 0.0]], np.float32), [0])
    np.testing.assert_array_equal(value, np.float32(0.125) / 3)


def test_multi_margin_of_classes_ruled_out(backend: Backend, rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(2, 3, 5)), rng.integers(0, 2, size=(2, 5))
    logits[:, 2] = -np.inf
    for p in (1, 2):
        value, gradient = call(backend, al.MultiMarginLoss(p), logits, labels)
        without, _ = call(backend, al.MultiMarginLoss(p), logits[:, :2], labels)
        np.testing.assert_allclose(value * 3, without * 2, rtol=1e-12)
        assert (gradient[:, 2] == 0).all()


def test_a_shift_of_all_scores_changes_nothing(backend: Backend, rng: np.random.Generator) -> None:
    logits, labels = rng.normal(size=(2, 4, 5)), rng.integers(0, 4, size=(2, 5))
    value, gradient = call(backend, al.MultiMarginLoss(2), logits, labels)
    shifted, _ = call(backend, al.MultiMarginLoss(2), logits + 100.0, labels)
    np.testing.assert_allclose(shifted, value, rtol=1e-12)
    np.testing.assert_allclose(gradient.sum(axis=1), 0.0, atol=1e-15)


@pytest.mark.parametrize("p", [0, 3, 1.0, True, "1", None])
def test_powers(p: Any) -> None:
    with pytest.raises(ValueError, match=r"^multi_margin_loss: p is .*expected 1 or 2"):
        al.MultiMarginLoss(p)
