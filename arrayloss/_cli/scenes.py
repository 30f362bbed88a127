"""Real images for the demo: scikit-learn's handwritten digits, many in one picture, a class for every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arrayloss._cli import UserError

Array = Any

CLASSES = ("background", *"0123456789")
#: The label of pixels that count nowhere.
IGNORED = 255
SIZE = 64
DIGITS_PER_SCENE = 24
_TRAINING_DIGITS = 1300
#: From this intensity on (the data has 0 to 16) a pixel belongs to its digit; fainter ink is ignored.
_INK = 5


@dataclass(frozen=True)
class Scenes:
    """Pictures `(N, H, W)` in float32, from 0 to 1, and class labels of the same shape."""

    pictures: Array
    labels: Array


def digit_scenes(seed: int = 0) -> tuple[Scenes, Scenes]:
    """Return training and held-out scenes, which share no digit."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError('the demo needs the images of scikit-learn: pip install "arrayloss[demo]"') from error
    import numpy as np

    digits = load_digits()
    random = np.random.default_rng(seed)
    order = random.permutation(len(digits.images))
    groups = []
    # Each training digit appears in several surroundings.
    for chosen, rounds in ((order[:_TRAINING_DIGITS], 3), (order[_TRAINING_DIGITS:], 1)):
        drawn = np.concatenate([random.permutation(chosen) for _ in range(rounds)])
        full = len(drawn) // DIGITS_PER_SCENE
        scenes = [
            _scene(digits.images[some], digits.target[some], random)
            for some in np.split(drawn[: full * DIGITS_PER_SCENE], full)
        ]
        pictures, labels = zip(*scenes, strict=True)
        groups.append(Scenes(np.stack(pictures), np.stack(labels)))
    return groups[0], groups[1]


def _scene(images: Array, numbers: Array, random: Any) -> tuple[Array, Array]:
    """Return a picture with the digits at random places, a pixel or more apart, and its labels."""
    import numpy as np

    picture = np.zeros((SIZE, SIZE), dtype=np.float32)
    labels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    for image, number, (top, left) in zip(images, numbers, _places(len(images), random), strict=True):
        box = slice(top, top + 8), slice(left, left + 8)
        picture[box] = image / 16.0
        labels[box] = np.where(image >= _INK, number + 1, np.where(image > 0, IGNORED, 0))
    return picture, labels


def _places(count: int, random: Any) -> list[tuple[int, int]]:
    """Return upper left corners at which 8 x 8 digits neither overlap nor touch."""
    places: list[tuple[int, int]] = []
    tries = 0
    while len(places) < count:
        if tries == 1000:  # the first ones left no room for the last
            places, tries = [], 0
        tries += 1
        top, left = (int(i) for i in random.integers(0, SIZE - 8 + 1, 2))
        if all(abs(top - y) > 8 or abs(left - x) > 8 for y, x in places):
            places.append((top, left))
    return places


def pixel_accuracy(predicted: Array, labels: Array) -> float:
    """Return the share of pixels, ignored ones aside, whose class is right."""
    counts = labels != IGNORED
    return float((predicted == labels)[counts].mean())


def mean_iou(predicted: Array, labels: Array) -> float:
    """Return intersection over union of predicted and true area, averaged over the classes; ignored pixels aside."""
    import numpy as np

    counts = labels != IGNORED
    shares = []
    for number in range(len(CLASSES)):
        mine, true = (predicted == number) & counts, labels == number
        either = int(np.count_nonzero(mine | true))
        if either:
            shares.append(int(np.count_nonzero(mine & true)) / either)
    return sum(shares) / len(shares)
