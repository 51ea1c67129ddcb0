"""Case-level calibration: predicted Dice and volume interval of a structure, from sums of its probabilities.

Predicted Dice says how good the segmentation probably is, and whether that prediction is worth showing; the interval
holds the true volume with a fitted probability (split conformal).
"""

import math
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
        """Make the sums of no voxels."""
        return cls(np.zeros(num_classes), np.zeros(num_classes), np.zeros(num_classes))


def probability_sums(probabilities: np.ndarray, classes: np.ndarray) -> ProbabilitySums:
    """Sum probabilities (classes, *any), given the predicted class of each voxel."""
    flat, chosen = probabilities.reshape(probabilities.shape[0], -1).astype(np.float64), np.ravel(classes)
    inside = [float(row[chosen == index].sum()) for index, row in enumerate(flat)]
    return ProbabilitySums(flat.sum(1), np.asarray(inside), (flat * (1 - flat)).sum(1))


def soft_dice(expected: float, inside: float, predicted: float) -> float:
    """Soft Dice confidence: the Dice that calibrated probabilities expect; NaN if nothing is expected.

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


LEVEL = 0.9
SMALLEST_SCALE_MM3 = 1e-6
"""Keeps the scores finite where a structure is nowhere in doubt."""


@dataclass(frozen=True)
class VolumeInterval:
    """From sums of tempered probabilities to a volume with its interval.

    Attributes:
        factor: true volume over sum of probabilities, on calibration cases.
        half_width: half the interval in units of the ambiguous volume, the sum of p (1 - p).
        level: share of new cases whose true volume lies in the interval, at least.
        cases: number of calibration cases.
    """

    factor: float
    half_width: float
    level: float
    cases: int

    def __call__(self, expected_mm3: float, ambiguous_mm3: float) -> tuple[float, float, float]:
        """Return the expected volume, and the lower and upper end of its interval, in mm3.

        Args:
            expected_mm3: sum of the structure's tempered probability over all voxels, times voxel volume.
            ambiguous_mm3: sum of p (1 - p), times voxel volume.
        """
        volume = self.factor * expected_mm3
        half = self.half_width * max(ambiguous_mm3, SMALLEST_SCALE_MM3)
        return volume, max(0.0, volume - half), volume + half

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "VolumeInterval":
        """From the calibration block of a bundle."""
        return cls(float(data["factor"]), float(data["half_width"]), float(data["level"]), int(data["cases"]))


def conformal_quantile(scores: Sequence[float], level: float = LEVEL) -> float | None:
    """Return the smallest score that bounds a new one with probability `level`; None for too few scores.

    Source: split conformal prediction, Vovk et al., Algorithmic Learning in a Random World (2005).
    """
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return None if rank > len(scores) else float(np.sort(np.asarray(scores, float))[rank - 1])


def fit_volume_interval(
    expected_mm3: Sequence[float], ambiguous_mm3: Sequence[float], true_mm3: Sequence[float], level: float = LEVEL
) -> VolumeInterval | None:
    """Fit one structure on calibration cases; None for too few cases, or a structure that none of them has.

    The factor makes up for probabilities that sum to too much or too little. Each case is scored with the factor of
    the others, so that having fitted it does not make the interval too narrow.
    """
    expected, ambiguous, true = (np.asarray(values, float) for values in (expected_mm3, ambiguous_mm3, true_mm3))
    if true.sum() <= 0 or expected.size < 2 or (expected.sum() - expected <= 0).any():
        return None
    others = (true.sum() - true) / (expected.sum() - expected)
    scores = np.abs(true - others * expected) / np.maximum(ambiguous, SMALLEST_SCALE_MM3)
    half_width = conformal_quantile(scores.tolist(), level)
    if half_width is None:
        return None
    return VolumeInterval(float(true.sum() / expected.sum()), half_width, level, int(true.size))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least squares; flat where all x are equal. A falling line would punish confidence, so it is flat too."""
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum()) / spread) if spread > 0 else 0.0
    return float(y.mean() - slope * x.mean()), slope
