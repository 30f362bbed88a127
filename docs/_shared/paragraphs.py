"""Paragraphs that the docstrings of many losses share; `docstrings.py` beside this file writes them there.

A paragraph stands once, in TEXTS: under its entry (a parameter, `array` of Returns, an exception of Raises) and the
kind of loss, "" being all others. LOSSES says of each loss what its kind is and what is its own: words for the slots
{...} of a paragraph, or OWN for one that departs altogether, which is then left as it stands in the source.
"""

from __future__ import annotations

#: What a loss has instead of words for an entry that it does not share.
OWN = None

_LABELS = r"Class labels of any integer dtype or bool, shape (N, \*S) or with a class axis of length 1"
_PROBABILITIES = "probabilities in [0, 1] of a real floating dtype in the shape of the logits"
_BINARY = (
    r"Probabilities in [0, 1], or 0 and 1 in any integer dtype or bool, in the shape of the logits, of which a class "
    r"axis of length 1 may be left out; or, with more than one class, integer labels of shape (N, \*S) or (N, 1, \*S), "
    r"which become one-hot.{target}"
)
_PARTS = (
    '"mean", "sum", "none" or "parts"',
    ('"mean" divides by {divisor}; "parts" returns (total, weight) with mean = total / weight; "none" {none is}.'),
)
_BY_CLASSES = (
    "the number of valid positions times the sum of the weights of the classes that count (their number, without "
    "``weight``)"
)
_IGNORED_LABELS = "labels with ``ignore_index=255`` and more than 255 classes"
_UNREAD = "On a GPU and under jit, vmap and compile a wrong {wrong} makes the loss NaN."
_NO_LABELS = (
    "Shapes or options that do not fit, a target outside [0, 1] (a label outside [0, C)) that is not "
    f"ignored, or {{ignored}}. {_UNREAD}"
)
_WRONG_LABELS = (
    "Shapes or options that do not fit, {refused}a label outside [0, C) that is not ignored, or {ignored}. " + _UNREAD
)

