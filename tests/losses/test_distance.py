"""The distances to boundaries, and what the losses that weigh by them need beyond the contract suite."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from cases import W4, labels
from hypothesis import given as given_by
from hypothesis import settings
from hypothesis import strategies as st
from reference import LOSSES
from reference import distance as by_pairs

import arrayloss as al

needs_scipy = pytest.mark.skipif(
    importlib.util.find_spec("scipy") is None, reason="SciPy, which computes distances, is not installed"
)
#: Distances are float32.
CLOSE = 2e-7


# Distances ----------------------------------------------------------------------------------------------------------


@needs_scipy
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("ignore", [255, 0, None])
@pytest.mark.parametrize(
    ("space", "spacing"),
    [((), None), ((9,), None), ((6, 7), None), ((6, 7), (0.5, 2.0)), ((3, 4, 5), None), ((3, 4, 5), (2.5, 1.0, 1.0))],
    ids=str,
)
def test_distance_map_is_that_by_all_pairs(
    signed: bool,
    ignore: int | None,
    space: tuple[int, ...],
    spacing: Any,
    backend: Backend,
    rng: np.random.Generator,
) -> None:
    target = rng.integers(0, 3, size=(2, *space))
    if ignore is not None:
        target[rng.random(target.shape) < 0.2] = ignore
    found = al.distance_map(backend.array(target), 4, ignore_index=ignore, signed=signed, spacing=spacing)
    assert backend.is_array(found)
    found = backend.numpy(found)
    expected = by_pairs.distance_map(target, 4, ignore_index=ignore, signed=signed, spacing=spacing)
    assert found.shape == (2, 4, *space)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=CLOSE, atol=1e-6)
    assert (found[:, 3] == 0).all()
    if ignore is not None:
        assert (np.moveaxis(found, 1, -1)[target == ignore] == 0).all()


@needs_scipy
@pytest.mark.filterwarnings("ignore:.* holds 0 and 255 alone:UserWarning")
@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given_by(
    seed=st.integers(0, 2**32 - 1),
    space=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    share=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    ignored=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_distances_of_any_region(seed: int, space: list[int], share: float, ignored: float) -> None:
    rng = np.random.default_rng(seed)
    target = (rng.random((1, *space)) < share).astype(np.uint8)
    target[rng.random(target.shape) < ignored] = 255
    for signed in (True, False):
        found, expected = (f(target, 2, signed=signed) for f in (al.distance_map, by_pairs.distance_map))
        np.testing.assert_allclose(found, expected, rtol=CLOSE, atol=1e-6)


@needs_scipy
def test_the_discretisation_is_that_of_the_authors() -> None:
    """distance(outside) - (distance(inside) - 1), by the transform itself; 0 for a class that is not there."""
    from scipy.ndimage import distance_transform_edt as transform

    inside = np.zeros((9, 11), dtype=bool)
    inside[2:7, 3:9] = True
    inside[0, 0] = True
    expected = transform(~inside) * ~inside - (transform(inside) - 1) * inside
    found = al.distance_map(inside[None], 3)
    np.testing.assert_allclose(found[0, 1], expected, rtol=CLOSE)
    assert (found[0, 2] == 0).all()
    np.testing.assert_allclose(
        al.distance_map(inside[None], 2, signed=False)[0, 1], transform(~inside) + transform(inside), rtol=CLOSE
    )


@needs_scipy
def test_a_class_that_fills_an_image_has_no_boundary() -> None:
    target = np.ones((2, 4, 5), dtype=int)
    target[0, 1, 1] = 255
    assert (al.distance_map(target, 3) == 0).all()


@needs_scipy
def test_units_of_the_spacing(rng: np.random.Generator) -> None:
    """A finer grid of the same shape has distances in proportion, of the same signs."""
    target = rng.integers(0, 2, size=(1, 8, 9))
    pixels = al.distance_map(target, 2)
    np.testing.assert_allclose(al.distance_map(target, 2, spacing=(0.25, 0.25)), 0.25 * pixels, rtol=CLOSE)
    uneven = al.distance_map(target, 2, spacing=[0.3, 3.0])
    assert ((uneven > 0) == (pixels > 0)).all()


@needs_scipy
def test_what_distance_map_refuses() -> None:
    target = np.asarray([[0, 1, 7]])
    with pytest.raises(ValueError, match=r"^distance_map: target holds the label 7 at position \(0, 2\)"):
        al.distance_map(target, 2)
    with pytest.raises(ValueError, match=r"^distance_map: ignore_index is 255 with 256 classes"):
        al.distance_map(target, 256)
    with pytest.raises(TypeError, match=r"^distance_map: target has dtype float64, expected integer labels or bool"):
        al.distance_map(target * 1.0, 8)
    with pytest.raises(TypeError, match=r"^distance_map: target is a list, expected an array"):
        al.distance_map([[0, 1]], 2)
    with pytest.raises(ValueError, match=r"^distance_map: target has shape \(\), expected \(N, \*S\)"):
        al.distance_map(np.asarray(1), 2)
    for classes, error in ((0, ValueError), (2.0, TypeError), ("all", TypeError)):
        with pytest.raises(error, match=r"^distance_map: classes is .*expected an integer of at least 1"):
            al.distance_map(target, classes)
    with pytest.raises(ValueError, match=r"^distance_map: spacing is .*expected 1 numbers, one per spatial dimension"):
        al.distance_map(target, 8, spacing=(1.0, 1.0))
    with pytest.raises(TypeError, match=r"^distance_map: spacing is 2.0, expected a list of numbers above 0"):
        al.distance_map(target, 8, spacing=2.0)
    with pytest.raises(ValueError, match=r"^distance_map: spacing is 0.0, expected a finite number above 0"):
        al.distance_map(target, 8, spacing=(0.0,))
    with pytest.raises(TypeError, match=r"^distance_map: signed is 1, expected True or False"):
        al.distance_map(target, 8, signed=1)


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    target = np.asarray([[0, 1, 1]])
    for call in (
        lambda: al.distance_map(target, 2),
        lambda: al.boundary_loss(np.zeros((1, 2, 3)), target),
        lambda: al.hausdorff_dt_loss(np.zeros((1, 2, 3)), target),
    ):
        with pytest.raises(ImportError, match=r"need SciPy.*arrayloss\[distance\]"):
            call()
    assert al.boundary_loss(np.zeros((1, 2, 3)), target, distance=np.ones((1, 2, 3))) == 0.5


# Distances computed in the call -------------------------------------------------------------------------------------

IN_THE_CALL = [
    al.BoundaryLoss(),
    al.BoundaryLoss(activation="sigmoid", include_background=False, weight=W4, reduction="none"),
    al.HausdorffDTLoss(),
    al.HausdorffDTLoss(alpha=1.5, activation="sigmoid", weight=W4, reduction="none"),
]


def reference_in_the_call(loss: al.Loss, logits: np.ndarray, target: np.ndarray) -> Any:
    arrays = {}
    if isinstance(loss, al.HausdorffDTLoss):
        z = np.moveaxis(logits, 1, -1)
        p = np.asarray([by_pairs.probabilities(z[i], loss.activation) for i in np.ndindex(z.shape[:-1])])
        p = np.moveaxis(p.reshape(z.shape), -1, 1)
        arrays["prediction_distance"] = by_pairs.prediction_distance(p, target != loss.ignore_index)
    return LOSSES[type(loss).function.__name__](logits, target, **vars(loss), **arrays)


@needs_scipy
@pytest.mark.parametrize("loss", IN_THE_CALL, ids=repr)
@pytest.mark.parametrize("classes", [4, 1])
def test_distances_may_be_computed_in_the_call(
    loss: al.Loss, classes: int, backend: Backend, rng: np.random.Generator
) -> None:
    sample = labels(rng)
    logits, target = sample.logits[:, :classes], sample.target
    if classes == 1:
        if loss.activation == "softmax":
            return
        loss = type(loss)(activation="sigmoid", reduction="none")
        target = np.where(target == 255, 255, target % 2)
    value, gradient = al.value_and_grad(loss)(backend.array(logits), backend.array(target))
    np.testing.assert_allclose(
        backend.numpy(value), reference_in_the_call(loss, logits, target), rtol=5 * CLOSE, atol=1e-6
    )
    np.testing.assert_allclose(backend.numpy(loss(backend.array(logits), backend.array(target))), value, rtol=1e-12)
    gradient = backend.numpy(gradient)
    assert np.abs(gradient).max() > 0
    assert (np.moveaxis(gradient, 1, -1)[target == 255] == 0).all()


@needs_scipy
@pytest.mark.backends("numpy", "torch")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_map_handed_in_is_the_same_as_one_computed(dtype: str, backend: Backend, rng: np.random.Generator) -> None:
    sample = labels(rng)
    logits, target = backend.array(sample.logits.astype(dtype)), backend.array(sample.target)
    signed, unsigned = (al.distance_map(target, 4, signed=signed) for signed in (True, False))
    assert al.BoundaryLoss()(logits, target) == al.BoundaryLoss()(logits, target, distance=signed)
    loss = al.HausdorffDTLoss()
    assert loss(logits, target) == loss(logits, target, target_distance=unsigned)


def traced_calls(backend: Backend) -> dict[str, Any]:
    """Return ways of running a function of logits and a target in which there are no values to read."""
    if backend.needs == "jax":
        import jax

        return {
            "jit": jax.jit,
            "vmap": jax.vmap,
            "eval_shape": lambda f: lambda *a: jax.eval_shape(f, *a),
        }
    import torch

    def meta(f: Any) -> Any:
        return lambda x, y: f(x.to("meta"), y.to("meta"))

    return {"vmap": torch.func.vmap, "grad": lambda f: torch.func.grad(lambda x, y: f(x, y).sum()), "meta": meta}


@pytest.mark.backends("torch", "jax")
def test_traced_values_cannot_be_read(backend: Backend, rng: np.random.Generator) -> None:
    logits, target = backend.array(rng.normal(size=(2, 3, 4))), backend.array(rng.integers(0, 3, size=(2, 4)))
    for way, run in traced_calls(backend).items():
        many = (logits[None], target[None]) if way == "vmap" else (logits, target)
        with pytest.raises(TypeError, match=r"boundary_loss: distances .* of target, which cannot .*pass distance="):
            run(al.BoundaryLoss())(*many)
        with pytest.raises(TypeError, match=r"hausdorff_dt_loss: .* of target, which cannot .*pass target_distance="):
            run(al.HausdorffDTLoss())(*many)
        with pytest.raises(TypeError, match=r"hausdorff_dt_loss: .* of logits, .*pass prediction_distance=.*one-sided"):
            run(lambda x, y: al.hausdorff_dt_loss(x, y, target_distance=x * 0.0))(*many)
        if way == "grad":
            continue  # whose target is not traced
        with pytest.raises(TypeError, match=r"distance_map: .* of target, .*compute the map before.* data loader"):
            run(lambda x, y: al.distance_map(y, 3))(*many)


@pytest.mark.backends("torch")
def test_a_compiled_graph_holds_no_distance_transform(backend: Backend, rng: np.random.Generator) -> None:
    import torch
    from test_transforms import compiled

    target = backend.array(rng.integers(0, 3, size=(2, 4)))
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"boundary_loss: distances .*pass distance="):
        compiled(torch, al.BoundaryLoss(), backend="eager")(backend.array(rng.normal(size=(2, 3, 4))), target)


@pytest.mark.backends("strict")
def test_another_device_is_read_through_the_host_or_says_why_not(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    device1, labels = BACKENDS["strict-device1"], np.asarray([[0, 0, 1]])
    found = al.distance_map(device1.array(labels), 2)
    assert device1.is_array(found)
    np.testing.assert_array_equal(device1.numpy(found), al.distance_map(labels, 2))
    monkeypatch.setattr("arrayloss._machines.generic.facts._moved_to_host", lambda x: None)
    with pytest.raises(TypeError, match=r"^distance_map: .*no values for the host .*compute the map before"):
        al.distance_map(device1.array(labels), 2)


# The losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["distance", "target_distance", "prediction_distance"])
def test_distances_that_do_not_fit(name: str, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, size=(2, 4))
    loss = al.BoundaryLoss() if name == "distance" else al.HausdorffDTLoss()
    function = type(loss).function.__name__
    given = backend.array(logits), backend.array(target)
    fitting = {} if name == "distance" else {"target_distance": given[0] * 0.0}
    for wrong in (logits[:, :1], logits[:, 0], logits[..., None]):
        with pytest.raises(ValueError, match=rf"^{function}: {name} has shape .*expected \(2, 3, 4\), that of the"):
            loss(*given, **{**fitting, name: backend.array(np.ascontiguousarray(wrong))})
    with pytest.raises(TypeError, match=rf"^{function}: {name} has dtype complex128, expected a real dtype"):
        loss(*given, **{**fitting, name: backend.array(logits + 0j)})
    with pytest.raises(TypeError, match=rf"^{function}: {name} is a list, expected an array"):
        loss(*given, **{**fitting, name: logits.tolist()})


def test_a_background_that_is_the_only_class(backend: Backend) -> None:
    given = backend.array(np.zeros((1, 1, 3))), backend.array(np.zeros((1, 3), dtype=np.int64))
    for loss in (al.BoundaryLoss, al.HausdorffDTLoss):
        with pytest.raises(ValueError, match=rf"^{loss.function.__name__}: include_background is False .*two classes"):
            loss(include_background=False)(*given)


def test_one_sided_by_the_number_0(backend: Backend, rng: np.random.Generator) -> None:
    logits, target, distance = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, size=(2, 4)), rng.random((2, 3, 4))
    given = backend.array(logits), backend.array(target)
    loss = al.HausdorffDTLoss(alpha=1.5)
    one_sided = loss(*given, target_distance=backend.array(distance), prediction_distance=0)
    zeros = backend.array(np.zeros_like(distance))
    both = loss(*given, target_distance=backend.array(distance), prediction_distance=zeros)
    np.testing.assert_allclose(backend.numpy(one_sided), backend.numpy(both), rtol=1e-14)
    with pytest.raises(ValueError, match=r"^hausdorff_dt_loss: prediction_distance is 1, expected 0 or an array"):
        loss(*given, target_distance=backend.array(distance), prediction_distance=1)


def test_by_hand() -> None:
    """Two pixels, two classes: probabilities 3/4 and 1/4 of their true classes."""
    logits = np.log([[[3.0, 3.0], [1.0, 1.0]]])
    target = np.asarray([[0, 1]])
    phi = np.asarray([[[0.0, 1.0], [1.0, 0.0]]])
    np.testing.assert_allclose(
        al.boundary_loss(logits, target, distance=phi, reduction="none"), [[0.25, 0.75]], rtol=1e-14
    )
    np.testing.assert_allclose(al.boundary_loss(logits, target, distance=phi), 1.0 / 4, rtol=1e-14)
    d = np.asarray([[[1.0, 2.0], [1.0, 3.0]]])
    each = [2 * 0.25**2, (4 + 9) * 0.75**2]
    arguments = {"target_distance": d, "prediction_distance": 0}
    np.testing.assert_allclose(al.hausdorff_dt_loss(logits, target, **arguments), sum(each) / 4, rtol=1e-14)
    foreground = al.hausdorff_dt_loss(logits, target, include_background=False, **arguments)
    np.testing.assert_allclose(foreground, (0.25**2 + 9 * 0.75**2) / 2, rtol=1e-14)


def test_without_background_is_a_background_of_weight_0(backend: Backend, rng: np.random.Generator) -> None:
    sample = labels(rng)
    given, distance = (backend.array(sample.logits), backend.array(sample.target)), rng.random(sample.logits.shape)
    arrays = {"target_distance": backend.array(distance), "prediction_distance": backend.array(distance[::-1].copy())}
    for loss, further in ((al.BoundaryLoss, {"distance": arrays["target_distance"]}), (al.HausdorffDTLoss, arrays)):
        for reduction in ("mean", "sum", "none"):
            without, weighted = (
                backend.numpy(backend.value(loss(reduction=reduction, **options), *given, **further))
                for options in ({"include_background": False}, {"weight": (0.0, 1.0, 1.0, 1.0)})
            )
            np.testing.assert_allclose(without, weighted, rtol=1e-13)


def test_weights_of_0_leave_nothing(backend: Backend, rng: np.random.Generator) -> None:
    given = backend.array(rng.normal(size=(2, 2, 4))), backend.array(rng.integers(0, 2, size=(2, 4)))
    loss = al.BoundaryLoss(include_background=False, weight=(1.0, 0.0))
    value, gradient = backend.value_and_grad(loss, *given, distance=backend.array(rng.random((2, 2, 4))))
    assert backend.numpy(value) == 0
    assert (backend.numpy(gradient) == 0).all()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_minus_infinity_off_the_target(activation: str, backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(2, 3, 4)), rng.integers(0, 3, size=(2, 4))
    logits[np.arange(3)[:, None] == (target[:, None] + 1) % 3] = -np.inf
    distance = np.abs(rng.normal(size=logits.shape))
    for name, arrays in (
        ("boundary_loss", {"distance": distance}),
        ("hausdorff_dt_loss", {"target_distance": distance, "prediction_distance": distance[::-1].copy()}),
    ):
        value, gradient = backend.value_and_grad(
            lambda x, y, name=name, **arrays: getattr(al, name)(x, y, activation=activation, **arrays),
            backend.array(logits),
            backend.array(target),
            **{k: backend.array(v) for k, v in arrays.items()},
        )
        options = {"activation": activation, "include_background": True, "weight": None, "reduction": "mean"}
        np.testing.assert_allclose(backend.numpy(value), LOSSES[name](logits, target, **options, **arrays), rtol=1e-10)
        assert np.isfinite(backend.numpy(gradient)).all()


def test_half_precision_overflows_nowhere(backend: Backend) -> None:
    """Squares of distances, and sums of them, beyond the range of float16."""
    if "float16" not in backend.dtypes():
        pytest.skip(f"{backend.name} has no float16")
    logits = np.zeros((1, 2, 300, 300), dtype=np.float16)
    target = np.zeros((1, 300, 300), dtype=np.int64)
    distance = np.full(logits.shape, 400.0, dtype=np.float16)
    given = backend.array(logits), backend.array(target)
    both = {"target_distance": backend.array(distance), "prediction_distance": backend.array(distance)}
    value = al.HausdorffDTLoss(reduction="sum")(*given, **both)
    np.testing.assert_allclose(backend.numpy(value), 0.25 * 2 * 400.0**2 * logits.size, rtol=1e-5)
    value = al.BoundaryLoss(reduction="sum")(*given, distance=backend.array(distance))
    np.testing.assert_allclose(backend.numpy(value), 400.0 * target.size, rtol=1e-5)


def test_the_gradient_of_a_boundary_is_its_distance(rng: np.random.Generator) -> None:
    """With probabilities the loss is linear: the gradient is the distance over the number of entries."""
    distance = rng.normal(size=(2, 3, 4))
    p = rng.random((2, 3, 4))
    _, gradient = al.value_and_grad(al.BoundaryLoss(activation=None))(
        p, np.zeros((2, 4), dtype=np.int64), distance=distance
    )
    np.testing.assert_allclose(gradient, distance / 24, rtol=1e-14)


@needs_scipy
def test_a_farther_error_costs_more() -> None:
    """A wrong island, the farther from the true region the dearer, for both losses."""
    target = np.zeros((1, 1, 12), dtype=np.int64)
    target[..., :3] = 1
    for loss in (al.BoundaryLoss(), al.HausdorffDTLoss()):
        costs = []
        for place in range(4, 12):
            predicted = target.copy()
            predicted[..., place] = 1
            logits = np.stack([1 - predicted, predicted], axis=1) * 30.0
            costs.append(float(loss(logits, target)))
        assert (np.diff(costs) > 0).all()


@needs_scipy
def test_what_is_ignored_does_not_move_a_boundary(rng: np.random.Generator) -> None:
    """Other labels under the ignored pixels: the same value and the same gradient."""
    logits, target = rng.normal(size=(1, 3, 7, 8)), rng.integers(0, 3, size=(1, 7, 8))
    ignored = rng.random(target.shape) < 0.3
    target[ignored] = 255
    for loss in (al.BoundaryLoss(), al.HausdorffDTLoss()):
        value, gradient = al.value_and_grad(loss)(logits, target)
        garbage = np.where(ignored[:, None], np.nan, logits)
        again, gradient_again = al.value_and_grad(loss)(garbage, target)
        assert again == value
        np.testing.assert_array_equal(gradient_again, gradient)


# What is faster on one library --------------------------------------------------------------------------------------


@pytest.mark.backends("numpy", "torch", "jax-jitted", "cupy", "torch-cuda")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(2, 3, 67, 71), (2, 41, 37, 31), (1, 5, 9000), (900, 11)], ids=str)
@pytest.mark.parametrize("ignoring", ["nothing", "numbers", "garbage"])
def test_kernels_against_the_portable_form(
    shape: tuple[int, ...], ignoring: str, dtype: str, backend: Backend, rng: np.random.Generator
) -> None:
    if backend.compiles and (dtype == "float32" or ignoring == "numbers"):
        pytest.skip("compiled in float64, with nothing and with garbage ignored, which settles it")
    logits = rng.normal(size=shape).astype(dtype)
    target = rng.integers(0, shape[1], size=(shape[0], *shape[2:]))
    distance = rng.normal(size=shape).astype(dtype)
    if ignoring != "nothing":
        ignored = rng.random(target.shape) < 0.2
        target[ignored] = 255
        for x in (logits, distance) if ignoring == "garbage" else ():
            np.moveaxis(x, 1, -1)[ignored] = np.nan
    strict = BACKENDS["strict"]
    tolerance = 1e-11 if dtype == "float64" else 2e-5
    for loss, names in (
        (al.BoundaryLoss(), ["distance"]),
        (al.HausdorffDTLoss(), ["target_distance", "prediction_distance"]),
    ):
        arrays = dict.fromkeys(names, distance)
        given = (backend.array(logits), backend.array(target))
        own = {k: backend.array(v) for k, v in arrays.items()}
        value, gradient = backend.value_and_grad(loss, *given, **own)
        wide = {k: strict.array(v.astype(np.float64)) for k, v in arrays.items()}
        expected, slope = al.value_and_grad(loss)(strict.array(logits.astype(np.float64)), strict.array(target), **wide)
        slope = strict.numpy(slope)
        for found in (value, backend.value(loss, *given, **own)):
            np.testing.assert_allclose(backend.numpy(found), strict.numpy(expected), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(backend.numpy(gradient), slope, rtol=0, atol=tolerance * np.abs(slope).max())


@pytest.mark.backends("torch")
def test_torch_goes_back_twice(backend: Backend, rng: np.random.Generator) -> None:
    """Through the same graph again, and through the gradient, at a size that is computed by a rule."""
    import torch

    logits = torch.tensor(rng.normal(size=(1, 3, 60, 60)), requires_grad=True)
    target, distance = torch.tensor(rng.integers(0, 3, size=(1, 60, 60))), torch.tensor(rng.random((1, 3, 60, 60)))
    for loss, arrays in (
        (al.BoundaryLoss(), {"distance": distance}),
        (al.HausdorffDTLoss(), {"target_distance": distance, "prediction_distance": distance}),
    ):
        value = loss(logits, target, **arrays)
        (first,) = torch.autograd.grad(value, logits, retain_graph=True)
        kept = first.clone()
        (second,) = torch.autograd.grad(value, logits)
        assert torch.equal(kept, second)
        p = torch.softmax(logits, 1)
        error = p - torch.nn.functional.one_hot(target, 3).movedim(-1, 1)
        plain = (p * distance).mean() if "distance" in arrays else (2 * error**2 * distance**2).mean()
        direction = torch.tensor(rng.normal(size=logits.shape))
        found = []
        for total in (loss(logits, target, **arrays), plain):
            (g,) = torch.autograd.grad(total, logits, create_graph=True)
            found.append((g, *torch.autograd.grad((g * direction).sum(), logits)))
        torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(kept, found[1][0], rtol=1e-10, atol=1e-14)
