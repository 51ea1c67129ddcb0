"""Figures of one case with a reference: segmentation, ranking, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from ..inference.prediction import Prediction, tempered_logits
from ..metrics.boundary import Band
from ..metrics.calibration import (
    brier_score,
    expected_calibration_error,
    mean_class_calibration_error,
    multiclass_brier_score,
    negative_log_likelihood,
)
from ..metrics.overlap import class_dice
from ..metrics.score_figures import figures_of, region_groups
from ..metrics.surface_dice import class_surface_dice
from ..models.bundle import Bundle
from .scores import OUR_SCORE, RIVAL_SCORE, regions_of, scores_of

SURFACE_TOLERANCE_MM = 1.0
UNSEEN_BELOW = 0.1
"""Error probability under which a wrong voxel goes unseen: pictures leave it clear (`montage.HIDDEN_BELOW`)."""
HEADLINES = {"auroc", "auprc", "aurc", "augrc"}


@dataclass(frozen=True)
class Measured:
    """A case while it is measured; arrays (z, y, x).

    Attributes:
        prediction, truth: what the network says, and the class of each voxel.
        error: where they differ.
        regions, scores: by name.
        probabilities: plain softmax, (classes, z, y, x).
    """

    prediction: Prediction
    truth: np.ndarray
    error: np.ndarray
    regions: Mapping[str, np.ndarray | None]
    scores: Mapping[str, np.ndarray]
    probabilities: np.ndarray

    @property
    def band(self) -> np.ndarray:
        """Voxels near the predicted surface."""
        near = self.regions["band"]
        assert near is not None
        return near


def measured(
    prediction: Prediction, truth: np.ndarray, spacing_zyx: Sequence[float], bundle: Bundle, band: Band
) -> Measured:
    """Compare a prediction with the true class of each voxel, (z, y, x)."""
    distance = band.distance(prediction.classes, spacing_zyx)
    probabilities = softmax(prediction.logits.astype(np.float64), 0)
    return Measured(
        prediction,
        truth,
        prediction.classes != truth,
        regions_of(prediction.classes, truth, distance <= band.width, bundle.labels),
        scores_of(prediction, probabilities, distance, bundle.calibration),
        probabilities,
    )


def case_figures(
    prediction: Prediction, truth: np.ndarray, spacing_zyx: Sequence[float], bundle: Bundle, band: Band | None = None
) -> dict[str, float]:
    """The figures of one case that a bundle records.

    Args:
        truth: class of each voxel, (z, y, x).
        band: by default 3 mm.
    """
    case = measured(prediction, truth, spacing_zyx, bundle, band or Band())
    return recorded_figures(case, detection_figures(case), bundle)


def detection_figures(case: Measured) -> dict[tuple[str, str, str], float]:
    """Figures of error detection by (figure, region, score); NaN in regions without errors."""
    return {
        (title, region, name): value
        for name, score in case.scores.items()
        for region, groups in region_groups(score, case.error, case.regions).items()
        for title, value in figures_of(groups).items()
    }


def recorded_figures(
    case: Measured, detection: Mapping[tuple[str, str, str], float], bundle: Bundle
) -> dict[str, float]:
    """Overlap, calibration, and the headlines of error detection, by title."""
    names = [label.name for label in bundle.labels[1:]]
    dice = class_dice(case.prediction.classes, case.truth, len(bundle.labels))
    figures = {f"dice {name}": value for name, value in zip(names, dice, strict=True)}
    figures |= {
        " ".join(key): value for key, value in detection.items() if key[0] in HEADLINES and key[1] in ("whole", "band")
    }
    figures["error rate"] = float(case.error.mean())
    figures["error rate band"] = float(case.error[case.band].mean()) if case.band.any() else float("nan")
    map_alone = softmax(tempered_logits(case.prediction), 0)
    figures |= _probability_figures("plain", case.probabilities, case.truth)
    figures |= _probability_figures("tempered by the map alone", map_alone, case.truth)
    if bundle.calibration is not None:
        figures |= _calibrated_figures(case, bundle.calibration)
    return figures


def _probability_figures(name: str, probabilities: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {
        f"nll {name}": negative_log_likelihood(probabilities, truth),
        f"brier {name}": multiclass_brier_score(probabilities, truth),
        f"ace {name}": mean_class_calibration_error(probabilities, truth),
    }


def _calibrated_figures(case: Measured, calibration: Mapping[str, Any]) -> dict[str, float]:
    ours, theirs, near, error = case.scores[OUR_SCORE], case.scores[RIVAL_SCORE], case.band, case.error
    logits = case.prediction.logits.astype(np.float64)
    softened = softmax(tempered_logits(case.prediction, calibration["tempering_scale"]), 0)
    scaled = softmax(logits / calibration["rivals"]["temperature"], 0)
    return {
        **_probability_figures("tempered", softened, case.truth),
        **_probability_figures("temperature scaling", scaled, case.truth),
        "error probability ece band": expected_calibration_error(ours[near], error[near]),
        "error probability brier": brier_score(ours, error),
        "error probability brier softmax": brier_score(theirs, error),
        "error probability brier band": brier_score(ours[near], error[near]),
        "error probability brier band softmax": brier_score(theirs[near], error[near]),
        "wrong voxels": float(error.sum()),
        "wrong voxels expected": float(ours.sum(dtype=np.float64)),
        "wrong voxels unseen": float(np.count_nonzero(error & (ours < UNSEEN_BELOW))),
    }


def surface_figures(
    case: Measured, spacing_zyx: Sequence[float], bundle: Bundle, tolerance_mm: float
) -> dict[str, float]:
    """Surface Dice of each structure by title."""
    found = class_surface_dice(case.prediction.classes, case.truth, len(bundle.labels), tolerance_mm, list(spacing_zyx))
    names = [label.name for label in bundle.labels[1:]]
    return {f"surface dice {name}": value for name, value in zip(names, found, strict=True)}
