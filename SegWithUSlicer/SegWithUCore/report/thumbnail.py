"""Cuts through a volume, upright as in Slicer's views and in true proportions, and thumbnails of regions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..atomic_files import atomic_file
from ..regions.region import Region

PERCENTILES = (1.0, 99.0)
"""Of the intensities shown, drawn black and white."""
OUTSIDE = 0
"""Grey value beyond the image."""
ROW_DOWN, COLUMN_RIGHT = {"S": "I", "A": "P"}, {"R": "L", "A": "P"}
"""The way a picture runs, as Slicer's views do: superior or anterior at the top, the patient's right or anterior at the
left."""
OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
_NAMES = {"L": "R", "P": "A", "I": "S"}
EDGE_PIXELS = 96
AROUND = 1.8
"""Edge of what is shown, as a multiple of the region's larger extent in the plane."""
LEAST_MM = 24.0
"""Smallest edge shown, so that a tiny region is seen with its surroundings."""
TINT, TINT_SHARE = (255, 140, 0), 0.35
CONTOUR = (0, 230, 230)


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
    """A cut through the grid: its axis and index, the axes that run down and right, and whether they are flipped."""

    axis: int
    index: int
    down: int
    right: int
    flipped: tuple[bool, bool]


def plane_across(axis: int, index: int, grid: Grid) -> Plane:
    """Define the cut at an index of an axis."""
    names = grid.axes
    down = names.index("S" if names[axis] != "S" else "A")
    right = next(a for a in range(3) if a not in (axis, down))
    flipped = (
        grid.towards_zyx[down] != ROW_DOWN[names[down]],
        grid.towards_zyx[right] != COLUMN_RIGHT[names[right]],
    )
    return Plane(axis, index, down, right, flipped)


def cut(array: np.ndarray, plane: Plane) -> np.ndarray:
    """Return the voxels of the plane, (down, right)."""
    voxels = np.moveaxis(array, plane.axis, 0)[plane.index]
    return voxels if plane.down < plane.right else voxels.T


def positions(
    axis: int, flipped: bool, middle_zyx: Sequence[int], grid: Grid, edge_mm: float, pixels: int
) -> np.ndarray:
    """Continuous voxel index of each row or column of a picture of `edge_mm` around a voxel."""
    offsets = ((np.arange(pixels) + 0.5) / pixels - 0.5) * edge_mm / grid.spacing_zyx[axis]
    found: np.ndarray = middle_zyx[axis] + (-offsets if flipped else offsets)
    return found


def nearest(voxels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Look up the voxel under each pixel; 0 beyond the image."""
    at = [np.floor(p + 0.5).astype(int) for p in (rows, columns)]
    inside = [(index >= 0) & (index < size) for index, size in zip(at, voxels.shape, strict=True)]
    picked = voxels[np.ix_(*(np.clip(index, 0, size - 1) for index, size in zip(at, voxels.shape, strict=True)))]
    return np.where(np.logical_and.outer(*inside), picked, 0)


def interpolated(voxels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intensity under each pixel, linear between voxel centres, and which pixels lie in the image."""
    values = np.nan_to_num(voxels.astype(np.float64), posinf=0.0, neginf=0.0)
    for axis, indices in enumerate((rows, columns)):
        below = np.clip(np.floor(indices).astype(int), 0, values.shape[axis] - 1)
        above = np.minimum(below + 1, values.shape[axis] - 1)
        share = np.clip(indices - below, 0.0, 1.0)
        share = share[:, None] if axis == 0 else share
        values = np.take(values, below, axis) * (1 - share) + np.take(values, above, axis) * share
    inside = [(p >= -0.5) & (p < size - 0.5) for p, size in zip((rows, columns), voxels.shape, strict=True)]
    return values, np.logical_and.outer(*inside)


def grey_window(shown: np.ndarray) -> tuple[float, float]:
    """Choose the intensities drawn black and white if `shown` are on view."""
    low, high = np.percentile(shown, PERCENTILES) if shown.size else (0.0, 1.0)
    return float(low), float(high)


def windowed(values: np.ndarray, inside: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Grey values 0 to 255."""
    low, high = window
    scaled = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    return np.where(inside, np.rint(np.clip(scaled, 0, 1) * 255), OUTSIDE).astype(np.uint8)


def thumbnail(
    image: np.ndarray,
    labels: np.ndarray,
    region_labels: np.ndarray,
    region: Region,
    peak_zyx: Sequence[int],
    grid: Grid,
    edge_pixels: int = EDGE_PIXELS,
) -> np.ndarray:
    """Draw a region in the plane in which it extends most, through its peak. Takes as long for any size of image.

    Args:
        image: intensities, (z, y, x) like all arrays here.
        labels: predicted label values, outlined.
        region_labels: region id of each voxel; those of `region` are tinted.
        peak_zyx: index of the voxel in the middle of the picture, the region's peak.

    Returns:
        RGB, (rows, columns, 3), uint8, `edge_pixels` square.
    """
    extent = region.size_mm[::-1]
    plane = _plane(extent, peak_zyx, grid)
    edge_mm = max(LEAST_MM, AROUND * max(extent[plane.down], extent[plane.right]))
    rows, columns = (
        positions(axis, flipped, peak_zyx, grid, edge_mm, edge_pixels)
        for axis, flipped in zip((plane.down, plane.right), plane.flipped, strict=True)
    )
    values, inside = interpolated(cut(image, plane), rows, columns)
    grey = windowed(values, inside, grey_window(values[inside]))
    picture = np.repeat(grey[..., None], 3, axis=2)
    _tint(picture, nearest(cut(region_labels, plane), rows, columns) == region.id)
    picture[_outline(nearest(cut(labels, plane), rows, columns))] = CONTOUR
    return picture


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write an RGB picture (rows, columns, 3), uint8, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    from PIL import Image  # Slicer's window does without it until it is needed

    with atomic_file(path) as work:
        Image.fromarray(picture).save(work, "PNG")


def _plane(extent: Sequence[float], peak_zyx: Sequence[int], grid: Grid) -> Plane:
    """Choose the plane across the shortest edge; of equal ones the axial, then the coronal."""
    axis = min(range(3), key=lambda a: (extent[a], "SAR".index(grid.axes[a])))
    return plane_across(axis, int(peak_zyx[axis]), grid)


def _tint(picture: np.ndarray, where: np.ndarray) -> None:
    mixed = picture[where] * (1 - TINT_SHARE) + np.asarray(TINT) * TINT_SHARE
    picture[where] = np.rint(mixed).astype(np.uint8)


def _outline(labels: np.ndarray) -> np.ndarray:
    """Pixels at the inner side of a structure's edge."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge: np.ndarray = (middle > 0) & np.logical_or.reduce([middle != other for other in neighbours])
    return edge
