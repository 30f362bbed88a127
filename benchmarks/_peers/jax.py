"""JAX, jitted, and optax, in the order of the losses."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from _peers import Array, Peer, Run, each


def prepare(loss: Any, logits: Any, target: Any, gradient: bool) -> Run:
    """Return a run of the jitted loss, compiled here, that waits for its result."""
    x, y = each(jnp.asarray, logits), each(jnp.asarray, target)
    jitted = jax.jit(jax.value_and_grad(loss) if gradient else loss)
    jitted.lower(x, y).compile()

    def run() -> tuple[Array, Array]:
        result = jax.block_until_ready(jitted(x, y))
        value, slope = result if gradient else (result, None)
        return value, slope[0] if isinstance(slope, tuple) else slope

    return run


def cross_entropy(x: Array, y: Array) -> Array:
    valid = y != 255
    losses = optax.softmax_cross_entropy_with_integer_labels(x, jnp.where(valid, y, 0), axis=1)
    return jnp.where(valid, losses, 0).sum() / valid.sum()


def bce(x: Array, y: Array) -> Array:
    return optax.sigmoid_binary_cross_entropy(x, y).mean()


def dice(x: Array, y: Array) -> Array:
    losses = optax.losses.dice_loss(jnp.moveaxis(x, 1, -1), jax.nn.one_hot(y, x.shape[1]), smooth=0.0)
    return losses.mean()


def extension(errors: Array, hit: Array) -> Array:
    """The Lovasz extension along the last axis by argsort and take_along_axis; errors below 0 come last."""
    order = jnp.argsort(jax.lax.stop_gradient(-errors), axis=-1)
    errors, hit = (jnp.take_along_axis(a, order, axis=-1) for a in (errors, hit))
    g = hit.sum(-1, keepdims=True)
    jaccard = 1 - (g - jnp.cumsum(hit, -1)) / (g + jnp.cumsum(1 - hit, -1))
    weights = jnp.diff(jaccard, axis=-1, prepend=0)
    return (jax.nn.relu(errors) * weights).sum(-1)


def lovasz_softmax(x: Array, y: Array) -> Array:
    p = jnp.moveaxis(jax.nn.softmax(x, axis=1), 1, 0).reshape(x.shape[1], -1)
    labels = y.ravel()
    hit = (labels == jnp.arange(len(p))[:, None]).astype(x.dtype)
    losses = extension(jnp.where(labels != 255, abs(hit - p), -1), hit)
    present = hit.any(-1)
    return jnp.where(present, losses, 0).sum() / present.sum()


def lovasz_hinge(x: Array, y: Array) -> Array:
    labels = y.ravel()
    hit = (labels == 1).astype(x.dtype)
    margins = 1 - x.ravel() * (2 * hit - 1)
    return extension(jnp.where(labels != 255, jax.nn.relu(margins), -1), hit)


def ohem(min_kept: int, x: Array, y: Array) -> Array:
    """OHEM by a sort of the probabilities of the labels."""
    valid = y != 255
    labels = jnp.where(valid, y, 0)
    p = jnp.take_along_axis(jax.lax.stop_gradient(jax.nn.softmax(x, axis=1)), labels[:, None], axis=1)[:, 0]
    kth = jnp.sort(jnp.where(valid, p, jnp.inf).ravel())[min_kept - 1]
    kept = valid & ((p < 0.7) | (p <= kth))
    losses = optax.softmax_cross_entropy_with_integer_labels(x, labels, axis=1)
    return jnp.where(kept, losses, 0).sum() / kept.sum()


PEERS = {
    "cross entropy": [Peer("optax", cross_entropy, 0.85, 0.28)],
    "BCE": [Peer("optax", bce, 0.56, 0.70)],
    "Dice, all valid": [Peer("optax", dice, 0.88, 0.90)],
    "Lovasz-softmax": [Peer("argsort", lovasz_softmax, 0.08)],
    "Lovasz hinge": [Peer("argsort", lovasz_hinge, 0.06)],
    "OHEM, min_kept 20000": [Peer("sort", partial(ohem, 20_000), 0.20)],
    "OHEM, min_kept 100000": [Peer("sort", partial(ohem, 100_000), 0.20)],
    "cross entropy, small": [Peer("optax", cross_entropy, 1.4, 1.15)],
}
