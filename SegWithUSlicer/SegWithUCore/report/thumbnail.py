"""Cuts through a volume as pictures: upright as Slicer's views are, in the true proportions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PERCENTILES = (1.0, 99.0)
"""Of the intensities shown, drawn black and white."""
OUTSIDE = 0
"""Grey value beyond the image."""
ROW_DOWN, COLUMN_RIGHT = {"S": "I", "A": "P"}, {"R": "L", "A": "P"}
"""The way a picture runs, as Slicer's views do: superior or anterior at the top, the patient's right or anterior at the
left."""
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
_NAMES = {"L": "R", "P": "A", "I": "S"}


@dataclass(frozen=True)
class Grid:
    """How an array (z, y, x) lies in the patient.

    Attributes:
        spacing_zyx: mm.
        towards_zyx: the patient's side that each axis runs to, of L, R, A, P, S, I, for example "SPL".
    """

    spacing_zyx: tuple[float, float, float]
    towards_zyx: str

    @property
    def axes(self) -> list[str]:
        """The line that each axis runs along: R, A or S."""
        return [_NAMES.get(side, side) for side in self.towards_zyx]


@dataclass(frozen=True)
class Plane:
    """A cut through the grid: its axis and place, the axes that run down and right, and whether they are turned."""

    axis: int
    place: int
    down: int
    right: int
    turned: tuple[bool, bool]


def plane_across(axis: int, place: int, grid: Grid) -> Plane:
    """The cut at index `place` of an axis."""
    names = grid.axes
    down = names.index("S" if names[axis] != "S" else "A")
    right = next(a for a in range(3) if a not in (axis, down))
    turned = (
        grid.towards_zyx[down] != ROW_DOWN[names[down]],
        grid.towards_zyx[right] != COLUMN_RIGHT[names[right]],
    )
    return Plane(axis, place, down, right, turned)


def cut(array: np.ndarray, plane: Plane) -> np.ndarray:
    """The voxels of the plane, (down, right)."""
    voxels = np.moveaxis(array, plane.axis, 0)[plane.place]
    return voxels if plane.down < plane.right else voxels.T


def positions(
    axis: int, turned: bool, middle_zyx: Sequence[int], grid: Grid, edge_mm: float, pixels: int
) -> np.ndarray:
    """Continuous voxel index of each row or column of a picture of `edge_mm` around a voxel."""
    offsets = ((np.arange(pixels) + 0.5) / pixels - 0.5) * edge_mm / grid.spacing_zyx[axis]
    found: np.ndarray = middle_zyx[axis] + (-offsets if turned else offsets)
    return found


def nearest(voxels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The voxel under each pixel; 0 beyond the image."""
    at = [np.floor(p + 0.5).astype(int) for p in (rows, columns)]
    inside = [(index >= 0) & (index < size) for index, size in zip(at, voxels.shape, strict=True)]
    picked = voxels[np.ix_(*(np.clip(index, 0, size - 1) for index, size in zip(at, voxels.shape, strict=True)))]
    return np.where(np.logical_and.outer(*inside), picked, 0)


def interpolated(voxels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intensity under each pixel, linear between voxel centres, and which pixels lie in the image."""
    values = np.nan_to_num(voxels.astype(np.float64), posinf=0.0, neginf=0.0)
    for axis, places in enumerate((rows, columns)):
        below = np.clip(np.floor(places).astype(int), 0, values.shape[axis] - 1)
        above = np.minimum(below + 1, values.shape[axis] - 1)
        share = np.clip(places - below, 0.0, 1.0)
        share = share[:, None] if axis == 0 else share
        values = np.take(values, below, axis) * (1 - share) + np.take(values, above, axis) * share
    inside = [(p >= -0.5) & (p < size - 0.5) for p, size in zip((rows, columns), voxels.shape, strict=True)]
    return values, np.logical_and.outer(*inside)


def grey_window(shown: np.ndarray) -> tuple[float, float]:
    """The intensities drawn black and white where `shown` are on view."""
    low, high = np.percentile(shown, PERCENTILES) if shown.size else (0.0, 1.0)
    return float(low), float(high)


def windowed(values: np.ndarray, inside: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Grey values 0 to 255."""
    low, high = window
    scaled = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    return np.where(inside, np.rint(np.clip(scaled, 0, 1) * 255), OUTSIDE).astype(np.uint8)
