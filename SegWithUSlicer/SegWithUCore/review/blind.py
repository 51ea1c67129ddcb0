"""Blind sample: places that the map calls safe, shown unmarked among the regions, to measure what the map misses.

A reviewer who knows that a place is a control judges it differently. So a blind place is an ordinary `Region` with
numbers like those of the regions around it, its lines in the log are ordinary ones, and nothing on screen or in the
log distinguishes it before `BlindRevealed` lines are written at the end. The log's header holds `BlindSample.sha256`;
the sample itself is stored nowhere: it follows from the case's hash, so a resumed review gets the same places.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from ..regions.region import Competition, Kind, Region, Shape, in_order
from .log_format import BlindRevealed, Verdict

SAFE_BELOW = 0.05
"""Error probability under which the map calls a voxel safe: one chance in twenty of being wrong."""
STRATA_MM = ((-np.inf, -3.0), (-3.0, 0.0), (0.0, 3.0), (3.0, 10.0))
"""Distance to the predicted surface, negative inside: places come from each in turn, as many as there are."""
GAP_MM = 3.0
"""Least distance to a region, in whose view the place would be."""
SPACING_MM = 6.0
"""Least distance between two places."""
CANDIDATES = 6000
"""Voxels drawn at random before the rules are applied."""
WIDEST_VOXELS = 12
"""Half the edge of the cube in which a place's voxels are searched."""
Z_95 = 1.959963984540054
"""Quantile of the normal distribution for an interval that holds 95 %."""


@dataclass(frozen=True)
class SamplingInput:
    """What the sample is drawn from; arrays (z, y, x).

    Attributes:
        error_probability: negative where nothing was assessed.
        labels: label values of the segmentation.
        region_labels: region id of each voxel, 0 outside.
        spacing_zyx: mm.
        ijk_to_ras: 4 x 4, from voxel index (i, j, k) to RAS mm.
        names: of the label values, 0 for background.
    """

    error_probability: np.ndarray
    labels: np.ndarray
    region_labels: np.ndarray
    spacing_zyx: tuple[float, float, float]
    ijk_to_ras: np.ndarray
    names: Mapping[int, str]


@dataclass(frozen=True)
class BlindPosition:
    """A place and the voxels that are highlighted for it, (n, 3) indices z, y, x."""

    region: Region
    voxels: np.ndarray


@dataclass(frozen=True)
class BlindSample:
    """The blind places of a case."""

    places: tuple[BlindPosition, ...]

    @property
    def ids(self) -> frozenset[int]:
        """Which regions are blind places; for counting, never for showing."""
        return frozenset(place.region.id for place in self.places)

    @property
    def sha256(self) -> str:
        """Seal for the log's header: shows at the end that the sample is the one that was drawn at the start."""
        what = [f"{p.region.id}:{'.'.join(map(str, p.voxels[0]))}" for p in self.places]
        return hashlib.sha256(";".join(sorted(what)).encode()).hexdigest()

    def mixed(self, regions: Sequence[Region]) -> list[Region]:
        """Regions and blind places as one list, ranked anew."""
        everything = in_order([*regions, *(place.region for place in self.places)], "expected wrong volume")
        return [replace(region, rank=rank) for rank, region in enumerate(everything, 1)]


def draw_blind_sample(source: SamplingInput, regions: Sequence[Region], count: int, case_hash: str) -> BlindSample:
    """Draw up to `count` places where the error probability is low, away from regions and from each other.

    Args:
        regions: those to be reviewed; the places get numbers like theirs, so that they turn up among
            them in every order.
        count: places wanted; fewer come back where there is not enough room.
        case_hash: of the case's image or segmentation; the same hash gives the same places.
    """
    # Only random() gives the same numbers in all versions of Python, and numpy promises that for none of its own.
    rng = random.Random(int(hashlib.sha256(f"blind sample of {case_hash}".encode()).hexdigest(), 16))
    index, depth = _chosen_candidates(source, count, rng)
    first = int(source.region_labels.max(initial=0)) + 1
    ids = list(range(first, first + len(index)))
    for last in range(len(ids) - 1, 0, -1):  # ids must not reveal the strata
        other = int(rng.random() * (last + 1))
        ids[last], ids[other] = ids[other], ids[last]
    drawn = zip(index, depth, ids, (np.delete(index, n, 0) for n in range(len(index))), strict=True)
    return BlindSample(tuple(_as_region(source, regions, *one, rng) for one in drawn))


