"""How good the segmentation of a structure probably is: predicted Dice, and whether the prediction is worth showing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..metrics.bootstrap import paired_bootstrap

MINIMUM_CASES = 10


@dataclass(frozen=True)
class ProbabilitySums:
    """Sums over voxels of the tempered probabilities, one entry a class.

    Attributes:
        expected: of p, over all voxels.
        inside: of p, over the voxels predicted as the class.
        ambiguous: of p (1 - p), over all voxels.
    """

    expected: np.ndarray
    inside: np.ndarray
    ambiguous: np.ndarray

    def __add__(self, other: "ProbabilitySums") -> "ProbabilitySums":
        return ProbabilitySums(
            self.expected + other.expected, self.inside + other.inside, self.ambiguous + other.ambiguous
        )

    @classmethod
    def zeros(cls, num_classes: int) -> "ProbabilitySums":
        """Of no voxels."""
        return cls(np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes))


def probability_sums(probabilities: np.ndarray, classes: np.ndarray) -> ProbabilitySums:
    """Sums of probabilities (classes, *any), with the predicted class of each voxel."""
    flat, chosen = probabilities.reshape(probabilities.shape[0], -1).astype(np.float64), np.ravel(classes)
    inside = [float(row[chosen == index].sum()) for index, row in enumerate(flat)]
    return ProbabilitySums(flat.sum(1), np.asarray(inside), (flat * (1 - flat)).sum(1))


def soft_dice(expected: float, inside: float, predicted: float) -> float:
    """Soft Dice confidence: the Dice that calibrated probabilities expect; NaN where nothing is expected.

    Args:
        expected: sum of p over all voxels.
        inside: sum of p over the predicted voxels.
        predicted: number of predicted voxels.

    Source: Borges et al., arXiv 2402.10665.
    """
    total = expected + predicted
    return 2 * inside / total if total > 0 else float("nan")


@dataclass(frozen=True)
class PredictedDice:
    """A straight line from soft Dice confidence to Dice.

    Attributes:
        intercept, slope: of the line.
        mean: Dice over the calibration cases, the constant that a prediction has to beat.
        lowest: prediction among the calibration cases.
        error, error_of_mean: mean absolute error on calibration cases, each predicted without itself.
        difference_low, difference_high: 95 % interval, over cases, of the difference of the two.
        cases: number of calibration cases that have the structure.
    """

    intercept: float
    slope: float
    mean: float
    lowest: float
    error: float
    error_of_mean: float
    difference_low: float
    difference_high: float
    cases: int

    @property
    def informative(self) -> bool:
        """Whether it beats the constant mean beyond chance; otherwise it is not shown and raises no flag."""
        return self.difference_high < 0

    def __call__(self, confidence: float) -> float:
        """Predicted Dice, 0 to 1."""
        return float(np.clip(self.intercept + self.slope * confidence, 0, 1))

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        return {**asdict(self), "informative": self.informative}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "PredictedDice":
        """From the calibration block of a bundle."""
        return cls(**{key: value for key, value in data.items() if key != "informative"})


def fit_predicted_dice(confidences: Sequence[float], dice: Sequence[float]) -> PredictedDice | None:
    """Fit one structure on calibration cases; None for less than `MINIMUM_CASES` cases that have it.

    Args:
        confidences: soft Dice confidence of each case.
        dice: true Dice; NaN, as of a structure that is neither there nor predicted, is left out.
    """
    x, y = np.asarray(confidences, float), np.asarray(dice, float)
    usable = np.isfinite(x) & np.isfinite(y)
    x, y = x[usable], y[usable]
    if x.size < MINIMUM_CASES:
        return None
    intercept, slope = _line(x, y)
    error, error_of_mean = left_out_errors(x, y)
    gain = paired_bootstrap(error.tolist(), error_of_mean.tolist())
    return PredictedDice(
        intercept=intercept,
        slope=slope,
        mean=float(y.mean()),
        lowest=float(np.clip(intercept + slope * x, 0, 1).min()),
        error=float(error.mean()),
        error_of_mean=float(error_of_mean.mean()),
        difference_low=gain.low,
        difference_high=gain.high,
        cases=int(x.size),
    )


def left_out_errors(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute error of the line, and of the mean, at each case when fitted on the others."""
    errors, constant = np.empty(x.size), np.empty(x.size)
    for left_out in range(x.size):
        others = np.arange(x.size) != left_out
        intercept, slope = _line(x[others], y[others])
        errors[left_out] = abs(np.clip(intercept + slope * x[left_out], 0, 1) - y[left_out])
        constant[left_out] = abs(y[others].mean() - y[left_out])
    return errors, constant


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least squares; flat where all x are equal. A falling line would punish confidence, so it is flat too."""
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum()) / spread) if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope
