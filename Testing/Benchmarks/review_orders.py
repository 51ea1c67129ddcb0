"""Ways to go through a case: what is looked at first, and how much of what is wrong has then been seen."""

from dataclasses import dataclass

import numpy as np
from region_cases import ScoredCase
from scipy.ndimage import label
from scipy.spatial import cKDTree

from SegWithUCore.metrics.overlap import boundary_voxels, distance_to_boundary
from SegWithUCore.regions.find_regions import FoundRegions, RegionSettings, find_regions

ALL_NEIGHBOURS = np.ones((3, 3, 3), bool)
PATCH_ROUNDS = 3


@dataclass(frozen=True)
class ReviewOrder:
    """Voxels in the order in which they are looked at, as looks of one or more voxels.

    Attributes:
        wrong: for n = 0, 1, 2...: share of the wrong voxels among the first n.
        ends: (looks,) number of voxels after each look. What lies beyond the last is in the order of the score.
    """

    wrong: np.ndarray
    ends: np.ndarray

    def after_looks(self, looks: int) -> tuple[int, float]:
        """Voxels looked at, and the share of the wrong ones, after some looks or all there are."""
        if not self.ends.size:
            return 0, 0.0
        voxels = int(self.ends[min(looks, self.ends.size) - 1])
        return voxels, float(self.wrong[voxels])

    def reached(self, voxels: int, looks: int | None = None) -> int:
        """Voxels looked at in groups, with so many voxels and looks at most."""
        count = self.ends.size if looks is None else min(looks, self.ends.size)
        return min(voxels, int(self.ends[count - 1])) if count else 0

    def looks_at(self, voxels: int) -> int:
        """Groups begun within the first so many voxels."""
        return int(np.count_nonzero(np.r_[0, self.ends[:-1]][: self.ends.size] < voxels))


def in_groups(
    case: ScoredCase, groups: np.ndarray, group_order: np.ndarray, score: np.ndarray, sorted_inside: bool = False
) -> ReviewOrder:
    """Whole groups one after the other; then everything else by score.

    Args:
        groups: (z, y, x) number of each voxel's group, 0 for none.
        group_order: numbers, the first to be looked at first.
        score: (z, y, x), higher is looked at earlier.
        sorted_inside: inside a group by score too. Otherwise a group that is seen in part counts in proportion: one
            who looks at a place sees it as it lies. Sorted, a group that spans the whole structure is but a name for
            single voxels.
    """
    position = np.full(int(groups.max()) + 1, len(group_order), np.int64)
    position[group_order] = np.arange(len(group_order))
    place, inside = position[groups.ravel()], -score.ravel()
    if not sorted_inside:
        inside = np.where(place < len(group_order), 0, inside)
    order = np.lexsort((inside, place))
    place, inside = place[order], inside[order]
    # Equal scores stand in no order: each counts as wrong as they are on average.
    new = np.r_[True, (place[1:] != place[:-1]) | (inside[1:] != inside[:-1])]
    tie = np.cumsum(new) - 1
    error = (np.bincount(tie, case.wrong.ravel()[order]) / np.bincount(tie))[tie]
    wrong = np.concatenate([[0.0], np.cumsum(error)]) / max(1, int(case.wrong.sum()))
    return ReviewOrder(wrong, np.cumsum(np.bincount(place, minlength=len(group_order) + 1)[:-1]))


