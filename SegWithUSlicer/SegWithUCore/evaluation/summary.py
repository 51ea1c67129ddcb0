"""An evaluation summed up: what `segwithu evaluate` prints, writes, and records in a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..metrics.bootstrap import paired_bootstrap
from ..models.bundle import Bundle
from .case_table import confidence_table, structure_table
from .detection_table import detection_table, finite, largest_binning_error, region_table, spread
from .evaluate import CaseEvaluation, Evaluation

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
    """Means and spread over cases, pooled figures and comparisons, for JSON.

    Returns:
        `cases`, `table` (title, mean, p10, p90, cases that have it, low and high of the mean's bootstrap interval),
        `comparisons` and `by_case`; and beyond what a bundle records, `patients`, `band`, `regions`, `detection`,
        `binning_error`, `confidences`, `structures`, `reliability` and `details_by_case`.
    """
    cases = evaluation.cases
    groups = [case.group for case in cases]
    titles = list(dict.fromkeys(title for case in cases for title in case.figures))
    detection = detection_table(evaluation)
    return {
        "cases": len(cases),
        "table": [{"title": title, **spread([c.figures[title] for c in cases], groups)} for title in titles],
        "comparisons": _comparisons(evaluation),
        "by_case": {case.name: {title: finite(value) for title, value in case.figures.items()} for case in cases},
        "patients": len(set(groups)),
        "band": str(evaluation.settings.band),
        "surface_tolerance_mm": None if evaluation.settings.band.in_slices else evaluation.settings.tolerance_mm,
        "regions": region_table(evaluation),
        "detection": detection,
        "binning_error": largest_binning_error(detection),
        "confidences": confidence_table(cases),
        "structures": structure_table(cases, bundle),
        "reliability": {
            region: [asdict(bar) for bar in counted.diagram()]
            for region, counted in evaluation.pools.reliability.items()
        },
        "details_by_case": {case.name: _details(case) for case in cases},
    }


def recorded(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part that a bundle keeps."""
    return {key: result[key] for key in RECORDED}


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
    rows, groups = [case.figures for case in cases], [case.group for case in cases]
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
    """Ratio of the means over cases, None where there is none."""
    means = [np.asarray([row[title] for row in rows]) for title in (first, second)]
    above, below = (float(values[np.isfinite(values)].sum()) for values in means)
    return above / below if below else None
