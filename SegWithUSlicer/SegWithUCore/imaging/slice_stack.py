"""From slices that lie anywhere in space to one volume: their order, and the grid they make up.

Points and directions are LPS millimetres, as DICOM has them (PS3.3, section C.7.6.2); what a user reads is RAS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

SAME_PLACE_MM = 0.01
"""Slices that are nearer to each other than this lie at one place: no scanner makes thinner ones."""
OFF_GRID = 0.05
"""How far a slice may lie from its place on an even grid, as a share of the step: headers round positions."""
SHIFTED = 0.1
"""How far slices may be shifted against each other within their plane, as a share of a pixel."""
_NAMED = 3
"""Gaps that a message names one by one."""


@dataclass(frozen=True)
class SliceGeometry:
    """Where the slices lie.

    Attributes:
        positions: centre of each slice's first pixel, (slices, 3).
        rows, columns: unit vectors along which the column number and the row number grow, (3,).
        pixel_mm: distance between columns, and between rows.
        size: columns and rows of a slice.
    """

    positions: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    pixel_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector at right angles to the slices; with rows and columns right-handed."""
        return np.cross(self.rows, self.columns)

    @property
    def along(self) -> np.ndarray:
        """Position of each slice along the normal in mm."""
        return np.asarray(self.positions @ self.normal)

    def place(self, number: int) -> tuple[str, float]:
        """Letter of the RAS axis nearest to the normal, and the coordinate of a slice's middle on it in mm."""
        axis = int(np.abs(self.normal).argmax())
        middle = self.positions[number].astype(float)
        for step, pixel, count in zip((self.rows, self.columns), self.pixel_mm, self.size, strict=True):
            middle = middle + step * pixel * (count - 1) / 2
        return "RAS"[axis], float(middle[axis] * (-1, -1, 1)[axis])

    def order(self) -> list[int]:
        """Slice numbers in ascending order along the normal."""
        return [int(n) for n in np.argsort(self.along, kind="stable")]

    def direction(self) -> list[float]:
        """The nearest rotation to rows, columns and normal, row by row: headers round them to a few digits."""
        left, _, right = np.linalg.svd(np.stack([self.rows, self.columns, self.normal], axis=1))
        return [float(v) for v in (left @ right).ravel()]

    def step_mm(self) -> float:
        """Mean distance between neighbouring slices; 0 for a single one."""
        return float(np.ptp(self.along)) / max(1, len(self.positions) - 1)


def millimetres(value: float) -> str:
    """A position in words: "12.0", "-3.75"."""
    return f"{round(value, 2) + 0.0:.2f}".removesuffix("0")


def repeated_places(geometry: SliceGeometry) -> list[tuple[int, int]]:
    """Pairs of neighbouring slices that lie at one place along the normal."""
    order, along = geometry.order(), geometry.along
    return [(a, b) for a, b in pairwise(order) if along[b] - along[a] <= SAME_PLACE_MM]


def uneven_stack(geometry: SliceGeometry) -> str | None:
    """Why the slices, all at different places, make up no even grid; None when they do.

    Returns:
        The end of a sentence whose subject is the series, with what to do.
    """
    if len(geometry.positions) < 2:
        return None
    order, along = geometry.order(), np.sort(geometry.along)
    steps = np.diff(along)
    step = float(np.sort(steps)[(len(steps) - 1) // 2])
    allowed = max(SAME_PLACE_MM, OFF_GRID * step)
    shift = _largest_shift(geometry)
    if shift > SHIFTED * min(geometry.pixel_mm):
        return (
            f"has slices that are shifted against each other by up to {shift:.2f} mm within their plane (a tilted "
            "gantry): resample it to right angles first, for example in Slicer's DICOM module"
        )
    counts = np.maximum(1, np.rint(steps / step))
    off = np.abs(steps - counts * step)
    if (off > 2 * allowed).any():
        return (
            f"has slices {millimetres(float(steps.min()))} to {millimetres(float(steps.max()))} mm apart: "
            "resample it to even spacing first"
        )
    gaps = [int(n) for n in np.flatnonzero(counts > 1)]
    if gaps:
        return f"has {_missing(geometry, order, gaps)}: copy the whole series"
    ideal = along[0] + np.arange(len(along)) * geometry.step_mm()
    drift = float(np.abs(along - ideal).max())
    if drift > allowed:
        return f"has slices up to {drift:.2f} mm away from even spacing: resample it to even spacing first"
    return None


def _largest_shift(geometry: SliceGeometry) -> float:
    offsets = geometry.positions - geometry.positions[geometry.order()[0]]
    within = offsets - np.outer(offsets @ geometry.normal, geometry.normal)
    return float(np.linalg.norm(within, axis=1).max())


def _missing(geometry: SliceGeometry, order: Sequence[int], gaps: Sequence[int]) -> str:
    named = []
    for gap in gaps[:_NAMED]:
        (letter, a), (_, b) = geometry.place(order[gap]), geometry.place(order[gap + 1])
        named.append(f"between {letter} = {millimetres(min(a, b))} and {millimetres(max(a, b))} mm")
    more = f" and at {len(gaps) - _NAMED} more places" if len(gaps) > _NAMED else ""
    return f"slices missing {', '.join(named)}{more}"
