"""A benchmark summed up, for JSON: means over cases, and paired differences to one row."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SegWithUCore.metrics.bootstrap import paired_bootstrap, ratio_interval
from SegWithUCore.version import __version__

from ..evaluation.summary import finite, spread
from .baselines.base import Baseline
from .baselines.heads import Head
from .benchmark import REFITTED, Benchmark, BenchmarkResult, RowMetrics
from .cost import BARE

COMPARED = (
    "auroc whole",
    "auroc band",
    "auprc whole",
    "auprc band",
    "aurc whole",
    "aurc band",
    "nll",
    "brier",
    "ace",
    *(
        f"{REFITTED}{figure}"
        for figure in ("auprc whole", "auprc band", "aurc whole", "aurc band", "brier", "ece band")
    ),
)
"""Metrics that are compared with the reference row, case by case."""
KEPT_BY_CASE = COMPARED
"""Metrics of each case that go into the summary; the folder has all."""


def reference_row(baselines: Sequence[Baseline]) -> str:
    """Choose the row to compare with: what a user of the first model sees, or the first of all."""
    shipped = [baseline for baseline in baselines if isinstance(baseline, Head) and baseline.default]
    return shipped[0].rows[-1] if shipped else baselines[0].rows[0]


def benchmark_summary(benchmark: Benchmark, result: BenchmarkResult, reference: str) -> dict[str, Any]:
    """Means, intervals, costs and differences.

    Args:
        reference: title of the row that the others are compared with.
    """
    titles = [row.row for row in result.rows]
    groups = [case.group for case in result.cases]
    against = result.rows[titles.index(reference)]
    bundle = benchmark.backbone.bundle
    return {
        "model": f"{bundle.name} {bundle.about['version']}",
        "backbone_sha256": benchmark.backbone.sha256,
        "cases": len(result.cases),
        "patients": len(set(groups)),
        "band": str(benchmark.band),
        "fitted_on": {role: len(getattr(benchmark.fitting, role)) for role in ("train", "select", "calibration")},
        "folds": _folds(benchmark),
        "regions": _regions(result, groups),
        "dice": _dice(result, groups),
        "reference": reference,
        "rows": [_row(row, against, groups, result) for row in result.rows],
        "not_run": dict(result.not_run),
        "bare": result.costs.get(BARE),
        "made_with": _machine(),
        "by_case": {
            case.name: {row.row: _kept(row.by_case[number]) for row in result.rows}
            for number, case in enumerate(result.cases)
        },
    }


def _folds(benchmark: Benchmark) -> dict[str, Any] | None:
    """Say which rows were fitted on how many cases of folds; None without any."""
    folds = benchmark.fitting.folds
    rows = [row for each in benchmark.chosen.baselines if each.learns_from_folds for row in each.rows]
    return {"networks": len(folds), "cases": sum(len(fold.cases) for fold in folds), "rows": rows} if folds else None


def _row(row: RowMetrics, against: RowMetrics, groups: Sequence[str], result: BenchmarkResult) -> dict[str, Any]:
    titles = dict.fromkeys(title for metrics in row.by_case for title in metrics)
    baseline = row.baseline
    return {
        "row": row.row,
        "rival": baseline.name,
        "how": baseline.how,
        "passes": baseline.passes,
        "added_parameters": baseline.added_parameters,
        "cost": result.costs.get(baseline.name),
        "figures": {title: spread(_values(row, title), groups) for title in titles},
        "against_reference": {}
        if row is against
        else {title: _difference(row, against, title, groups) for title in COMPARED if title in titles},
    }


def _difference(row: RowMetrics, against: RowMetrics, title: str, groups: Sequence[str]) -> dict[str, Any] | None:
    """Compute the paired difference and the ratio of means minus 1.

    Returns None if the reference has no such metric.
    """
    ours, theirs = np.asarray(_values(row, title)), np.asarray(_values(against, title))
    there = np.isfinite(ours) & np.isfinite(theirs)
    if not there.any():
        return None
    difference = paired_bootstrap(ours.tolist(), theirs.tolist(), groups=groups)
    ratio = ratio_interval(ours.tolist(), theirs.tolist(), groups)
    return {
        "mean": finite(difference.mean),
        "low": finite(difference.low),
        "high": finite(difference.high),
        "relative": {name: finite(getattr(ratio, name) - 1) for name in ("mean", "low", "high")},
    }


def _values(row: RowMetrics, title: str) -> list[float]:
    return [metrics.get(title, float("nan")) for metrics in row.by_case]


def _kept(metrics: Mapping[str, float]) -> dict[str, float | None]:
    found = {title: finite(metrics.get(title, float("nan"))) for title in KEPT_BY_CASE}
    return {title: value if value is None else float(f"{value:.6g}") for title, value in found.items()}


def _regions(result: BenchmarkResult, groups: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name in result.case_facts[0]["regions"]:
        counts = [facts["regions"][name] for facts in result.case_facts]
        voxels, errors = (np.asarray([entry[what] for entry in counts]) for what in ("voxels", "errors"))
        rates = np.divide(errors, voxels, out=np.full(len(counts), np.nan), where=voxels > 0)
        rows.append(
            {
                "region": name,
                "voxels": int(voxels.sum()),
                "errors": int(errors.sum()),
                "cases_without_errors": int(np.count_nonzero(errors == 0)),
                "error_rate": spread(rates.tolist(), groups),
            }
        )
    return rows


def _dice(result: BenchmarkResult, groups: Sequence[str]) -> dict[str, Any]:
    return {
        name: spread([_number(facts["dice"][name]) for facts in result.case_facts], groups)
        for name in result.case_facts[0]["dice"]
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _machine() -> dict[str, Any]:
    return {
        "segwithu": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "system": platform.system(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
