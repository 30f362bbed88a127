"""The losses of the distance to the boundary beside MONAI's, and the authors' formula of the boundary loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayloss as al


def scene(classes: int, space: tuple[int, ...], seed: int = 3) -> tuple[Any, Any]:
    """Return logits and labels in blocks of 3 pixels, of which a class and, in a second image, two are missing."""
    import torch

    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, max(classes - 1, 2), size=(2, *(-(-n // 3) for n in space)))
    blocks[1] = blocks[1] % 2
    for axis, n in enumerate(space, start=1):
        blocks = np.repeat(blocks, 3, axis=axis)[tuple(slice(n if i == axis else None) for i in range(blocks.ndim))]
    logits = rng.normal(size=(2, classes, *space)) + 2.0 * (np.arange(classes).reshape(-1, *(1,) * len(space)) == 1)
    return torch.tensor(logits, requires_grad=True), torch.tensor(blocks)


def value_and_grad(loss: Any, logits: Any, *arguments: Any, **arrays: Any) -> tuple[float, np.ndarray]:
    logits.grad = None
    value = loss(logits, *arguments, **arrays)
    value.backward()
    return float(value.detach()), logits.grad.numpy().copy()


def agree(ours: tuple[float, np.ndarray], theirs: tuple[float, np.ndarray], tolerance: float = 1e-6) -> None:
    """Compare values and gradients; distances are float32 on both sides."""
    assert abs(theirs[0]) > 1e-3
    np.testing.assert_allclose(ours[0], theirs[0], rtol=tolerance)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=tolerance * np.abs(theirs[1]).max())


@pytest.mark.parametrize("space", [(11, 13), (5, 7, 6)], ids=str)
@pytest.mark.parametrize("include_background", [True, False])
@pytest.mark.parametrize("alpha", [2.0, 1.0])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_hausdorff_of_monai(activation: str, alpha: float, include_background: bool, space: tuple[int, ...]) -> None:
    # A class without a region in target and prediction counts 0 in both; MONAI's background is left out by default.
    losses = pytest.importorskip("monai.losses")
    logits, target = scene(4, space)
    theirs = losses.HausdorffDTLoss(
        alpha=alpha, include_background=include_background, to_onehot_y=True, **{activation: True}
    )
    ours = al.HausdorffDTLoss(alpha=alpha, include_background=include_background, activation=activation)
    agree(value_and_grad(ours, logits, target), value_and_grad(theirs, logits, target[:, None]))


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_hausdorff_of_monai_with_one_class(activation: str | None) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, target = scene(1, (9, 10))
    if activation is None:
        logits = logits.detach().sigmoid().requires_grad_()
    theirs = losses.HausdorffDTLoss(include_background=True, sigmoid=activation == "sigmoid")
    ours = al.HausdorffDTLoss(activation=activation)
    agree(value_and_grad(ours, logits, target), value_and_grad(theirs, logits, target[:, None].double()))


def test_hausdorff_of_monai_by_class() -> None:
    # MONAI's "none" is the mean of each class in each image, ours the loss of each pixel: their means are the same.
    losses = pytest.importorskip("monai.losses")
    logits, target = scene(3, (9, 10))
    theirs = losses.HausdorffDTLoss(include_background=True, to_onehot_y=True, softmax=True, reduction="none")
    by_class = theirs(logits, target[:, None]).detach().numpy()
    each = al.HausdorffDTLoss(reduction="none")(logits, target).detach().numpy()
    np.testing.assert_allclose(each.mean(axis=(1, 2)) / 3, by_class.mean(axis=(1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("counted", [[0, 1, 2, 3], [1, 2, 3]])
def test_boundary_of_the_authors(counted: list[int]) -> None:
    # Their code: the mean of probability times distance over the classes that are asked for, in every image.
    torch = pytest.importorskip("torch")
    transform = pytest.importorskip("scipy.ndimage").distance_transform_edt
    logits, target = scene(4, (11, 13))
    distance = np.zeros(tuple(logits.shape))
    for n, c in np.ndindex(*distance.shape[:2]):
        inside = target[n].numpy() == c
        if inside.any():
            distance[n, c] = np.where(inside, 1.0 - transform(inside), transform(~inside))

    def theirs(logits: Any) -> Any:
        return (torch.softmax(logits, 1) * torch.tensor(distance))[:, counted].mean()

    ours = al.BoundaryLoss(include_background=0 in counted)
    agree(value_and_grad(ours, logits, target), value_and_grad(theirs, logits))
