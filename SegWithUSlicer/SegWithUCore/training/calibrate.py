"""Numbers per structure fitted on calibration cases: expected volume with interval, predicted Dice."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from ..calibration.case_level import PredictedDice, ProbabilitySums, fit_predicted_dice, probability_sums, soft_dice
from ..calibration.flag_limits import StructureCase
from ..calibration.volume_interval import VolumeInterval, fit_volume_interval
from ..inference.prediction import Prediction, tempered_logits
from ..inference.structures import FittedNumbers
from ..metrics.overlap import dice_of
from ..models.labels import Label
from ..review.flags import share_of


@dataclass(frozen=True)
class CaseNumbers:
    """What a case says about each class, background included; arrays have one entry a class.

    Attributes:
        sums: of its tempered probabilities, in voxels.
        predicted, true: number of voxels.
        dice: of prediction and reference, NaN where neither has the class.
        voxel_mm3: volume of one voxel.
    """

    sums: ProbabilitySums
    predicted: np.ndarray
    true: np.ndarray
    dice: np.ndarray
    voxel_mm3: float

    def confidence(self, index: int) -> float:
        """Soft Dice confidence of class `index`."""
        return soft_dice(self.sums.expected[index], self.sums.inside[index], self.predicted[index])

    def volumes_mm3(self, index: int) -> tuple[float, float, float]:
        """Expected, ambiguous and true volume of class `index`."""
        voxels = np.asarray([self.sums.expected[index], self.sums.ambiguous[index], self.true[index]])
        expected, ambiguous, true = (voxels * self.voxel_mm3).tolist()
        return expected, ambiguous, true


def case_numbers(prediction: Prediction, truth: np.ndarray, scale: float) -> CaseNumbers:
    """Numbers of one case.

    Args:
        truth: class of each voxel.
        scale: the refitted tempering scale.
    """
    classes = range(prediction.logits.shape[0])
    return CaseNumbers(
        probability_sums(softmax(tempered_logits(prediction, scale), 0), prediction.classes),
        np.asarray([np.count_nonzero(prediction.classes == index) for index in classes]),
        np.asarray([np.count_nonzero(truth == index) for index in classes]),
        np.asarray([dice_of(prediction.classes == index, truth == index) for index in classes]),
        prediction.voxel_mm3,
    )


def fit_numbers(cases: Sequence[CaseNumbers], labels: Sequence[Label]) -> FittedNumbers:
    """Fit every structure that enough cases have; background has no numbers."""
    intervals: dict[int, VolumeInterval] = {}
    dice: dict[int, PredictedDice] = {}
    for index, label in enumerate(labels[1:], 1):
        volumes = np.asarray([case.volumes_mm3(index) for case in cases])
        interval = fit_volume_interval(*volumes.T)
        line = fit_predicted_dice([case.confidence(index) for case in cases], [case.dice[index] for case in cases])
        intervals |= {label.value: interval} if interval is not None else {}
        dice |= {label.value: line} if line is not None else {}
    return FittedNumbers(intervals, dice)


def flag_figures(
    case: CaseNumbers,
    classes: np.ndarray,
    error_probability: np.ndarray,
    numbers: FittedNumbers,
    labels: Sequence[Label],
) -> dict[str, StructureCase]:
    """What `review.flags` would read of a case with a known reference, by structure, background left out.

    Args:
        classes, error_probability: of each voxel.
    """
    found = {}
    for index, label in enumerate(labels[1:], 1):
        wrong = float(error_probability[classes == index].sum(dtype=np.float64)) * case.voxel_mm3
        volume = float(case.predicted[index]) * case.voxel_mm3
        expected, ambiguous, _ = case.volumes_mm3(index)
        interval, line = numbers.intervals.get(label.value), numbers.dice.get(label.value)
        confidence = case.confidence(index)
        found[label.name] = StructureCase(
            true_dice=float(case.dice[index]),
            wrong_mm3=wrong,
            wrong_share=share_of(wrong, volume),
            interval_share=None if interval is None else _width(*interval(expected, ambiguous)),
            dice=line(confidence) if line is not None and line.informative and np.isfinite(confidence) else None,
        )
    return found


def _width(volume: float, low: float, high: float) -> float:
    return share_of(high - low, volume)
