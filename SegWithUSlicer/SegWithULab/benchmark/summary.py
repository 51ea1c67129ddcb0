"""A benchmark summed up, for JSON: means over cases, and paired differences to one row."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from SegWithUCore.metrics.bootstrap import paired_bootstrap, ratio_interval
from SegWithUCore.version import __version__

from ..evaluation.summary import finite, region_row, spread
from ..training.dataset import Case
from .baselines import BaselineSet
from .baselines.base import Baseline, FittingCases
from .baselines.heads import Head
from .cost import BARE

FAIR = ("auprc whole", "auprc band", "aurc whole", "aurc band", "brier", "ece band")
COMPARED = ("nll", *(f"refitted {title}" for title in FAIR))
"""Metrics that are compared with the reference row, case by case, and kept of each case; the folder has all."""
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
        facts: of each case: `voxels` and `errors` by region, `dice` by structure.
        costs: from `cost.measured_costs`.
    """
    groups = [case.group for case in cases]
    # What a user of the first model sees, or the first of all.
    shipped = [each.rows[-1] for each in chosen.baselines if isinstance(each, Head) and each.default]
    reference = shipped[0] if shipped else rows[0][0]
    against = next(by_case for row, _, by_case in rows if row == reference)
    learning = [row for each in chosen.baselines if each.learns_from_folds for row in each.rows]
    counts = {
        name: [[each["regions"][name][what] for each in facts] for what in ("voxels", "errors")]
        for name in facts[0]["regions"]
    }
    cross_validated_cases = sum(len(fold.cases) for fold in fitting.folds)
    return {
        "cases": len(cases),
        "patients": len(set(groups)),
        "fitted_on": {"calibration": len(fitting.calibration)},
        "folds": {"networks": len(fitting.folds), "cases": cross_validated_cases, "rows": learning}
        if fitting.folds
        else None,
        "regions": [
            {"region": name, **region_row(voxels, errors, groups)} for name, (voxels, errors) in counts.items()
        ],
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
                row: {title: finite(by_case[number].get(title, np.nan)) for title in COMPARED}
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
