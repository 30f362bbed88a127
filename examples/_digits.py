"""The data of the examples: scikit-learn's handwritten digits as a segmentation task, NumPy alone."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

#: Background, and the ten digits.
CLASSES = 11
#: The label of faint ink, of which nobody can say where it belongs; the default `ignore_index` of arrayloss.
IGNORED = 255
HELD_OUT = 497


def digit_pixels() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return pictures (N, 1, 8, 8) and a label per pixel (N, 8, 8), 1300 digits to train on and the rest held out."""
    digits = load_digits()
    ink = digits.images
    labels = np.where(ink >= 5, digits.target[:, None, None] + 1, np.where(ink > 0, IGNORED, 0)).astype("uint8")
    pictures = (ink[:, None] / 16).astype("float32")
    order = np.random.default_rng(0).permutation(len(ink))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    return (pictures[training], labels[training]), (pictures[held_out], labels[held_out])


def mean_iou(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Return intersection over union of predicted and true pixels, averaged over the classes; ignored ones aside."""
    counted = labels != IGNORED
    shares = []
    for number in range(CLASSES):
        mine, true = (predicted == number) & counted, labels == number
        shares.append(np.count_nonzero(mine & true) / max(1, np.count_nonzero(mine | true)))
    return float(np.mean(shares))
