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
    """Mean squared difference of predicted probability and boolean event, of one shape (Brier 1950)."""
    return float(np.square(probability.astype(np.float64) - event).mean())


def expected_calibration_error(probability: np.ndarray, event: np.ndarray, bins: int = 15) -> float:
    """Weighted mean gap between predicted and observed frequency over bins of equal mass.

    Voxels are sorted by predicted probability and cut into `bins` groups of equal size.
    Source: Nixon et al., Measuring Calibration in Deep Learning (2019), adaptive binning.
    """
    order = np.argsort(probability, axis=None, kind="stable")
    p, e = probability.ravel()[order].astype(np.float64), event.ravel()[order].astype(np.float64)
    groups = zip(np.array_split(p, bins), np.array_split(e, bins), strict=True)
    return float(sum(abs(a.sum() - b.sum()) for a, b in groups) / p.size)
