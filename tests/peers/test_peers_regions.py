"""Losses of regions beside MONAI's and segmentation_models_pytorch's: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend
from peers import by_torch

import arrayloss as al

pytestmark = pytest.mark.backends("torch")
#: What MONAI adds to numerator and denominator; arrayloss adds one number to both.
SMOOTH = {"smooth_nr": 1e-3, "smooth_dr": 1e-3}
#: Options of MONAI's losses, and the same here.
OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"include_background": False}, {"include_background": False}),
    ({"batch": True}, {"batch": True}),
]


@pytest.fixture
def monai() -> Any:
    return pytest.importorskip("monai.losses")


@pytest.fixture
def smp() -> Any:
    """segmentation_models_pytorch, which imports torchvision, uses none of it, and fails where that fits no torch."""
    torch = pytest.importorskip("torch")
    try:
        pytest.importorskip("torchvision")
    except RuntimeError:
        # The operators whose shapes it could not register, declared; the library must stay alive.
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        smp.library = library
    return pytest.importorskip("segmentation_models_pytorch.losses")


def same(ours: Any, theirs: Any, logits: np.ndarray, target: np.ndarray, their_target: np.ndarray) -> None:
    (value, gradient), (expected, slope) = by_torch(ours, logits, target), by_torch(theirs, logits, their_target)
    # The peers make the one-hot form, and sums with it, in float32.
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-6 * np.abs(slope).max())


def scene(rng: np.random.Generator, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Every class in every image: of absent ones the libraries' opinions differ."""
    target = np.stack([rng.permutation(np.resize(np.arange(max(classes, 2)), 42)) for _ in range(3)])
    return rng.normal(size=(3, classes, 6, 7)), target.reshape(3, 6, 7)


@pytest.mark.parametrize(("theirs", "ours"), [*OPTIONS, ({"squared_pred": True}, {"squared": True})], ids=str)
def test_dice_is_monais(monai: Any, theirs: Any, ours: Any, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = scene(rng)
    peer = monai.DiceLoss(softmax=True, to_onehot_y=True, **SMOOTH, **theirs)
    same(al.DiceLoss(smooth=1e-3, **ours), peer, logits, target, target[:, None])
    # MONAI has its Jaccard as a fraction of twice the areas, so its smooth is another.
    peer = monai.DiceLoss(softmax=True, to_onehot_y=True, jaccard=True, smooth_nr=0.0, smooth_dr=0.0, **theirs)
    same(al.JaccardLoss(**ours), peer, logits, target, target[:, None])


def test_dice_of_sigmoids_is_monais(monai: Any, backend: Backend, rng: np.random.Generator) -> None:
    logits = rng.normal(size=(3, 4, 6, 7))
    target = (rng.random(logits.shape) < 0.4).astype(np.float64)
    exact = {"smooth_nr": 0.0, "smooth_dr": 0.0}
    same(al.DiceLoss(activation="sigmoid"), monai.DiceLoss(sigmoid=True, **exact), logits, target, target)
    p = 1 / (1 + np.exp(-logits))
    same(al.DiceLoss(activation=None), monai.DiceLoss(**exact), p, target, target)


@pytest.mark.parametrize(("theirs", "ours"), OPTIONS, ids=str)
def test_tversky_is_monais(monai: Any, theirs: Any, ours: Any, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = scene(rng)
    peer = monai.TverskyLoss(softmax=True, to_onehot_y=True, alpha=0.3, beta=0.7, **SMOOTH, **theirs)
    same(al.TverskyLoss(0.3, 0.7, 1e-3, **ours), peer, logits, target, target[:, None])


@pytest.mark.parametrize("kind", ["square", "simple", "uniform"])
@pytest.mark.parametrize(("theirs", "ours"), OPTIONS, ids=str)
def test_generalized_dice_is_monais(
    monai: Any, theirs: Any, ours: Any, kind: str, backend: Backend, rng: np.random.Generator
) -> None:
    logits, target = scene(rng)
    for absent in (False, True):
        if absent:
            # Class 3 is missing from one image: its weight there is the largest of the others on both sides.
            target[1] = np.where(target[1] == 3, 0, target[1])
        peer = monai.GeneralizedDiceLoss(softmax=True, to_onehot_y=True, w_type=kind, **SMOOTH, **theirs)
        same(al.GeneralizedDiceLoss(kind, 1e-3, **ours), peer, logits, target, target[:, None])


def test_dice_ce_is_monais(monai: Any, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = scene(rng)
    peer = monai.DiceCELoss(softmax=True, to_onehot_y=True, lambda_dice=0.5, lambda_ce=2.0, squared_pred=True, **SMOOTH)
    same(al.DiceCELoss(2.0, 0.5, 1e-3, squared=True), peer, logits, target, target[:, None])


def test_ignored_labels_are_monais(monai: Any, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = scene(rng)
    target[rng.random(target.shape) < 0.2] = 255
    peer = monai.DiceLoss(softmax=True, to_onehot_y=True, ignore_index=255, **SMOOTH)
    same(al.DiceLoss(smooth=1e-3), peer, logits, target, target[:, None])


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_smp_sums_over_the_batch(smp: Any, smooth: float, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = scene(rng)
    target[rng.random(target.shape) < 0.2] = 255
    mode = {"ignore_index": 255, "smooth": smooth, "eps": 0.0}
    # smp's Dice is its Tversky with prices of 1/2, in which a smooth counts twice.
    same(al.DiceLoss(batch=True, smooth=2 * smooth), smp.DiceLoss("multiclass", **mode), logits, target, target)
    # smp's Jaccard ignores nothing.
    logits, target = scene(rng)
    jaccard = smp.JaccardLoss("multiclass", smooth=smooth, eps=0.0)
    same(al.JaccardLoss(batch=True, smooth=smooth), jaccard, logits, target, target)


@pytest.mark.parametrize("gamma", [0.75, 1.0, 2.0])
def test_focal_tversky_is_smps(smp: Any, gamma: float, backend: Backend, rng: np.random.Generator) -> None:
    """smp takes the exponent of the mean of the classes; with one class that is the exponent of the class."""
    logits, target = rng.normal(size=(3, 1, 6, 7)), rng.integers(0, 2, size=(3, 1, 6, 7)).astype(np.float64)
    peer = smp.TverskyLoss("binary", alpha=0.3, beta=0.7, gamma=gamma, smooth=0.0, eps=0.0)
    loss = al.TverskyLoss(0.3, 0.7, gamma=gamma, activation="sigmoid", batch=True)
    same(loss, peer, logits, target, target)
