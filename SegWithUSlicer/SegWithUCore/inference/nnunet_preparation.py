"""Preparing images exactly as nnU-Net does (its DefaultPreprocessor), with numpy and scipy alone.

Cut to the box of nonzero voxels, normalise, then resample: nnU-Net interpolates normalised values with cubic splines
(skimage's `resize`, which is scipy's `zoom` with a clip). Where slices are thick, each is resampled by itself and
across them the nearest one is taken.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..models.input_spec import NnunetPreparation

THICK_SLICES = 3.0
"""Ratio of the coarsest to the finest spacing above which slices are resampled one by one."""


def nonzero_mask(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Voxels that are not zero in some channel, and the holes among them; arrays (z, y, x)."""
    mask = np.any([channel != 0 for channel in channels], axis=0)
    filled: np.ndarray = ndimage.binary_fill_holes(mask)
    return filled


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """Size of a volume of `shape` and `spacing` after resampling to the spacing `wanted`, in the same axis order."""
    return tuple(max(1, round(old / new * size)) for size, old, new in zip(shape, spacing, wanted, strict=True))


def spline_resampled(
    array: np.ndarray, spacing: Sequence[float], wanted: Sequence[float], how: NnunetPreparation
) -> np.ndarray:
    """An array brought to the spacing `wanted`, float32; the outer faces of the volume stay where they are.

    Args:
        array: (z, y, x).
        spacing, wanted: mm along z, y, x.
    """
    shape = resampled_shape(array.shape, spacing, wanted)
    if shape == array.shape:
        return array.astype(np.float32)
    values = array.astype(np.float64)
    axis = thick_axis(spacing, wanted, how.separate_slices)
    if axis is None:
        return _zoomed(values, shape, how.order).astype(np.float32)
    in_plane = shape[:axis] + shape[axis + 1 :]
    slices = [_zoomed(part, in_plane, how.order) for part in np.moveaxis(values, axis, 0)]
    nearest = _nearest_slices(len(slices), shape[axis])
    return np.stack([slices[index] for index in nearest], axis).astype(np.float32)


def thick_axis(spacing: Sequence[float], wanted: Sequence[float], separate: bool | None = None) -> int | None:
    """The axis across which slices are resampled one by one; None where all axes are resampled together.

    Args:
        separate: as `NnunetPreparation.separate_slices`.
    """
    deciding = spacing if separate or _has_thick_slices(spacing) else wanted
    if separate is False or not (separate or _has_thick_slices(deciding)):
        return None
    coarsest = [axis for axis, value in enumerate(deciding) if value == max(deciding)]
    return coarsest[0] if len(coarsest) == 1 else None


def _has_thick_slices(spacing: Sequence[float]) -> bool:
    return max(spacing) / min(spacing) > THICK_SLICES


def _zoomed(values: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    if values.shape == tuple(shape):
        return values
    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    result = ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)
    clipped: np.ndarray = np.clip(result, values.min(), values.max())  # splines overshoot at edges
    return clipped


def _nearest_slices(old: int, new: int) -> list[int]:
    """For each new slice, the index of the old one whose centre is nearest, ties as scipy decides them."""
    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    return [int(i) for i in ndimage.map_coordinates(np.arange(old), [places], order=0, mode="nearest")]
