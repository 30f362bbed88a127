"""A batch sharded over eight devices in JAX: the loss and gradient of one device, and what the devices exchange.

The devices are threads of the CPU here; on a machine with several accelerators leave out the line that sets XLA_FLAGS.
Under `jax.jit` the compiler divides the work by itself, and no loss of single pixels gathers the logits: these losses
exchange sums. Those that select the hardest pixels of the batch exchange at most one number for each pixel.
Lovasz-softmax of the whole batch ranks its errors, and gathers as much as the logits; image by image it exchanges sums.

Run it with `python jax_sharding.py`. It needs JAX and scikit-learn.
"""

from __future__ import annotations

import math
import os
import re

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import numpy as np
from _digits import CLASSES, digit_pixels
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import arrayloss as al

IMAGES, SIZE = 128, 8
#: With each loss the largest thing that devices may exchange: how many numbers.
SUMS, PER_PIXEL, PER_LOGIT = CLASSES, IMAGES * SIZE**2, IMAGES * CLASSES * SIZE**2
LOSSES = {
    al.CrossEntropyLoss(weight=[0.2] + [1.0] * (CLASSES - 1), label_smoothing=0.1): SUMS,
    al.BCELoss(weight="dynamic"): SUMS,
    al.RelaxBoundaryLoss(): SUMS,
    al.OhemCrossEntropyLoss(min_kept=2000): PER_PIXEL,
    al.BootstrappedCrossEntropyLoss(min_K=16, loss_th=1.0): PER_PIXEL,
    al.DiceLoss(smooth=1.0): SUMS,
    al.LovaszSoftmaxLoss(per_image=True): SUMS,
    al.LovaszSoftmaxLoss(): PER_LOGIT,
}
COLLECTIVE = r"= (.+) (?:all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def largest_exchange(program: str) -> int:
    """Return how many numbers the largest result of a collective operation in a compiled program has."""
    shapes = [shape for results in re.findall(COLLECTIVE, program) for shape in re.findall(r"\[([\d,]*)\]", results)]
    return max((math.prod(int(size) for size in shape.split(",") if size) for shape in shapes), default=0)


def apart(found: jax.Array, expected: jax.Array) -> float:
    return float(np.max(np.abs(np.asarray(found) - np.asarray(expected))) / np.max(np.abs(np.asarray(expected))))


(pictures, labels), _ = digit_pixels()
pictures, labels = pictures[:IMAGES], labels[:IMAGES]
# Scores as an untrained model gives them: a random mixture of each pixel and its neighbours.
around = np.concatenate([np.roll(pictures, shift, (2, 3)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))], axis=1)
mixture = np.random.default_rng(0).normal(size=(4, CLASSES)).astype("float32")
logits = np.einsum("nfhw,fc->nchw", around, mixture)

by_batch = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), PartitionSpec("batch"))
one = jax.device_put((logits, labels), jax.devices()[0])
eight = jax.device_put((logits, labels), by_batch)
print(f"{jax.device_count()} devices, {len(labels) // jax.device_count()} of {len(labels)} images on each\n")
print(f"{'loss':30}{'value':>9}{'value':>11}{'gradient':>11}   largest exchange")
print(f"{'':30}{'':>9}{'off by':>11}{'off by':>11}   numbers  per logit")
failed = []
for loss, allowed in LOSSES.items():
    graded = jax.jit(jax.value_and_grad(loss))
    value, gradient = graded(*one)
    compiled = graded.lower(*eight).compile()
    value_8, gradient_8 = compiled(*eight)
    exchanged = largest_exchange(compiled.as_text())
    name = type(loss).__name__
    off = apart(value_8, value), apart(gradient_8, gradient)
    share = exchanged / logits.size
    print(f"{name:30}{value:9.5f}{off[0]:11.1e}{off[1]:11.1e}{exchanged:10}{share:11.4f}")
    if exchanged > allowed:
        failed.append(f"{name} exchanges {exchanged} numbers")
    if max(off) > 1e-5 or not gradient_8.sharding.is_equivalent_to(by_batch, gradient_8.ndim):
        failed.append(f"{name} is not what it is on one device")
if failed:
    raise SystemExit("; ".join(failed))
