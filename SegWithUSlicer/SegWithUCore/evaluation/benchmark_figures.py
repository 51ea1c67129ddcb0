"""Figures of one rival's answer on one case."""

from collections.abc import Mapping

import numpy as np

from ..benchmark.baselines.base import Answer, unsure_of
from ..calibration.error_probability import ErrorProbability
from ..metrics.calibration import (
    brier_score,
    expected_calibration_error,
    mean_class_calibration_error,
    multiclass_brier_score,
    negative_log_likelihood,
)
from ..metrics.score_figures import score_figures
from .frozen_backbone import FrozenCase

Regions = Mapping[str, np.ndarray | None]
REFITTED = "refitted "
"""Begins the titles of figures of a score that was made an error probability on the calibration cases."""


def answer_figures(answer: Answer, case: FrozenCase, regions: Regions) -> dict[str, float]:
    """Error detection by region ("auroc band"), and NLL, Brier score, ACE and ECE of the rival's own probabilities.

    NLL, Brier and ACE compare class probabilities with the true classes; ECE compares 1 - the probability of the frozen
    class with its errors, in the whole image and in the band.

    Raises:
        ValueError: a score that is not a finite number.
    """
    if not np.isfinite(answer.score).all():
        raise ValueError("a score is not finite")
    figures = score_figures(answer.score, case.error, regions)
    if answer.probabilities is not None:
        p = answer.probabilities
        chance = unsure_of(case.classes, p)
        figures |= {
            "nll": negative_log_likelihood(p, case.truth),
            "brier": multiclass_brier_score(p, case.truth),
            "ace": mean_class_calibration_error(p, case.truth),
            "ece whole": expected_calibration_error(chance, case.error),
            "ece band": _within(chance, case.error, regions["band"]),
        }
    return figures


def refitted_figures(answer: Answer, table: ErrorProbability, case: FrozenCase, regions: Regions) -> dict[str, float]:
    """The same of the score made an error probability, as ours is: isotonic, then by direction.

    Brier score and ECE are of the event that the frozen class is wrong.
    """
    chance = table(answer.score, case.classes, case.runner_up)
    chosen = {name: regions[name] for name in ("whole", "band")}
    figures = score_figures(chance, case.error, chosen)
    figures["brier"] = brier_score(chance, case.error)
    figures["ece band"] = _within(chance, case.error, regions["band"])
    return {f"{REFITTED}{title}": value for title, value in figures.items()}


def region_counts(case: FrozenCase, regions: Regions) -> dict[str, dict[str, int]]:
    """Voxels and errors by region."""
    masks = {name: np.ones(case.truth.shape, bool) if mask is None else mask for name, mask in regions.items()}
    return {
        name: {"voxels": int(np.count_nonzero(mask)), "errors": int(np.count_nonzero(case.error & mask))}
        for name, mask in masks.items()
    }


def _within(probability: np.ndarray, event: np.ndarray, mask: np.ndarray | None) -> float:
    assert mask is not None
    return expected_calibration_error(probability[mask], event[mask])
