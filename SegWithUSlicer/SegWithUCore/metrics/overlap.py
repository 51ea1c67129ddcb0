"""How well two segmentations coincide (Dice, surface Dice), and the band around the surface of one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def dice_of(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Dice coefficient of two boolean masks of one shape; NaN when both are empty.

    Source: Dice, Ecology 26 (1945) 297. Equals `monai.metrics.DiceMetric` case by case.
    """
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * int(np.count_nonzero(prediction & reference)) / total if total else float("nan")


def class_dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> list[float]:
    """Dice of each foreground class of two integer volumes; NaN for classes absent from both."""
    return [dice_of(prediction == c, reference == c) for c in range(1, num_classes)]


def mean_dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> float:
    """Mean over the foreground classes present in either volume; NaN when there is none."""
    values = [value for value in class_dice(prediction, reference, num_classes) if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def joint_counts(drawn: np.ndarray, reference: np.ndarray, num_classes: int) -> np.ndarray:
    """Count voxels by class in a segmentation (row) and in the reference (column), int64, background first."""
    pairs = drawn.ravel() * np.int64(num_classes) + reference.ravel()
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def structure_dice(joint: np.ndarray) -> np.ndarray:
    """Return the Dice of each structure that is drawn (row) with each of the reference (column), without background.

    Args:
        joint: as of `joint_counts`, (..., row, column): further axes, such as cases, stay.
    """
    sizes = joint.sum(-1)[..., None] + joint.sum(-2)[..., None, :]
    return (2 * joint / np.maximum(sizes, 1))[..., 1:, 1:]


def class_surface_dice(
    prediction: np.ndarray, reference: np.ndarray, num_classes: int, tolerance_mm: float, spacing_zyx: Sequence[float]
) -> list[float]:
    """Surface Dice of each foreground class: share of both surfaces within `tolerance_mm` of the other one.

    NaN for classes absent from both, 0 for those absent from one.

    Args:
        prediction, reference: integer volumes, (z, y, x).

    Source: Nikolov et al., arXiv 1809.04430, with the edge voxels of MONAI as surface (`compute_surface_dice`).
    """
    masks = ((prediction == index, reference == index) for index in range(1, num_classes))
    return [_surface_dice(first, second, tolerance_mm, spacing_zyx) for first, second in masks]


def _surface_dice(first: np.ndarray, second: np.ndarray, tolerance_mm: float, spacing_zyx: Sequence[float]) -> float:
    """Surface Dice of two boolean masks."""
    if not first.any() or not second.any():
        return 0.0 if first.any() or second.any() else float("nan")
    distances = surface_distances(first, second, spacing_zyx)
    # In single precision as MONAI, or a distance of 0.3 would lie beyond a tolerance of 0.3.
    return float(np.mean(distances.astype(np.float32) <= np.float32(tolerance_mm)))


def surface_distances(first: np.ndarray, second: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Return the distance of each surface voxel of two boolean masks (z, y, x) to the other surface, mm; (voxels,).

    None of them is empty. The mean is the average symmetric surface distance.
    """
    from scipy.spatial import KDTree

    surfaces = [_surface_voxels(mask) * np.asarray(spacing_zyx, np.float64) for mask in (first, second)]
    pairs = (surfaces, surfaces[::-1])
    return np.concatenate([KDTree(there).query(here)[0] for here, there in pairs])


@dataclass(frozen=True)
class Agreement:
    """How well two readers agree on a structure; distances of the surfaces in mm are None where one drew nothing."""

    dice: float
    mean_mm: float | None
    percentile_95_mm: float | None
    first_mm3: float
    second_mm3: float


def agreement_of(first: np.ndarray, second: np.ndarray, spacing_zyx: Sequence[float]) -> Agreement:
    """Compare two boolean masks (z, y, x), at least one of which is not empty."""
    distances = surface_distances(first, second, spacing_zyx) if first.any() and second.any() else None
    apart = (None, None) if distances is None else (float(distances.mean()), float(np.percentile(distances, 95)))
    volumes = (float(np.count_nonzero(each) * np.prod(spacing_zyx)) for each in (first, second))
    return Agreement(dice_of(first, second), *apart, *volumes)


def _surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Return indices (voxels, axes) of the voxels of a mask with a neighbour outside of it or of the volume."""
    from scipy.ndimage import binary_erosion, find_objects

    (around,) = find_objects(mask.view(np.uint8), 1)
    if around is None:
        return np.empty((0, mask.ndim), np.intp)
    part = mask[around]
    return np.argwhere(part & ~binary_erosion(part)) + [axis.start for axis in around]


def boundary_voxels(classes: np.ndarray, across: int | None = None) -> np.ndarray:
    """Voxels with a 6-neighbour of another class (both sides, inner interfaces included), boolean (z, y, x).

    Args:
        across: axis along which neighbours do not count, for boundaries slice by slice.
    """
    boundary = np.zeros(classes.shape, bool)
    for axis in range(classes.ndim):
        if axis == across:
            continue
        along, found = np.moveaxis(classes, axis, 0), np.moveaxis(boundary, axis, 0)
        differs = along[:-1] != along[1:]
        found[:-1] |= differs
        found[1:] |= differs
    return boundary


def distance_to_boundary(classes: np.ndarray, spacing_zyx: Sequence[float]) -> np.ndarray:
    """Distance in mm of each voxel centre to the nearest boundary voxel's; infinite where there is no boundary."""
    from scipy.ndimage import distance_transform_edt

    boundary = boundary_voxels(classes)
    if not boundary.any():
        return np.full(classes.shape, np.inf)
    return distance_transform_edt(~boundary, sampling=list(spacing_zyx))


def distance_in_slices(classes: np.ndarray, across: int = 0) -> np.ndarray:
    """Distance in voxels to the nearest boundary voxel of the same slice; infinite in slices without a boundary.

    Neighbours in other slices neither make a boundary nor count as near.

    Args:
        across: axis that runs from slice to slice.
    """
    from scipy.ndimage import distance_transform_edt

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
            raise ValueError(f"'{text}' is no band: use millimetres as 3mm, or voxels within a slice such as 2px.")
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
