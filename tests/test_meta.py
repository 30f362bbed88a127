"""Tests that can fail: losses broken on purpose are caught by the contract suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, replace
from typing import Any

import numpy as np
import pytest
import test_contract as contract
import test_properties as properties
import test_transforms as transforms
from backends import BACKENDS, Backend
from cases import Case, Sample, entries, labels, multilabel

import arrayloss as al

NUMPY = BACKENDS["numpy"]
#: What a test raises that finds something wrong: an assertion, or `pytest.raises` that met no error.
FOUND = (AssertionError, pytest.fail.Exception)


def cross_entropy(broken: Callable[..., Any], **options: Any) -> Case:
    """Return a case of a loss that says it is CrossEntropyLoss, so that the reference of that one judges it."""
    broken.__name__ = "cross_entropy_loss"

    class CrossEntropyLoss(al.Loss, function=broken):
        weight: Any = None
        ignore_index: int | None = 255
        top_k_percent_pixels: float = 1.0
        _: KW_ONLY
        label_smoothing: float = 0.0
        reduction: str = "mean"
        axis: int = 1

    return Case(CrossEntropyLoss(**options), labels)


def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


def namespace(x: Any) -> Any:
    import array_api_compat

    return x.__array_namespace__() if hasattr(x, "tape") else array_api_compat.array_namespace(x)


def valid_mean(losses: Any, target: Any) -> Any:
    """Return the mean over the valid positions of losses that are 0 at the others."""
    xp = namespace(losses)
    return xp.sum(losses) / float(np.maximum(np.asarray(target != 255).sum(), 1))


# The same loss, whole: what is caught below is not caught in it -----------------------------------------------------


def sound(logits: Any, target: Any, **options: Any) -> Any:
    return al.cross_entropy_loss(logits, target, **options)


#: The tests of the contract suite that take no more than a case and a backend.
TESTS: list[Callable[[Case, Backend], Any]] = [
    lambda case, backend: contract.test_value_and_gradient(case, backend, "float64", rng()),
    lambda case, backend: contract.test_gradient_is_that_of_the_reference(case, backend, rng()),
    lambda case, backend: contract.test_reductions(case, backend, rng()),
    lambda case, backend: contract.test_ignored_logits_change_nothing(case, backend, rng()),
    lambda case, backend: contract.test_nothing_valid(case, backend, rng()),
    lambda case, backend: contract.test_inputs_are_not_written_to(case, backend, rng()),
    lambda case, backend: contract.test_class_axis_anywhere(case, backend, rng()),
    lambda case, backend: contract.test_pixel_order_changes_nothing(case, backend, rng()),
    lambda case, backend: contract.test_label_dtypes(case, backend, rng()),
    lambda case, backend: contract.test_extreme_logits(case, backend, rng()),
    lambda case, backend: contract.test_minus_infinity_off_the_target(case, backend, rng()),
    lambda case, backend: contract.test_wrong_labels(case, backend, rng()),
    lambda case, backend: contract.test_misfits_are_named(case, backend, rng()),
]


@pytest.mark.parametrize("test", TESTS, ids=range(len(TESTS)))
def test_a_sound_loss_passes(test: Callable[[Case, Backend], Any]) -> None:
    test(cross_entropy(sound), NUMPY)


# Broken losses ------------------------------------------------------------------------------------------------------


def test_a_denominator_that_counts_ignored_pixels() -> None:
    def broken(logits: Any, target: Any, *, reduction: str, **options: Any) -> Any:
        if reduction != "mean":
            return sound(logits, target, reduction=reduction, **options)
        return sound(logits, target, reduction="sum", **options) / float(target.size)

    case = cross_entropy(broken)
    for test in TESTS[0], TESTS[2]:
        with pytest.raises(FOUND):
            test(case, NUMPY)


def dice(broken: Callable[..., Any], make: Callable[[np.random.Generator], Sample], **options: Any) -> Case:
    """Return a case of a loss that says it is DiceLoss."""
    broken.__name__ = "dice_loss"

    class DiceLoss(al.DiceLoss, function=broken):
        pass

    return Case(DiceLoss(**options), make)


def test_a_mean_that_counts_what_holds_nothing_valid() -> None:
    def broken(logits: Any, target: Any, *, reduction: str, **options: Any) -> Any:
        each = al.dice_loss(logits, target, reduction="none" if reduction == "mean" else reduction, **options)
        return namespace(each).mean(each) if reduction == "mean" else each

    case = dice(broken, labels)
    contract.test_value_and_gradient(case, NUMPY, "float64", rng())
    with pytest.raises(FOUND):
        contract.test_an_ignored_image_is_left_out(case, NUMPY, rng())
    case = dice(broken, multilabel, activation="sigmoid")
    contract.test_value_and_gradient(case, NUMPY, "float64", rng())
    with pytest.raises(FOUND):
        contract.test_a_region_of_ignored_entries_is_left_out(case, NUMPY, rng())


def test_weights_of_which_negative_ones_do_not_count() -> None:
    def broken(logits: Any, target: Any, *, weight: Any, **options: Any) -> Any:
        return sound(logits, target, weight=None if weight is None else np.maximum(weight, 0.0), **options)

    weights = (0.3, -1.0, 2.0, 0.5)
    TESTS[0](cross_entropy(sound, weight=weights), NUMPY)
    with pytest.raises(FOUND):
        TESTS[0](cross_entropy(broken, weight=weights), NUMPY)


@pytest.mark.parametrize("label", [-1, 5, 254, 256])
def test_a_label_that_wraps(label: int) -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        wrapped = np.where(target == label, target % logits.shape[1], target)
        return sound(logits, wrapped, **options)

    with pytest.raises(FOUND):
        contract.test_wrong_labels(cross_entropy(broken), NUMPY, rng())


def test_labels_that_are_clamped() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        return sound(logits, np.where(target == 255, 255, np.clip(target, 0, logits.shape[1] - 1)), **options)

    with pytest.raises(FOUND):
        contract.test_wrong_labels(cross_entropy(broken), NUMPY, rng())


def test_an_input_that_is_written_to() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        found = sound(logits, target, **options)
        target[target == 255] = 0
        return found

    # A read-only array of NumPy refuses, a tensor shows the change.
    with pytest.raises(ValueError, match="read-only"):
        contract.test_inputs_are_not_written_to(cross_entropy(broken), NUMPY, rng())
    if BACKENDS["torch"].available() is None:
        with pytest.raises(FOUND):
            contract.test_inputs_are_not_written_to(cross_entropy(broken), BACKENDS["torch"], rng())


def test_a_gradient_that_forgets_the_mask() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        xp = namespace(logits)
        value = sound(logits, target, **options)
        return value + xp.sum(logits - getattr(logits, "value", logits)) * 1e-3

    case = cross_entropy(broken)
    for test in TESTS[1], TESTS[3], TESTS[4]:
        with pytest.raises(FOUND):
            test(case, NUMPY)


def test_a_mask_that_comes_after_the_formula() -> None:
    """The value is right, and the gradient of what is masked is NaN."""

    def broken(logits: Any, target: Any, *, reduction: str, **options: Any) -> Any:
        xp = namespace(logits)
        valid = target != 255
        z = logits - xp.max(logits, axis=1, keepdims=True)
        hit = (np.where(valid, target, 0)[:, None] == np.arange(logits.shape[1])[:, None, None]).astype(np.float64)
        losses = xp.log(xp.sum(xp.exp(z), axis=1)) - xp.sum(z * hit, axis=1)
        return valid_mean(xp.where(valid, losses, xp.zeros_like(losses)), target)

    case = cross_entropy(broken)
    contract.test_value_and_gradient(case, NUMPY, "float64", rng())
    with np.errstate(all="ignore"), pytest.raises(FOUND):
        contract.test_ignored_logits_change_nothing(case, NUMPY, rng())


def test_a_gradient_of_the_wrong_sign() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        value = sound(logits, target, **options)
        return 2.0 * getattr(value, "value", value) - value

    case = cross_entropy(broken)
    contract.test_value_and_gradient(case, NUMPY, "float64", rng())  # there libraries are compared, all wrong alike
    with pytest.raises(FOUND):
        contract.test_gradient_is_that_of_the_reference(case, NUMPY, rng())


def test_half_precision_that_accumulates() -> None:
    def broken(logits: Any, target: Any, *, reduction: str, **options: Any) -> Any:
        xp = namespace(logits)
        if logits.dtype != np.float16:
            return sound(logits, target, reduction=reduction, **options)
        losses = xp.astype(sound(logits, target, reduction="none", **options), xp.float16)
        return xp.astype(valid_mean(losses, target), xp.float32)

    case = cross_entropy(broken)
    contract.test_value_and_gradient(case, NUMPY, "float64", rng())
    with pytest.raises(FOUND):
        contract.test_value_and_gradient(case, NUMPY, "float16", rng())


def test_a_half_precision_result() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        xp = namespace(logits)
        return xp.astype(sound(logits, target, **options), logits.dtype)

    with pytest.raises(FOUND):
        contract.test_value_and_gradient(cross_entropy(broken), NUMPY, "float16", rng())


def tied(generator: np.random.Generator) -> Sample:
    """Pixels that come in pairs with the same loss."""
    sample = labels(generator, space=(6,), ignore=None)
    return replace(
        sample, logits=np.repeat(sample.logits, 2, axis=-1), target=np.repeat(sample.target, 2, axis=-1), ignored=None
    )


def test_a_selection_that_depends_on_the_order_of_ties() -> None:
    def broken(logits: Any, target: Any, *, top_k_percent_pixels: float, reduction: str, **options: Any) -> Any:
        losses = sound(logits, target, reduction="none", **options)
        flat = np.asarray(getattr(losses, "value", losses)).reshape(-1)
        count = int(top_k_percent_pixels * flat.size)
        kept = np.zeros(flat.size)
        kept[np.argsort(-flat, kind="stable")[:count]] = np.arange(count) + 1.0  # what comes first counts less
        xp = namespace(losses)
        return xp.sum(xp.reshape(losses, (-1,)) * kept) / kept.sum()

    case = replace(cross_entropy(broken, top_k_percent_pixels=0.5), make=tied)
    with pytest.raises(FOUND):
        contract.test_pixel_order_changes_nothing(case, NUMPY, rng())
    sound_case = replace(cross_entropy(sound, top_k_percent_pixels=0.3), make=tied)
    contract.test_pixel_order_changes_nothing(sound_case, NUMPY, rng())
    contract.test_value_and_gradient(sound_case, NUMPY, "float64", rng())


def test_a_selection_that_cuts_ties_apart() -> None:
    def broken(logits: Any, target: Any, *, top_k_percent_pixels: float, reduction: str, **options: Any) -> Any:
        losses = sound(logits, target, reduction="none", **options)
        flat = np.asarray(getattr(losses, "value", losses)).reshape(-1)
        kept = np.zeros(flat.size)
        kept[np.argsort(-flat, kind="stable")[: int(top_k_percent_pixels * flat.size)]] = 1.0
        xp = namespace(losses)
        return xp.sum(xp.reshape(losses, (-1,)) * kept) / kept.sum()

    case = replace(cross_entropy(broken, top_k_percent_pixels=0.3), make=tied)  # 7 of 24, and the 8th ties with the 7th
    with pytest.raises(FOUND):
        contract.test_value_and_gradient(case, NUMPY, "float64", rng())


def test_a_formula_that_overflows() -> None:
    def broken(logits: Any, target: Any, *, reduction: str, **options: Any) -> Any:
        xp = namespace(logits)
        valid = target != 255
        z = xp.where(valid[:, None], logits, xp.zeros_like(logits))
        hit = (np.where(valid, target, 0)[:, None] == np.arange(logits.shape[1])[:, None, None]).astype(z.dtype)
        losses = xp.log(xp.sum(xp.exp(z), axis=1)) - xp.sum(z * hit, axis=1)
        return valid_mean(xp.where(valid, losses, xp.zeros_like(losses)), target)

    case = cross_entropy(broken)
    contract.test_value_and_gradient(case, NUMPY, "float64", rng())
    with np.errstate(all="ignore"), pytest.raises(FOUND):
        contract.test_extreme_logits(case, NUMPY, rng())


def test_a_class_axis_that_is_not_looked_at() -> None:
    def broken(logits: Any, target: Any, *, axis: int, **options: Any) -> Any:
        xp = namespace(logits)
        if axis == 1:
            return sound(logits, target, axis=1, **options)
        # Reshaped where it should have been moved: the right shape, the wrong numbers.
        moved = xp.moveaxis(logits, axis, 1).shape
        return sound(xp.reshape(logits, moved), target, axis=1, **options)

    with pytest.raises(FOUND):
        contract.test_class_axis_anywhere(cross_entropy(broken), NUMPY, rng())


@pytest.mark.parametrize("plain", [float, np.float64], ids=["float", "float64"])
def test_a_result_that_is_no_array(plain: Callable[[Any], Any]) -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        value = sound(logits, target, **options)
        return value if hasattr(value, "tape") or value.ndim else plain(value)

    transforms.test_the_value_alone(cross_entropy(sound), NUMPY, rng())
    with pytest.raises(FOUND):
        transforms.test_the_value_alone(cross_entropy(broken), NUMPY, rng())


def call_of(case: Case) -> properties.Call:
    return properties.Call(case.loss, case.make(rng()), "float64", "int64")


def test_properties_see_a_wrong_value() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        return sound(logits, target, **options) * (1.0 + 1e-8)

    properties.check(call_of(cross_entropy(sound)), NUMPY)
    with pytest.raises(FOUND):
        properties.check(call_of(cross_entropy(broken)), NUMPY)


def test_an_error_without_names() -> None:
    def broken(logits: Any, target: Any, **options: Any) -> Any:
        if tuple(target.shape) != (logits.shape[0], *logits.shape[2:]):
            raise ValueError("shapes do not match")
        return sound(logits, target, **options)

    with pytest.raises(FOUND):
        contract.test_misfits_are_named(cross_entropy(broken), NUMPY, rng())


def test_an_absolute_value_with_a_wrong_slope() -> None:
    def l1_loss(logits: Any, target: Any, *, reduction: str, ignore_index: int | None) -> Any:
        return al.l1_loss(2.0 * logits, 2.0 * target, reduction=reduction, ignore_index=ignore_index) / 2.0

    class L1Loss(al.Loss, function=l1_loss):
        reduction: str = "mean"
        ignore_index: int | None = 255

    # Doubled, 255 is ignored no more.
    with pytest.raises(FOUND):
        contract.test_value_and_gradient(Case(L1Loss(), entries), NUMPY, "float64", rng())
