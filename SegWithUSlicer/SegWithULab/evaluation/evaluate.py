"""A model on cases with references: every case segmented as `segment` does, measured, and summed up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.deviation import Deviation
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.ood_check import input_deviations
from SegWithUCore.inference.prediction import Prediction, predict
from SegWithUCore.metrics.calibration import Reliability
from SegWithUCore.metrics.error_detection import ScoreHistogram, region_histogram
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.util.progress import Progress, silent

from ..training.case_reading import read_assessed
from ..training.dataset import Case
from .case_metrics import (
    OUR_SCORE,
    POOLED_REGIONS,
    SURFACE_TOLERANCE_MM,
    StructureMeasurement,
    case_level_sums,
    case_risk,
    confidences,
    detection_metrics,
    measure_case,
    measure_structures,
    recorded_metrics,
    surface_metrics,
)
from .pictures import WorstCases


class PooledHistograms:
    """Histograms by score and region; the pools of two sets of cases add up to those of both.

    Attributes:
        scores: by (score, region).
        reliability: of the error probability, by region; empty without fitted calibration.
    """

    def __init__(self) -> None:
        self.scores: dict[tuple[str, str], ScoreHistogram] = {}
        self.reliability: dict[str, Reliability] = {}

    def include(self, other: "PooledHistograms") -> None:
        """Add the counts of other cases."""
        for key, scores in other.scores.items():
            self.scores[key] = self.scores[key] + scores if key in self.scores else scores
        for region, reliability in other.reliability.items():
            known = self.reliability.get(region)
            self.reliability[region] = reliability if known is None else known + reliability

    def add_case(
        self, scores: Mapping[str, np.ndarray], error: np.ndarray, regions: Mapping[str, np.ndarray | None]
    ) -> None:
        """Count the voxels of a case.

        Args:
            scores: by name, higher = riskier.
            error: where the segmentation is wrong.
            regions: masks by name; those of `POOLED_REGIONS` are counted.
        """
        for region in POOLED_REGIONS:
            mask = regions[region]
            for name, score in scores.items():
                key, counted = (name, region), region_histogram(score, error, mask)
                self.scores[key] = self.scores[key] + counted if key in self.scores else counted
            if OUR_SCORE in scores:
                here = slice(None) if mask is None else mask
                self.reliability.setdefault(region, Reliability()).add(scores[OUR_SCORE][here], error[here])


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
        band: around the predicted surface.
        tolerance_mm: of surface Dice; it is left out where the band counts voxels, because then no spacing is trusted.
        mirrored: exchange left and right of all cases first.
    """

    band: Band = field(default_factory=Band)
    tolerance_mm: float = SURFACE_TOLERANCE_MM
    mirrored: bool = False


@dataclass(frozen=True)
class CaseEvaluation:
    """All that is known of a case afterwards.

    Attributes:
        name, group: of the case, and what it is resampled with.
        metrics: what a bundle records, by title.
        detection: error detection by (metric, region, score).
        structures: numbers per structure.
        risk: 1 - mean Dice.
        confidences: how sure the model was, by name.
        voxels, errors: of the part that is assessed, by region.
        unlike_training: how its images differ from the training cases.
    """

    name: str
    group: str
    metrics: dict[str, float]
    detection: dict[tuple[str, str, str], float]
    structures: list[StructureMeasurement]
    risk: float
    confidences: dict[str, float]
    voxels: dict[str, int]
    errors: dict[str, int]
    unlike_training: list[Deviation] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Cases, their voxels pooled, and the worst of them."""

    settings: Settings
    cases: list[CaseEvaluation]
    pools: PooledHistograms
    worst: WorstCases

    def include(self, other: "Evaluation") -> None:
        """Add the cases of another evaluation with the same settings after the own ones."""
        self.cases.extend(other.cases)
        self.pools.include(other.pools)
        self.worst.include(other.worst)


def evaluate(
    cases: Sequence[Case], model: Model, settings: Settings | None = None, progress: Progress = silent
) -> Evaluation:
    """Measure every case, one after the other; memory holds one case, histograms, and the pictures of the worst.

    Raises:
        InputError: an image or reference cannot be used.
    """
    found = Evaluation(settings or Settings(), [], PooledHistograms(), WorstCases())
    for number, case in enumerate(cases):
        progress("evaluating", number / len(cases), case.name)
        read = read_assessed(case, model.bundle, found.settings.mirrored)
        add_case(found, case, predict(read.images, model), read.truth, read.images, model.bundle)
    progress("evaluating", 1.0)
    return found


def add_case(
    found: Evaluation,
    case: Case,
    prediction: Prediction,
    truth: np.ndarray,
    images: Sequence[sitk.Image],
    bundle: Bundle,
) -> None:
    """Measure one case and add it to what was found.

    Args:
        truth: class of each voxel, (z, y, x).
        images: the channels, on the grid of the prediction.
    """
    settings = found.settings
    spacing = images[0].GetSpacing()[::-1]
    seen = measure_case(prediction, truth, spacing, bundle, settings.band)
    detection = detection_metrics(seen)
    metrics = recorded_metrics(seen, detection, bundle)
    if not settings.band.in_slices:
        metrics |= surface_metrics(seen, spacing, bundle, settings.tolerance_mm)
    numbers = case_level_sums(seen, bundle.calibration)
    structures = measure_structures(numbers, bundle.labels, bundle.calibration)
    risk = case_risk(seen, len(bundle.labels))
    found.pools.add_case(seen.scores, seen.error, seen.regions)
    found.worst.see(case.name, seen, images[0], risk)
    masks = {name: np.ones(truth.shape, bool) if mask is None else mask for name, mask in seen.regions.items()}
    found.cases.append(
        CaseEvaluation(
            case.name,
            case.group,
            metrics,
            detection,
            structures,
            risk,
            confidences(seen, numbers, structures),
            {name: int(np.count_nonzero(mask)) for name, mask in masks.items()},
            {name: int(np.count_nonzero(seen.error & mask)) for name, mask in masks.items()},
            input_deviations(images, bundle),
        )
    )


def evaluate_on_worker(model: Model, case: Case, settings: Settings) -> Evaluation:
    """Measure one case on a worker; what travels back are its figures, counts in bins and one picture."""
    return evaluate([case], model, settings)


def in_order(cases: Sequence[Case], found: Mapping[str, Evaluation], settings: Settings) -> Evaluation:
    """Put evaluations of single cases together as `evaluate` would have made them."""
    whole = Evaluation(settings, [], PooledHistograms(), WorstCases())
    for case in cases:
        whole.include(found[case.name])
    return whole
