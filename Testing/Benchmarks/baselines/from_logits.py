"""Baselines that need nothing but the frozen segmentation: softmax, temperature scaling, distance to the boundary."""

import numpy as np
from scipy.special import softmax

from SegWithUCore.calibration.error_probability import fit_temperature
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.util.progress import Progress, silent

from . import base
from .frozen_backbone import FrozenCase

NO_BOUNDARY = 1e4
"""Distance where there is no boundary."""


class Softmax(base.Baseline):
    """Maximum softmax probability, margin and entropy.

    Sources: Hendrycks and Gimpel, ICLR 2017; margin: Scheffer et al., IDA 2001.
    """

    name = "softmax"
    rows = ("maximum softmax", "margin", "entropy")
    how = "1 - largest probability; 1 - difference of the two largest; entropy of the softmax"

    def answers(self, case: FrozenCase) -> dict[str, base.UncertaintyPrediction]:
        """Answers by row."""
        p = case.probabilities
        unsure = base.unsure_of(case.classes, p)
        second = np.take_along_axis(p, case.runner_up[None].astype(np.int64), 0)[0]
        margin = (unsure.astype(np.float64) + second).astype(np.float32)
        scores = unsure, margin, base.entropy(p).astype(np.float32)
        return {row: base.UncertaintyPrediction(score, p) for row, score in zip(self.rows, scores, strict=True)}


class Temperature(base.Baseline):
    """Temperature scaling: one number for all voxels.

    Source: Guo et al., ICML 2017.
    """

    name = "temperature"
    rows = ("temperature scaling", "temperature scaling, entropy")

    def __init__(self) -> None:
        self.temperature = 1.0

    @property
    def how(self) -> str:
        """With the temperature that was fitted."""
        return f"logits / {self.temperature:.4g}, fitted by NLL on the calibration cases"

    def fit(self, cases: base.FittingCases, progress: Progress = silent) -> None:
        """Minimise the NLL of the calibration cases."""
        logits, truths = [], []
        for number, case in enumerate(cases.calibration):
            progress("fitting temperature scaling", number / len(cases.calibration), case.name)
            seen = cases.backbone.segmented(case)
            logits.append(seen.logits)
            truths.append(seen.truth)
        self.temperature = fit_temperature(logits, truths)

    def answers(self, case: FrozenCase) -> dict[str, base.UncertaintyPrediction]:
        """Answers by row."""
        p = softmax(case.logits.astype(np.float64) / self.temperature, 0)
        return {
            self.rows[0]: base.UncertaintyPrediction(base.unsure_of(case.classes, p), p),
            self.rows[1]: base.UncertaintyPrediction(base.entropy(p).astype(np.float32), p),
        }


class Distance(base.Baseline):
    """Distance to the predicted boundary: knows geometry and nothing else."""

    name = "distance"
    rows = ("distance to boundary",)
    how = "minus the distance to the nearest boundary voxel of the frozen segmentation; no probabilities"

    def __init__(self, band: Band) -> None:
        self.band = band

    def answers(self, case: FrozenCase) -> dict[str, base.UncertaintyPrediction]:
        """Answers by row."""
        distance = np.minimum(self.band.distance(case.classes, case.spacing_zyx), NO_BOUNDARY)
        return {self.rows[0]: base.UncertaintyPrediction((-distance).astype(np.float32))}


@base.baseline("softmax")
def _softmax(_inputs: base.BaselineInputs) -> list[base.Baseline]:
    return [Softmax()]


@base.baseline("temperature", title="temperature scaling")
def _temperature(_inputs: base.BaselineInputs) -> list[base.Baseline]:
    return [Temperature()]


@base.baseline("distance", title="distance to boundary")
def _distance(inputs: base.BaselineInputs) -> list[base.Baseline]:
    return [Distance(inputs.band)]
