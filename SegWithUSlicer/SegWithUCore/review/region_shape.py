"""Sizes of groups of voxels: how thick, how far, where the summit is."""

import numpy as np

from .uncertain_voxels import UncertainVoxels


def thickness_mm(voxels: UncertainVoxels, spacing_zyx: np.ndarray) -> np.ndarray:
    """How thick the uncertain voxels are around each of them: the shortest run along the three axes, in mm, (n,)."""
    runs = [_run_lengths(voxels.zyx, axis) * spacing_zyx[axis] for axis in range(3)]
    return np.minimum.reduce(runs)


def _run_lengths(zyx: np.ndarray, axis: int) -> np.ndarray:
    """Voxels in the unbroken run along an axis that each voxel lies in, (n,)."""
    if not len(zyx):
        return np.empty(0, np.int64)
    along, *across = zyx[:, axis], *(zyx[:, other] for other in range(3) if other != axis)
    order = np.lexsort((along, *across))
    row = zyx[order]
    step = np.diff(row, axis=0)
    goes_on = (step[:, axis] == 1) & (np.delete(step, axis, 1) == 0).all(1)
    run = np.concatenate([[0], np.cumsum(~goes_on)])
    lengths = np.empty(len(zyx), np.int64)
    lengths[order] = np.bincount(run)[run]
    return lengths


def summits(region: np.ndarray, probability: np.ndarray, count: int) -> np.ndarray:
    """Place in the list of the most error-prone voxel of each region, numbers 1 to `count`; the first of equals."""
    order = np.lexsort((np.arange(len(region)), -probability, region))
    numbers, first = np.unique(region[order], return_index=True)
    places = np.full(count + 1, -1, np.int64)
    places[numbers] = order[first]
    return places


def extents(voxels: UncertainVoxels, region: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest index of each region, each (count + 1, 3)."""
    low = np.full((count + 1, 3), np.iinfo(np.int32).max, np.int32)
    high = np.full((count + 1, 3), -1, np.int32)
    for axis in range(3):
        np.minimum.at(low[:, axis], region, voxels.zyx[:, axis])
        np.maximum.at(high[:, axis], region, voxels.zyx[:, axis])
    return low, high
