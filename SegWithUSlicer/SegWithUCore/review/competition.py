"""Which structures compete in a region, in which direction, and what kind of region that makes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..regions.region import Competition, Kind

BACKGROUND = 0
MOST = 0.75
"""Share of the expected error that must point one way for a thick region to count as missed or extra part."""


@dataclass(frozen=True)
class Way:
    """One way to be wrong, in label values: `read_as` in the segmentation, `truth` the runner-up; share 0 to 1."""

    truth: int
    read_as: int
    share: float

    def named(self, names: Mapping[int, str]) -> Competition:
        """The same with names."""
        return Competition(names[self.truth], names[self.read_as], self.share)


def ways_to_be_wrong(
    segmentation: np.ndarray, runner_up: np.ndarray, region: np.ndarray, weight: np.ndarray, count: int
) -> list[list[Way]]:
    """The ways in which each region may be wrong, the most likely first.

    Args:
        segmentation, runner_up: (n,) label values of the uncertain voxels.
        region: (n,) region number of each, 0 for none.
        weight: (n,) error probability.
        count: of regions.

    Returns:
        A list of ways for each number from 0 to `count`.
    """
    values = np.union1d(segmentation, runner_up)
    shape = (count + 1, len(values), len(values))
    there = (region, np.searchsorted(values, segmentation), np.searchsorted(values, runner_up))
    kinds, place = np.unique(np.ravel_multi_index(there, shape), return_inverse=True)
    mass = np.bincount(place, weight, len(kinds))
    number, read_as, truth = np.unravel_index(kinds, shape)
    share = mass / np.bincount(number, mass, count + 1)[number]
    order = np.argsort(-mass, kind="stable")
    ways: list[list[Way]] = [[] for _ in range(count + 1)]
    columns = (number, values[truth], values[read_as], share)
    for region_number, *way in zip(*(column[order].tolist() for column in columns), strict=True):
        ways[region_number].append(Way(*way))
    return ways


def kind_of(ways: Sequence[Way], is_blob: bool) -> Kind:
    """What may be wrong in a region.

    Two structures that compete are a confusion. A blob whose error points one way is a part that is missed or extra;
    a sheet, or a blob with both directions in it, is a piece of a boundary that may lie elsewhere.
    """
    between = sum(way.share for way in ways if BACKGROUND not in (way.truth, way.read_as))
    missed = sum(way.share for way in ways if way.read_as == BACKGROUND)
    extra = sum(way.share for way in ways if way.truth == BACKGROUND)
    if between >= 0.5:
        return Kind.CONFUSION
    if is_blob and missed >= MOST * (missed + extra):
        return Kind.MISSED
    if is_blob and extra >= MOST * (missed + extra):
        return Kind.EXTRA
    return Kind.BOUNDARY


def strongest_structure(ways: Sequence[Way]) -> int:
    """The label value that most of the expected error is about: what is there, or else what may be missing."""
    share: dict[int, float] = {}
    for way in ways:
        value = way.read_as if way.read_as != BACKGROUND else way.truth
        share[value] = share.get(value, 0.0) + way.share
    return max(share, key=lambda value: (share[value], -value))
