"""Find the regions to review: group uncertain voxels, and describe each group by place, size and confusions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..util.plane_files import Planes, plane_pieces
from .region import UNCERTAIN, Competition, Kind, Region, Shape, expected_wrong
from .uncertain_voxels import (
    UncertainVoxels,
    expected_wrong_voxels,
    extents,
    peaks,
    thickness_mm,
    uncertain_voxels,
    values_at,
)
from .watershed import basins, error_density

BACKGROUND = 0
BLOB_VOXELS = 2.5
"""Mean thickness in voxels, of at least 1 mm, from which a region counts as a blob."""
ONE_WAY = 0.75
"""Share of the expected error that must point one way for a thick region to count as missed or extra part."""

MOST_REGIONS = 20_000
"""More are not reviewed, and their list would not be read again (`input_files`): 4 MB. Noise alone has so many."""

BLIND_MANY, BLIND_MANY_SHARE = 5, 0.2
"""Places of the blind sample in every fifth case; in the others there is one of each structure."""

_SAMPLED_VOXELS = 1 << 18

Columns = dict[str, Sequence[Any]]
"""Attributes of `Region` for all regions, by name; each indexed by region number, of which 0 is no region."""


@dataclass(frozen=True)
class RegionSettings:
    """How regions are made; chosen on the hippocampus validation cases (Testing/Benchmarks/results/regions.md).

    Attributes:
        threshold: a voxel counts as uncertain above this error probability.
        sigma_mm: width of one look: density is smoothed by this.
        split: touching groups stay apart where the density between them drops below this share of the lower one.
        extent_mm: largest diagonal of a merged region, blobs excepted: what fits into one view without moving.
        min_density: groups whose density stays below this are thin boundary uncertainty and left out: 0.06 is a sheet
            of 1 mm at an error probability of 0.3.
        most: regions of one structure, those with the largest expected wrong volume; nobody goes through more.
    """

    threshold: float = UNCERTAIN
    sigma_mm: float = 2.0
    split: float = 0.9
    extent_mm: float = 20.0
    min_density: float = 0.06
    most: int = 20


@dataclass(frozen=True)
class Assessed:
    """What regions are made from: volumes (z, y, x) of one shape, on a part of a grid.

    Attributes:
        error_probability: 0 to 1; negative where not assessed; None without a model.
        segmentation, runner_up: label values of the most and second most probable class. Where both are equal,
            nothing competes.
        names: of the label values, background included.
        ijk_to_ras: 4 x 4, from voxel index (i, j, k) of the array to RAS mm.
        model_percentile, data_percentile: 0 to 100 at uncertain voxels, None if the model does not tell.
        asked: label values of the structures to be measured: a region between one of them and another is about it.
    """

    error_probability: Planes | None
    segmentation: Planes
    runner_up: Planes
    names: Mapping[int, str]
    ijk_to_ras: np.ndarray
    model_percentile: Planes | None = None
    data_percentile: Planes | None = None
    asked: Collection[int] = ()

    @property
    def spacing_zyx(self) -> np.ndarray:
        """Voxel size in mm, (z, y, x)."""
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)[::-1]


@dataclass(frozen=True)
class FoundRegions:
    """Regions in the order of expected wrong volume.

    Attributes:
        regions: rank 1 first.
        labels: (z, y, x), the region's id or 0; uint16, or uint32 beyond 65 535 regions.
        expected_wrong_mm3: of everything that was assessed; None without error probability.
        diffuse_mm3: expected wrong volume of uncertain voxels spread too thin to make a region, by structure name;
            of the regions beyond the `most` of a structure, and beyond `MOST_REGIONS`, too.
        left_out: how many regions there are beyond `MOST_REGIONS`, those with the least expected wrong volume.
        blind: places of the blind sample (`Kind.BLIND`).
    """

    regions: tuple[Region, ...]
    labels: np.ndarray
    expected_wrong_mm3: float | None
    diffuse_mm3: dict[str, float]
    left_out: int = 0
    blind: tuple[Region, ...] = ()

    @property
    def left_out_sentence(self) -> str:
        """Say that regions are left out, and what that means."""
        found = f"Of {len(self.regions) + self.left_out} regions to review {len(self.regions)} are listed"
        return f"{found}: the model cannot read this image, so check that it is of the right kind."

    def summary(self, settings: RegionSettings | None) -> dict[str, Any]:
        """Summarise for `case.json`; without settings, of findings in a mask alone."""
        return {
            "count": len(self.regions),
            "settings": {} if settings is None else asdict(settings),
            "expected_wrong_mm3": self.expected_wrong_mm3,
            "expected_wrong_in_regions_mm3": None if self.expected_wrong_mm3 is None else expected_wrong(self.regions),
            "diffuse_mm3": self.diffuse_mm3,
        }


def find_regions(assessed: Assessed, settings: RegionSettings | None = None) -> FoundRegions:
    """Group the uncertain voxels into regions and describe each.

    Regions are numbered along the scan order of their density peaks, so that the same voxels always get the same id.
    """
    assert assessed.error_probability is not None
    settings = settings or RegionSettings()
    spacing = assessed.spacing_zyx
    voxel_mm3 = float(np.prod(spacing))
    voxels = uncertain_voxels(assessed.error_probability, assessed.segmentation, assessed.runner_up, settings.threshold)
    density = error_density(voxels, spacing, settings.sigma_mm)
    # A density above the threshold needs more than a sheet: there the uncertain voxels are thick.
    region = 1 + basins(
        voxels,
        density,
        spacing,
        settings.split,
        settings.extent_mm,
        solid=settings.threshold,
        min_density=settings.min_density,
    )
    region, left_out = _largest(voxels, region)
    region = _looks(assessed, voxels, region, settings)
    total = expected_wrong_voxels(assessed.error_probability) * voxel_mm3
    labels = np.zeros(voxels.shape_zyx, np.uint16 if region.max(initial=0) < 1 << 16 else np.uint32)
    labels[tuple(voxels.zyx.T)] = region
    found = _described(assessed, voxels, region, int(region.max(initial=0)))
    return FoundRegions(
        found,
        labels,
        total,
        _diffuse_mm3(assessed, voxels, region == 0, voxel_mm3),
        left_out,
        blind_sample(assessed, labels, len(found)),
    )


def without_probability(found: FoundRegions) -> FoundRegions:
    """Return regions of voxels that two readers draw differently: how likely one of them is wrong nobody knows."""
    regions, blind = (tuple(replace(each, expected_wrong_mm3=None, peak=None) for each in part)
                      for part in (found.regions, found.blind))  # fmt: skip
    return replace(found, regions=regions, blind=blind, expected_wrong_mm3=None)


def _largest(voxels: UncertainVoxels, region: np.ndarray) -> tuple[np.ndarray, int]:
    """Keep the `MOST_REGIONS` regions with the most expected wrong volume, in the order of their numbers.

    Returns:
        The region of each voxel, renumbered, and how many regions were left out.
    """
    count = int(region.max(initial=0))
    if count <= MOST_REGIONS:
        return region, 0
    wrong = np.bincount(region, voxels.probability, count + 1)[1:]
    kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_REGIONS]) + 1
    number = np.zeros(count + 1, region.dtype)
    number[kept] = np.arange(1, MOST_REGIONS + 1)
    return number[region], count - MOST_REGIONS


def _looks(assessed: Assessed, voxels: UncertainVoxels, basin: np.ndarray, settings: RegionSettings) -> np.ndarray:
    """Join basins of one structure that lie in one look, and keep the `most` of each structure; returns (n,) numbers.

    A basin lies between two structures, so that the boundary of one with four others has many in one place.
    """
    count = int(basin.max(initial=0))
    if not count:
        return basin
    found = confusions(voxels.segmentation, voxels.runner_up, basin, voxels.probability, count)
    wrong, (low, high) = np.bincount(basin, voxels.probability, count + 1), extents(voxels, basin, count + 1)
    lows, highs = low * assessed.spacing_zyx, (high + 1) * assessed.spacing_zyx
    members: dict[int, list[int]] = {}
    for number in (np.argsort(-wrong[1:], kind="stable") + 1).tolist():
        members.setdefault(strongest_structure(found[number], assessed.asked), []).append(number)
    look = np.zeros(count + 1, basin.dtype)  # the lowest number of the basins in it, so that a region keeps its number
    for numbers in members.values():
        least, most, first = lows[numbers], highs[numbers], list[int]()
        place = np.arange(len(numbers))
        for index in range(len(numbers)):
            edges = np.maximum(most[first], most[index]) - np.minimum(least[first], least[index])
            fitting = np.flatnonzero((edges**2).sum(1) <= settings.extent_mm**2)
            if not len(fitting):
                first.append(index)
                continue
            place[index] = at = first[fitting[0]]
            least[at], most[at] = np.minimum(least[at], least[index]), np.maximum(most[at], most[index])
        heavy = sorted(first, key=lambda at: -wrong[numbers][place == at].sum())[: settings.most]
        for at in heavy:
            own = np.array(numbers)[place == at]
            look[own] = own.min()
    kept = np.unique(look)
    return np.searchsorted(np.union1d(kept, [0]), look)[basin].astype(basin.dtype)


def blind_sample(assessed: Assessed, labels: np.ndarray, count: int) -> tuple[Region, ...]:
    """Draw boundary voxels that no region has, one of each structure or, of every fifth case, five; marks them.

    Args:
        labels: (z, y, x), the region of each voxel; gets the numbers of the places.
        count: of regions before.
    """
    error_probability = assessed.error_probability
    random = np.random.default_rng(int(labels[labels.shape[0] // 2].sum()) + count)
    draws = BLIND_MANY if random.random() < BLIND_MANY_SHARE else 1
    chosen: dict[int, list[tuple[float, int, int, int]]] = {}
    for planes in plane_pieces(labels.shape, _SAMPLED_VOXELS):
        drawn, taken = np.asarray(assessed.segmentation[planes]), labels[planes] > 0
        edge = np.zeros(drawn.shape, bool)
        for axis in (1, 2):
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            edge[tuple(behind)] |= drawn[tuple(ahead)] != drawn[tuple(behind)]
        if error_probability is not None:
            edge &= error_probability[planes] >= 0
        places = np.flatnonzero(edge & ~taken & (drawn > 0))
        keys, values = random.random(len(places)), drawn.reshape(-1)[places]
        for value in np.unique(values).tolist():
            own = np.flatnonzero(values == value)
            own = own[np.argsort(keys[own])[:draws]]
            where = np.stack(np.unravel_index(places[own], drawn.shape), 1).tolist()
            chosen.setdefault(value, []).extend(
                (key, z + planes.start, y, x) for key, (z, y, x) in zip(keys[own].tolist(), where, strict=True)
            )
    drawn_places = sorted((key, value, place) for value, all_ in chosen.items() for key, *place in sorted(all_)[:draws])
    voxel_mm3, (depth, height, width) = float(np.prod(assessed.spacing_zyx)), assessed.spacing_zyx.tolist()
    sample = []
    for number, (_key, value, (z, y, x)) in enumerate(drawn_places, count + 1):
        labels[z, y, x] = number
        chance = None if error_probability is None else float(np.asarray(error_probability[z : z + 1])[0, y, x])
        (ras,) = ras_of(assessed.ijk_to_ras, np.array([[z, y, x]]))
        wrong = None if chance is None else chance * voxel_mm3
        sample.append(Region(id=number, rank=number, structure=assessed.names[value], structure_value=value,
                             kind=Kind.BLIND, expected_wrong_mm3=wrong, volume_mm3=voxel_mm3, peak=chance,
                             peak_ras_mm=ras, centre_ras_mm=ras, size_mm=(width, height, depth)))  # fmt: skip
    return tuple(sample)


def _diffuse_mm3(assessed: Assessed, voxels: UncertainVoxels, thin: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    """Sum the expected wrong volume left out, by the structure that the voxels are about."""
    about = np.where(voxels.segmentation != 0, voxels.segmentation, voxels.runner_up)[thin]
    mass = np.bincount(about, voxels.probability[thin]) * voxel_mm3
    return {assessed.names[value]: float(mass[value]) for value in np.flatnonzero(mass).tolist()}


def _described(assessed: Assessed, voxels: UncertainVoxels, region: np.ndarray, count: int) -> tuple[Region, ...]:
    if not count:
        return ()
    wrong = np.bincount(region, voxels.probability, count + 1)
    columns = _volumes(assessed, voxels, region, wrong) | _positions(assessed, voxels, region, wrong)
    columns |= _meaning(assessed, voxels, region, wrong)
    rows = list(zip(*columns.values(), strict=True))
    order = np.lexsort((np.arange(1, count + 1), -wrong[1:])) + 1
    return tuple(
        Region(id=number, rank=rank, **dict(zip(columns, rows[number], strict=True)))
        for rank, number in enumerate(order.tolist(), 1)
    )


def _volumes(assessed: Assessed, voxels: UncertainVoxels, region: np.ndarray, wrong: np.ndarray) -> Columns:
    voxel_mm3 = float(np.prod(assessed.spacing_zyx))
    return {
        "expected_wrong_mm3": (wrong * voxel_mm3).tolist(),
        "volume_mm3": (np.bincount(region, minlength=len(wrong)) * voxel_mm3).tolist(),
        "model_percentile": _means_of(assessed.model_percentile, voxels, region, wrong),
        "data_percentile": _means_of(assessed.data_percentile, voxels, region, wrong),
    }


def _means_of(
    part: Planes | None, voxels: UncertainVoxels, region: np.ndarray, wrong: np.ndarray
) -> Sequence[float | None]:
    return [None] * len(wrong) if part is None else _means(values_at(part, voxels.zyx), voxels, region, wrong).tolist()


def _means(values: np.ndarray, voxels: UncertainVoxels, region: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Mean over each region, weighted by error probability."""
    return np.bincount(region, voxels.probability * values, len(wrong)) / np.maximum(wrong, 1e-12)


