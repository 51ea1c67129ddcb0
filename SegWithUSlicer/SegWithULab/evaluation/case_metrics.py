"""Metrics of one case with a reference: segmentation, ranking, calibration, surfaces, numbers per structure.

`CaseMeasurement` holds the voxels that all of them are computed from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.inference.prediction import Prediction, tempered_logits
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics import calibration as measures
from SegWithUCore.metrics.error_detection import metrics_of, region_groups
from SegWithUCore.metrics.overlap import Band, class_dice
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import Label

from ..calibration.cases import CaseNumbers

SURFACE_TOLERANCE_MM = 1.0
"""Of surface Dice, which is left out where the band counts voxels, because then no spacing is trusted."""
UNSEEN_BELOW = 0.1
"""Error probability under which a wrong voxel goes unseen: pictures leave it clear."""
HEADLINES = {"auroc", "auprc", "aurc", "augrc"}


@dataclass(frozen=True)
class CaseMeasurement:
    """A case while it is measured; arrays (z, y, x).

    Attributes:
        prediction: of the network.
        labels: what is measured, background first: structures, or sums of those that share a label of the reference.
        classes, truth: index of `labels` of each voxel, predicted and true.
        groups: index of `labels` by class; None where each class has its own.
        error: where they differ.
        band: voxels near the predicted surface.
        regions, scores: by name.
        probabilities: plain softmax, (classes, z, y, x).
    """

    prediction: Prediction
    labels: Sequence[Label]
    classes: np.ndarray
    truth: np.ndarray
    groups: np.ndarray | None
    error: np.ndarray
    band: np.ndarray
    regions: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    probabilities: np.ndarray


def measure_case(
    prediction: Prediction,
    truth: np.ndarray,
    spacing_zyx: Sequence[float],
    bundle: Bundle,
    band: Band,
    judged_as: np.ndarray | None = None,
) -> CaseMeasurement:
    """Compare a prediction with the true class of each voxel, (z, y, x).

    Args:
        judged_as: as in `AssessedCase`. An error probability becomes that of the label: it is multiplied by the part of
            the probability of all other classes that lies outside of the label.
    """
    drawn, labels, groups = prediction.classes, list(bundle.labels), None
    if judged_as is not None:
        first, groups = np.unique(judged_as, return_inverse=True)
        drawn, truth = groups[drawn], np.searchsorted(first, truth)
        members = [" + ".join(label.name for label, own in zip(labels, judged_as, strict=True) if own == index)
                   for index in first]  # fmt: skip
        labels = [labels[0], *(replace(labels[i], name=name) for i, name in zip(first[1:], members[1:], strict=True))]
    distance = band.distance(drawn, spacing_zyx)
    probabilities = softmax(prediction.logits.astype(np.float64), 0)
    near, error = distance <= band.width, drawn != truth
    regions = scored_regions(drawn, truth, near, labels)
    scores = error_scores(prediction, probabilities, distance, bundle.calibration)
    if groups is not None:
        others = 1 - np.take_along_axis(_summed(probabilities, groups), drawn[None], 0)[0]
        part = others / np.maximum(1 - np.take_along_axis(probabilities, prediction.classes[None], 0)[0], 1e-12)
        chances = scores.keys() & {OUR_SCORE, BASELINE_SCORE, "softmax"}
        scores |= {name: (scores[name] * part).astype(np.float32) for name in chances}
    return CaseMeasurement(prediction, labels, drawn, truth, groups, error, near, regions, scores, probabilities)


def _summed(probabilities: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum probabilities (classes, z, y, x) of the classes of each label."""
    return np.stack([probabilities[groups == group].sum(0) for group in range(groups.max() + 1)])


def detection_metrics(case: CaseMeasurement) -> dict[tuple[str, str, str], float]:
    """Metrics of error detection by (metric, region, score); NaN in regions without errors."""
    return {
        (title, region, name): value
        for name, score in case.scores.items()
        for region, groups in region_groups(score, case.error, case.regions).items()
        for title, value in metrics_of(groups).items()
    }


def recorded_metrics(
    case: CaseMeasurement, detection: Mapping[tuple[str, str, str], float], bundle: Bundle
) -> dict[str, float]:
    """Overlap, calibration, and the headlines of error detection, by title."""
    names = [label.name for label in case.labels[1:]]
    dice = class_dice(case.classes, case.truth, len(case.labels))
    metrics = {f"dice {name}": value for name, value in zip(names, dice, strict=True)}
    metrics |= {
        " ".join(key): value for key, value in detection.items() if key[0] in HEADLINES and key[1] in ("whole", "band")
    }
    metrics["error rate"] = float(case.error.mean())
    metrics["error rate band"] = float(case.error[case.band].mean()) if case.band.any() else float("nan")
    map_alone = softmax(tempered_logits(case.prediction), 0)
    metrics |= _probability_metrics("plain", case.probabilities, case)
    metrics |= _probability_metrics("tempered by the map alone", map_alone, case)
    if bundle.calibration is not None:
        metrics |= _calibrated_metrics(case, bundle.calibration)
    return metrics


NONE = float("nan")


