"""Error probability: the ranking map on a probability scale, calibrated on average over patients.

Also what goes with it: refits for single pairs of classes (directions), the percentiles of the uncertainty sources
(epistemic, of the model; aleatoric, of the data), and temperature scaling of the class probabilities.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..util.errors import InputError
from ..util.strict_json import typed

_FLOOR = 1e-6
_BINS = 400
_CLASSES = 256
"""A class index is a byte."""
_PIECE = 1 << 18
"""Voxels at once: their copies in double precision stay small."""
_PRIOR_WIDTH = 0.5
"""Slopes and offsets are drawn to 1 and 0 with this standard deviation: a direction with few errors stays as it is."""


@dataclass(frozen=True)
class Direction:
    """Refit of one direction, p' = expit(slope * logit(p) + offset).

    Attributes:
        predicted, runner_up: class indices.
        wrong_voxels: of the calibration cases, in this direction.
    """

    predicted: int
    runner_up: int
    slope: float
    offset: float
    wrong_voxels: int


def refitted(
    probability: np.ndarray, predicted: np.ndarray, runner_up: np.ndarray, directions: Sequence[Direction]
) -> np.ndarray:
    """Error probability refitted by direction, float32; a direction that is not listed stays as it is.

    Args:
        probability: error probability, any shape.
        predicted, runner_up: class indices of the same shape.
    """
    from scipy.special import expit

    result = np.array(probability, np.float32)
    if not directions:
        return result
    slopes, offsets = np.ones(_CLASSES**2), np.zeros(_CLASSES**2)
    changed = np.zeros(_CLASSES**2, bool)
    for each in directions:
        pair = each.predicted * _CLASSES + each.runner_up
        slopes[pair], offsets[pair], changed[pair] = each.slope, each.offset, True
    pairs = np.asarray(predicted, np.uint16) * np.uint16(_CLASSES) + np.asarray(runner_up, np.uint16)
    here = changed[pairs]
    pairs = pairs[here]
    result[here] = expit(slopes[pairs] * _logit(result[here]) + offsets[pairs])
    return result


def fit_directions(
    probabilities: Sequence[np.ndarray],
    errors: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    runner_ups: Sequence[np.ndarray],
) -> list[Direction]:
    """Logistic regression of error on the logit of the error probability, for each direction that has errors.

    Args:
        probabilities: error probability of each calibration case, any shape.
        errors: whether the segmentation is wrong, boolean.
        predicted, runner_ups: class indices of the most and second most probable class.

    Source: Platt, Probabilistic outputs for support vector machines (1999), here with a Gaussian prior.
    """
    scores = _logit(np.concatenate([np.ravel(values) for values in probabilities]))
    wrong = np.concatenate([np.ravel(values) for values in errors])
    first = np.concatenate([np.ravel(values) for values in predicted]).astype(np.uint16)
    keys = first * np.uint16(256) + np.concatenate([np.ravel(values) for values in runner_ups]).astype(np.uint16)
    order = np.argsort(keys, kind="stable")  # once for the hundreds of pairs of a whole brain
    pairs, begins = np.unique(keys[order], return_index=True)
    found = []
    for key, here in zip(pairs.tolist(), np.split(order, begins[1:]), strict=True):
        count = int(np.count_nonzero(wrong[here]))
        if count:
            slope, offset = _fit(scores[here], wrong[here])
            found.append(Direction(key // 256, key % 256, slope, offset, count))
    return found


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
        """Error probability of any array of ranking values before directions are distinguished, float32 in 0 to 1."""
        return np.interp(ranking, self.ranking, self.probability).astype(np.float32)

    def __call__(self, ranking: np.ndarray, predicted: np.ndarray, runner_up: np.ndarray) -> np.ndarray:
        """Error probability, float32 in 0 to 1.

        Args:
            ranking: ranking map, any shape.
            predicted, runner_up: indices of the most and second most probable class, same shape.
        """
        found = np.empty(np.shape(ranking), np.float32)
        flat, given = found.reshape(-1), [np.ravel(values) for values in (ranking, predicted, runner_up)]
        for start in range(0, flat.size, _PIECE):
            part = slice(start, start + _PIECE)
            flat[part] = self._of_piece(*(values[part] for values in given))
        return found

    def _of_piece(self, ranking: np.ndarray, predicted: np.ndarray, runner_up: np.ndarray) -> np.ndarray:
        threshold, least = self._start
        found = np.take(least, predicted.astype(np.uint16) * np.uint16(_CLASSES) + runner_up)
        rest = np.flatnonzero(ranking > threshold)
        found[rest] = refitted(self.table(ranking[rest]), predicted[rest], runner_up[rest], self.directions)
        return found

    @cached_property
    def _start(self) -> tuple[float, np.ndarray]:
        """Return up to which ranking the table stays as it begins, and the error probability there by direction.

        Most voxels lie there, and a look-up is far cheaper than the table and its refits.
        """
        rising = np.flatnonzero(np.asarray(self.probability) > self.probability[0])
        threshold = self.ranking[rising[0] - 1] if rising.size else np.inf
        predicted, runner_up = np.divmod(np.arange(_CLASSES**2), _CLASSES)
        first = np.full(predicted.shape, self.probability[0], np.float32)
        return float(threshold), refitted(first, predicted, runner_up, self.directions)

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        table = {"ranking": list(self.ranking), "probability": list(self.probability), "cases": self.cases}
        return {**table, "directions": [asdict(direction) for direction in self.directions]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ErrorProbability":
        """From the calibration block of a bundle; one without directions is a plain table."""
        return typed(cls, data)


def fit_error_probability(rankings: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> ErrorProbability:
    """Isotonic (monotone least-squares) regression of error on ranking map, over all voxels of all cases.

    Args:
        rankings: ranking map of each calibration case, any shape.
        errors: whether the segmentation is wrong, boolean, of the same shapes.

    Raises:
        InputError: there is nothing to fit: no errors, or nothing but errors, or one ranking value only.

    Source: Barlow et al., Statistical Inference under Order Restrictions (1972); pool-adjacent-violators by SciPy.
    """
    x, counts, fitted = _isotonic(rankings, errors)
    knots_x, knots_y = _thinned(x, fitted, counts)
    return ErrorProbability(tuple(knots_x.tolist()), tuple(knots_y.tolist()), len(rankings))


def fit_increasing(scores: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Isotonic regression of error on log-odds, without its steps: no two scores become one.

    The middles of the steps are joined by straight lines in log-odds, which go on with slope 1 beyond the first and
    the last step that hold both right and wrong voxels.

    Returns:
        Knots and their values, log-odds, both strictly increasing.

    Raises:
        InputError: as `fit_error_probability`.
    """
    x, counts, fitted = _isotonic(scores, errors)
    starts = np.flatnonzero(np.r_[True, np.diff(fitted) > 0])
    middles = np.add.reduceat(x * counts, starts) / np.add.reduceat(counts, starts)
    inner = (fitted[starts] > 0) & (fitted[starts] < 1)
    knots, values = middles[inner], _logit(fitted[starts][inner])
    knots, values = (knots, values) if inner.any() else (np.zeros(1), np.zeros(1))  # nothing was told wrongly
    return np.r_[knots[0] - FAR, knots, knots[-1] + FAR], np.r_[values[0] - FAR, values, values[-1] + FAR]


