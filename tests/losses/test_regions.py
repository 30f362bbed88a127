"""Losses of regions: the identities between them, and what their options mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import labels

import arrayloss as al

numpy_only = pytest.mark.backends("numpy")
EVERY = (al.DiceLoss, al.JaccardLoss, al.TverskyLoss, al.GeneralizedDiceLoss, al.LogCoshDiceLoss)
every_loss = pytest.mark.parametrize("loss", EVERY, ids=lambda loss: loss.__name__)


def same(a: al.Loss, b: Any, logits: np.ndarray, target: np.ndarray) -> None:
    """Two losses are one: in value and gradient."""
    (value, gradient), (other, slope) = (al.value_and_grad(loss)(logits, target) for loss in (a, b))
    np.testing.assert_allclose(value, other, rtol=1e-12)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-15)


@numpy_only
@pytest.mark.parametrize("options", [{}, {"squared": True}, {"activation": "sigmoid"}, {"batch": True}], ids=str)
def test_tversky_is_dice_and_jaccard(options: dict[str, Any], backend: Backend, rng: np.random.Generator) -> None:
    sample = labels(rng)
    for smooth in (0.0, 1.0):
        tversky, dice = al.TverskyLoss(smooth=smooth, **options), al.DiceLoss(smooth=2 * smooth, **options)
        same(tversky, dice, sample.logits, sample.target)
        tversky, jaccard = al.TverskyLoss(1.0, 1.0, smooth, **options), al.JaccardLoss(smooth=smooth, **options)
        same(tversky, jaccard, sample.logits, sample.target)


@numpy_only
def test_jaccard_of_sets_is_intersection_over_union(backend: Backend, rng: np.random.Generator) -> None:
    predicted, target = rng.random((3, 1, 9, 8)) < 0.4, rng.random((3, 1, 9, 8)) < 0.3
    found = al.jaccard_loss(predicted.astype(float), target, activation=None, reduction="none")
    union = (predicted | target).sum(axis=(2, 3))
    np.testing.assert_allclose(found, 1 - (predicted & target).sum(axis=(2, 3)) / union, rtol=1e-14)


@numpy_only
def test_a_generalized_loss_of_equal_areas_is_dice(backend: Backend, rng: np.random.Generator) -> None:
    target = np.stack([rng.permutation(np.repeat([0, 1], 15)) for _ in range(2)])
    logits = rng.normal(size=(2, 2, 30))
    # With p_0 = 1 - p_1, both classes also have the same predicted area where they have the same true one.
    for kind in ("square", "simple", "uniform"):
        weighted = al.generalized_dice_loss(logits, target, weight_type=kind, reduction="none")
        np.testing.assert_allclose(weighted, 1 - 2 * _overlap(logits, target) / 60, rtol=1e-12)


def _overlap(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    return np.where(target == 1, p, 1 - p).sum(axis=1)


@numpy_only
def test_log_cosh_keeps_its_digits(backend: Backend) -> None:
    """Near the perfect prediction log cosh d is d^2 / 2, where 1 + d^2 / 2 is 1 in float32."""
    logits = np.asarray([[[9.0, -9.0], [-9.0, 9.0]]])
    d = float(al.dice_loss(logits, np.asarray([[0, 1]])))
    found = al.log_cosh_dice_loss(logits, np.asarray([[0, 1]]))
    np.testing.assert_allclose(found, d * d / 2, rtol=1e-6)


@every_loss
def test_a_batch_is_one_image(loss: Any, backend: Backend, rng: np.random.Generator) -> None:
    if backend.compiles and loss is not al.DiceLoss:
        pytest.skip("one loss is compiled")
    sample = labels(rng)
    whole = np.concatenate(list(sample.logits), axis=1)[None], np.concatenate(list(sample.target), axis=0)[None]
    for reduction in ("mean", "sum", "none"):
        found = loss(batch=True, reduction=reduction)(*map(backend.array, (sample.logits, sample.target)))
        expected = loss(reduction=reduction)(*whole)
        np.testing.assert_allclose(backend.numpy(found), expected if reduction != "none" else expected[0], rtol=1e-12)


@numpy_only
@every_loss
def test_the_background_is_a_class_of_weight_0(loss: Any, backend: Backend, rng: np.random.Generator) -> None:
    sample = labels(rng)
    if loss is not al.GeneralizedDiceLoss:
        same(loss(include_background=False), loss(weight=(0, 1, 1, 1)), sample.logits, sample.target)
    alone = rng.normal(size=(2, 1, 6)), rng.integers(0, 2, size=(2, 6))
    with pytest.raises(ValueError, match="include_background is False with a single class"):
        loss(activation="sigmoid", include_background=False)(*alone)


@pytest.mark.eager
@every_loss
def test_probabilities_are_checked(loss: Any, backend: Backend, rng: np.random.Generator) -> None:
    if backend.compiles and loss is not al.DiceLoss:
        pytest.skip("one loss is compiled")
    p, target = rng.random((2, 3, 8)), rng.integers(0, 3, size=(2, 8))
    p[0, 1, 2] = 1.5
    loss, given = loss(activation=None), (backend.array(p), backend.array(target))
    if not backend.reads:
        assert np.isnan(backend.numpy(backend.value(loss, *given)))
        return
    with pytest.raises(ValueError, match=r"logits with activation=None holds values from .* to 1.5, expected"):
        loss(*given)


@numpy_only
@every_loss
def test_sigmoid_of_a_single_class_takes_a_label_map(loss: Any, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(2, 1, 4, 5)), rng.integers(0, 2, size=(2, 4, 5))
    target[:, 0] = 255
    value = loss(activation="sigmoid")(logits, target)
    for same_target in (target[:, None], target[:, None].astype(float), target.astype(np.uint8)):
        np.testing.assert_allclose(loss(activation="sigmoid")(logits, same_target), value, rtol=1e-14)


@numpy_only
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_a_perfect_region_has_no_gradient(gamma: float, backend: Backend) -> None:
    logits = backend.array(np.asarray([[[1e4, 1e4, -1e4], [-1e4, -1e4, 1e4]]]))
    target = backend.array(np.asarray([[0, 0, 1]]))
    value, gradient = map(backend.numpy, backend.value_and_grad(al.TverskyLoss(gamma=gamma), logits, target))
    assert value == 0
    assert (gradient == 0).all()


@numpy_only
def test_named_pairs_are_mixtures(backend: Backend, rng: np.random.Generator) -> None:
    sample = labels(rng)
    w = (0.3, 1.0, 2.0, 5.0)
    for reduction in ("mean", "sum"):
        parts = [al.CrossEntropyLoss(w, label_smoothing=0.1), al.DiceLoss(smooth=1.0, weight=w, batch=True)]
        pair = al.DiceCELoss(0.5, 2.0, 1.0, weight=w, label_smoothing=0.1, batch=True, reduction=reduction)
        same(pair, al.MixedLoss(parts, [0.5, 2.0], reduction=reduction), sample.logits, sample.target)
        parts = [al.BCELoss(pos_weight=w), al.DiceLoss(activation="sigmoid", squared=True)]
        pair = al.BCEDiceLoss(0.5, 2.0, pos_weight=w, squared=True, reduction=reduction)
        same(pair, al.MixedLoss(parts, [0.5, 2.0], reduction=reduction), sample.logits, sample.target)
    with pytest.raises(ValueError, match='reduction is "none" with batch=True'):
        al.DiceCELoss(batch=True, reduction="none")(sample.logits, sample.target)
