"""What the losses of auxiliary heads need beyond the contract suite: points, scenes and details."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import W4, labels
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from reference import heads as reference

import arrayloss as al


def value(backend: Backend, loss: Any, logits: Any, target: np.ndarray) -> np.ndarray:
    given = tuple(map(backend.array, logits)) if isinstance(logits, tuple) else backend.array(logits)
    return backend.numpy(backend.value(loss, given, backend.array(target)))


def centres(space: tuple[int, ...], images: int = 2) -> np.ndarray:
    """Return the middle of every pixel in [0, 1], the coordinate of the last axis first, for each image."""
    indices = np.indices(space).reshape((len(space), -1))
    middles = (indices + 0.5) / np.asarray(space)[:, None]
    return np.broadcast_to(middles[::-1].T, (images, indices.shape[1], len(space))).copy()


# Points -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [(5, 6), (7,), (2, 4, 3)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "parts"])
def test_points_at_all_pixels_are_cross_entropy(
    space: tuple[int, ...], reduction: str, backend: Backend, rng: np.random.Generator
) -> None:
    if backend.compiles and (reduction != "mean" or space != (2, 4, 3)):
        pytest.skip("compiled once")
    sample = labels(rng, space=space)
    scores = sample.logits.reshape((2, 4, -1))
    order = rng.permutation(scores.shape[2])
    points = backend.array(centres(space)[:, order])
    options = {"weight": W4, "reduction": reduction}
    found, (gradient, of_points) = backend.value_and_grad(
        al.PointCrossEntropyLoss(**options), (backend.array(scores[..., order]), points), backend.array(sample.target)
    )
    expected, expected_gradient = al.value_and_grad(al.CrossEntropyLoss(**options))(sample.logits, sample.target)
    if reduction == "parts":
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(backend.numpy(f), e, rtol=1e-12)
    else:
        expected = expected.reshape((2, -1))[:, order] if reduction == "none" else expected
        np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-12)
    expected_gradient = expected_gradient.reshape(scores.shape)[..., order]
    np.testing.assert_allclose(backend.numpy(gradient), expected_gradient, rtol=1e-10, atol=1e-16)
    assert (backend.numpy(of_points) == 0).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_where_points_lie(dtype: str, backend: Backend) -> None:
    """A pixel holds its left and upper border; 1 belongs to the last one. x runs along the rows of the map."""
    target = np.arange(8).reshape((1, 2, 4))
    scores = np.broadcast_to(np.arange(8.0)[:, None], (8, 8))[None]
    points = [(0, 0), (0.25, 0), (0.2499, 0.499), (1, 0), (0, 1), (1, 1), (0.999, 0.5), (0.5, 0.5)]
    pixels = [0, 1, 0, 3, 4, 7, 7, 6]
    loss = al.PointCrossEntropyLoss(reduction="none")
    found = value(backend, loss, (scores.astype(dtype), np.asarray([points], dtype=dtype)), target)
    # Scores are the classes: the loss tells the label.
    np.testing.assert_allclose(np.log(np.exp(np.arange(8.0)).sum()) - found[0], pixels, atol=1e-5)


def test_points_keep_a_precision_of_their_own(backend: Backend) -> None:
    """float32 points of half-precision scores find each of many pixels."""
    if "bfloat16" not in backend.dtypes():
        pytest.skip(f"{backend.name} has no bfloat16")
    target = np.arange(3000).reshape((1, 1, 3000)) % 2
    points = np.stack([(np.arange(3000) + 0.5) / 3000, np.zeros(3000)], axis=1).astype(np.float32)[None]
    scores = np.broadcast_to(np.asarray([[[4.0], [-4.0]]]), (1, 2, 3000)).astype("bfloat16")
    found = value(backend, al.PointCrossEntropyLoss(reduction="none"), (scores, points), target)
    assert found.dtype == np.float32
    assert ((found[0] > 1.0) == target.reshape(-1)).all()


def test_point_logits_with_the_classes_last(backend: Backend, rng: np.random.Generator) -> None:
    scores, points, target = rng.normal(size=(2, 3, 9)), rng.random((2, 9, 2)), rng.integers(0, 3, size=(2, 4, 5))
    loss = al.PointCrossEntropyLoss(weight=(1.0, 2.0, 3.0))
    expected = value(backend, loss, (scores, points), target)
    for axis in (-1, 2):
        moved = value(backend, replace(loss, axis=axis), (np.moveaxis(scores, 1, -1), points), target)
        np.testing.assert_allclose(moved, expected, rtol=1e-13)
    first = value(backend, replace(loss, axis=0), (np.moveaxis(scores, 1, 0), points), target)
    np.testing.assert_allclose(first, expected, rtol=1e-13)
    np.testing.assert_array_equal(value(backend, loss, (scores, points), target[:, None]), expected)


def test_labels_without_a_point_are_not_looked_at(backend: Backend, rng: np.random.Generator) -> None:
    target = np.asarray([[[0, 99], [-7, 1]]])
    given = backend.array(rng.normal(size=(1, 2, 2))), backend.array(np.asarray([[[0.2, 0.2], [0.7, 0.7]]]))
    assert backend.numpy(backend.value(al.PointCrossEntropyLoss(), given, backend.array(target))) > 0


@pytest.mark.eager
@pytest.mark.parametrize("wrong", [-0.001, 1.001, np.nan, np.inf, -np.inf], ids=str)
def test_points_outside(wrong: float, backend: Backend, rng: np.random.Generator) -> None:
    if backend.compiles and wrong != 1.001:
        pytest.skip("compiled once")
    points = rng.random((2, 9, 2))
    points[1, 4, 0] = wrong
    given = backend.array(rng.normal(size=(2, 3, 9))), backend.array(points)
    target = backend.array(rng.integers(0, 3, size=(2, 4, 5)))
    if backend.reads and backend.name != "strict":
        with pytest.raises(
            ValueError, match=r"^point_cross_entropy_loss: logits\[1\] holds values from .* in \[0, 1\]"
        ):
            al.PointCrossEntropyLoss()(given, target)
    else:
        assert np.isnan(backend.numpy(backend.value(al.PointCrossEntropyLoss(), given, target)))


def test_no_points(backend: Backend) -> None:
    target = backend.array(np.zeros((2, 3, 3), dtype=np.int64))
    given = backend.array(np.zeros((2, 4, 0))), backend.array(np.zeros((2, 0, 2)))
    found, (gradient, _) = backend.value_and_grad(al.PointCrossEntropyLoss(), given, target)
    assert backend.numpy(found) == 0
    assert gradient.shape == (2, 4, 0)


BAD_POINTS = [
    (np.zeros((2, 3, 4, 5)), np.zeros((2, 20, 2)), (2, 4, 5), r"ValueError: logits\[0\] has shape .*\(N, C, P\)"),
    (np.zeros((2, 3, 9)), np.zeros((2, 8, 2)), (2, 4, 5), r"ValueError: logits\[1\] has shape .*expected \(2, 9, D\)"),
    (np.zeros((2, 3, 9)), np.zeros((1, 9, 2)), (2, 4, 5), r"ValueError: logits\[1\] has shape .*expected \(2, 9, D\)"),
    (np.zeros((2, 3, 9)), np.zeros((2, 2, 9)), (2, 4, 5), r"ValueError: logits\[1\] has shape .*expected \(2, 9, D\)"),
    (np.zeros((2, 3, 9)), np.zeros((2, 9, 2), dtype=np.int64), (2, 4, 5), r"TypeError: logits\[1\] has dtype int64"),
    (np.zeros((2, 3, 9)), np.zeros((2, 9, 2)), (3, 4, 5), r"ValueError: target has shape .*expected .*\(2, \*S\)"),
    (np.zeros((2, 3, 9)), np.zeros((2, 9, 2)), (2, 4, 5, 6), "ValueError: target has shape .*2 axes of space"),
    (np.zeros((2, 3, 9)), np.zeros((2, 9, 3)), (2, 4, 5), "ValueError: target has shape .*3 axes of space"),
    (np.zeros((2, 3, 9)), np.zeros((2, 9, 2)), (2, 0, 5), "ValueError: target has shape .*at least one pixel"),
]


@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize(("scores", "points", "space", "message"), BAD_POINTS, ids=range(len(BAD_POINTS)))
def test_misfits_of_points(
    scores: np.ndarray, points: np.ndarray, space: tuple[int, ...], message: str, backend: Backend
) -> None:
    kind, _, text = message.partition(": ")
    target = np.zeros(space, dtype=np.int64)
    with pytest.raises({"ValueError": ValueError, "TypeError": TypeError}[kind], match=text):
        value(backend, al.PointCrossEntropyLoss(), (scores, points), target)


@pytest.mark.backends("numpy")
def test_points_come_as_a_pair(backend: Backend) -> None:
    scores, target = np.zeros((2, 3, 9)), np.zeros((2, 4, 5), dtype=np.int64)
    for logits, came in ((scores, "a ndarray"), ((scores,), "a tuple of 1")):
        with pytest.raises(TypeError, match=f"logits is {came}.*expected a tuple of two arrays"):
            al.PointCrossEntropyLoss()(logits, target)


# Scenes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [None, (1.0, 0.0, 2.0, 0.5)], ids=str)
def test_a_scene_is_bce_of_what_is_there(
    weight: tuple[float, ...] | None, backend: Backend, rng: np.random.Generator
) -> None:
    logits = rng.normal(size=(3, 4)) * 3
    target = np.asarray([[[0, 0], [2, 0]], [[3, 3], [3, 3]], [[1, 255], [255, 0]]])
    present = np.asarray([[1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]], dtype=float)
    loss = al.SECrossEntropyLoss(weight=weight)
    found, gradient = backend.value_and_grad(loss, backend.array(logits), backend.array(target))
    whole = None if weight is None else np.asarray(weight)[None]
    expected, expected_gradient = al.value_and_grad(al.BCELoss(whole, ignore_index=None))(logits, present)
    np.testing.assert_allclose(backend.numpy(found), expected, rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(gradient), expected_gradient, rtol=1e-12)


def test_size_and_order_of_a_scene_do_not_matter(backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(2, 5)), rng.integers(0, 4, size=(2, 3, 4))
    loss = al.SECrossEntropyLoss()
    expected = value(backend, loss, logits, target)
    flat = target.reshape((2, 12))
    once = np.pad(flat, ((0, 0), (0, 30)), constant_values=255)  # larger, and the same classes
    for other in (np.repeat(target, 3, axis=1), flat[:, rng.permutation(12)], target[:, None], once):
        np.testing.assert_array_equal(value(backend, loss, logits, other), expected)
    only = [np.unique(image) for image in target]
    for n in range(2):
        alone = value(backend, loss, logits[n], only[n])
        np.testing.assert_allclose(alone, value(backend, loss, logits[n : n + 1], target[n : n + 1]), rtol=1e-13)


def test_a_scene_of_nothing_is_not_counted(backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(3, 4)), rng.integers(0, 4, size=(3, 6))
    target[1] = 255
    loss = al.SECrossEntropyLoss()
    expected = value(backend, loss, logits[[0, 2]], target[[0, 2]])
    np.testing.assert_allclose(value(backend, loss, logits, target), expected, rtol=1e-13)
    parts = al.SECrossEntropyLoss(reduction="parts")
    total, weight = backend.value(parts, backend.array(logits), backend.array(target))
    assert backend.numpy(weight) == 8
    np.testing.assert_allclose(backend.numpy(total) / 8, expected, rtol=1e-13)
    empty = value(backend, loss, logits, target[:, :0])
    assert empty == 0


@pytest.mark.parametrize("target", [np.asarray(2), np.asarray([2, 2, 255]), np.full((2, 1, 3), 2)], ids=np.shape)
def test_a_single_scene(target: np.ndarray, backend: Backend) -> None:
    logits = np.asarray([0.5, -1.0, 2.0])
    found = value(backend, al.SECrossEntropyLoss(reduction="none"), logits, target)
    np.testing.assert_allclose(found, np.log1p(np.exp([0.5, -1.0, -2.0])), rtol=1e-12)


def test_certain_scenes_cost_nothing(backend: Backend) -> None:
    given = backend.array(np.asarray([[np.inf, -np.inf, 1e4]])), backend.array(np.asarray([[0, 2, 0]]))
    found, gradient = backend.value_and_grad(al.SECrossEntropyLoss(), *given)
    assert backend.numpy(found) == 0
    assert (backend.numpy(gradient) == 0).all()


@pytest.mark.backends("numpy", "torch")
def test_a_wrong_label_of_a_scene_is_found_in_its_map(backend: Backend) -> None:
    target = np.zeros((2, 3, 4), dtype=np.int64)
    target[1, 2, 0] = 7
    with pytest.raises(ValueError, match=r"^se_cross_entropy_loss: .*label 7 at position \(1, 2, 0\)"):
        value(backend, al.SECrossEntropyLoss(), np.zeros((2, 5)), target)
    with pytest.raises(ValueError, match=r"^se_cross_entropy_loss: logits has shape .*expected \(N, C\) or \(C,\)"):
        value(backend, al.SECrossEntropyLoss(), np.zeros((2, 5, 1, 1)), target)


# Details ------------------------------------------------------------------------------------------------------------


@pytest.mark.backends("numpy", "strict", "torch")
@settings(derandomize=True, deadline=None, database=None, max_examples=40)
@given_by(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 2), st.integers(1, 11), st.integers(1, 13)),
    threshold=st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.6, 0.7, 0.9, 1.0]),
    ignore=st.sampled_from([255, 0, None]),
)
def test_detail_targets(
    seed: int, size: tuple[int, int, int], threshold: float, ignore: int | None, backend: Backend
) -> None:
    target = np.random.default_rng(seed).choice(np.asarray([0, 1, 1, 2, 255], dtype=np.uint8), size=size)
    found = backend.numpy(al.detail_targets(backend.array(target), threshold=threshold, ignore_index=ignore))
    assert found.dtype == np.uint8
    expected = reference.detail_targets(target, threshold=threshold, ignore_index=ignore)
    np.testing.assert_array_equal(found, expected)


def test_details_of_a_square(backend: Backend) -> None:
    """The larger label bears the boundary; strides 2 and 4 make it coarser where their pixels meet it."""
    target = np.zeros((1, 8, 8), dtype=np.int32)
    target[0, 1:5, 3:8] = 1
    at_1 = np.zeros((8, 8), dtype=bool)
    at_1[1:5, 3:8] = True
    at_1[2:4, 4:7] = False  # the inside, which does not reach the border on the right
    at_2 = np.kron(at_1[::2, ::2], np.ones((2, 2), dtype=bool))
    at_4 = np.kron(at_1[::4, ::4], np.ones((4, 4), dtype=bool))
    assert (at_2 & ~at_1).any()
    assert (at_4 & ~at_2 & ~at_1).any()
    for threshold, expected in ((0.1, at_1 | at_2), (0.0, at_1 | at_2 | at_4), (0.5, at_1), (0.7, at_1 & at_2)):
        found = backend.numpy(al.detail_targets(backend.array(target), threshold=threshold))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found[0], expected)
    assert not backend.numpy(al.detail_targets(backend.array(target), threshold=1.0)).any()


@pytest.mark.filterwarnings("ignore:.* holds 0 and 255 alone:UserWarning")
def test_an_ignored_pixel_makes_no_detail(backend: Backend, rng: np.random.Generator) -> None:
    target = np.zeros((1, 9, 9), dtype=np.int64)
    target[rng.random(target.shape) < 0.4] = 255
    found = backend.numpy(al.detail_targets(backend.array(target)))
    np.testing.assert_array_equal(found, target)
    # As a class of its own it would: what the authors' code makes of it.
    assert (backend.numpy(al.detail_targets(backend.array(target), ignore_index=None)) == 1).any()


@pytest.mark.backends("numpy", "torch")
def test_label_maps_for_details(backend: Backend) -> None:
    found = al.detail_targets(backend.array(np.eye(3, dtype=bool)[None]))
    assert backend.numpy(found).dtype == np.uint8
    assert backend.numpy(found).tolist() == [[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]  # stride 2 makes the first one larger
    with pytest.raises(TypeError, match=r"^detail_targets: target has dtype float64"):
        al.detail_targets(backend.array(np.zeros((1, 3, 3))))
    with pytest.raises(ValueError, match=r"^detail_targets: target has shape \(3, 3\), expected \(N, H, W\)"):
        al.detail_targets(backend.array(np.zeros((3, 3), dtype=np.int64)))
    with pytest.raises(ValueError, match=r"^detail_targets: threshold is 1.5"):
        al.detail_targets(backend.array(np.zeros((1, 3, 3), dtype=np.int64)), threshold=1.5)
    for shape in ((1, 2, 6, 6), (1, 6, 6), (1, 1, 6)):
        with pytest.raises(ValueError, match=r"^detail_aggregate_loss: logits has shape .*images of one score"):
            value(backend, al.DetailAggregateLoss(), np.zeros(shape), np.zeros((1, 6, 6), dtype=np.int64))


@pytest.mark.eager
def test_labels_too_large_to_add_up(backend: Backend) -> None:
    """Raise, rather than overflow, where values can be read."""
    target = np.full((1, 4, 5), 2**27 - 1, dtype=np.int64)
    target[0, 1, 1] = -(2**27) + 1
    expected = reference.detail_targets(target)
    np.testing.assert_array_equal(backend.numpy(al.detail_targets(backend.array(target))), expected)
    if not backend.reads:
        return
    for label in (2**27, -(2**27), 2**40):
        target[0, 2, 2] = label
        with pytest.raises(ValueError, match=r"^detail_targets: target holds labels from .*smaller than 2\^27"):
            al.detail_targets(backend.array(target))
        with pytest.raises(ValueError, match=r"^detail_aggregate_loss: target holds labels from"):
            value(backend, al.DetailAggregateLoss(), np.zeros((1, 1, 4, 5)), target)


def details_and_scores(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    target = np.kron(rng.integers(0, 300, size=(3, 2, 2)), np.ones((1, 5, 4), dtype=np.int64))
    target[rng.random(target.shape) < 0.1] = -1
    return rng.normal(size=(3, 1, 10, 8)), target


def test_each_image_has_a_detail_loss_of_its_own(backend: Backend, rng: np.random.Generator) -> None:
    """Labels are of any number of classes, as none is predicted."""
    logits, target = details_and_scores(rng)
    loss = al.DetailAggregateLoss(ignore_index=-1)
    each = value(backend, replace(loss, reduction="none"), logits, target)
    assert each.shape == (3,)
    alone = [value(backend, loss, logits[n : n + 1], target[n : n + 1]) for n in range(3)]
    np.testing.assert_allclose(each, alone, rtol=1e-12)
    target[1] = -1
    np.testing.assert_allclose(
        value(backend, replace(loss, reduction="none"), logits, target), [alone[0], 0, alone[2]], rtol=1e-12
    )


def test_a_detail_loss_in_its_parts(backend: Backend, rng: np.random.Generator) -> None:
    """Binary cross entropy over the pixels of the batch, and Dice of the squares over its images."""
    logits, target = details_and_scores(rng)
    detail = al.detail_targets(target, ignore_index=-1)
    bce = float(al.bce_loss(logits[:, 0], detail, ignore_index=-1))
    p = np.where(detail == -1, 0.0, 1 / (1 + np.exp(-logits[:, 0])))
    g = (detail == 1).astype(float)
    dice = 1 - (2 * (p * g).sum(axis=(1, 2)) + 3) / ((p**2 + g**2).sum(axis=(1, 2)) + 3)
    found = value(backend, al.DetailAggregateLoss(ignore_index=-1, smooth=3.0), logits, target)
    np.testing.assert_allclose(found, bce + dice.mean(), rtol=1e-12)


def test_certain_details_cost_nothing(backend: Backend, rng: np.random.Generator) -> None:
    _, target = details_and_scores(rng)
    detail = al.detail_targets(target, ignore_index=-1)
    logits = np.where(detail == 1, np.inf, -np.inf)[:, None]
    given = backend.array(logits), backend.array(target)
    found, gradient = backend.value_and_grad(al.DetailAggregateLoss(ignore_index=-1), *given)
    assert backend.numpy(found) == 0
    assert (backend.numpy(gradient) == 0).all()
