"""Pictures of the worst cases of an evaluation.

Each shows image, reference and prediction, and the error probability with what is wrong outlined.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.io.volume import image_on_grid
from SegWithUCore.models.input_spec import Label

from .case_metrics import OUR_SCORE, UNSEEN_BELOW, CaseMeasurement

HIDDEN_BELOW = 0.1
"""Error probability under which the overlay is transparent, so that anatomy stays visible."""
WINDOW = (0.0, 0.5)
"""From certain to an even chance; the same for every case."""
COLOR_MAP = "inferno"
ORIENTATION = "LPS"


def rgb(label: Label) -> tuple[float, ...]:
    """Return a label's colour, each part 0 to 1."""
    return tuple(value / 255 for value in label.color)


KEPT = 3
"""Cases of each kind."""


@dataclass(frozen=True)
class WorstCase:
    """One case for a picture; arrays (z, y, x) towards superior, posterior and left.

    Attributes:
        name, why: which case, and one sentence that says why it is shown.
        badness: by which it was chosen.
        image: intensities of the first channel.
        predicted, truth: class indices.
        risk: error probability, or the ranking map scaled to 0..1 where there is none.
        marked, mark: the wrong voxels that the picture is about, and the word for them.
        spacing_zyx: in mm.
    """

    name: str
    why: str
    badness: float
    image: np.ndarray
    predicted: np.ndarray
    truth: np.ndarray
    risk: np.ndarray
    marked: np.ndarray
    mark: str
    spacing_zyx: tuple[float, float, float]


@dataclass
class WorstCases:
    """The cases to look at first.

    Attributes:
        by_dice: lowest mean Dice.
        by_unseen: greatest volume wrong under an error probability of `UNSEEN_BELOW`; none without error probability.
    """

    by_dice: list[WorstCase] = field(default_factory=list)
    by_unseen: list[WorstCase] = field(default_factory=list)

    def see(self, name: str, case: CaseMeasurement, image: sitk.Image, risk: float) -> None:
        """Keep the case if it is among the worst so far.

        Args:
            image: first channel, on the grid of the prediction.
            risk: 1 - mean Dice.
        """
        if np.isfinite(risk):
            _keep(self.by_dice, risk, name, f"mean Dice {1 - risk:.3f}", case, image, case.error, "wrong")
        if OUR_SCORE in case.scores and case.error.any():
            unseen = case.error & (case.scores[OUR_SCORE] < UNSEEN_BELOW)
            volume = float(np.count_nonzero(unseen)) * case.prediction.voxel_mm3
            share = np.count_nonzero(unseen) / np.count_nonzero(case.error)
            why = (
                f"{volume:.0f} mm³ wrong at an error probability below {UNSEEN_BELOW:g}, {100 * share:.0f} % of what "
                "is wrong"
            )
            _keep(self.by_unseen, volume, name, why, case, image, unseen, "wrong and unseen")

    def include(self, other: "WorstCases") -> None:
        """Keep of another's cases those that are among the worst."""
        for own, new in ((self.by_dice, other.by_dice), (self.by_unseen, other.by_unseen)):
            own += new
            own.sort(key=lambda case: -case.badness)
            del own[KEPT:]


SLICES = {0: ("axial", "LR", "AP"), 1: ("coronal", "LR", "SI"), 2: ("sagittal", "PA", "SI")}
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


def _keep(
    kept: list[WorstCase],
    badness: float,
    name: str,
    why: str,
    case: CaseMeasurement,
    image: sitk.Image,
    marked: np.ndarray,
    mark: str,
) -> None:
    if badness <= 0 or (len(kept) == KEPT and badness <= kept[-1].badness):
        return
    arrays = [case.prediction.classes, case.truth.astype(np.uint8), _displayed_plane(case), marked.astype(np.uint8)]
    parts = [image, *(image_on_grid(np.ascontiguousarray(array), image) for array in arrays)]
    turned = [sitk.DICOMOrient(part, ORIENTATION) for part in parts]
    picture, predicted, truth, risk, wrong = (sitk.GetArrayFromImage(part) for part in turned)
    x, y, z = turned[0].GetSpacing()
    kept.append(WorstCase(name, why, badness, picture, predicted, truth, risk, wrong > 0, mark, (z, y, x)))
    kept.sort(key=lambda worst: -worst.badness)
    del kept[KEPT:]


def _displayed_plane(case: CaseMeasurement) -> np.ndarray:
    if OUR_SCORE in case.scores:
        return case.scores[OUR_SCORE]
    ranking = case.prediction.ranking
    span = float(ranking.max() - ranking.min()) or 1.0
    return (ranking - ranking.min()) / span


def _height(worst: WorstCase, axis: int) -> float:
    """Height over width of a cut, in mm; kept within what still shows something."""
    rows, columns = (worst.image.shape[place] * worst.spacing_zyx[place] for place in range(3) if place != axis)
    return min(max(rows / columns, 0.4), 1.6)


def _draw_cut(cells: Any, worst: WorstCase, labels: Sequence[Label], axis: int, index: int) -> Any:
    plane, across, along = SLICES[axis]
    origin = "upper" if axis == 0 else "lower"  # rows of axial slices run towards posterior
    arrays = (worst.image, worst.predicted, worst.truth, worst.risk, worst.marked)
    image, predicted, truth, risk, marked = (np.take(array, index, axis) for array in arrays)
    steps = [step for place, step in enumerate(worst.spacing_zyx) if place != axis]
    low, high = np.percentile(worst.image, [1, 99.5])
    for cell in cells:
        cell.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), origin=origin, interpolation="nearest")
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
        origin=origin,
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
    positions = ((0.97, 0.5, across[0]), (0.03, 0.5, across[1]), (0.5, 0.96, along[0]), (0.5, 0.04, along[1]))
    for x, y, letter in positions:
        text = cell.text(x, y, letter, transform=cell.transAxes, color="white", fontsize=8, ha="center", va="center")
        text.set_path_effects(edge)
