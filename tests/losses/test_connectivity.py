"""Connected components and the loss of their connectivity: shapes, hand-worked values, what the gradient does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import Backend

import arrayloss as al
from arrayloss._core.library import library_of
from arrayloss._machines import generic, namespace


def ndimage() -> Any:
    return pytest.importorskip("scipy.ndimage", reason="SciPy is not installed, nothing to hold the labelling against")


def ranked(labels: np.ndarray, classes: int, most: int) -> np.ndarray:
    """The ranks of components by size, from the labelling of SciPy."""
    ranks = np.full(labels.shape, most)
    for n, c in np.ndindex(len(labels), classes):
        numbers, count = ndimage().label(labels[n] == c, structure=np.ones((3,) * (labels.ndim - 1)))
        components = [numbers == i for i in range(1, count + 1)]
        components.sort(key=lambda mask: (-mask.sum(), np.flatnonzero(mask)[0]))
        for rank, mask in enumerate(components[:most]):
            ranks[n][mask] = rank
    return ranks


def spiral(size: int) -> np.ndarray:
    """A path one pixel wide that winds inwards, with a gap of one pixel between its turns."""
    image = np.zeros((size, size), dtype=np.int64)
    inside = np.pad(image, 2)
    place, ahead = np.asarray((2, 2)), np.asarray((0, 1))
    inside[tuple(place)] = image[0, 0] = 1
    for _ in range(size * size):
        for _ in range(2):
            near, next_to = place + ahead, place + 2 * ahead
            if ((near >= 2) & (near < size + 2)).all() and inside[tuple(near)] == inside[tuple(next_to)] == 0:
                place = near
                inside[tuple(place)] = 1
                break
            ahead = np.asarray((ahead[1], -ahead[0]))
        else:
            break
    return inside[2:-2, 2:-2]


def comb(size: int) -> np.ndarray:
    """Teeth that only the last row joins."""
    rows, columns = np.indices((size, size))
    return ((columns % 2 == 0) | (rows == size - 1)).astype(np.int64)


SHAPES = {
    "spiral": lambda rng: spiral(23)[None],
    "spirals turned": lambda rng: np.stack([spiral(17)[::-1], spiral(17)[:, ::-1], spiral(17).T, 1 - spiral(17)]),
    "comb": lambda rng: np.stack([comb(15), comb(15)[::-1], comb(15).T, comb(15)[:, ::-1]]),
    "checkers": lambda rng: np.indices((8, 9)).sum(axis=0)[None] % 2,
    "noise": lambda rng: rng.integers(-1, 3, size=(2, 21, 18)),
    "many classes": lambda rng: rng.integers(0, 9, size=(1, 12, 13)),
    "volume": lambda rng: rng.integers(-1, 2, size=(2, 5, 6, 4)),
    "line": lambda rng: rng.integers(-1, 2, size=(3, 40)),
    "one row": lambda rng: rng.integers(0, 2, size=(2, 1, 9)),
    "two columns": lambda rng: rng.integers(0, 3, size=(2, 12, 2)),
    "nowhere": lambda rng: np.full((2, 3, 4), -1),
    "one class": lambda rng: np.zeros((2, 6, 5), dtype=np.int64),
}


def kernel(backend: Backend, labels: np.ndarray, classes: int, most: int) -> np.ndarray:
    given = backend.array(labels)
    library = library_of(given)
    return backend.numpy(library.kernels.components(library.xp, given, classes, most))


@pytest.mark.parametrize("most", [1, 3, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_components_are_those_of_scipy(shape: str, most: int, backend: Backend, rng: np.random.Generator) -> None:
    labels = SHAPES[shape](rng)
    np.testing.assert_array_equal(kernel(backend, labels, 9, most), ranked(labels, 9, most))


@pytest.mark.parametrize("shape", SHAPES)
def test_components_of_a_device_without_the_host(
    shape: str, backend: Backend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forms that torch and JAX take elsewhere than on the CPU."""
    labels = SHAPES[shape](rng)
    monkeypatch.setattr(namespace, "PORTABLE", True)
    if backend.needs == "jax":
        import jax

        from arrayloss._machines.jax import components as kernels

        found = jax.jit(kernels.components.__wrapped__, static_argnums=(1, 2))(backend.array(labels), 9, 3)
    else:
        xp = library_of(backend.array(labels)).xp
        found = generic.KERNELS.components(xp, backend.array(labels), 9, 3)
    np.testing.assert_array_equal(backend.numpy(found), ranked(labels, 9, 3))


