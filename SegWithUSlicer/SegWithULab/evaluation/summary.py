"""An evaluation summed up: what `segwithu evaluate` prints, writes, and records in a bundle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import mean_interval, metric_interval, paired_bootstrap
from SegWithUCore.metrics.case_level import (
    interval_metrics,
    mean_absolute_error,
    spearman,
)
from SegWithUCore.models.bundle import Bundle

from .case_metrics import SURFACE_TOLERANCE_MM
from .evaluate import CaseEvaluation, Evaluation, ood_check

RECORDED = ("cases", "table", "comparisons", "by_case")
"""What a bundle keeps; the rest is for reports."""
OURS, BASELINE = "error probability", "softmax by direction"
PAIRS = {
    "nll tempered - temperature scaling": ("nll tempered", "nll temperature scaling"),
    "nll tempered by the map alone - temperature scaling": (
        "nll tempered by the map alone",
        "nll temperature scaling",
    ),
    "brier of error probability, ranking - softmax": ("error probability brier", "error probability brier softmax"),
    f"auprc whole, {OURS} - {BASELINE}": (f"auprc whole {OURS}", f"auprc whole {BASELINE}"),
    f"aurc whole, {OURS} - {BASELINE}": (f"aurc whole {OURS}", f"aurc whole {BASELINE}"),
}
DRAWS = 1000
"""Of the bootstrap over patients."""
Metric = Callable[[np.ndarray, np.ndarray], float]


def summary(evaluation: Evaluation, bundle: Bundle) -> dict[str, Any]:
    """Means and spread over cases, pooled metrics and comparisons, for JSON.

    Returns:
        `cases`, `table` (title, mean, p10, p90, cases that have it, low and high of the mean's bootstrap interval),
        `comparisons` and `by_case`; and beyond what a bundle records, `patients`, `band`, `regions`, `detection`,
        `structures`, `reliability`, `ood_check` and `metrics_by_case`.
    """
    cases, band = evaluation.cases, evaluation.band
    groups = [case.group for case in cases]
    titles = list(dict.fromkeys(title for case in cases for title in case.metrics))
    return {
        "cases": len(cases),
        "table": [{"title": title, **spread([c.metrics[title] for c in cases], groups)} for title in titles],
        "comparisons": _comparisons(evaluation),
        "by_case": {case.name: _finite(case.metrics) for case in cases},
        "patients": len(set(groups)),
        "band": str(band),
        "surface_tolerance_mm": None if band.in_slices else SURFACE_TOLERANCE_MM,
        "regions": [_region_row(name, cases) for name in cases[0].voxels],
        "detection": [
            dict(zip(("value", "region", "score"), key, strict=True))
            | spread([case.detection[key] for case in cases], groups)
            for key in cases[0].detection
        ],
        "structures": _structure_table(cases, bundle),
        "reliability": {
            region: [asdict(bar) for bar in counted.diagram()] for region, counted in evaluation.reliability.items()
        },
        "ood_check": ood_check({case.name: case.ood_warnings for case in cases}, bundle),
        "metrics_by_case": {
            case.name: {
                "patient": case.group,
                "mean_dice": finite(1 - case.risk),
                "structures": [_finite(asdict(entry)) for entry in case.structures],
                "detection": _finite({" ".join(key): value for key, value in case.detection.items()}),
            }
            for case in cases
        },
    }


def recorded(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part that a bundle keeps."""
    return {key: result[key] for key in RECORDED}


def spread(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """Mean with its bootstrap interval, 10 and 90 % of the cases, and how many have a value."""
    known = np.asarray([value for value in values if np.isfinite(value)])
    if not known.size:
        return {"mean": None, "cases": 0}
    interval = mean_interval(values, groups=groups)
    p10, p90 = np.percentile(known, [10, 90]).tolist()
    numbers = {"mean": float(known.mean()), "p10": p10, "p90": p90, "cases": int(known.size)}
    return {**numbers, "low": interval.low, "high": interval.high}


def region_row(voxels: Sequence[int], errors: Sequence[int], groups: Sequence[str]) -> dict[str, Any]:
    """Sum up voxels and wrong ones of a region over cases."""
    shares = [wrong / count if count else float("nan") for wrong, count in zip(errors, voxels, strict=True)]
    return {
        "voxels": sum(voxels),
        "errors": sum(errors),
        "cases_without_errors": errors.count(0),
        "cases_without_voxels": voxels.count(0),
        "error_rate": spread(shares, groups),
    }


def finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if np.isfinite(value) else None


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str) else finite(value) for key, value in values.items()}


