"""torch, MONAI and segmentation_models_pytorch beside the catalogue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss

from _peers import Array

OPS = SimpleNamespace(
    at_label=lambda x, y: x.gather(1, y[:, None]),
    bce=lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
    classes=lambda number, y: torch.arange(number),
    clip=torch.clip,
    cosh=torch.cosh,
    cross_entropy=lambda x, y: F.cross_entropy(x, y, reduction="none"),
    exp=torch.exp,
    floats=lambda a, x: a.to(x.dtype),
    integers=lambda a: a.long(),
    log=torch.log,
    log_sigmoid=F.logsigmoid,
    log_softmax=lambda x: F.log_softmax(x, 1),
    maximum=torch.maximum,
    one_hot=lambda y, x: F.one_hot(y, x.shape[1]).movedim(-1, 1).to(x.dtype),
    relu=F.relu,
    sigmoid=torch.sigmoid,
    softmax=lambda x: torch.softmax(x, 1),
    softplus=F.softplus,
    sqrt=torch.sqrt,
    take=lambda rows, index: rows.gather(1, index),
    where=torch.where,
)
EXACT: dict[str, Any] = {"smooth_nr": 0.0, "smooth_dr": 0.0, "softmax": True, "to_onehot_y": True}


def of_labels(loss: Any) -> Any:
    """A loss of MONAI, which wants a class axis on the labels."""
    return lambda x, y: loss(x, y.unsqueeze(1))


def focal(x: Array, y: Array) -> Array:
    """MONAI's, which ignores nothing and takes the mean over the classes too."""
    return FocalLoss(gamma=2.0, use_softmax=True, to_onehot_y=True)(x, y.unsqueeze(1)) * x.shape[1]


def kl_div(x: Array, t: Array) -> Array:
    losses = F.kl_div(F.log_softmax(x, 1), F.log_softmax(t, 1), reduction="sum", log_target=True)
    return losses * x.shape[1] / x.numel()


def multi_margin(x: Array, y: Array) -> Array:
    return F.multi_margin_loss(x.movedim(1, -1).reshape(-1, x.shape[1]), y.reshape(-1))


PEERS: dict[str, dict[str, Any]] = {
    "JaccardLoss": {"MONAI": of_labels(DiceLoss(jaccard=True, ignore_index=255, **EXACT))},
    "TverskyLoss": {"MONAI": of_labels(TverskyLoss(alpha=0.3, beta=0.7, ignore_index=255, **EXACT))},
    "GeneralizedDiceLoss": {"MONAI": of_labels(GeneralizedDiceLoss(**EXACT))},
    "DiceCELoss": {"MONAI": of_labels(DiceCELoss(**EXACT))},
    "FocalLoss": {"MONAI": focal},
    "KLDivLoss": {"F.kl_div": kl_div},
    "DistillCrossEntropyLoss": {"F.cross_entropy": lambda x, t: F.cross_entropy(x, torch.softmax(t, 1))},
    "MultiMarginLoss": {"F.multi_margin_loss": multi_margin},
    "L1Loss": {"F.l1_loss": F.l1_loss},
    "MSELoss": {"F.mse_loss": F.mse_loss},
    "SmoothL1Loss": {"F.smooth_l1_loss": F.smooth_l1_loss},
    "HuberLoss": {"F.huber_loss": F.huber_loss},
    "PoissonNLLLoss": {"F.poisson_nll_loss": F.poisson_nll_loss},
    "GaussianNLLLoss": {"F.gaussian_nll_loss": lambda x, t: F.gaussian_nll_loss(x[0], t, x[1])},
}
