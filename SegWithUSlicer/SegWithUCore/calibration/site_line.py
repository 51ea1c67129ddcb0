"""A fitted error probability moved to the cases of another site: one slope and one offset, shrunk and judged.

Few cases say little: slope and offset are drawn towards what the model has, and count only if they predict patients
better who had no part in fitting them.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from ..metrics.bootstrap import Interval, paired_bootstrap
from .error_probability import Direction, ErrorProbability, fit_line

FULL_WEIGHT_PATIENTS = 40
"""From so many patients on, what is fitted on them counts in full; with n of them as much as n / 40."""
LEAST_PATIENTS = 8
"""With fewer no interval over patients can be trusted, and nothing is concluded."""
FLOOR = 1e-6
_BINS = 1200
_EDGES = np.linspace(logit(FLOOR), logit(1 - FLOOR), _BINS + 1)
CENTRES = (_EDGES[:-1] + _EDGES[1:]) / 2
"""Log-odds of an error in the middle of each bin, 0.023 wide."""


@dataclass(frozen=True)
class ErrorCounts:
    """Voxels and wrong voxels of a case by log-odds of an error; sums over cases are those of all their voxels."""

    voxels: np.ndarray
    errors: np.ndarray

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(self.voxels + other.voxels, self.errors + other.errors)

    def __sub__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(self.voxels - other.voxels, self.errors - other.errors)

    def log_loss(self, slope: float = 1.0, offset: float = 0.0) -> float:
        """Mean over voxels of the log loss of the error probability after slope and offset."""
        line = slope * CENTRES + offset
        return float((self.voxels @ np.logaddexp(0, line) - self.errors @ line) / max(self.voxels.sum(), 1.0))

    def expected(self, slope: float = 1.0, offset: float = 0.0) -> float:
        """Sum of the error probability over voxels, after slope and offset."""
        return float(self.voxels @ expit(slope * CENTRES + offset))


def count_errors(probability: np.ndarray, wrong: np.ndarray) -> ErrorCounts:
    """Count voxels by their error probability.

    Args:
        probability: 0 to 1, any shape.
        wrong: boolean of the same shape.
    """
    odds = logit(np.clip(np.ravel(probability).astype(np.float64), FLOOR, 1 - FLOOR))
    bins = np.clip(((odds - _EDGES[0]) / (_EDGES[1] - _EDGES[0])).astype(np.int64), 0, _BINS - 1)
    flat = np.ravel(wrong).astype(np.float64)
    return ErrorCounts(np.bincount(bins, minlength=_BINS).astype(np.float64), np.bincount(bins, flat, _BINS))


def by_patient(cases: Sequence[ErrorCounts], patients: Sequence[Hashable]) -> dict[Hashable, ErrorCounts]:
    """Sum the cases of each patient."""
    found: dict[Hashable, ErrorCounts] = {}
    for counts, patient in zip(cases, patients, strict=True):
        found[patient] = found[patient] + counts if patient in found else counts
    return found


def weight(patients: int) -> float:
    """Say how much what was fitted on so many patients counts beside what the model has, 0 to 1."""
    return min(1.0, patients / FULL_WEIGHT_PATIENTS)


@dataclass(frozen=True)
class SiteLine:
    """Slope and offset of the log-odds of an error.

    Attributes:
        slope, offset: shrunk.
        patients: that they were fitted on.
        own_loss, new_loss: log loss a voxel, mean over patients, each predicted without itself.
        change: 95 % interval, over patients, of the new loss minus the own.
    """

    slope: float
    offset: float
    patients: int
    own_loss: float
    new_loss: float
    change: Interval

    @property
    def is_better(self) -> bool:
        """Whether it predicts patients that it was not fitted on better, beyond chance."""
        return self.patients >= LEAST_PATIENTS and self.change.high < 0


def fit_site_line(patients: Mapping[Hashable, ErrorCounts]) -> SiteLine | None:
    """Fit slope and offset on patients, and judge them on each patient as fitted on the others.

    Returns None if there is nothing to fit: no errors, or fewer than two patients.
    """
    all_counts = list(patients.values())
    if len(all_counts) < 2 or not sum(counts.errors.sum() for counts in all_counts):
        return None
    total = all_counts[0]
    for counts in all_counts[1:]:
        total = total + counts
    own = [counts.log_loss() for counts in all_counts]
    new = [counts.log_loss(*_shrunk(total - counts, len(all_counts) - 1)) for counts in all_counts]
    change = paired_bootstrap(new, own)
    line = _shrunk(total, len(all_counts))
    return SiteLine(*line, len(all_counts), float(np.mean(own)), float(np.mean(new)), change)


def _shrunk(counts: ErrorCounts, patients: int) -> tuple[float, float]:
    slope, offset = fit_line(CENTRES, counts.voxels, counts.errors)
    share = weight(patients)
    return 1 + share * (slope - 1), share * offset


def moved(table: ErrorProbability, slope: float, offset: float) -> ErrorProbability:
    """Apply slope and offset to a fitted error probability: the knots, and so that directions come out the same."""
    odds = slope * logit(np.clip(np.asarray(table.probability), FLOOR, 1 - FLOOR)) + offset
    directions = tuple(_moved_direction(direction, slope, offset) for direction in table.directions)
    return replace(table, probability=tuple(expit(odds).tolist()), directions=directions)


def _moved_direction(direction: Direction, slope: float, offset: float) -> Direction:
    """Slope * (s l + o) + offset, in terms of the new log-odds slope * l + offset of the table."""
    return replace(direction, offset=slope * direction.offset + offset - direction.slope * offset)
