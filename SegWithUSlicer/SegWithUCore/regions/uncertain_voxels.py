"""The uncertain voxels of a volume as a sorted list, with their neighbours.

Uncertain voxels are a percent of a volume at most. All that makes regions runs on this list, so that time and memory
follow the number of uncertain voxels and not the size of the volume.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from ..util.plane_files import Planes, plane_pieces

Step = tuple[int, int, int]
HALF_OF_26: tuple[Step, ...] = tuple((z, y, x) for z, y, x in product((-1, 0, 1), repeat=3) if (z, y, x) > (0, 0, 0))
"""One of each two opposite steps to the 26 neighbours, (z, y, x)."""
_SLAB_VOXELS = 1 << 24


@dataclass(frozen=True)
class UncertainVoxels:
    """Voxels above a threshold, in scan order.

    Attributes:
        zyx: (n, 3) int32 indices.
        probability: (n,) error probability of each.
        segmentation, runner_up: (n,) label values of the most and second most probable class.
        class_pair: (n,) both as one number; voxels of different pairs are no neighbours.
        shape_zyx: of the volume.
    """

    zyx: np.ndarray
    probability: np.ndarray
    segmentation: np.ndarray
    runner_up: np.ndarray
    shape_zyx: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.probability)

    @cached_property
    def class_pair(self) -> np.ndarray:
        """As described for the class."""
        one, other = self.segmentation.astype(np.int64), self.runner_up.astype(np.int64)
        return np.asarray((np.minimum(one, other) << 32) + np.maximum(one, other))

    @cached_property
    def keys(self) -> np.ndarray:
        """Increasing numbers (n,), which differ by `key_step` between voxels a step apart and nowhere else."""
        step_z, step_y, _ = self._strides
        small = self.shape_zyx[0] * step_z < np.iinfo(np.int32).max // 2
        z, y, x = self.zyx.T if small else self.zyx.T.astype(np.int64)
        return np.asarray((z * step_z + y * step_y) + x)

    def key_step(self, step_zyx: Step) -> int:
        """Return by how much the key grows with a step."""
        return sum(n * stride for n, stride in zip(step_zyx, self._strides, strict=True))

    @property
    def _strides(self) -> Step:
        # One column and one row more than the volume has: a step over the edge then meets no voxel's key.
        _, y, x = self.shape_zyx
        return (y + 1) * (x + 1), x + 1, 1

    @cached_property
    def neighbours(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each of `HALF_OF_26`, the indices of all neighbours i, j with j one such step from i."""
        pairs = []
        for step in HALF_OF_26:
            z, y, x = step
            if (z, y) == (0, 0) or x == -1:  # the three steps into one row follow each other: one search for all
                index = np.searchsorted(self.keys, self.keys + self.keys.dtype.type(self.key_step(step)))
            index[index == len(self)] = 0
            found = self.keys[index] - self.keys == self.key_step(step)
            first = np.flatnonzero(found & (self.class_pair[index] == self.class_pair)).astype(np.int32)
            pairs.append((first, index[first].astype(np.int32)))
            index += found
        return pairs


def values_at(volume: Planes, zyx: np.ndarray) -> np.ndarray:
    """Values of a volume at voxels in scan order."""
    z, y, x = zyx.T
    if isinstance(volume, np.ndarray):
        return np.asarray(volume[z, y, x])
    found = np.empty(len(zyx), volume.dtype)
    for planes in plane_pieces(volume.shape):
        first, last = np.searchsorted(z, [planes.start, planes.stop]).tolist()
        if first < last:
            here = slice(first, last)
            found[here] = volume[planes][z[here] - planes.start, y[here], x[here]]
    return found


def uncertain_voxels(
    error_probability: Planes, segmentation: Planes, runner_up: Planes, threshold: float
) -> UncertainVoxels:
    """List the voxels whose error probability is above a threshold.

    Args:
        error_probability: (z, y, x); voxels that were not assessed hold a negative value.
        segmentation, runner_up: label values of the same shape.
    """
    found, probability = [np.empty((0, 3), np.int32)], [np.empty(0, np.float64)]
    for planes in plane_pieces(error_probability.shape, _SLAB_VOXELS):
        slab = error_probability[planes]
        above = np.flatnonzero(slab > threshold)
        indices = np.stack(np.unravel_index(above, slab.shape), 1).astype(np.int32)
        indices[:, 0] += planes.start
        found.append(indices)
        probability.append(slab.ravel()[above].astype(np.float64))
    zyx = np.concatenate(found)
    depth, height, width = error_probability.shape
    first, second = values_at(segmentation, zyx), values_at(runner_up, zyx)
    return UncertainVoxels(zyx, np.concatenate(probability), first, second, (depth, height, width))


def expected_wrong_voxels(error_probability: Planes) -> float:
    """Sum the error probability over all voxels that were assessed."""
    total = 0.0
    for planes in plane_pieces(error_probability.shape, _SLAB_VOXELS):
        slab = error_probability[planes]
        assessed = slab if slab.size == 0 or slab.min() >= 0 else np.maximum(slab, 0)
        total += float(assessed.sum(dtype=np.float64))
    return total


def sorted_indices(numbers: np.ndarray, count: int) -> np.ndarray:
    """Sort indices by number and then by index: a counting sort (docs/developer/performance.md).

    Args:
        numbers: (n,) of 0 to `count` - 1.
    """
    from scipy.sparse import coo_array

    indices = np.arange(len(numbers), dtype=np.int32)
    return np.asarray(coo_array((indices, (numbers, indices)), shape=(count, len(numbers))).tocsr().data)


def thickness_mm(voxels: UncertainVoxels, spacing_zyx: np.ndarray) -> np.ndarray:
    """Measure how thick the uncertain voxels are around each: the shortest run along the three axes, in mm, (n,)."""
    runs = [_run_lengths(voxels, axis) * spacing_zyx[axis] for axis in range(3)]
    return np.minimum.reduce(runs)


def _run_lengths(voxels: UncertainVoxels, axis: int) -> np.ndarray:
    """Count the voxels in the unbroken run along an axis that each voxel lies in, (n,)."""
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
    """Return indices line by line along an axis."""
    if axis == 2:
        return np.arange(len(voxels))
    other = 1 - axis
    width = voxels.shape_zyx[2]
    lines = voxels.zyx[:, other].astype(np.int64) * width + voxels.zyx[:, 2]
    return sorted_indices(lines, voxels.shape_zyx[other] * width)


def peaks(region: np.ndarray, probability: np.ndarray, count: int) -> np.ndarray:
    """Find the most error-prone voxel of each region, numbers 1 to `count`, by index; the first of equals."""
    peak = np.full(count + 1, -np.inf)
    np.maximum.at(peak, region, probability)
    highest = np.flatnonzero(probability == peak[region])[::-1]
    indices = np.full(count + 1, -1, np.int64)
    indices[region[highest]] = highest
    return indices


def extents(voxels: UncertainVoxels, group: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest index (zyx) of each group, each (count, 3)."""
    low = np.full((3, count), np.iinfo(np.int32).max, np.int32)
    high = np.full((3, count), -1, np.int32)
    for axis in range(3):
        along = np.ascontiguousarray(voxels.zyx[:, axis])
        np.minimum.at(low[axis], group, along)
        np.maximum.at(high[axis], group, along)
    return low.T, high.T
