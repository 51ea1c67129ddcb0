"""Voxel grids: geometry of an image without its voxels, and the one check that every grid must pass."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError

ORTHONORMAL = 1e-3
"""Largest difference of the axes' scalar products from 0 and 1: headers in single precision stay below 1e-5, and
programs that write directions with few digits below 1e-3."""
SPACING_MM = (0.001, 100.0)
ORIGIN_MM = 10_000.0
"""Largest distance of the first voxel from the origin of the space: no scanner is that large."""
SAME_PLACE = 0.05
"""Share of a voxel by which corners of two grids at one place differ at most: formats round, and programs that read one
DICOM series do not agree on all digits."""
_REMEDY = "check how the file was made, and export or convert the image again"


def check_grid(path: Path, image: sitk.Image) -> None:
    """Refuse an image whose grid cannot be that of a patient's image; left-handed axes are valid.

    Args:
        path: what it was read from, a file or the folder of a DICOM series.
        image: its first three axes are checked; one of fewer, which has no position in space, passes.

    Raises:
        InputError: no voxels; size, position or direction not finite; voxels below 0.001 or above 100 mm; the first
            10 m or more away from the origin; or axes that are not at right angles.
    """
    count = image.GetDimension()
    if count < 3:
        return
    direction = np.reshape(image.GetDirection(), (count, count))[:3, :3]
    check_geometry(path, image.GetSize(), image.GetSpacing()[:3], image.GetOrigin()[:3], direction)


def check_geometry(
    path: Path, size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: np.ndarray
) -> None:
    """Check a grid as `check_grid` does, before there is an image.

    Args:
        spacing: mm.
        origin: of the first voxel, mm.
        direction: one axis a column, each of length 1.

    Raises:
        InputError: as `check_grid`.
    """
    if min(size) < 1:
        raise InputError(f"{path} has {times(size)} voxels: {_REMEDY}.")
    for what, values in {"voxel size": spacing, "origin": origin, "direction": np.ravel(direction).tolist()}.items():
        if not np.isfinite(values).all():
            raise InputError(f"{path} has {_listed(values)} as its {what}, which are not all numbers: {_REMEDY}.")
    low, high = SPACING_MM
    if min(spacing) < low or max(spacing) > high:
        raise InputError(f"{path} has a voxel size of {times(spacing)} mm, outside {low} to {high:g} mm: {_REMEDY}.")
    distance = math.hypot(*origin)
    if distance >= ORIGIN_MM:
        raise InputError(f"{path} begins {distance:.4g} mm from the origin, not within {ORIGIN_MM:g}: {_REMEDY}.")
    if problem := skew(direction):
        raise InputError(f"{path} {problem}, so it is no grid of boxes: resample it, or {_REMEDY}.")


def skew(direction: np.ndarray) -> str:
    """Say what is wrong with axes, one a column, in words that follow a name; empty if they are orthonormal."""
    products = direction.T @ direction
    lengths = np.sqrt(np.diag(products))
    if np.abs(products - np.eye(len(products))).max() <= ORTHONORMAL:
        return ""
    cosines = np.abs(np.triu(products / np.outer(lengths, lengths), 1))
    if cosines.max() <= ORTHONORMAL:
        return f"has axes whose directions have the lengths {times(lengths.tolist())} instead of 1"
    angle = math.degrees(math.acos(min(1.0, float(cosines.max()))))
    return f"has axes at an angle of {angle:.4g} degrees instead of 90 (sheared)"


def check_scalar_volume(path: Path, size: Sequence[int], values: int = 1, is_complex: bool = False) -> None:
    """Refuse what is no volume of one real number a voxel.

    Args:
        size: voxels along each axis.
        values: numbers a voxel.

    Raises:
        InputError: 2D, 4D and more, colours, vectors, or complex voxels.
    """
    if len(size) != 3:
        sizes = " x ".join(str(n) for n in size)
        raise InputError(f"{path} is {len(size)}D ({sizes}): give one 3D volume, for a sequence one of its frames.")
    if is_complex:
        raise InputError(f"{path} holds complex voxels: give the magnitude image.")
    if values != 1:
        raise InputError(f"{path} holds {values} values a voxel: give one scalar file a channel.")


def times(values: Sequence[float]) -> str:
    """Numbers such as sizes, for messages."""
    return " x ".join(f"{value:.5g}" for value in values)


def _listed(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in values) + ")"


@dataclass(frozen=True)
class VoxelGrid:
    """Size, spacing (mm), origin (LPS mm) and direction (row by row) of an image; axes (i, j, k).

    Where `placed` is false only size and spacing within slices are known.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    placed: bool = True

    @classmethod
    def of(cls, image: "sitk.Image | VoxelGrid") -> "VoxelGrid":
        """Return the grid of a 3D image, exactly; a grid is its own."""
        if isinstance(image, VoxelGrid):
            return image
        i, j, k = (int(n) for n in image.GetSize())
        return cls((i, j, k), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "VoxelGrid":
        """Return the grid that `facts` describes.

        Raises:
            LookupError, TypeError, ValueError: a value is missing or not what it should be.
        """
        i, j, k = (int(n) for n in facts["size_ijk"])
        lengths = {"spacing_mm": 3, "origin_lps_mm": 3, "direction_lps": 9}
        values = (tuple(np.asarray(facts[key], float).reshape(n).tolist()) for key, n in lengths.items())
        spacing, origin, direction = values
        return cls((i, j, k), spacing, origin, direction)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Shape of an array of all voxels."""
        i, j, k = self.size
        return k, j, i

    @property
    def voxels(self) -> int:
        """How many there are."""
        return math.prod(self.size)

    @cached_property
    def stand_in(self) -> sitk.Image:
        """An image of 1 x 2 x 3 voxels that lies and points as this grid does: its sizes distinguish its axes."""
        return self.put_on(sitk.Image([1, 2, 3], sitk.sitkUInt8))

    def put_on(self, image: sitk.Image) -> sitk.Image:
        """Give an image this grid's spacing, origin and direction; returns the image."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    def image(self, array: np.ndarray) -> sitk.Image:
        """Wrap an array (z, y, x) of all voxels."""
        return self.put_on(sitk.GetImageFromArray(np.ascontiguousarray(array)))

    def axes_after(self, change: Callable[[sitk.Image], sitk.Image]) -> "VoxelGrid":
        """Sizes, spacings and directions after a change that turns axes or moves the whole; its origin says nothing."""
        changed = change(self.stand_in)
        i, j, k = (self.size[number - 1] for number in changed.GetSize())
        return VoxelGrid((i, j, k), changed.GetSpacing(), changed.GetOrigin(), changed.GetDirection())

    def continuous_index(self, point_lps: Sequence[float]) -> Sequence[float]:
        """Compute the index (i, j, k) of a point, which may lie between voxels or outside."""
        return self.stand_in.TransformPhysicalPointToContinuousIndex(point_lps)

    def point(self, index: Sequence[int]) -> Sequence[float]:
        """Compute the point (LPS mm) of a voxel's centre."""
        return self.stand_in.TransformIndexToPhysicalPoint([int(n) for n in index])

    def offset_on(self, other: "VoxelGrid") -> tuple[int, int, int] | None:
        """Return the index that the first voxel has on another grid, also beyond its ends.

        Returns:
            None where the voxels of the two are not the same boxes (`SAME_PLACE`).
        """
        ends = np.vstack([np.zeros(3), np.diag(self.size)])
        there = np.array([other.continuous_index(self.point(end)) for end in ends])
        first = np.rint(there[0])
        if np.abs(there - ends - first).max() > SAME_PLACE:
            return None
        i, j, k = (int(n) for n in first)
        return i, j, k

    def is_at(self, other: "VoxelGrid") -> bool:
        """Whether both have the same voxels."""
        return self.size == other.size and self.offset_on(other) == (0, 0, 0)

    @property
    def place(self) -> str:
        """Size, voxel size and position in words."""
        ends = ((0, 0, 0), np.subtract(self.size, 1).tolist())
        first, last = (_listed([0.0 - r, 0.0 - a, s]) for r, a, s in map(self.point, ends))
        return f"{times(self.size)} voxels of {times(self.spacing)} mm from RAS {first} to {last} mm"

    @property
    def orientation(self) -> str:
        """The three letters towards which the axes run, such as "RAS" (nearest, for oblique grids)."""
        return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.direction))

    def facts(self) -> dict[str, list[float]]:
        """Size, spacing (mm), origin and direction (LPS, row by row) as JSON values."""
        return {
            "size_ijk": list(self.size),
            "spacing_mm": list(self.spacing),
            "origin_lps_mm": list(self.origin),
            "direction_lps": list(self.direction),
        }


def turned_like(image: sitk.Image, grid: sitk.Image | VoxelGrid) -> sitk.Image:
    """Store an image's axes in the order and directions of a grid's, values and position unchanged.

    Axes at an angle to those of `grid` stay at that angle: see `check_same_grid`.
    """
    cosines = np.reshape(VoxelGrid.of(grid).direction, (3, 3)).T @ np.reshape(image.GetDirection(), (3, 3))
    order = np.abs(cosines).argmax(1)  # by axis of `grid`
    if len(set(order.tolist())) < 3:
        return image
    flips = (cosines[range(3), order] < 0).tolist()
    turned = image if order.tolist() == [0, 1, 2] else sitk.PermuteAxes(image, order.tolist())
    return sitk.Flip(turned, flips) if any(flips) else turned
