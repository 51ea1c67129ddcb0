"""Cuts through a volume as pictures: upright as in Slicer's views, in true proportions, with a tint for the error.

The patient's right is at the left of axial and coronal pictures (radiological convention), in every picture of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..util.atomic_files import atomic_file
from ..util.plane_files import Planes
from ..util.plane_files import plane_across as voxels_across

TINT_FROM = 0.05
"""Error probability from which the tint begins."""
TINT_LOW, TINT_HIGH = (255, 176, 0), (213, 60, 0)
"""Colours at both ends, which differ in brightness too."""
TINT_SHARES = (0.15, 0.75)
"""How much of the pixel is tint at both ends."""
BAR_SHARE = 0.35
"""Of the picture's edge, that a scale bar may be long."""
TITLES = {"S": "axial", "A": "coronal", "R": "sagittal"}
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


def cut(volume: Planes, plane: Plane) -> np.ndarray:
    """Return the voxels of the plane, (down, right)."""
    voxels = voxels_across(volume, plane.axis, plane.index)
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


def letters(plane: Plane, grid: Grid) -> tuple[str, str, str, str]:
    """Return the patient's sides at the top, right, bottom and left of a picture."""
    down, right = (
        OPPOSITE[grid.towards_zyx[axis]] if flipped else grid.towards_zyx[axis]
        for axis, flipped in zip((plane.down, plane.right), plane.flipped, strict=True)
    )
    return OPPOSITE[down], right, down, OPPOSITE[right]


def outline(labels: np.ndarray) -> np.ndarray:
    """Pixels at the inner side of a structure's edge."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge: np.ndarray = (middle > 0) & np.logical_or.reduce([middle != other for other in neighbours])
    return edge


def tinted(pixels: np.ndarray, risk: np.ndarray, top: float) -> np.ndarray:
    """RGB pixels (uint8) with the error probability over them."""
    is_tinted = risk > TINT_FROM
    strength = np.clip((risk[is_tinted] - TINT_FROM) / max(top - TINT_FROM, 1e-6), 0, 1)[..., None]
    colour = np.asarray(TINT_LOW) * (1 - strength) + np.asarray(TINT_HIGH) * strength
    share = TINT_SHARES[0] * (1 - strength) + TINT_SHARES[1] * strength
    mixed = pixels.copy()
    mixed[is_tinted] = np.rint(pixels[is_tinted] * (1 - share) + colour * share)
    return mixed


def tint_stops() -> list[tuple[float, tuple[int, int, int]]]:
    """Colours of the error probability over middle grey, from its lower end (0) to its upper (1)."""
    stops = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        colour = np.asarray(TINT_LOW) * (1 - share) + np.asarray(TINT_HIGH) * share
        tint = TINT_SHARES[0] * (1 - share) + TINT_SHARES[1] * share
        red, green, blue = np.rint(128 * (1 - tint) + colour * tint).astype(int).tolist()
        stops.append((share, (red, green, blue)))
    return stops


def scale_mm(edge_mm: float) -> float:
    """Length of a scale bar: the longest of 1, 2 and 5 times a power of ten that fits."""
    most = edge_mm * BAR_SHARE
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most))


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write an RGB picture (rows, columns, 3), uint8, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    from PIL import Image  # Slicer's window does without it until it is needed

    with atomic_file(path) as work:
        Image.fromarray(picture).save(work, "PNG")
