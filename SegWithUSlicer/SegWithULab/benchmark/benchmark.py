"""All baselines on one frozen segmentation: fit what is to be fitted, measure every case, go on where a run stopped."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

from ..evaluation.case_metrics import scored_regions
from ..evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from ..evaluation.summary import finite
from ..training.dataset import Case
from .baselines import BaselineSet
from .baselines.base import Baseline, FittingCases, UncertaintyPrediction, unsure_of
from .cost import REPEATS, measured_costs
from .store import BaselineFolder, BenchmarkFolder, names_sha256, read_json, write_json

FITTED, CALIBRATED, MEASURED = 0.25, 0.45, 0.9
"""Share of the whole job after which each part is done, for the progress."""
AS_IT_IS = ErrorProbability((0.0, 1.0), (0.0, 1.0), 0)
"""Of a score that is an error probability already."""


@dataclass(frozen=True)
class RowMetrics:
    """One row of the table before it is summed up.

    Attributes:
        row, baseline: title of the answer, and whose it is.
        by_case: metrics of each case in order, by title; NaN where there is none.
    """

    row: str
    baseline: Baseline
    by_case: list[dict[str, float]]


@dataclass(frozen=True)
class BenchmarkResult:
    """All that is known afterwards.

    Attributes:
        rows: in the order of the table.
        case_facts: of each test case: `voxels` and `errors` by region, `dice` by structure.
        costs: from `cost.measured_costs`.
        not_run: reasons by title.
        replaced: baselines whose earlier metrics were of other settings.
    """

    cases: Sequence[Case]
    rows: list[RowMetrics]
    case_facts: list[dict[str, Any]]
    costs: dict[str, dict[str, Any]]
    not_run: Mapping[str, str]
    replaced: list[str]


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

    def settings(self) -> dict[str, Any]:
        """Return what must not change in a run that goes on."""
        return {
            "backbone": self.backbone.sha256,
            "input": self.backbone.bundle.input.to_json(),
            "band": str(self.band),
            "test_cases": names_sha256(self.cases),
            "calibration_cases": names_sha256(self.fitting.calibration),
            "fold_cases": self._folds_sha256(),
        }

    def _folds_sha256(self) -> str | None:
        """Hash of the networks of folds and their cases, in whatever order they were named; None without any."""
        parts = sorted(f"{fold.backbone.sha256} {names_sha256(fold.cases)}" for fold in self.fitting.folds)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest() if parts else None

    def run(self, path: Path, resume: bool, repeats: int = REPEATS, progress: Progress = silent) -> BenchmarkResult:
        """Do what is not done yet. Every file in `path` is whole or absent, so a killed run can be resumed.

        Raises:
            OutputError, UsageError: see `BenchmarkFolder`.
            InputError: a case cannot be used, or a model segments otherwise than the frozen backbone.
        """
        folder = BenchmarkFolder(path, self.settings(), resume)
        try:
            folders = {baseline.name: folder.of(baseline, self.fitting) for baseline in self.chosen.baselines}
            count = len(self.chosen.baselines)
            for number, baseline in enumerate(self.chosen.baselines):
                part = part_of(progress, FITTED * number / count, FITTED * (number + 1) / count)
                self._fit(baseline, folders[baseline.name], part)
            self._refit(folders, progress)
            self._measure(folder, folders, progress)
            replaced = any(files.replaced for files in folders.values())
            costs = self._costs(folder, replaced, repeats, progress)
            progress("done", 1.0)
            return self._result(folder, folders, costs)
        finally:
            folder.release()

    def _fit(self, baseline: Baseline, files: BaselineFolder, progress: Progress) -> None:
        state = files.fitted()
        if state is None:
            baseline.fit(self.fitting, progress)
            files.save_fitted(baseline.state())
        else:
            baseline.load_state(state)

    def _refit(self, folders: Mapping[str, BaselineFolder], progress: Progress) -> None:
        """Make every score an error probability on the calibration cases, as ours is made."""
        cases = self.fitting.calibration
        open_ones = [baseline for baseline in self.chosen.baselines if folders[baseline.name].refits() is None]
        for number, case in enumerate(cases):
            share = FITTED + (CALIBRATED - FITTED) * number / len(cases)
            missing = [baseline for baseline in open_ones if not folders[baseline.name].has_scores(case.name)]
            if not missing:
                continue
            seen = self.backbone.segmented(case)
            for baseline in missing:
                progress("scoring the calibration cases", share, f"{case.name}, {baseline.name}")
                scores = {f"row{row}": answer.score for row, answer in enumerate(_in_order(baseline, seen))}
                frozen = {"error": seen.error, "classes": seen.classes, "runner_up": seen.runner_up}
                folders[baseline.name].save_scores(case.name, scores | frozen)
        for baseline in open_ones:
            progress("fitting error probabilities", CALIBRATED, baseline.name)
            files = folders[baseline.name]
            tables = {}
            for number, row in enumerate(baseline.rows):
                again = baseline.is_refitted(row, self.fitting)
                tables[row] = self._table(files, f"row{number}") if again else AS_IT_IS
            files.save_refits(tables)

    def _table(self, files: BaselineFolder, row: str) -> ErrorProbability:
        parts = (row, "error", "classes", "runner_up")
        return fit_with_directions(*([files.scores(c.name, part) for c in self.fitting.calibration] for part in parts))

    def _measure(self, folder: BenchmarkFolder, folders: Mapping[str, BaselineFolder], progress: Progress) -> None:
        for number, case in enumerate(self.cases):
            share = CALIBRATED + (MEASURED - CALIBRATED) * number / len(self.cases)
            missing = [
                baseline for baseline in self.chosen.baselines if folders[baseline.name].metrics(case.name) is None
            ]
            facts = folder.case_facts(case.name)
            if not missing and facts is not None:
                continue
            seen = self.backbone.segmented(case)
            near = self.band.distance(seen.classes, seen.spacing_zyx) <= self.band.width
            regions = scored_regions(seen.classes, seen.truth, near, self.backbone.bundle.labels)
            for baseline in missing:
                progress("measuring", share, f"{case.name}, {baseline.name}")
                metrics = self._metrics(baseline, folders[baseline.name], seen, regions)
                folders[baseline.name].save_metrics(case.name, metrics)
            if facts is None:
                folder.save_case_facts(case.name, self._facts(seen, regions))

    def _metrics(
        self, baseline: Baseline, files: BaselineFolder, seen: FrozenCase, regions: Mapping[str, np.ndarray | None]
    ) -> dict[str, dict[str, float | None]]:
        tables = files.refits() or {}
        found = {}
        for row, answer in zip(baseline.rows, _in_order(baseline, seen), strict=True):
            metrics = prediction_metrics(answer, seen, regions)
            metrics |= refitted_metrics(answer, tables[row], seen, regions)
            found[row] = {title: finite(value) for title, value in metrics.items()}
        return found

    def _facts(self, seen: FrozenCase, regions: Mapping[str, np.ndarray | None]) -> dict[str, Any]:
        labels = self.backbone.bundle.labels
        dice = class_dice(seen.classes, seen.truth, len(labels))
        named = {label.name: finite(value) for label, value in zip(labels[1:], dice, strict=True)}
        return {"regions": region_counts(seen, regions), "dice": named}

    def _costs(
        self, folder: BenchmarkFolder, fresh: bool, repeats: int, progress: Progress
    ) -> dict[str, dict[str, Any]]:
        """Measure anew if a baseline is new, or `fresh`: times of different runs do not compare."""
        if folder.cost_file.is_file():
            known: dict[str, dict[str, Any]] = read_json(folder.cost_file)
            if {baseline.name for baseline in self.chosen.baselines} <= set(known) and not fresh:
                return known
        part = part_of(progress, MEASURED, 1.0)
        costs = measured_costs(self.backbone, self.chosen.baselines, self.cases, repeats, part)
        write_json(folder.cost_file, costs)
        return costs

    def _result(
        self, folder: BenchmarkFolder, folders: Mapping[str, BaselineFolder], costs: dict[str, dict[str, Any]]
    ) -> BenchmarkResult:
        rows = []
        for baseline in self.chosen.baselines:
            of_cases = [folders[baseline.name].metrics(case.name) or {} for case in self.cases]
            rows += [
                RowMetrics(row, baseline, [_numbers(metrics[row]) for metrics in of_cases]) for row in baseline.rows
            ]
        facts = [folder.case_facts(case.name) or {} for case in self.cases]
        replaced = [name for name, files in folders.items() if files.replaced]
        return BenchmarkResult(self.cases, rows, facts, costs, self.chosen.not_run, replaced)


def _in_order(baseline: Baseline, seen: FrozenCase) -> list[UncertaintyPrediction]:
    answers = baseline.answers(seen)
    return [answers[row] for row in baseline.rows]


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {title: float("nan") if value is None else value for title, value in metrics.items()}


Regions = Mapping[str, np.ndarray | None]
REFITTED = "refitted "
"""Begins the titles of metrics of a score that was made an error probability on the calibration cases."""


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
        chance = unsure_of(case.classes, p)
        metrics |= {
            "nll": negative_log_likelihood(p, case.truth),
            "brier": multiclass_brier_score(p, case.truth),
            "ace": mean_class_calibration_error(p, case.truth),
            "ece whole": expected_calibration_error(chance, case.error),
            "ece band": _within(chance, case.error, regions["band"]),
        }
    return metrics


def refitted_metrics(
    answer: UncertaintyPrediction, table: ErrorProbability, case: FrozenCase, regions: Regions
) -> dict[str, float]:
    """Compute the same for the score as an error probability, fitted as ours is: isotonic, then by direction.

    Brier score and ECE are of the event that the frozen class is wrong.
    """
    chance = table(answer.score, case.classes, case.runner_up)
    chosen = {name: regions[name] for name in ("whole", "band")}
    metrics = score_metrics(chance, case.error, chosen)
    metrics["brier"] = brier_score(chance, case.error)
    metrics["ece band"] = _within(chance, case.error, regions["band"])
    return {f"{REFITTED}{title}": value for title, value in metrics.items()}


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
