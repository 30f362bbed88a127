"""Arrays, labels and weights as people have them: byte orders, the widest integers, one-hot forms, masks, lists."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from backends import BACKENDS, Backend
from cases import CASES, FIRST, LABELLED, Case, Sample, labels
from test_contract import close, once_where_compiled, run, to_backend

import arrayloss as al

every_case = pytest.mark.parametrize("case", CASES, ids=str)

# Byte order -----------------------------------------------------------------------------------------------------------


def swapped(x: np.ndarray) -> np.ndarray:
    """Return an array in the other byte order than the machine's."""
    return x.astype(x.dtype.newbyteorder("S"))


@pytest.mark.backends("numpy")
@every_case
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_byte_order_is_no_dtype(case: Case, backend: Backend, dtype: str, rng: np.random.Generator) -> None:
    logits, target, arrays = to_backend(backend, case.make(rng), dtype)
    several = isinstance(logits, tuple)
    given = tuple(map(swapped, logits)) if several else swapped(logits)
    assert not (given[0] if several else given).dtype.isnative
    others = {name: swapped(x) for name, x in arrays.items()}
    value, gradients = al.value_and_grad(case.loss)(logits, target, **arrays)
    found, found_gradients = al.value_and_grad(case.loss)(given, swapped(target), **others)
    assert found.dtype.isnative
    np.testing.assert_allclose(found, value, rtol=1e-6 if dtype != "float64" else 1e-14)
    for g, e in zip(*((x if several else (x,)) for x in (found_gradients, gradients)), strict=True):
        assert g.dtype == e.dtype  # in the byte order of the machine
        close(g.astype(np.float64), e.astype(np.float64), 1e-3 if dtype == "float16" else 1e-6)
    np.testing.assert_allclose(case.loss(given, swapped(target), **others), found, rtol=1e-6)


@pytest.mark.backends("numpy")
def test_label_maps_and_weights_of_the_other_byte_order(backend: Backend, rng: np.random.Generator) -> None:
    target = rng.integers(0, 3, size=(2, 6, 7)).astype(np.int16)
    for of in (al.label_edges, al.detail_targets, lambda y: al.distance_map(y, 3)):
        np.testing.assert_array_equal(of(swapped(target)), of(target))
    logits, weight = rng.normal(size=(2, 3, 6, 7)), np.asarray([0.5, 2.0, -1.0])
    expected = al.cross_entropy_loss(logits, target, weight=weight)
    np.testing.assert_allclose(al.cross_entropy_loss(logits, target, weight=swapped(weight)), expected, rtol=1e-14)
    assert al.CrossEntropyLoss(swapped(weight)) == al.CrossEntropyLoss(weight)


# Labels ---------------------------------------------------------------------------------------------------------------

LABELLED_CASES = [case for case in FIRST if case.make.__name__ in LABELLED]


@pytest.fixture
def without_x64(backend: Backend) -> Iterator[None]:
    """JAX as it is out of the box; other libraries as they are."""
    if backend.needs != "jax":
        yield
        return
    import jax

    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("case", LABELLED_CASES, ids=str)
@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_the_largest_label_may_be_ignored(
    case: Case, backend: Backend, dtype: str, without_x64: None, rng: np.random.Generator
) -> None:
    if backend.needs == "jax" and dtype == "uint64":
        pytest.skip("JAX has no uint64 without x64")
    if isinstance(case.loss, al.MixedLoss):
        return
    once_where_compiled(backend, dtype, "uint32")
    largest = np.iinfo(dtype).max
    sample = case.make(rng)
    wide = sample.labels.astype(dtype)
    wide[sample.labels == 255] = largest
    logits, target, arrays = to_backend(backend, sample, "float32")
    expected = backend.numpy(backend.value(case.loss, logits, target, **arrays))
    varied = case.with_options(ignore_index=int(largest)).loss
    logits, target, arrays = to_backend(backend, sample.with_labels(wide), "float32")
    np.testing.assert_allclose(backend.numpy(backend.value(varied, logits, target, **arrays)), expected, rtol=1e-6)


