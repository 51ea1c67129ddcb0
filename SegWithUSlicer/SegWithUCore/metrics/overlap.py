"""How well two segmentations coincide: Dice and surface Dice."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree


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


def class_surface_dice(
    prediction: np.ndarray,
    reference: np.ndarray,
    num_classes: int,
    tolerance_mm: float,
    spacing_zyx: Sequence[float],
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
    surfaces = [_surface_voxels(mask) * np.asarray(spacing_zyx, np.float64) for mask in (first, second)]
    voxels = sum(map(len, surfaces))
    if not voxels:
        return float("nan")
    if not all(map(len, surfaces)):
        return 0.0
    near = 0
    for voxels_from, voxels_to in (surfaces, surfaces[::-1]):
        distances, _ = KDTree(voxels_to).query(voxels_from)
        # In single precision as MONAI, or a distance of 0.3 would lie beyond a tolerance of 0.3.
        near += int(np.count_nonzero(distances.astype(np.float32) <= np.float32(tolerance_mm)))
    return near / voxels


def _surface_voxels(mask: np.ndarray) -> np.ndarray:
    """Return indices (voxels, axes) of the voxels of a mask with a neighbour outside of it or of the volume."""
    inside = [
        np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        for axis in range(mask.ndim)
    ]
    if not len(inside[0]):
        return np.empty((0, mask.ndim), np.intp)
    part = mask[tuple(slice(places[0], places[-1] + 1) for places in inside)]
    return np.argwhere(part & ~binary_erosion(part)) + [places[0] for places in inside]
