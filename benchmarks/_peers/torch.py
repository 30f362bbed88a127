"""torch and its libraries, in the order of the losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from kornia.losses import dice_loss as kornia_dice
from kornia.losses import lovasz_softmax_loss as kornia_lovasz
from monai.losses import DiceLoss as MonaiDice

from _peers import Array, Peer, Run, each

try:
    import torchvision  # noqa: F401  (smp imports it and uses none of it here)
except RuntimeError:
    # A torchvision built for another torch stops at the shapes of two operators that it could not register. Declared
    # here, they let its import, and with it smp's, go through. The library must stay alive for that.
    TORCHVISION = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        TORCHVISION.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from segmentation_models_pytorch.losses import DiceLoss as SmpDice
from segmentation_models_pytorch.losses import LovaszLoss as SmpLovasz

torch.set_num_threads(1)


def prepare(loss: Any, logits: Any, target: Any, gradient: bool) -> Run:
    """Return a run on tensors that share memory with the arrays; of several logits the gradient of the first counts."""
    x, y = each(torch.from_numpy, logits), each(torch.from_numpy, target)
    first = x[0] if isinstance(x, tuple) else x
    for part in x if isinstance(x, tuple) else (x,):
        part.requires_grad_(gradient)

    def forget() -> None:
        for part in x if isinstance(x, tuple) else (x,):
            part.grad = None

    def run() -> tuple[Array, Array]:
        forget()
        value = loss(x, y)
        if gradient:
            value.backward()
        return value.detach(), first.grad

    run.forget = forget  # type: ignore[attr-defined]  # the gradient of the last run, before memory is looked at
    return run


cross_entropy = partial(F.cross_entropy, ignore_index=255)
bce = F.binary_cross_entropy_with_logits
dice = partial(kornia_dice, average="macro", ignore_index=255)


def bce_of_labels(x: Array, y: Array) -> Array:
    return bce(x, F.one_hot(y, x.shape[1]).movedim(-1, 1).to(x.dtype))


def monai_dice(x: Array, y: Array) -> Array:
    loss = MonaiDice(softmax=True, to_onehot_y=True, ignore_index=255, smooth_nr=0.0, smooth_dr=0.0)
    return loss(x, y.unsqueeze(1))


def extension(errors: Array, hit: Array) -> Array:
    """The Lovasz extension as Berman et al. (CVPR 2018, algorithm 1) have it: sort, cumulative sums, differences."""
    errors, order = torch.sort(errors, descending=True)
    hit = hit[order]
    g = hit.sum()
    jaccard = 1 - (g - hit.cumsum(0)) / (g + (1 - hit).cumsum(0))
    weights = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(errors, weights)


def lovasz_softmax(x: Array, y: Array) -> Array:
    valid = (y != 255).flatten()
    p = x.softmax(1).movedim(1, 0).flatten(1)[:, valid]
    labels = y.flatten()[valid]
    hits = [(labels == c).to(x.dtype) for c in range(len(p))]
    return torch.stack([extension((h - q).abs(), h) for h, q in zip(hits, p, strict=True) if h.any()]).mean()


def lovasz_hinge(x: Array, y: Array) -> Array:
    valid = y.flatten() != 255
    hit = y.flatten()[valid].to(x.dtype)
    return extension(F.relu(1 - x.flatten()[valid] * (2 * hit - 1)), hit)


def ohem_by_sort(min_kept: int, x: Array, y: Array) -> Array:
    """OHEM as in mmsegmentation: probabilities of the label, those of valid pixels sorted, the loss times the mask."""
    with torch.no_grad():
        valid = y != 255
        p = x.softmax(1).gather(1, torch.where(valid, y, 0).unsqueeze(1)).squeeze(1)
        ranked = p[valid].sort().values
        kept = valid & (p < max(ranked[min(min_kept, len(ranked) - 1)], 0.7))
    return (F.cross_entropy(x, y, reduction="none", ignore_index=255) * kept).sum() / kept.sum()


def ohem_by_argsort(min_kept: int, x: Array, y: Array) -> Array:
    """OHEM as in PaddleSeg: probabilities of the label by one-hot, argsort of all pixels, the loss times the mask."""
    with torch.no_grad():
        valid = (y != 255).flatten()
        labels = torch.where(valid, y.flatten(), 0)
        p = (x.softmax(1).movedim(1, 0).flatten(1) * F.one_hot(labels, x.shape[1]).T).sum(0)
        p = torch.where(valid, p, 1.0)
        kth = p[p.argsort()[min(min_kept, len(p)) - 1]]
        kept = (valid & (p <= max(kth, 0.7))).reshape(y.shape)
    losses = F.cross_entropy(x, torch.where(kept, y, 255), reduction="none", ignore_index=255)
    return (losses * kept).sum() / kept.sum()


def _ohem(min_kept: int) -> list[Peer]:
    return [
        Peer("as in mmsegmentation", partial(ohem_by_sort, min_kept), 0.38),
        Peer("as in PaddleSeg", partial(ohem_by_argsort, min_kept), 0.25),
    ]


PEERS = {
    "cross entropy": [Peer("F.cross_entropy", cross_entropy, 1.10)],
    "BCE": [Peer("F.binary_cross_entropy_with_logits", bce, 1.12)],
    "BCE, labels": [Peer("F.one_hot and the same", bce_of_labels, 0.40)],
    "Dice": [Peer("kornia", dice, 1.00), Peer("MONAI", monai_dice, 0.95)],
    "Dice, one image": [Peer("smp", SmpDice("multiclass", ignore_index=255), 0.40)],
    "Lovasz-softmax": [
        Peer("smp", SmpLovasz("multiclass", ignore_index=255), 0.19),
        Peer("Berman", lovasz_softmax, 0.20),
    ],
    "Lovasz-softmax, per image": [Peer("kornia", kornia_lovasz, 0.28)],
    "Lovasz hinge": [
        Peer("smp", SmpLovasz("binary", ignore_index=255), 0.17),
        Peer("Berman", lovasz_hinge, 0.17),
    ],
    "OHEM, min_kept 20000": _ohem(20_000),
    "OHEM, min_kept 100000": _ohem(100_000),
    "cross entropy, small": [Peer("F.cross_entropy", cross_entropy, 2.6, 4.5)],
    "cross entropy object, small": [Peer("nn.CrossEntropyLoss", torch.nn.CrossEntropyLoss(ignore_index=255), 3.0)],
}
