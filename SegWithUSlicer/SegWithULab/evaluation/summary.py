"""An evaluation summed up: what `segwithu evaluate` prints, writes, and records in a bundle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from SegWithUCore.calibration.per_structure import PredictedDice
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import mean_interval, metric_interval, paired_bootstrap
from SegWithUCore.metrics.case_level import (
    case_augrc,
    case_aurc,
    case_excess_aurc,
    interval_metrics,
    mean_absolute_error,
    spearman,
)
from SegWithUCore.models.bundle import Bundle

from .case_metrics import POOLED_REGIONS
from .evaluate import CaseEvaluation, Evaluation
from .like_training import input_check

RECORDED = ("cases", "table", "comparisons", "by_case")
"""What a bundle keeps; the rest is for reports."""
PAIRS = {
    "nll tempered - temperature scaling": ("nll tempered", "nll temperature scaling"),
    "nll tempered by the map alone - temperature scaling": (
        "nll tempered by the map alone",
        "nll temperature scaling",
    ),
    "brier of error probability, ranking - softmax": ("error probability brier", "error probability brier softmax"),
    "auprc whole, error probability - softmax by direction": (
        "auprc whole error probability",
        "auprc whole softmax by direction",
    ),
    "aurc whole, error probability - softmax by direction": (
        "aurc whole error probability",
        "aurc whole softmax by direction",
    ),
}


def summary(evaluation: Evaluation, bundle: Bundle) -> dict[str, Any]:
    """Means and spread over cases, pooled metrics and comparisons, for JSON.

    Returns:
        `cases`, `table` (title, mean, p10, p90, cases that have it, low and high of the mean's bootstrap interval),
        `comparisons` and `by_case`; and beyond what a bundle records, `patients`, `band`, `regions`, `detection`,
        `confidences`, `structures`, `reliability`, `input_check` and `details_by_case`.
    """
    cases = evaluation.cases
    groups = [case.group for case in cases]
    titles = list(dict.fromkeys(title for case in cases for title in case.metrics))
    return {
        "cases": len(cases),
        "table": [{"title": title, **spread([c.metrics[title] for c in cases], groups)} for title in titles],
        "comparisons": _comparisons(evaluation),
        "by_case": {case.name: {title: finite(value) for title, value in case.metrics.items()} for case in cases},
        "patients": len(set(groups)),
        "band": str(evaluation.settings.band),
        "surface_tolerance_mm": None if evaluation.settings.band.in_slices else evaluation.settings.tolerance_mm,
        "regions": region_table(evaluation),
        "detection": detection_table(cases),
        "confidences": confidence_table(cases),
        "structures": structure_table(cases, bundle),
        "reliability": {
            region: [asdict(bar) for bar in counted.diagram()]
            for region, counted in evaluation.pools.reliability.items()
        },
        "input_check": input_check({case.name: case.unlike_training for case in cases}, bundle),
        "details_by_case": {case.name: _details(case) for case in cases},
    }


def recorded(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part that a bundle keeps."""
    return {key: result[key] for key in RECORDED}


DRAWS = 1000
"""Of the bootstrap over patients."""
CONFIDENCE_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "aurc": case_aurc,
    "e-aurc": case_excess_aurc,
    "augrc": case_augrc,
    "spearman": lambda confidence, risk: spearman(confidence, 1 - risk),
}


def confidence_table(cases: Sequence[CaseEvaluation]) -> list[dict[str, Any]]:
    """Make a row for each confidence: AURC, e-AURC, AUGRC with 1 - mean Dice as risk, Spearman with mean Dice.

    Also "true order", the best there is, and "any order", which tells nothing.
    """
    risk = np.asarray([case.risk for case in cases])
    groups = [case.group for case in cases]
    rows = []
    for name in cases[0].confidences:
        confidence = np.asarray([case.confidences[name] for case in cases])
        row: dict[str, Any] = {"confidence": name, "cases": int(np.isfinite(confidence + risk).sum())}
        for title, metric in CONFIDENCE_METRICS.items():
            row[title] = _with_interval(metric, confidence, risk, groups)
        rows.append(row)
    for name, confidence in (("true order", -risk), ("any order", np.zeros(risk.size))):
        found = {title: {"value": finite(metric(confidence, risk))} for title, metric in CONFIDENCE_METRICS.items()}
        rows.append({"confidence": name, "cases": int(np.isfinite(risk).sum()), **found})
    return rows


def structure_table(cases: Sequence[CaseEvaluation], bundle: Bundle) -> list[dict[str, Any]]:
    """Make a row for each structure: predicted Dice against the constant mean, coverage and width of intervals."""
    fitted = CaseLevelCalibration.from_json(bundle.calibration)
    rows = []
    for index, label in enumerate(bundle.labels[1:]):
        numbers = [case.structures[index] for case in cases]
        line, interval = fitted.dice.get(label.value), fitted.intervals.get(label.value)
        row: dict[str, Any] = {"structure": label.name}
        if line is not None:
            true = np.asarray([entry.dice for entry in numbers])
            predicted = np.asarray([entry.predicted_dice for entry in numbers])
            row["predicted_dice"] = _predicted_dice_row(line, predicted, true, [case.group for case in cases])
        if interval is not None:
            held = interval_metrics(
                [entry.low_mm3 for entry in numbers],
                [entry.high_mm3 for entry in numbers],
                [entry.true_mm3 for entry in numbers],
            )
            metrics = {key: finite(value) for key, value in asdict(held).items()}
            row["volume_interval"] = {**metrics, "level": interval.level}
        rows.append(row)
    return rows