def _positions(assessed: Assessed, voxels: UncertainVoxels, region: np.ndarray, wrong: np.ndarray) -> Columns:
    peak = peaks(region, voxels.probability, len(wrong) - 1)
    centre = np.stack([_means(voxels.zyx[:, axis], voxels, region, wrong) for axis in range(3)], 1)
    low, high = extents(voxels, region, len(wrong))
    at_edge = (low == 0) | (high == np.array(voxels.shape_zyx) - 1)
    return {
        "peak": voxels.probability[peak].tolist(),
        "peak_ras_mm": ras_of(assessed.ijk_to_ras, voxels.zyx[peak]),
        "centre_ras_mm": ras_of(assessed.ijk_to_ras, centre),
        "size_mm": _triples(((high - low + 1) * assessed.spacing_zyx)[:, ::-1]),
        "touches_border": at_edge.any(1).tolist(),
    }


def _meaning(assessed: Assessed, voxels: UncertainVoxels, region: np.ndarray, wrong: np.ndarray) -> Columns:
    thickness = _means(thickness_mm(voxels, assessed.spacing_zyx), voxels, region, wrong)
    # Two voxels are as thin as an uncertain boundary gets; below 1 mm the eye does not tell them from one.
    voxel_mm = float(np.prod(assessed.spacing_zyx)) ** (1 / 3)
    blobs = (thickness > BLOB_VOXELS * max(1.0, voxel_mm)).tolist()
    confused = confusions(voxels.segmentation, voxels.runner_up, region, voxels.probability, len(wrong) - 1)
    structures = [strongest_structure(found, assessed.asked) if found else 0 for found in confused]
    names = assessed.names
    return {
        "structure": [names[value] for value in structures],
        "structure_value": structures,
        "kind": [kind_of(found, is_blob) for found, is_blob in zip(confused, blobs, strict=True)],
        "shape": [Shape.BLOB if is_blob else Shape.THIN for is_blob in blobs],
        "competing": [
            tuple(Competition(names[one.truth], names[one.read_as], one.share) for one in found) for found in confused
        ],
    }