@pytest.mark.backends("torch")
def test_components_under_vmap_and_compile(backend: Backend, rng: np.random.Generator) -> None:
    import torch

    from arrayloss._machines.torch.components import components

    labels = rng.integers(-1, 3, size=(2, 4, 9, 8))
    expected = np.stack([ranked(x, 3, 2) for x in labels])
    given = backend.array(labels)
    mapped = torch.func.vmap(lambda x: components(None, x, 3, 2))
    np.testing.assert_array_equal(mapped(given).numpy(), expected)
    last = torch.func.vmap(lambda x: components(None, x, 3, 2), in_dims=-1)(given.movedim(0, -1))
    np.testing.assert_array_equal(last.numpy(), expected)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: components(None, x, 3, 2) + 1, fullgraph=True, backend="aot_eager")
    np.testing.assert_array_equal(compiled(given[0]).numpy(), expected[0] + 1)
    torch.library.opcheck(torch.ops.arrayloss.components.default, (given[0], 3, 2))


@pytest.mark.parametrize(("entries", "size"), [(1, 1), (7, 3), (20_000, 10), (9_000, 2736)])
def test_bin_totals(entries: int, size: int, backend: Backend, rng: np.random.Generator) -> None:
    x, bins = rng.random((2, entries)), rng.integers(0, size, size=(2, entries))
    given, places = backend.array(x), backend.array(bins)
    library = library_of(given)
    expected = [np.bincount(b, weights=v, minlength=size) for v, b in zip(x, bins, strict=True)]
    np.testing.assert_allclose(
        backend.numpy(library.kernels.bin_totals(library.xp, given, places, size)), expected, rtol=1e-11
    )
    weights = rng.random((2, size))

    def weighed(x: Any, _: Any) -> Any:
        library = library_of(x)
        return library.xp.sum(library.kernels.bin_totals(library.xp, x, places, size) * backend.array(weights))

    _, slopes = backend.value_and_grad(weighed, given, None)
    np.testing.assert_allclose(backend.numpy(slopes), np.take_along_axis(weights, bins, axis=1), rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 5, 70, 40), (3, 4), (1, 1, 6)], ids=str)
def test_the_class_of_the_largest_score(shape: tuple[int, ...], backend: Backend, rng: np.random.Generator) -> None:
    z = rng.integers(0, 4, size=shape) * 1.0  # of which many tie
    library = library_of(backend.array(z))
    np.testing.assert_array_equal(backend.numpy(library.kernels.top_class(library.xp, backend.array(z))), z.argmax(1))


# The loss ------------------------------------------------------------------------------------------------------------


def scores(predicted: np.ndarray, classes: int, size: float = 1e4) -> np.ndarray:
    """Logits of a prediction, whose probabilities are 0 and 1 at a size like the default."""
    index = np.arange(classes).reshape(1, classes, *(1,) * (predicted.ndim - 1))
    return np.where(predicted[:, None] == index, size, -size)


def picture(*rows: str) -> np.ndarray:
    """One image of labels, a character each; a dot is ignored."""
    return np.asarray([[[255 if x == "." else int(x) for x in row] for row in rows]])


