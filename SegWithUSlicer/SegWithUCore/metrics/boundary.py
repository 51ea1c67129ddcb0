"""Distance to the predicted surface, and the band around it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt


def boundary_voxels(classes: np.ndarray, across: int | None = None) -> np.ndarray:
    """Voxels with a 6-neighbour of another class (both sides, inner interfaces included), boolean (z, y, x).

    Args:
        across: axis along which neighbours do not count, for boundaries slice by slice.
    """
    boundary = np.zeros(classes.shape, bool)
    for axis in range(classes.ndim):
        if axis == across:
            continue
        first = tuple(slice(None, -1) if a == axis else slice(None) for a in range(classes.ndim))
        second = tuple(slice(1, None) if a == axis else slice(None) for a in range(classes.ndim))
        differs = classes[first] != classes[second]
        boundary[first] |= differs
        boundary[second] |= differs
    return boundary


def distance_to_boundary(classes: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Distance in mm of each voxel centre to the nearest boundary voxel's; infinite where there is no boundary."""
    boundary = boundary_voxels(classes)
    if not boundary.any():
        return np.full(classes.shape, np.inf)
    distance: np.ndarray = distance_transform_edt(~boundary, sampling=list(spacing_zyx))
    return distance


def distance_in_slices(classes: np.ndarray, across: int = 0) -> np.ndarray:
    """Distance in voxels to the nearest boundary voxel of the same slice; infinite in slices without a boundary.

    Neighbours in other slices neither make a boundary nor count as near.

    Args:
        across: axis that runs from slice to slice.
    """
    distance = np.full(classes.shape, np.inf)
    slices, found = np.moveaxis(boundary_voxels(classes, across), across, 0), np.moveaxis(distance, across, 0)
    for boundary, place in zip(slices, found, strict=True):
        if boundary.any():
            place[...] = distance_transform_edt(~boundary)
    return distance


@dataclass(frozen=True)
class Band:
    """The voxels near the predicted surface.

    Attributes:
        width: greatest distance to the nearest boundary voxel, on both sides.
        in_slices: whether it is counted in voxels, slice by slice, for images of uncertain spacing; else in mm.
    """

    width: float = 3.0
    in_slices: bool = False

    @classmethod
    def from_text(cls, text: str) -> "Band":
        """From "3mm" or "2px".

        Raises:
            ValueError: neither.
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(mm|px)\s*", text)
        if found is None or float(found[1]) <= 0:
            raise ValueError(
                f"'{text}' is no band: give millimetres such as 3mm, or voxels within a slice such as 2px."
            )
        return cls(float(found[1]), found[2] == "px")

    def __str__(self) -> str:
        if self.in_slices:
            return f"{self.width:g} voxels in the plane of the slices"
        return f"{self.width:g} mm"

    def distance(self, classes: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
        """Compute the distance of each voxel to the predicted surface, in mm or voxels of the slice.

        Slices lie across the axis of the greatest spacing, or the first of (z, y, x) where spacings are equal.
        """
        if self.in_slices:
            return distance_in_slices(classes, int(np.argmax(spacing_zyx)))
        return distance_to_boundary(classes, spacing_zyx)
