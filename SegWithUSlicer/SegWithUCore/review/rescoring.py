"""Re-scoring after edits: what changed inside and outside regions, and what is still expected to be wrong."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

Box = tuple[slice, slice, slice]
WHOLE: Box = (slice(None), slice(None), slice(None))
CHUNK = 1 << 18
"""Voxels added up at once."""


@dataclass(frozen=True)
class Rescore:
    """The state of a case after edits.

    Attributes:
        inside: changed voxels of each region that has any.
        outside: changed voxels in no region.
        changed_mm3: volume of all changed voxels.
        remaining_mm3: expected wrong volume of the voxels that are neither changed nor in a seen region.
        region_remaining_mm3: the part of it in each region; 0 in a seen one.
    """

    inside: dict[int, int]
    outside: int
    changed_mm3: float
    remaining_mm3: float
    region_remaining_mm3: dict[int, float]

    @property
    def inside_voxels(self) -> int:
        """Changed voxels in all regions."""
        return sum(self.inside.values())


class Rescoring:
    """Re-scores a case edit after edit; what does not change is added up once.

    Only the places of changed voxels are kept, so that an edit costs what its box costs.
    """

    def __init__(
        self, error_probability: np.ndarray, original_labels: np.ndarray, region_labels: np.ndarray, voxel_mm3: float
    ) -> None:
        """Start with the case before any edit; contiguous arrays (z, y, x) are kept, not copied.

        Args:
            error_probability: negative where nothing was assessed: no error is expected there.
            original_labels: label values of the model's segmentation.
            region_labels: region id of each voxel, 0 outside.

        Raises:
            ValueError: the arrays have different shapes.
        """
        if not error_probability.shape == original_labels.shape == region_labels.shape:
            raise ValueError(
                f"Arrays of {error_probability.shape}, {original_labels.shape} and {region_labels.shape} voxels: "
                "error probability, labels and regions must lie on one grid."
            )
        self._original = original_labels
        self._probability = np.ascontiguousarray(error_probability).reshape(-1)
        self._regions = np.ascontiguousarray(region_labels).reshape(-1)
        self._voxel_mm3 = voxel_mm3
        self._total = sum(
            _positive_sum(self._probability[start : start + CHUNK]) for start in range(0, self._probability.size, CHUNK)
        )
        members = np.flatnonzero(self._regions)
        ids = self._regions[members]
        self._length = int(ids.max()) + 1 if ids.size else 1
        self._expected = self._sums(members)
        self._ids = np.flatnonzero(np.bincount(ids, minlength=self._length))
        self._changed = np.zeros(0, np.int64)

    def after(self, edited: np.ndarray, seen_ids: Collection[int], box: Box = WHOLE) -> Rescore:
        """Compute the state after an edit.

        Args:
            edited: label values of the reviewer's segmentation inside `box`.
            seen_ids: regions whose verdict is accepted or corrected.
            box: part of the grid outside which nothing changed since the last call; starts and stops within the grid.

        Raises:
            ValueError: `edited` does not have the shape of `box`.
        """
        original = self._original[box]
        if edited.shape != original.shape:
            raise ValueError(f"Edited labels of {edited.shape} voxels for a box of {original.shape}.")
        starts = [part.indices(size)[0] for part, size in zip(box, self._original.shape, strict=True)]
        indices = np.unravel_index(np.flatnonzero(edited != original), original.shape)
        shifted = tuple(index + start for index, start in zip(indices, starts, strict=True))
        found = np.ravel_multi_index(shifted, self._original.shape)
        self._changed = np.concatenate([self._changed[~self._inside(box)], found])
        return self.seen(seen_ids)

    def _inside(self, box: Box) -> np.ndarray:
        """Which of the changed voxels lie in `box`."""
        inside = np.ones(self._changed.size, bool)
        for index, part, size in zip(
            np.unravel_index(self._changed, self._original.shape), box, self._original.shape, strict=True
        ):
            start, stop, _ = part.indices(size)
            inside &= (index >= start) & (index < stop)
        return inside

    def _sums(self, voxels: np.ndarray) -> np.ndarray:
        """Sum of the error probability of some voxels by region id, 0 outside regions."""
        expected = np.maximum(self._probability[voxels], 0)
        return np.bincount(self._regions[voxels], weights=expected, minlength=self._length)

    def seen(self, seen_ids: Collection[int]) -> Rescore:
        """Compute the state after verdicts alone, without another edit."""
        counts = np.bincount(self._regions[self._changed], minlength=self._length)
        changed = self._sums(self._changed)
        left = np.maximum(self._expected - changed, 0.0)
        outside = max(0.0, self._total - float(self._expected.sum()) - float(changed[0]))
        seen = [region for region in seen_ids if 0 < region < self._length]
        left[seen] = 0.0
        left[0] = 0.0
        touched = np.flatnonzero(counts[1:]) + 1
        return Rescore(
            {int(region): int(counts[region]) for region in touched},
            int(counts[0]),
            self._changed.size * self._voxel_mm3,
            (outside + float(left.sum())) * self._voxel_mm3,
            {int(region): float(left[region]) * self._voxel_mm3 for region in self._ids},
        )


def _positive_sum(values: np.ndarray) -> float:
    return float((np.maximum(values, 0) if values.min() < 0 else values).sum(dtype=np.float64))