@pytest.mark.eager
@pytest.mark.parametrize("dtype", ["uint32", "uint64"])
def test_a_large_label_is_named_as_it_was_given(
    backend: Backend, dtype: str, without_x64: None, rng: np.random.Generator
) -> None:
    if backend.needs == "jax" and dtype == "uint64":
        pytest.skip("JAX has no uint64 without x64")
    large = np.iinfo(dtype).max - 5
    sample = labels(rng)
    wrong = sample.labels.astype(dtype)
    wrong[1, 2, 3] = large
    for loss in (al.CrossEntropyLoss(), al.DiceLoss(), al.BCELoss(), al.CrossEntropyLoss(ignore_index=int(large) + 5)):
        clean = wrong if loss.ignore_index == 255 else np.where(wrong == 255, 0, wrong).astype(dtype)
        logits, target, _ = to_backend(backend, sample.with_labels(clean), "float32")
        if not backend.reads:
            assert np.isnan(backend.numpy(loss(logits, target)))
            continue
        with pytest.raises(ValueError, match=rf"holds the label {large} at position \(1, 2, 3\)"):
            loss(logits, target)


@pytest.mark.variants
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64"])
def test_one_hot_targets_are_probabilities(backend: Backend, dtype: str, rng: np.random.Generator) -> None:
    """Of any real dtype, in the shape of the logits, in every loss that takes probabilities."""
    sample = labels(rng, classes=3, ignore=None)
    one_hot = np.moveaxis(np.eye(3)[sample.target], -1, 1)
    for case in CASES if not backend.compiles else FIRST:
        if case.make.__name__ != "soft" and not (backend.compiles and isinstance(case.loss, al.CrossEntropyLoss)):
            continue
        expected = run(backend, case.loss, replace(sample, target=one_hot, ignored=None))
        value, grads = run(backend, case.loss, replace(sample, target=one_hot.astype(dtype), ignored=None))
        np.testing.assert_allclose(value, expected[0], rtol=1e-12)
        close(grads[0], expected[1][0], 1e-12)
    with pytest.raises(TypeError, match=r"^lovasz_softmax_loss: .*of a one-hot form, pass its argmax"):
        al.lovasz_softmax_loss(*to_backend(backend, replace(sample, target=one_hot.astype(dtype)))[:2])


@pytest.mark.eager
def test_a_one_hot_target_with_ignored_entries_is_refused(backend: Backend, rng: np.random.Generator) -> None:
    sample = labels(rng, classes=3, ignore=None)
    one_hot = np.moveaxis(np.eye(3, dtype=np.int64)[sample.target], -1, 1)
    one_hot[0, :, 0, 0] = 255
    logits, target, _ = to_backend(backend, replace(sample, target=one_hot))
    if not backend.reads:
        assert np.isnan(backend.numpy(al.CrossEntropyLoss()(logits, target)))
        return
    with pytest.raises(ValueError, match=r"target holds values from 0 to 255, expected probabilities in \[0, 1\]"):
        al.CrossEntropyLoss()(logits, target)


# One class under softmax ----------------------------------------------------------------------------------------------


def of_one_class(case: Case, sample: Sample) -> Sample:
    """Return a sample whose scores have one class, against labels of 0 and 1."""
    logits = [sample.parts[0][:, :1], *sample.parts[1:]]
    if case.make.__name__ == "embedded":
        logits = [sample.parts[0], sample.parts[1][:, :1]]
    arrays = {name: x[:, :1] if x.shape == sample.parts[0].shape else x for name, x in sample.arrays.items()}
    zeros_and_ones = np.where(sample.labels == 255, 255, sample.labels % 2)
    zeros_and_ones[0, 0] = 1
    sample = replace(sample, logits=tuple(logits) if isinstance(sample.logits, tuple) else logits[0], arrays=arrays)
    if "labels" in arrays:
        sample = replace(sample, target=sample.target[:, :1])
    return sample.with_labels(zeros_and_ones)


