"""Compare flags of whole cases, predicted Dice with a constant, and volume intervals, patient by patient.

    python Testing/Benchmarks/case_flags.py [--model NAME] [--table SPLIT.csv] [--test] [--name N]

Everything is judged on calibration and select cases, each patient left out in turn: limit, line and interval are fitted
on the others. A case is bad if its lowest Dice is in the lowest fifth. With --test also, once, the test cases, all
fitted on calibration and select, for what was chosen. Writes `results/N.md` (case_flags). The table is that of the
hippocampi in `../shared/data` unless another is given.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu, rankdata

from SegWithUCore.calibration.flag_limits import BAD_SHARE, bad_of_patient, controlled_limit, fit_flag_limit
from SegWithUCore.calibration.per_structure import (
    AMBIGUOUS,
    SEGMENTED,
    Volumes,
    _judged_without,
    fit_one_interval,
    fit_predicted_dice,
    fit_volume_interval,
)
from SegWithUCore.metrics.bootstrap import metric_interval, paired_bootstrap
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.installed import resolve_model
from SegWithULab.calibration.blocks import flag_case
from SegWithULab.calibration.cases import CalibrationCase, CaseNumbers, case_numbers, predicted
from SegWithULab.training.dataset import find_cases

RESULTS = Path(__file__).resolve().parent / "results" / "case_flags.md"
CHOSEN = "lowest soft Dice"


@dataclass(frozen=True)
class Told:
    """What is known of some cases: numbers, patients, and the figures by name, lower for worse."""

    numbers: Sequence[CaseNumbers]
    patients: Sequence[str]
    metrics: Mapping[str, np.ndarray]

    @property
    def lowest_dice(self) -> np.ndarray:
        """Of each case."""
        return np.asarray([np.nanmin(case.dice[1:]) for case in self.numbers])


def main() -> int:
    """Measure, write the results, print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="hippocampus")
    data = RESULTS.parents[3].parent / "shared" / "data"
    parser.add_argument("--table", type=Path, default=data / "hippocampus" / "split.csv")
    parser.add_argument("--name", default="case_flags", help="of the file of results")
    parser.add_argument("--test", action="store_true", help="also measure the test cases, for what was chosen")
    options = parser.parse_args()
    bundle = resolve_model(options.model)
    scale, names = float((bundle.calibration or {})["tempering_scale"]), [label.name for label in bundle.labels]
    table, results = options.table, RESULTS.with_stem(options.name)
    own = _told(list(predicted(bundle, find_cases(f"{table}:calibration+select"))), scale)
    found = {"model": bundle.name, "cases": len(own.patients), "nested": _nested(own, names)}
    if options.test:
        test = _told(list(predicted(bundle, find_cases(f"{table}:test"))), scale)
        found["test"] = _on_test(own, test, bundle)
    results.write_text(_page(found), encoding="utf-8")
    print(_page(found))
    return 0


def _told(cases: Sequence[CalibrationCase], scale: float) -> Told:
    numbers = [case_numbers(case.prediction, case.truth, scale) for case in cases]
    soft = np.asarray([[each.confidence(index) for index in range(1, len(each.dice))] for each in numbers])
    figures = {CHOSEN: np.nanmin(soft, 1), "mean soft Dice": np.nanmean(soft, 1)}
    return Told(numbers, [case.patient for case in cases], figures)


def _nested(own: Told, names: Sequence[str]) -> dict[str, Any]:
    return {"flags": _nested_flags(own), "dice": _nested_dice(own), "intervals": _nested_intervals(own, names)}


def _nested_flags(own: Told) -> dict[str, Any]:
    """Each figure with its limit fitted on the other patients."""
    dice, patients = own.lowest_dice, np.asarray(own.patients)
    bad = dice < np.quantile(dice, BAD_SHARE, method="higher")
    flagged: dict[str, np.ndarray] = {name: np.zeros(dice.size, bool) for name in own.metrics}
    for patient in np.unique(patients):
        left, rest = patients == patient, patients != patient
        bad_rest = dice[rest] < np.quantile(dice[rest], BAD_SHARE, method="higher")
        weight = 1 / bad_of_patient(patients[rest].tolist(), bad_rest)
        for name, score in own.metrics.items():
            flagged[name][left] = score[left] < controlled_limit(score[rest], bad_rest, weight)
    rows = {name: _flag_row(score, flagged[name], dice, bad, own.patients) for name, score in own.metrics.items()}
    return {"bad cases": int(bad.sum()), "metrics": rows}


