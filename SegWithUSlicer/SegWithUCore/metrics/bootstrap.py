"""Confidence intervals over cases; never over voxels, which are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(first: Sequence[float], second: Sequence[float], draws: int = 2000, seed: int = 0) -> Interval:
    """Mean of `first - second` over cases, with the percentile interval of resampled cases.

    Args:
        first, second: one figure a case, the same cases in the same order.
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    picks = np.random.default_rng(seed).integers(difference.size, size=(draws, difference.size))
    low, high = np.percentile(difference[picks].mean(1), [2.5, 97.5])
    return Interval(float(difference.mean()), float(low), float(high))
