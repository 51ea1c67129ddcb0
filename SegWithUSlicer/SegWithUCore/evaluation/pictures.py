"""Pictures of the worst cases: image, reference and prediction, error probability with what is wrong outlined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..models.labels import Label
from .montage import COLOR_MAP, HIDDEN_BELOW, WINDOW, rgb
from .worst_cases import WorstCase

SLICES = {0: ("axial", "RL", "AP"), 1: ("coronal", "RL", "SI"), 2: ("sagittal", "AP", "SI")}
"""Axis of (z, y, x) to the plane that it cuts, and the letters at right and left, and at top and bottom."""
THICK = 2.5
"""Slices this much thicker than voxels are wide make the other planes unreadable."""
CUTS = 2
MARK = "#56e4f0"
PANEL_INCHES = 2.75


def cuts(worst: WorstCase) -> list[tuple[int, int]]:
    """Axes and indices of the slices with most of what is marked, the fullest first; one where slices are thick."""
    spacing = worst.spacing_zyx
    axes = range(3)
    if max(spacing) > THICK * min(spacing):
        axes = range(int(np.argmax(spacing)), int(np.argmax(spacing)) + 1)
    found = []
    for axis in axes:
        counts = worst.marked.sum(axis=tuple(a for a in range(3) if a != axis))
        found.append((int(counts.max()), axis, int(counts.argmax())))
    return [(axis, index) for _, axis, index in sorted(found, key=lambda entry: -entry[0])[:CUTS]]


def draw_worst(worst: WorstCase, labels: Sequence[Label], path: Path) -> None:
    """One row a cut: bare image, contours, error probability."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    rows = cuts(worst)
    heights = [_height(worst, axis) for axis, _ in rows]
    size = (9.4, PANEL_INCHES * sum(heights) + 0.9)
    figure, axes = pyplot.subplots(
        len(rows), 3, figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for cells, (axis, index) in zip(axes, rows, strict=True):
        shown = _draw_cut(cells, worst, labels, axis, index)
    for cell, title in zip(axes[0], ("image", "reference and prediction", "error probability"), strict=True):
        cell.set_title(title, fontsize=9)
    bar = figure.colorbar(shown, ax=axes[:, -1].tolist(), shrink=0.9, pad=0.02, extend="max")
    bar.ax.tick_params(labelsize=7)
    lines = [Line2D([], [], color=rgb(label), lw=2, label=label.name) for label in labels[1:]]
    lines += [Line2D([], [], color="white", lw=1.6, ls=(0, (3, 1.6)), label="reference")]
    lines += [Line2D([], [], color=MARK, lw=1.6, label=worst.mark)]
    legend = figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8, frameon=True)
    legend.get_frame().set(facecolor="#555555", edgecolor="none")
    for text in legend.get_texts():
        text.set_color("white")
    figure.savefig(path, dpi=110, format="png", facecolor="white")
    pyplot.close(figure)


def _height(worst: WorstCase, axis: int) -> float:
    """Height over width of a cut, in mm; kept within what still shows something."""
    rows, columns = (worst.image.shape[place] * worst.spacing_zyx[place] for place in range(3) if place != axis)
    return min(max(rows / columns, 0.4), 1.6)


def _draw_cut(cells: Any, worst: WorstCase, labels: Sequence[Label], axis: int, index: int) -> Any:
    plane, across, along = SLICES[axis]
    arrays = (worst.image, worst.predicted, worst.truth, worst.risk, worst.marked)
    image, predicted, truth, risk, marked = (np.take(array, index, axis) for array in arrays)
    steps = [step for place, step in enumerate(worst.spacing_zyx) if place != axis]
    low, high = np.percentile(worst.image, [1, 99.5])
    for cell in cells:
        cell.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin="lower", interpolation="nearest")
        cell.set_aspect(steps[0] / steps[1])
        cell.set(xticks=[], yticks=[], facecolor="black")
        _letters(cell, across, along)
    cells[0].set_ylabel(plane, fontsize=9)
    shown = cells[2].imshow(
        np.ma.masked_less(risk, HIDDEN_BELOW),
        cmap=COLOR_MAP,
        vmin=WINDOW[0],
        vmax=WINDOW[1],
        alpha=0.8,
        origin="lower",
        interpolation="nearest",
    )
    cells[2].set_aspect(steps[0] / steps[1])
    for number, label in enumerate(labels[1:], 1):
        _contour(cells[1], predicted == number, rgb(label), "-")
        _contour(cells[1], truth == number, "white", "--")
    _contour(cells[2], marked, MARK, "-")
    return shown


def _contour(cell: Any, mask: np.ndarray, color: Any, style: str) -> None:
    if mask.any() and not mask.all():
        padded = np.pad(mask, 1)
        rows, columns = (np.arange(-1, size + 1) for size in mask.shape)
        cell.contour(columns, rows, padded, [0.5], colors=[color], linewidths=1.2, linestyles=style)


def _letters(cell: Any, across: str, along: str) -> None:
    from matplotlib.patheffects import withStroke

    edge = [withStroke(linewidth=2, foreground="black")]
    places = ((0.97, 0.5, across[0]), (0.03, 0.5, across[1]), (0.5, 0.96, along[0]), (0.5, 0.04, along[1]))
    for x, y, letter in places:
        text = cell.text(x, y, letter, transform=cell.transAxes, color="white", fontsize=8, ha="center", va="center")
        text.set_path_effects(edge)
