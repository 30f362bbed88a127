"""What is said to who passes an option that a function does not have: the nearest it has, and ours of a peer's name.

The peers are torch.nn, torchvision, segmentation_models_pytorch, MONAI, kornia, optax, Keras, PaddleSeg, mmsegmentation
and nnU-Net. Loaded once somebody errs.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any, NoReturn

#: Names that peers have for an option of ours.
_RENAMED: dict[str, str] = {
    "logits": "input inputs y_pred y_hat pred preds prediction predictions output outputs score scores logit cls_score",
    "target": "targets y_true y true gt ground_truth label labels gt_semantic_seg",
    "activation": "act activate apply_nonlin other_act sigmoid softmax use_sigmoid use_softmax apply_sigmoid "
    "apply_softmax nonlinearity",
    "alpha": "fp_weight",
    "axis": "dim class_dim class_axis channel_dim channel_axis softmax_dim data_format",
    "batch": "batch_dice",
    "beta": "fn_weight delta",
    "classes": "num_classes n_classes nclass",
    "coef": "coefs coefficients loss_weights weights lambdas",
    "delta": "beta",
    "epsilon": "eps",
    "ignore_index": "ignore_label ignore_value ignored_index ignored_label ignored_value ignore_class ignore_lb ignore "
    "ignore_idx ignore_indices void void_label void_class padding_idx mask_value",
    "include_background": "include_bg do_bg with_background exclude_background ignore_background",
    "label_smoothing": "label_smooth smoothing smooth_factor smooth_eps label_smoothing_factor lsr",
    "lambda_bce": "lambda_ce bce_weight ce_weight weight_bce weight_ce",
    "lambda_ce": "lambda_bce bce_weight ce_weight weight_ce weight_bce",
    "lambda_dice": "dice_weight weight_dice",
    "loss_th": "loss_threshold",
    "min_K": "K k min_k",
    "per_image": "per_sample",
    "pos_weight": "pos_weights positive_weight alpha",
    "quantile": "alpha tau q",
    "reduction": "size_average reduce average reduction_override avg_factor avg_non_ignore",
    "smooth": "smooth_nr smooth_dr smooth_factor eps epsilon",
    "squared": "squared_pred squared_sum use_squared",
    "temperature": "T temp tau",
    "thresh": "threshold thr",
    "threshold": "thresh thr",
    "top_k_percent_pixels": "top_k topk k top_k_percent",
    "weight": "weights class_weight class_weights ce_weight alpha",
    "weight_type": "w_type",
}
#: What the arrays of a call are called.
LOGITS_AND_TARGET = {"logits", "target", *_RENAMED["logits"].split(), *_RENAMED["target"].split()}
#: What else is to be said of names. An option in front: of functions that have it.
_TEXTS: dict[str, tuple[tuple[str, str], ...]] = {
    "classes": (("weight", "a class whose weight= is 0 does not count"),),
    "data_format": (("axis", "axis= is that of the classes: -1 for channels last"),),
    "device dtype": (("", "the arrays of the call say it"),),
    "exclude_background ignore_background": (("include_background", "include_background=False leaves class 0 out"),),
    "from_logits": (("", "the loss takes logits"), ("activation", "activation=None takes probabilities")),
    "gamma": (("gamma_neg", "gamma_neg= and gamma_pos= are those of the absent and the present classes"),),
    "gamma_neg gamma_pos": (("gamma", "gamma= is that of all classes"),),
    "jaccard": (("", "jaccard_loss is that loss"),),
    "lambda_focal focal_weight": (("", "MixedLoss weighs any losses"),),
    "log_loss": (("", "there is no logarithm of the overlap: the loss is 1 minus it"),),
    "log_target": (("", "the target holds no logarithms"),),
    "loss_weight loss_name name": (("", "the loss may be multiplied, and MixedLoss weighs several"),),
    "mode": (("", "the function and the shapes say whether classes exclude each other"),),
    "normalized": (("reduction", 'reduction="sum" leaves the division to the caller'),),
    "num_classes n_classes nclass": (("logits", "the logits say how many classes there are"),),
    "reduce": (("reduction", 'reduction="none" gives what is not reduced'),),
    "sample_weight pixel_weight pixel_weights weight_map semantic_weights mask where valid valid_mask loss_mask": (
        ("pixel_weight", "pixel_weight= weighs the positions"),
        ("ignore_index", "positions that hold ignore_index= in the target do not count"),
    ),
    "size_average": (("reduction", 'reduction= is "mean" or "sum"'),),
    "to_onehot_y": (("", "class labels are taken as integers, without a one-hot form"),),
}
_TEXT_OF = {name: texts for names, texts in _TEXTS.items() for name in names.split()}
#: What is said of a name of the option in a function that has no such option.
_OTHERWISE = {"activation": "the loss applies its own to the logits"}


def refuse_call(function: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> NoReturn:
    """Raise the error for a call of a function with options by position or by names that it does not have."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters]
    first = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in names]
    if unknown:
        raise TypeError(no_option(function.__name__, unknown, names))
    rest = ", ".join(f"{name}=" for name in names[len(first) :])
    raise TypeError(
        f"{function.__name__}: {len(arguments)} arguments by position, expected {len(first)} ({', '.join(first)})"
        + (f"; options go by keyword: {rest}" if rest else "")
    )


def no_option(name: str, unknown: list[str], known: list[str], of_the_call: list[str] | None = None) -> str:
    """Return what is wrong with the names of options, for a function or class of the given name.

    `known` are those it has; for a class, `of_the_call` are further arguments of its function.
    """
    calls = of_the_call or []
    found = []
    for option in unknown:
        hints = _hints(option, known, calls)
        found.append(f"no option {option!r}" + (f" ({'; '.join(hints)})" if hints else ""))
    options = [option for option in known if option not in ("logits", "target")]
    return f"{name}: {'; '.join(found)}; its options are {', '.join(options)}"


def _hints(option: str, known: list[str], calls: list[str]) -> list[str]:
    if option in calls:
        return [f"{option}= is given in the call, with logits and target"]
    texts = [
        text + (" in the call" if need in calls and need != "logits" else "")
        for need, text in _TEXT_OF.get(option, ())
        if not need or need in known or need in calls
    ]
    if texts:
        return texts
    same = [ours for ours, theirs in _RENAMED.items() if option in theirs.split() and (ours in known or ours in calls)]
    near = [name for name in get_close_matches(option, known) if name not in same]
    hints = [f"that is {name}= here" for name in same] + [f"is {name}= meant?" for name in near]
    if hints:
        return hints
    if "losses" in known:
        return ["it may be one of the losses"]
    return [text for ours, text in _OTHERWISE.items() if option == ours or option in _RENAMED[ours].split()]