def _chosen_candidates(source: SamplingInput, count: int, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Choose candidates from one stratum after the other until there are `count`, or no more to find."""
    index, depth = _candidates(source, rng)
    waiting = [np.flatnonzero((depth > low) & (depth <= high)).tolist() for low, high in STRATA_MM]
    points = index * source.spacing_zyx
    chosen: list[int] = []
    while len(chosen) < count and any(waiting):
        for stratum in waiting:
            while stratum and len(chosen) < count:
                candidate = stratum.pop(0)
                if all(np.linalg.norm(points[candidate] - points[other]) >= SPACING_MM for other in chosen):
                    chosen.append(candidate)
                    break
    return index[np.asarray(chosen, int)], depth[np.asarray(chosen, int)]


def _candidates(source: SamplingInput, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Draw safe voxels at random, (n, 3) indices, and their signed distance to the surface in mm."""
    from scipy.spatial import cKDTree  # Slicer's window must be able to do without scipy until it is needed

    from ..metrics.overlap import boundary_voxels

    box = _box_of_structures(source)
    if box is None:
        return np.zeros((0, 3), np.int64), np.zeros(0)
    start = np.asarray([part.start for part in box])
    labels, regions = source.labels[box], source.region_labels[box]
    surface = np.argwhere(boundary_voxels(labels))
    drawn = {int(rng.random() * labels.size) for _ in range(CANDIDATES)}
    index = np.stack(np.unravel_index(sorted(drawn), labels.shape), -1)
    order = sorted(range(len(index)), key=lambda _: rng.random())
    index = index[order]
    risk = source.error_probability[box][tuple(index.T)]
    index = index[(risk >= 0) & (risk < SAFE_BELOW) & (regions[tuple(index.T)] == 0)]
    if not len(surface) or not len(index):
        return np.zeros((0, 3), np.int64), np.zeros(0)
    points = index * source.spacing_zyx
    beyond = STRATA_MM[-1][1] + 1.0  # how far exactly matters to no stratum
    tree = cKDTree(surface * source.spacing_zyx, balanced_tree=False)
    away = np.minimum(tree.query(points, distance_upper_bound=beyond)[0], beyond)
    depth = np.where(
        labels[tuple(index.T)] > 0, -away, np.maximum(away, 1e-6)
    )  # the outer side of a surface is outside
    occupied = np.argwhere(regions > 0)
    if len(occupied):
        free = (
            cKDTree(occupied * source.spacing_zyx, balanced_tree=False).query(points, distance_upper_bound=GAP_MM)[0]
            >= GAP_MM
        )
        index, depth = index[free], depth[free]
    return index + start, depth


def _box_of_structures(source: SamplingInput) -> tuple[slice, slice, slice] | None:
    """Find the box of all structures and what lies within the outermost stratum around them."""
    parts = []
    for axis, (size, spacing) in enumerate(zip(source.labels.shape, source.spacing_zyx, strict=True)):
        filled = np.flatnonzero(source.labels.any(axis=tuple(a for a in range(3) if a != axis)))
        if not filled.size:
            return None
        margin = int(np.ceil(STRATA_MM[-1][1] / spacing)) + 1
        parts.append(slice(max(0, int(filled[0]) - margin), min(size, int(filled[-1]) + margin + 1)))
    return parts[0], parts[1], parts[2]


def _as_region(
    source: SamplingInput,
    regions: Sequence[Region],
    index: np.ndarray,
    depth_mm: float,
    id_: int,
    others: np.ndarray,
    rng: random.Random,
) -> BlindPosition:
    """Make a region of a candidate, with slightly changed numbers of one of `regions`; `others`: candidates, (n, 3)."""
    voxel_mm3 = float(np.prod(source.spacing_zyx))
    model = regions[int(rng.random() * len(regions))] if regions else None
    size = max(1, round(model.volume_mm3 / voxel_mm3)) if model else 8
    voxels = _voxels_around(source, index, depth_mm, others, size)
    volume = len(voxels) * voxel_mm3
    density = (model.expected_wrong_mm3 / model.volume_mm3 if model else 0.3) * (0.9 + 0.2 * rng.random())
    structure, inside = _structure_at(source, index)
    truth, read_as = (0, structure) if inside else (structure, 0)
    near = abs(depth_mm) <= -STRATA_MM[1][0]
    share = model.competing[0].share if model and model.competing else 0.6 + 0.3 * rng.random()
    edges = (np.ptp(voxels, axis=0) + 1) * source.spacing_zyx
    region = Region(
        id=id_,
        rank=id_,
        structure=source.names[structure],
        structure_value=structure,
        kind=Kind.BOUNDARY if near else Kind.EXTRA if inside else Kind.MISSED,
        shape=Shape.THIN if near else Shape.BLOB,
        expected_wrong_mm3=density * volume,
        volume_mm3=volume,
        peak=min(1.0, (model.peak if model else 0.4) * (0.9 + 0.2 * rng.random())),
        peak_ras_mm=_ras(source, index),
        centre_ras_mm=_ras(source, voxels.mean(0)),
        size_mm=(float(edges[2]), float(edges[1]), float(edges[0])),
        competing=(Competition(source.names[truth], source.names[read_as], share),),
        touches_border=bool((voxels == 0).any() or (voxels == np.subtract(source.labels.shape, 1)).any()),
        model_percentile=model.model_percentile if model else None,
        data_percentile=model.data_percentile if model else None,
    )
    return BlindPosition(region, voxels)


def _cube(source: SamplingInput, index: np.ndarray) -> tuple[slice, slice, slice]:
    k, j, i = (
        slice(max(0, at - WIDEST_VOXELS), min(size, at + WIDEST_VOXELS + 1))
        for at, size in zip(index.tolist(), source.labels.shape, strict=True)
    )
    return k, j, i


def _voxels_around(
    source: SamplingInput, index: np.ndarray, depth_mm: float, others: np.ndarray, size: int
) -> np.ndarray:
    """Grow a connected blob of safe voxels around the candidate, along the surface if it is near, as regions are.

    Voxels that are as near to another candidate are left to it, so that places never overlap.
    """
    from scipy.ndimage import label

    from ..metrics.overlap import distance_to_boundary

    cube = _cube(source, index)
    start = np.asarray([part.start for part in cube])
    risk = source.error_probability[cube]
    safe = (source.region_labels[cube] == 0) & (risk >= 0) & (risk < SAFE_BELOW)
    distance = _distance(cube, index, source)
    for other in others:
        safe &= distance < _distance(cube, other, source)
    points, far = np.argwhere(safe), distance[safe]
    if abs(depth_mm) <= -STRATA_MM[1][0]:
        depth = distance_to_boundary(source.labels[cube], source.spacing_zyx)[safe]
        far = far + np.where(far > 0, 2 * np.minimum(np.abs(depth - abs(depth_mm)), far.max()), 0)
    nearest = points[np.argsort(far, kind="stable")[:size]]
    chosen = np.zeros(safe.shape, bool)
    chosen[tuple(nearest.T)] = True
    pieces, _ = label(chosen, np.ones((3, 3, 3)))
    return np.asarray(nearest[pieces[tuple(nearest.T)] == pieces[tuple(nearest[0])]] + start)


def _distance(cube: tuple[slice, slice, slice], index: np.ndarray, source: SamplingInput) -> np.ndarray:
    """Distance in mm of each voxel of a cube from a voxel."""
    axes = np.ogrid[cube]
    parts = zip(axes, index.tolist(), source.spacing_zyx, strict=True)
    return np.asarray(np.sqrt(sum(((axis - at) * spacing) ** 2 for axis, at, spacing in parts)))


def _structure_at(source: SamplingInput, index: np.ndarray) -> tuple[int, bool]:
    """Label value of the structure at or nearest to a candidate, and whether it lies inside."""
    own = int(source.labels[tuple(index)])
    if own:
        return own, True
    cube = _cube(source, index)
    labels = source.labels[cube]
    if not labels.any():
        values, counts = np.unique(source.labels[source.labels > 0], return_counts=True)
        return int(values[counts.argmax()]), False
    return int(labels[labels > 0][_distance(cube, index, source)[labels > 0].argmin()]), False


def _ras(source: SamplingInput, index_zyx: np.ndarray) -> tuple[float, float, float]:
    r, a, s, _ = source.ijk_to_ras @ [*index_zyx[::-1].tolist(), 1.0]
    return float(r), float(a), float(s)


def blind_report(places: Collection[int], verdict_of: Callable[[int], Verdict | None]) -> str:
    """Sum up the verdicts on blind places, for people: how many were wrong where the map calls the segmentation safe.

    The rate is one of places drawn evenly from the strata of `blind_sample`, not one of voxels.

    Args:
        places: their ids.
        verdict_of: for example `ReviewState.verdict_of`.
    """
    counts = Counter(verdict_of(place) for place in places)
    wrong = counts[Verdict.CORRECTED] + counts[Verdict.REJECTED]
    judged = wrong + counts[Verdict.ACCEPTED]
    if not judged:
        return f"None of the {len(places)} blind places was judged, so nothing is known about what the map misses."
    rate, low, high = (f"{share * 100:.0f}" for share in (wrong / judged, *wilson_interval(wrong, judged)))
    return (
        f"{wrong} of {judged} judged blind places were wrong: {rate} % of places like these, where the map expects no "
        f"error (95 % interval {low} to {high} %); {len(places) - judged} of {len(places)} were not judged."
    )


def revealed(places: Collection[int], verdict_of: Callable[[int], Verdict | None]) -> list[BlindRevealed]:
    """List what to log when the review is over: which regions were blind, and the answers."""
    return [BlindRevealed(place, verdict_of(place)) for place in sorted(places)]


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a rate by Wilson's score; (0, 1) without trials.

    Source: Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    if not trials:
        return 0.0, 1.0
    rate, z2 = hits / trials, Z_95**2
    middle = rate + z2 / (2 * trials)
    half = Z_95 * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
