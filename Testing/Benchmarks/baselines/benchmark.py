"""All baselines on one frozen segmentation: fit what is to be fitted, then measure every case.

It is summed up, for JSON, as means over cases and paired differences to one row; time is what a baseline takes over the
bare backbone, all baselines measured in one run.
"""

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_with_directions
from SegWithUCore.metrics import calibration as measures
from SegWithUCore.metrics.bootstrap import paired_bootstrap, ratio_interval
from SegWithUCore.metrics.error_detection import metrics_of, region_groups
from SegWithUCore.metrics.overlap import Band, class_dice
from SegWithUCore.util.progress import Progress, part_of, silent
from SegWithUCore.version import __version__
from SegWithULab.evaluation.case_metrics import region_counts, scored_regions
from SegWithULab.evaluation.evaluate import finite, region_rows, spread
from SegWithULab.training.case_reading import read_assessed
from SegWithULab.training.dataset import Case

from . import BaselineSet
from .base import Baseline, FittingCases, UncertaintyPrediction, unsure_of
from .frozen_backbone import FrozenBackbone, FrozenCase
from .heads import Head

FAIR = ("auprc whole", "auprc band", "aurc whole", "aurc band", "brier", "ece band")
REFITTED = "refitted "
"""Begins the titles of metrics of a score that was made an error probability on the calibration cases."""
COMPARED = ("nll", *(f"{REFITTED}{title}" for title in FAIR))
"""Metrics that are compared with the reference row, case by case, and kept of each case."""
DETECTION = ("auroc", "aurc")
"""Metrics of the errors of each structure; kept of each case, too."""
Row = tuple[str, Baseline, Sequence[Mapping[str, float]]]
"""Title, baseline, and the metrics of each case by title; NaN for a missing metric."""


def benchmark_summary(
    chosen: BaselineSet,
    fitting: FittingCases,
    cases: Sequence[Case],
    rows: Sequence[Row],
    facts: Sequence[Mapping[str, Any]],
    costs: Mapping[str, Any],
) -> dict[str, Any]:
    """Means, intervals, costs and differences.

    Args:
        facts: of each case: `counts` of its regions, `dice` by structure.
        costs: from `cost.measured_costs`.
    """
    groups = [case.group for case in cases]
    # What a user of the first model sees, or the first of all.
    shipped = [each.rows[-1] for each in chosen.baselines if isinstance(each, Head) and each.default]
    reference = shipped[0] if shipped else rows[0][0]
    against = next(by_case for row, _, by_case in rows if row == reference)
    learning = [row for each in chosen.baselines if each.learns_from_folds for row in each.rows]
    cross_validated_cases = sum(len(fold.cases) for fold in fitting.folds)
    return {
        "cases": len(cases),
        "patients": len(set(groups)),
        "fitted_on": {"calibration": len(fitting.calibration)},
        "folds": {"networks": len(fitting.folds), "cases": cross_validated_cases, "rows": learning}
        if fitting.folds
        else None,
        "regions": region_rows([each["counts"] for each in facts], groups),
        "dice": {name: spread([each["dice"][name] for each in facts], groups) for name in facts[0]["dice"]},
        "reference": reference,
        "rows": [
            {
                "row": row,
                "baseline": baseline.name,
                "how": baseline.how,
                "passes": baseline.passes,
                "cost": costs.get(baseline.name),
                "metrics": {title: spread(_values(by_case, title), groups) for title in by_case[0]},
                "against_reference": {}
                if row == reference
                else {title: _difference(by_case, against, title, groups) for title in COMPARED if title in by_case[0]},
            }
            for row, baseline, by_case in rows
        ],
        "not_run": dict(chosen.not_run),
        "bare": costs.get(BARE),
        "made_with": {
            "segwithu": __version__,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processor": platform.processor() or platform.machine(),
            "system": platform.system(),
        },
        "by_case": {
            case.name: {
                row: {
                    title: finite(value)
                    for title, value in {**dict.fromkeys(COMPARED, np.nan), **by_case[number]}.items()
                    if title in COMPARED or title.split()[0] in DETECTION
                }
                for row, _, by_case in rows
            }
            for number, case in enumerate(cases)
        },
    }


def _values(by_case: Sequence[Mapping[str, float]], title: str) -> list[float]:
    return [metrics.get(title, float("nan")) for metrics in by_case]


def _difference(
    row: Sequence[Mapping[str, float]], against: Sequence[Mapping[str, float]], title: str, groups: Sequence[str]
) -> dict[str, Any] | None:
    """Compute the paired difference and the ratio of means minus 1; None if the reference has no such metric."""
    ours, theirs = _values(row, title), _values(against, title)
    if not np.isfinite(np.add(ours, theirs)).any():
        return None
    gap, ratio = paired_bootstrap(ours, theirs, groups=groups), ratio_interval(ours, theirs, groups)
    ends = ("mean", "low", "high")
    found: dict[str, Any] = {name: finite(getattr(gap, name)) for name in ends}
    return {**found, "relative": {name: finite(getattr(ratio, name) - 1) for name in ends}}


CASES = 3
"""Test cases that are timed; time does not depend on what is seen."""
REPEATS = 5
BARE = "bare backbone"


