"""The picture of the demo: loss curves, a held-out scene, and the gradient of every loss on it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arrayloss._cli import UserError, one_line
from arrayloss._cli.scenes import CLASSES, IGNORED

Array = Any

_COLOURS = (
    "#1b1b1b",
    "#4e79a7",
    "#f28e2b",
    "#e15759",
    "#76b7b2",
    "#59a14f",
    "#edc948",
    "#b07aa1",
    "#ff9da7",
    "#9c755f",
    "#e8e4df",
)
_IGNORED = "#555555"
_MOST_PER_ROW = 8


def check(path: str) -> None:
    """Refuse, before any work, what `draw` could not write."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError as error:
        raise UserError('--plot needs Matplotlib: pip install "arrayloss[demo]"') from error
    known = FigureCanvasAgg.get_supported_filetypes()
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        raise UserError(f"--plot {path}: the name must end in one of .{', .'.join(sorted(known))}")
    folder = Path(path).parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--plot {path}: cannot be written")


def draw(
    path: str,
    curves: Sequence[tuple[str, Sequence[float]]],
    picture: Array,
    labels: Array,
    predicted: Array,
    gradients: Sequence[tuple[str, Array]],
) -> None:
    """Draw loss curves by library, one scene, and gradients `(C, H, W)` by loss."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(gradients) / _MOST_PER_ROW)
    columns = math.ceil(len(gradients) / rows)
    figure = Figure(figsize=(16, 4.6 + 2.55 * rows), layout="constrained", dpi=100)
    halves: Any = figure.subfigures(2, 1, height_ratios=[4.6, 2.55 * rows], hspace=0.03)
    top, bottom = halves
    axes = top.subplots(1, 4, width_ratios=[1.45, 1, 1, 1])
    _curves(axes[0], curves)
    for ax, title, image in zip(
        axes[1:], ("held-out scene", "target", "prediction"), (picture, labels, predicted), strict=True
    ):
        ax.set_title(title)
        _no_ticks(ax)
        if image is picture:
            ax.imshow(image, cmap="gray", interpolation="nearest")
        else:
            ax.imshow(_coloured(image), interpolation="nearest")
    _legend(top)
    bottom.suptitle("Gradient of each loss on this scene: norm over the classes, black is 0", fontsize="medium")
    grid = bottom.subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, (name, gradient) in zip(grid.flat, gradients, strict=False):
        size = (gradient**2).sum(axis=0) ** 0.5
        ax.imshow(size, cmap="magma", vmin=0.0, interpolation="nearest")
        ax.set_title(f"{name}\nlargest {size.max():.1e}", fontsize="small")
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"--plot {path}: {error.strerror or one_line(error)}") from error


def _curves(ax: Any, curves: Sequence[tuple[str, Sequence[float]]]) -> None:
    """Draw curves that lie on one another: each thinner than the one before."""
    for i, (name, curve) in enumerate(curves):
        ax.plot(range(1, len(curve) + 1), curve, linewidth=1.0 + 2.5 * (len(curves) - 1 - i), label=name)
    ax.set(title="training loss", xlabel="step", ylabel="loss", ylim=(0.0, None))
    ax.grid(alpha=0.3)
    ax.legend(title="drawn on one another" if len(curves) > 1 else None)


def _coloured(labels: Array) -> Array:
    """Return labels as colours."""
    import numpy as np
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(colour) for colour in (*_COLOURS, _IGNORED)])
    return colours[np.where(labels == IGNORED, len(_COLOURS), labels)]


def _legend(figure: Any) -> None:
    from matplotlib.patches import Patch

    named = zip((*_COLOURS, _IGNORED), (*CLASSES, "ignored"), strict=True)
    patches = [Patch(facecolor=colour, edgecolor="gray", label=name) for colour, name in named]
    figure.legend(handles=patches, loc="outside lower right", ncols=len(patches), frameon=False, fontsize="small")


def _no_ticks(ax: Any) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
