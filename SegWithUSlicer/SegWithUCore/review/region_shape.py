"""Sizes of groups of voxels: how thick, how far, where the summit is."""

import numpy as np

from ..regions.uncertain_voxels import UncertainVoxels, sorted_places


def thickness_mm(voxels: UncertainVoxels, spacing_zyx: np.ndarray) -> np.ndarray:
    """How thick the uncertain voxels are around each of them: the shortest run along the three axes, in mm, (n,)."""
    runs = [_run_lengths(voxels, axis) * spacing_zyx[axis] for axis in range(3)]
    return np.minimum.reduce(runs)


def _run_lengths(voxels: UncertainVoxels, axis: int) -> np.ndarray:
    """Voxels in the unbroken run along an axis that each voxel lies in, (n,)."""
    if not len(voxels):
        return np.empty(0, np.int64)
    order = _along(voxels, axis)
    step = [0, 0, 0]
    step[axis] = 1
    starts = np.diff(voxels.keys[order]) != voxels.key_step((step[0], step[1], step[2]))
    run = np.concatenate([np.zeros(1, np.int32), np.cumsum(starts, dtype=np.int32)])
    lengths = np.empty(len(voxels), np.int64)
    lengths[order] = np.bincount(run)[run]
    return lengths


def _along(voxels: UncertainVoxels, axis: int) -> np.ndarray:
    """Places in the list, line by line along an axis."""
    if axis == 2:
        return np.arange(len(voxels))
    other = 1 - axis
    width = voxels.shape_zyx[2]
    lines = voxels.zyx[:, other].astype(np.int64) * width + voxels.zyx[:, 2]
    return sorted_places(lines, voxels.shape_zyx[other] * width)


def summits(region: np.ndarray, probability: np.ndarray, count: int) -> np.ndarray:
    """Place in the list of the most error-prone voxel of each region, numbers 1 to `count`; the first of equals."""
    peak = np.full(count + 1, -np.inf)
    np.maximum.at(peak, region, probability)
    highest = np.flatnonzero(probability == peak[region])[::-1]
    places = np.full(count + 1, -1, np.int64)
    places[region[highest]] = highest
    return places


def extents(voxels: UncertainVoxels, group: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest index (zyx) of each group, each (count, 3)."""
    low = np.full((3, count), np.iinfo(np.int32).max, np.int32)
    high = np.full((3, count), -1, np.int32)
    for axis in range(3):
        along = np.ascontiguousarray(voxels.zyx[:, axis])
        np.minimum.at(low[axis], group, along)
        np.maximum.at(high[axis], group, along)
    return low.T, high.T