def measured_costs(
    backbone: FrozenBackbone,
    baselines: Sequence[Baseline],
    cases: Sequence[Case],
    repeats: int = REPEATS,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Medians over cases and repeats, in which bare backbone and baselines take turns.

    "Bare" is from images in memory to classes on their grid. It is timed right before each baseline, because earlier
    work changes the allocator's state (`docs/developer/performance.md`). A baseline on top is timed by itself; one
    that runs the backbone with something added is timed whole, and the bare time is subtracted.

    Returns:
        For `BARE` and each baseline by name `cpu_s` (added, for baselines) and `cpu_share` (of the bare time); for
        `BARE` also `repeats`.
    """
    chosen = [(case, read_assessed(case, backbone.bundle)) for case in cases[:CASES]]
    turns = [(case, read) for _ in range(repeats) for case, read in chosen]
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in (BARE, *(each.name for each in baselines))}
    for number, (case, read) in enumerate(turns):
        progress("measuring time", number / len(turns), case.name)
        for baseline in baselines:
            started = time.process_time()  # over all threads; other programs disturb it little
            seen = backbone.of_images(case.name, case.group, read.images, read.truth)
            between = time.process_time()
            baseline.answers(seen)
            bare, spent = between - started, time.process_time() - between
            pairs[BARE].append((bare, bare))
            pairs[baseline.name].append((spent - bare if baseline.own_pass else spent, bare))
    found: dict[str, dict[str, Any]] = {
        name: {
            "cpu_s": float(np.median([spent for spent, _ in its])),
            "cpu_share": float(np.median([spent / bare for spent, bare in its])),
        }
        for name, its in pairs.items()
    }
    found[BARE]["repeats"] = repeats
    return found


PREPARED, MEASURED = 0.45, 0.9
"""Share of the whole job after which each part is done, for the progress."""
AS_IT_IS = ErrorProbability((0.0, 1.0), (0.0, 1.0), 0)
"""Of a score that is an error probability already."""
Regions = Mapping[str, np.ndarray]


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
        labels = self.backbone.bundle.labels
        for number, baseline in enumerate(baselines):
            start, end = PREPARED * number / len(baselines), PREPARED * (number + 1) / len(baselines)
            tables |= self._fit(baseline, part_of(progress, start, end))
        facts, by_row = [], dict[str, list[dict[str, float]]]()
        for number, case in enumerate(self.cases):
            seen = self.backbone.segmented(case)
            near = self.band.distance(seen.classes, seen.spacing_zyx) <= self.band.width
            regions = scored_regions(seen.classes, seen.truth, near, labels)
            dice = zip(labels[1:], class_dice(seen.classes, seen.truth, len(labels)), strict=True)
            counts = region_counts(seen.error, regions)
            facts.append({"counts": counts, "dice": {label.name: value for label, value in dice}})
            for baseline in baselines:
                share = PREPARED + (MEASURED - PREPARED) * number / len(self.cases)
                progress("measuring", share, f"{case.name}, {baseline.name}")
                for row, answer in baseline.answers(seen).items():
                    metrics = prediction_metrics(answer, seen, regions)
                    metrics |= structure_metrics(answer.score, seen, [label.name for label in labels])
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
            "nll": measures.negative_log_likelihood(p, case.truth),
            "brier": measures.multiclass_brier_score(p, case.truth),
            "ace": measures.mean_class_calibration_error(p, case.truth),
            "ece whole": measures.expected_calibration_error(chance, case.error),
            "ece band": measures.expected_calibration_error(chance[near], case.error[near]),
        }
    return metrics


def structure_metrics(score: np.ndarray, case: FrozenCase, names: Sequence[str]) -> dict[str, float]:
    """Measure how a score finds the errors of each structure in the whole image ("auroc myocardium").

    An error of a structure is a wrong voxel that is predicted or true as it, so most errors are those of two.

    Args:
        score: higher = riskier, (z, y, x).
        names: of all classes, background first.
    """
    found: dict[str, float] = {}
    for value, name in enumerate(names[1:], 1):
        of_structure = case.error & ((case.classes == value) | (case.truth == value))
        metrics = score_metrics(score, of_structure, {name: None})
        found |= {f"{metric} {name}": metrics[f"{metric} {name}"] for metric in DETECTION}
    return found


def refitted_metrics(
    answer: UncertaintyPrediction, table: ErrorProbability, case: FrozenCase, regions: Regions
) -> dict[str, float]:
    """Compute the same for the score as an error probability, fitted as ours is: isotonic, then by direction.

    Brier score and ECE are of the event that the frozen class is wrong.
    """
    chance, near = table(answer.score, case.classes, case.runner_up), regions["band"]
    metrics = score_metrics(chance, case.error, {name: regions[name] for name in ("whole", "band")})
    metrics["brier"] = measures.brier_score(chance, case.error)
    metrics["ece band"] = measures.expected_calibration_error(chance[near], case.error[near])
    return {f"{REFITTED}{title}": value for title, value in metrics.items()}


def score_metrics(score: np.ndarray, error: np.ndarray, regions: Mapping[str, np.ndarray | None]) -> dict[str, float]:
    """Compute all metrics of one score on one case.

    Args:
        score: any score, higher = riskier, any shape.
        error: where the segmentation is wrong, boolean, of the same shape.
        regions: boolean masks of that shape by name, None for all voxels.

    Returns:
        Metrics by title: the name of a metric and of a region, such as "auroc band".
    """
    found = region_groups(score, error, regions)
    return {f"{title} {name}": value for name, groups in found.items() for title, value in metrics_of(groups).items()}