#: Entry -> kind of loss -> what stands behind the colon, and the text.
TEXTS: dict[str, dict[str, tuple[str, str]]] = {
    "logits": {
        "": (
            r"array, shape (N, C, \*S) or (C,)",
            "Unnormalised scores, of a real floating dtype, the classes on ``axis``.",
        ),
        "numbers": ("array of any shape", "The prediction, of a real floating dtype."),
    },
    "target": {
        "labels": ("array", f"{_LABELS}."),
        "classes": ("array", f"{_LABELS}; or {_PROBABILITIES}."),
        "regions": ("array", f"{_LABELS}; or {_PROBABILITIES}, which are then :math:`t`."),
        "binary": ("array", _BINARY),
        "teacher": (
            "array in the shape of the logits",
            "The unnormalised scores of the teacher, of a real floating dtype. They are a constant to differentiation.",
        ),
        "numbers": ("array in the shape of the prediction", "Of a real floating or integer dtype."),
    },
    "labels": {"teacher": ("array, optional", f"{_LABELS}, to ignore by.")},
    "weight": {"": ("sequence or array of C finite numbers, optional", "Weight of each class{weighs}.")},
    "where": {
        "": (
            "bool array in the shape of the positions, optional",
            "True where a position counts. With ``ignore_index`` only what neither leaves out does.",
        ),
        "binary": (
            "bool array in the shape of the logits or of the positions, optional",
            "True where an entry (a position, with all its classes) counts. With ``ignore_index`` only what neither "
            "leaves out does.",
        ),
        "numbers": (
            "bool array in the shape of the {prediction}, optional",
            "True where an entry counts. With ``ignore_index`` only what neither leaves out does.",
        ),
    },
    "pixel_weight": {
        "": (
            "array in the shape of the positions, optional",
            'Weight of each position: what it adds to the total, and to what "mean" divides by, is multiplied by it.',
        ),
        "numbers": (
            "array in the shape of the {prediction}, optional",
            'Weight of each entry: what it adds to the total, and to what "mean" divides by, is multiplied by it.',
        ),
        "regions": (
            "array in the shape of the positions, optional",
            "Weight of each position: what it adds to the areas is multiplied by it.",
        ),
    },
    "include_background": {"regions": ("bool", "Whether class 0 counts; it stays in the softmax where not.")},
    "activation": {
        "regions": (
            '"softmax", "sigmoid" or None',
            'What makes :math:`p` of the logits; None takes them as probabilities in [0, 1]. With "sigmoid" and None '
            "every class is a question of its own: a target in the shape of the logits has an entry in [0, 1] for "
            "each, of any real dtype, and with a single class a label map is such a target.",
        )
    },
    "batch": {
        "regions": ("bool", "Whether sums run over the whole batch before the ratio, as if it were one image."),
        "mixture": ("bool", "Whether the sums of Dice run over the whole batch before the ratio."),
    },
    "squared": {
        "regions": ("bool", r"Whether the areas are :math:`\sum p^2` and :math:`\sum t^2`."),
        "mixture": ("bool", "Whether the areas of Dice are sums of squares."),
    },
    "label_smoothing": {"": ("float in [0, 1]", "Share of the target that is spread evenly over the classes.")},
    "temperature": {
        "teacher": (
            "float, above 0",
            "What both scores are divided by{divided}. The factor :math:`T^2` keeps the size of the gradient.",
        )
    },
    "ignore_index": {
        "labels": ("int or None", "Label of {positions} that count nowhere{and}; None ignores nothing."),
        "classes": (
            "int or None",
            "Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore.",
        ),
        "regions": (
            "int or None",
            "Label of positions that count nowhere; None ignores nothing. Probability targets have no label to ignore, "
            'but with another activation than "softmax" an entry equal to it is ignored.',
        ),
        "binary": (
            "int or None",
            "Entries whose target equals it (positions, where the target holds labels) count nowhere; None ignores "
            "nothing.",
        ),
        "teacher": (
            "int or None",
            "Label of positions that count nowhere; None ignores nothing. Without ``labels`` all positions count.",
        ),
        "numbers": ("int or None", "Entries whose target equals it count nowhere; None{default} ignores nothing."),
    },
    "reduction": {
        "labels": _PARTS,
        "classes": (
            _PARTS[0],
            '"mean" divides by {divisor}, and with probability targets by the number of positions. "parts" returns '
            '(total, weight) with mean = total / weight. "none" {none is}.',
        ),
        "regions": (
            '"mean", "sum" or "none"',
            '"mean" is the mean over the images and the classes, weighted by ``weight``; "none" gives '
            ':math:`{none}` in shape (N, C), or (C,) with ``batch``, and "sum" is the sum of that.',
        ),
        "binary": _PARTS,
        "teacher": _PARTS,
        "numbers": _PARTS,
        "mixture": (
            '"mean", "sum" or "none"',
            'That of both terms; "none" gives each image\'s share of the "sum", and has none to give with ``batch``.',
        ),
    },
    "axis": {
        "": ("int", "The class axis of {of} logits."),
        "teacher": ("int", "The class axis of the logits and of the target."),
    },
    "array": {
        "": (
            "",
            '0-d, or {shape} for "none", of the library and on the device of the logits, in {dtype}, at least '
            "float32.{zero}",
        ),
        "numbers": (
            "",
            '0-d, or the shape of the {prediction} for "none", of its library and on its device, in its dtype, at '
            "least float32.{zero}",
        ),
    },
    "TypeError": {"": ("", "Arrays of two libraries, {mistyped}or a dtype that does not fit.")},
    "ValueError": {
        "": ("", _WRONG_LABELS),
        "binary": ("", _NO_LABELS),
        "numbers": ("", "Shapes that differ, or an option out of range."),
    },
}

#: Kind of loss -> words for the slots, where a loss has none of its own.
WORDS: dict[str, dict[str, str]] = {
    "": {
        "and": "",
        "default": ", the default,",
        "divided": "",
        "divisor": "the number of valid positions",
        "dtype": "their dtype",
        "ignored": "``ignore_index=255`` with more than 255 classes",
        "mistyped": "",
        "none is": "is 0 where ignored",
        "of": "the",
        "positions": "positions",
        "prediction": "prediction",
        "refused": "",
        "shape": r"shape (N, \*S)",
        "target": "",
        "weighs": "",
        "wrong": "label",
        "zero": " 0 where nothing is valid.",
    },
    "binary": {
        "divisor": "the number of valid entries",
        "ignored": _IGNORED_LABELS,
        "none is": "has the shape of the logits, 0 where ignored",
        "shape": "the shape of the logits",
        "wrong": "target",
    },
    "classes": {"divisor": "the sum of the weights :math:`w_y` of the valid positions"},
    "numbers": {
        "divisor": "the number of valid entries",
        "none is": "has the shape of the prediction, 0 where ignored",
    },
    "regions": {
        "none": "w_c d_{nc}",
        "shape": "shape (N, C)",
        "wrong": "label or probability",
        "zero": "",
    },
    "teacher": {"ignored": _IGNORED_LABELS},
}

