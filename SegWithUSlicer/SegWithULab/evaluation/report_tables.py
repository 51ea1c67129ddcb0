"""The tables of an evaluation's report, once for Markdown and HTML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PER_MILLE = {"aurc", "e-aurc", "augrc"}
"""Metrics that are shown times 1000, as the field does."""
COLUMNS = ("auroc", "auprc", "aurc", "e-aurc", "augrc", "fpr95", "risk at 80 %", "found in 1 %", "found in 5 %")
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
WITHOUT = "-"
"""Stands for a metric that does not exist, as in a region without errors."""


@dataclass(frozen=True)
class Table:
    """A table with its title and a note below the title.

    Attributes:
        words: number of columns on the left that hold words; the others hold metrics.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


def report_tables(result: Mapping[str, Any]) -> list[Table]:
    """All tables of `summary.summary`."""
    tables = [_segmentation(result), _regions(result), _means(result), _probabilities(result)]
    tables += [_comparisons(result), _confidences(result)]
    return tables + [
        table for table in (_predicted_dice(result), _intervals(result), _input_check(result)) if table.rows
    ]


def markdown(tables: Sequence[Table]) -> str:
    """Format the tables one after the other."""
    parts = []
    for table in tables:
        rule = ["---"] * table.words + ["---:"] * (len(table.header) - table.words)
        lines = [f"| {' | '.join(cells)} |" for cells in (table.header, rule, *table.rows)]
        parts.append(f"## {table.title}\n{table.note}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def number(value: float | None, factor: float = 1.0) -> str:
    """Three significant digits."""
    return WITHOUT if value is None else f"{value * factor:.3g}"


def with_interval(entry: Mapping[str, Any], key: str = "mean", factor: float = 1.0) -> str:
    """Format a metric with its bootstrap interval in brackets."""
    if entry.get(key) is None:
        return WITHOUT
    if entry.get("low") is None:
        return number(entry[key], factor)
    return f"{number(entry[key], factor)} ({number(entry['low'], factor)} to {number(entry['high'], factor)})"


_SPREAD = ["figure", "mean (95 % interval)", "10 % to 90 % of cases", "cases"]


def _rows_of(result: Mapping[str, Any], wanted: Callable[[str], bool]) -> list[list[str]]:
    return [
        [entry["title"], with_interval(entry), f"{number(entry['p10'])} to {number(entry['p90'])}", str(entry["cases"])]
        for entry in result["table"]
        if wanted(entry["title"]) and entry["cases"]
    ]


def _segmentation(result: Mapping[str, Any]) -> Table:
    tolerance = result["surface_tolerance_mm"]
    note = "Means over cases; cases without the structure in prediction and reference are left out."
    if tolerance is None:
        note += " No surface Dice: with a band in voxels no spacing is trusted."
    else:
        note += f" Surface Dice: edge voxels within {tolerance:g} mm."
    return Table("Segmentation", note, _SPREAD, _rows_of(result, lambda title: title.startswith(("dice", "surface"))))


def _regions(result: Mapping[str, Any]) -> Table:
    rows = [
        [
            row["region"],
            str(row["voxels"]),
            str(row["errors"]),
            with_interval(row["error_rate"]),
            str(row["cases_without_errors"]),
            str(row["cases_without_voxels"]),
        ]
        for row in result["regions"]
    ]
    note = (
        f"whole: all that is assessed. band: within {result['band']} of the predicted surface. inside: predicted as a "
        "structure, beyond the band. A structure: voxels that the prediction or the reference gives to it. The share "
        "of wrong voxels is the base rate of AUPRC. In cases without errors most figures do not exist: they are left "
        "out of the means."
    )
    header = ["region", "voxels", "wrong", "share wrong, mean over cases", "cases without errors", "without voxels"]
    return Table("Regions", note, header, rows)


def _means(result: Mapping[str, Any]) -> Table:
    found = {(row["region"], row["score"], row["figure"]): row for row in result["detection"]}
    rows = []
    for region, score in _by_region(result):
        cells = [
            with_interval(found[region, score, metric], factor=_factor(metric))
            if metric in ("auroc", "auprc", "aurc")
            else number(found[region, score, metric]["mean"], _factor(metric))
            for metric in COLUMNS
        ]
        if cells[0] != WITHOUT:
            rows.append([region, score, *cells])
    note = (
        "Each score as a finder of wrong voxels, mean over cases (95 % bootstrap interval over patients). softmax: "
        "1 - maximum softmax. distance: minus the distance to the predicted surface, which knows geometry alone. "
        "Regions that hold no error in any case are left out."
    )
    return Table("Error detection, mean over cases", note, ["region", "score", *_names()], rows, words=2)


def _by_region(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Regions and scores, all scores of a region together."""
    scores = dict.fromkeys(row["score"] for row in result["detection"])
    return [(row["region"], score) for row in result["regions"] for score in scores]


def _factor(metric: str) -> float:
    return 1000.0 if metric in PER_MILLE else 1.0


def _names() -> list[str]:
    return [NAMES[metric] for metric in COLUMNS]


def _probabilities(result: Mapping[str, Any]) -> Table:
    kinds = ("nll", "brier", "ace", "error probability", "wrong voxels")
    note = (
        "NLL, Brier score (summed over classes) and ACE (mean of foreground classes, 20 bins of equal width) of class "
        "probabilities; ECE (15 bins of equal mass) and Brier score of the error probability. Unseen: wrong voxels "
        "with an error probability below 0.1."
    )
    return Table("Probabilities", note, _SPREAD, _rows_of(result, lambda title: title.startswith(kinds)))


def _comparisons(result: Mapping[str, Any]) -> Table:
    rows = [
        [title, number(value) if isinstance(value, float) else with_interval(value)]
        for title, value in result["comparisons"].items()
    ]
    note = "Differences pair the cases; in brackets the 95 % bootstrap interval over patients."
    return Table("Comparisons", note, ["comparison", "value"], rows)


def _confidences(result: Mapping[str, Any]) -> Table:
    rows = [
        [
            row["confidence"],
            *(with_interval(row[metric], "value", 100.0) for metric in ("aurc", "e-aurc", "augrc")),
            with_interval(row["spearman"], "value"),
            str(row["cases"]),
        ]
        for row in result["confidences"]
    ]
    note = (
        "Does a confidence tell bad cases from good ones? Risk of a case: 1 - mean Dice. No confidence can do better "
        "than the true order; any order at all, which tells nothing, has the mean risk."
    )
    header = ["confidence", "AURC x 100", "e-AURC x 100", "AUGRC x 100", "Spearman with Dice", "cases"]
    return Table("Whole cases", note, header, rows)


def _predicted_dice(result: Mapping[str, Any]) -> Table:
    rows = [
        [
            row["structure"],
            with_interval(row["predicted_dice"]["mean_absolute_error"], "value"),
            with_interval(row["predicted_dice"]["mean_absolute_error_of_mean"], "value"),
            with_interval(row["predicted_dice"]["spearman"], "value"),
            "yes" if row["predicted_dice"]["informative"] else "no, not shown to users",
        ]
        for row in result["structures"]
        if "predicted_dice" in row
    ]
    note = "Mean absolute error of the predicted Dice, and of the calibration cases' mean Dice said of every case."
    header = ["structure", "error", "error of the mean", "Spearman with true Dice", "informative on calibration cases"]
    return Table("Predicted Dice", note, header, rows)


def _intervals(result: Mapping[str, Any]) -> Table:
    rows = [
        [
            row["structure"],
            f"{100 * row['volume_interval']['level']:.0f} %",
            number(row["volume_interval"]["coverage"]),
            number(row["volume_interval"]["width"]),
            number(row["volume_interval"]["relative_width"]),
            str(row["volume_interval"]["cases"]),
        ]
        for row in result["structures"]
        if "volume_interval" in row
    ]
    note = "How many cases' true volume lies in the interval, and how wide the intervals are."
    header = ["structure", "promised", "covered", "width mm³", "width / true volume", "cases"]
    return Table("Volume intervals", note, header, rows)


def _input_check(result: Mapping[str, Any]) -> Table:
    """Make a row for each way in which a case differs from the training cases; warnings first."""
    check = result.get("input_check") or {"cases": 0, "unlike": [], "found": {}}
    rows = [[name, entry["severity"], entry["sentence"]] for name, said in check["found"].items() for entry in said]
    rows.sort(key=lambda row: row[1] == "note")
    note = (
        f"{len(check['unlike'])} of {check['cases']} cases look unlike the training cases (a warning or more); a note "
        "alone need not matter."
    )
    return Table("Input check", note, ["case", "severity", "what differs, and what to do"], rows, words=3)
