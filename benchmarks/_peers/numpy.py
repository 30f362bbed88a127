"""NumPy: the lines of a textbook, and torch's losses by autograd, in the order of the losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import _peers.torch as by_torch
import arrayloss as al
from _peers import Array, Peer, Run


def prepare(loss: Any, logits: np.ndarray, target: np.ndarray, gradient: bool) -> Run:
    """Return a run of arrayloss."""
    if gradient:
        return partial(al.value_and_grad(loss), logits, target)
    return lambda: (loss(logits, target), None)


def textbook(loss: Any, logits: np.ndarray, target: np.ndarray, gradient: bool) -> Run:
    """Return a run of one of the functions below, which differentiate themselves."""
    return partial(loss, logits, target, gradient)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _through_softmax(p: Array, g: Array) -> Array:
    return p * (g - (g * p).sum(axis=1, keepdims=True))


def _masked_mean(x: Array, y: Array, kept: Array, gradient: bool) -> tuple[Any, Any]:
    """The mean of cross entropy over the pixels kept."""
    y = np.where(y != 255, y, 0)[:, None]
    shifted = x - x.max(axis=1, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=1, keepdims=True)
    losses = np.log(total) - np.take_along_axis(shifted, y, axis=1)
    count = kept.sum()
    value = (losses[:, 0] * kept).sum() / count
    if not gradient:
        return value, None
    p = e / total
    np.put_along_axis(p, y, np.take_along_axis(p, y, axis=1) - 1, axis=1)
    p *= (kept / count).astype(p.dtype)[:, None]
    return value, p


def cross_entropy(x: Array, y: Array, gradient: bool) -> tuple[Any, Any]:
    return _masked_mean(x, y, y != 255, gradient)


def bce(x: Array, y: Array, gradient: bool) -> tuple[Any, Any]:
    value = (np.maximum(x, 0) - x * y + np.log1p(np.exp(-abs(x)))).mean()
    return value, (1 / (1 + np.exp(-x)) - y) / x.size if gradient else None


def dice(x: Array, y: Array, gradient: bool) -> tuple[Any, Any]:
    valid = (y != 255)[:, None]
    p = _softmax(x)
    t = (y[:, None] == np.arange(x.shape[1]).reshape(1, -1, 1, 1)).astype(x.dtype)
    over = (2, 3)
    overlap = (p * t).sum(axis=over, keepdims=True)
    size = (p * valid).sum(axis=over, keepdims=True) + t.sum(axis=over, keepdims=True)
    value = (1 - 2 * overlap / size).mean()
    if not gradient:
        return value, None
    slope = 2 * (overlap / size - t) / size / size.size
    return value, _through_softmax(p, slope * valid)


def _extension(errors: Array, hit: Array) -> tuple[Any, Array]:
    """Berman's algorithm: the Lovasz extension at the errors, and its gradient with respect to them."""
    order = np.argsort(-errors)
    hit = hit[order]
    g = hit.sum()
    jaccard = 1 - (g - np.cumsum(hit)) / (g + np.cumsum(1 - hit))
    weights = np.diff(jaccard, prepend=hit.dtype.type(0))
    gradient = np.empty_like(errors)
    gradient[order] = weights
    return np.dot(errors[order], weights), gradient


def lovasz_softmax(x: Array, y: Array, gradient: bool) -> tuple[Any, Any]:
    p, valid = _softmax(x), y != 255
    labels = y[valid]
    slope, value, present = np.zeros_like(p), 0.0, 0
    for c in range(x.shape[1]):
        hit = labels == c
        if hit.any():
            present += 1
            loss, weights = _extension(abs(hit - p[:, c][valid]), hit.astype(x.dtype))
            value += loss
            slope[:, c][valid] = np.where(hit, -weights, weights)
    return value / present, _through_softmax(p, slope / present) if gradient else None


def lovasz_hinge(x: Array, y: Array, gradient: bool) -> tuple[Any, Any]:
    valid = (y != 255)[:, None]
    hit = y[:, None][valid].astype(x.dtype)
    sign = 2 * hit - 1
    margins = 1 - x[valid] * sign
    value, weights = _extension(np.maximum(margins, 0), hit)
    if not gradient:
        return value, None
    slope = np.zeros_like(x)
    slope[valid] = np.where(margins > 0, -sign * weights, 0)
    return value, slope


def ohem(min_kept: int, x: Array, y: Array, gradient: bool) -> tuple[Any, Any]:
    valid = y != 255
    p = np.take_along_axis(_softmax(x), np.where(valid, y, 0)[:, None], axis=1)[:, 0]
    ranked = np.sort(p[valid])
    kept = valid & ((p < 0.7) | (p <= ranked[min(min_kept, ranked.size) - 1]))
    return _masked_mean(x, y, kept, gradient)


_textbook = partial(Peer, "textbook", prepare=textbook)


def _autograd(name: str, loss: Any, both: float) -> Peer:
    return Peer(f"{name}, autograd", loss, both, prepare=by_torch.prepare)


def _ohem(min_kept: int) -> list[Peer]:
    return [
        _autograd("as in mmsegmentation", partial(by_torch.ohem_by_sort, min_kept), 0.36),
        _textbook(partial(ohem, min_kept), 0.80),
    ]


PEERS = {
    "cross entropy": [
        _autograd("F.cross_entropy", by_torch.cross_entropy, 0.90),
        _textbook(cross_entropy, 0.68),
    ],
    "BCE": [_autograd("F.binary_cross_entropy_with_logits", by_torch.bce, 1.15), _textbook(bce, 0.88)],
    "Dice": [_autograd("kornia", by_torch.dice, 0.90), _textbook(dice, 0.56)],
    "Lovasz-softmax": [_autograd("Berman", by_torch.lovasz_softmax, 0.21), _textbook(lovasz_softmax, 0.42)],
    "Lovasz hinge": [_autograd("Berman", by_torch.lovasz_hinge, 0.16), _textbook(lovasz_hinge, 0.26)],
    "OHEM, min_kept 20000": _ohem(20_000),
    "OHEM, min_kept 100000": _ohem(100_000),
    "cross entropy, small": [_textbook(cross_entropy, 1.5, 1.5)],
}
