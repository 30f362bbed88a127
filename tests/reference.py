"""Independent float64 reference of every loss: the formulas of the public contract, written as loops.

Nothing here is fast and nothing is shared with the package: plain Python over pixels and classes, so that a person can
hold each function against its row of the contract. Every function is named as the public one, takes its options by
keyword and returns float64: a float for "mean" and "sum", an array for "none", (total, weight) for "parts".
Options are taken to be right; only labels out of range and misfitting shapes raise, so that no index wraps unnoticed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

Position = tuple[int, ...]
Result = float | np.ndarray | tuple[float, float]


# -- reading the inputs ------------------------------------------------------------------------------------------------


def _class_axis(ndim: int, axis: int) -> int:
    """The class axis as a non-negative number; unbatched logits (C,) have only the one axis."""
    return 0 if ndim == 1 else axis % ndim


def _classes_last(array: Any, axis: int) -> np.ndarray:
    """As float64 with the class axis moved to the end, so that array[position] is the vector over the classes."""
    array = np.asarray(array).astype(np.float64)
    return np.moveaxis(array, _class_axis(array.ndim, axis), -1)


def _are_labels(target: Any) -> bool:
    """Integer and bool targets are labels, everything else is probabilities."""
    return np.asarray(target).dtype.kind in "iub"


def _label_map(target: Any, z: np.ndarray, axis: int) -> np.ndarray:
    """The target in the shape of the positions: a class axis of length 1 is dropped. `z` has its classes last."""
    labels = np.asarray(target)
    if labels.ndim == z.ndim:
        labels = np.squeeze(labels, axis=_class_axis(z.ndim, axis))
    if labels.shape != z.shape[:-1]:
        raise ValueError(f"target of shape {np.shape(target)} does not fit positions {z.shape[:-1]}")
    return labels


def _checked(label: int, classes: int) -> int:
    if not 0 <= label < classes:
        raise ValueError(f"label {label} is outside [0, {classes})")
    return label


def _labelled_pixels(z: np.ndarray, target: Any, ignore_index: int | None, axis: int) -> Iterator[tuple[Position, int]]:
    """(position, label) of every valid pixel; logits at ignored pixels are never looked at."""
    labels = _label_map(target, z, axis)
    for position in np.ndindex(labels.shape):
        label = int(labels[position])
        if label != ignore_index:
            yield position, _checked(label, z.shape[-1])


def _image(position: Position) -> int:
    """The batch index of a position; the single position of unbatched logits belongs to image 0."""
    return position[0] if position else 0


def _image_count(z: np.ndarray) -> int:
    return z.shape[0] if z.ndim > 1 else 1


def _class_weights(weight: Any, classes: int) -> list[float]:
    if weight is None:
        return [1.0] * classes
    weights = [float(w) for w in np.asarray(weight)]
    if len(weights) != classes:
        raise ValueError(f"{len(weights)} class weights for {classes} classes")
    return weights


# -- small mathematics -------------------------------------------------------------------------------------------------


def _log_softmax(z: np.ndarray) -> list[float]:
    largest = max(float(x) for x in z)
    log_sum = math.log(math.fsum(math.exp(float(x) - largest) for x in z))
    return [float(x) - largest - log_sum for x in z]


def _softmax(z: np.ndarray) -> list[float]:
    largest = max(float(x) for x in z)
    exponentials = [math.exp(float(x) - largest) for x in z]
    total = math.fsum(exponentials)
    return [e / total for e in exponentials]


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _times(factor: float, value: float) -> float:
    """factor * value with 0 * inf = 0: what has no weight does not count, however large it is."""
    return 0.0 if factor == 0 else factor * value


def _ratio(total: float, weight: float) -> float:
    """total / weight, 0 where there is nothing to divide by."""
    return 0.0 if weight == 0 else total / weight


def _largest(values: dict[Position, float], k: int) -> set[Position]:
    """Where the k largest values stand, with all that are tied with the k-th; all, where there are no more than k."""
    if k <= 0:
        return set()
    if k >= len(values):
        return set(values)
    kth = sorted(values.values(), reverse=True)[k - 1]
    return {position for position, value in values.items() if value >= kth}


def _reduce(shape: tuple[int, ...], values: dict[Position, float], weight: float, reduction: str) -> Result:
    """One reduction for all pixel losses: `values` at the positions that count, `weight` is what "mean" divides by."""
    total = math.fsum(values.values())
    if reduction == "mean":
        return _ratio(total, weight)
    if reduction == "sum":
        return total
    if reduction == "parts":
        return total, float(weight)
    if reduction == "none":
        array = np.zeros(shape, dtype=np.float64)
        for position, value in values.items():
            array[position] = value
        return array
    raise ValueError(f"unknown reduction {reduction!r}")


def _no_parts(reduction: str) -> None:
    if reduction == "parts":
        raise ValueError('reduction "parts" is for losses whose mean is one sum over another')


# -- cross entropy -----------------------------------------------------------------------------------------------------


def cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int | None = 255,
    top_k_percent_pixels: float = 1.0,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    axis: int = 1,
    pixel_weight: Any = None,
) -> Result:
    """Labels: (1-s) w_y ce + (s/C) sum_c w_c (-log p_c). Probabilities: -sum_c w_c t'_c log p_c. Times pixel_weight.

    ignore_index concerns labels only: with probabilities every position is valid.
    """
    z = _classes_last(logits, axis)
    shape, classes = z.shape[:-1], z.shape[-1]
    w = _class_weights(weight, classes)
    s = label_smoothing
    pixel_weights = np.ones(shape) if pixel_weight is None else np.asarray(pixel_weight).astype(np.float64)
    if pixel_weights.shape != shape:
        raise ValueError(f"pixel_weight of shape {pixel_weights.shape} does not fit positions {shape}")

    losses: dict[Position, float] = {}
    weights: dict[Position, float] = {}
    if _are_labels(target):
        for position, y in _labelled_pixels(z, target, ignore_index, axis):
            log_p = _log_softmax(z[position])
            at_label = _times((1 - s) * w[y], -log_p[y])
            spread = math.fsum(_times(s / classes * w[c], -log_p[c]) for c in range(classes))
            pixel = float(pixel_weights[position])
            losses[position] = _times(pixel, at_label + spread)
            weights[position] = w[y] * pixel
    else:
        t = _classes_last(target, axis)
        if t.shape != z.shape:
            raise ValueError(f"target of shape {np.shape(target)} for logits of shape {np.shape(logits)}")
        for position in np.ndindex(shape):
            log_p = _log_softmax(z[position])
            smoothed = [(1 - s) * float(t[position][c]) + s / classes for c in range(classes)]
            pixel = float(pixel_weights[position])
            losses[position] = _times(pixel, math.fsum(_times(w[c] * smoothed[c], -log_p[c]) for c in range(classes)))
            weights[position] = pixel

    kept = set(losses)
    if top_k_percent_pixels < 1:
        kept = _largest(losses, int(top_k_percent_pixels * math.prod(shape)))
    return _reduce(
        shape,
        {position: loss for position, loss in losses.items() if position in kept},
        math.fsum(weights[position] for position in kept),
        reduction,
    )


def bootstrapped_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    min_K: int,
    loss_th: float,
    weight: Any = None,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Per image the losses above loss_th, at least the min_K largest; mean of the images' means."""
    _no_parts(reduction)
    z = _classes_last(logits, axis)
    w = _class_weights(weight, z.shape[-1])
    images = _image_count(z)
    losses: list[dict[Position, float]] = [{} for _ in range(images)]
    weights: dict[Position, float] = {}
    for position, y in _labelled_pixels(z, target, ignore_index, axis):
        losses[_image(position)][position] = _times(w[y], -_log_softmax(z[position])[y])
        weights[position] = w[y]

    all_kept: dict[Position, float] = {}
    means = []
    for image_losses in losses:
        descending = sorted(image_losses.values(), reverse=True)
        if len(descending) > min_K and descending[min_K] > loss_th:
            kept = {position for position, loss in image_losses.items() if loss > loss_th}
        else:
            kept = _largest(image_losses, min_K)
        total = math.fsum(image_losses[position] for position in kept)
        means.append(_ratio(total, math.fsum(weights[position] for position in kept)))
        all_kept.update({position: image_losses[position] for position in kept})
    if reduction == "mean":
        return _ratio(math.fsum(means), images)
    return _reduce(z.shape[:-1], all_kept, images, reduction)


