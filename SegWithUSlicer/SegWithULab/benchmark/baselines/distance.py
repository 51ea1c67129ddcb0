"""Distance to the predicted boundary, which knows no logits."""

import numpy as np

from SegWithUCore.metrics.overlap import Band

from ...evaluation.frozen_backbone import FrozenCase
from .base import Baseline, BaselineInputs, UncertaintyPrediction, baseline

FARTHEST = 1e4
"""Distance that stands for "no boundary anywhere"."""


class Distance(Baseline):
    """Distance to the predicted boundary: knows geometry and nothing else."""

    name = "distance"
    rows = ("distance to boundary",)
    how = "minus the distance to the nearest boundary voxel of the frozen segmentation; no probabilities"

    def __init__(self, band: Band) -> None:
        self.band = band

    def settings(self) -> dict[str, bool]:
        """Whether it is counted in mm or in voxels of a slice."""
        return {"in_slices": self.band.in_slices}

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        distance = np.minimum(self.band.distance(case.classes, case.spacing_zyx), FARTHEST)
        return {self.rows[0]: UncertaintyPrediction((-distance).astype(np.float32))}


@baseline("distance", title="distance to boundary")
def _distance(inputs: BaselineInputs) -> list[Baseline]:
    return [Distance(inputs.band)]
