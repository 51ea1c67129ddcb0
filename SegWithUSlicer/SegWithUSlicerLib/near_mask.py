"""Where the segmentation is and which voxels lie near it: plain numpy, fast enough for a CT when a run is loaded."""

import math
from collections.abc import Sequence

import numpy as np


def near(labels_kji: np.ndarray, spacing_kji_mm: Sequence[float], distance_mm: float) -> np.ndarray:
    """Mark the voxels of any structure and those whose centre is at most `distance_mm` from one.

    The inside of a structure counts as near, however deep: an uncertain core must not be hidden.

    Args:
        labels_kji: label volume, 0 is background; axes k, j, i.
        spacing_kji_mm: voxel size in the same axis order.

    Returns:
        Boolean array of the same shape. Exact to the rounding of float32.
    """
    result = np.zeros(labels_kji.shape, dtype=bool)
    labelled = labelled_box(labels_kji != 0)
    if labelled is None:
        return result
    margin = [math.floor(distance_mm / step) for step in spacing_kji_mm]
    box = tuple(
        slice(max(0, side.start - extra), side.stop + extra) for side, extra in zip(labelled, margin, strict=True)
    )
    # Squared distance, one axis after the other; the search window of each axis is the distance itself, so that
    # everything within the distance is exact and everything beyond stays beyond.
    limit = np.float32(distance_mm * distance_mm * (1 + 1e-6))
    squared = np.where(labels_kji[box] != 0, np.float32(0), np.float32(np.inf))
    for axis, step in enumerate(spacing_kji_mm):
        squared = _lower_along(squared, axis, float(step), distance_mm)
    result[box] = squared <= limit
    return result


def masked_copy(values_kji: np.ndarray, near_kji: np.ndarray, masked_value: float) -> np.ndarray:
    """A float32 copy of a map that holds `masked_value` wherever `near_kji` is False."""
    return np.where(near_kji, values_kji, np.float32(masked_value)).astype(np.float32, copy=False)


def labelled_box(mask_kji: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box around all True voxels, a slice an axis; None where there is none."""
    box = []
    for axis in range(mask_kji.ndim):
        hit = np.flatnonzero(mask_kji.any(axis=tuple(other for other in range(mask_kji.ndim) if other != axis)))
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _lower_along(squared: np.ndarray, axis: int, step_mm: float, distance_mm: float) -> np.ndarray:
    source = np.moveaxis(squared, axis, 0)
    lowest = source.copy()
    shifted = np.empty_like(source)
    for shift in range(1, min(math.floor(distance_mm / step_mm), len(source) - 1) + 1):
        far = np.float32((shift * step_mm) ** 2)
        np.add(source, far, out=shifted)
        np.minimum(lowest[shift:], shifted[:-shift], out=lowest[shift:])
        np.minimum(lowest[:-shift], shifted[shift:], out=lowest[:-shift])
    return np.moveaxis(lowest, 0, axis)
