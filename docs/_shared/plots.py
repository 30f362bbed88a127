"""Plots that are legible on a light and on a dark page: no background, lines and words in mid-grey."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from _shared.scenes import IGNORED, Scene

GREY = "#7b7b7b"
COLOURS = ("#3f7fbf", "#e0703c", "#3c9d5b", "#c9a227", "#9467bd", "#c8527f", "#4fb0c6", "#8c6d46")
CLASS_COLOURS = ("#4e79a7", "#59a14f", "#c9a66b", "#d1495b")
IGNORED_COLOUR = "#9a9a9a"
#: Background and ten digits.
DIGIT_COLOURS = (
    "#1b1b1b", "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f",
    "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#e8e4df",
)  # fmt: skip

STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "savefig.transparent": True,
    "legend.facecolor": "none",
    "legend.frameon": False,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.titlesize": 10,
    "axes.titlecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "lines.linewidth": 1.8,
}


def use_style() -> None:
    """Draw all that follows in this style."""
    plt.rcParams.update(STYLE)


def picture(ax: Axes, image: np.ndarray, title: str, **options) -> None:
    """Show a picture without ticks."""
    ax.imshow(image, interpolation="nearest", **options)
    ax.set_title(title)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, linewidth=0.5)


def coloured(labels: np.ndarray, colours: Sequence[str] = CLASS_COLOURS) -> np.ndarray:
    """Return labels as colours, ignored ones grey."""
    table = np.array([to_rgb(c) for c in (*colours, IGNORED_COLOUR)])
    return table[np.where(labels == IGNORED, len(colours), labels)]


def legend_of_classes(figure: Figure, classes: Sequence[str], *, ignored: bool = True) -> None:
    """Name the colours of the classes below a figure."""
    named = list(zip(CLASS_COLOURS, classes, strict=False)) + [(IGNORED_COLOUR, "not measured, ignored")] * ignored
    patches = [Patch(facecolor=colour, label=name) for colour, name in named]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))


def gradient(ax: Axes, values: np.ndarray, title: str, **font: float) -> None:
    """Show a signed map: red where descent lowers the score, blue where it raises it, white where it does nothing.

    The scale is symmetric and ends at the 99.5th percentile of the magnitude of what is not 0.
    """
    size = np.abs(values[values != 0])
    limit = float(np.percentile(size, 99.5)) if size.size else 1.0
    picture(ax, values, "", cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(f"{title}\nscale ±{limit:.0e}", **font)


def scene_and_gradients(scene: Scene, gradients: Mapping[str, np.ndarray]) -> Figure:
    """Show a scene and its labels, and below them gradients by title."""
    figure, axes = plt.subplots(2, 2, figsize=(8.2, 6.4))
    picture(axes[0, 0], scene.picture, "photograph")
    picture(axes[0, 1], coloured(scene.labels), "target")
    for ax, (title, values) in zip(axes[1], gradients.items(), strict=True):
        gradient(ax, values, title)
    legend_of_classes(figure, scene.classes)
    return figure


def pairs_of_gradients(gradients: Mapping[str, Mapping[int, np.ndarray]]) -> Figure:
    """Show gradients by loss and step, two losses in a row."""
    steps = len(next(iter(gradients.values())))
    rows = -(-len(gradients) // 2)
    figure, axes = plt.subplots(rows, 2 * steps, figsize=(8.2, 1.85 * rows), squeeze=False)
    maps = [(name, step, values) for name, by_step in gradients.items() for step, values in by_step.items()]
    for ax in axes.flat[len(maps) :]:
        ax.set_axis_off()
    for ax, (name, step, values) in zip(axes.flat, maps, strict=False):
        gradient(ax, values, f"{name}\nafter {step} steps", fontsize=7.5)
    return figure


def lines(ax: Axes, x: Iterable[float], ys: Mapping[str, Iterable[float]], **labels: str) -> None:
    """Draw curves by name over common values of x, each in a dash of its own."""
    for (name, y), dash in zip(ys.items(), ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2))), strict=False):
        ax.plot(x, y, linestyle=dash, label=name)
    ax.set(**labels)


def table_of_shares(ax: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> None:
    """Show numbers from 0 to 1 as a coloured table."""
    ax.imshow(values, cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black", fontsize=9)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_title(title)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
