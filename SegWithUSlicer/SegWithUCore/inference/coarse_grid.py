"""Between a grid and one whose voxels hold 1 or 2 of its voxels along each axis; numpy only.

Coarse voxel j holds the voxels j * step to j * step + step - 1, and values lie in their middle. Interpolation is linear
and goes on as it is at the border, as torch's without aligned corners.
"""

from collections.abc import Sequence

import numpy as np

NEAR, FAR = np.float32(0.75), np.float32(0.25)
"""Weights of the coarse voxel that holds a voxel, and of its neighbour on that side, along an axis of step 2."""
ROWS = 2048
"""Voxels that are interpolated at once: their rows stay in the L2 cache."""


def pooled(values: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Average (channels, z, y, x) over coarse voxels; the last voxel of an odd length stands alone."""
    for axis, step in enumerate(steps, 1):
        if step == 2:
            first, second = (values[(slice(None),) * axis + (slice(start, None, 2),)] for start in (0, 1))
            if first.shape[axis] > second.shape[axis]:
                second = np.concatenate([second, first[(slice(None),) * axis + (slice(-1, None),)]], axis)
            total = first + second
            total *= np.float32(0.5)
            values = total
    return values


def interpolated(values: np.ndarray, steps: Sequence[int], first: Sequence[int], cut: Sequence[slice]) -> np.ndarray:
    """Interpolate (channels, coarse z, y, x) at the voxels of a box.

    Args:
        first: the coarse voxel that `values` begin with, along each axis.
        cut: the box, by its voxels along each axis.
    """
    for axis, (step, begin, part) in enumerate(zip(steps, first, cut, strict=True), 1):
        if step == 1:
            within = slice(part.start - begin, part.stop - begin)
            values = values[(slice(None),) * axis + (within,)]
        else:
            values = _doubled(values, axis, begin, part)
    return values


def _doubled(values: np.ndarray, axis: int, begin: int, part: slice) -> np.ndarray:
    """Interpolate along one axis of step 2."""
    low, high = part.start // 2, (part.stop + 1) // 2  # coarse voxels that hold the box
    before = (slice(None),) * axis
    size = values.shape[axis]
    near = values[(*before, slice(low - begin, high - begin))]
    weighted = near * NEAR
    found = np.empty((*values.shape[:axis], 2 * (high - low), *values.shape[axis + 1 :]), np.float32)
    for side, offset in ((0, -1), (1, 1)):
        start, stop = low - begin + offset, high - begin + offset
        inside = slice(max(start, 0), min(stop, size))
        target = found[(*before, slice(side, None, 2))]
        place = slice(inside.start - start, target.shape[axis] - (stop - inside.stop))
        np.multiply(values[(*before, inside)], FAR, out=target[(*before, place)])
        if place.start:
            np.multiply(near[(*before, slice(0, 1))], FAR, out=target[(*before, slice(0, 1))])
        if place.stop < target.shape[axis]:
            np.multiply(near[(*before, slice(-1, None))], FAR, out=target[(*before, slice(-1, None))])
        target += weighted
    return found[(*before, slice(part.start - 2 * low, part.stop - 2 * low))]


def rows_at(
    table: np.ndarray, shape: Sequence[int], steps: Sequence[int], first: Sequence[int], voxels: Sequence[np.ndarray]
) -> np.ndarray:
    """Interpolate at single voxels: (voxels, channels).

    Args:
        table: (coarse voxels, channels), in scan order.
        shape: of the coarse voxels, (z, y, x).
        first: the coarse voxel that they begin with, along each axis.
        voxels: indices along each axis.
    """
    found = np.empty((len(voxels[0]), table.shape[1]), np.float32)
    spare = np.empty((min(len(found), ROWS), table.shape[1]), np.float32)
    for start in range(0, len(found), ROWS):
        part = found[start : start + ROWS]
        corners = _corners(shape, steps, first, [index[start : start + ROWS] for index in voxels])
        for number, (place, share) in enumerate(corners):
            row = spare[: len(part)] if number else part
            np.take(table, place, 0, out=row, mode="clip")  # by default it would copy first
            row *= share
            if number:
                part += row
    return found


def _corners(
    shape: Sequence[int], steps: Sequence[int], first: Sequence[int], voxels: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.float32]]:
    """Rows of the table that voxels are interpolated from, and how much of each."""
    found: list[tuple[np.ndarray, np.float32]] = [(np.zeros(len(voxels[0]), np.int64), np.float32(1))]
    for size, step, begin, index in zip(shape, steps, first, voxels, strict=True):
        near = index // step - begin
        sides = [(near, np.float32(1))]
        if step == 2:
            far = np.clip(near + np.where(index % 2, 1, -1), 0, size - 1)
            sides = [(near, NEAR), (far, FAR)]
        found = [(place * size + side, share * part) for place, share in found for side, part in sides]
    return found
