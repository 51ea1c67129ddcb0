"""Calibration: how well probabilities agree with what happens, as scores and as a reliability diagram."""

import numpy as np

PROBABILITY_FLOOR = 1e-12
_EVENT_FLOOR = 1e-7


def negative_log_likelihood(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log p at the true class, p floored at 1e-12.

    Args:
        probabilities: (classes, *any).
        truth: class of each voxel, (*any).
    """
    chosen = np.take_along_axis(probabilities, truth[None].astype(np.int64), 0)
    return float(-np.log(np.maximum(chosen, PROBABILITY_FLOOR)).mean(dtype=np.float64))


def binary_cross_entropy(probability: np.ndarray, event: np.ndarray) -> float:
    """Mean cross-entropy of boolean events under their predicted probabilities, of one shape."""
    p = np.clip(probability.astype(np.float64), _EVENT_FLOOR, 1 - _EVENT_FLOOR)
    return float(-np.where(event, np.log(p), np.log1p(-p)).mean())


def brier_score(probability: np.ndarray, event: np.ndarray) -> float:
    """Mean squared difference of predicted probability and boolean event, of one shape (Brier 1950); NaN of none."""
    if not probability.size:
        return float("nan")
    return float(np.square(probability.astype(np.float64) - event).mean())


def multiclass_brier_score(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean over voxels of the squared differences summed over classes, 0 to 2 (Brier 1950).

    Args:
        probabilities: (classes, *any).
        truth: class of each voxel, (*any).
    """
    chosen = np.take_along_axis(probabilities, truth[None].astype(np.int64), 0)[0].astype(np.float64)
    squares = np.square(probabilities, dtype=np.float64).sum(0)
    return float((squares - 2 * chosen + 1).mean())


def average_calibration_error(probability: np.ndarray, event: np.ndarray, bins: int = 20) -> float:
    """Mean gap between predicted and observed frequency over the filled ones of `bins` bins of equal width.

    Every bin counts the same, so the few voxels of a structure weigh as much as the background. Bins are [low, high).
    Equals `monai.metrics.CalibrationErrorMetric(calibration_reduction="average")`. NaN without voxels.
    Source: Barfoot et al., arXiv 2506.03942.
    """
    number = np.minimum((np.ravel(probability) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(number, minlength=bins)
    gaps = np.bincount(number, np.ravel(probability) - np.ravel(event).astype(np.float64), bins)
    filled = counts > 0
    return float(np.abs(gaps[filled] / counts[filled]).mean()) if filled.any() else float("nan")


def mean_class_calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """`average_calibration_error` of each foreground class, averaged; background has no say.

    Args:
        probabilities: (classes, *any).
        truth: class of each voxel, (*any).
    """
    classes = range(1, probabilities.shape[0])
    return float(np.mean([average_calibration_error(probabilities[c], truth == c) for c in classes]))


def expected_calibration_error(probability: np.ndarray, event: np.ndarray, bins: int = 15) -> float:
    """Weighted mean gap between predicted and observed frequency over bins of equal mass.

    Voxels are sorted by predicted probability and cut into `bins` groups of equal size. NaN without voxels.
    Source: Nixon et al., Measuring Calibration in Deep Learning (2019), adaptive binning.
    """
    if not probability.size:
        return float("nan")
    order = np.argsort(probability, axis=None, kind="stable")
    p, e = probability.ravel()[order].astype(np.float64), event.ravel()[order].astype(np.float64)
    groups = zip(np.array_split(p, bins), np.array_split(e, bins), strict=True)
    return float(sum(abs(a.sum() - b.sum()) for a, b in groups) / p.size)


_BINS = (int(np.float32(1).view(np.uint32)) >> 16) + 1
_CHUNK = 1 << 18


class Reliability:
    """Counts, events and sums of probability by probability; sums of these are those of all their voxels.

    Bins are the upper 16 bits of a float32, as in `error_detection.binned_groups`: 2^-8 of the probability wide.
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

    def expected_calibration_error(self, bins: int = 15) -> float:
        """Weighted mean gap over groups of equal mass; NaN without voxels.

        `calibration.expected_calibration_error` without sorting: a bin that two groups share is divided evenly.
        """
        voxels = int(self._voxels.sum())
        if not voxels:
            return float("nan")
        ends = np.concatenate([[0], np.cumsum(self._voxels)])
        gaps = np.concatenate([[0.0], np.cumsum(self._sums - self._events)])
        cuts = np.linspace(0, voxels, bins + 1)
        kept = np.concatenate([[True], np.diff(ends) > 0])
        return float(np.abs(np.diff(np.interp(cuts, ends[kept], gaps[kept]))).sum() / voxels)

    def diagram(self, bins: int = 20) -> list[dict[str, float]]:
        """Predicted and observed frequency in bins of equal width, empty ones left out.

        A bin of the histogram that lies over a limit counts where its mean probability lies.

        Returns:
            For each bin its limits `low` and `high`, the number of `voxels`, their mean probability `predicted`, and
            `observed`, the share for which the event happened.
        """
        filled = np.flatnonzero(self._voxels)
        means = self._sums[filled] / self._voxels[filled]
        indices = np.minimum((means * bins).astype(np.int64), bins - 1)
        found = []
        for index in np.unique(indices):
            here = filled[indices == index]
            voxels = int(self._voxels[here].sum())
            shares = {"predicted": self._sums[here].sum() / voxels, "observed": self._events[here].sum() / voxels}
            limits = {"low": index / bins, "high": (index + 1) / bins}
            found.append({**limits, "voxels": voxels, **{name: float(share) for name, share in shares.items()}})
        return found
