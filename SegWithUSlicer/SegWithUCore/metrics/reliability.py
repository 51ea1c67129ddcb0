"""Probabilities against what happened, over any number of voxels in one pass and bounded memory."""

from dataclasses import dataclass

import numpy as np

_BINS = (int(np.float32(1).view(np.uint32)) >> 16) + 1
_CHUNK = 1 << 18


@dataclass(frozen=True)
class ReliabilityBin:
    """Voxels whose probability lies between two limits.

    Attributes:
        low, high: the limits.
        voxels: how many.
        predicted: their mean probability.
        observed: the share for which the event happened.
    """

    low: float
    high: float
    voxels: int
    predicted: float
    observed: float


class Reliability:
    """Counts, events and sums of probability by probability; sums of these are those of all their voxels.

    Bins are the upper 16 bits of a float32, as in `score_histogram`: 2^-8 of the probability wide.
    """

    def __init__(self) -> None:
        self._voxels, self._events = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
        self._sums = np.zeros(_BINS)

    def add(self, probability: np.ndarray, event: np.ndarray) -> None:
        """Count voxels.

        Args:
            probability: 0 to 1, any shape.
            event: boolean, of the same shape.

        Raises:
            ValueError: another shape, or a value that is no probability.
        """
        if probability.shape != event.shape:
            raise ValueError(f"{probability.shape} probabilities but {event.shape} events.")
        if probability.size and not (probability.min() >= 0 and probability.max() <= 1):
            raise ValueError("a probability is not between 0 and 1.")
        flat, happened = np.ravel(probability), np.ravel(event).astype(np.bool_)
        for start in range(0, flat.size, _CHUNK):
            chunk = np.abs(flat[start : start + _CHUNK].astype(np.float32))  # -0.0 has the sign bit set
            numbers = (chunk.view(np.uint32) >> 16).astype(np.intp)
            self._voxels += np.bincount(numbers, minlength=_BINS)
            self._events += np.bincount(numbers[happened[start : start + _CHUNK]], minlength=_BINS)
            self._sums += np.bincount(numbers, chunk, _BINS)

    def __add__(self, other: "Reliability") -> "Reliability":
        both = Reliability()
        both._voxels = self._voxels + other._voxels
        both._events = self._events + other._events
        both._sums = self._sums + other._sums
        return both

    @property
    def voxels(self) -> int:
        """All voxels."""
        return int(self._voxels.sum())

    def expected_calibration_error(self, bins: int = 15) -> float:
        """Weighted mean gap over groups of equal mass; NaN without voxels.

        `calibration.expected_calibration_error` without sorting: a bin that two groups share is divided evenly.
        """
        if not self.voxels:
            return float("nan")
        ends = np.concatenate([[0], np.cumsum(self._voxels)])
        gaps = np.concatenate([[0.0], np.cumsum(self._sums - self._events)])
        cuts = np.linspace(0, self.voxels, bins + 1)
        kept = np.concatenate([[True], np.diff(ends) > 0])
        return float(np.abs(np.diff(np.interp(cuts, ends[kept], gaps[kept]))).sum() / self.voxels)

    def diagram(self, bins: int = 20) -> list[ReliabilityBin]:
        """Predicted and observed frequency in bins of equal width, empty ones left out.

        A bin of the histogram that lies over a limit counts where its mean probability lies.
        """
        filled = np.flatnonzero(self._voxels)
        means = self._sums[filled] / self._voxels[filled]
        places = np.minimum((means * bins).astype(np.int64), bins - 1)
        found = []
        for place in np.unique(places):
            here = filled[places == place]
            voxels = int(self._voxels[here].sum())
            predicted, observed = float(self._sums[here].sum() / voxels), float(self._events[here].sum() / voxels)
            found.append(ReliabilityBin(place / bins, (place + 1) / bins, voxels, predicted, observed))
        return found
