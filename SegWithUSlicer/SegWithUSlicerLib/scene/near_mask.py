"""The copies of maps for "only near the segmentation": masked away from it, in steps."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import vtk

from .case_images import Box, LabelBoxes, array_of, empty_image, labelled_box, union
from .steps import STEP_BYTES, Steps, finish

_SLAB_VOXELS = 1 << 21
"""Whose distances are computed at once, 0.1 to 0.2 s; the part of a slab that is computed twice grows with less."""


def near(labels_kji: np.ndarray, spacing_kji_mm: Sequence[float], distance_mm: float) -> np.ndarray:
    """Mark the voxels of any structure and those whose centre is at most `distance_mm` from one.

    The inside of a structure counts as near, however deep: an uncertain core must not be hidden.

    Args:
        labels_kji: label volume, 0 is background; axes k, j, i.
        spacing_kji_mm: voxel size in the same axis order.

    Returns:
        Boolean array of the same shape. Exact to the rounding of float32.
    """
    return finish(near_steps(labels_kji, spacing_kji_mm, distance_mm))


def near_steps(
    labels_kji: np.ndarray,
    spacing_kji_mm: Sequence[float],
    distance_mm: float,
    boxes: Mapping[int, Box] | None = None,
) -> Steps[np.ndarray]:
    """Do what `near` does slab by slab: what is farther than `distance_mm` away from a slab does not matter to it.

    Args:
        boxes: of the labels, where they are known.
    """
    result = np.zeros(labels_kji.shape, dtype=bool)
    labelled = labelled_box(labels_kji != 0) if boxes is None else union(list(boxes.values()))
    if labelled is None:
        return result
    margin = [math.floor(distance_mm / step) for step in spacing_kji_mm]
    box = tuple(
        slice(max(0, side.start - extra), min(side.stop + extra, length))
        for side, extra, length in zip(labelled, margin, labels_kji.shape, strict=True)
    )
    across = (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
    slab = max(1 + margin[0], _SLAB_VOXELS // max(across, 1) - 2 * margin[0])
    for start in range(box[0].start, box[0].stop, slab):
        stop = min(start + slab, box[0].stop)
        first, last = max(box[0].start, start - margin[0]), min(box[0].stop, stop + margin[0])
        inside = labels_kji[first:last, box[1], box[2]] != 0
        marked = _near_at_once(inside, spacing_kji_mm, distance_mm) if inside.any() else inside
        result[start:stop, box[1], box[2]] = marked[start - first : stop - first]
        yield float(marked.size)
    return result


def boxes_steps(labels_kji: np.ndarray) -> Steps[Mapping[int, Box]]:
    """Find the box of each label, some planes at a time."""
    found = LabelBoxes()
    planes = max(1, STEP_BYTES // max(1, labels_kji[:1].nbytes))
    for start in range(0, len(labels_kji), planes):
        part = labels_kji[start : start + planes]
        found.look(part, start)
        yield float(part.size)
    return found.boxes


def masked_steps(values_kji: np.ndarray, mask_kji: np.ndarray, masked_value: float) -> Steps[vtk.vtkImageData]:
    """Copy a map to float32, with `masked_value` wherever the mask is False."""
    image = empty_image(values_kji.shape, np.dtype(np.float32))
    target, below = array_of(image), np.float32(masked_value)
    planes = max(1, STEP_BYTES // max(1, values_kji[:1].nbytes))
    for start in range(0, len(values_kji), planes):
        part = slice(start, start + planes)
        target[part] = np.where(mask_kji[part], values_kji[part], below)
        yield float(values_kji[part].nbytes)
    return image


def _near_at_once(inside_kji: np.ndarray, spacing_kji_mm: Sequence[float], distance_mm: float) -> np.ndarray:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(inside_kji.astype(np.uint8))
    image.SetSpacing([float(step) for step in reversed(spacing_kji_mm)])
    squared = sitk.SignedMaurerDistanceMap(image, squaredDistance=True, useImageSpacing=True)
    limit = distance_mm * distance_mm * (1 + 1e-6)
    # Without any background there are no distances.
    marked: np.ndarray = inside_kji | (sitk.GetArrayViewFromImage(squared) <= limit)
    return marked
