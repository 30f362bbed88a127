"""Labels as they come: of every integer dtype, some of them ignored, and what is said of those that cannot be right."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from arrayloss._core import errors
from arrayloss._core.library import common_library
from arrayloss._core.ranges import poison
from arrayloss._machines.namespace import LABELS, Library, dtype_name

Array = Any

_LABEL_RANGE = {"bool": (0, 1)}
_LABEL_RANGE |= {f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)}
_LABEL_RANGE |= {f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)}

#: The least and the largest label of a mask as image files have it.
_MASK: tuple[float, float] = (0, 255)
#: For scores of one class: the losses under softmax that know of a sigmoid ...
_WITH_ACTIVATION = frozenset(
    {
        "boundary_loss",
        "dice_loss",
        "generalized_dice_loss",
        "hausdorff_dt_loss",
        "jaccard_loss",
        "log_cosh_dice_loss",
        "tversky_loss",
    }
)
#: ... and the losses to take instead of others.
_OF_ONE_SCORE = {
    "bootstrapped_cross_entropy_loss": "bce_loss",
    "cross_entropy_loss": "bce_loss",
    "dice_ce_loss": "bce_dice_loss",
    "distillation_loss": "bce_loss",
    "distill_cross_entropy_loss": "bce_loss",
    "edge_attention_loss": "bce_loss",
    "focal_loss": "sigmoid_focal_loss",
    "generalized_cross_entropy_loss": "bce_loss",
    "lovasz_softmax_loss": "lovasz_hinge_loss",
    "multi_margin_loss": "hinge_loss",
    "ohem_cross_entropy_loss": "bce_loss",
    "ohem_edge_attention_loss": "bce_loss",
    "point_cross_entropy_loss": "bce_loss",
    "poly_loss": "bce_loss",
    "relax_boundary_loss": "bce_loss",
    "symmetric_cross_entropy_loss": "bce_loss",
}


def read_entries(
    library: Library, target: Array, ignore_index: int | None
) -> tuple[Array, Array | None, tuple[float, float] | None]:
    """Return a target of numbers or labels, the mask of entries that are not ignored, and the range of all, if known.

    Labels of which some may be ignored come in a dtype that serves as an index. The mask is None where nothing can be
    ignored, and then the range is not read for it either.
    """
    kind = dtype_name(target)
    if kind in LABELS and ignore_index is not None:
        target = library.xp.astype(target, library.kernels.label_dtype(library.xp, kind), copy=False)
        ignore_index = _ignored_label(kind, target, ignore_index)
    if ignore_index is None:
        return target, None, None
    found = library.kernels.host_range(target)
    if found is not None and not found[0] <= ignore_index <= found[1] and found[0] == found[0]:
        return target, None, found
    return target, target != ignore_index, found


def _ignored_label(kind: str, index: Array, ignore_index: int | None) -> int | None:
    """Return what an ignored label of a dtype has become in an array of indices; None where there can be none.

    What the dtype cannot hold cannot occur, and would overflow in a comparison. Unsigned labels too large for the
    indices have become negative.
    """
    low, high = _LABEL_RANGE[kind]
    if ignore_index is None or not low <= ignore_index <= high:
        return None
    low, high = _LABEL_RANGE[dtype_name(index)]
    return ignore_index if ignore_index <= high else ignore_index - (high - low + 1)


def open_map(function: str, target: Array) -> tuple[Library, str]:
    """Return the library and the dtype of label maps."""
    library, kind = common_library(function, {"target": target}), dtype_name(target)
    if kind not in LABELS:
        raise errors.dtype(function, "target", target, "integer labels or bool")
    return library, kind


def mapped(function: str, target: Array, make: Callable[[Library, Array], tuple[Array, Array | None]]) -> Array:
    """Return what is made of label maps `(N, H, W)`: 0 and 1 where it is valid, in their dtype, and else the label."""
    library, kind = open_map(function, target)
    if target.ndim != 3:
        raise errors.shape(function, "target", target, "(N, H, W)")
    xp = library.xp
    made, valid = make(library, target)
    made = xp.astype(made, xp.uint8 if kind == "bool" else target.dtype)
    return made if valid is None else xp.where(valid, made, target)


def read_map(
    function: str, library: Library, labels: Array, ignore_index: int | None
) -> tuple[Array, Array | None, tuple[float, float] | None]:
    """Return what `read_entries` does of label maps whose classes are not known, all of them as indices."""
    xp, k, kind = library.xp, library.kernels, dtype_name(labels)
    labels, valid, found = read_entries(library, labels, ignore_index)
    if ignore_index == 255 and found == _MASK:
        inside = k.host_range(xp.where(valid, labels, xp.zeros_like(labels)))
        tell_mask(function, "target", ignore_index, found, inside)
    return xp.astype(labels, k.label_dtype(xp, kind), copy=False), valid, found


def tell_mask(
    function: str,
    name: str,
    ignore_index: int | None,
    found: tuple[float, float] | None,
    inside: tuple[float, float] | None,
) -> None:
    """Warn of labels that are 0 where valid and 255, which is ignored, elsewhere: most likely a mask.

    `found` is the range of all labels, `inside` that of the valid ones and of 0.
    """
    if not (ignore_index == 255 and found == _MASK and inside == (0.0, 0.0)):
        return
    # At the line outside of the package from which it was called, so that Python shows it there once.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "arrayloss":
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{function}: {name} holds 0 and 255 alone, and ignore_index is 255: of a mask whose foreground is 255 that "
        f"leaves the background. Pass {name} == 255 (0 and 1), or {name} / 255 where numbers are taken; where 255 does "
        f"mark what is to be ignored, filter this warning",
        stacklevel=level,
    )


def open_labels(
    function: str, library: Library, labels: Array, classes: int, ignore_index: int | None, name: str = "target"
) -> tuple[Array, Array | None, Array | None]:
    """Return labels made safe as indices, the mask of valid positions, and the poison (see `Inputs`)."""
    if ignore_index == 255 and classes > 255:
        raise ValueError(
            f"{function}: ignore_index is 255 with {classes} classes, where 255 is a class; expected another "
            f"ignore_index: None ignores nothing, a negative one cannot be a class"
        )
    xp, k = library.xp, library.kernels
    given, kind = labels, dtype_name(labels)
    dtype = k.label_dtype(xp, kind)
    labels = labels if labels.dtype == dtype else xp.astype(labels, dtype, copy=False)
    ignored = _ignored_label(kind, labels, ignore_index)
    found = k.host_range(labels)
    if found is not None and not (ignored is not None and found[0] <= ignored <= found[1]):
        _refuse_labels(function, name, given, found, classes, ignore_index)
        return labels, None, None
    valid = labels != ignored if ignored is not None else None
    if found is not None:
        safe = xp.where(valid, labels, xp.zeros_like(labels))
        # Constant labels can be read while other arrays are traced; what is computed from them cannot.
        if (inside := k.host_range(safe)) is not None:
            _refuse_labels(function, name, given, inside, classes, ignore_index)
            if classes <= 2:
                tell_mask(function, name, ignore_index, found, inside)
            return safe, valid, None
    wrong = (labels < 0) | (labels >= classes)
    safe = xp.where(wrong if valid is None else wrong | ~valid, xp.zeros_like(labels), labels)
    return safe, valid, poison(library, wrong if valid is None else wrong & valid)


def _refuse_labels(
    function: str, name: str, labels: Array, found: tuple[float, float], classes: int, ignored: int | None
) -> None:
    if found[0] >= 0 and found[1] < classes:
        return
    import numpy as np

    # As they were given: the largest unsigned labels have become negative as indices.
    on_host = np.asarray(labels)
    wrong = (on_host < 0) | (on_host >= classes)
    if ignored is not None:
        wrong &= on_host != ignored
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise ValueError(
        f"{function}: {name} holds the label {on_host[where]} at position {where}, expected labels in "
        f"[0, {classes}) for logits of {classes} classes, or ignore_index where a position is to be ignored (it is "
        f"{ignored})" + (_for_one_score(function) if classes == 1 else "")
    )


def _for_one_score(function: str) -> str:
    """Return what to use instead of a loss over one class, whose probability is 1 whatever the score."""
    constant = "; of one class this loss is constant: "
    if function in _WITH_ACTIVATION:
        return f'{constant}activation="sigmoid" takes the score of a foreground and labels of 0 and 1'
    if function in _OF_ONE_SCORE:
        return f"{constant}{_OF_ONE_SCORE[function]} takes the score of a foreground and labels of 0 and 1"
    return "; labels of 0 and 1 need two classes"
