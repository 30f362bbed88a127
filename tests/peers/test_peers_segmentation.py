"""The losses of auxiliary heads against their definitions in the operators of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arrayloss as al

torch = pytest.importorskip("torch")
F: Any = torch.nn.functional


def agree(loss: Callable[..., Any], peer: Callable[..., Any], *leaves: np.ndarray) -> None:
    """Compare values and gradients."""
    results = []
    for function in (loss, peer):
        x = [torch.from_numpy(leaf.copy()).requires_grad_() for leaf in leaves]
        value = function(*x)
        value.backward()
        results.append([value.detach(), *(a.grad for a in x)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("weight", [None, [0.5, 1.0, 2.0, 4.0]], ids=str)
@pytest.mark.parametrize("space", [(11, 13), (4, 5, 6)], ids=str)
def test_points_read_labels_as_grid_sample(
    space: tuple[int, ...], weight: list[float] | None, rng: np.random.Generator
) -> None:
    # Points on the border of two pixels, where grid_sample rounds to even and may read beyond the image, are left out.
    target = torch.from_numpy(rng.integers(0, 4, size=(3, *space)))
    target[torch.from_numpy(rng.random(target.shape) < 0.2)] = 255
    points = torch.from_numpy(rng.random((3, 50, len(space))))
    grid = (points * 2 - 1).reshape((3, 50, *(1,) * (len(space) - 1), len(space)))
    at_points = F.grid_sample(target[:, None].double(), grid, mode="nearest", align_corners=False)
    at_points = at_points.reshape((3, 50)).long()
    class_weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    agree(
        lambda x: al.point_cross_entropy_loss((x, points), target, weight=weight),
        lambda x: F.cross_entropy(x, at_points, weight=class_weight, ignore_index=255),
        rng.normal(size=(3, 4, 50)),
    )


def test_scenes_are_binary_cross_entropy_of_a_histogram(rng: np.random.Generator) -> None:
    # PaddleSeg takes ignored pixels into no histogram either: 255 is beyond its range. An image of nothing else is
    # left out here and a scene without any class there, so that every image has a valid pixel.
    target = torch.from_numpy(rng.integers(0, 9, size=(4, 3, 4)))
    target[:, 1:, :2] = 255
    present = torch.stack([torch.histc(image.double(), bins=9, min=0, max=8) > 0 for image in target])
    agree(
        lambda x: al.se_cross_entropy_loss(x, target),
        lambda x: F.binary_cross_entropy_with_logits(x, present.double()),
        rng.normal(size=(4, 9)),
    )


@pytest.mark.parametrize("size", [(16, 24), (11, 13), (5, 7)], ids=str)
def test_details_are_strided_laplacians(size: tuple[int, int], rng: np.random.Generator) -> None:
    # Without ignored pixels, which the convolution takes for a class of their own.
    blocks = rng.integers(0, 5, size=(2, 6, 8))
    target = torch.from_numpy(np.kron(blocks, np.ones((1, 3, 3), dtype=np.int64))[:, : size[0], : size[1]].copy())
    kernel = torch.full((1, 1, 3, 3), -1.0)
    kernel[0, 0, 1, 1] = 8.0
    fused = torch.zeros(2, *size)
    for stride, tenths in ((1, 6), (2, 3), (4, 1)):
        response = F.conv2d(target[:, None].float(), kernel, stride=stride, padding=1)
        fused += tenths * (F.interpolate(response, size, mode="nearest")[:, 0] > 0.1)
    for threshold in (0.05, 0.1, 0.5):
        detail = fused > 10 * threshold
        torch.testing.assert_close(al.detail_targets(target, threshold=threshold), detail.long())

    # The squares are those of the paper; its authors' code, and PaddleSeg's, leave them out.
    g = (fused > 1).double()

    def peer(x: Any) -> Any:
        p = x.sigmoid()[:, 0]
        overlap, sizes = (p * g).sum(dim=(1, 2)), (p**2 + g**2).sum(dim=(1, 2))
        dice = 1 - (2 * overlap + 1) / (sizes + 1)
        return F.binary_cross_entropy_with_logits(x[:, 0], g) + dice.mean()

    agree(lambda x: al.detail_aggregate_loss(x, target), peer, rng.normal(size=(2, 1, *size)))
