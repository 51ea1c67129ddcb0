"""A region: a connected group of uncertain voxels worth one look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What may be wrong in a region, judged by where its expected errors lie."""

    BOUNDARY = "boundary patch"
    MISSED = "missed part"
    EXTRA = "extra part"
    CONFUSION = "confusion"


class Shape(StrEnum):
    """How the uncertain voxels lie: a sheet of a voxel or two along a boundary, or a thicker blob."""

    THIN = "thin boundary"
    BLOB = "blob"


@dataclass(frozen=True)
class Competition:
    """One way in which a region may be wrong.

    Attributes:
        truth: name of the structure (or background) that may be there in truth: the runner-up of the prediction.
        read_as: name of what the segmentation says.
        share: of the region's expected wrong volume, 0 to 1.
    """

    truth: str
    read_as: str
    share: float


@dataclass(frozen=True)
class Region:
    """A region and its figures; positions in RAS mm of the image's own space (no parent transform).

    Attributes:
        id: stable: the same voxels get the same id, whatever the order; the value in `regions.nii.gz`, from 1.
        rank: place in the order of expected wrong volume, from 1.
        structure: name of the structure that it is about.
        structure_value: its label value.
        kind: what may be wrong.
        shape: thin boundary or blob.
        expected_wrong_mm3: sum of error probability times voxel volume.
        volume_mm3: of its voxels.
        peak: highest error probability.
        peak_ras_mm: centre of the voxel that has it.
        centre_ras_mm: centre of mass of the error probability.
        size_mm: edge lengths of the box around it along the image's axes i, j, k.
        competing: the ways in which it may be wrong, the most likely first.
        touches_border: whether it reaches the edge of what was assessed (image or region of interest).
        model_percentile, data_percentile: how its model (epistemic) and data (aleatoric) uncertainty compare with the
            uncertain voxels of the calibration cases, 0 to 100; None where the model does not tell.
    """

    id: int
    rank: int
    structure: str
    structure_value: int
    kind: Kind
    shape: Shape
    expected_wrong_mm3: float
    volume_mm3: float
    peak: float
    peak_ras_mm: tuple[float, float, float]
    centre_ras_mm: tuple[float, float, float]
    size_mm: tuple[float, float, float]
    competing: tuple[Competition, ...]
    touches_border: bool
    model_percentile: float | None = None
    data_percentile: float | None = None


ORDERS: dict[str, Callable[[Region], Any]] = {
    "expected wrong volume": lambda region: (-region.expected_wrong_mm3, region.id),
    "peak": lambda region: (-region.peak, region.id),
    "structure": lambda region: (region.structure_value, -region.expected_wrong_mm3, region.id),
    "position": lambda region: (-region.peak_ras_mm[2], region.id),
}
"""The ways to go through regions; "position" runs from head to foot. Each maps a region to its sorting key."""


def in_order(regions: Sequence[Region], order: str) -> list[Region]:
    """The regions in one of `ORDERS`.

    Raises:
        KeyError: there is no such order.
    """
    return sorted(regions, key=ORDERS[order])
