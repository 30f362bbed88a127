"""JAX and optax beside the catalogue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from _peers import Array


def cross_entropy(x: Array, y: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(x, y, axis=1)


OPS = SimpleNamespace(
    at_label=lambda x, y: jnp.take_along_axis(x, y[:, None], axis=1),
    bce=optax.sigmoid_binary_cross_entropy,
    classes=lambda number, y: jnp.arange(number),
    clip=jnp.clip,
    cosh=jnp.cosh,
    cross_entropy=cross_entropy,
    exp=jnp.exp,
    floats=lambda a, x: a.astype(x.dtype),
    integers=lambda a: a.astype(jnp.int32),
    log=jnp.log,
    log_sigmoid=jax.nn.log_sigmoid,
    log_softmax=lambda x: jax.nn.log_softmax(x, axis=1),
    maximum=jnp.maximum,
    one_hot=lambda y, x: jax.nn.one_hot(y, x.shape[1], axis=1, dtype=x.dtype),
    relu=jax.nn.relu,
    sigmoid=jax.nn.sigmoid,
    softmax=lambda x: jax.nn.softmax(x, axis=1),
    softplus=jax.nn.softplus,
    sqrt=jnp.sqrt,
    take=lambda rows, index: jnp.take_along_axis(rows, index, axis=1),
    where=jnp.where,
)


def sigmoid_focal(x: Array, t: Array) -> Array:
    return optax.losses.sigmoid_focal_loss(x, t, alpha=0.25, gamma=2.0).mean()


def poly(x: Array, y: Array) -> Array:
    valid = y != 255
    t = jax.nn.one_hot(jnp.where(valid, y, 0), x.shape[1])
    losses = optax.losses.poly_loss_cross_entropy(jnp.moveaxis(x, 1, -1), t, epsilon=1.0)
    return jnp.where(valid, losses, 0).sum() / valid.sum()


def kl_div(x: Array, t: Array) -> Array:
    p, q = (jnp.moveaxis(a, 1, -1) for a in (jax.nn.log_softmax(x, axis=1), jax.nn.softmax(t, axis=1)))
    return optax.losses.kl_divergence(p, q).mean()


def hinge(x: Array, t: Array) -> Array:
    return optax.losses.hinge_loss(x, 2 * t - 1).mean()


PEERS: dict[str, dict[str, Any]] = {
    "SigmoidFocalLoss": {"optax": sigmoid_focal},
    "PolyLoss": {"optax": poly},
    "KLDivLoss": {"optax": kl_div},
    "HingeLoss": {"optax": hinge},
    "L1Loss": {"jnp.abs": lambda x, t: jnp.abs(x - t).mean()},
    "MSELoss": {"optax": lambda x, t: optax.squared_error(x, t).mean()},
    "HuberLoss": {"optax": lambda x, t: optax.huber_loss(x, t).mean()},
    "LogCoshLoss": {"optax": lambda x, t: optax.log_cosh(x, t).mean()},
}
