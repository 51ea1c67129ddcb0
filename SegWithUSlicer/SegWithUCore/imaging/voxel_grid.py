"""The grid of an image without its voxels: what regions, working sizes and files need to know of a large image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk


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
        """The grid of a 3D image, exactly; a grid is its own."""
        if isinstance(image, VoxelGrid):
            return image
        i, j, k = (int(n) for n in image.GetSize())
        return cls((i, j, k), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Shape of an array of all voxels."""
        i, j, k = self.size
        return k, j, i

    @property
    def voxels(self) -> int:
        """How many there are."""
        i, j, k = self.size
        return i * j * k

    @cached_property
    def stand_in(self) -> sitk.Image:
        """An image of 1 x 2 x 3 voxels that lies and points as this grid does: its sizes tell its axes apart."""
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
        """The index (i, j, k) of a point, which may lie between voxels or outside."""
        found: Sequence[float] = self.stand_in.TransformPhysicalPointToContinuousIndex(point_lps)
        return found

    def point(self, index: Sequence[int]) -> Sequence[float]:
        """The point (LPS mm) of a voxel's centre."""
        found: Sequence[float] = self.stand_in.TransformIndexToPhysicalPoint([int(n) for n in index])
        return found

    @property
    def orientation(self) -> str:
        """The three letters towards which the axes run, such as "RAS" (nearest, for oblique grids)."""
        return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(self.direction))

    def facts(self) -> dict[str, list[float]]:
        """As `volume.grid_facts` of an image on this grid."""
        return {
            "size_ijk": list(self.size),
            "spacing_mm": list(self.spacing),
            "origin_lps_mm": list(self.origin),
            "direction_lps": list(self.direction),
        }
