"""Region of interest: a box in patient space and the box of voxels that it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError
from .grid import VoxelGrid
from .volume import apply_transform, ras_to_lps

EDGE_TOLERANCE = 1e-4
"""Voxels: a centre this close to a face of the region counts as on it, whatever the header's rounding."""


@dataclass(frozen=True)
class RegionOfInterest:
    """A box along the patient's axes.

    Attributes:
        centre_ras_mm: centre.
        size_mm: full edge lengths along R, A and S.
        along_voxels: the edges run along the nearest axes of the voxels instead, so that the box of voxels is not
            larger on an oblique grid.
    """

    centre_ras_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]
    along_voxels: bool = False

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "RegionOfInterest":
        """Make it of the six numbers of `RunSettings.roi`."""
        r, a, s, dr, da, ds = map(float, numbers)
        return cls((r, a, s), (dr, da, ds))

    def to_json(self) -> dict[str, Any]:
        """For `case.json`."""
        return {"centre_ras_mm": list(self.centre_ras_mm), "size_mm": list(self.size_mm)}


@dataclass(frozen=True)
class VoxelBox:
    """A box of voxels: first index and size, (i, j, k)."""

    index: tuple[int, int, int]
    size: tuple[int, int, int]

    @classmethod
    def between(cls, low: Sequence[int] | np.ndarray, high: Sequence[int] | np.ndarray) -> "VoxelBox":
        """Return the box of the voxels from `low` to below `high`, (i, j, k)."""
        i, j, k = (int(n) for n in low)
        di, dj, dk = (int(n) for n in np.subtract(high, low))
        return cls((i, j, k), (di, dj, dk))

    @classmethod
    def around(cls, array: np.ndarray) -> "VoxelBox":
        """Return the smallest box that holds all voxels of (z, y, x) that are not 0; `EMPTY` if there is none."""
        # Axis by axis: a list of all places takes 24 bytes a voxel. No scipy, which the page's server does without.
        places = [np.flatnonzero(array.any(axis=tuple({0, 1, 2} - {axis}))) for axis in (2, 1, 0)]
        if not places[0].size:
            return EMPTY
        return cls.between([int(each[0]) for each in places], [int(each[-1]) + 1 for each in places])

    def shared_with(self, other: "VoxelBox") -> "VoxelBox":
        """Return the part that lies in another box, too; `EMPTY` if there is none."""
        low = np.maximum(self.index, other.index)
        high = np.minimum(np.add(self.index, self.size), np.add(other.index, other.size))
        return VoxelBox.between(low, high) if (high > low).all() else EMPTY

    @property
    def slices_zyx(self) -> tuple[slice, slice, slice]:
        """Where the box lies in a (z, y, x) array."""
        i, j, k = (slice(start, start + size) for start, size in zip(self.index, self.size, strict=True))
        return k, j, i

    def crop(self, image: sitk.Image) -> sitk.Image:
        """Cut the box out of an image, with its own origin; return the image itself if that is all of it."""
        return image if self == whole_grid(image) else sitk.RegionOfInterest(image, self.size, self.index)

    def crop_grid(self, grid: VoxelGrid) -> VoxelGrid:
        """Compute the grid of what `crop` gives."""
        return replace(grid, size=self.size, origin=tuple(grid.point(self.index)))

    def within(self, outer: "VoxelBox") -> "VoxelBox":
        """Move a box given inside `outer` to the grid that `outer` lies in."""
        i, j, k = (start + first for start, first in zip(outer.index, self.index, strict=True))
        return VoxelBox((i, j, k), self.size)

    def relative_to(self, outer: "VoxelBox") -> "VoxelBox":
        """Move a box to the grid of `outer`, which lies in the same grid: undo `within`."""
        i, j, k = (start - first for start, first in zip(self.index, outer.index, strict=True))
        return VoxelBox((i, j, k), self.size)

    def to_json(self) -> dict[str, Any]:
        """For `case.json`."""
        return {"index_ijk": list(self.index), "size_ijk": list(self.size)}


EMPTY = VoxelBox((0, 0, 0), (0, 0, 0))


def whole_grid(image: sitk.Image | VoxelGrid) -> VoxelBox:
    """Return the box of all voxels."""
    return VoxelBox((0, 0, 0), VoxelGrid.of(image).size)


def voxel_box(roi: RegionOfInterest, image: sitk.Image | VoxelGrid) -> VoxelBox:
    """Find the box of voxels whose centres lie in the region, cut at the grid's border.

    Of the faces the left, posterior and inferior ones belong to the region, in whatever order the voxels are
    stored. A region of 36 mm on 1 mm voxels gives 36 voxels wherever it lies; at least one voxel along each axis,
    the one that the region's centre is in. On an oblique grid the box covers the corners of the region too.

    Raises:
        InputError: the region lies outside the image.
    """
    grid = VoxelGrid.of(image)
    half, centre = np.asarray(roi.size_mm) / 2, np.asarray(roi.centre_ras_mm)
    if roi.along_voxels:
        nearest = np.abs(np.asarray(grid.direction).reshape(3, 3)).argmax(0)
        reach = half[nearest] / grid.spacing
        indices = grid.continuous_index(ras_to_lps(centre.tolist())) + np.stack([-reach, reach])
    else:
        corners = [centre + half * signs for signs in product((-1.0, 1.0), repeat=3)]
        indices = np.asarray([grid.continuous_index(ras_to_lps(c.tolist())) for c in corners])
    ras = np.asarray(grid.direction).reshape(3, 3) * np.asarray([[-1], [-1], [1]])
    runs_up = ras[np.abs(ras).argmax(0), np.arange(3)] > 0  # to the right, anterior or superior
    low, high = _centres_between(indices.min(0), indices.max(0), runs_up)
    middle = np.rint(indices.mean(0)).astype(int)
    low, high = np.where(high > low, low, middle), np.where(high > low, high, middle + 1)
    low, high = np.maximum(low, 0), np.minimum(high, grid.size)
    if (high <= low).any():
        where = f"around RAS {_numbers(roi.centre_ras_mm)}"
        raise InputError(f"The region of interest {where} is outside the image ({_span(grid)}).", "outside-image")
    return VoxelBox.between(low, high)


def part_grid(whole: VoxelGrid, roi: RegionOfInterest | None, own_to_world_ras: Sequence[float] | None) -> VoxelGrid:
    """Return the grid of the part within the region, oriented as in the world; its origin has no meaning.

    Raises:
        InputError: the region lies outside.
    """
    part = voxel_box(roi, whole).crop_grid(whole) if roi else whole
    return part.axes_after(lambda image: apply_transform(image, own_to_world_ras))


def _centres_between(first: np.ndarray, last: np.ndarray, runs_up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-open range of the integers from `first` to `last`, along each axis.

    Args:
        runs_up: where true, a number on `first` belongs to the range and one on `last` does not; elsewhere reversed.
    """
    up = [np.ceil(edge - EDGE_TOLERANCE) for edge in (first, last)]
    down = [np.floor(edge + EDGE_TOLERANCE) + 1 for edge in (first, last)]
    low, high = (np.where(runs_up, u, d).astype(int) for u, d in zip(up, down, strict=True))
    return low, high


def _span(grid: VoxelGrid) -> str:
    ends = product(*((0, size - 1) for size in grid.size))
    points = np.asarray([ras_to_lps(grid.point(end)) for end in ends])
    return f"{_numbers(points.min(0))} to {_numbers(points.max(0))}"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.0f}" for value in values) + ")"