#: Prediction, target and the losses of the two classes.
WORKED = {
    "right": (("0110", "0110"), ("0110", "0110"), (0, 0)),
    "torn": (("1101",), ("1111",), (0, 1 - (2 / 4 + 1 / 4) / 2)),
    "grown together": (("11111",), ("11011",), (1 + 1 / 5, 1 - (2 / 5 + 2 / 5) / 2)),
    "one missed": (("11000",), ("11011",), (1 - 1 / 3, 1 - (1 + 0) / 2)),
    "lies on nothing": (("1101",), ("1100",), (1 - 1 / 2, 1 - 1 / 2)),
    "nothing predicted": (("0000",), ("0110",), (1 - (1 / 4 + 1 / 4) / 2, 1 + 2 / 4)),
    "beside it": (("1000",), ("0110",), (1 - (0 + 1 / 3) / 2, 1 + 3 / 4)),
    "not there": (("0010",), ("0000",), (1 - (2 / 4 + 1 / 4) / 2, 0)),
    "joined at a corner": (("10", "01"), ("10", "01"), (0, 0)),
    "an ignored pixel joins nothing": (("11011",), ("11.11",), (0, 0)),
    "nor does it tear": (("11011",), ("11111",), (0, 1 - (2 / 5 + 2 / 5) / 2)),
    "ignored pixels are left out of all": (("11111",), ("11..0",), (1 + 1 / 3, 1 - (2 / 2) / (1 + 1))),
}


@pytest.mark.parametrize("name", WORKED)
def test_worked_by_hand(name: str, backend: Backend) -> None:
    predicted, target, expected = WORKED[name]
    loss = al.SemanticConnectivityLoss(reduction="none")
    found = backend.value(loss, backend.array(scores(picture(*predicted), 2)), backend.array(picture(*target)))
    np.testing.assert_allclose(backend.numpy(found), [expected], rtol=1e-12, atol=1e-15)


def test_the_largest_components_count(backend: Backend) -> None:
    target = picture("1110110100")
    predicted = picture("1010110110")
    given = backend.array(scores(predicted, 2)), backend.array(target)
    # Predicted are, by size, pixels 4 and 5, 7 and 8, 0, 2; true are 0 to 2, 4 and 5, 7. What a component beyond those
    # that count lies on is missed, but nothing that meets it lies on nothing.
    ious = {1: [0], 2: [0, 1], 3: [1 / 3, 1, 1 / 2], 4: [1 / 3, 1, 1 / 2]}
    for most, expected in ious.items():
        found = backend.numpy(
            backend.value(al.SemanticConnectivityLoss(max_components=most, reduction="none"), *given)
        )[0, 1]
        area = 2 / 10 if most == 1 else 0  # where nothing that counts meets
        np.testing.assert_allclose(found, 1 - sum(expected) / len(expected) + area, rtol=1e-12)


def test_the_first_of_tied_classes_is_predicted(backend: Backend) -> None:
    logits, target = np.zeros((1, 2, 1, 3)), picture("011")
    found = backend.numpy(
        backend.value(al.SemanticConnectivityLoss(reduction="none"), backend.array(logits), backend.array(target))
    )
    # All of it is predicted to be 0, with probability 1/2.
    np.testing.assert_allclose(found, [[1 - 0.5 / (1 + 1), 1 - 0.5 + 1 / 3]], rtol=1e-12)


def by_scipy(predicted: np.ndarray, target: np.ndarray, classes: int) -> float:
    """The paper's loss of hard predictions."""
    images = []
    for p, t in zip(predicted, target, strict=True):
        losses = []
        for c in sorted(set(t[t != 255].tolist())):
            region, true = (p == c) & (t != 255), t == c
            (ours, pieces), (theirs, parts) = (ndimage().label(m, structure=np.ones((3, 3))) for m in (region, true))
            total, met = 0.0, set()
            for j in range(1, parts + 1):
                part = theirs == j
                near = sorted(set(ours[part].tolist()) - {0})
                met |= set(near)
                ious = [((ours == i) & part).sum() / ((ours == i) | part).sum() for i in near]
                total += float(np.mean(ious)) if ious else 0.0
            loss = 1 - total / (parts + pieces - len(met))
            losses.append(loss if met else loss + (region | true).sum() / (t != 255).sum())
        images.append(np.mean(losses))
    return float(np.mean(images))


