"""A picture of several cases: image, contours, error probability, with a legend in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import whole_file
from ..models.labels import Label

HIDDEN_BELOW = 0.1
"""Error probability under which the overlay is transparent, so that anatomy stays visible."""
WINDOW = (0.0, 0.5)
"""From certain to an even chance; the same for every case."""
COLOR_MAP = "inferno"
PLANES = {"sagittal": 2, "coronal": 1}
"""Plane name to the (z, y, x) axis it cuts; arrays run towards right, anterior and superior."""


@dataclass(frozen=True)
class Tile:
    """One case, cut to its region, in RAS order; arrays (z, y, x).

    Attributes:
        title: what the row shows.
        image: intensities.
        labels: predicted label values.
        risk: error probability, or the ranking map scaled to 0..1 where there is none.
    """

    title: str
    image: np.ndarray
    labels: np.ndarray
    risk: np.ndarray


def draw_montage(tiles: Sequence[Tile], labels: Sequence[Label], path: Path, caption: str) -> None:
    """Draw one row a case: bare image, contours and error probability in two planes through the largest cut."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 3 * len(PLANES)
    size = (2.15 * columns + 0.9, 2.15 * len(tiles) + 1.1)
    figure, axes = pyplot.subplots(len(tiles), columns, figsize=size, squeeze=False, layout="constrained")
    shown = None
    for row, tile in zip(axes, tiles, strict=True):
        for number, (plane, axis) in enumerate(PLANES.items()):
            shown = _draw_plane(row[3 * number : 3 * number + 3], tile, labels, axis)
            for cell, what in zip(row[3 * number :], ("image", "contours", "error probability"), strict=False):
                if tile is tiles[0]:
                    cell.set_title(f"{plane}: {what}", fontsize=9)
        row[0].set_ylabel(tile.title, fontsize=9)
    bar = figure.colorbar(shown, ax=axes[:, -1].tolist(), shrink=0.9, pad=0.02, extend="max")
    bar.set_label("probability that the voxel is labelled wrongly", fontsize=9)
    bar.ax.tick_params(labelsize=7)
    _legend(figure, labels, caption)
    with whole_file(path) as work:
        figure.savefig(work, dpi=110, format="png", facecolor="white")
    pyplot.close(figure)


def _draw_plane(cells: Any, tile: Tile, labels: Sequence[Label], axis: int) -> Any:
    inside = (tile.labels > 0).sum(axis=tuple(a for a in range(3) if a != axis))
    index = int(inside.argmax()) if inside.any() else tile.labels.shape[axis] // 2
    image, drawn, risk = (np.take(array, index, axis) for array in (tile.image, tile.labels, tile.risk))
    low, high = np.percentile(tile.image, [1, 99.5])
    for cell in cells:
        cell.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
        _pad_to_square(cell, image.shape)
        cell.set_box_aspect(1)
        cell.set_facecolor("black")
        cell.set_xticks([])
        cell.set_yticks([])
    for cell in cells[1:]:
        _contours(cell, drawn, labels)
    return cells[2].imshow(
        np.ma.masked_less(risk, HIDDEN_BELOW),
        cmap=COLOR_MAP,
        vmin=WINDOW[0],
        vmax=WINDOW[1],
        alpha=0.8,
        origin="lower",
        interpolation="nearest",
    )


def _pad_to_square(cell: Any, shape: Sequence[int]) -> None:
    rows, columns = shape
    half = max(rows, columns) / 2
    cell.set_xlim(columns / 2 - half - 0.5, columns / 2 + half - 0.5)
    cell.set_ylim(rows / 2 - half - 0.5, rows / 2 + half - 0.5)


def _contours(cell: Any, drawn: np.ndarray, labels: Sequence[Label]) -> None:
    for label in labels[1:]:
        mask = drawn == label.value
        if mask.any():
            cell.contour(mask, [0.5], colors=[rgb(label)], linewidths=1.3)


def _legend(figure: Any, labels: Sequence[Label], caption: str) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=rgb(label), lw=2, label=label.name) for label in labels[1:]]
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines), fontsize=9, frameon=False)
    figure.supxlabel(caption, fontsize=8.5)


def rgb(label: Label) -> tuple[float, ...]:
    """A label's colour, each part 0 to 1."""
    return tuple(value / 255 for value in label.color)
