"""Evaluations of several heads on one frozen backbone side by side, each against the first.

    python Testing/Benchmarks/head_variants.py "paper=paper.json" "context=context.json" ... [--output DIR] [--name N]

The files are what `segwithu evaluate --output` wrote, for the same cases. Differences are paired, with 95 % bootstrap
intervals that draw patients. Writes N.json and N.md (head_variants).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

from SegWithUCore.metrics.bootstrap import mean_interval, paired_bootstrap  # noqa: E402

FIGURES = (
    "auroc whole error probability",
    "auprc whole error probability",
    "aurc whole error probability",
    "auroc band error probability",
    "aurc band error probability",
    "auprc whole ranking",
    "nll tempered by the map alone",
    "nll tempered",
    "brier tempered",
    "nll temperature scaling",
    "error probability brier",
    "error probability ece band",
    "aurc whole softmax by direction",
    "auprc whole softmax by direction",
)
DRAWS = 10_000


def main() -> int:
    """Compare, write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    parser.add_argument("--name", default="head_variants", help="of the two files (default: head_variants)")
    options = parser.parse_args()
    pairs = [text.partition("=") for text in options.evaluations]
    read = {name: json.loads(Path(file).read_text(encoding="utf-8")) for name, _, file in pairs}
    by_case = {name: evaluation["by_case"] for name, evaluation in read.items()}
    first = next(iter(by_case))
    if any(cases.keys() != by_case[first].keys() for cases in by_case.values()):
        parser.error("the evaluations are not of the same cases")
    patients = {name: details["patient"] for name, details in read[first]["details_by_case"].items()}
    found = {name: compared(cases, by_case[first], patients) for name, cases in by_case.items()}
    record = {"cases": sorted(by_case[first]), "against": first, "heads": found}
    (options.output / f"{options.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = table(record)
    (options.output / f"{options.name}.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


def compared(
    cases: dict[str, dict[str, float]], against: dict[str, dict[str, float]], patients: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Mean of each figure, and its paired difference with interval; cases in which it is not defined are left out."""
    found, groups = {}, [patients[name] for name in sorted(cases)]
    for figure in FIGURES:
        ours, theirs = ([by_case[name][figure] for name in sorted(cases)] for by_case in (cases, against))
        change = paired_bootstrap(ours, theirs, DRAWS, groups=groups)
        found[figure] = {
            "mean": mean_interval(ours).mean,
            "difference": change.mean,
            "low": change.low,
            "high": change.high,
        }
    return found


def table(record: dict[str, Any]) -> str:
    """The record as a page of Markdown."""
    names = list(record["heads"])
    lines = [
        f"# Heads on one frozen backbone, {len(record['cases'])} cases",
        f"Means over cases; in brackets the paired difference to *{record['against']}* with its 95 % bootstrap "
        "interval. By `Testing/Benchmarks/head_variants.py`.",
        "",
        "| figure | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for figure in FIGURES:
        cells = []
        for name in names:
            row = record["heads"][name][figure]
            interval = f" ({row['difference']:+.2g}: {row['low']:+.2g} to {row['high']:+.2g})"
            cells.append(f"{row['mean']:.4g}" + (interval if name != record["against"] else ""))
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
