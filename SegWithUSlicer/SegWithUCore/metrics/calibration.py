"""How well probabilities agree with what happens."""

import numpy as np

PROBABILITY_FLOOR = 1e-12


def negative_log_likelihood(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log p at the true class, p floored at 1e-12.

    Args:
        probabilities: (classes, *any).
        truth: class of each voxel, (*any).
    """
    chosen = np.take_along_axis(probabilities, truth[None].astype(np.int64), 0)
    return float(-np.log(np.maximum(chosen, PROBABILITY_FLOOR)).mean(dtype=np.float64))


def binary_cross_entropy(probability: np.ndarray, event: np.ndarray, floor: float = 1e-7) -> float:
    """Mean cross-entropy of boolean events under their predicted probabilities, of one shape."""
    p = np.clip(probability.astype(np.float64), floor, 1 - floor)
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


def mean_class_calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 20) -> float:
    """`average_calibration_error` of each foreground class, averaged; background has no say.

    Args:
        probabilities: (classes, *any).
        truth: class of each voxel, (*any).
    """
    classes = range(1, probabilities.shape[0])
    return float(np.mean([average_calibration_error(probabilities[c], truth == c, bins) for c in classes]))


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