#: The losses under a softmax, with what to take for one score.
INSTEAD = {
    "BootstrappedCrossEntropyLoss": "bce_loss",
    "BoundaryLoss": 'activation="sigmoid"',
    "CrossEntropyLoss": "bce_loss",
    "DiceCELoss": "bce_dice_loss",
    "DiceLoss": 'activation="sigmoid"',
    "DistillationLoss": "bce_loss",
    "EdgeAttentionLoss": "bce_loss",
    "FocalLoss": "sigmoid_focal_loss",
    "GeneralizedCrossEntropyLoss": "bce_loss",
    "GeneralizedDiceLoss": 'activation="sigmoid"',
    "HausdorffDTLoss": 'activation="sigmoid"',
    "JaccardLoss": 'activation="sigmoid"',
    "LogCoshDiceLoss": 'activation="sigmoid"',
    "LovaszSoftmaxLoss": "lovasz_hinge_loss",
    "MultiMarginLoss": "hinge_loss",
    "OhemCrossEntropyLoss": "bce_loss",
    "OhemEdgeAttentionLoss": "bce_loss",
    "PointCrossEntropyLoss": "bce_loss",
    "PolyLoss": "bce_loss",
    "RelaxBoundaryLoss": "bce_loss",
    "SymmetricCrossEntropyLoss": "bce_loss",
    "TverskyLoss": 'activation="sigmoid"',
    "DualTaskLoss": "two classes",
    "SemanticConnectivityLoss": "two classes",
}


@pytest.mark.eager
@pytest.mark.parametrize("case", [c for c in FIRST if type(c.loss).__name__ in INSTEAD], ids=str)
def test_one_class_under_softmax_takes_label_0_alone(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = of_one_class(case, case.make(rng))
    logits, target, arrays = to_backend(backend, sample)
    if not backend.reads:
        assert np.isnan(backend.numpy(backend.value(case.loss, logits, target, **arrays)))
        return
    instead = INSTEAD[type(case.loss).__name__]
    with pytest.raises(ValueError, match=rf"^{case.function}: .*holds the label 1 .*{instead}"):
        case.loss(logits, target, **arrays)
    jitted = BACKENDS["jax-jitted"] if backend.name == "jax" else backend
    value, grads = run(jitted, case.loss, sample.with_labels(np.zeros_like(sample.labels)))
    assert np.isfinite(value)
    assert (grads[0] == 0).all()


def test_every_loss_under_a_softmax_says_what_to_take() -> None:
    """Those that refuse label 1 of one class, found by trying."""
    refusing = set()
    for case in FIRST:
        if case.make.__name__ in LABELLED and not isinstance(case.loss, al.MixedLoss):
            sample = of_one_class(case, case.make(np.random.default_rng(0)))
            try:
                case.loss(sample.logits, sample.target, **sample.arrays)
            except ValueError:
                refusing.add(type(case.loss).__name__)
    # Those are not of a softmax: scores of windows, of whole images, and embeddings.
    assert refusing - {"RMILoss", "SECrossEntropyLoss", "PixelContrastLoss"} == set(INSTEAD)


# Masks of 0 and 255 ---------------------------------------------------------------------------------------------------


def masked_case(case: Case, sample: Sample) -> Sample | None:
    """Return a sample of a loss over labels whose labels are a mask, of two classes or one; None: it has no labels."""
    if case.make.__name__ not in LABELLED | {"label_map", "detailed", "multilabel"}:
        return None
    mask = np.where(np.arange(sample.labels.size).reshape(sample.labels.shape) % 3 == 0, 255, 0)
    classes = 2 if case.make.__name__ in LABELLED else None

    def fewer(x: np.ndarray) -> np.ndarray:
        return x[:, :classes] if x.ndim == sample.parts[0].ndim and x.shape[1] > 2 else x

    parts = list(sample.parts)
    if case.make.__name__ == "embedded":
        parts[1] = fewer(parts[1])
    else:
        parts[0] = fewer(parts[0])
    arrays = {name: fewer(x) for name, x in sample.arrays.items()}
    sample = replace(sample, logits=tuple(parts) if isinstance(sample.logits, tuple) else parts[0], arrays=arrays)
    if "labels" in arrays:
        sample = replace(sample, target=fewer(sample.target))
    return sample.with_labels(mask.astype(sample.labels.dtype))


@pytest.mark.eager
@pytest.mark.parametrize("case", FIRST, ids=str)
def test_a_mask_of_0_and_255_warns(case: Case, backend: Backend, rng: np.random.Generator) -> None:
    sample = masked_case(case, case.make(rng))
    if sample is None:
        return
    if backend.name == "jax" and type(case.loss) not in (al.CrossEntropyLoss, al.BCELoss, al.DiceLoss, al.KLDivLoss):
        pytest.skip("compiled for one loss of each kind of target")
    if isinstance(case.loss, al.MixedLoss):
        case = replace(case, loss=al.MixedLoss([al.CrossEntropyLoss(), al.DiceLoss()], [1.0, 1.0]))
    logits, target, arrays = to_backend(backend, sample)
    if not backend.reads:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            case.loss(logits, target, **arrays)
        return
    with pytest.warns(UserWarning, match=r"holds 0 and 255 alone, .* Pass \w+ == 255") as caught:
        case.loss(logits, target, **arrays)
    assert {w.filename for w in caught} == {__file__}  # at the line of the caller, where Python shows it once
    assert len(caught) == (2 if isinstance(case.loss, al.MixedLoss) else 1)


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ([[0, 255], [1, 0]], {}),
        ([[255, 255], [255, 255]], {}),
        ([[0, 0], [0, 0]], {}),
        ([[0, 254], [0, 254]], {"ignore_index": 254}),
    ],
    ids=str,
)
def test_other_labels_do_not_warn(backend: Backend, target: list[Any], options: dict[str, Any]) -> None:
    logits, y = backend.array(np.zeros((1, 2, 2, 2))), backend.array(np.asarray([target]))
    assert np.isfinite(backend.numpy(al.CrossEntropyLoss(**options)(logits, y)))
    more = backend.array(np.zeros((1, 3, 2, 2)))  # of three classes, one may be rare
    assert np.isfinite(backend.numpy(al.CrossEntropyLoss(**options)(more, y)))


