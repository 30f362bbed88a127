"""Real pictures with a class for every pixel, all from files that come inside scikit-image and scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skimage.data
from sklearn.datasets import load_digits

IGNORED = 255
#: Digits stand in a grid of this many cells to a side, one cell being 8 pixels and a margin of 1 on each side.
GRID = 4
#: Digits with a smaller index train, the others test.
TRAINING_DIGITS = 1200


@dataclass(frozen=True)
class Scene:
    """A colour picture `(H, W, 3)` in [0, 1], labels `(H, W)`, and the names of the classes."""

    picture: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    @property
    def inputs(self) -> np.ndarray:
        """The picture and the place of each pixel as a batch of one, `(1, 5, H, W)`."""
        height, width = self.labels.shape
        places = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        return np.concatenate([self.picture.transpose(2, 0, 1), places])[None]


def motorcycle(every: int = 3) -> Scene:
    """Return a photograph and the class of each pixel, told by its measured depth; what has none is ignored.

    The disparities were measured with structured light (Scharstein et al., GCPR 2014). Far things are the wall and the
    furniture; of the near ones, those on the plane of the floor are floor, and what stands up from it the motorcycle.
    """
    picture, _, disparity = skimage.data.stereo_motorcycle()
    height, width = (size - size % every for size in disparity.shape)
    blocks = picture[:height, :width].reshape(height // every, every, width // every, every, 3)
    disparity = disparity[every // 2 : height : every, every // 2 : width : every]
    height_over_floor = disparity - _floor(disparity)
    on_floor = (np.abs(height_over_floor) < 1.2) & (disparity >= 16)
    labels = np.select([on_floor, disparity < 16, disparity < 28], [2, 0, 1], 3)
    labels[~np.isfinite(disparity)] = IGNORED
    return Scene(blocks.mean(axis=(1, 3)) / 255.0, labels, ("wall", "furniture", "floor", "motorcycle"))


def _floor(disparity: np.ndarray) -> np.ndarray:
    """Return the disparity of the plane of the floor, fitted to the lower left and right margins of the picture."""
    height, width = disparity.shape
    rows, columns = np.mgrid[:height, :width]
    seen = (rows > 0.66 * height) & (np.abs(columns - width / 2) > 0.45 * width) & np.isfinite(disparity)
    places = np.stack([rows, columns, np.ones_like(rows)], axis=-1)
    plane, *_ = np.linalg.lstsq(places[seen], disparity[seen])
    return places @ plane


def digit_scenes(shares: np.ndarray, count: int, *, held_out: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures `(N, H, W)` of handwritten digits, the digit k with probability `shares[k]`, and their labels.

    Class 0 is the background, class k + 1 the ink of the digit k; faint ink is ignored. Held-out digits are not those
    of the training scenes.
    """
    digits = load_digits()
    rng = np.random.default_rng(seed)
    pool = np.random.default_rng(0).permutation(len(digits.images))
    pool = pool[TRAINING_DIGITS:] if held_out else pool[:TRAINING_DIGITS]
    probability = np.asarray(shares)[digits.target[pool]] / np.bincount(digits.target[pool])[digits.target[pool]]
    drawn = rng.choice(pool, size=(count, GRID, GRID), p=probability / probability.sum())
    ink = np.pad(digits.images[drawn], [(0, 0)] * 3 + [(1, 1)] * 2)
    number = digits.target[drawn][..., None, None]
    labels = np.where(ink >= 5, number + 1, np.where(ink > 0, IGNORED, 0))
    pictures, labels = (x.swapaxes(2, 3).reshape(count, 10 * GRID, 10 * GRID) for x in (ink / 16.0, labels))
    return pictures, labels