def spread(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """Mean with its bootstrap interval, 10 and 90 % of the cases, and how many have a value."""
    known = np.asarray([value for value in values if np.isfinite(value)])
    if not known.size:
        return {"mean": None, "cases": 0}
    interval = mean_interval(values, groups=groups)
    p10, p90 = np.percentile(known, [10, 90])
    return {
        "mean": float(known.mean()),
        "p10": float(p10),
        "p90": float(p90),
        "cases": int(known.size),
        "low": interval.low,
        "high": interval.high,
    }


def detection_table(cases: Sequence[CaseEvaluation]) -> list[dict[str, Any]]:
    """Make a row for each metric, region and score: `figure` (metric), `region`, `score`, mean with its interval."""
    groups = [case.group for case in cases]
    rows = []
    for key in cases[0].detection:
        row: dict[str, Any] = dict(zip(("figure", "region", "score"), key, strict=True))
        rows.append(row | spread([case.detection[key] for case in cases], groups))
    return rows


def region_table(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Make a row for each region: voxels, wrong ones, and the cases in which it holds no error or no voxel."""
    return [_region_row(name, evaluation.cases) for name in evaluation.cases[0].voxels]


def finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if np.isfinite(value) else None


def _details(case: CaseEvaluation) -> dict[str, Any]:
    return {
        "patient": case.group,
        "mean_dice": finite(1 - case.risk),
        "confidences": {name: finite(value) for name, value in case.confidences.items()},
        "structures": [
            {key: value if isinstance(value, str) else finite(value) for key, value in asdict(entry).items()}
            for entry in case.structures
        ],
        "detection": {" ".join(key): finite(value) for key, value in case.detection.items()},
    }


def _comparisons(evaluation: Evaluation) -> dict[str, Any]:
    """Ratios and paired differences; those that do not exist, as where nothing is wrong, are left out."""
    cases = evaluation.cases
    rows, groups = [case.metrics for case in cases], [case.group for case in cases]
    found: dict[str, Any] = {
        "aurc whole, ranking / distance": _ratio(rows, "aurc whole ranking", "aurc whole distance"),
        "aurc whole, ranking / softmax": _ratio(rows, "aurc whole ranking", "aurc whole softmax"),
    }
    if "band" in evaluation.pools.reliability:
        for title, (first, second) in PAIRS.items():
            values = [row[first] for row in rows], [row[second] for row in rows]
            difference = paired_bootstrap(values[0], values[1], groups=groups)
            found[title] = asdict(difference) if np.isfinite(difference.mean) else None
        pooled = evaluation.pools.reliability["band"].expected_calibration_error()
        found["error probability ece band, pooled"] = finite(pooled)
        found["wrong voxels, expected / true"] = _ratio(rows, "wrong voxels expected", "wrong voxels")
    return {title: value for title, value in found.items() if value is not None}


def _ratio(rows: Sequence[Mapping[str, float]], first: str, second: str) -> float | None:
    """Ratio of the means over cases, None if there is none."""
    means = [np.asarray([row[title] for row in rows]) for title in (first, second)]
    above, below = (float(values[np.isfinite(values)].sum()) for values in means)
    return above / below if below else None


def _with_interval(
    metric: Callable[[np.ndarray, np.ndarray], float], first: np.ndarray, second: np.ndarray, groups: Sequence[str]
) -> dict[str, float | None]:
    found = metric_interval(lambda chosen: metric(first[chosen], second[chosen]), groups, DRAWS)
    return {"value": finite(found.mean), "low": finite(found.low), "high": finite(found.high)}


def _predicted_dice_row(
    line: PredictedDice, predicted: np.ndarray, true: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    constant = np.where(np.isfinite(predicted), line.mean, np.nan)
    return {
        "informative": line.informative,
        "mean_absolute_error": _with_interval(mean_absolute_error, predicted, true, groups),
        "mean_absolute_error_of_mean": _with_interval(mean_absolute_error, constant, true, groups),
        "spearman": _with_interval(spearman, predicted, true, groups),
    }


def _region_row(name: str, cases: Sequence[CaseEvaluation]) -> dict[str, Any]:
    voxels, errors = (np.asarray([getattr(case, what)[name] for case in cases]) for what in ("voxels", "errors"))
    rates = np.divide(errors, voxels, out=np.full(len(cases), np.nan), where=voxels > 0)
    return {
        "region": name,
        "pooled_only_per_case": name not in POOLED_REGIONS,
        "voxels": int(voxels.sum()),
        "errors": int(errors.sum()),
        "cases_without_errors": int(np.count_nonzero(errors == 0)),
        "cases_without_voxels": int(np.count_nonzero(voxels == 0)),
        "error_rate": spread(rates.tolist(), [case.group for case in cases]),
    }