FAR = 30.0
"""Log-odds beyond all others."""


def _isotonic(scores: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct scores of all cases, how often each occurs, and the isotonic regression of error on them."""
    from scipy.optimize import isotonic_regression

    values = np.concatenate([np.ravel(score) for score in scores]).astype(np.float64)
    wrong = np.concatenate([np.ravel(error) for error in errors]).astype(np.float64)
    if not 0 < wrong.sum() < wrong.size or values.min() == values.max():
        found = f"{int(wrong.sum())} wrong voxels of {wrong.size}"
        raise InputError(f"The calibration cases hold {found}: give cases with some errors.", "nothing-to-fit")
    x, group, voxels = np.unique(values, return_inverse=True, return_counts=True)
    counts = voxels.astype(np.float64)
    return x, counts, isotonic_regression(np.bincount(group, wrong) / counts, weights=counts).x


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


QUANTILES = 101


def fit_percentiles(values: Sequence[np.ndarray], uncertain: Sequence[np.ndarray]) -> list[float] | None:
    """Compute the percentiles 0 to 100 of a part over the uncertain voxels of all cases; None if there are none.

    Args:
        values: model or data part of each case, any shape.
        uncertain: boolean of the same shapes.
    """
    chosen = np.concatenate([part[where] for part, where in zip(values, uncertain, strict=True)])
    if not chosen.size:
        return None
    return [float(value) for value in np.quantile(chosen.astype(np.float64), np.linspace(0, 1, QUANTILES))]


def percentiles_of(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Return the percentile of each value, uint8 from 0 to 100."""
    return np.clip(np.searchsorted(np.asarray(quantiles), values, side="right") - 1, 0, 100).astype(np.uint8)


def _logit(probability: np.ndarray) -> np.ndarray:
    from scipy.special import logit

    return logit(np.clip(np.asarray(probability, np.float64), _FLOOR, 1 - _FLOOR))


def _fit(scores: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the largest posterior probability, on scores binned to 0.07."""
    edges = np.linspace(_logit(np.array(0.0)), _logit(np.array(1.0)), _BINS + 1)
    bins = np.clip(np.digitize(scores, edges) - 1, 0, _BINS - 1)
    counts, errors = np.bincount(bins, minlength=_BINS), np.bincount(bins, wrong, _BINS)
    centres = np.bincount(bins, scores, _BINS) / np.maximum(counts, 1)
    return fit_line(centres, counts, errors, _PRIOR_WIDTH)


def fit_line(
    scores: np.ndarray, counts: np.ndarray, errors: np.ndarray, prior_width: float = np.inf
) -> tuple[float, float]:
    """Fit slope and offset of a logistic regression of error on a score, from counts in bins of the score.

    Args:
        scores: of the bins.
        counts, errors: voxels and wrong voxels in each.
        prior_width: standard deviation of the Gaussian prior around 1 and 0; infinite for none.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    voxels = max(float(counts.sum()), 1.0)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        slope, offset = values
        line = slope * scores + offset
        excess = counts * expit(line) - errors
        gradient = np.array([excess @ scores, excess.sum()]) + (values - (1.0, 0.0)) / prior_width**2
        prior = ((slope - 1) ** 2 + offset**2) / (2 * prior_width**2)
        total = float(counts @ np.logaddexp(0, line) - errors @ line + prior)
        return (total, gradient) if np.isfinite(prior_width) else (total / voxels, gradient / voxels)

    bounds = [(0.05, 5), (-5, 5)]
    tight = {} if np.isfinite(prior_width) else {"ftol": 1e-12, "gtol": 1e-8}
    slope, offset = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, options=tight).x
    return float(slope), float(offset)


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


SEARCH_RANGE = (-3.0, 3.0)
"""Logarithm of the temperature: 0.05 to 20."""
MOST_VOXELS = 2_000_000
"""One number needs no more; drawn at random from all. The shipped model's 27 calibration cases have fewer."""


def fit_temperature(logits: Iterable[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """Fit the temperature that minimises the NLL of the voxels of the calibration cases, `MOST_VOXELS` at most.

    Args:
        logits: (classes, *any) of each case, looked at one after the other.
        truths: class of each voxel.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    truth = np.concatenate([np.ravel(t) for t in truths]).astype(np.int64)
    drawn, begin, flat = np.arange(truth.size), 0, np.empty((0, 0))
    if truth.size > MOST_VOXELS:
        drawn = np.random.default_rng(0).choice(truth.size, MOST_VOXELS, replace=False)
    order = np.argsort(drawn)
    truth, ordered = truth[drawn], drawn[order]
    for z, end in zip(logits, np.cumsum([np.size(t) for t in truths]), strict=True):  # one case's at a time in memory
        flat = flat if flat.size else np.empty((len(z), drawn.size))
        own = slice(*np.searchsorted(ordered, (begin, end)))
        flat[:, order[own]] = z.reshape(len(z), -1)[:, ordered[own] - begin]
        begin = end
    chosen = flat[truth, np.arange(truth.size)]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(flat * scale, axis=0) - chosen * scale).mean())

    found = minimize_scalar(loss, bounds=SEARCH_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
