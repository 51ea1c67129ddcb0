"""The table of baselines as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from SegWithULab.evaluation.report import NAMES, WITHOUT, Table, cases_text, factor_of, markdown, number, with_interval

from .benchmark import CASES, REFITTED

DETECTION = ("auroc", "auprc", "aurc", "e-aurc", "augrc", "fpr95")
PROBABILITIES = {"nll": "NLL", "brier": "Brier", "ece whole": "ECE, whole", "ece band": "ECE, band", "ace": "ACE"}
COMPARED = [f"{REFITTED}{metric} {region}" for metric in ("auprc", "aurc") for region in ("whole", "band")]
WITHIN = {
    "whole": "All that is assessed",
    "band": "Voxels within {band} of the predicted surface",
    "inside": "Voxels predicted as a structure, beyond the band",
}
PLAIN = "Of each row's own class probabilities; ECE is of 1 - the probability of the frozen class."
FAIR = (
    "The fair comparison of error probabilities: every score is made one as ours is, isotonic and then by predicted "
    "class and runner-up, on the same calibration cases. One whose second stage was fitted on some of them stands as "
    "it is. Brier score and ECE of the event that a voxel is wrong."
)


def benchmark_tables(result: Mapping[str, Any]) -> list[Table]:
    """All tables of `Benchmark.run` that have rows."""
    tables = []
    for region in (each for each in result["regions"] if each["region"] in WITHIN and each["errors"]):
        name = region["region"]
        note = (
            f"{WITHIN[name].format(band=result['band'])}: {with_interval(region['error_rate'], factor=100)} % are "
            f"wrong, the base rate of AUPRC. Wrong voxels in all: {region['errors']}; "
            f"{region['cases_without_errors']} cases have none, and so no AUROC, AUPRC and FPR."
        )
        tables.append(_metrics(result, f"Error detection: {name}", note, [f"{each} {name}" for each in DETECTION]))
    bare, made = result["bare"] or {}, result["made_with"]
    differences = (
        f'Each row minus "{result["reference"]}", in % of the latter\'s mean: paired, 95 % bootstrap interval over '
        "patients; scores as error probabilities. For AUPRC more is better, for the others less."
    )
    cost = (
        f"Processor time beyond the bare backbone, which takes {number(bare.get('cpu_s'))} s a case: medians over "
        f"{bare.get('repeats')} turns through {min(CASES, result['cases'])} cases, all in one run "
        f"({made['processor']}, {made['threads']} threads, torch {made['torch']}). Passes include that of the frozen "
        "segmentation."
    )
    title = "Every score as an error probability"
    further = [f"{REFITTED}brier", f"{REFITTED}ece band"]
    shown = [f"{REFITTED}auroc whole", f"{REFITTED}auroc band", *COMPARED, *further]
    tables += [
        _metrics(result, "Probabilities", PLAIN, list(PROBABILITIES)),
        _metrics(result, title, FAIR, shown),
        _differences(result, f"{title}, against one row", differences, [*COMPARED, *further, "nll"]),
        _runs(result, cost),
    ]
    return [table for table in tables if table.rows]


def benchmark_text(result: Mapping[str, Any]) -> str:
    """Write all of it as Markdown."""
    dice = ", ".join(f"{name} {number(entry['mean'])}" for name, entry in result["dice"].items())
    folds = result.get("folds") or {"rows": []}
    of_folds = (
        f" Fitted on {folds['cases']} training cases, too, each segmented as a new one by one of {folds['networks']} "
        f"networks that were trained without its patient: {', '.join(folds['rows'])}."
        if folds["rows"]
        else ""
    )
    return (
        f"# Baselines on the frozen segmentation of {result['model']}\n{cases_text(result)}; Dice {dice}. Every "
        f"row judges the same segmentation, that of the backbone {result['backbone_sha256'][:12]}. What is fitted was "
        f"fitted on {result['fitted_on']['calibration']} calibration cases, nothing on the test cases.{of_folds} Means "
        "are over cases; intervals hold 95 % of bootstrap draws of patients, the same draws for every row. Bold: the "
        f"best of a column.\n\n{markdown(benchmark_tables(result))}"
    )


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
        best = (max(there) if kind in ("auroc", "auprc") else min(there)) if there else None
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


def _runs(result: Mapping[str, Any], note: str) -> Table:
    """Make the table of how each baseline was run and what it costs."""
    of: dict[str, list[Mapping[str, Any]]] = {}
    for row in result["rows"]:
        of.setdefault(row["baseline"], []).append(row)
    rows = [[title, WITHOUT, WITHOUT, reason] for title, reason in result["not_run"].items()]
    for its in of.values():
        share = (its[0]["cost"] or {}).get("cpu_share")
        added = WITHOUT if share is None else f"{100 * share:+.3g} %"
        rows.append(["; ".join(row["row"] for row in its), str(its[0]["passes"]), added, its[0]["how"]])
    return Table("Cost, and how each was run", note, ["rows", "passes", "added time", "how"], rows)


def _differences(result: Mapping[str, Any], title: str, note: str, metrics: Sequence[str]) -> Table:
    rows = []
    for row in (row for row in result["rows"] if row["against_reference"]):
        entries = [(row["against_reference"].get(metric) or {}).get("relative") or {"mean": None} for metric in metrics]
        rows.append([row["row"], *(with_interval(entry, factor=100) for entry in entries)])
    return Table(title, note, ["row", *map(_named, metrics)], rows)