def measure_structures(
    numbers: CaseNumbers, labels: Sequence[Label], calibration: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Measure every structure but the background, and predict its Dice and volume; NaN for what is not given.

    Returns:
        For each its `name`, true `dice`, `predicted_dice` by the fitted line, also where it is not informative and
        therefore not shown to users; `true_mm3` of the reference; `expected_mm3` with its interval, `low_mm3` and
        `high_mm3`.
    """
    fitted = CaseLevelCalibration.from_json(calibration)
    found = []
    for index, label in enumerate(labels[1:], 1):
        expected, ambiguous, true = numbers.volumes_mm3(index)
        interval, line = fitted.intervals.get(label.value), fitted.dice.get(label.value)
        segmented = numbers.segmented_mm3(index)
        volume = interval(expected, ambiguous, segmented) if interval is not None else (NONE, NONE, NONE)
        confidence = numbers.confidence(index)
        predicted = line(confidence) if line is not None and np.isfinite(confidence) else NONE
        names = ("expected_mm3", "low_mm3", "high_mm3")
        dice = {"name": label.name, "dice": float(numbers.dice[index]), "predicted_dice": predicted}
        found.append({**dice, "true_mm3": true, **dict(zip(names, volume, strict=True))})
    return found


OUR_SCORE = "error probability"
"""What a user sees; absent without fitted calibration."""
BASELINE_SCORE = "softmax by direction"
"""1 - maximum softmax, made an error probability as ours is: isotonic, then by predicted class and runner-up."""


def error_scores(
    prediction: Prediction, probabilities: np.ndarray, distance: np.ndarray, calibration: Mapping[str, Any] | None
) -> dict[str, np.ndarray]:
    """Scores by name, higher = riskier, each (z, y, x), float32, so that sorting and counting see the same ties.

    Args:
        probabilities: plain softmax, (classes, z, y, x).
        distance: to the predicted surface; a score that knows geometry alone.
        calibration: block of the bundle.
    """
    scores = {"ranking": prediction.ranking, "softmax": 1 - probabilities.max(0), "distance": -distance}
    if calibration is not None:
        table = ErrorProbability.from_json(calibration["error_probability"])
        ours = prediction.error_probability
        scores[OUR_SCORE] = (
            table(prediction.ranking, prediction.classes, prediction.runner_up) if ours is None else ours
        )
        baseline = ErrorProbability.from_json(calibration["baselines"]["maximum_softmax"])
        scores[BASELINE_SCORE] = baseline(scores["softmax"], prediction.classes, prediction.runner_up)
    return {name: np.asarray(score, np.float32) for name, score in scores.items()}


def scored_regions(
    predicted: np.ndarray, truth: np.ndarray, near: np.ndarray, labels: Sequence[Label]
) -> dict[str, np.ndarray]:
    """Regions by name, boolean masks (z, y, x); "whole" is all that is assessed.

    "band" is near the predicted surface and "inside" what is predicted as a structure beyond it: both follow from the
    prediction alone. A structure's own region holds the voxels that the prediction *or* the reference gives to it, so
    that what was missed of it counts.

    Args:
        predicted, truth: class of each voxel.
        near: within the band.
        labels: background first.
    """
    regions = {"whole": np.ones(near.shape, bool), "band": near, "inside": (predicted > 0) & ~near}
    for index, label in enumerate(labels[1:], 1):
        regions[label.name] = (predicted == index) | (truth == index)
    return regions


def region_counts(error: np.ndarray, regions: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Count voxels, and wrong ones, by region."""
    return {name: (int(np.count_nonzero(mask)), int(np.count_nonzero(error & mask))) for name, mask in regions.items()}


def _probability_metrics(name: str, probabilities: np.ndarray, case: CaseMeasurement) -> dict[str, float]:
    truth, probabilities = case.truth, probabilities if case.groups is None else _summed(probabilities, case.groups)
    return {
        f"nll {name}": measures.negative_log_likelihood(probabilities, truth),
        f"brier {name}": measures.multiclass_brier_score(probabilities, truth),
        f"ace {name}": measures.mean_class_calibration_error(probabilities, truth),
    }


def _calibrated_metrics(case: CaseMeasurement, calibration: Mapping[str, Any]) -> dict[str, float]:
    ours, theirs, near, error = case.scores[OUR_SCORE], case.scores[BASELINE_SCORE], case.band, case.error
    logits = case.prediction.logits.astype(np.float64)
    softened = softmax(tempered_logits(case.prediction, calibration["tempering_scale"]), 0)
    scaled = softmax(logits / calibration["baselines"]["temperature"], 0)
    return {
        **_probability_metrics("tempered", softened, case),
        **_probability_metrics("temperature scaling", scaled, case),
        "error probability ece band": measures.expected_calibration_error(ours[near], error[near]),
        "error probability brier": measures.brier_score(ours, error),
        "error probability brier softmax": measures.brier_score(theirs, error),
        "error probability brier band": measures.brier_score(ours[near], error[near]),
        "error probability brier band softmax": measures.brier_score(theirs[near], error[near]),
        "wrong voxels": float(error.sum()),
        "wrong voxels expected": float(ours.sum(dtype=np.float64)),
        "wrong voxels unseen": float(np.count_nonzero(error & (ours < UNSEEN_BELOW))),
    }
