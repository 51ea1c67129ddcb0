"""Predictions of cases whose true segmentation is known, which stage two of the error probability is fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.inference.prediction import NetworkView, Prediction

LEAST_GROUPS = 10
"""Patients below whose number nothing is cross-validated, and stage two is left out."""
MOST_BYTES, BYTES_BESIDE = 4 << 30, 24
"""Of all cases that are kept for the fit; of a voxel besides logits and image."""
FOLD_WEIGHT = 0.5
"""A case of a fold's network counts as so many of the network itself, which errs in its own way."""


@dataclass(frozen=True)
class ReferenceCase:
    """A prediction and what is true.

    Attributes:
        truth: class of each voxel, (z, y, x).
        group: whom the case comes from; the cases of one patient stay in one fold.
    """

    prediction: Prediction
    truth: np.ndarray
    group: str

    @cached_property
    def wrong(self) -> np.ndarray:
        """Where they differ, boolean (z, y, x)."""
        found: np.ndarray = self.prediction.classes != self.truth
        return found

    @property
    def view(self) -> NetworkView:
        """The image as the network got it."""
        assert self.prediction.view is not None
        return self.prediction.view


@dataclass(frozen=True)
class OutOfFold:
    """Training cases, each predicted by a network that has not been trained with them; one entry a case.

    Attributes:
        tables: from the ranking map of the network that predicted the case to an error probability.
    """

    cases: Sequence[ReferenceCase]
    tables: Sequence[ErrorProbability]


class SeenCases:
    """The cases that stage two is fitted on, as long as memory takes all of them.

    Args:
        wanted: whether any are.
        others: what further cases take of that memory, in bytes.
    """

    def __init__(self, wanted: bool, others: int = 0) -> None:
        self._wanted, self._bytes = wanted, others
        self.cases: list[ReferenceCase] = []

    def add(self, case: ReferenceCase) -> None:
        """Keep a case, or none at all from the one on that would be too many."""
        if not self._wanted:
            return
        self._bytes += bytes_of(case)
        self.cases.append(case)
        if self._bytes > MOST_BYTES:
            self._wanted, self.cases = False, []

    @property
    def sentences(self) -> tuple[str, ...]:
        """Say that there were too many, or too few."""
        if self._bytes > MOST_BYTES:
            return (f"Stage two: left out; the cases take more than {MOST_BYTES >> 30} GB of memory at once.",)
        if not self.cases:
            return ()
        patients = len({case.group for case in self.cases})
        if patients < LEAST_GROUPS:
            return (f"Stage two: left out; {patients} patients are too few, give {LEAST_GROUPS}.",)
        return ("Stage two: left out; no pair of classes has enough errors in these cases.",)


def bytes_of(case: ReferenceCase) -> int:
    """Return the memory that a case takes while stage two is fitted."""
    outputs = len(case.prediction.logits) + len(case.view.image) + BYTES_BESIDE // 4
    return 4 * outputs * case.wrong.size
