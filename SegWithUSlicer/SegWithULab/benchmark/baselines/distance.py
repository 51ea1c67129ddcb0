"""Distance to the predicted boundary, alone and weighed together with the softmax by a logistic regression."""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from SegWithUCore.metrics.overlap import Band
from SegWithUCore.util.progress import Progress, silent

from ...evaluation.frozen_backbone import FrozenCase
from .base import Baseline, BaselineInputs, FittingCases, UncertaintyPrediction, baseline, entropy, in_parts

NO_BOUNDARY = 1e4
"""Distance that stands for "no boundary anywhere"."""
SURE_LOG_ODDS = -8.0
"""Below these log-odds of an error, and away from the boundary, voxels are so many and so alike that some do."""
THINNED = 10
"""Of those, one in so many stands for all in the fit."""
FARTHEST = 20.0
"""Distance beyond which all is equally far, mm or voxels."""
PENALTY = 0.05
"""Of squared weights: keeps what few voxels say near 0."""
TERMS = 7


def distance_terms(probabilities: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Compute the terms of the regression, all of order 1, float64 (`TERMS`, *any).

    Args:
        probabilities: of the softmax, (classes, *any).
        distance: to the predicted boundary.
    """
    unsure = np.clip(1 - probabilities.max(0), 1e-9, 1 - 1e-9)
    odds = np.log(unsure / (1 - unsure)) / 4
    away = np.minimum(distance, FARTHEST) / 4
    terms = [np.ones(odds.shape), odds, odds**2 / 4, entropy(probabilities), away, away**2 / 4, odds * away / 4]
    return np.stack(terms)


def logistic_weights(terms: np.ndarray, wrong: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Fit a logistic regression with a small penalty on the weights.

    Args:
        terms: (voxels, `TERMS`).
        wrong: whether each is.
        counts: how many voxels each stands for.
    """

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        line = terms @ weights
        value = counts @ (np.logaddexp(0, line) - line * wrong) + PENALTY * (weights @ weights)
        return float(value), terms.T @ (counts * (expit(line) - wrong)) + 2 * PENALTY * weights

    found: np.ndarray = minimize(loss, np.zeros(terms.shape[1]), jac=True, method="L-BFGS-B").x
    return found


def class_pairs(classes: np.ndarray, runner_up: np.ndarray) -> np.ndarray:
    """Give each pair of predicted and second class a number, int64."""
    return classes.astype(np.int64) * 256 + runner_up


class Distance(Baseline):
    """Distance to the predicted boundary: knows geometry and nothing else."""

    name = "distance"
    rows = ("distance to boundary",)

    @property
    def how(self) -> str:
        """What it is."""
        return "minus the distance to the nearest boundary voxel of the frozen segmentation; no probabilities"

    def __init__(self, band: Band) -> None:
        self.band = band

    def settings(self) -> dict[str, bool]:
        """Whether it is counted in mm or in voxels of a slice."""
        return {"in_slices": self.band.in_slices}

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        distance = np.minimum(self.band.distance(case.classes, case.spacing_zyx), NO_BOUNDARY)
        return {self.rows[0]: UncertaintyPrediction((-distance).astype(np.float32))}


class SoftmaxDistance(Distance):
    """Logistic regression of softmax and distance, one for each pair of predicted and second class.

    It sees neither image nor features; whatever claims to see more has to be ahead of it.
    """

    name = "softmax-distance"
    needs = ("calibration",)
    learns_from_folds = True
    rows = ("softmax with distance",)

    def __init__(self, band: Band) -> None:
        super().__init__(band)
        self.weights: dict[int, np.ndarray] = {}

    @property
    def how(self) -> str:
        """What it is."""
        return (
            "logistic regression of softmax and distance for each pair of predicted and second class, fitted on the "
            "calibration cases (and those of --folds, if given)"
        )

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Fit on the calibration cases, and on those of folds."""
        known = cases.to_learn_from
        report = in_parts(progress, "fitting softmax with distance", [case for _, case in known])
        parts = []
        for number, (backbone, case) in enumerate(known):
            report(number)
            parts.append(self._rows(backbone.segmented(case)))
        terms, wrong, pairs, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
        for pair in np.unique(pairs).tolist():
            here = pairs == pair
            self.weights[pair] = logistic_weights(terms[here], wrong[here], counts[here])

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights by pair."""
        return {"pairs": np.asarray(list(self.weights)), "weights": np.stack(list(self.weights.values()))}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over weights."""
        self.weights = dict(zip(state["pairs"].tolist(), state["weights"], strict=True))

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row; a pair that no case of the fit had is judged by the softmax alone."""
        terms = distance_terms(case.probabilities, self.band.distance(case.classes, case.spacing_zyx))
        pairs = class_pairs(case.classes, case.runner_up)
        score = (1 - case.probabilities.max(0)).astype(np.float32)
        for pair, weights in self.weights.items():
            here = pairs == pair
            score[here] = expit(weights @ terms[:, here])
        return {self.rows[0]: UncertaintyPrediction(score)}

    def _rows(self, case: FrozenCase) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return terms, errors, pairs and counts of the voxels of a case that the fit sees."""
        far = self.band.distance(case.classes, case.spacing_zyx)
        terms, distance = distance_terms(case.probabilities, far).reshape(TERMS, -1), far.reshape(-1)
        is_sure = (terms[1] < SURE_LOG_ODDS / 4) & (distance > self.band.width)
        kept = np.flatnonzero(~is_sure | (np.arange(is_sure.size) % THINNED == 0))
        pairs = class_pairs(case.classes, case.runner_up).reshape(-1)[kept]
        counts = np.where(is_sure[kept], THINNED, 1)
        return terms[:, kept].T, case.error.reshape(-1)[kept], pairs, counts


@baseline("distance", title="distance to boundary")
def _distance(inputs: BaselineInputs) -> list[Baseline]:
    return [Distance(inputs.band)]


@baseline("softmax-distance", title="softmax with distance")
def _softmax_distance(inputs: BaselineInputs) -> list[Baseline]:
    return [SoftmaxDistance(inputs.band)]
