"""The report of an evaluation: its folder (JSON, CSV, Markdown), one HTML page, and a few lines.

The page is self-contained and prints on A4. Tables are made once, for Markdown and HTML.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SegWithUCore.models.bundle import Bundle
from SegWithUCore.report.render import render
from SegWithUCore.util.csv_files import table_of, write_csv

from .case_metrics import OUR_SCORE

if TYPE_CHECKING:
    from .evaluate import CaseEvaluation, Evaluation

PAGE_FILE = "report.html"
NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "aurc": "AURC x 1000",
    "e-aurc": "e-AURC x 1000",
    "augrc": "AUGRC x 1000",
    "fpr95": "FPR at 95 % TPR",
    "risk at 80 %": "risk at 80 % coverage",
    "found in 1 %": "errors in riskiest 1 %",
    "found in 5 %": "in riskiest 5 %",
}
"""Metrics of error detection, as they are shown."""
WITHOUT = "-"
"""Stands for a metric that does not exist, as in a region without errors."""
NAMED = 5
"""Cases with an OOD warning that are named among the lines; the report has all."""


@dataclass(frozen=True)
class Table:
    """A table with its title and a note below the title.

    Attributes:
        texts: number of columns on the left that hold text; the others hold metrics.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


def write_report(
    folder: Path,
    result: Mapping[str, Any],
    evaluation: "Evaluation",
    bundle: Bundle,
    source: str,
    alerts: Sequence[str] = (),
) -> None:
    """Write `metrics.json`, `metrics.csv`, `metrics.md` and `report.html`.

    Args:
        folder: that exists and is empty; the caller makes it appear whole or not at all.
        result: from `summary.summary`.
        source: of the cases, as the user named it.
        alerts: what stands above all else.
    """
    title = f"{bundle.name} {bundle.about['version']}: evaluation"
    about = (
        f"{messages(result)[0]} Cases: {source}. Weights {bundle.weights_sha256[:12]}"
        f"{'' if bundle.calibration is None else f', calibration {str(bundle.calibration_sha256)[:12]}'}. Means are "
        "over cases; intervals hold 95 % of bootstrap draws of patients."
    )
    tables = report_tables(result)
    (folder / "metrics.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_csv(folder / "metrics.csv", *table_of([_csv_row(case) for case in evaluation.cases]))
    (folder / "metrics.md").write_text("\n\n".join([f"# {title}", *alerts, about, markdown(tables)]), encoding="utf-8")
    texts = {"title": title, "heading": title, "alerts": alerts, "lead": [about], "log10": math.log10}
    page = render("evaluation.html", **texts, tables_shown=tables, reliability=result["reliability"])
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")


def markdown(tables: Sequence[Table]) -> str:
    """Format the tables one after the other."""
    parts = []
    for table in tables:
        rule = ["---"] * table.texts + ["---:"] * (len(table.header) - table.texts)
        lines = [f"| {' | '.join(cells)} |" for cells in (table.header, rule, *table.rows)]
        parts.append(f"## {table.title}\n{table.note}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def number(value: float | None, factor: float = 1.0) -> str:
    """Format a number with three significant digits."""
    return WITHOUT if value is None else f"{value * factor:.3g}"


def with_interval(entry: Mapping[str, Any], key: str = "mean", factor: float = 1.0) -> str:
    """Format a metric with its bootstrap interval in brackets."""
    if entry.get(key) is None or entry.get("low") is None:
        return number(entry.get(key), factor)
    return f"{number(entry[key], factor)} ({number(entry['low'], factor)} to {number(entry['high'], factor)})"


def factor_of(metric: str) -> float:
    """Return by what a metric of error detection is multiplied where it is shown."""
    return 1000.0 if NAMES[metric].endswith("x 1000") else 1.0


def report_tables(result: Mapping[str, Any]) -> list[Table]:
    """All tables of `summary.summary` that have rows."""
    tolerance = result["surface_tolerance_mm"]
    surface = (
        "no surface Dice, for no spacing is trusted" if tolerance is None else f"surface Dice within {tolerance:g} mm"
    )
    regions = [
        [row["region"], str(row["voxels"]), str(row["errors"]), with_interval(row["error_rate"]),
         str(row["cases_without_errors"]), str(row["cases_without_voxels"])]
        for row in result["regions"]
    ]  # fmt: skip
    comparisons = [
        [title, number(value) if isinstance(value, float) else with_interval(value)]
        for title, value in result["comparisons"].items()
    ]
    predicted = [
        [row["structure"], *(with_interval(row["predicted_dice"][key], "value") for key in
         ("mean_absolute_error", "mean_absolute_error_of_mean", "spearman")),
         "yes" if row["predicted_dice"]["informative"] else "no, not shown to users"]
        for row in result["structures"] if "predicted_dice" in row
    ]  # fmt: skip
    volumes = [
        [row["structure"], *(number(row["volume_interval"][key]) for key in
         ("level", "coverage", "width", "relative_width", "cases"))]
        for row in result["structures"] if "volume_interval" in row
    ]  # fmt: skip
    check = result.get("ood_check") or {"cases": 0, "out_of_distribution": [], "found": {}}
    differences = [[name, each["severity"], each["message"]] for name, its in check["found"].items() for each in its]
    probabilities = ("nll", "brier", "ace", "error probability", "wrong voxels")
    tables = [
        _spread(result, "Segmentation", f"Cases without the structure are left out; {surface}.", ("dice", "surface")),
        Table("Regions", f"band: within {result['band']} of the predicted surface; inside: predicted as a structure, "
              "beyond the band; a structure: what prediction or reference give to it.",
              ["region", "voxels", "wrong", "share wrong, mean over cases", "cases without errors", "without voxels"],
              regions),
        Table("Error detection, mean over cases", "Each score as a finder of wrong voxels; softmax: 1 - maximum "
              "softmax; distance: minus the distance to the predicted surface. Cases without errors are left out.",
              ["region", "score", *NAMES.values()], _detection(result), texts=2),
        _spread(result, "Probabilities", "NLL, Brier score and ACE of class probabilities; ECE and Brier score of the "
                "error probability; unseen: wrong with an error probability below 0.1.", probabilities),
        Table("Comparisons", "Differences pair the cases.", ["comparison", "value"], comparisons),
        Table("Predicted Dice", "Mean absolute error, and that of the calibration cases' mean Dice.",
              ["structure", "error", "error of the mean", "Spearman with true Dice", "informative"], predicted),
        Table("Volume intervals", "Share of cases whose true volume lies in the interval, and its width.",
              ["structure", "level", "covered", "width mm³", "width / true volume", "cases"], volumes),
        Table("OOD check", f"{len(check['out_of_distribution'])} of {check['cases']} cases are out of distribution.",
              ["case", "severity", "what differs, and what to do"],
              sorted(differences, key=lambda row: row[1] == "note"), texts=3),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _spread(result: Mapping[str, Any], title: str, note: str, starts: tuple[str, ...]) -> Table:
    """Make the table of the metrics whose titles begin with one of `starts`."""
    rows = [
        [entry["title"], with_interval(entry), f"{number(entry['p10'])} to {number(entry['p90'])}", str(entry["cases"])]
        for entry in result["table"]
        if entry["title"].startswith(starts) and entry["cases"]
    ]
    return Table(title, note, ["metric", "mean (95 % interval)", "10 % to 90 % of cases", "cases"], rows)


def _detection(result: Mapping[str, Any]) -> list[list[str]]:
    found = {(row["region"], row["score"], row["value"]): row for row in result["detection"]}
    scores = dict.fromkeys(row["score"] for row in result["detection"])
    rows = []
    for region, score in ((row["region"], score) for row in result["regions"] for score in scores):
        cells = [with_interval(found[region, score, metric], factor=factor_of(metric)) for metric in NAMES]
        rows += [[region, score, *cells]] if cells[0] != WITHOUT else []
    return rows


def _csv_row(case: "CaseEvaluation") -> dict[str, str]:
    metrics: dict[str, float] = {"mean dice": 1 - case.risk, **case.metrics}
    for structure in case.structures:
        metrics |= {
            f"{what} {structure['name']}": structure[what] for what in structure if what not in ("name", "dice")
        }
    metrics |= {" ".join(key): value for key, value in case.detection.items()}
    written = {title: f"{value:.8g}" if value == value else "" for title, value in metrics.items()}
    return {"case": case.name, "patient": case.group, **written}


def cases_text(result: Mapping[str, Any]) -> str:
    """Format the number of cases and of patients."""
    cases, patients = result["cases"], result.get("patients", result["cases"])
    text = "1 case" if cases == 1 else f"{cases} cases"
    return text if cases == patients else f"{text} of {patients} patients"


def messages(result: Mapping[str, Any]) -> list[str]:
    """Summarise an evaluation in a few lines, as `evaluate` and `models show` print; without what does not exist.

    Args:
        result: of `summary.summary`, or the part of it that a bundle keeps.
    """
    rows = {row["title"]: row for row in result["table"] if row.get("cases")}
    dice = [f"{title[5:]} {with_interval(row)}" for title, row in rows.items() if title.startswith("dice ")]
    details = result.get("metrics_by_case") or {}
    worst = {name: case["mean_dice"] for name, case in details.items() if case.get("mean_dice") is not None}
    lowest = min(worst, key=lambda name: worst[name]) if len(worst) > 1 else None
    end = f"; lowest {number(worst[lowest])} ({lowest})" if lowest else ""
    lines = [f"Dice, {cases_text(result)}: {', '.join(dice)}{end}."]
    check = result.get("ood_check")
    if check is not None:
        warned = check["out_of_distribution"]
        names = f" ({', '.join(warned[:NAMED])}{', ...' if len(warned) > NAMED else ''})" if warned else ""
        lacks = f"; not compared: {', '.join(check['lacks'])}" if check["lacks"] else ""
        noted = f"notes on {len(check['noted'])} more"
        lines.append(f"OOD check: warnings on {len(warned)} of {check['cases']} cases{names}; {noted}{lacks}.")
    score = OUR_SCORE if f"auroc whole {OUR_SCORE}" in rows else "ranking"
    parts = []
    for region, where in (("whole", "whole image"), ("band", "near the surface")):
        ours, softmax = rows.get(f"auroc {region} {score}"), rows.get(f"auroc {region} softmax")
        if ours is not None:
            compared = "" if softmax is None else f" (softmax {softmax['mean']:.3f})"
            parts.append(f"{where} {ours['mean']:.3f}{compared}")
    lines += [f"Error detection, AUROC of the {score}: {', '.join(parts)}."] if parts else []
    if "error probability brier" in rows:
        error = rows.get("error probability ece band", {"mean": None})
        ratio = number(result["comparisons"].get("wrong voxels, expected / true"))
        ece = f"ECE near the surface {number(error['mean'])}"
        lines.append(f"Error probability: {ece}; wrong voxels, expected / true: {ratio}.")
    elif "auroc whole ranking" in rows:
        lines.append("Not calibrated: the model has no error probability.")
    intervals = {row["structure"]: row.get("volume_interval") or {} for row in result.get("structures") or []}
    held = [f"{name} {each['coverage']:.0%}" for name, each in intervals.items() if each.get("coverage") is not None]
    return [*lines, f"Volume intervals, coverage: {', '.join(held)}."] if held else lines
