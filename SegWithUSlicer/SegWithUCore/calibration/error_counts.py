"""Count errors by error probability: check a model's calibration on cases and recalibrate it.

The factor of a site says how many times as many voxels are wrong as the model expects, drawn towards 1. A reading says
whether a probability holds: how many of the voxels with about that probability were wrong, with intervals over
patients.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from ..metrics.bootstrap import Interval, ratio_interval
from ..metrics.patients import by_patient
from ..regions.region import UNCERTAIN

LEAST_PATIENTS = 8
"""With fewer no interval over patients can be trusted."""
FACTOR_PATIENTS = 3
"""Fewer give no factor."""
SITE_SPREAD, PATIENT_SPREAD = 0.5, 0.25
"""Standard deviations of the logarithm of wrong over expected voxels that are expected before a site is seen: of sites,
to which the factor is drawn, and of its patients, who vary so at home."""
SPREAD_WEIGHT = 2
"""So many patients' worth of `PATIENT_SPREAD`: three patients alone may be alike by chance."""
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


def patient_counts(cases: Sequence[ErrorCounts], patients: Sequence[Hashable]) -> dict[Hashable, ErrorCounts]:
    """Sum the cases of each patient."""
    groups = by_patient(patients)
    return {patient: sum_counts([cases[index] for index in its]) for patient, its in groups.items()}


def sum_counts(counts: Sequence[ErrorCounts]) -> ErrorCounts:
    """Add counts up; there is at least one."""
    return ErrorCounts(np.sum([each.voxels for each in counts], 0), np.sum([each.errors for each in counts], 0))


@dataclass(frozen=True)
class SiteFactor:
    """How many times as many voxels are wrong as the model expects, with its 95 % interval over patients."""

    factor: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"factor {self.factor:.2g} ({self.low:.2g} to {self.high:.2g})"


def fit_site_factor(patients: Sequence[ErrorCounts]) -> SiteFactor | None:
    """Fit the factor of a site on `FACTOR_PATIENTS` patients or more; None for fewer.

    The logarithms of wrong over expected voxels are normal around that of the site, and those of sites around 0.
    """
    count = len(patients)
    if count < FACTOR_PATIENTS:
        return None
    ratios = np.log([(each.errors.sum() + 0.5) / (each.expected() + 0.5) for each in patients])
    freedom = SPREAD_WEIGHT + count - 1
    variance = (SPREAD_WEIGHT * PATIENT_SPREAD**2 + (count - 1) * ratios.var(ddof=1)) / freedom / count
    kept = SITE_SPREAD**2 / (SITE_SPREAD**2 + variance)
    middle, half = kept * ratios.mean(), student.ppf(0.975, freedom) * np.sqrt(kept * variance)
    low, factor, high = np.exp([middle - half, middle, middle + half]).tolist()
    return SiteFactor(factor, low, high)


LEVELS = tuple(sorted({0.05, 0.1, UNCERTAIN, 0.5}))
_FACTOR = 1.25
"""A voxel reads 0.25 if it lies between 0.25 / 1.25 and 0.25 * 1.25."""
TOO_WIDE = 0.1
"""Half the width of an interval from which on "it holds" would say nothing."""


@dataclass(frozen=True)
class Reading:
    """Voxels with about one error probability.

    Attributes:
        level: the error probability.
        voxels, patients: how many have it.
        read: its mean over these voxels.
        observed: share of them that were wrong, with its interval over patients; NaN without any.
        excess: observed minus read, likewise.
    """

    level: float
    voxels: int
    patients: int
    read: float
    observed: Interval
    excess: Interval

    @property
    def verdict(self) -> str:
        """One of "too optimistic", "too pessimistic", "holds" and "no verdict"."""
        if self.patients < LEAST_PATIENTS:
            return "no verdict"
        if self.excess.low > 0:
            return "too optimistic"
        if self.excess.high < 0:
            return "too pessimistic"
        return "no verdict" if self.observed.high - self.observed.low > 2 * TOO_WIDE else "holds"

    @property
    def message(self) -> str:
        """The verdict with its figures."""
        if not self.voxels:
            return f"No verdict: no voxel reads {self.level:g}."
        span = f"{self.observed.low * 100:.0f} to {self.observed.high * 100:.0f}"
        figures = f"of voxels that read {self.level:g}, {self.observed.mean * 100:.0f} % were wrong ({span})"
        if self.verdict == "no verdict":
            few = f"{self.patients} patients are too few, or the interval too wide"
            return f"No verdict: {figures}; {few}: give more patients (at least {LEAST_PATIENTS})."
        words = "the probabilities hold here" if self.verdict == "holds" else self.verdict
        return f"{figures[0].upper()}{figures[1:]}: {words}."

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "level": self.level,
            "voxels": self.voxels,
            "patients": self.patients,
            "read": self.read if self.voxels else None,
            "observed": self.observed.mean if self.voxels else None,
            "interval": [self.observed.low, self.observed.high] if self.voxels else None,
            "verdict": self.verdict,
        }


def reading(patients: Mapping[Hashable, ErrorCounts], level: float = UNCERTAIN) -> Reading:
    """Measure what came of the voxels that read about `level`."""
    here = (logit(level / _FACTOR) <= CENTRES) & (logit(min(level * _FACTOR, 0.999)) >= CENTRES)
    sums = np.asarray(
        [
            (counts.voxels[here].sum(), counts.errors[here].sum(), counts.voxels[here] @ expit(CENTRES[here]))
            for counts in patients.values()
            if counts.voxels[here].sum()
        ]
    )
    if not sums.size:
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return Reading(level, 0, 0, float("nan"), nothing, nothing)
    voxels, errors, read = sums.T
    groups = range(len(sums))
    return Reading(
        level,
        int(voxels.sum()),
        len(sums),
        float(read.sum() / voxels.sum()),
        ratio_interval(errors.tolist(), voxels.tolist(), groups),
        ratio_interval((errors - read).tolist(), voxels.tolist(), groups),
    )
