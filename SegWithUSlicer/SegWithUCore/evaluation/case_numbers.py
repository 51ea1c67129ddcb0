"""What a model says about a case as a whole, beside the truth: volumes, predicted Dice, confidences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..calibration.case_level import probability_sums, soft_dice
from ..inference.structures import FittedNumbers
from ..metrics.overlap import mean_dice
from ..models.labels import Label
from ..training.calibrate import CaseNumbers, case_numbers
from .case_metrics import Measured
from .scores import OUR_SCORE

NONE = float("nan")


@dataclass(frozen=True)
class StructureNumbers:
    """One structure of one case; NaN for what the model does not give.

    Attributes:
        name: of the structure.
        dice: true Dice.
        predicted_dice: by the fitted line, also where it is not informative and therefore not shown to users.
        true_mm3: volume of the reference.
        expected_mm3, low_mm3, high_mm3: expected volume and its interval.
    """

    name: str
    dice: float
    predicted_dice: float
    true_mm3: float
    expected_mm3: float
    low_mm3: float
    high_mm3: float


def structure_numbers(
    numbers: CaseNumbers, labels: Sequence[Label], calibration: Mapping[str, Any] | None
) -> list[StructureNumbers]:
    """Of every structure, background left out."""
    fitted = FittedNumbers.from_json(calibration)
    found = []
    for index, label in enumerate(labels[1:], 1):
        expected, ambiguous, true = numbers.volumes_mm3(index)
        interval, line = fitted.intervals.get(label.value), fitted.dice.get(label.value)
        volume = interval(expected, ambiguous) if interval is not None else (NONE, NONE, NONE)
        confidence = numbers.confidence(index)
        predicted = line(confidence) if line is not None and np.isfinite(confidence) else NONE
        found.append(StructureNumbers(label.name, float(numbers.dice[index]), predicted, true, *volume))
    return found


def confidences(case: Measured, numbers: CaseNumbers, structures: Sequence[StructureNumbers]) -> dict[str, float]:
    """How sure the model is of the case, by name: higher = better."""
    classes = range(1, case.probabilities.shape[0])
    plain = probability_sums(case.probabilities, case.prediction.classes)
    inside = case.prediction.classes > 0
    found = {
        "soft Dice": _mean([numbers.confidence(index) for index in classes]),
        "soft Dice, plain softmax": _mean(
            [soft_dice(plain.expected[c], plain.inside[c], numbers.predicted[c]) for c in classes]
        ),
        "mean maximum softmax": float(case.probabilities.max(0).mean()),
    }
    if OUR_SCORE in case.scores:
        found["predicted Dice"] = _mean([structure.predicted_dice for structure in structures])
        wrong = float(case.scores[OUR_SCORE].sum(dtype=np.float64))
        found["expected wrong share"] = -wrong / int(inside.sum()) if inside.any() else NONE
    return found


def numbers_of(case: Measured, calibration: Mapping[str, Any] | None) -> CaseNumbers:
    """Sums over the case, with probabilities tempered as the bundle says."""
    return case_numbers(case.prediction, case.truth, 1.0 if calibration is None else calibration["tempering_scale"])


def case_risk(case: Measured, num_classes: int) -> float:
    """1 - mean Dice over the structures that prediction or reference have; NaN where there are none."""
    return 1 - mean_dice(case.prediction.classes, case.truth, num_classes)


def _mean(values: Sequence[float]) -> float:
    there = [value for value in values if np.isfinite(value)]
    return float(np.mean(there)) if there else NONE