def _hard_pixels(p: dict[Position, float], log_p: dict[Position, float], thresh: float, min_kept: int) -> set[Position]:
    """The pixels with p_y < thresh or p_y <= the min_kept-th smallest p_y; all where min_kept >= their number.

    log p_y ranks as p_y does, and does not run out of digits at 0.
    """
    if min_kept >= len(p):
        return set(p)
    below = {position for position, probability in p.items() if probability < thresh}
    return below | _largest({position: -value for position, value in log_p.items()}, min_kept)


def ohem_cross_entropy_loss(
    logits: Any,
    target: Any,
    *,
    thresh: float = 0.7,
    min_kept: int = 10000,
    ignore_index: int | None = 255,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w_y ce over the hard pixels; the choice looks at p_y, not at the weights."""
    z = _classes_last(logits, axis)
    w = _class_weights(weight, z.shape[-1])
    p, log_p, losses, weights = {}, {}, {}, {}
    for position, y in _labelled_pixels(z, target, ignore_index, axis):
        p[position] = _softmax(z[position])[y]
        log_p[position] = _log_softmax(z[position])[y]
        losses[position] = _times(w[y], -log_p[position])
        weights[position] = w[y]
    kept = _hard_pixels(p, log_p, thresh, min_kept)
    return _reduce(
        z.shape[:-1],
        {position: losses[position] for position in kept},
        math.fsum(weights[position] for position in kept),
        reduction,
    )


def _edge_pixels(
    logits: tuple[Any, Any], target: Any, edge_threshold: float, ignore_index: int | None, axis: int
) -> tuple[np.ndarray, list[tuple[Position, int]]]:
    """Seg logits with the classes last, and the valid pixels (with their labels) whose edge exceeds the threshold."""
    z, edge = _classes_last(logits[0], axis), _classes_last(logits[1], axis)
    if edge.shape != (*z.shape[:-1], 1):
        raise ValueError(f"edge of shape {np.shape(logits[1])} does not fit logits of shape {np.shape(logits[0])}")
    pixels = _labelled_pixels(z, target, ignore_index, axis)
    return z, [(position, y) for position, y in pixels if float(edge[position][0]) > edge_threshold]


def edge_attention_loss(
    logits: tuple[Any, Any],
    target: Any,
    *,
    edge_threshold: float = 0.8,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """ce over the valid pixels with edge > edge_threshold; logits = (seg_logits, edge)."""
    z, pixels = _edge_pixels(logits, target, edge_threshold, ignore_index, axis)
    losses = {position: -_log_softmax(z[position])[y] for position, y in pixels}
    return _reduce(z.shape[:-1], losses, len(losses), reduction)


def ohem_edge_attention_loss(
    logits: tuple[Any, Any],
    target: Any,
    *,
    edge_threshold: float = 0.8,
    thresh: float = 0.7,
    min_kept: int = 5000,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """ce over the hard pixels among the valid ones with edge > edge_threshold."""
    z, pixels = _edge_pixels(logits, target, edge_threshold, ignore_index, axis)
    p = {position: _softmax(z[position])[y] for position, y in pixels}
    log_p = {position: _log_softmax(z[position])[y] for position, y in pixels}
    kept = _hard_pixels(p, log_p, thresh, min_kept)
    return _reduce(z.shape[:-1], {position: -log_p[position] for position in kept}, len(kept), reduction)


# -- binary cross entropy ----------------------------------------------------------------------------------------------


def _is_edge(image: np.ndarray, row: int, column: int, radius: int, ignore_index: int | None) -> bool:
    """Does any place within Euclidean distance `radius` lie beyond the image or hold another, not ignored, label?"""
    height, width = image.shape
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            if math.hypot(down, right) > radius:
                continue
            r, c = row + down, column + right
            if not (0 <= r < height and 0 <= c < width):
                return True
            other = int(image[r, c])
            if other != ignore_index and other != int(image[row, column]):
                return True
    return False


def label_edges(target: Any, *, radius: int = 2, ignore_index: int | None = 255) -> np.ndarray:
    """1 at edges, 0 elsewhere, ignore_index at ignored pixels; target (N, H, W)."""
    labels = np.asarray(target)
    edges = np.zeros(labels.shape, dtype=np.int64)
    for n, row, column in np.ndindex(labels.shape):
        if int(labels[n, row, column]) == ignore_index:
            edges[n, row, column] = ignore_index
        else:
            edges[n, row, column] = int(_is_edge(labels[n], row, column, radius, ignore_index))
    return edges


def _binary_target(
    target: Any, z: np.ndarray, ignore_index: int | None, edge_label: bool, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """(y, valid), both in the shape of the logits with the classes last."""
    classes = z.shape[-1]
    y = np.zeros(z.shape, dtype=np.float64)
    valid = np.zeros(z.shape, dtype=bool)

    same_shape = (
        np.ndim(target) == z.ndim and np.moveaxis(np.asarray(target), _class_axis(z.ndim, axis), -1).shape == z.shape
    )
    if same_shape and not edge_label:  # an entry of its own for every class
        entries = np.moveaxis(np.asarray(target), _class_axis(z.ndim, axis), -1)
        for entry in np.ndindex(z.shape):
            if entries[entry].item() != ignore_index:
                valid[entry] = True
                y[entry] = entries[entry].item()
    else:  # one label (or, for a single class, one number) for every position
        labels = _label_map(target, z, axis)
        given = labels
        if edge_label:
            labels = label_edges(given, ignore_index=ignore_index)
        elif classes > 1 and not _are_labels(target):
            raise ValueError("a floating target must have the shape of the logits")
        for position in np.ndindex(labels.shape):
            if given[position].item() == ignore_index:
                continue
            for c in range(classes):
                valid[(*position, c)] = True
                if classes == 1:
                    y[(*position, c)] = labels[position].item()
                else:
                    y[(*position, c)] = float(_checked(int(labels[position]), classes) == c)
    for entry in np.ndindex(z.shape):
        if valid[entry] and not 0 <= y[entry] <= 1:
            raise ValueError(f"target {y[entry]} is outside [0, 1]")
    return y, valid


def bce_loss(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    ignore_index: int | None = 255,
    edge_label: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """w [pos_weight y softplus(-x) + (1-y) softplus(x)], one entry for every logit."""
    z = _classes_last(logits, axis)
    classes, class_axis = z.shape[-1], _class_axis(z.ndim, axis)
    y, valid = _binary_target(target, z, ignore_index, edge_label, axis)

    positives = sum(1 for entry in np.ndindex(z.shape) if valid[entry] and y[entry] == 1)
    negatives = sum(1 for entry in np.ndindex(z.shape) if valid[entry] and y[entry] == 0)
    dynamic_positive = _ratio(2 * negatives, positives + negatives)
    dynamic_negative = _ratio(2 * positives, positives + negatives)

    w = np.ones(z.shape)
    if isinstance(weight, str):
        for entry in np.ndindex(z.shape):
            w[entry] = y[entry] * dynamic_positive + (1 - y[entry]) * dynamic_negative
    elif weight is not None:
        given = np.asarray(weight).astype(np.float64)
        if given.ndim == z.ndim:
            w = np.moveaxis(np.broadcast_to(given, np.shape(logits)), class_axis, -1)
        elif given.shape == (_image_count(z),):
            for entry in np.ndindex(z.shape):
                w[entry] = given[entry[0]]
        else:
            raise ValueError(f"weight of shape {given.shape} for logits of shape {np.shape(logits)}")

    if isinstance(pos_weight, str):
        positive_weights = [dynamic_positive] * classes
    elif pos_weight is None or np.ndim(pos_weight) == 0:
        positive_weights = [1.0 if pos_weight is None else float(pos_weight)] * classes
    else:
        positive_weights = _class_weights(pos_weight, classes)

    losses: dict[Position, float] = {}
    for entry in np.ndindex(z.shape):
        if valid[entry]:
            x, t = float(z[entry]), float(y[entry])
            as_positive = _times(positive_weights[entry[-1]] * t, _softplus(-x))
            as_negative = _times(1 - t, _softplus(x))
            losses[entry] = _times(float(w[entry]), as_positive + as_negative)
    value = _reduce(z.shape, losses, len(losses), reduction)
    return np.moveaxis(value, -1, class_axis) if isinstance(value, np.ndarray) else value


# -- boundaries --------------------------------------------------------------------------------------------------------


def relax_boundary_loss(
    logits: Any,
    target: Any,
    *,
    border: int = 1,
    calculate_weights: bool = False,
    upper_bound: float = 1.0,
    ignore_index: int | None = 255,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """-a log(sum of p_c over D), D = the classes of the valid pixels in the window; images only."""
    z = _classes_last(logits, axis)
    if z.ndim != 4:
        raise ValueError(f"images are needed, logits have shape {np.shape(logits)}")
    images, height, width, classes = z.shape
    labels = dict(_labelled_pixels(z, target, ignore_index, axis))

    window_classes: dict[Position, set[int]] = {}
    for n, row, column in labels:
        found = set()
        for r in range(max(row - border, 0), min(row + border + 1, height)):
            for c in range(max(column - border, 0), min(column + border + 1, width)):
                if (n, r, c) in labels:
                    found.add(labels[n, r, c])
        window_classes[n, row, column] = found

    class_weight = [[1.0] * classes for _ in range(images)]
    if calculate_weights:
        for n in range(images):
            counts = [0] * classes
            for position, found in window_classes.items():
                if position[0] == n:
                    for c in found:
                        counts[c] += 1
            for c in range(classes):
                share = _ratio(counts[c], sum(counts))
                class_weight[n][c] = 1.0 + (upper_bound * (1.0 - share) if share > 0 else 0.0)

    losses: dict[Position, float] = {}
    weights: dict[Position, float] = {}
    for position, found in window_classes.items():
        log_p = [_log_softmax(z[position])[c] for c in sorted(found)]
        largest = max(log_p)
        log_of_sum = largest + math.log(math.fsum(math.exp(x - largest) for x in log_p))
        a = math.fsum(class_weight[position[0]][c] for c in found) / len(found)
        losses[position] = _times(a, -log_of_sum)
        weights[position] = a
    return _reduce(z.shape[:-1], losses, math.fsum(weights.values()), reduction)


def _mirrored(i: int, length: int) -> int:
    """Index i of a row continued symmetrically: ... c b a | a b c | c b a ..."""
    i %= 2 * length
    return i if i < length else 2 * length - 1 - i


def _gradient_magnitude(maps: np.ndarray) -> np.ndarray:
    """mag of the contract for maps (N, H, W, C): smooth, differentiate, magnitude, over its largest value."""
    triangle = [1, 2, 3, 4, 5, 4, 3, 2, 1]
    images, height, width, classes = maps.shape
    magnitude = np.zeros(maps.shape)
    for n in range(images):
        for c in range(classes):
            along_rows = np.zeros((height, width))
            for i in range(height):
                for j in range(width):
                    along_rows[i, j] = math.fsum(
                        triangle[t] / 25 * maps[n, i, _mirrored(j + t - 4, width), c] for t in range(9)
                    )
            smooth = np.zeros((height + 2, width + 2))  # with the frame of zeros that the differences see
            for i in range(height):
                for j in range(width):
                    smooth[i + 1, j + 1] = math.fsum(
                        triangle[t] / 25 * along_rows[_mirrored(i + t - 4, height), j] for t in range(9)
                    )
            for i in range(height):
                for j in range(width):
                    gx = (smooth[i + 1, j + 2] - smooth[i + 1, j]) / 2
                    gy = (smooth[i + 2, j + 1] - smooth[i, j + 1]) / 2
                    magnitude[n, i, j, c] = math.sqrt(gx * gx + gy * gy + 1e-6)
    largest = max(float(x) for x in magnitude.flat)
    for entry in np.ndindex(magnitude.shape):
        magnitude[entry] /= largest
    return magnitude


def dual_task_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    tau: float = 0.5,
    reduction: str = "mean",
    axis: int = 1,
    noise: Any = None,
) -> Result:
    """|mag(softmax((logits + noise) / tau)) - mag(one-hot target)|; no noise where none is given; images only."""
    _no_parts(reduction)
    z = _classes_last(logits, axis)
    if z.ndim != 4 or min(z.shape[1:3]) < 3:
        raise ValueError(f"images of at least 3 x 3 are needed, logits have shape {np.shape(logits)}")
    gumbel = np.zeros(z.shape) if noise is None or np.ndim(noise) == 0 else _classes_last(noise, axis)
    labels = dict(_labelled_pixels(z, target, ignore_index, axis))

    prediction, truth = np.zeros(z.shape), np.zeros(z.shape)
    for position in np.ndindex(z.shape[:-1]):
        ignored = position not in labels
        scores = np.zeros(z.shape[-1]) if ignored else z[position]
        prediction[position] = _softmax((scores + gumbel[position]) / tau)
        truth[position][0 if ignored else labels[position]] = 1.0
    g, h = _gradient_magnitude(prediction), _gradient_magnitude(truth)

    losses: dict[Position, float] = {}
    for position in labels:
        for c in range(z.shape[-1]):
            losses[*position, c] = abs(float(g[position][c]) - float(h[position][c]))
    value = _reduce(z.shape, losses, len(losses), reduction)
    return np.moveaxis(value, -1, _class_axis(z.ndim, axis)) if isinstance(value, np.ndarray) else value


# -- regions -----------------------------------------------------------------------------------------------------------


def dice_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    smooth: float = 0.0,
    weight: Any = None,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """d_nc = 1 - (2 sum p t + smooth) / (sum p + sum t + smooth); "none" gives w_c d_nc in the shape (N, C).

    ignore_index concerns labels only: with probabilities every position is valid.
    """
    _no_parts(reduction)
    z = _classes_last(logits, axis)
    classes, images = z.shape[-1], _image_count(z)
    w = _class_weights(weight, classes)

    truth: dict[Position, list[float]] = {}  # t at the valid positions
    if _are_labels(target):
        for position, y in _labelled_pixels(z, target, ignore_index, axis):
            truth[position] = [1.0 if c == y else 0.0 for c in range(classes)]
    else:
        t = _classes_last(target, axis)
        if t.shape != z.shape:
            raise ValueError(f"target of shape {np.shape(target)} for logits of shape {np.shape(logits)}")
        for position in np.ndindex(z.shape[:-1]):
            truth[position] = [float(x) for x in t[position]]

    pairs: list[list[tuple[list[float], list[float]]]] = [[] for _ in range(images)]  # (p, t) by image
    for position, t_pixel in truth.items():
        pairs[_image(position)].append((_softmax(z[position]), t_pixel))

    values: dict[Position, float] = {}
    for n in range(images):
        for c in range(classes):
            overlap = math.fsum(p[c] * t[c] for p, t in pairs[n])
            p_sum = math.fsum(p[c] for p, _ in pairs[n])
            t_sum = math.fsum(t[c] for _, t in pairs[n])
            below = p_sum + t_sum + smooth
            d = 0.0 if below == 0 else 1.0 - (2.0 * overlap + smooth) / below
            values[n, c] = w[c] * d
    value = _reduce((images, classes), values, images * math.fsum(w), reduction)
    return value[0] if isinstance(value, np.ndarray) and z.ndim == 1 else value


def lovasz_extension_bruteforce(errors: Iterable[float], foreground: Iterable[bool]) -> float:
    """The Lovasz extension of the Jaccard loss at `errors`, straight from its definition.

    The Jaccard loss of a set M of mispredicted pixels is J(M) = |M| / |F union M|, F the foreground, J of the empty set
    0. With the pixels in the order of descending error, M_i the first i of them, the extension is
    sum_i e_i (J(M_i) - J(M_{i-1})). Pixels with equal errors may stand in any order: their differences add up.
    """
    errors = [float(e) for e in errors]
    union = {i for i, is_foreground in enumerate(foreground) if is_foreground}
    mispredicted: set[int] = set()
    previous = Fraction(0)
    terms = []
    for i in sorted(range(len(errors)), key=lambda pixel: errors[pixel], reverse=True):
        mispredicted.add(i)
        union.add(i)
        jaccard = Fraction(len(mispredicted), len(union))
        terms.append(_times(float(jaccard - previous), errors[i]))
        previous = jaccard
    return math.fsum(terms)


def lovasz_extension_closed_form(errors: Iterable[float], foreground: Iterable[bool]) -> float:
    """The same with the weights in closed form: 1/(g+b) for a positive, (g-k)/((g+b-1)(g+b)) for a negative.

    Not used by the losses here: it stands beside the definition so that a test can hold the two together.
    """
    errors, foreground = [float(e) for e in errors], [bool(f) for f in foreground]
    g, k, b = sum(foreground), 0, 0
    terms = []
    for i in sorted(range(len(errors)), key=lambda pixel: errors[pixel], reverse=True):
        if foreground[i]:
            k += 1
            share = 1 / (g + b)
        elif g == 0:
            b += 1
            share = 1.0 if b == 1 else 0.0
        else:
            b += 1
            share = (g - k) / ((g + b - 1) * (g + b))
        terms.append(_times(share, errors[i]))
    return math.fsum(terms)


def lovasz_softmax_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    classes: str | Sequence[int] = "present",
    per_image: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Lovasz extension per class at e = |[y=c] - p_c|, of the batch or averaged over its images.

    "none" gives (C,), 0 for the classes that do not count; with per_image the average over the images, as for the rest.
    """
    _no_parts(reduction)
    z = _classes_last(logits, axis)
    count = z.shape[-1]
    groups: list[list[tuple[list[float], int]]] = [[] for _ in range(_image_count(z) if per_image else 1)]
    for position, y in _labelled_pixels(z, target, ignore_index, axis):
        groups[_image(position) if per_image else 0].append((_softmax(z[position]), y))

    means = []
    by_class: list[list[float]] = [[] for _ in range(count)]
    for pixels in groups:
        if isinstance(classes, str):
            counted = [c for c in range(count) if classes == "all" or any(y == c for _, y in pixels)]
        else:
            counted = [_checked(int(c), count) for c in classes]
        values = [0.0] * count
        for c in counted:
            foreground = [y == c for _, y in pixels]
            errors = [abs((1.0 if y == c else 0.0) - p[c]) for p, y in pixels]
            values[c] = lovasz_extension_bruteforce(errors, foreground)
        means.append(_ratio(math.fsum(values), len(counted)))
        for c in range(count):
            by_class[c].append(values[c])
    if reduction == "mean":
        return _ratio(math.fsum(means), len(groups))
    averages: dict[Position, float] = {(c,): _ratio(math.fsum(by_class[c]), len(groups)) for c in range(count)}
    return _reduce((count,), averages, count, reduction)


def lovasz_hinge_loss(
    logits: Any,
    target: Any,
    *,
    ignore_index: int | None = 255,
    per_image: bool = False,
    reduction: str = "mean",
    axis: int = 1,
) -> Result:
    """Lovasz extension at relu(1 - z (2y - 1)), of the batch or averaged over its images; "none" is (1,), one class."""
    _no_parts(reduction)
    z = _classes_last(logits, axis)
    if z.shape[-1] not in (1, 2):
        raise ValueError(f"the class axis has length {z.shape[-1]}, not 1 or 2")
    labels = _label_map(target, z, axis)
    groups: list[list[tuple[float, int]]] = [[] for _ in range(_image_count(z) if per_image else 1)]
    for position in np.ndindex(labels.shape):
        if int(labels[position]) == ignore_index:
            continue
        y = _checked(int(labels[position]), 2)
        score = float(z[position][0]) if z.shape[-1] == 1 else float(z[position][1]) - float(z[position][0])
        groups[_image(position) if per_image else 0].append((score, y))

    values = []
    for pixels in groups:
        errors = [max(1.0 - score * (2 * y - 1), 0.0) for score, y in pixels]
        values.append(lovasz_extension_bruteforce(errors, [y == 1 for _, y in pixels]))
    return _reduce((1,), {(0,): _ratio(math.fsum(values), len(groups))}, 1.0, reduction)


# -- regression --------------------------------------------------------------------------------------------------------


def _entrywise(
    logits: Any, target: Any, loss: Callable[[float], float], ignore_index: int | None, reduction: str
) -> Result:
    prediction, truth = np.asarray(logits).astype(np.float64), np.asarray(target).astype(np.float64)
    if prediction.shape != truth.shape:
        raise ValueError(f"target of shape {truth.shape} for a prediction of shape {prediction.shape}")
    losses: dict[Position, float] = {}
    for entry in np.ndindex(truth.shape):
        if float(truth[entry]) != ignore_index:
            losses[entry] = loss(float(prediction[entry]) - float(truth[entry]))
    return _reduce(truth.shape, losses, len(losses), reduction)


def l1_loss(logits: Any, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> Result:
    """|prediction - target| where the target is not ignore_index."""
    return _entrywise(logits, target, abs, ignore_index, reduction)


def mse_loss(logits: Any, target: Any, *, reduction: str = "mean", ignore_index: int | None = 255) -> Result:
    """(prediction - target)^2 where the target is not ignore_index."""
    return _entrywise(logits, target, lambda difference: difference * difference, ignore_index, reduction)


# -- mixtures ----------------------------------------------------------------------------------------------------------


def mixed_loss_terms(
    logits: Any, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float]
) -> list[float]:
    """coef_i * losses_i(logits, target), one by one."""
    return [float(factor) * loss(logits, target) for loss, factor in zip(losses, coef, strict=True)]


def mixed_loss(logits: Any, target: Any, *, losses: Sequence[Callable[..., Any]], coef: Sequence[float]) -> float:
    """The sum of coef_i * losses_i(logits, target)."""
    return sum(mixed_loss_terms(logits, target, losses=losses, coef=coef))


# -- gradients by differences ------------------------------------------------------------------------------------------


def _scalar(value: Any) -> float:
    """The number whose gradient is meant: an array stands for its sum, (total, weight) for its total."""
    if isinstance(value, tuple):
        value = value[0]
    return math.fsum(float(x) for x in np.asarray(value, dtype=np.float64).flat)


def numerical_gradient(f: Callable[[Any], Any], x: Any, step: float = 1e-4, order: int = 4) -> Any:
    """Gradient of f at x by central differences, of 2nd or 4th order in `step`; a tuple of arrays gives a tuple.

    f takes what x is (an array or a tuple of arrays, in float64). Infinite and NaN entries cannot be moved and so get 0
    where f is finite.
    """
    if order not in (2, 4):
        raise ValueError(f"order is 2 or 4, not {order}")
    is_tuple = isinstance(x, tuple)
    arrays = [np.array(a, dtype=np.float64) for a in (x if is_tuple else (x,))]

    def value_at(which: int, entry: tuple[int, ...], shift: float) -> float:
        moved = [a.copy() for a in arrays]
        moved[which][entry] += shift
        return _scalar(f(tuple(moved) if is_tuple else moved[0]))

    gradients = [np.zeros(a.shape) for a in arrays]
    for which, array in enumerate(arrays):
        for entry in np.ndindex(array.shape):
            slope = (value_at(which, entry, step) - value_at(which, entry, -step)) / (2 * step)
            if order == 4:
                wide = (value_at(which, entry, 2 * step) - value_at(which, entry, -2 * step)) / (4 * step)
                slope = (4 * slope - wide) / 3
            gradients[which][entry] = slope
    return tuple(gradients) if is_tuple else gradients[0]


Loss = Callable[..., Result]

LOSSES: dict[str, Loss] = {
    "BCELoss": bce_loss,
    "BootstrappedCrossEntropyLoss": bootstrapped_cross_entropy_loss,
    "CrossEntropyLoss": cross_entropy_loss,
    "DiceLoss": dice_loss,
    "DualTaskLoss": dual_task_loss,
    "EdgeAttentionLoss": edge_attention_loss,
    "L1Loss": l1_loss,
    "LovaszHingeLoss": lovasz_hinge_loss,
    "LovaszSoftmaxLoss": lovasz_softmax_loss,
    "MSELoss": mse_loss,
    "MixedLoss": mixed_loss,
    "OhemCrossEntropyLoss": ohem_cross_entropy_loss,
    "OhemEdgeAttentionLoss": ohem_edge_attention_loss,
    "RelaxBoundaryLoss": relax_boundary_loss,
}
"""The reference of each public class."""
