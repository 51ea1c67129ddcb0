"""Figures per structure, for the table, `case.json` and the live readout of the threshold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..models.labels import Label
from .voxel_maps import VoxelMaps

UNCERTAIN_ABOVE = 0.25
"""Error probability from which a voxel counts as uncertain in tables: one chance in four of being wrong."""
HISTOGRAM_BINS = 256


@dataclass(frozen=True)
class StructureFigures:
    """Figures of the voxels predicted as one structure (or as background, where structures may be missed).

    Attributes:
        label: the structure.
        voxels, volume_mm3: what the segmentation says.
        expected_volume_mm3: sum over all voxels of the structure's tempered probability, refitted on calibration cases,
            times voxel volume; None without fitted calibration.
        expected_wrong_mm3: sum of error probability times voxel volume; None without fitted calibration.
        uncertain_share, uncertain_mm3: voxels above `UNCERTAIN_ABOVE`; None without fitted calibration.
    """

    label: Label
    voxels: int
    volume_mm3: float
    expected_volume_mm3: float | None
    expected_wrong_mm3: float | None
    uncertain_share: float | None
    uncertain_mm3: float | None

    def to_json(self) -> dict[str, Any]:
        """For `case.json`: the label's fields and the figures side by side."""
        figures = {key: value for key, value in asdict(self).items() if key != "label"}
        return {**self.label.to_json(), **figures}


def structure_figures(maps: VoxelMaps, labels: Sequence[Label], voxel_mm3: float) -> list[StructureFigures]:
    """Figures of every class in the order of `labels`, background first.

    Args:
        voxel_mm3: volume of one voxel.
    """
    return [_figures(maps, index, label, voxel_mm3) for index, label in enumerate(labels)]


def _figures(maps: VoxelMaps, index: int, label: Label, voxel_mm3: float) -> StructureFigures:
    inside = maps.classes == index
    voxels = int(np.count_nonzero(inside))
    if maps.error_probability is None:
        return StructureFigures(label, voxels, voxels * voxel_mm3, None, None, None, None)
    errors = maps.error_probability[inside]
    uncertain = int(np.count_nonzero(errors > UNCERTAIN_ABOVE))
    return StructureFigures(
        label,
        voxels,
        voxels * voxel_mm3,
        maps.expected_voxels[index] * voxel_mm3,
        float(errors.sum(dtype=np.float64)) * voxel_mm3,
        uncertain / voxels if voxels else 0.0,
        uncertain * voxel_mm3,
    )


def histograms(values: np.ndarray, maps: VoxelMaps, labels: Sequence[Label]) -> dict[str, Any]:
    """How the values of one map are distributed in each structure.

    Returns:
        `low` and `high` edges and, for each label value, `HISTOGRAM_BINS` counts of equal width.
    """
    low, high = float(values.min()), float(values.max())
    high = high if high > low else low + 1.0
    bins = np.minimum(((values - low) * (HISTOGRAM_BINS / (high - low))).astype(np.int32), HISTOGRAM_BINS - 1)
    joint = np.bincount(
        (maps.classes.astype(np.int64) * HISTOGRAM_BINS + bins).ravel(), minlength=len(labels) * HISTOGRAM_BINS
    )
    rows = joint.reshape(len(labels), HISTOGRAM_BINS)
    return {
        "low": low,
        "high": high,
        "counts": {str(label.value): row.tolist() for label, row in zip(labels, rows, strict=True)},
    }