#: Loss -> its kind, and what is its own: words for slots, and entries that the script leaves alone.
LOSSES: dict[str, tuple[str, dict[str, str | None]]] = {
    "asymmetric_loss": ("binary", {}),
    "bce_dice_loss": ("mixture", {"shape": "shape (N,)", "zero": ""}),
    "bce_loss": ("binary", {"weight": OWN}),
    "bootstrapped_cross_entropy_loss": (
        "labels",
        {"reduction": OWN, "weighs": "; the ranking and the threshold act on the weighted loss", "zero": ""},
    ),
    "boundary_loss": (
        "labels",
        {
            "TypeError": OWN,
            "divisor": _BY_CLASSES,
            "logits": OWN,
            "none is": "has the shape of the positions, 0 where ignored",
            "refused": "``include_background=False`` with one class, ",
            "shape": "the shape of the positions",
            "target": OWN,
            "zero": " 0 where nothing is valid. The value can be negative.",
        },
    ),
    "charbonnier_loss": ("numbers", {}),
    "cross_entropy_loss": ("classes", {"pixel_weight": OWN, "reduction": OWN, "zero": " 0 where nothing counts."}),
    "detail_aggregate_loss": (
        "labels",
        {
            "ValueError": OWN,
            "and": " and are nobody's other label",
            "logits": OWN,
            "positions": "pixels",
            "reduction": OWN,
            "shape": "shape (N,)",
            "target": OWN,
            "zero": " 0 where no pixel is valid.",
        },
    ),
    "dice_ce_loss": (
        "mixture",
        {"label_smoothing": OWN, "shape": "shape (N,)", "weighs": ", in both terms", "zero": ""},
    ),
    "dice_loss": ("regions", {}),
    "distill_cross_entropy_loss": (
        "teacher",
        {
            "divisor": "the number of positions that count (the sum of ``pixel_weight``)",
            "none is": "is 0 where a position does not count",
            "pixel_weight": OWN,
            "zero": " 0 where nothing counts.",
        },
    ),
    "distillation_loss": (
        "teacher",
        {
            "divided": " before they are compared",
            "labels": OWN,
            "refused": "``alpha`` below 1 without labels, ",
        },
    ),
    "dual_task_loss": (
        "labels",
        {
            "TypeError": OWN,
            "ignore_index": OWN,
            "logits": OWN,
            "reduction": OWN,
            "refused": "images under 3 x 3, both `noise` and `rng`, neither of them with JAX, ",
            "shape": "the shape of the logits",
            "target": OWN,
        },
    ),
    "edge_attention_loss": (
        "labels",
        {
            "mistyped": "logits that are no tuple of two, ",
            "divisor": "the number of pixels that count",
            "dtype": "the dtype of the segmentation logits",
            "logits": OWN,
            "none is": "is 0 where a pixel does not count",
            "of": "both",
            "zero": " 0 where nothing counts.",
        },
    ),
    "focal_loss": ("classes", {"divisor": r"the sum of the weights :math:`\alpha_y` of the valid positions"}),
    "gaussian_nll_loss": (
        "numbers",
        {
            "mistyped": "logits that are no tuple of two, ",
            "ValueError": OWN,
            "logits": OWN,
            "none is": "has the shape of the mean, 0 where ignored",
            "prediction": "mean",
            "target": OWN,
        },
    ),
    "generalized_cross_entropy_loss": ("classes", {}),
    "generalized_dice_loss": ("regions", {"reduction": OWN, "shape": "shape (N,)"}),
    "hausdorff_dt_loss": (
        "labels",
        {
            "TypeError": OWN,
            "divisor": _BY_CLASSES,
            "logits": OWN,
            "none is": "has the shape of the positions, 0 where ignored",
            "refused": "``include_background=False`` with one class, ",
            "shape": "the shape of the positions",
        },
    ),
    "hinge_loss": ("binary", {"target": " Targets of -1 and 1 are out of range: pass (target + 1) / 2."}),
    "huber_loss": ("numbers", {}),
    "jaccard_loss": ("regions", {}),
    "js_div_loss": ("teacher", {}),
    "kl_div_loss": ("teacher", {}),
    "l1_loss": ("numbers", {"default": ""}),
    "log_cosh_dice_loss": ("regions", {"none": r"w_c \log \cosh d_{nc}"}),
    "log_cosh_loss": ("numbers", {}),
    "lovasz_hinge_loss": (
        "labels",
        {"ValueError": OWN, "logits": OWN, "reduction": OWN, "shape": "shape (1,)", "target": OWN},
    ),
    "lovasz_softmax_loss": ("labels", {"reduction": OWN, "shape": "shape (C,)"}),
    "mse_loss": ("numbers", {"default": ""}),
    "multi_margin_loss": ("labels", {"divisor": "the number of valid positions, whatever their weights"}),
    "ohem_cross_entropy_loss": (
        "labels",
        {
            "divisor": "the sum of the weights :math:`w_y` of the selected pixels",
            "none is": "is 0 where a pixel is not selected",
            "weighs": ". It does not influence the selection",
            "zero": " 0 where nothing is selected.",
        },
    ),
    "ohem_edge_attention_loss": (
        "labels",
        {
            "mistyped": "logits that are no tuple of two, ",
            "divisor": "the number of selected pixels",
            "dtype": "the dtype of the segmentation logits",
            "logits": OWN,
            "none is": "is 0 where a pixel is not selected",
            "of": "both",
            "zero": " 0 where nothing is selected.",
        },
    ),
    "pixel_contrast_loss": (
        "labels",
        {
            "TypeError": OWN,
            "array": OWN,
            "axis": OWN,
            "ignore_index": OWN,
            "logits": OWN,
            "reduction": OWN,
            "refused": "both `noise` and `rng`, neither of them with JAX, ",
            "target": OWN,
        },
    ),
    "point_cross_entropy_loss": (
        "labels",
        {
            "mistyped": "logits that are no tuple of two, ",
            "ValueError": OWN,
            "divisor": "the sum of the weights :math:`w_y` of the valid points",
            "dtype": "the dtype of the point logits",
            "ignore_index": OWN,
            "logits": OWN,
            "none is": "is 0 where a point is ignored",
            "of": "the point",
            "shape": "shape (N, P)",
            "target": OWN,
            "zero": " 0 where no point is valid.",
        },
    ),
    "poisson_nll_loss": ("numbers", {"ValueError": OWN, "ignore_index": OWN, "logits": OWN, "target": OWN}),
    "poly_loss": ("classes", {}),
    "quantile_loss": ("numbers", {}),
    "relax_boundary_loss": (
        "labels",
        {
            "and": " and lend their class to no neighbourhood",
            "divisor": "the sum of :math:`a` over the valid pixels",
            "logits": OWN,
            "none is": "has shape (N, H, W), 0 where ignored",
            "positions": "pixels",
            "shape": "shape (N, H, W)",
            "target": OWN,
        },
    ),
    "rmi_loss": (
        "labels",
        {
            "ignore_index": OWN,
            "logits": OWN,
            "reduction": OWN,
            "refused": "images smaller than a window (``radius * stride`` pixels a side), ",
            "shape": "shape (N, C)",
            "target": OWN,
            "zero": " It may be negative. 0 where nothing is valid.",
        },
    ),
    "se_cross_entropy_loss": (
        "labels",
        {
            "divisor": "C times the number of images with a valid pixel",
            "logits": OWN,
            "none is": "has the shape of the logits, 0 for an image without a valid pixel",
            "positions": "pixels",
            "shape": "the shape of the logits",
            "target": OWN,
            "zero": " 0 where no pixel is valid.",
        },
    ),
    "semantic_connectivity_loss": (
        "labels",
        {"and": " and connect nothing", "positions": "pixels", "reduction": OWN, "shape": "shape (N, C)"},
    ),
    "sigmoid_focal_loss": ("binary", {}),
    "smooth_l1_loss": ("numbers", {}),
    "squared_hinge_loss": ("binary", {"target": " Targets of -1 and 1 are out of range: pass (target + 1) / 2."}),
    "symmetric_cross_entropy_loss": ("classes", {"reduction": OWN}),
    "tversky_loss": ("regions", {}),
}
