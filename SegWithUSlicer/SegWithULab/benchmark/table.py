"""The baselines' table as Markdown, CSV and one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SegWithUCore.util.csv_files import table_of, write_csv

from ..evaluation.report import cases_in_words, tables_page
from ..evaluation.report_tables import NAMES, PER_MILLE, WITHOUT, Table, markdown, number, with_interval
from .benchmark import REFITTED
from .cost import CASES, REPEATS

DETECTION = ("auroc", "auprc", "aurc", "e-aurc", "augrc", "fpr95")
HIGHER_IS_BETTER = {"auroc", "auprc"}
PROBABILITIES = {"nll": "NLL", "brier": "Brier", "ece whole": "ECE, whole", "ece band": "ECE, band", "ace": "ACE"}
WITHIN = {
    "whole": "all that is assessed",
    "band": "voxels within {band} of the predicted surface",
    "inside": "voxels predicted as a structure, beyond the band",
}


def benchmark_tables(result: Mapping[str, Any]) -> list[Table]:
    """All tables of `summary.benchmark_summary`."""
    tables = [_detection(result, region) for region in WITHIN]
    tables += [_probabilities(result), _cost(result), _differences(result), _refitted(result)]
    tables += [_refitted_differences(result), _how(result)]
    return [table for table in tables if table.rows]


def benchmark_markdown(result: Mapping[str, Any]) -> str:
    """Write the whole text."""
    head = f"# Baselines on the frozen segmentation of {result['model']}\n{about(result)}\n\n"
    return head + markdown(benchmark_tables(result))


def benchmark_page(result: Mapping[str, Any], plot: Path | None) -> str:
    """Write the same as one HTML page that loads nothing.

    Args:
        plot: from `table.draw_baselines`, if there is one.
    """
    title = f"{result['model']}: baselines on one frozen segmentation"
    figures = [] if plot is None else [(WORDS, plot)]
    return tables_page(title, [about(result)], benchmark_tables(result), before={"": figures})


def about(result: Mapping[str, Any]) -> str:
    """Say what was compared, on what."""
    dice = ", ".join(f"{name} {number(entry['mean'])}" for name, entry in result["dice"].items())
    fitted = ", ".join(f"{count} {role}" for role, count in result["fitted_on"].items() if count)
    return (
        f"{cases_in_words(result)}; Dice {dice}. Every row judges the same segmentation, that of the backbone "
        f"{result['backbone_sha256'][:12]}: its errors are the errors of all rows. What is fitted was fitted on "
        f"{fitted} cases, nothing on the test cases.{_of_folds(result)} Means are over cases; intervals hold 95 % of "
        "bootstrap draws of patients, the same draws for every row. Bold: the best of a column."
    )


def _of_folds(result: Mapping[str, Any]) -> str:
    found = result.get("folds")
    if not found or not found["rows"]:
        return ""
    return (
        f" Fitted on {found['cases']} training cases, too, each segmented as a new one by one of {found['networks']} "
        f"networks that were trained without its patient: {', '.join(found['rows'])}."
    )


def write_table(path: Path, result: Mapping[str, Any]) -> None:
    """Write a CSV file with a line a row: means, intervals and costs."""
    write_csv(path, *table_of([_csv_row(row) for row in result["rows"]]))


def _csv_row(row: Mapping[str, Any]) -> dict[str, str]:
    cost = row["cost"] or {}
    found = {"row": row["row"], "rival": row["rival"], "passes": str(row["passes"])}
    found["added parameters"] = str(row["added_parameters"])
    for key in ("wall_s", "cpu_s", "wall_share", "cpu_share", "peak_mb"):
        found[f"added {key}"] = _plain_number(cost.get(key))
    for title, entry in row["figures"].items():
        found[title] = _plain_number(entry["mean"])
        found[f"{title} low"], found[f"{title} high"] = (_plain_number(entry.get(key)) for key in ("low", "high"))
    return found


def _plain_number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _detection(result: Mapping[str, Any], region: str) -> Table:
    rate = next(row for row in result["regions"] if row["region"] == region)
    columns = [
        _column(result, f"{figure} {region}", figure in HIGHER_IS_BETTER, 1000.0 if figure in PER_MILLE else 1.0)
        for figure in DETECTION
    ]
    within = WITHIN[region].format(band=result["band"])
    note = (
        f"{within[0].upper()}{within[1:]}: {with_interval(rate['error_rate'], factor=100)} % are wrong, the base rate "
        f"of AUPRC. Wrong voxels in all: {rate['errors']}; {rate['cases_without_errors']} cases have none, and so no "
        "AUROC, AUPRC and FPR."
    )
    rows = _rows(result, columns) if rate["errors"] else []
    return Table(f"Error detection: {region}", note, ["row", *(NAMES[f] for f in DETECTION)], rows)


def _probabilities(result: Mapping[str, Any]) -> Table:
    columns = [_column(result, title, False) for title in PROBABILITIES]
    note = (
        "Of each row's own class probabilities: NLL, Brier score (summed over classes), ACE (mean of foreground "
        "classes, 20 bins of equal width); ECE (15 bins of equal mass) of 1 - the probability of the frozen class "
        "against its errors. Rows that are no probability have none."
    )
    rows = [row for row in _rows(result, columns) if set(row[1:]) != {WITHOUT}]
    rows = _joined(result, rows)
    return Table("Probabilities", note, ["row", *PROBABILITIES.values()], rows)


def _cost(result: Mapping[str, Any]) -> Table:
    seen, rows = set(), []
    for row in result["rows"]:
        if row["rival"] not in seen:
            seen.add(row["rival"])
            rows.append([_together(result, row["rival"]), *_cost_cells(row)])
    bare, made = result["bare"] or {}, result["made_with"]
    note = (
        f"Beyond the bare backbone, which takes {number(bare.get('cpu_s'))} s of processor time, "
        f"{number(bare.get('wall_s'))} s by the clock and {number(bare.get('peak_mb'))} MB a case: medians over "
        f"{bare.get('repeats', REPEATS)} turns through {min(CASES, result['cases'])} cases, all in one run "
        f"({made['processor']}, {made['threads']} threads, torch {made['torch']}). Processor time counts all threads "
        "and is disturbed less by other programs. Passes include that of the frozen segmentation. Heads are timed as "
        "`segment` runs them, runner-up and sums by class included."
    )
    header = ["rows", "passes", "added parameters", "added time, processor", "by the clock", "added peak memory"]
    return Table("Cost", note, header, rows)


def _cost_cells(row: Mapping[str, Any]) -> list[str]:
    cost = row["cost"] or {}
    shares = [WITHOUT if cost.get(key) is None else f"{100 * cost[key]:+.3g} %" for key in ("cpu_share", "wall_share")]
    memory = WITHOUT if cost.get("peak_mb") is None else f"{cost['peak_mb']:.0f} MB"
    return [str(row["passes"]), str(row["added_parameters"]), *shares, memory]


def _together(result: Mapping[str, Any], baseline: str) -> str:
    return "; ".join(row["row"] for row in result["rows"] if row["rival"] == baseline)


def _differences(result: Mapping[str, Any]) -> Table:
    titles = ["auprc whole", "auprc band", "aurc whole", "aurc band", "nll", "brier", "ace"]
    return Table(
        "Against one row",
        f"{_against(result)} Absolute differences are in the JSON file.",
        ["row", *(_title(title) for title in titles)],
        _difference_rows(result, titles),
    )


def _refitted_differences(result: Mapping[str, Any]) -> Table:
    titles = ["auprc whole", "auprc band", "aurc whole", "aurc band", "brier", "ece band"]
    return Table(
        "Every score as an error probability, against one row",
        _against(result),
        ["row", *(_title(title) for title in titles[:4]), "Brier", "ECE, band"],
        _difference_rows(result, [REFITTED + title for title in titles]),
    )


def _against(result: Mapping[str, Any]) -> str:
    return (
        f'Each row minus "{result["reference"]}", in % of the latter\'s mean: paired, 95 % bootstrap interval over '
        "patients. For AUPRC more is better, for the others less."
    )


def _difference_rows(result: Mapping[str, Any], titles: Sequence[str]) -> list[list[str]]:
    rows = []
    for row in result["rows"]:
        found = row["against_reference"]
        if found:
            rows.append([row["row"], *(_relative(found.get(title)) for title in titles)])
    return rows


def _relative(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["relative"]["mean"] is None:
        return WITHOUT
    mean, low, high = (entry["relative"][key] for key in ("mean", "low", "high"))
    if low is None:
        return f"{100 * mean:+.3g}"
    return f"{100 * mean:+.3g} ({100 * low:+.3g} to {100 * high:+.3g})"


def _refitted(result: Mapping[str, Any]) -> Table:
    titles = [f"{figure} {region}" for figure in ("auroc", "auprc", "aurc") for region in ("whole", "band")]
    columns = [
        _column(
            result,
            REFITTED + title,
            title.split()[0] in HIGHER_IS_BETTER,
            1000.0 if title.split()[0] in PER_MILLE else 1.0,
        )
        for title in titles
    ]
    columns += [_column(result, REFITTED + title, False, factor) for title, factor in (("brier", 1e3), ("ece band", 1))]
    note = (
        "The fair comparison of error probabilities: every score is made one as ours is, isotonic and then by "
        "predicted class and runner-up, on the same calibration cases. The error probability of a head with stage two "
        "that was fitted on some of them stands as it is: its last step was fitted on values of cases that it had not "
        "seen. Brier score and ECE of the event that a voxel is wrong."
    )
    header = ["row", *(_title(title) for title in titles), "Brier x 1000", "ECE, band"]
    return Table("Every score as an error probability", note, header, _rows(result, columns))


def _how(result: Mapping[str, Any]) -> Table:
    seen = dict.fromkeys(row["rival"] for row in result["rows"])
    how = {row["rival"]: row["how"] for row in result["rows"]}
    rows = [[_together(result, baseline), how[baseline]] for baseline in seen]
    rows += [[title, reason] for title, reason in result["not_run"].items()]
    return Table("How each was run", "", ["rows", "how"], rows, words=2)


def _title(title: str) -> str:
    figure, _, region = title.partition(" ")
    if not region:
        return PROBABILITIES[figure]
    return f"{NAMES[figure]}, {region}"


def _column(result: Mapping[str, Any], title: str, higher: bool, factor: float = 1.0) -> list[str]:
    """Cells of all rows; the best is bold."""
    means = [row["figures"].get(title, {}).get("mean") for row in result["rows"]]
    there = [mean for mean in means if mean is not None]
    best = (max(there) if higher else min(there)) if there else None
    return [
        f"**{number(mean, factor)}**" if mean is not None and mean == best else number(mean, factor) for mean in means
    ]


def _rows(result: Mapping[str, Any], columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[row["row"], *cells] for row, cells in zip(result["rows"], zip(*columns, strict=True), strict=True)]


def _joined(result: Mapping[str, Any], rows: Sequence[list[str]]) -> list[list[str]]:
    """Rows of one baseline that say the same, as one."""
    baselines = {row["row"]: row["rival"] for row in result["rows"]}
    found: dict[tuple[str, ...], list[str]] = {}
    for title, *cells in rows:
        found.setdefault((baselines[title], *cells), []).append(title)
    return [["; ".join(titles), *cells] for (_, *cells), titles in found.items()]


PANELS = {
    "auprc whole": ("AUPRC, whole", 1.0, "more is better"),
    "aurc whole": ("AURC x 1000, whole", 1000.0, "less is better"),
    "aurc band": ("AURC x 1000, band", 1000.0, "less is better"),
    "nll": ("NLL", 1.0, "less is better"),
}
ONE_PASS, SEVERAL, OURS = "#0072b2", "#8a8a8a", "#d55e00"
WORDS = (
    "Means over cases with 95 % bootstrap intervals over patients. Orange: heads of SegWithU; blue: other baselines of "
    "one pass; grey: several passes. The dashed line is the row that the others are compared with."
)


def draw_baselines(result: Mapping[str, Any], path: Path) -> None:
    """Draw a row for each row of the table, a panel for each headline.

    Args:
        result: from `summary.benchmark_summary`.
        path: PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    rows = result["rows"]
    size = (13.0, 0.9 + 0.3 * len(rows))
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=size, layout="constrained", sharey=True)
    for axis, (title, (words, factor, better)) in zip(axes, PANELS.items(), strict=True):
        for place, row in enumerate(rows):
            entry = row["figures"].get(title, {})
            if entry.get("mean") is not None:
                _draw_interval(axis, place, entry, factor, _color(row))
                if row["row"] == result["reference"]:
                    axis.axvline(entry["mean"] * factor, color="black", lw=0.8, ls="--", zorder=0)
        axis.set_title(f"{words}\n{better}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="#dddddd", lw=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=8)
        if title.startswith("aurc"):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
    axes[0].set_yticks(range(len(rows)), [row["row"] for row in rows], fontsize=8)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110, format="png", facecolor="white")
    pyplot.close(figure)


def _draw_interval(axis: Any, place: int, entry: Mapping[str, Any], factor: float, color: str) -> None:
    mean = entry["mean"] * factor
    low, high = (entry.get(key) for key in ("low", "high"))
    sides = None if low is None or high is None else [[mean - low * factor], [high * factor - mean]]
    axis.errorbar([mean], [place], xerr=sides, fmt="o", color=color, ms=4.5, elinewidth=1.4)


def _color(row: Mapping[str, Any]) -> str:
    if row["rival"].startswith("head-"):
        return OURS
    return ONE_PASS if row["passes"] == 1 else SEVERAL
