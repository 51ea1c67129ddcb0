"""Figures of error detection over any number of voxels, in one pass and bounded memory.

A float32 read as an integer keeps its order, so the upper 16 of its bits are bins whose width follows the value: 2^-8
relative, over the whole range, without knowing it beforehand. The counts of a bin are a group of `ScoreGroups`: voxels
within one bin count as ties.
"""

from collections.abc import Callable

import numpy as np

from .error_detection import ScoreGroups

BINS = 1 << 16
CHUNK = 1 << 16
"""Voxels a step: their casts fit L2 (`Testing/Benchmarks/metrics_speed.py` compares sizes)."""


class ScoreHistogram:
    """Counts of voxels and of wrong voxels by score; sums of histograms are histograms of all their voxels."""

    def __init__(self) -> None:
        self._voxels = np.zeros(BINS, np.int64)
        self._wrong = np.zeros(BINS, np.int64)

    def add(self, score: np.ndarray, error: np.ndarray) -> None:
        """Count voxels.

        Args:
            score: higher = riskier, any shape; negative values are in order.
            error: boolean, of the same shape.

        Raises:
            ValueError: another shape, or a score that is not a number.
        """
        if score.shape != error.shape:
            raise ValueError(f"{score.shape} scores but {error.shape} errors.")
        flat, wrong = np.ravel(score), np.ravel(error)
        if wrong.dtype != np.bool_:
            wrong = wrong.astype(np.bool_)
        voxels, errors = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        for start in range(0, flat.size, CHUNK):
            chunk = np.ascontiguousarray(flat[start : start + CHUNK], "<f4")
            upper = chunk.view("<u2")[1::2].astype(np.intp)
            voxels += np.bincount(upper, minlength=BINS)
            errors += np.bincount(upper[wrong[start : start + CHUNK]], minlength=BINS)
        if voxels[_NOT_A_NUMBER].any():
            raise ValueError(f"{voxels[_NOT_A_NUMBER].sum()} scores are not a number.")
        for counts, total in ((voxels, self._voxels), (errors, self._wrong)):
            counts[0] += counts[_MINUS_ZERO]
            counts[_MINUS_ZERO] = 0
            total += counts

    def __add__(self, other: "ScoreHistogram") -> "ScoreHistogram":
        both = ScoreHistogram()
        both._voxels = self._voxels + other._voxels
        both._wrong = self._wrong + other._wrong
        return both

    def groups(self) -> ScoreGroups:
        """The bins that hold voxels, safest first, for every function of `error_detection`."""
        voxels, wrong = self._voxels[_IN_ORDER], self._wrong[_IN_ORDER]
        held = voxels > 0
        return ScoreGroups(voxels[held], wrong[held])


def _ascending_bins() -> np.ndarray:
    """Numbers of the bins from the smallest score to the largest: negative ones run backwards."""
    negative = np.arange(BINS - 1, BINS // 2 - 1, -1)
    return np.concatenate([negative, np.arange(BINS // 2)])


_IN_ORDER = _ascending_bins()
_MINUS_ZERO = 1 << 15
_NOT_A_NUMBER = np.flatnonzero((np.arange(BINS) & 0x7FFF) > 0x7F80)


def figure_bounds(groups: ScoreGroups, figure: Callable[[ScoreGroups], float]) -> tuple[float, float]:
    """Least and greatest value that a figure can have, however the voxels of each group are ordered in truth.

    Holds for every figure that only gets better when a correct voxel changes places with a riskier wrong one, as all
    figures of `error_detection` do: within each group the wrong voxels are put last, then first.

    Args:
        groups: with bins for groups.
        figure: such as `auroc`.
    """
    right = groups.voxels - groups.wrong
    values = []
    for first, second in (((right, 0), (groups.wrong, 1)), ((groups.wrong, 1), (right, 0))):
        voxels = np.stack([first[0], second[0]], 1).ravel()
        wrong = np.stack([first[0] * first[1], second[0] * second[1]], 1).ravel()
        held = voxels > 0
        values.append(figure(ScoreGroups(voxels[held], wrong[held])))
    return min(values), max(values)
