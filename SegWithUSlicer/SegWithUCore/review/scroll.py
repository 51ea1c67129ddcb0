"""Scroll the contour of a structure through the model's error probability: positions, and the labels at each.

A position gives the structure to the voxels that are most likely its own. Only voxels about which the model is unsure
move, near the contour as it is now, and each only between its drawn label and its runner-up: no third label arises.
No gesture leaves islands or holes of the structure; contours are smoothed, so that neighbours stay whole.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError

# Voxels with less error probability stay.
LEAST_ERROR = np.float32(0.05)
# How far a contour moves: of a whole structure, and of a region.
STRUCTURE_MM, REGION_MM = 3.0, 2.0
MOST_POSITIONS = 40
# Of smoothing.
PASSES = 2


@dataclass(frozen=True)
class Volumes:
    """What a contour moves in; arrays (z, y, x) of one shape.

    Attributes:
        now: labels as they are now.
        drawn, runner_up, error: the model's maps, which no edit changes; `error` is float32.
        fixed: voxels that stay, since a hand has drawn them.
        finished: values of structures that win and lose nothing.
        spacing_mm: along z, y, x.
    """

    now: np.ndarray
    drawn: np.ndarray
    runner_up: np.ndarray
    error: np.ndarray
    fixed: np.ndarray
    finished: Collection[int]
    spacing_mm: tuple[float, float, float]


class Scroll:
    """The positions of one contour, from the smallest to the largest structure.

    Args:
        volumes: as they are before the gesture; they do not change during it.
        value: of the structure.
        region: voxels of one of its regions; None for the whole structure.

    Attributes:
        movable: flat indices, those most likely of the structure first.
        counts: of each position, how many of them are the structure's.
        start: the position of the contour as it is now.

    Raises:
        InputError: the structure is finished.
    """

    def __init__(self, volumes: Volumes, value: int, region: np.ndarray | None = None) -> None:
        if value in volumes.finished:
            raise InputError("This structure is finished: reopen it first.", "structure-finished")
        self._volumes, self._value = volumes, value
        now, drawn, second = (each.ravel() for each in (volumes.now, volumes.drawn, volumes.runner_up))
        stays = [*volumes.finished]
        places = np.flatnonzero((drawn == value) | (second == value))
        places = places[(volumes.error.ravel()[places] > LEAST_ERROR) & ~volumes.fixed.ravel()[places]]
        other = np.where(drawn[places] == value, second[places], drawn[places])
        places = places[~np.isin(now[places], stays) & ~np.isin(other, stays)]
        reach = STRUCTURE_MM if region is None else REGION_MM
        if region is not None:
            marked = region.ravel()
            places = self._near(places, reach, lambda _here, there: marked[there])
        places = self._near(places, reach, lambda here, there: (now[here] == value) != (now[there] == value))
        error = volumes.error.ravel()[places]
        share = np.where(drawn[places] == value, np.float32(1) - error, error)
        self.movable = places[np.argsort(-share, kind="stable")]
        self._other = np.where(drawn[self.movable] == value, second[self.movable], drawn[self.movable])
        at = np.stack(np.unravel_index(self.movable, volumes.now.shape))
        first = np.maximum(at.min(axis=1, initial=at.max(initial=0)) - 1, 0)
        box = tuple(slice(low, high + 2) for low, high in zip(first, at.max(axis=1, initial=0), strict=True))
        self._now, self._at = volumes.now[box], tuple(at - first.reshape(3, 1))
        self._own, self._before = self._now == value, self._now[self._at]
        self._is_own, self._was_loose = self._own[self._at], self._is_loose(self._now)
        steps, own = min(MOST_POSITIONS, self.movable.size), int(np.count_nonzero(self._is_own))
        evenly = [self.movable.size * step // max(steps, 1) for step in range(steps + 1)]
        self.start = sum(count < own for count in evenly)
        self.counts = [*evenly[: self.start], own, *evenly[self.start :]]
        # A turn of the wheel never goes the other way: the present contour is not one of the model's.
        while self.start + 2 < len(self.counts) and self._gain(self.start + 1) <= 0:
            del self.counts[self.start + 1]
        while self.start > 1 and self._gain(self.start - 1) >= 0:
            del self.counts[self.start - 1]
            self.start -= 1

    def _gain(self, position: int) -> int:
        places, labels = self.at(position)
        before = self._volumes.now.ravel()[places]
        return int(np.count_nonzero(labels == self._value)) - int(np.count_nonzero(before == self._value))

    def at(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the flat indices of the voxels that a position changes, and their labels there."""
        if position == self.start:
            return self.movable[:0], self._before[:0]
        becomes_own = self._smooth(np.arange(self.movable.size) < self.counts[position])
        gains, leaves = becomes_own & ~self._is_own, ~becomes_own & self._is_own
        gains, leaves = self._touches(gains, self._own, leaves), self._touches(leaves, ~self._own, gains)
        labels = np.where(gains, self._value, self._other)
        return self.movable[gains | leaves], labels[gains | leaves]

    def _smooth(self, becomes_own: np.ndarray) -> np.ndarray:
        """Exchange the side of movable voxels that would have their label at one face at most, and had it at more.

        A neighbour of which the structure takes voxels here and there fell into 18 pieces otherwise, a hippocampus.
        """
        else_ = np.where(self._is_own, self._other, self._before)
        for _ in range(PASSES):
            labels = self._now.copy()
            labels[self._at] = np.where(becomes_own, self._value, else_)
            becomes_own = becomes_own ^ (self._is_loose(labels) & ~self._was_loose)
        return becomes_own

    def _is_loose(self, labels: np.ndarray) -> np.ndarray:
        """Find which movable voxels have at most one voxel of their label at a face; `labels` of the box."""
        alike = np.zeros(labels.shape, np.uint8)
        for axis in range(3):
            each, found = np.moveaxis(labels, axis, 0), np.moveaxis(alike, axis, 0)
            same = each[:-1] == each[1:]
            found[:-1] += same
            found[1:] += same
        return np.asarray(alike[self._at] < 2)

    def _touches(self, changed: np.ndarray, before: np.ndarray, taken: np.ndarray) -> np.ndarray:
        """Find which changed voxels hang together with those of before, face by face: the others are islands, or holes.

        Args:
            changed, taken: flags of the movable voxels: which come to those of before, and which leave them.
            before: flags of all voxels in the box.
        """
        inside, stays = np.zeros_like(before), before.copy()
        inside[tuple(part[changed] for part in self._at)] = True
        stays[tuple(part[taken] for part in self._at)] = False
        parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(inside.astype(np.uint8))))
        joined = np.zeros(int(parts.max(initial=0)) + 1, bool)
        for axis in range(3):
            one, next_ = (np.moveaxis(each, axis, 0) for each in (parts, stays))
            joined[one[:-1][next_[1:]]] = joined[one[1:][next_[:-1]]] = True
        joined[0] = False
        return np.asarray(changed & joined[parts[self._at]])

    def _near(
        self, places: np.ndarray, reach_mm: float, holds: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Return the places with another one, at most so far away, for which something holds."""
        spacing, shape = self._volumes.spacing_mm, self._volumes.now.shape
        most = [int(reach_mm / step) for step in spacing]
        offsets = [
            (sum((along * step) ** 2 for along, step in zip(offset, spacing, strict=True)), offset)
            for offset in product(*(range(-size, size + 1) for size in most))
        ]
        found, left = np.zeros(places.size, bool), np.arange(places.size)
        at = np.stack(np.unravel_index(places, shape))
        for squared, offset in sorted(offsets):  # the nearest first: few places are left for the others
            if squared > reach_mm**2 or not left.size:
                continue
            there = at[:, left] + np.reshape(offset, (3, 1))
            is_inside = np.all((there >= 0) & (there < np.reshape(shape, (3, 1))), axis=0)
            asked = left[is_inside]
            found[asked] = holds(places[asked], np.ravel_multi_index(tuple(there[:, is_inside]), shape))
            left = left[~found[left]]
        return places[found]
