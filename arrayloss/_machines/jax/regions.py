"""Sums over regions: the entries of a class in an image."""

from __future__ import annotations

import math

import jax.numpy as jnp

from arrayloss._machines.formula import AREAS, Array, Formula
from arrayloss._machines.generic.facts import one_hot, sum_positions
from arrayloss._machines.generic.regions import _by_autodiff
from arrayloss._machines.jax.classes import at_label, held_softmax, softmax
from arrayloss._machines.jax.compiled import NAMESPACE, kernel
from arrayloss._machines.jax.entries import sigmoid
from arrayloss._machines.jax.facts import where_or
from arrayloss._machines.jax.places import in_bins, label_counts


@kernel(3)
def regions(
    z: Array, t: Array, valid: Array | None, activation: str | None, formula: Formula, *numbers: float
) -> Array:
    if formula == AREAS and activation == "softmax" and t.ndim < z.ndim:
        overlap, predicted = _softmax_areas(NAMESPACE, z, t, valid)
        return jnp.stack([overlap, predicted, label_counts(NAMESPACE, t, valid, z.shape[1], z.dtype)])
    return _by_autodiff(NAMESPACE, softmax, sigmoid, z, t, valid, activation, formula, *numbers)


@kernel(3)
def _softmax_areas(z: Array, labels: Array, valid: Array | None) -> Array:
    """Return the overlap and the predicted area of each class, shape `(2, N, C)`."""
    p = held_softmax(z, valid)
    return jnp.stack([in_bins(at_label(p, labels), labels, z.shape[1]), _totals(p)])


@_softmax_areas.rule
def _(dz: Array, z: Array, labels: Array, valid: Array | None) -> tuple[Array, Array]:
    p, classes = held_softmax(z, valid), z.shape[1]
    p_at_label = at_label(p, labels)
    mean = jnp.sum(p * dz, axis=1)
    # Written so that its transpose is a product of p with one number a class, and one pass over the logits.
    change = sum_positions(NAMESPACE, p * dz) - jnp.einsum("nc...,n...->nc", p, mean, precision="highest")
    dz_at_label = jnp.sum(where_or(jnp, one_hot(jnp, labels, classes), dz, 0), axis=1)
    overlap_change = in_bins(p_at_label * (dz_at_label - mean), labels, classes)
    value = jnp.stack([in_bins(p_at_label, labels, classes), _totals(p)])
    return value, jnp.stack([overlap_change, change])


def _totals(x: Array) -> Array:
    """Return the sum over the positions, in two steps where they can be split: a long running sum in float32 drifts."""
    positions = math.prod(x.shape[2:])
    width = max(math.gcd(positions, 1 << (positions.bit_length() // 2)), 1)
    return jnp.sum(jnp.sum(x.reshape((*x.shape[:2], positions // width, width)), axis=-1), axis=-1)