def in_views(groups: np.ndarray, spacing_zyx: np.ndarray, view_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Groups that do not fit into one view, halved along their longest axis until they do.

    Args:
        groups: (z, y, x) number of each voxel's group, 0 for none.
        view_mm: longest diagonal of the box around a group.

    Returns:
        The groups, numbered anew from 1, and for each number the group that it is a part of.
    """
    inside = groups > 0
    whole, place = groups[inside].astype(np.int64), np.argwhere(inside) * spacing_zyx
    _, part = np.unique(whole, return_inverse=True)
    while part.size:
        low = np.full((int(part.max()) + 1, 3), np.inf)
        high = -low
        np.minimum.at(low, part, place)
        np.maximum.at(high, part, place)
        axis = (high - low).argmax(1)
        too_long = np.linalg.norm(high - low + spacing_zyx, axis=1) > view_mm
        if not too_long.any():
            break
        middle = np.take_along_axis((low + high) / 2, axis[:, None], 1)[:, 0]
        upper = place[np.arange(len(place)), axis[part]] > middle[part]
        _, part = np.unique(2 * part + (upper & too_long[part]), return_inverse=True)
    parts = np.zeros(groups.shape, np.int64)
    parts[inside] = part + 1
    of = np.zeros(int(part.max(initial=-1)) + 2, np.int64)
    of[part + 1] = whole
    return parts, of


def by_regions(
    case: ScoredCase, probability: np.ndarray, settings: RegionSettings, view_mm: float = np.inf
) -> tuple[ReviewOrder, FoundRegions]:
    """The regions that the program makes, in its order, from any error probability; cut into views if asked for."""
    found = find_regions(case.assessed(probability), settings)
    groups = found.labels.astype(np.int64)
    order = np.array([region.id for region in found.regions], np.int64)
    if np.isfinite(view_mm):
        groups = in_views(groups, case.spacing_zyx, view_mm)[0]
        order = _by_sum(groups, probability)
    return in_groups(case, groups, order, probability), found


def by_components(case: ScoredCase, score: np.ndarray, threshold: float, view_mm: float = np.inf) -> ReviewOrder:
    """Connected components of a score above a threshold, cut into views, the largest sum first."""
    groups = in_views(label(score > threshold, ALL_NEIGHBOURS)[0], case.spacing_zyx, view_mm)[0]
    return in_groups(case, groups, _by_sum(groups, score), score)


def by_clusters(case: ScoredCase, score: np.ndarray, voxels: int, view_mm: float = np.inf) -> ReviewOrder:
    """Connected groups that the first so many voxels by score make, cut into views, the largest sum first."""
    groups = in_views(label(_first(score, voxels), ALL_NEIGHBOURS)[0], case.spacing_zyx, view_mm)[0]
    return in_groups(case, groups, _by_sum(groups, score), score)


def _by_sum(groups: np.ndarray, score: np.ndarray) -> np.ndarray:
    return np.argsort(-np.bincount(groups.ravel(), score.ravel())[1:], kind="stable") + 1


def _first(score: np.ndarray, voxels: int) -> np.ndarray:
    first = np.zeros(score.size, bool)
    first[np.argsort(-score.ravel(), kind="stable")[:voxels]] = True
    return first.reshape(score.shape)


def by_voxels(case: ScoredCase, score: np.ndarray) -> ReviewOrder:
    """Single voxels by score; voxels that touch count as one look, so looks are counted by `clusters`."""
    return in_groups(case, np.zeros(score.shape, np.int64), np.empty(0, np.int64), score)


def clusters(score: np.ndarray, voxels: int) -> int:
    """Connected groups that the first so many voxels by score make."""
    return int(label(_first(score, voxels), ALL_NEIGHBOURS)[1])


def by_boundary_patches(
    case: ScoredCase,
    score: np.ndarray,
    threshold: float,
    patch_mm2: float,
    reach_mm: float,
    only_uncertain: bool,
    view_mm: float = np.inf,
) -> ReviewOrder:
    """Patches of the predicted boundary of equal area, the thickest uncertain shell first.

    The boundary is cut into patches around seeds that lie far apart; every voxel within reach belongs to the patch of
    its nearest boundary voxel. A patch is as thick as its voxels above the threshold per boundary voxel. What does not
    fit into one view is cut.

    Args:
        only_uncertain: the reviewer is shown these voxels alone, and not the whole shell within reach.
    """
    boundary = np.argwhere(boundary_voxels(case.classes))
    groups = np.zeros(case.classes.shape, np.int64)
    if not len(boundary):
        return in_groups(case, groups, np.empty(0, np.int64), score)
    places = boundary * case.spacing_zyx
    # A boundary has a voxel on either side.
    area = len(boundary) * case.voxel_mm3 ** (2 / 3) / 2
    patch = _equal_patches(places, max(1, round(area / patch_mm2)))
    near = np.argwhere(distance_to_boundary(case.classes, case.spacing_zyx) <= reach_mm)
    nearest = cKDTree(places).query(near * case.spacing_zyx)[1]
    member = patch[nearest] + 1
    uncertain = score[tuple(near.T)] > threshold
    count = int(member.max())
    thickness = np.bincount(member, uncertain, count + 1) / np.maximum(np.bincount(patch + 1, minlength=count + 1), 1)
    kept = uncertain if only_uncertain else np.ones(len(near), bool)
    groups[tuple(near[kept].T)] = member[kept]
    parts, whole = in_views(groups, case.spacing_zyx, view_mm)
    return in_groups(case, parts, np.argsort(-thickness[whole[1:]], kind="stable") + 1, score)


def _equal_patches(places: np.ndarray, count: int) -> np.ndarray:
    """Which of `count` patches each place is in: seeds as far apart as can be, then moved to the middle."""
    distance = np.full(len(places), np.inf)
    seeds, place = [], 0
    for _ in range(count):
        seeds.append(places[place])
        distance = np.minimum(distance, ((places - places[place]) ** 2).sum(1))
        place = int(distance.argmax())
    middles = np.array(seeds)
    for _ in range(PATCH_ROUNDS):
        nearest = cKDTree(middles).query(places)[1]
        kept = np.unique(nearest)
        middles = np.stack([places[nearest == number].mean(0) for number in kept])
    return np.unique(cKDTree(middles).query(places)[1], return_inverse=True)[1]