def _flag_row(
    score: np.ndarray, flagged: np.ndarray, dice: np.ndarray, bad: np.ndarray, patients: Sequence[str]
) -> dict[str, Any]:
    return {
        "caught": int(flagged[bad].sum()),
        "others flagged": float(flagged[~bad].mean()),
        "others flagged for 80 %": float((score[~bad] <= np.sort(score[bad])[math.ceil(0.8 * bad.sum()) - 1]).mean()),
        "auroc": _auroc(score, bad),
        "spearman": asdict(metric_interval(lambda rows: _spearman(score[rows], dice[rows]), patients)),
    }


def _auroc(score: np.ndarray, bad: np.ndarray) -> float:
    return float(mannwhitneyu(-score[bad], -score[~bad]).statistic) / (int(bad.sum()) * int((~bad).sum()))


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    if not np.ptp(first) or not np.ptp(second):
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


Line = Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]]


def _least_squares(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    slope, start = np.polyfit(x, y, 1)
    mean = float(y.mean())
    return lambda at: np.clip(start + slope * at, 0, 1) if slope > 0 else np.full(at.shape, mean)


def _pairs(numbers: Sequence[CaseNumbers]) -> tuple[np.ndarray, np.ndarray]:
    """Soft Dice and Dice, (cases, structures)."""
    soft = [[case.confidence(index) for index in range(1, len(case.dice))] for case in numbers]
    return np.asarray(soft), np.asarray([case.dice[1:] for case in numbers])


def _nested_dice(own: Told) -> dict[str, Any]:
    x, y = _pairs(own.numbers)
    patients = np.asarray(own.patients)
    ways: dict[str, np.ndarray] = {"mean": np.empty(y.shape)}
    lines: dict[str, Line] = {"a line each": _least_squares}
    ways |= {name: np.empty(y.shape) for name in lines}
    for patient in np.unique(patients):
        left, rest = patients == patient, patients != patient
        for column in range(y.shape[1]):
            ways["mean"][left, column] = y[rest, column].mean()
            for name, fit in lines.items():
                ways[name][left, column] = fit(x[rest, column], y[rest, column])(x[left, column])
    found = fit_predicted_dice(_structures(x, y), own.patients)
    ways["one slope, shrunk"] = np.stack([found.predictions[key] for key in sorted(found.predictions)], 1)
    return {name: _dice_row(each, y, ways["mean"], own.patients) for name, each in ways.items()}


def _structures(x: np.ndarray, y: np.ndarray) -> dict[int, tuple[list[float], list[float]]]:
    return {column + 1: (x[:, column].tolist(), y[:, column].tolist()) for column in range(y.shape[1])}


def _dice_row(predicted: np.ndarray, y: np.ndarray, mean: np.ndarray, patients: Sequence[str]) -> dict[str, Any]:
    error, constant = np.abs(predicted - y), np.abs(mean - y)
    doubled = [patient for patient in patients for _ in range(y.shape[1])]

    def of_rows(rows: np.ndarray) -> float:
        return _spearman(predicted[rows].ravel(), y[rows].ravel())

    return {
        "spearman pooled": asdict(metric_interval(of_rows, patients)),
        "spearman around the means": _spearman((predicted - mean).ravel(), (y - mean).ravel()),
        "error": float(error.mean()),
        "error of the mean": float(constant.mean()),
        "difference": asdict(paired_bootstrap(error.ravel().tolist(), constant.ravel().tolist(), groups=doubled)),
    }  # fmt: skip


def _volumes(numbers: Sequence[CaseNumbers], index: int) -> Volumes:
    expected, ambiguous, true = np.asarray([case.volumes_mm3(index) for case in numbers]).T
    return Volumes(expected, ambiguous, np.asarray([case.segmented_mm3(index) for case in numbers]), true)


def _nested_intervals(own: Told, names: Sequence[str]) -> dict[str, Any]:
    found = {}
    for index, name in enumerate(names[1:], 1):
        volumes = _volumes(own.numbers, index)
        interval = fit_volume_interval(volumes, patients=own.patients)
        assert interval is not None
        judged = {kind: _judged_without(volumes, kind, own.patients) for kind in (AMBIGUOUS, SEGMENTED)}
        row = {kind: dict(zip(("coverage", "width_mm3"), pair, strict=True)) for kind, pair in judged.items() if pair}
        found[name] = {**row, "kept": interval.of}
    return found


def _on_test(own: Told, test: Told, bundle: Bundle) -> dict[str, Any]:
    fitted = fit_flag_limit(
        [flag_case(case, bundle.labels, patient) for case, patient in zip(own.numbers, own.patients, strict=True)]
    )
    dice = test.lowest_dice
    bad = dice < fitted["bad_dice"]
    own_bad, flags = own.lowest_dice < fitted["bad_dice"], {}
    for name in (CHOSEN,):
        weight = 1 / bad_of_patient(own.patients, own_bad)
        limit, score = controlled_limit(own.metrics[name], own_bad, weight), test.metrics[name]
        flags[name] = {**_flag_row(score, score < limit, dice, bad, test.patients), "limit": limit}
    x, y = _pairs(own.numbers)
    lines = fit_predicted_dice(_structures(x, y), own.patients).lines
    xt, yt = _pairs(test.numbers)
    predicted = np.asarray([[lines[c + 1](value) for c, value in enumerate(row)] for row in xt])
    mean = np.tile(y.mean(0), (len(yt), 1))
    intervals = {}
    for index, label in enumerate(bundle.labels[1:], 1):
        volumes, new = _volumes(own.numbers, index), _volumes(test.numbers, index)
        chosen = fit_volume_interval(volumes, patients=own.patients)
        assert chosen is not None
        fits = {kind: fit_one_interval(volumes, kind, patients=own.patients) for kind in (AMBIGUOUS, SEGMENTED)}
        both = {kind: _held(interval, new) for kind, interval in fits.items()}
        intervals[label.name] = {**both, "kept": chosen.of}
    return {
        "cases": int(dice.size),
        "bad cases": int(bad.sum()),
        "bad_dice": fitted["bad_dice"],
        "rule": fitted["rules"],
        "flags": flags,
        "dice": _dice_row(predicted, yt, mean, test.patients),
        "intervals": intervals,
    }


def _held(interval: Any, new: Volumes) -> dict[str, float]:
    rows = [interval(*map(float, row)) for row in zip(new.expected, new.ambiguous, new.segmented, strict=True)]
    low, high = np.asarray(rows)[:, 1:].T
    return {"coverage": float(((low <= new.true) & (new.true <= high)).mean()), "width_mm3": float((high - low).mean())}


def _page(found: Mapping[str, Any]) -> str:
    nested = found["nested"]
    flags = nested["flags"]
    lines = ["# `python Testing/Benchmarks/case_flags.py`", ""]
    lines.append(
        f"Model {found['model']}, {found['cases']} calibration and select cases, each patient left out in turn."
    )
    lines += ["", f"## Flags: {flags['bad cases']} bad cases", ""]
    lines.append(
        "Limits are fitted so that at most 20 % of bad cases are missed. *For 80 %*: others flagged if the limit "
        "caught just 80 %, known only afterwards. Spearman is of figure and lowest Dice."
    )
    lines += [
        "",
        "| figure | bad cases caught | others flagged | for 80 % | AUROC | Spearman |",
        "|---|---|---|---|---|---|",
    ]
    rows = sorted(flags["metrics"].items(), key=lambda item: -item[1]["spearman"]["mean"])
    for name, row in rows:
        cells = [str(row["caught"]), f"{row['others flagged']:.0%}", f"{row['others flagged for 80 %']:.0%}"]
        cells += [f"{row['auroc']:.3f}", _interval(row["spearman"])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "## Predicted Dice, structures pooled", "", *_dice_table(nested["dice"])]
    lines += ["", "## Volume intervals, 90 % promised", "", *_interval_table(nested["intervals"])]
    return "\n".join([*lines, *(_test_lines(found["test"]) if "test" in found else [])]) + "\n"


def _test_lines(test: Mapping[str, Any]) -> list[str]:
    what = f"{test['cases']} cases, {test['bad cases']} bad (Dice below {test['bad_dice']:.3f})"
    lines = ["", f"## Test cases, measured once: {what}", ""]
    for name, row in test["flags"].items():
        shares = row["others flagged for 80 %"]
        words = f"- {name}, limit {row['limit']:.4f}: flags {row['caught']} of {test['bad cases']} bad cases and "
        words += f"{row['others flagged']:.0%} of the others ({shares:.0%} for 80 % of the bad ones); AUROC "
        lines.append(f"{words}{row['auroc']:.3f}, Spearman {_interval(row['spearman'])}.")
    tables = [*_dice_table({"one slope, shrunk": test["dice"]}), "", *_interval_table(test["intervals"])]
    return [*lines, "", *tables]


def _interval(value: Mapping[str, float], digits: int = 2) -> str:
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def _dice_table(rows: Mapping[str, Any]) -> list[str]:
    lines = ["| | Spearman | around the means | error | error of the mean | difference |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        cells = [_interval(row["spearman pooled"]), f"{row['spearman around the means']:.2f}", f"{row['error']:.4f}"]
        cells += [f"{row['error of the mean']:.4f}", _interval(row["difference"], 4)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _interval_table(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "| structure | of the ambiguous volume: coverage, width | of the segmented volume | kept |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        cells = [f"{row[kind]['coverage']:.3f}, {row[kind]['width_mm3']:.0f} mm3" for kind in (AMBIGUOUS, SEGMENTED)]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['kept']} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
