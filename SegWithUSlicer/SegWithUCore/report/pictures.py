"""Pictures of a report: cuts through image and error probability, with contours along the voxels' edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..io.planes import (
    TITLES,
    Grid,
    Plane,
    cut,
    grey_window,
    interpolated,
    letters,
    plane_across,
    positions,
    scale_mm,
    tinted,
    windowed,
)

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

Line = tuple[tuple[float, float], ...]
Corner = tuple[float, float]
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
        title: "axial", "coronal" or "sagittal"; of the nearest such plane where the grid is oblique.
        letters: the patient's sides at the top, right, bottom and left.
        edge_mm: length of its edges.
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
    volumes: Volumes,
    middle_zyx: Sequence[int],
    extent_mm: float,
    region: int | None = None,
) -> list[PlanePicture]:
    """Three cuts through a voxel, axial, coronal and sagittal, all of one scale and one grey window.

    Args:
        extent_mm: largest edge of what is to be seen.
        region: id of the region to be outlined.
    """
    edge_mm = max(LEAST_MM, AROUND * extent_mm)
    axes = sorted(range(3), key=lambda axis: "SAR".index(volumes.grid.axes[axis]))
    views = [_View(volumes, plane_across(axis, int(middle_zyx[axis]), volumes.grid), middle_zyx, edge_mm)
             for axis in axes]  # fmt: skip
    window = grey_window(np.concatenate([view.values[view.inside] for view in views]))
    return [view.picture(window, region) for view in views]


class _View:
    """One cut, resampled to the pixels of a picture."""

    def __init__(self, volumes: Volumes, plane: Plane, middle_zyx: Sequence[int], edge_mm: float) -> None:
        self._volumes, self._plane, self._middle = volumes, plane, middle_zyx
        self._edge_mm = edge_mm
        self._rows, self._columns = (
            positions(axis, flipped, middle_zyx, volumes.grid, edge_mm, EDGE_PIXELS)
            for axis, flipped in zip((plane.down, plane.right), plane.flipped, strict=True)
        )
        self.values, self.inside = interpolated(cut(volumes.image, plane), self._rows, self._columns)

    def picture(self, window: tuple[float, float], region: int | None) -> PlanePicture:
        """Draw the slice with contours and error probability.

        Args:
            window: lowest and highest grey value shown.
            region: id of the region that is outlined, None for none.
        """
        grey = windowed(self.values, self.inside, window)
        pixels = np.repeat(grey[..., None], 3, axis=2)
        if self._volumes.error_probability is not None:
            risk, _ = interpolated(
                np.maximum(cut(self._volumes.error_probability, self._plane), 0), self._rows, self._columns
            )
            pixels = tinted(pixels, np.where(self.inside, risk, 0), self._volumes.top)
        own = self._edges(self._volumes.labels)
        changed = {name: self._edges(labels) - own for name, labels in self._volumes.reviewed.items()}
        return PlanePicture(
            pixels,
            TITLES[self._volumes.grid.axes[self._plane.axis]],
            letters(self._plane, self._volumes.grid),
            self._edge_mm,
            self._structures(),
            {name: self._lines(edges) for name, edges in changed.items() if edges},
            self._region(region),
        )

    def _structures(self) -> dict[int, list[Line]]:
        """Contours of each structure that the cut shows."""
        values = [int(value) for value in np.unique(cut(self._volumes.labels, self._plane)) if value]
        return {value: self._lines(self._edges(self._volumes.labels, value)) for value in values}

    def _region(self, region: int | None) -> list[Line]:
        if region is None or self._volumes.regions is None:
            return []
        return self._lines(self._edges(self._volumes.regions, region))

    def _edges(self, labels: np.ndarray, value: int | None = None) -> "frozenset[Edge]":
        """Edges between voxels of different labels, or around those of one value."""
        voxels = cut(labels, self._plane)
        voxels = voxels if value is None else voxels == value
        (top, bottom), (left, right) = (
            _span(indices, size) for indices, size in zip((self._rows, self._columns), voxels.shape, strict=True)
        )
        return voxel_edges(voxels[top:bottom, left:right], top, left)

    def _lines(self, edges: "frozenset[Edge]") -> list[Line]:
        """Edges between voxels as lines in pixels."""
        spacing = self._volumes.grid.spacing_zyx
        scales = []
        for axis, flipped in zip((self._plane.down, self._plane.right), self._plane.flipped, strict=True):
            step = spacing[axis] / self._edge_mm * EDGE_PIXELS * (-1 if flipped else 1)
            scales.append((step, EDGE_PIXELS / 2 - self._middle[axis] * step))
        (row_step, row_start), (column_step, column_start) = scales
        return [
            tuple((x * column_step + column_start, y * row_step + row_start) for y, x in chain)
            for chain in chained(edges)
        ]


def _span(indices: np.ndarray, size: int) -> tuple[int, int]:
    """First and past-the-last voxel under the pixels, and one around them."""
    return max(0, int(np.floor(indices.min())) - 1), max(0, min(size, int(np.ceil(indices.max())) + 2))


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
        ahead = (2 * corner[0] - line[-2][0], 2 * corner[1] - line[-2][1]) if len(line) > 1 else None
        following = ahead if ahead in at[corner] else at[corner][0]
        at[corner].remove(following)
        at[following].remove(corner)
        if len(line) > 1 and _straight(line[-2], corner, following):
            line[-1] = following
        else:
            line.append(following)
        corner = following
    return tuple(line)


def _straight(first: Corner, second: Corner, third: Corner) -> bool:
    return first[0] == second[0] == third[0] or first[1] == second[1] == third[1]
