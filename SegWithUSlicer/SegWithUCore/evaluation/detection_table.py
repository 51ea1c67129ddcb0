"""Error detection summed up: means over cases first, then all voxels pooled."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics.bootstrap import mean_interval
from ..metrics.score_figures import FIGURES, binning_error, figures_of
from .evaluate import CaseEvaluation, Evaluation
from .scores import POOLED_REGIONS


def spread(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """Mean with its bootstrap interval, 10 and 90 % of the cases, and how many have a value."""
    there = np.asarray([value for value in values if np.isfinite(value)])
    if not there.size:
        return {"mean": None, "cases": 0}
    interval = mean_interval(values, groups=groups)
    p10, p90 = np.percentile(there, [10, 90])
    return {
        "mean": float(there.mean()),
        "p10": float(p10),
        "p90": float(p90),
        "cases": int(there.size),
        "low": interval.low,
        "high": interval.high,
    }


def detection_table(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each figure, region and score.

    Returns:
        Rows of `figure`, `region`, `score`; mean over cases with its interval; and for whole, band and inside
        `pooled` with `binning_error`, the most by which the bins of its histogram can have moved it.
    """
    cases = evaluation.cases
    groups = [case.group for case in cases]
    pooled = {key: (figures_of(h.groups()), binning_error(h.groups())) for key, h in evaluation.pools.scores.items()}
    rows = []
    for key in cases[0].detection:
        figure, region, score = key
        row: dict[str, Any] = {"figure": figure, "region": region, "score": score}
        row |= spread([case.detection[key] for case in cases], groups)
        if (score, region) in pooled:
            values, errors = pooled[score, region]
            row |= {"pooled": finite(values[figure]), "binning_error": finite(errors[figure])}
        rows.append(row)
    return rows


def region_table(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A row for each region: voxels, wrong ones, and the cases in which it holds no error or no voxel."""
    return [_region(name, evaluation.cases) for name in evaluation.cases[0].voxels]


def _region(name: str, cases: Sequence[CaseEvaluation]) -> dict[str, Any]:
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


def largest_binning_error(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The largest of each figure over regions and scores."""
    found = {}
    for figure in FIGURES:
        errors = [row["binning_error"] for row in rows if row["figure"] == figure and row.get("binning_error")]
        found[figure] = max(errors, default=0.0)
    return found


def finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if np.isfinite(value) else None
