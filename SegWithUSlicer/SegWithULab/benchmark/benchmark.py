"""All baselines on one frozen segmentation: fit what is to be fitted, measure every case, go on where a run stopped."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from SegWithUCore.util.run_lock import run_lock

from ..evaluation.case_metrics import scored_regions
from ..evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from ..evaluation.summary import finite
from ..training.dataset import Case
from .baselines import BaselineSet
from .baselines.base import Baseline, FittingCases, UncertaintyPrediction, unsure_of
from .cost import REPEATS, measured_costs
from .store import Store, names_sha256
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

    def run(self, path: Path, resume: bool, repeats: int = REPEATS, progress: Progress = silent) -> dict[str, Any]:
        """Do what is not done yet, and sum it up.

        Raises:
            OutputError, UsageError: see `Store`; another process works in the folder.
            InputError: a case cannot be used, or a model segments otherwise than the frozen backbone.
        """
        with run_lock(path):
            store, baselines = Store(path, self._settings(), resume), self.chosen.baselines
            for each in baselines:
                store.begin(each.name, self._identity(each))
            for number, baseline in enumerate(baselines):
                start, end = PREPARED * number / len(baselines), PREPARED * (number + 1) / len(baselines)
                self._prepare(baseline, store, part_of(progress, start, end))
            self._measure(store, progress)
            costs = store.read("cost.json")
            if costs is None or any(each.name not in costs for each in baselines):
                # All of them again: times of different runs do not compare.
                part = part_of(progress, MEASURED, 1.0)
                costs = measured_costs(self.backbone, baselines, self.cases, repeats, part)
                store.write(costs, "cost.json")
            progress("done", 1.0)
            rows = []
            for baseline in baselines:
                found = [store.read("baselines", baseline.name, "cases", f"{case.name}.json") for case in self.cases]
                rows += [(row, baseline, [_numbers(its[row]) for its in found]) for row in baseline.rows]
            facts = [store.read("cases", f"{case.name}.json") for case in self.cases]
            about: dict[str, Any] = {"model": f"{self.backbone.bundle.name} {self.backbone.bundle.about['version']}"}
            about |= {"backbone_sha256": self.backbone.sha256, "band": str(self.band)}
            return about | benchmark_summary(self.chosen, self.fitting, self.cases, rows, facts, costs)

    def _settings(self) -> dict[str, Any]:
        """Return what must not change in a run that goes on."""
        folds = sorted(f"{fold.backbone.sha256} {names_sha256(fold.cases)}" for fold in self.fitting.folds)
        return {
            "backbone": self.backbone.sha256,
            "input": self.backbone.bundle.input.to_json(),
            "band": str(self.band),
            "test_cases": names_sha256(self.cases),
            "calibration_cases": names_sha256(self.fitting.calibration),
            "fold_cases": hashlib.sha256("\n".join(folds).encode()).hexdigest() if folds else None,
        }

    def _identity(self, baseline: Baseline) -> dict[str, Any]:
        """Return all that decides what a baseline answers; metrics of another identity are not its own."""
        return {"revision": baseline.revision, "settings": baseline.settings(), "rows": list(baseline.rows)}

    def _prepare(self, baseline: Baseline, store: Store, progress: Progress) -> None:
        """Fit a baseline, and make its scores error probabilities on the calibration cases, as ours are made."""
        folder, cases = ("baselines", baseline.name), self.fitting.calibration
        fitted = store.read(*folder, "fitted.npz")
        if fitted is None:
            baseline.fit(self.fitting, part_of(progress, 0.0, 0.5))
            store.write(baseline.state(), *folder, "fitted.npz")
        else:
            baseline.load_state(fitted)
        if store.read(*folder, "refits.json") is not None:
            return
        scores, frozen = [], []
        for number, case in enumerate(cases):
            progress("scoring the calibration cases", 0.5 + 0.5 * number / len(cases), f"{case.name}, {baseline.name}")
            seen = self.backbone.segmented(case)
            scores.append([answer.score for answer in _in_order(baseline, seen)])
            frozen.append((seen.error, seen.classes, seen.runner_up))
        tables = {
            row: fit_with_directions(its, *zip(*frozen, strict=True))
            if baseline.is_refitted(row, self.fitting)
            else AS_IT_IS
            for row, its in zip(baseline.rows, zip(*scores, strict=True), strict=True)
        }
        store.write({row: table.to_json() for row, table in tables.items()}, *folder, "refits.json")

    def _measure(self, store: Store, progress: Progress) -> None:
        labels = self.backbone.bundle.labels
        for number, case in enumerate(self.cases):
            share, file = PREPARED + (MEASURED - PREPARED) * number / len(self.cases), f"{case.name}.json"
            missing = [
                each for each in self.chosen.baselines if store.read("baselines", each.name, "cases", file) is None
            ]
            if not missing and store.read("cases", file) is not None:
                continue
            seen = self.backbone.segmented(case)
            near = self.band.distance(seen.classes, seen.spacing_zyx) <= self.band.width
            regions = scored_regions(seen.classes, seen.truth, near, labels)
            for baseline in missing:
                progress("measuring", share, f"{case.name}, {baseline.name}")
                tables, found = store.read("baselines", baseline.name, "refits.json"), {}
                for row, answer in zip(baseline.rows, _in_order(baseline, seen), strict=True):
                    metrics = prediction_metrics(answer, seen, regions)
                    metrics |= refitted_metrics(answer, ErrorProbability.from_json(tables[row]), seen, regions)
                    found[row] = {title: finite(value) for title, value in metrics.items()}
                store.write(found, "baselines", baseline.name, "cases", file)
            masks = {name: np.ones(seen.truth.shape, bool) if mask is None else mask for name, mask in regions.items()}
            counts = {
                name: {"voxels": int(np.count_nonzero(mask)), "errors": int(np.count_nonzero(seen.error & mask))}
                for name, mask in masks.items()
            }
            dice = class_dice(seen.classes, seen.truth, len(labels))
            named = {label.name: finite(value) for label, value in zip(labels[1:], dice, strict=True)}
            store.write({"regions": counts, "dice": named}, "cases", file)


def _in_order(baseline: Baseline, seen: FrozenCase) -> list[UncertaintyPrediction]:
    answers = baseline.answers(seen)
    return [answers[row] for row in baseline.rows]


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {title: float("nan") if value is None else value for title, value in metrics.items()}


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
