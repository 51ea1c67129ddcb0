"""A region to review, a connected group of uncertain voxels, and why it is uncertain in words."""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import fsum
from typing import Any

UNCERTAIN = 0.25
"""Error probability above which a voxel counts as uncertain, everywhere: in regions, tables, maps' first colour, the
brush in Slicer and the check of the calibration. Changing it here changes all of them for cases segmented since; the
`min_density` of `find_regions` was chosen with it, and percentiles below are of voxels above it: calibrate again."""
HIGH_FROM, LOW_UNTIL = 75.0, 25.0
"""Percentiles of the calibration cases' uncertain voxels from which uncertainty is called high, and until which low."""
BACKGROUND = "background"
"""What label 0 is called."""
MOST_COMPETING = 2
"""Confusions that are named; the rest is small."""


class Kind(StrEnum):
    """What may be wrong in a region, judged by where its expected errors lie."""

    BOUNDARY = "boundary patch"
    MISSED = "missed part"
    EXTRA = "extra part"
    CONFUSION = "confusion"
    BLIND = "blind sample"
    """A voxel of a structure's boundary that no region has: it says what the list misses."""
    ADDED = "added place"
    """A place that a reviewer has found."""
    ISLAND = "part that lies apart"
    HOLE = "hole"
    JUMP = "jump between slices"
    SIDE = "wrong side"
    """These four are found in a mask alone (`mask_findings`), without a probability."""


class Shape(StrEnum):
    """How the uncertain voxels lie: a sheet of a voxel or two along a boundary, or a thicker blob."""

    THIN = "thin boundary"
    BLOB = "blob"


TAKES_PART = 0.2
"""Share of a region's expected wrong volume from which a structure takes part in it."""