def ras_of(ijk_to_ras: np.ndarray, zyx: np.ndarray) -> list[tuple[float, float, float]]:
    """Return the positions of voxels (n, zyx) in RAS mm."""
    ijk1 = np.column_stack([np.asarray(zyx, np.float64)[:, ::-1], np.ones(len(zyx))])
    return _triples((ijk1 @ ijk_to_ras.T)[:, :3])


def _triples(rows: np.ndarray) -> list[tuple[float, float, float]]:
    return [(row[0], row[1], row[2]) for row in rows.tolist()]


@dataclass(frozen=True)
class Confusion:
    """A possible confusion in label values: `read_as` in the segmentation, `truth` the runner-up; share 0 to 1."""

    truth: int
    read_as: int
    share: float


def confusions(
    segmentation: np.ndarray, runner_up: np.ndarray, region: np.ndarray, weight: np.ndarray, count: int
) -> list[list[Confusion]]:
    """List the confusions that each region may hold, the most likely first.

    Args:
        segmentation, runner_up: (n,) label values of the uncertain voxels.
        region: (n,) region number of each, 0 for none.
        weight: (n,) error probability.
        count: of regions.

    Returns:
        A list of confusions for each number from 0 to `count`.
    """
    values = np.union1d(segmentation, runner_up)
    shape = (count + 1, len(values), len(values))
    indices = (region, np.searchsorted(values, segmentation), np.searchsorted(values, runner_up))
    kinds, inverse = np.unique(np.ravel_multi_index(indices, shape), return_inverse=True)
    mass = np.bincount(inverse, weight, len(kinds))
    number, read_as, truth = np.unravel_index(kinds, shape)
    share = mass / np.bincount(number, mass, count + 1)[number]
    order = np.argsort(-mass, kind="stable")
    found: list[list[Confusion]] = [[] for _ in range(count + 1)]
    columns = (number, values[truth], values[read_as], share)
    for region_number, *values_there in zip(*(column[order].tolist() for column in columns), strict=True):
        found[region_number].append(Confusion(*values_there))
    return found


