"""Whether an error probability holds: of voxels that read so much, how many were wrong, with intervals by patients."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit

from ..metrics.bootstrap import Interval, ratio_interval
from ..regions.region import UNCERTAIN
from .site_line import CENTRES, LEAST_PATIENTS, ErrorCounts

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
    def is_off(self) -> bool:
        """Whether the verdict is that more or fewer were wrong than it reads."""
        return self.verdict.startswith("too ")

    @property
    def sentence(self) -> str:
        """The verdict with its figures."""
        if not self.voxels:
            return f"No verdict: no voxel reads {self.level:g}."
        figures = (
            f"of voxels that read {self.level:g}, {self.observed.mean * 100:.0f} % were wrong "
            f"({self.observed.low * 100:.0f} to {self.observed.high * 100:.0f})"
        )
        if self.patients < LEAST_PATIENTS:
            few = "1 patient has" if self.patients == 1 else f"only {self.patients} patients have"
            return f"No verdict: {figures}, but {few} such voxels; give at least {LEAST_PATIENTS}."
        if self.verdict == "no verdict":
            return f"No verdict: {figures}; the interval is too wide, give more patients than {self.patients}."
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