@dataclass(frozen=True)
class Competition:
    """Two structures that may be confused in a region.

    Attributes:
        truth: name of the structure (or background) that may be there in truth: the runner-up of the prediction.
        read_as: name of what the segmentation says.
        share: of the region's expected wrong volume, 0 to 1.
    """

    truth: str
    read_as: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region and its measurements; positions in RAS mm of the image's own space (no parent transform).

    Attributes:
        id: stable: the same voxels get the same id, whatever the order; the value in `regions.nii.gz`, from 1.
        rank: position in the order of expected wrong volume, from 1.
        structure: name of the structure that it is about.
        structure_value: its label value.
        kind: what may be wrong.
        shape: thin boundary or blob.
        expected_wrong_mm3: sum of error probability times voxel volume; None where no model gives one.
        volume_mm3: of its voxels.
        peak: highest error probability; None likewise.
        peak_ras_mm: centre of the voxel that has it.
        centre_ras_mm: centre of mass of the error probability.
        size_mm: edge lengths of the box around it along the image's axes i, j, k.
        competing: which structures may be confused in it, the most likely first.
        touches_border: whether it reaches the edge of what was assessed (image or region of interest).
        model_percentile, data_percentile: how its model (epistemic) and data (aleatoric) uncertainty compare with the
            uncertain voxels of the calibration cases, 0 to 100; None if the model does not say.
    """

    id: int
    rank: int
    structure: str
    structure_value: int
    kind: Kind
    shape: Shape = Shape.THIN
    expected_wrong_mm3: float | None = None
    volume_mm3: float
    peak: float | None = None
    peak_ras_mm: tuple[float, float, float]
    centre_ras_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]
    competing: tuple[Competition, ...] = ()
    touches_border: bool = False
    model_percentile: float | None = None
    data_percentile: float | None = None

    def is_about(self, names: Container[str]) -> bool:
        """Whether one of these structures takes part in it."""
        taking_part = (
            name for each in self.competing if each.share >= TAKES_PART for name in (each.truth, each.read_as)
        )
        return self.structure in names or any(name in names for name in taking_part)


def expected_wrong(regions: Iterable[Region]) -> float:
    """Sum the expected wrong volume of regions, mm3; of findings in a mask alone none is known."""
    return fsum(region.expected_wrong_mm3 or 0.0 for region in regions)


ORDERS: dict[str, Callable[[Region], Any]] = {
    "expected wrong volume": lambda region: (-(region.expected_wrong_mm3 or 0.0), region.id),
    "peak": lambda region: (-(region.peak or 0.0), region.id),
    "structure": lambda region: (region.structure_value, -(region.expected_wrong_mm3 or 0.0), region.id),
    "position": lambda region: (-region.peak_ras_mm[2], region.id),
}
"""The ways to go through regions; "position" runs from head to foot. Each maps a region to its sorting key."""


SHAPES = {Shape.THIN: "thin boundary", Shape.BLOB: "a thick blob"}


def in_order(regions: Sequence[Region], order: str) -> list[Region]:
    """Sort regions in one of `ORDERS`; the blind sample comes last.

    Raises:
        KeyError: there is no such order.
    """
    return sorted(regions, key=lambda region: (region.kind is Kind.BLIND, ORDERS[order](region)))


def why(region: Region, roi: bool = False) -> str:
    """Say what may be wrong in a region and what makes it uncertain, in one line.

    Args:
        roi: only a part of the image was segmented, so that an edge is that part's.
    """
    return "; ".join(reasons(region, roi))


def reasons(region: Region, roi: bool = False) -> list[str]:
    """Say the same as `why`, one part of the sentence each: first what may be wrong; last, where so, the edge."""
    if region.peak is None or region.kind in (Kind.BLIND, Kind.ADDED):
        return [_what(region)]
    edge = "region of interest" if roi else "image"
    parts = [_what(region), SHAPES[region.shape], *_uncertainty(region)]
    if region.touches_border:
        parts.append(f"touches the edge of the {edge}: the structure may continue outside")
    return parts


_PLAIN = {
    Kind.BLIND: "a place of {} that the list has not shown: look whether its boundary is right",
    Kind.ADDED: "a place of {} that you have added",
    Kind.ISLAND: "a part of {} lies apart from the rest",
    Kind.HOLE: "{} has a hole here",
    Kind.JUMP: "the outline of {} jumps here between slices",
    Kind.SIDE: "{} lies on the other side here",
}


def _what(region: Region) -> str:
    name, details = region.structure, _details(region)
    if region.kind in _PLAIN:
        return _PLAIN[region.kind].format(name)
    if region.kind is Kind.MISSED:
        return f"{name} may be missing here{details}"
    if region.kind is Kind.EXTRA:
        return f"{name} may reach too far here{details}"
    if region.kind is Kind.CONFUSION and region.competing:
        both = f"{region.competing[0].truth} and {region.competing[0].read_as}"
        return f"{both} may be confused here{details}"
    return f"the boundary of {name} may lie elsewhere{details}"


def competition_text(pair: Competition, structure: str) -> str:
    """Say what is wrong where two structures are confused, as somebody who draws would.

    Args:
        structure: that the region is about.
    """
    if pair.truth == BACKGROUND:
        return "drawn too large" if pair.read_as == structure else f"{pair.read_as} drawn too large"
    if pair.read_as == BACKGROUND:
        return "too small" if pair.truth == structure else f"{pair.truth} drawn too small"
    return f"{pair.truth} drawn as {pair.read_as}"


def _details(region: Region) -> str:
    pairs = [pair for pair in region.competing[:MOST_COMPETING] if pair.share > 0]
    shares = [f"{_percent(pair.share)}: {competition_text(pair, region.structure)}" for pair in pairs]
    return f" ({', '.join(shares)})" if shares else ""


def _percent(share: float) -> str:
    """Format a share; "under 1 %" rather than 0 for one that is not 0."""
    return f"{share * 100:.0f} %" if share >= 0.005 else "under 1 %"


def _uncertainty(region: Region) -> list[str]:
    """Describe model and data uncertainty, as far as known."""
    known = (("model", region.model_percentile), ("data", region.data_percentile))
    return [
        f"{source} uncertainty is {_level(percentile)} ({_ordinal(percentile)} percentile of calibration cases)"
        for source, percentile in known
        if percentile is not None
    ]


def _level(percentile: float) -> str:
    return "high" if percentile >= HIGH_FROM else "low" if percentile < LOW_UNTIL else "usual"


def _ordinal(percentile: float) -> str:
    """Format a percentile as in "94th"; never the 0th or the 100th, which do not exist."""
    number = min(99, max(1, int(percentile)))
    ending = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
