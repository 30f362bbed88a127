"""A small convolutional network in torch, trained with any loss of arrayloss."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import nn


def network(channels: int, classes: int, *, width: int = 16, reaches: tuple[int, ...] = (1, 2, 4), seed: int = 0):
    """Return a network that keeps the size of a picture; `reaches` are the dilations of its 3 x 3 convolutions."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for reach in reaches:
        layers += [nn.Conv2d(channels, width, 3, padding=reach, dilation=reach), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Conv2d(channels, classes, 1))


def train(
    model: nn.Module,
    loss: Callable,
    pictures: np.ndarray,
    labels: np.ndarray,
    *,
    steps: int,
    batch: int | None = None,
    rate: float = 0.01,
    last_rate: float | None = None,
    record: Collection[int] = (),
    seed: int = 0,
) -> tuple[list[float], dict[int, np.ndarray]]:
    """Train by Adam, the rate falling linearly; return losses, and the logits after the steps in `record`."""
    x, y = torch.as_tensor(pictures, dtype=torch.float32), torch.as_tensor(labels)
    draw = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    share = 1.0 if last_rate is None else last_rate / rate
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, share, total_iters=steps)
    curve, recorded = [], {}
    for step in range(1, steps + 1):
        chosen = slice(None) if batch is None else draw.choice(len(x), batch, replace=False)
        value = loss(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        curve.append(value.item())
        if step in record:
            recorded[step] = predict(model, pictures)
    return curve, recorded


def predict(model: nn.Module, pictures: np.ndarray) -> np.ndarray:
    """Return the logits of pictures as a NumPy array."""
    with torch.inference_mode():
        return model(torch.as_tensor(pictures, dtype=torch.float32)).numpy()


def iou(predicted: np.ndarray, labels: np.ndarray, classes: int, ignored: int = 255) -> np.ndarray:
    """Return the intersection over union of each class; NaN for one that is neither there nor predicted."""
    counts = labels != ignored
    pairs = np.bincount(labels[counts] * classes + predicted[counts], minlength=classes**2).reshape(classes, classes)
    both = np.diag(pairs)
    either = pairs.sum(axis=0) + pairs.sum(axis=1) - both
    return np.divide(both, either, out=np.full(classes, np.nan), where=either > 0)