@pytest.mark.parametrize("right", [0.0, 0.6, 0.95])
def test_the_value_by_scipy(right: float, backend: Backend, rng: np.random.Generator) -> None:
    target = np.kron(rng.integers(0, 3, size=(3, 4, 5)), np.ones((1, 4, 3), dtype=np.int64))
    predicted = np.where(rng.random(target.shape) < right, target, rng.integers(0, 3, size=target.shape))
    target[rng.random(target.shape) < 0.1] = 255
    loss = al.SemanticConnectivityLoss(max_components=1000 if backend.name == "numpy" else 40)
    found = backend.value(loss, backend.array(scores(predicted, 3)), backend.array(target))
    np.testing.assert_allclose(backend.numpy(found), by_scipy(predicted, target, 3), rtol=1e-10)


@pytest.mark.backends("numpy")
def test_turning_the_image_changes_nothing(backend: Backend, rng: np.random.Generator) -> None:
    target = np.kron(rng.integers(0, 3, size=(2, 4, 4)), np.ones((1, 3, 3), dtype=np.int64))
    logits = rng.normal(size=(2, 3, 12, 12)) + 2 * (target[:, None] == np.arange(3).reshape(1, 3, 1, 1))
    loss = al.SemanticConnectivityLoss(max_components=100)
    for turn in (lambda x: x[..., ::-1], lambda x: x[..., ::-1, :], lambda x: np.swapaxes(x, -1, -2)):
        np.testing.assert_allclose(loss(turn(logits), turn(target)), loss(logits, target), rtol=1e-12)


@pytest.mark.backends("numpy")
def test_what_the_gradient_asks_for(backend: Backend) -> None:
    """More of the class where a gap tears a component and where one is missed, less of it where nothing is."""
    target = picture("1111100000011")
    predicted = picture("1101100010000")
    loss = al.SemanticConnectivityLoss(reduction="none")
    logits = scores(predicted, 2, 1.0)

    def of_class_1(x: Any, t: Any) -> Any:
        return loss(x, t)[:, 1]

    slopes = al.value_and_grad(of_class_1)(logits, target)[1][0, 1, 0]
    assert slopes[2] < 0
    assert (slopes[-2:] < 0).all()
    assert slopes[8] > 0
    assert (slopes[[0, 1, 3, 4]] < 0).all()
    assert (slopes[[5, 6, 7, 9, 10]] == 0).all()


@pytest.mark.backends("numpy", "torch")
def test_descent_makes_regions_hang_together(backend: Backend, rng: np.random.Generator) -> None:
    target = np.zeros((1, 24, 24), dtype=np.int64)
    target[:, 3:12, 2:21] = 1
    target[:, 15:22, 5:9] = 1
    logits = rng.normal(size=(1, 2, 24, 24)) + 0.8 * (target[:, None] == np.arange(2).reshape(1, 2, 1, 1))
    loss = al.value_and_grad(al.SemanticConnectivityLoss())

    def hard() -> float:
        return by_scipy(logits.argmax(axis=1), target, 2)

    before = hard()
    for _ in range(300):
        _, gradient = loss(backend.array(logits), backend.array(target))
        gradient = backend.numpy(gradient)
        logits = logits - 0.3 * gradient / np.abs(gradient).max()
    assert before > 0.8
    assert hard() < 0.1


def test_a_perfect_prediction_costs_nothing(backend: Backend, rng: np.random.Generator) -> None:
    target = rng.integers(0, 3, size=(2, 9, 9))
    for most in (1, 5, 1000):
        loss = al.SemanticConnectivityLoss(max_components=most)
        value, gradient = backend.value_and_grad(loss, backend.array(scores(target, 3)), backend.array(target))
        assert backend.numpy(value) == 0
        assert (backend.numpy(gradient) == 0).all()


def test_options() -> None:
    for bad in (0, 2.0, True, None):
        with pytest.raises(
            (TypeError, ValueError), match=r"semantic_connectivity_loss: max_components is .*at least 1"
        ):
            al.SemanticConnectivityLoss(max_components=bad)
