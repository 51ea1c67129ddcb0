"""Pictures of a report: cuts through image and error probability, with contours along the voxels' edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..case.pictures import Grid, View, scale_mm, three_views

EDGE_PIXELS = 256
AROUND = 1.8
"""Edge of what is shown, as a multiple of the largest extent of the region."""
LEAST_MM = 36.0
"""Smallest edge shown, so that a tiny region is seen with its surroundings."""
REGION_LINE = ("#39ff14", "")
"""Colour and dashes of a region's outline."""
REVIEWED_LINES = (("#ffffff", "5 3"), ("#f0a0d0", "1.5 2.5"))
"""Those of reviewers' contours, distinguished by both; more reviewers are not drawn."""
CASING = "#00000099"
"""Under each line, so that it is seen on bright and dark ground."""

Corner = tuple[float, float]
Line = tuple[Corner, ...]
Edge = tuple[Corner, Corner]
"""From corner to corner of a voxel, (down, right) in voxel indices, whose centres are whole numbers."""


@dataclass(frozen=True)
class Volumes:
    """What the pictures are made from; arrays (z, y, x) of one shape.

    Attributes:
        image: intensities.
        labels: of the model.
        error_probability: negative where not assessed; None without calibration.
        reviewed: labels of each reviewer who changed them.
        regions: region id of each voxel, 0 outside; None without regions.
        grid: how they lie in the patient.
        top: error probability of the strongest tint.
    """

    image: np.ndarray
    labels: np.ndarray
    error_probability: np.ndarray | None
    reviewed: Mapping[str, np.ndarray]
    regions: np.ndarray | None
    grid: Grid
    top: float = 0.5


@dataclass(frozen=True)
class PlanePicture:
    """One cut, with what is drawn over it in pixels of the picture.

    Attributes:
        pixels: RGB, (rows, columns, 3), uint8.
        title, letters, edge_mm: as those of a `View`.
        model: contours of each of the model's structures by label value, lines of (x, y).
        reviewed: those of each reviewer, where they differ from the model's.
        region: outline of the region that it is about.
    """

    pixels: np.ndarray
    title: str
    letters: tuple[str, str, str, str]
    edge_mm: float
    model: Mapping[int, Sequence[Line]]
    reviewed: Mapping[str, Sequence[Line]]
    region: Sequence[Line] = ()

    @property
    def scale_mm(self) -> float:
        """Length of its scale bar."""
        return scale_mm(self.edge_mm)


def pictures_around(
    volumes: Volumes, middle_zyx: Sequence[int], extent_mm: float, region: int | None = None
) -> list[PlanePicture]:
    """Three cuts through a voxel, axial, coronal and sagittal, all of one scale and one grey window.

    Args:
        extent_mm: largest edge of what is to be seen.
        region: id of the region to be outlined.
    """
    edge_mm = max(LEAST_MM, AROUND * extent_mm)
    views, window = three_views(volumes.image, volumes.grid, middle_zyx, middle_zyx, edge_mm, EDGE_PIXELS)
    return [_picture(volumes, view, window, middle_zyx, region) for view in views]


def _picture(
    volumes: Volumes, view: View, window: tuple[float, float], middle_zyx: Sequence[int], region: int | None
) -> PlanePicture:
    def lines(edges: "frozenset[Edge]") -> list[Line]:
        return _in_pixels(chained(edges), view, volumes.grid, middle_zyx)

    own = _edges(view, volumes.labels)
    changed = {name: _edges(view, labels) - own for name, labels in volumes.reviewed.items()}
    values = [int(value) for value in np.unique(view.cut(volumes.labels)) if value]
    drawn = region is not None and volumes.regions is not None
    return PlanePicture(
        view.with_risk(window, volumes.error_probability, volumes.top),
        view.title,
        view.letters,
        view.edge_mm,
        {value: lines(_edges(view, volumes.labels, value)) for value in values},
        {name: lines(edges) for name, edges in changed.items() if edges},
        lines(_edges(view, volumes.regions, region)) if drawn and volumes.regions is not None else [],
    )


def _edges(view: View, labels: np.ndarray, value: int | None = None) -> "frozenset[Edge]":
    """Edges under the pixels between voxels of different labels, or around those of one value."""
    voxels = view.cut(labels)
    voxels = voxels if value is None else voxels == value
    (top, bottom), (left, right) = (
        (max(0, int(np.floor(indices.min())) - 1), max(0, min(size, int(np.ceil(indices.max())) + 2)))
        for indices, size in zip((view.rows, view.columns), voxels.shape, strict=True)
    )
    return voxel_edges(voxels[top:bottom, left:right], top, left)


def _in_pixels(lines: Sequence[Line], view: View, grid: Grid, middle_zyx: Sequence[int]) -> list[Line]:
    """Lines of (down, right) in voxels as lines of (x, y) in pixels."""
    (down, top), (right, left) = (
        (step, EDGE_PIXELS / 2 - middle_zyx[axis] * step)
        for axis, flipped in zip(view.axes, view.flipped, strict=True)
        for step in [grid.spacing_zyx[axis] / view.edge_mm * EDGE_PIXELS * (-1 if flipped else 1)]
    )
    return [tuple((x * right + left, y * down + top) for y, x in line) for line in lines]


def voxel_edges(labels: np.ndarray, top: int = 0, left: int = 0) -> frozenset[Edge]:
    """Find the edges between voxels of different labels in a cut (down, right) that begins at voxel (top, left)."""
    found: list[Edge] = []
    for r, c in np.argwhere(labels[1:] != labels[:-1]).tolist():
        y, x = top + r + 0.5, float(left + c)
        found.append(((y, x - 0.5), (y, x + 0.5)))
    for r, c in np.argwhere(labels[:, 1:] != labels[:, :-1]).tolist():
        y, x = float(top + r), left + c + 0.5
        found.append(((y - 0.5, x), (y + 0.5, x)))
    return frozenset(found)


def chained(edges: frozenset[Edge]) -> list[Line]:
    """Edges joined to lines as long as can be, with the corners where they turn."""
    at: dict[Corner, list[Corner]] = {}
    for first, second in sorted(edges):
        at.setdefault(first, []).append(second)
        at.setdefault(second, []).append(first)
    lines: list[Line] = []
    ends = [corner for corner, others in at.items() if len(others) % 2]
    for start in [*ends, *at]:
        while at[start]:
            lines.append(_walk(start, at))
    return lines


def _walk(corner: Corner, at: dict[Corner, list[Corner]]) -> Line:
    """One line from a corner on, straight where it can; takes its edges away."""
    line = [corner]
    while at[corner]:
        before = line[-2] if len(line) > 1 else None
        ahead = before and (2 * corner[0] - before[0], 2 * corner[1] - before[1])
        following = ahead if ahead in at[corner] else at[corner][0]
        at[corner].remove(following)
        at[following].remove(corner)
        if before and any(before[side] == corner[side] == following[side] for side in (0, 1)):
            line[-1] = following
        else:
            line.append(following)
        corner = following
    return tuple(line)