def _region_row(name: str, cases: Sequence[CaseEvaluation]) -> dict[str, Any]:
    voxels, errors = [case.voxels[name] for case in cases], [case.errors[name] for case in cases]
    return {"region": name, **region_row(voxels, errors, [case.group for case in cases])}


def _structure_table(cases: Sequence[CaseEvaluation], bundle: Bundle) -> list[dict[str, Any]]:
    """Make a row for each structure: predicted Dice against the constant mean, coverage and width of intervals."""
    fitted, groups = CaseLevelCalibration.from_json(bundle.calibration), [case.group for case in cases]
    rows = []
    for index, label in enumerate(bundle.labels[1:]):
        numbers = [case.structures[index] for case in cases]
        line, interval = fitted.dice.get(label.value), fitted.intervals.get(label.value)
        row: dict[str, Any] = {"structure": label.name}
        if line is not None:
            true, predicted = (
                np.asarray([getattr(entry, what) for entry in numbers]) for what in ("dice", "predicted_dice")
            )
            constant = np.where(np.isfinite(predicted), line.mean, np.nan)
            row["predicted_dice"] = {
                "informative": line.informative,
                "mean_absolute_error": _with_interval(mean_absolute_error, predicted, true, groups),
                "mean_absolute_error_of_mean": _with_interval(mean_absolute_error, constant, true, groups),
                "spearman": _with_interval(spearman, predicted, true, groups),
            }
        if interval is not None:
            ends = ([getattr(entry, f"{what}_mm3") for entry in numbers] for what in ("low", "high", "true"))
            row["volume_interval"] = {**_finite(asdict(interval_metrics(*ends))), "level": interval.level}
        rows.append(row)
    return rows


def _comparisons(evaluation: Evaluation) -> dict[str, Any]:
    """Ratios and paired differences; those that do not exist, as where nothing is wrong, are left out."""
    rows, groups = [case.metrics for case in evaluation.cases], [case.group for case in evaluation.cases]
    found: dict[str, Any] = {
        "aurc whole, ranking / distance": _ratio(rows, "aurc whole ranking", "aurc whole distance"),
        "aurc whole, ranking / softmax": _ratio(rows, "aurc whole ranking", "aurc whole softmax"),
    }
    if "band" in evaluation.reliability:
        for title, (first, second) in PAIRS.items():
            difference = paired_bootstrap([row[first] for row in rows], [row[second] for row in rows], groups=groups)
            found[title] = asdict(difference) if np.isfinite(difference.mean) else None
        pooled = evaluation.reliability["band"].expected_calibration_error()
        found["error probability ece band, pooled"] = finite(pooled)
        found["wrong voxels, expected / true"] = _ratio(rows, "wrong voxels expected", "wrong voxels")
    return {title: value for title, value in found.items() if value is not None}


def _ratio(rows: Sequence[Mapping[str, float]], first: str, second: str) -> float | None:
    """Ratio of the sums over cases, None if there is none."""
    above, below = (float(np.nansum([row[title] for row in rows])) for title in (first, second))
    return above / below if below else None


def _with_interval(
    metric: Metric, first: np.ndarray, second: np.ndarray, groups: Sequence[str]
) -> dict[str, float | None]:
    found = metric_interval(lambda chosen: metric(first[chosen], second[chosen]), groups, DRAWS)
    return {"value": finite(found.mean), "low": finite(found.low), "high": finite(found.high)}
