"""All baselines on one frozen segmentation: fit what is to be fitted, then measure every case."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_with_directions
from SegWithUCore.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    mean_class_calibration_error,
    multiclass_brier_score,
    negative_log_likelihood,
)
from SegWithUCore.metrics.error_detection import score_metrics
from SegWithUCore.metrics.overlap import Band, class_dice
from SegWithUCore.util.progress import Progress, part_of, silent

from ..evaluation.case_metrics import scored_regions
from ..evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from ..training.dataset import Case
from .baselines import BaselineSet
from .baselines.base import Baseline, FittingCases, UncertaintyPrediction, unsure_of
from .cost import REPEATS, measured_costs
from .summary import benchmark_summary

PREPARED, MEASURED = 0.45, 0.9
"""Share of the whole job after which each part is done, for the progress."""
AS_IT_IS = ErrorProbability((0.0, 1.0), (0.0, 1.0), 0)
"""Of a score that is an error probability already."""
REFITTED = "refitted "
"""Begins the titles of metrics of a score that was made an error probability on the calibration cases."""
Regions = Mapping[str, np.ndarray | None]


class Benchmark:
    """One table in the making.

    Args:
        chosen: the baselines that are compared.
        cases: test cases.
        fitting: frozen backbone, and the cases of the other roles.
        band: around the predicted surface.
    """

    def __init__(self, chosen: BaselineSet, cases: Sequence[Case], fitting: FittingCases, band: Band) -> None:
        self.chosen, self.cases, self.fitting, self.band = chosen, cases, fitting, band
        self.backbone: FrozenBackbone = fitting.backbone

    def run(self, repeats: int = REPEATS, progress: Progress = silent) -> dict[str, Any]:
        """Fit every baseline, measure every case, and sum it up.

        Raises:
            InputError: a case cannot be used, or a model segments otherwise than the frozen backbone.
        """
        baselines, tables = self.chosen.baselines, dict[str, ErrorProbability]()
        for number, baseline in enumerate(baselines):
            start, end = PREPARED * number / len(baselines), PREPARED * (number + 1) / len(baselines)
            tables |= self._fit(baseline, part_of(progress, start, end))
        facts, by_row = [], dict[str, list[dict[str, float]]]()
        for number, case in enumerate(self.cases):
            seen = self.backbone.segmented(case)
            near = self.band.distance(seen.classes, seen.spacing_zyx) <= self.band.width
            regions = scored_regions(seen.classes, seen.truth, near, self.backbone.bundle.labels)
            facts.append(self._facts(seen, regions))
            for baseline in baselines:
                share = PREPARED + (MEASURED - PREPARED) * number / len(self.cases)
                progress("measuring", share, f"{case.name}, {baseline.name}")
                for row, answer in baseline.answers(seen).items():
                    metrics = prediction_metrics(answer, seen, regions)
                    metrics |= refitted_metrics(answer, tables[row], seen, regions)
                    by_row.setdefault(row, []).append(metrics)
        costs = measured_costs(self.backbone, baselines, self.cases, repeats, part_of(progress, MEASURED, 1.0))
        progress("done", 1.0)
        rows = [(row, baseline, by_row[row]) for baseline in baselines for row in baseline.rows]
        about = {"model": f"{self.backbone.bundle.name} {self.backbone.bundle.about['version']}"}
        about |= {"backbone_sha256": self.backbone.sha256, "band": str(self.band)}
        return about | benchmark_summary(self.chosen, self.fitting, self.cases, rows, facts, costs)

    def _fit(self, baseline: Baseline, progress: Progress) -> dict[str, ErrorProbability]:
        """Fit a baseline, and make each score an error probability on the calibration cases, as ours is made."""
        cases = self.fitting.calibration
        baseline.fit(self.fitting, part_of(progress, 0.0, 0.5))
        scores, frozen = [], []
        for number, case in enumerate(cases):
            progress("scoring the calibration cases", 0.5 + 0.5 * number / len(cases), f"{case.name}, {baseline.name}")
            seen = self.backbone.segmented(case)
            answers = baseline.answers(seen)
            scores.append([answers[row].score for row in baseline.rows])
            frozen.append((seen.error, seen.classes, seen.runner_up))
        return {
            row: fit_with_directions(its, *zip(*frozen, strict=True))
            if baseline.is_refitted(row, self.fitting)
            else AS_IT_IS
            for row, its in zip(baseline.rows, zip(*scores, strict=True), strict=True)
        }

    def _facts(self, seen: FrozenCase, regions: Regions) -> dict[str, Any]:
        """Count voxels and errors by region, and compute the Dice of each structure."""
        labels = self.backbone.bundle.labels
        masks = {name: np.ones(seen.truth.shape, bool) if mask is None else mask for name, mask in regions.items()}
        counts = {
            name: {"voxels": int(np.count_nonzero(mask)), "errors": int(np.count_nonzero(seen.error & mask))}
            for name, mask in masks.items()
        }
        dice = class_dice(seen.classes, seen.truth, len(labels))
        return {"regions": counts, "dice": {label.name: each for label, each in zip(labels[1:], dice, strict=True)}}


def prediction_metrics(answer: UncertaintyPrediction, case: FrozenCase, regions: Regions) -> dict[str, float]:
    """Error detection by region ("auroc band"), and NLL, Brier score, ACE and ECE of the baseline's own probabilities.

    NLL, Brier and ACE compare class probabilities with the true classes; ECE compares 1 - the probability of the frozen
    class with its errors, in the whole image and in the band.

    Raises:
        ValueError: a score that is not a finite number.
    """
    if not np.isfinite(answer.score).all():
        raise ValueError("a score is not finite")
    metrics = score_metrics(answer.score, case.error, regions)
    if answer.probabilities is not None:
        p = answer.probabilities
        chance, near = unsure_of(case.classes, p), regions["band"]
        metrics |= {
            "nll": negative_log_likelihood(p, case.truth),
            "brier": multiclass_brier_score(p, case.truth),
            "ace": mean_class_calibration_error(p, case.truth),
            "ece whole": expected_calibration_error(chance, case.error),
            "ece band": expected_calibration_error(chance[near], case.error[near]),
        }
    return metrics


def refitted_metrics(
    answer: UncertaintyPrediction, table: ErrorProbability, case: FrozenCase, regions: Regions
) -> dict[str, float]:
    """Compute the same for the score as an error probability, fitted as ours is: isotonic, then by direction.

    Brier score and ECE are of the event that the frozen class is wrong.
    """
    chance, near = table(answer.score, case.classes, case.runner_up), regions["band"]
    metrics = score_metrics(chance, case.error, {name: regions[name] for name in ("whole", "band")})
    metrics["brier"] = brier_score(chance, case.error)
    metrics["ece band"] = expected_calibration_error(chance[near], case.error[near])
    return {f"{REFITTED}{title}": value for title, value in metrics.items()}
