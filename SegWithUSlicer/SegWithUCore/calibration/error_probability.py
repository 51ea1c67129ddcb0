"""Error probability: the ranking map on a scale that means the same for every patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from ..errors import InputError
from .directions import Direction, fit_directions, refitted

MAXIMUM_KNOTS = 200
"""Knots kept: 200 steps of equal weight change the expected wrong volume by less than a tenth of a percent."""


@dataclass(frozen=True)
class ErrorProbability:
    """From ranking map to the probability that the predicted class is wrong: a monotone table, then its directions.

    Attributes:
        ranking: increasing knots.
        probability: non-decreasing values at the knots; linear between, constant beyond.
        cases: number of calibration cases it was fitted on.
        directions: refits by predicted class and runner-up; none for a score that knows no classes.
    """

    ranking: tuple[float, ...]
    probability: tuple[float, ...]
    cases: int
    directions: tuple[Direction, ...] = ()

    def table(self, ranking: np.ndarray) -> np.ndarray:
        """Error probability of any array of ranking values before directions are told apart, float32 in 0 to 1."""
        return np.interp(ranking, self.ranking, self.probability).astype(np.float32)

    def __call__(self, ranking: np.ndarray, predicted: np.ndarray, runner_up: np.ndarray) -> np.ndarray:
        """Error probability, float32 in 0 to 1.

        Args:
            ranking: ranking map, any shape.
            predicted, runner_up: indices of the most and second most probable class, same shape.
        """
        return refitted(self.table(ranking), predicted, runner_up, self.directions)

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        table = {"ranking": list(self.ranking), "probability": list(self.probability), "cases": self.cases}
        return {**table, "directions": [direction.to_json() for direction in self.directions]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ErrorProbability":
        """From the calibration block of a bundle; one without directions is a plain table."""
        directions = tuple(Direction.from_json(entry) for entry in data.get("directions", ()))
        return cls(tuple(data["ranking"]), tuple(data["probability"]), int(data["cases"]), directions)


def fit_error_probability(rankings: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> ErrorProbability:
    """Isotonic (monotone least-squares) regression of error on ranking map, over all voxels of all cases.

    Args:
        rankings: ranking map of each calibration case, any shape.
        errors: whether the segmentation is wrong, boolean, of the same shapes.

    Raises:
        InputError: there is nothing to fit: no errors, or nothing but errors, or one ranking value only.

    Source: Barlow et al., Statistical Inference under Order Restrictions (1972); pool-adjacent-violators by SciPy.
    """
    values = np.concatenate([np.ravel(r) for r in rankings]).astype(np.float64)
    wrong = np.concatenate([np.ravel(e) for e in errors]).astype(np.float64)
    if not 0 < wrong.sum() < wrong.size or values.min() == values.max():
        raise InputError(
            f"The {len(rankings)} calibration cases hold {int(wrong.sum())} wrong voxels of {wrong.size}: "
            "error probability cannot be fitted; give cases with some errors."
        )
    order = np.argsort(values, kind="stable")
    x, counts, means = _tied_means(values[order], wrong[order])
    fitted = isotonic_regression(means, weights=counts).x
    knots_x, knots_y = _thinned(x, fitted, counts)
    return ErrorProbability(tuple(knots_x.tolist()), tuple(knots_y.tolist()), len(rankings))


def fit_with_directions(
    scores: Sequence[np.ndarray],
    errors: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    runner_ups: Sequence[np.ndarray],
) -> ErrorProbability:
    """`fit_error_probability` of any score, then `fit_directions`; arguments and what is raised as there."""
    plain = fit_error_probability(scores, errors)
    directions = fit_directions([plain.table(score) for score in scores], errors, predicted, runner_ups)
    return replace(plain, directions=tuple(directions))


def _tied_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct sorted x, how often each occurs, and the mean of y there."""
    starts = np.flatnonzero(np.r_[True, x[1:] != x[:-1]])
    counts = np.diff(np.r_[starts, x.size]).astype(np.float64)
    return x[starts], counts, np.add.reduceat(y, starts) / counts


def _thinned(x: np.ndarray, fitted: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group neighbours into at most `MAXIMUM_KNOTS` groups of equal voxels plus errors; weighted means are the knots.

    Equal weight of voxels and of expected errors puts knots both where most voxels are and where
    most errors are. Means of a non-decreasing function over successive groups do not decrease.
    """
    mass = counts / counts.sum() + counts * fitted / max(float((counts * fitted).sum()), 1e-12)
    group = np.minimum((np.cumsum(mass) - mass / 2) / 2 * MAXIMUM_KNOTS, MAXIMUM_KNOTS - 1).astype(int)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    weights = np.add.reduceat(counts, starts)
    knots_x = np.add.reduceat(x * counts, starts) / weights
    knots_y = np.add.reduceat(fitted * counts, starts) / weights
    keep = np.r_[True, np.diff(knots_x) > 0]
    return knots_x[keep], np.clip(np.maximum.accumulate(knots_y[keep]), 0, 1)
