"""The table of baselines as Markdown and as one HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.report import (
    NAMES,
    WITHOUT,
    Table,
    cases_in_words,
    factor_of,
    markdown,
    number,
    tables_page,
    with_interval,
)
from .cost import CASES

DETECTION = ("auroc", "auprc", "aurc", "e-aurc", "augrc", "fpr95")
HIGHER_IS_BETTER = ("auroc", "auprc")
PROBABILITIES = {"nll": "NLL", "brier": "Brier", "ece whole": "ECE, whole", "ece band": "ECE, band", "ace": "ACE"}
REFITTED = "refitted "
COMPARED = [f"{metric} {region}" for metric in ("auprc", "aurc") for region in ("whole", "band")]
WITHIN = {
    "whole": "All that is assessed",
    "band": "Voxels within {band} of the predicted surface",
    "inside": "Voxels predicted as a structure, beyond the band",
}


def benchmark_tables(result: Mapping[str, Any]) -> list[Table]:
    """All tables of `Benchmark.run` that have rows."""
    tables = []
    for region in (each for each in result["regions"] if each["region"] in WITHIN):
        name = region["region"]
        note = (
            f"{WITHIN[name].format(band=result['band'])}: {with_interval(region['error_rate'], factor=100)} % are "
            f"wrong, the base rate of AUPRC. Wrong voxels in all: {region['errors']}; "
            f"{region['cases_without_errors']} cases have none, and so no AUROC, AUPRC and FPR."
        )
        if region["errors"]:
            tables.append(_metrics(result, f"Error detection: {name}", note, [f"{each} {name}" for each in DETECTION]))
    bare, made = result["bare"] or {}, result["made_with"]
    refitted = [REFITTED + title for title in ("auroc whole", "auroc band", *COMPARED, "brier", "ece band")]
    differences = (
        f'Each row minus "{result["reference"]}", in % of the latter\'s mean: paired, 95 % bootstrap interval over '
        "patients. For AUPRC more is better, for the others less."
    )
    cost = (
        f"Processor time beyond the bare backbone, which takes {number(bare.get('cpu_s'))} s a case: medians over "
        f"{bare.get('repeats')} turns through {min(CASES, result['cases'])} cases, all in one run "
        f"({made['processor']}, {made['threads']} threads, torch {made['torch']}). Passes include that of the frozen "
        "segmentation."
    )
    plain = "Of each row's own class probabilities; ECE is of 1 - the probability of the frozen class."
    fair = (
        "The fair comparison of error probabilities: every score is made one as ours is, isotonic and then by "
        "predicted class and runner-up, on the same calibration cases. One whose second stage was fitted on some of "
        "them stands as it is. Brier score and ECE of the event that a voxel is wrong."
    )

    def costs(row: Mapping[str, Any]) -> list[str]:
        share = (row["cost"] or {}).get("cpu_share")
        added = WITHOUT if share is None else f"{100 * share:+.3g} %"
        return [str(row["passes"]), added]

    title = "Every score as an error probability"
    tables += [
        _metrics(result, "Probabilities", plain, list(PROBABILITIES)),
        _by_baseline(result, "Cost", cost, ["passes", "added time"], costs),
        _differences(result, "Against one row", differences, [*COMPARED, "nll", "brier", "ace"]),
        _metrics(result, title, fair, refitted),
        _differences(result, f"{title}, against one row", differences, refitted[2:]),
        _by_baseline(result, "How each was run", "", ["how"], lambda row: [row["how"]], result["not_run"]),
    ]
    return [table for table in tables if table.rows]


def benchmark_texts(result: Mapping[str, Any]) -> tuple[str, str]:
    """Write all of it as Markdown, and as an HTML page that loads nothing."""
    title = f"Baselines on the frozen segmentation of {result['model']}"
    dice = ", ".join(f"{name} {number(entry['mean'])}" for name, entry in result["dice"].items())
    fitted = ", ".join(f"{count} {role}" for role, count in result["fitted_on"].items() if count)
    folds = result.get("folds") or {"rows": []}
    of_folds = (
        f" Fitted on {folds['cases']} training cases, too, each segmented as a new one by one of {folds['networks']} "
        f"networks that were trained without its patient: {', '.join(folds['rows'])}."
        if folds["rows"]
        else ""
    )
    about = (
        f"{cases_in_words(result)}; Dice {dice}. Every row judges the same segmentation, that of the backbone "
        f"{result['backbone_sha256'][:12]}. What is fitted was fitted on {fitted} cases, nothing on the test "
        f"cases.{of_folds} Means are over cases; intervals hold 95 % of bootstrap draws of patients, the same draws "
        "for every row. Bold: the best of a column."
    )
    tables = benchmark_tables(result)
    return f"# {title}\n{about}\n\n{markdown(tables)}", tables_page(title, [about], tables)


def _named(title: str) -> str:
    """Name a metric as it is shown."""
    title = title.removeprefix(REFITTED)
    metric, _, region = title.partition(" ")
    return PROBABILITIES[title] if title in PROBABILITIES else f"{NAMES[metric]}, {region}"


def _metrics(result: Mapping[str, Any], title: str, note: str, metrics: Sequence[str]) -> Table:
    """Make a table with a column a metric, the best in bold; rows of a baseline that say the same are one."""
    columns = []
    for metric in metrics:
        kind = metric.removeprefix(REFITTED).split()[0]
        means = [row["metrics"].get(metric, {}).get("mean") for row in result["rows"]]
        there = [mean for mean in means if mean is not None]
        best = (max(there) if kind in HIGHER_IS_BETTER else min(there)) if there else None
        cells = [number(mean, factor_of(kind) if kind in NAMES else 1.0) for mean in means]
        columns.append(
            [
                f"**{cell}**" if mean is not None and mean == best else cell
                for mean, cell in zip(means, cells, strict=True)
            ]
        )
    found: dict[tuple[str, ...], list[str]] = {}
    for row, shown in zip(result["rows"], zip(*columns, strict=True), strict=True):
        found.setdefault((row["baseline"], *shown), []).append(row["row"])
    rows = [["; ".join(names), *cells] for (_, *cells), names in found.items() if set(cells) != {WITHOUT}]
    return Table(title, note, ["row", *map(_named, metrics)], rows)


def _by_baseline(
    result: Mapping[str, Any],
    title: str,
    note: str,
    header: Sequence[str],
    cells: Any,
    further: Mapping[str, str] | None = None,
) -> Table:
    """Make a table with a line a baseline."""
    of: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["rows"]:
        of.setdefault(row["baseline"], []).append(row)
    rows = [["; ".join(row["row"] for row in its), *cells(its[0])] for its in of.values()]
    rows += [list(pair) for pair in (further or {}).items()]
    return Table(title, note, ["rows", *header], rows, words=2 if further is not None else 1)


def _differences(result: Mapping[str, Any], title: str, note: str, metrics: Sequence[str]) -> Table:
    rows = []
    for row in (row for row in result["rows"] if row["against_reference"]):
        entries = [(row["against_reference"].get(metric) or {}).get("relative") or {"mean": None} for metric in metrics]
        rows.append([row["row"], *(with_interval(entry, factor=100) for entry in entries)])
    return Table(title, note, ["row", *map(_named, metrics)], rows)
