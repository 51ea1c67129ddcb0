"""The region of interest: a box in patient space, turned into a box of voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, UsageError
from .volume import ras_to_lps

EDGE_TOLERANCE = 1e-4
"""Voxels: a centre this close to a face of the region counts as on it, whatever the header's rounding."""


@dataclass(frozen=True)
class Region:
    """A box along the patient's axes.

    Attributes:
        centre_ras_mm: centre.
        size_mm: full edge lengths along R, A and S.
    """

    centre_ras_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]

    @classmethod
    def parse(cls, text: str) -> "Region":
        """Read "R,A,S,dR,dA,dS".

        Raises:
            UsageError: not six numbers, or an edge that is not positive.
        """
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != 6 or not np.isfinite(numbers).all() or min(numbers[3:]) <= 0:
            raise UsageError(
                f"'{text}' is not a region of interest: give R,A,S,dR,dA,dS, the centre and the edge lengths in mm."
            )
        r, a, s, dr, da, ds = numbers
        return cls((r, a, s), (dr, da, ds))


@dataclass(frozen=True)
class VoxelBox:
    """A box of voxels: first index and size, (i, j, k)."""

    index: tuple[int, int, int]
    size: tuple[int, int, int]

    @property
    def slices_zyx(self) -> tuple[slice, slice, slice]:
        """Where the box lies in a (z, y, x) array."""
        i, j, k = (slice(start, start + size) for start, size in zip(self.index, self.size, strict=True))
        return k, j, i

    def crop(self, image: sitk.Image) -> sitk.Image:
        """The part of an image inside the box, with its own origin."""
        return sitk.RegionOfInterest(image, self.size, self.index)

    def to_json(self) -> dict[str, Any]:
        """For `case.json`."""
        return {"index_ijk": list(self.index), "size_ijk": list(self.size)}


def whole_grid(image: sitk.Image) -> VoxelBox:
    """The box of all voxels."""
    i, j, k = image.GetSize()
    return VoxelBox((0, 0, 0), (i, j, k))


def voxel_box(region: Region, image: sitk.Image) -> VoxelBox:
    """The box of voxels whose centres lie in the region (lower faces included), cut at the grid's border.

    A region of 36 mm on 1 mm voxels gives 36 voxels wherever it lies; at least one voxel along each axis. On an
    oblique grid the box covers the corners of the region too.

    Raises:
        InputError: the region lies outside the image.
    """
    half = np.asarray(region.size_mm) / 2
    corners = [np.asarray(region.centre_ras_mm) + half * signs for signs in product((-1.0, 1.0), repeat=3)]
    indices = [image.TransformPhysicalPointToContinuousIndex(ras_to_lps(corner.tolist())) for corner in corners]
    low = np.ceil(np.min(indices, 0) - EDGE_TOLERANCE).astype(int)
    high = np.maximum(np.ceil(np.max(indices, 0) - EDGE_TOLERANCE).astype(int), low + 1)
    low, high = np.maximum(low, 0), np.minimum(high, image.GetSize())
    if (high <= low).any():
        raise InputError(
            f"The region of interest around RAS {_numbers(region.centre_ras_mm)} lies outside the image, "
            f"which spans RAS {_span(image)}: move the region."
        )
    i, j, k = (int(n) for n in low)
    di, dj, dk = (int(n) for n in high - low)
    return VoxelBox((i, j, k), (di, dj, dk))


def _span(image: sitk.Image) -> str:
    ends = product(*((0, size - 1) for size in image.GetSize()))
    points = np.asarray([ras_to_lps(image.TransformIndexToPhysicalPoint(end)) for end in ends])
    return f"{_numbers(points.min(0))} to {_numbers(points.max(0))}"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.0f}" for value in values) + ")"