def kind_of(confused: Sequence[Confusion], is_blob: bool) -> Kind:
    """Judge what may be wrong in a region.

    Two structures that compete are a confusion. A blob whose error points one way is a part that is missed or extra;
    a sheet, or a blob with both directions in it, is a piece of a boundary that may lie elsewhere.
    """
    between = sum(one.share for one in confused if BACKGROUND not in (one.truth, one.read_as))
    missed = sum(one.share for one in confused if one.read_as == BACKGROUND)
    extra = sum(one.share for one in confused if one.truth == BACKGROUND)
    if between >= 0.5:
        return Kind.CONFUSION
    if is_blob and missed >= ONE_WAY * (missed + extra):
        return Kind.MISSED
    if is_blob and extra >= ONE_WAY * (missed + extra):
        return Kind.EXTRA
    return Kind.BOUNDARY


def strongest_structure(confused: Sequence[Confusion], asked: Collection[int] = ()) -> int:
    """Find the label value that most of the expected error is about: what is there, or else what may be missing.

    Args:
        asked: values of which one, where it takes part, goes before the others.
    """
    share: dict[int, float] = {}
    for one in confused:
        pair = [value for value in (one.read_as, one.truth) if value != BACKGROUND]
        value = next((value for value in pair if value in asked), pair[0] if pair else BACKGROUND)
        share[value] = share.get(value, 0.0) + one.share
    return max(share, key=lambda value: (share[value], -value))
