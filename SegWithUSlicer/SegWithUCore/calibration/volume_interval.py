"""The volume that a structure probably has, with an interval that holds the true one in nine cases of ten.

Never from independent voxels: neighbouring voxels are wrong together, and an interval built as if they were not
would be far too narrow. What the calibration cases missed by says how wide it must be.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

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
        """Expected volume, and lower and upper end of the interval, in mm3.

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
    """The smallest score that bounds a new one with probability `level`, None for too few scores.

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
