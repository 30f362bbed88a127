"""The contract of every loss on every library: each test runs over all cases of `cases.py` and all backends."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backends import Backend
from cases import CASES, LABELLED, NEIGHBOURHOODS, OTHER_SIZES, Case, Sample
from reference import numerical_gradient

import arrayloss as al

every_case = pytest.mark.parametrize("case", CASES, ids=str)
#: The losses whose mean is no total over a weight.
WITHOUT_PARTS = {
    "bce_dice_loss",
    "bootstrapped_cross_entropy_loss",
    "dice_ce_loss",
    "detail_aggregate_loss",
    "dice_loss",
    "dual_task_loss",
    "generalized_dice_loss",
    "jaccard_loss",
    "log_cosh_dice_loss",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "tversky_loss",
    "semantic_connectivity_loss",
    "pixel_contrast_loss",
    "rmi_loss",
}
#: The losses of each score on its own, which a shift of all scores changes.
BINARY = (al.AsymmetricLoss, al.BCELoss, al.HingeLoss, al.SigmoidFocalLoss, al.SquaredHingeLoss)
#: Relative tolerance of values and, of its largest entry, of gradients, by dtype of the logits.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}


def to_backend(backend: Backend, sample: Sample, dtype: str = "float64") -> tuple[Any, Any, dict[str, Any]]:
    """Return the inputs of a sample as arrays of a backend; real ones in the dtype, which they are first rounded to."""

    def convert(x: np.ndarray) -> Any:
        return backend.array(x.astype(dtype) if x.dtype.kind == "f" else x)

    logits = tuple(map(convert, sample.logits)) if isinstance(sample.logits, tuple) else convert(sample.logits)
    return logits, convert(sample.target), {k: convert(v) for k, v in sample.arrays.items()}


def rounded(sample: Sample, dtype: str) -> Sample:
    """Return the sample with its real arrays as the dtype holds them, in float64."""

    def round_trip(x: np.ndarray) -> np.ndarray:
        return x.astype(dtype).astype(np.float64) if x.dtype.kind == "f" else x

    logits = tuple(map(round_trip, sample.logits)) if isinstance(sample.logits, tuple) else round_trip(sample.logits)
    return replace(
        sample,
        logits=logits,
        target=round_trip(sample.target),
        arrays={k: round_trip(v) for k, v in sample.arrays.items()},
    )


def run(backend: Backend, loss: Any, sample: Sample, dtype: str = "float64") -> tuple[Any, list[np.ndarray]]:
    """Return the value (an array, or a tuple of two) and the gradients as NumPy arrays, after checking their kind."""
    logits, target, arrays = to_backend(backend, sample, dtype)
    value, grads = backend.value_and_grad(loss, logits, target, **arrays)
    single = not isinstance(logits, tuple)
    for array in (*(value if isinstance(value, tuple) else (value,)), *((grads,) if single else grads)):
        assert backend.is_array(array), type(array)
    grads = [backend.numpy(g) for g in ((grads,) if single else grads)]
    for g, x in zip(grads, sample.parts, strict=True):
        assert g.shape == x.shape
        assert str(g.dtype) == dtype
    if isinstance(value, tuple):
        return tuple(backend.numpy(v) for v in value), grads
    return backend.numpy(value), grads


def tape_gradients(case: Case, sample: Sample) -> list[np.ndarray]:
    """The gradients by NumPy in float64, which other tests hold against finite differences."""
    return run(Backend(), case.loss, sample)[1]


def close(actual: Any, expected: Any, tolerance: float) -> None:
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * largest + 1e-14)


def once_where_compiled(backend: Backend, parameter: Any, *enough: Any) -> None:
    """Skip a parameter on backends that compile each anew, where the ones in `enough` settle the matter."""
    if backend.compiles and not any(parameter is e or parameter == e for e in enough):
        pytest.skip(f"compiled with {enough}, which settles it")


def tried(backend: Backend, all_of_them: tuple[Any, ...], *enough: Any) -> tuple[Any, ...]:
    """Return what a test goes through: less on backends that compile each anew, where `enough` settles the matter."""
    return enough if backend.compiles else all_of_them


# Values and gradients -----------------------------------------------------------------------------------------------


@pytest.mark.variants
@every_case
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_value_and_gradient(case: Case, backend: Backend, dtype: str, rng: np.random.Generator) -> None:
    """Jitted on JAX; operation by operation in `test_strict_modes.py`."""
    if dtype not in backend.dtypes():
        pytest.skip(f"{backend.name} has no {dtype}")
    once_where_compiled(backend, dtype, *(["float32", "bfloat16"] if backend.name == "jax-jitted" else ["float64"]))
    sample = rounded(case.make(rng), dtype)
    value, grads = run(backend, case.loss, sample, dtype)
    assert str(value.dtype) == (dtype if dtype in ("float64", "float32") else "float32")
    assert value.shape == ()
    # A half-precision loss is computed in float32; only what leaves, the gradient, is rounded.
    tolerance = TOLERANCE[dtype]
    wide = case.float32_tolerance / 1e-5
    close(value, case.reference(sample), 1e-9 if dtype == "float64" else case.float32_tolerance)
    for g, expected in zip(grads, tape_gradients(case, sample), strict=True):
        close(g.astype(np.float64), expected, tolerance * (wide if dtype == "float32" else 1))


@every_case
@pytest.mark.backends("numpy")
def test_gradient_is_that_of_the_reference(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    _, grads = run(backend, case.loss, sample)
    several = isinstance(sample.logits, tuple)

    def value(logits: Any) -> float:
        return float(case.reference(replace(sample, logits=logits)))

    # A ranking changes where two errors meet: a shorter step meets fewer of them, and has fewer digits.
    ranked = "Lovasz" in str(case)
    expected = numerical_gradient(value, sample.logits, step=1e-7 if ranked else 1e-4, most=30)
    for g, e in zip(grads, expected if several else (expected,), strict=True):
        tried = ~np.isnan(e)
        assert tried.sum() >= min(30, e.size)
        close(g[tried], e[tried], 1e-6 if ranked else 1e-7)


@every_case
def test_reductions(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if isinstance(case.loss, al.MixedLoss):
        return
    results = {}
    for reduction in ("mean", "sum", "none", "parts"):
        if reduction == "parts" and case.function in WITHOUT_PARTS:
            with pytest.raises(ValueError, match=f"^{case.function}: reduction is 'parts', expected one of"):
                case.with_options(reduction=reduction)
            continue
        varied = case.with_options(reduction=reduction)
        if backend.compiles and reduction == "parts":  # whose gradient is that of the mean
            logits, target, arrays = to_backend(backend, sample)
            value = backend.value(varied.loss, logits, target, **arrays)
            pair = isinstance(value, tuple)
            results[reduction] = tuple(map(backend.numpy, value)) if pair else backend.numpy(value), None
        else:
            results[reduction] = run(backend, varied.loss, sample)
        expected = varied.reference(sample)
        np.testing.assert_allclose(results[reduction][0], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(results["none"][0].sum(), results["sum"][0], rtol=1e-9)
    close(results["none"][1][0], results["sum"][1][0], 1e-9)
    if "parts" in results:
        (total, weight), _ = results["parts"]
        np.testing.assert_allclose(total / weight, results["mean"][0], rtol=1e-12)


# What must change nothing -------------------------------------------------------------------------------------------


@pytest.mark.variants
@every_case
def test_ignored_logits_change_nothing(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if sample.ignored is None or not sample.ignored.any():
        return
    value, grads = run(backend, case.loss, sample)
    for garbage in tried(backend, (np.nan, np.inf, -np.inf, 1e30), np.nan):
        first = np.where(sample.ignored, garbage, sample.parts[0])
        spoilt = replace(sample, logits=(first, *sample.parts[1:]) if isinstance(sample.logits, tuple) else first)
        value_spoilt, grads_spoilt = run(backend, case.loss, spoilt)
        np.testing.assert_allclose(value_spoilt, value, rtol=1e-14, err_msg=f"{garbage} where ignored")
        for g, e in zip(grads_spoilt, grads, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-16, err_msg=f"{garbage} where ignored")
        assert (grads_spoilt[0][sample.ignored] == 0).all(), garbage


@pytest.mark.variants
@every_case
def test_nothing_valid(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if sample.ignored is None or not sample.ignored.any():
        return
    mixed = isinstance(case.loss, al.MixedLoss)
    ignore = 255 if mixed else case.options["ignore_index"]
    spoilt = np.full(sample.parts[0].shape, np.nan)
    sample = replace(
        sample.with_labels(np.full_like(sample.labels, ignore)),
        logits=(spoilt, *sample.parts[1:]) if isinstance(sample.logits, tuple) else spoilt,
    )
    for reduction in ("mean",) if mixed else tried(backend, ("mean", "sum", "none"), "mean"):
        varied = case if mixed else case.with_options(reduction=reduction)
        value, grads = run(backend, varied.loss, sample)
        assert (value == 0).all(), reduction
        assert all((g == 0).all() for g in grads), reduction


def padded(sample: Sample, ignore: int) -> Sample:
    """Return the sample with one more image, of which nothing is valid and the first logits are NaN."""

    def longer(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, x[-1:]])

    logits, labels = [longer(x) for x in sample.parts], longer(sample.labels)
    logits[0][-1], labels[-1] = np.nan, ignore
    more = replace(
        sample,
        logits=tuple(logits) if isinstance(sample.logits, tuple) else logits[0],
        target=longer(sample.target),
        arrays={name: longer(x) for name, x in sample.arrays.items()},
    )
    return more.with_labels(labels)


@pytest.mark.variants
@every_case
def test_an_ignored_image_is_left_out(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if sample.ignored is None or not sample.ignored.any() or isinstance(case.loss, al.DualTaskLoss):
        return  # the one loss in which an ignored pixel counts, as one of class 0
    if case.options.get("top_k_percent_pixels", 1.0) < 1.0:
        return  # a share of all pixels, ignored ones included
    mixed = isinstance(case.loss, al.MixedLoss)
    if not mixed and np.shape(case.options.get("weight")) == sample.labels.shape[:1]:
        return  # weights of images belong to so many of them
    ignore = 255 if mixed else case.options["ignore_index"]
    for reduction in ("mean",) if mixed else tried(backend, ("mean", "none"), "mean"):
        varied = case if mixed else case.with_options(reduction=reduction)
        if backend.compiles:
            # In the shapes that are compiled already: the last image is ignored, and NumPy computes the others alone.
            others = cut(sample, (slice(-1),), (slice(-1),))
            value, grads = run(Backend(), varied.loss, others)
            value_padded, grads_padded = run(backend, varied.loss, padded(others, ignore))
            rounding = 1e-9
        else:
            value, grads = run(backend, varied.loss, sample)
            value_padded, grads_padded = run(backend, varied.loss, padded(sample, ignore))
            rounding = 1e-12
        if value_padded.shape != value.shape:
            assert (value_padded[-1] == 0).all()
            value_padded = value_padded[:-1]
        np.testing.assert_allclose(value_padded, value, rtol=rounding, atol=1e-13, err_msg=reduction)
        for g, e in zip(grads_padded, grads, strict=True):
            close(g[:-1], e, rounding)
            assert (g[-1] == 0).all(), reduction


@pytest.mark.variants
@every_case
def test_a_region_of_ignored_entries_is_left_out(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    """Of the mean over the regions, in a class of one image and in all but one class of the other."""
    sample = case.make(rng)
    if case.make.__name__ not in ("multilabel", "probabilities"):
        return
    target = sample.target.copy()
    target[0, 1] = target[1, :2] = 255
    sample = replace(sample, target=target, logits=np.where(target == 255, np.nan, sample.logits))
    expected = case.reference(sample)
    value, grads = run(backend, case.loss, sample)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    assert (grads[0][target == 255] == 0).all()
    # What is left out does not count: as much as if it had not been there.
    other = replace(sample, logits=np.where(target == 255, 0.3, sample.logits))
    close(run(backend, case.loss, other)[1][0], grads[0], 1e-12)


@every_case
def test_inputs_are_not_written_to(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    arrays = [*sample.parts, sample.target, *sample.arrays.values()]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    logits, target, extra = to_backend(backend, sample)
    backend.value_and_grad(case.loss, logits, target, **extra)
    after = [*(logits if isinstance(logits, tuple) else (logits,)), target, *extra.values()]
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(backend.numpy(a), b)


@every_case
def test_class_axis_anywhere(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if "axis" not in case.options or isinstance(sample.logits, tuple) or "weight" in str(case.options.get("weight")):
        return
    if isinstance(case.loss, al.BCELoss) and np.ndim(case.loss.weight) > 1:
        return  # weights of the rank of the logits have their layout
    value, (grad,) = run(backend, case.loss, sample)
    rank = sample.logits.ndim
    for axis in [-1] if backend.compiles else [axis for axis in (0, 2, -1) if axis < rank]:
        moved = replace(sample, logits=np.moveaxis(sample.logits, 1, axis))
        if sample.target.shape == sample.logits.shape:
            moved = replace(moved, target=np.moveaxis(sample.target, 1, axis))
        like_logits = {name: x for name, x in sample.arrays.items() if x.shape == sample.logits.shape}
        arrays = {name: np.moveaxis(x, 1, axis) for name, x in like_logits.items()}
        moved = replace(moved, arrays={**sample.arrays, **arrays})
        value_moved, (grad_moved,) = run(backend, replace(case.loss, axis=axis), moved)
        np.testing.assert_allclose(value_moved, value, rtol=1e-13)
        close(np.moveaxis(grad_moved, axis, 1), grad, 1e-12)
        assert rank == grad_moved.ndim


@every_case
@pytest.mark.backends("numpy", "strict", "torch")
def test_pixel_order_changes_nothing(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    if case.make.__name__ in NEIGHBOURHOODS | OTHER_SIZES:
        return  # the last axis of the logits is not that of the target, or the order matters
    sample = case.make(rng)
    order = rng.permutation(sample.parts[0].shape[-1])

    def shuffle(x: np.ndarray) -> np.ndarray:
        return x[..., order]

    if isinstance(case.loss, al.BCELoss) and np.ndim(case.loss.weight) > 1:
        return  # weights of entries belong to their places
    shuffled = Sample(
        tuple(map(shuffle, sample.logits)) if isinstance(sample.logits, tuple) else shuffle(sample.logits),
        shuffle(sample.target),
        {k: shuffle(v) for k, v in sample.arrays.items()},
    )
    value, grads = run(backend, case.loss, sample)
    value_shuffled, grads_shuffled = run(backend, case.loss, shuffled)
    np.testing.assert_allclose(value_shuffled, value, rtol=1e-12)
    for g, e in zip(grads_shuffled, grads, strict=True):
        close(g, shuffle(e), 1e-12)


# Shapes and dtypes of the target ------------------------------------------------------------------------------------


@every_case
def test_label_dtypes(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if sample.labels.dtype.kind == "f" or case.make.__name__ == "entries":
        return
    expected, expected_grads = run(backend, case.loss, sample)
    # Compiled anew for the other dtype, the same formula may round otherwise.
    rounding = 1e-12 if backend.compiles else 0.0
    others = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    for dtype in others[:1] if backend.compiles else others:
        varied, labels = case, sample.labels
        if dtype == "int8":
            if case.options.get("ignore_index") != 255:
                continue
            varied, labels = case.with_options(ignore_index=-1), np.where(labels == 255, -1, labels)
        value, grads = run(backend, varied.loss, sample.with_labels(labels.astype(dtype)))
        np.testing.assert_allclose(value, expected, rtol=rounding, err_msg=dtype)
        np.testing.assert_allclose(grads[0], expected_grads[0], rtol=rounding, atol=rounding, err_msg=dtype)


@every_case
def test_labels_with_a_class_axis(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if sample.labels.ndim == sample.parts[0].ndim:
        return
    if backend.name == "torch-compiled":
        pytest.skip("shapes are read before anything is traced")
    with_axis = sample.with_labels(sample.labels[:, None])
    value, grads = run(backend, case.loss, sample)
    if backend.compiles:  # the axis is gone before anything that a gradient depends on
        logits, target, arrays = to_backend(backend, with_axis)
        np.testing.assert_allclose(backend.numpy(backend.value(case.loss, logits, target, **arrays)), value, rtol=1e-12)
        return
    value_with, grads_with = run(backend, case.loss, with_axis)
    assert value_with == value
    np.testing.assert_array_equal(grads_with[0], grads[0])


@pytest.mark.variants
def test_bool_labels(backend: Backend, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=(3, 2, 7)), rng.random((3, 7)) < 0.5
    for loss in (al.CrossEntropyLoss(), al.CrossEntropyLoss(ignore_index=0), al.DiceLoss(), al.BCELoss()):
        expected = run(backend, loss, Sample(logits, target.astype(np.int64)))
        value, grads = run(backend, loss, Sample(logits, target))
        np.testing.assert_allclose(value, expected[0], rtol=1e-14)
        close(grads[0], expected[1][0], 1e-14)


@pytest.mark.parametrize("space", [(), (7,), (4, 5), (2, 4, 3), (2, 2, 3, 2)], ids=str)
def test_any_number_of_dimensions(backend: Backend, space: tuple[int, ...], rng: np.random.Generator) -> None:
    import cases

    for loss in (
        al.CrossEntropyLoss((0.3, 1.0, 2.0, 5.0), top_k_percent_pixels=0.5),
        al.DiceLoss(smooth=1.0),
        al.BCELoss(),
    ):
        sample = cases.labels(rng, space=space)
        value, grads = run(backend, loss, sample)
        np.testing.assert_allclose(value, Case(loss, cases.labels).reference(sample), rtol=1e-9)
        close(grads[0], tape_gradients(Case(loss, cases.labels), sample)[0], 1e-9)


@pytest.mark.variants
@pytest.mark.parametrize(
    "loss", [al.CrossEntropyLoss(label_smoothing=0.1), al.DiceLoss(smooth=1.0), al.BCELoss()], ids=repr
)
def test_unbatched(backend: Backend, loss: al.Loss, rng: np.random.Generator) -> None:
    logits, target = rng.normal(size=5), np.asarray(3)
    value, (grad,) = run(backend, loss, Sample(logits, target))
    batched, (batched_grad,) = run(backend, loss, Sample(logits[None], target[None]))
    np.testing.assert_allclose(value, batched, rtol=1e-14)
    np.testing.assert_allclose(grad, batched_grad[0], rtol=1e-12)
    none, _ = run(backend, replace(loss, reduction="none"), Sample(logits, target))
    assert none.shape == (() if isinstance(loss, al.CrossEntropyLoss) else (5,))


def cut(sample: Sample, at: tuple[Any, ...], logits_at: tuple[Any, ...]) -> Sample:
    """Return a part of a sample: the place in arrays of positions, and in arrays with a class axis."""
    rank = sample.parts[0].ndim

    def part(x: np.ndarray) -> np.ndarray:
        return x[logits_at if x.ndim == rank else at]

    return Sample(
        tuple(map(part, sample.logits)) if isinstance(sample.logits, tuple) else part(sample.logits),
        part(sample.target),
        {name: part(x) for name, x in sample.arrays.items()},
    )


def has_sizes(case: Case) -> bool:
    """Whether an option of the loss belongs to the sizes of its sample."""
    return isinstance(case.loss, al.BCELoss) and isinstance(case.loss.weight, tuple)


@every_case
def test_nothing_gives_zero(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    """No images, images without pixels, or neither."""
    whole = case.make(rng)
    if has_sizes(case):
        case = case.with_options(weight=None)
    for what in tried(backend, ("batch", "space", "both"), "batch", "space"):
        if case.make.__name__ in OTHER_SIZES and what != "batch":
            continue  # their maps have at least a pixel
        images = slice(0, 0 if what != "space" else None)
        space = (...,) if what == "batch" else (..., slice(0, 0))
        sample = cut(whole, (images, *space), (images, *space))
        for reduction in tried(backend, ("mean", "sum", "none"), "mean" if what == "batch" else "none"):
            varied = case if isinstance(case.loss, al.MixedLoss) else case.with_options(reduction=reduction)
            value, grads = run(backend, varied.loss, sample)
            assert (value == 0).all(), (what, reduction)
            assert all((g == 0).all() for g in grads), (what, reduction)


@every_case
@pytest.mark.backends("numpy", "strict", "torch")
def test_one_pixel(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if has_sizes(case) or case.make.__name__ in OTHER_SIZES:
        return
    place = (slice(None), *(slice(0, 1),) * (sample.parts[0].ndim - 2))
    sample = cut(sample, place, (slice(None), *place))
    if isinstance(case.loss, (al.DualTaskLoss, al.RMILoss)) and case.options.get("radius", 3) > 1:
        with pytest.raises(ValueError, match=rf"^{case.function}: logits has shape .* expected images of at least"):
            run(backend, case.loss, sample)
        return
    value, grads = run(backend, case.loss, sample)
    np.testing.assert_allclose(value, case.reference(sample), rtol=1e-9, atol=1e-13)
    for g, expected in zip(grads, tape_gradients(case, sample), strict=True):
        close(g, expected, 1e-9)


@pytest.mark.parametrize("shape", [(0, 3), (0,)], ids=str)
def test_nothing_without_space(backend: Backend, shape: tuple[int, ...]) -> None:
    if backend.name == "torch-compiled":
        pytest.skip("torch compiles no empty graph inputs")
    target = np.zeros((shape[0], *shape[2:]), dtype=np.int64)
    if len(shape) > 1:
        for loss in (al.CrossEntropyLoss(), al.CrossEntropyLoss(top_k_percent_pixels=0.5), al.DiceLoss(), al.BCELoss()):
            value, grads = run(backend, loss, Sample(np.zeros(shape), target))
            assert value == 0
            assert grads[0].shape == shape
    for loss in (al.L1Loss(), al.MSELoss(), al.PoissonNLLLoss(False)):
        assert run(backend, loss, Sample(np.zeros(shape), np.zeros(shape)))[0] == 0


# Stability ----------------------------------------------------------------------------------------------------------


@every_case
def test_extreme_logits(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    if case.options.get("activation", "softmax") is None:
        return  # probabilities are never large
    sample = case.make(rng)
    for size in tried(backend, (0.0, 88.0, 1e4), 1e4):
        # `counts` grows as exp(logits), which is truly infinite in float32 beyond.
        first = np.sign(sample.parts[0]) * (min(size, 80.0) if case.make.__name__ == "counts" else size)
        if case.make.__name__ == "rates":
            first = np.abs(first)  # a negative rate is refused
        large = replace(sample, logits=(first, *sample.parts[1:]) if isinstance(sample.logits, tuple) else first)
        value, grads = run(backend, case.loss, large, "float32")
        assert np.isfinite(value), size
        assert all(np.isfinite(g).all() for g in grads), size
        close(value, case.reference(rounded(large, "float32")), case.float32_tolerance)


def beside_ordinary_ones(case: Case, sample: Sample, size: float, rng: np.random.Generator) -> Sample:
    """Return a sample with a class at some positions, and all classes at others, moved by `size` up or down."""
    first = sample.parts[0]
    if case.make.__name__ == "counts":
        size = min(size, 60.0)  # see above
    shape = (first.shape[0], 1, *first.shape[2:])
    chance, one = rng.random(shape), rng.integers(0, first.shape[1], shape)
    picked = np.arange(first.shape[1]).reshape(1, -1, *(1,) * (first.ndim - 2)) == one
    moved = first + np.where((chance < 0.2) & picked | (chance > 0.8), rng.choice([-size, size], shape), 0.0)
    if case.make.__name__ == "rates":
        moved = np.abs(moved)
    return replace(sample, logits=(moved, *sample.parts[1:]) if isinstance(sample.logits, tuple) else moved)


@every_case
def test_large_logits_beside_ordinary_ones(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    """In float32 neither the large scores nor those beside them lose digits, at any position."""
    if case.options.get("activation", "softmax") is None:
        return  # as above
    sample = rounded(beside_ordinary_ones(case, case.make(rng), 1e4, rng), "float32")
    value, grads = run(backend, case.loss, sample, "float32")
    expected, expected_grads = run(Backend(), case.loss, sample)
    tolerance = case.float32_tolerance
    close(value, expected, tolerance)
    for g, e in zip(grads, expected_grads, strict=True):
        close(g, e, tolerance)
        # Of each position by itself, whose classes may cancel: what moves all others must not hide it.
        largest = np.abs(e).max(axis=1, keepdims=True, initial=0.0)
        allowed = 10.0 * tolerance * largest + 0.1 * tolerance * np.abs(e).max(initial=0.0)
        assert (np.abs(g - e) <= allowed).all()
    if backend.compiles or isinstance(case.loss, al.MixedLoss):
        return
    each = case.with_options(reduction="none").loss
    found, expected = run(backend, each, sample, "float32")[0], run(Backend(), each, sample)[0]
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=0.1 * tolerance)


@every_case
def test_minus_infinity_off_the_target(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    if case.make.__name__ not in ("labels", "weighted") or case.options.get("label_smoothing"):
        return
    for n, position in itertools.product(range(2), np.ndindex(sample.target.shape[1:])):
        off = [c for c in range(sample.parts[0].shape[1]) if c != sample.target[n][position]]
        sample.parts[0][(n, off[0], *position)] = -np.inf
    value, grads = run(backend, case.loss, sample)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in grads)
    np.testing.assert_allclose(value, case.reference(sample), rtol=1e-9)


@every_case
def test_large_offsets_cost_no_digits(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    if case.make.__name__ not in ("labels", "weighted", "soft", "taught", "taught_labels"):
        return
    if isinstance(case.loss, BINARY) or case.options.get("activation", "softmax") != "softmax":
        return
    sample = case.make(rng)
    sample = replace(sample, logits=np.round(sample.logits * 64) / 64)  # so that adding 4096 is exact in float32
    shifted = replace(sample, logits=sample.logits + 2.0**12)
    value, grads = run(backend, case.loss, sample, "float32")
    value_shifted, grads_shifted = run(backend, case.loss, shifted, "float32")
    close(value_shifted, value, 1e-6)
    close(grads_shifted[0], grads[0], 1e-5)


def test_half_precision_sums_do_not_overflow(backend: Backend) -> None:
    if "float16" not in backend.dtypes():
        pytest.skip(f"{backend.name} has no float16")
    logits = np.zeros((1, 2, 512, 512), dtype=np.float16)
    target = np.indices((512, 512)).sum(axis=0)[None] % 2
    for loss in (
        al.DiceLoss(),
        al.CrossEntropyLoss(),
        al.CrossEntropyLoss(reduction="sum"),
        al.BCELoss(reduction="sum"),
    ):
        value, _ = run(backend, loss, Sample(logits, target), "float16")
        expected, _ = run(Backend(), loss, Sample(logits, target), "float64")
        np.testing.assert_allclose(value, expected, rtol=1e-5)


# Bad input ----------------------------------------------------------------------------------------------------------

LABEL_CASES = [c for c in CASES if c.make.__name__ in LABELLED and c.options.get("ignore_index", 0) != 0]


@pytest.mark.variants
@pytest.mark.eager
@pytest.mark.parametrize("case", LABEL_CASES, ids=str)
def test_wrong_labels(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    name = "" if isinstance(case.loss, al.MixedLoss) else case.function
    for label in (-1, 5, 254, 256) if backend.reads else tried(backend, (-1, 5, 254, 256), 5):
        sample.labels[1, -1, -1] = label
        logits, target, arrays = to_backend(backend, sample)
        if backend.reads:
            with pytest.raises(ValueError, match=rf"{name}.*(label {label} |from)"):
                case.loss(logits, target, **arrays)
            continue
        value, grads = backend.value_and_grad(case.loss, logits, target, **arrays)
        assert np.isnan(backend.numpy(value)), label
        first = backend.numpy(grads[0] if isinstance(grads, tuple) else grads)
        assert np.isnan(first).any(), label


@pytest.mark.eager
@every_case
def test_misfits_are_named(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = case.make(rng)
    name = r"(\w+_loss)" if isinstance(case.loss, al.MixedLoss) else case.function
    logits, target, arrays = to_backend(backend, sample)
    # A map of labels behind points, or of a whole image, may be of any size.
    any_size = case.make.__name__ in OTHER_SIZES
    wrong_shape = backend.array(sample.target[:-1] if any_size else sample.target[..., :-1])
    with pytest.raises(ValueError, match=rf"^{name}: target has shape \([\d, ]+\).*expected .*\(\d"):
        case.loss(logits, wrong_shape, **arrays)
    integers = tuple(backend.array(x.astype(np.int64)) for x in sample.parts)
    with pytest.raises(TypeError, match=rf"^{name}: logits.* has dtype int64, expected a real floating dtype"):
        case.loss(integers if isinstance(sample.logits, tuple) else integers[0], target, **arrays)
    lists = sample.parts[0].tolist()
    with pytest.raises(TypeError, match=rf"^{name}: logits.* is a .*list, expected an array"):
        case.loss((lists, *sample.parts[1:]) if isinstance(sample.logits, tuple) else lists, target, **arrays)
    with pytest.raises(TypeError, match=rf"^{name}: target is a .*list, expected an array"):
        case.loss(logits, sample.target.tolist(), **arrays)
    masked = np.ma.masked_array(sample.parts[0], mask=False)
    masked = (masked, *sample.parts[1:]) if isinstance(sample.logits, tuple) else masked
    with pytest.raises(TypeError, match=rf"^{name}: logits.* is a numpy.*MaskedArray, expected an array"):
        case.loss(masked, target, **arrays)
    if sample.target.dtype.kind != "f" and case.make.__name__ not in ("binary",):
        with pytest.raises(TypeError, match=rf"^{name}: target has dtype float64"):
            case.loss(logits, backend.array(sample.target.astype(np.float64)), **arrays)


BAD_OPTIONS = [
    ("reduction", "average"),
    ("reduction", None),
    ("axis", 1.0),
    ("axis", 9),
    ("ignore_index", 255.0),
    ("ignore_index", True),
    ("weight", [1.0, 2.0]),
    ("weight", [1.0, 2.0, float("inf"), 1.0]),
    ("weight", [1.0, 2.0, float("nan"), 1.0]),
    ("weight", "balanced"),
    ("weight", 2.0),
    ("label_smoothing", -0.1),
    ("label_smoothing", 1.5),
    ("top_k_percent_pixels", 1.5),
    ("top_k_percent_pixels", "all"),
    ("base_temperature", 0.0),
    ("bce_weight", 1.5),
    ("max_samples", 0),
    ("max_views", 2.0),
    ("pool", "median"),
    ("radius", -1),
    ("smooth", -1),
    ("smooth", float("inf")),
    ("pos_weight", [1.0, 2.0]),
    ("pos_weight", float("nan")),
    ("edge_label", 1),
    ("activation", "relu"),
    ("include_background", 1),
    ("threshold", 1.5),
    ("alpha", float("inf")),
    ("alpha", "balanced"),
    ("beta", -1.0),
    ("clip", 1.5),
    ("epsilon", -1.5),
    ("gamma", -0.5),
    ("gamma", None),
    ("gamma_neg", -0.5),
    ("gamma_pos", "2"),
    ("log_zero", 0.5),
    ("q", 0.0),
    ("q", 1.5),
    ("beta", -1.0),
    ("delta", 0.0),
    ("epsilon", float("nan")),
    ("quantile", 1.5),
    ("full", 1),
    ("log_input", "yes"),
    ("eps", -1e-8),
    ("stride", 0),
    ("temperature", 0.0),
]


@pytest.mark.once
@pytest.mark.parametrize("loss", sorted({type(case.loss) for case in CASES}, key=str), ids=lambda loss: loss.__name__)
def test_bad_options_are_named(loss: type[al.Loss], rng: np.random.Generator) -> None:
    case = next(c for c in CASES if type(c.loss) is loss)
    sample = case.make(rng)
    function = loss.function
    tried = 0
    for option, value in BAD_OPTIONS:
        if option not in case.options or (loss, option, value) in (
            (al.MixedLoss, "reduction", None),
            (al.BCELoss, "weight", [1.0, 2.0]),  # one for each of two images
        ):
            continue
        named = rf"^{function.__name__}: {option} .*expected"
        with pytest.raises((ValueError, TypeError), match=named):
            function(sample.logits, sample.target, **{**case.options, option: value}, **sample.arrays)
        with pytest.raises((ValueError, TypeError), match=named):
            replace(case.loss, **{option: value})(sample.logits, sample.target, **sample.arrays)
        tried += 1
    assert tried


@pytest.mark.once
@pytest.mark.parametrize("case", [c for c in CASES if c.make.__name__ == "labels"], ids=str)
def test_a_forgotten_default_of_255(case: Case) -> None:
    logits, target = np.zeros((1, 256, 3)), np.zeros((1, 3), dtype=np.int64)
    if isinstance(case.loss, al.MixedLoss) or case.options.get("weight") is not None:
        return
    if isinstance(case.options.get("alpha"), tuple):
        return
    if case.options["ignore_index"] == 255:
        with pytest.raises(ValueError, match="ignore_index is 255 with 256 classes"):
            case.loss(logits, target)
        assert case.loss(logits[:, :255], target) > 0
    assert np.isfinite(case.with_options(ignore_index=None).loss(logits, target))


# Objects ------------------------------------------------------------------------------------------------------------


@pytest.mark.once
@every_case
def test_loss_objects_are_plain_data(case: Case) -> None:
    loss = case.loss
    twin = eval(repr(loss), vars(al))  # a repr that makes the object again
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), twin):
        assert other == loss
        assert hash(other) == hash(loss)
    field = next(iter(vars(loss)))
    with pytest.raises(AttributeError):
        setattr(loss, field, 1)
    assert loss != al.L1Loss(ignore_index=-7)


@pytest.mark.backends("numpy", "strict", "torch", "jax", "cupy")
def test_weights_of_any_library_are_kept_as_numbers(backend: Backend) -> None:
    weights = np.asarray([0.5, 1.0, 2.0])
    kept = al.CrossEntropyLoss(backend.array(weights) if backend.name != "strict" else weights)
    assert kept == al.CrossEntropyLoss([0.5, 1.0, 2.0]) == al.CrossEntropyLoss((0.5, 1, 2))
    assert all(type(w) is float for w in kept.weight)


@pytest.mark.variants
def test_weights_may_be_arrays_in_a_call(backend: Backend, rng: np.random.Generator) -> None:
    import cases

    sample = cases.labels(rng)
    weights = np.asarray(cases.W4)
    logits, target, _ = to_backend(backend, sample)

    def loss(logits: Any, target: Any, weight: Any) -> Any:
        return al.cross_entropy_loss(logits, target, weight=weight)

    value = backend.value(loss, logits, target, weight=backend.array(weights))
    np.testing.assert_allclose(
        backend.numpy(value), al.CrossEntropyLoss(weights)(sample.logits, sample.target), rtol=1e-12
    )


@pytest.mark.once
def test_every_loss_has_a_case_and_a_function() -> None:
    classes = [x for x in vars(al).values() if isinstance(x, type) and issubclass(x, al.Loss) and x is not al.Loss]
    assert {type(case.loss) for case in CASES} == set(classes)
    for loss in classes:
        name = "".join(
            "_" + a.lower() if a.isupper() and not b.isupper() else a.lower()
            for a, b in zip(loss.__name__, "x" + loss.__name__, strict=False)
        ).strip("_")
        assert loss.function is getattr(al, loss.function.__name__)
        assert loss.function.__name__.replace("_", "") == name.replace("_", "")
