"""The uncertain voxels of a volume as a sorted list, with their neighbours.

Uncertain voxels are a percent of a volume at most. All that makes regions runs on this list, so that time and memory
follow the number of uncertain voxels and not the size of the volume.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

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
        contest: (n,) which two structures compete there, as a number; voxels of different contests are no neighbours.
        shape_zyx: of the volume.
    """

    zyx: np.ndarray
    probability: np.ndarray
    contest: np.ndarray
    shape_zyx: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.probability)

    @cached_property
    def _strides(self) -> np.ndarray:
        # One column and one row more than the volume has: a step over the edge then meets no voxel's key.
        _, y, x = self.shape_zyx
        return np.array([(y + 1) * (x + 1), x + 1, 1], np.int64)

    @cached_property
    def _keys(self) -> np.ndarray:
        return self.zyx @ self._strides

    def pairs(self, offset_zyx: Step) -> tuple[np.ndarray, np.ndarray]:
        """Places in the list of all neighbours i, j with j one step of `offset_zyx` from i; each at most once."""
        wanted = self._keys + int(np.dot(offset_zyx, self._strides))
        place = np.searchsorted(self._keys, wanted)
        place[place == len(self)] = 0
        first = np.flatnonzero((self._keys[place] == wanted) & (self.contest[place] == self.contest))
        return first, place[first]

    def values_of(self, volume: np.ndarray) -> np.ndarray:
        """The values (n,) of another volume (z, y, x) at these voxels."""
        z, y, x = self.zyx.T
        return volume[z, y, x]


def uncertain_voxels(
    error_probability: np.ndarray, segmentation: np.ndarray, runner_up: np.ndarray, threshold: float
) -> UncertainVoxels:
    """The voxels whose error probability is above a threshold.

    Args:
        error_probability: (z, y, x); voxels that were not assessed hold a negative value.
        segmentation, runner_up: label values of the same shape.
    """
    found = [np.empty((0, 3), np.int32)]
    for start, slab in _slabs(error_probability):
        places = np.argwhere(slab > threshold).astype(np.int32)
        places[:, 0] += start
        found.append(places)
    zyx = np.concatenate(found)
    z, y, x = zyx.T
    one, other = segmentation[z, y, x].astype(np.int64), runner_up[z, y, x].astype(np.int64)
    contest = (np.minimum(one, other) << 32) + np.maximum(one, other)
    depth, height, width = error_probability.shape
    return UncertainVoxels(zyx, error_probability[z, y, x].astype(np.float64), contest, (depth, height, width))


def expected_wrong_voxels(error_probability: np.ndarray) -> float:
    """Sum of the error probability over all voxels that were assessed."""
    return float(sum(np.maximum(slab, 0).sum(dtype=np.float64) for _start, slab in _slabs(error_probability)))


def _slabs(volume: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of a volume along z, so that temporary arrays stay small."""
    step = max(1, _SLAB_VOXELS // max(1, int(np.prod(volume.shape[1:]))))
    for start in range(0, volume.shape[0], step):
        yield start, volume[start : start + step]