def test_a_mask_warns_once_in_a_loop() -> None:
    logits, mask = np.zeros((1, 2, 2, 2)), np.asarray([[[0, 255], [255, 0]]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            al.DiceLoss()(logits, mask)
    assert len(caught) == 1


@pytest.mark.backends("jax", "torch")
def test_a_traced_mask_does_not_warn(backend: Backend) -> None:
    logits, mask = backend.array(np.zeros((1, 2, 2, 2))), backend.array(np.asarray([[[0, 255], [255, 0]]]))
    if backend.name == "torch":
        import torch

        run_it = torch.compile(al.DiceLoss(), fullgraph=True, backend="eager")
    else:
        import jax

        run_it = jax.jit(al.DiceLoss())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_it(logits, mask)
    assert not [w for w in caught if "255" in str(w.message)]


def test_which_losses_ignore_255_by_default() -> None:
    """Those over labels, and L1 and MSE, whose signatures are PaddleSeg's; no other loss of numbers."""
    numbers = {"SmoothL1Loss", "HuberLoss", "LogCoshLoss", "CharbonnierLoss", "QuantileLoss"}
    numbers |= {"PoissonNLLLoss", "GaussianNLLLoss"}
    for case in FIRST:
        fields = type(case.loss).__dataclass_fields__
        if "ignore_index" in fields:
            assert fields["ignore_index"].default == (None if type(case.loss).__name__ in numbers else 255)


# Weights --------------------------------------------------------------------------------------------------------------

WEIGHTS = [0.5, -1.0, 2.0, 0.25]


@pytest.mark.variants
@pytest.mark.parametrize("kind", ["array", "numpy", "strided", "list", "tuple"])
def test_weights_of_numpy_and_sequences_serve_every_library(
    backend: Backend, kind: str, rng: np.random.Generator
) -> None:
    sample = labels(rng)
    pixels = rng.normal(size=sample.target.shape)

    def given(x: np.ndarray) -> Any:
        return {
            "array": lambda: backend.array(x),
            "numpy": lambda: x.astype(np.float32) if x.ndim == 1 else x,
            "strided": lambda: np.repeat(x, 2, axis=-1)[..., ::2],
            "list": x.tolist,
            "tuple": lambda: tuple(x.tolist()),
        }[kind]()

    weight = np.asarray(WEIGHTS)
    calls = {
        al.cross_entropy_loss: {"weight": weight, "pixel_weight": pixels},
        al.dice_loss: {"weight": weight},
        al.bce_loss: {"weight": weight.reshape(1, 4, 1, 1), "pos_weight": weight},
        al.focal_loss: {"alpha": weight},
        al.multi_margin_loss: {"weight": weight},
        al.ohem_cross_entropy_loss: {"weight": weight},
    }
    for function, arrays in calls.items():
        if backend.compiles and function is not al.cross_entropy_loss:
            continue
        expected, gradient = al.value_and_grad(function)(sample.logits, sample.target, **arrays)
        own = {name: given(x) for name, x in arrays.items()}

        loss = partial(function, **own)
        value, grads = run(backend, loss, replace(sample, arrays={}))
        np.testing.assert_allclose(value, expected, rtol=1e-6 if kind == "numpy" else 1e-12)
        close(grads[0], gradient, 1e-6 if kind == "numpy" else 1e-12)


@pytest.mark.variants
def test_a_constructor_takes_weights_of_every_library(backend: Backend) -> None:
    kept = al.CrossEntropyLoss(backend.array(np.asarray(WEIGHTS)))
    assert kept == al.CrossEntropyLoss(WEIGHTS)
    assert all(type(w) is float for w in kept.weight)
    assert al.BCELoss(pos_weight=backend.array(np.asarray(2.0))).pos_weight == 2.0
    assert al.FocalLoss(alpha=backend.array(np.asarray(WEIGHTS, dtype=np.float32))).alpha == tuple(WEIGHTS)


def test_a_mean_over_a_negative_sum_of_weights(backend: Backend) -> None:
    logits, target = np.asarray([[2.0, 0.0], [0.5, 1.0]]), np.asarray([0, 1])
    each = np.log1p(np.exp([-2.0, -0.5]))
    for weight, expected in (((-1.0, -3.0), (each @ [-1.0, -3.0]) / -4.0), ((1.0, -1.0), 0.0)):
        value, grads = run(backend, al.CrossEntropyLoss(weight), Sample(logits, target))
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        assert (grads[0] == 0).all() == (expected == 0)
    for loss in (al.DiceLoss(weight=(-1.0, -3.0)), al.BoundaryLoss(weight=(-1.0, -3.0))):
        pixels = Sample(logits.T[None], target[None])
        if backend.compiles and isinstance(loss, al.BoundaryLoss):
            continue
        positive = replace(loss, weight=(1.0, 3.0))
        np.testing.assert_allclose(run(backend, loss, pixels)[0], run(backend, positive, pixels)[0], rtol=1e-12)


@pytest.mark.parametrize("value", ["abc", [["a"]], [[1.0], [1.0, 2.0]]], ids=str)
def test_what_is_no_weight_is_named(value: Any, rng: np.random.Generator) -> None:
    sample = labels(rng)
    with pytest.raises((TypeError, ValueError), match=r"^cross_entropy_loss: pixel_weight"):
        al.cross_entropy_loss(sample.logits, sample.target, pixel_weight=value)
    with pytest.raises((TypeError, ValueError), match=r"^cross_entropy_loss: weight"):
        al.cross_entropy_loss(sample.logits, sample.target, weight=value)
