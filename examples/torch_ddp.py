"""Data-parallel training in torch with the exact mean of the whole batch, however the pixels fall to the ranks.

Two processes on this machine train with DistributedDataParallel over gloo. Their halves of the batch have different
numbers of valid pixels, so the mean of their means is not the mean; `reduction="parts"` gives each rank's total and
weight, and the weights are added up before the division.

Run it with `python torch_ddp.py`. It needs torch and scikit-learn.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch
import torch.distributed as dist
from _digits import CLASSES, IGNORED, digit_pixels
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import arrayloss as al

RANKS = 2
CLASS_WEIGHT = [0.2] + [1.0] * (CLASSES - 1)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, CLASSES, 5, padding=2))
    return model.double()  # so that the comparison at the end is one of formulas, not of roundings


def load_batch() -> tuple[torch.Tensor, torch.Tensor]:
    (pictures, labels), _ = digit_pixels()
    pictures, labels = pictures[:64].astype("float64"), labels[:64].copy()
    labels[32:, 2:] = IGNORED  # the second half is hardly labelled
    return torch.from_numpy(pictures), torch.from_numpy(labels)


def gradients(model: nn.Module) -> np.ndarray:
    return np.concatenate([p.grad.numpy().ravel() for p in model.parameters()])


def global_mean(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean over all ranks: to differentiate under DistributedDataParallel, and to print."""
    total, weight = al.CrossEntropyLoss(CLASS_WEIGHT, reduction="parts")(logits, target)
    sums = torch.stack([total.detach(), weight])
    dist.all_reduce(sums)
    # DistributedDataParallel averages the gradients of the ranks; times their number, it adds them up.
    return total / sums[1] * dist.get_world_size(), sums[0] / sums[1]


def mean_of_means(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what one gets without care: each rank divides by its own weight."""
    loss = al.CrossEntropyLoss(CLASS_WEIGHT)(logits, target)
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    return loss, mean / dist.get_world_size()


def train_on_rank(rank: int, folder: str) -> None:
    """Take the gradient of this rank's half of the batch; DistributedDataParallel shares it."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    pictures, labels = (whole.chunk(RANKS)[rank] for whole in load_batch())
    found = {}
    for loss_of in (global_mean, mean_of_means):
        model = DistributedDataParallel(make_model())
        loss, mean = loss_of(model(pictures), labels)
        loss.backward()
        found[loss_of.__name__] = gradients(model)
        found[f"{loss_of.__name__}_value"] = mean.numpy()
    print(f"rank {rank}: {int((labels != IGNORED).sum())} valid pixels")
    if rank == 0:
        np.savez(f"{folder}/found.npz", **found)
    # No rank leaves while another may still wait for it.
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(train_on_rank, (folder,), nprocs=RANKS)
        found = dict(np.load(f"{folder}/found.npz"))

    model = make_model()
    pictures, labels = load_batch()
    loss = al.CrossEntropyLoss(CLASS_WEIGHT)(model(pictures), labels)
    loss.backward()
    whole = gradients(model)

    print(f"one process, whole batch: loss {loss.item():.12f}")
    apart = {}
    for name in ("global_mean", "mean_of_means"):
        apart[name] = np.abs(found[name] - whole).max() / np.abs(whole).max()
        print(f"{RANKS} ranks, {name:13}: loss {found[f'{name}_value']:.12f}, gradient off by {apart[name]:.1e}")
    if apart["global_mean"] > 1e-12 or abs(found["global_mean_value"] - loss.item()) > 1e-12:
        raise SystemExit("the ranks do not get the gradient of the whole batch")
    if apart["mean_of_means"] < 1e-3:
        raise SystemExit("the ranks have too similar numbers of pixels to show a difference")


if __name__ == "__main__":
    main()
