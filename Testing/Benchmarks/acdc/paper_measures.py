"""Table the paper's measures, AUROC and AURC, by phase and structure, from what `run.py baselines` wrote.

    python Testing/Benchmarks/run.py acdc-paper-measures BASELINES.json SPLIT.csv TABLE.md

SPLIT.csv has the columns case, patient and phase. Means are over cases; the ratio to softmax is that of the means, with
a 95 % bootstrap interval over patients. Plain scores, as the paper has them: nothing is recalibrated. An error of a
structure is a wrong voxel that is predicted or true as it; its AUROC and AURC are those of the whole volume.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.metrics.bootstrap import ratio_interval
from SegWithUCore.util.strict_json import read_json

SOFTMAX = "maximum softmax"
PER_MILLE = 1000


def measures(result: Mapping[str, Any], split: Sequence[Mapping[str, str]]) -> str:
    """Write both tables as Markdown.

    Args:
        result: of `run.py baselines`, with `by_case`.
        split: rows of the table of cases.
    """
    by_case, phase = result["by_case"], {row["case"]: row["phase"] for row in split}
    patient = {row["case"]: row["patient"] for row in split}
    cases = list(by_case)
    chosen = {"all": cases} | {each: [c for c in cases if phase[c] == each] for each in sorted(set(phase.values()))}
    columns = [(name, "whole", its) for name, its in chosen.items()]
    columns += [(structure, structure, cases) for structure in result["dice"]]

    def values(row: str, title: str, its: Sequence[str]) -> list[float]:
        found = (by_case[case][row][title] for case in its)
        return [np.nan if value is None else value for value in found]

    lines = [f"# The paper's measures, {result['model']}, {len(cases)} volumes", ""]
    for metric, factor in (("auroc", 1), ("aurc", PER_MILLE)):
        lines += ["", f"## {metric.upper()}{'' if factor == 1 else f' x {factor}'}", ""]
        header = ["row", *(name for name, _, _ in columns)]
        if metric == "aurc":
            header.append("to softmax")
        lines += [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
        for row in by_case[cases[0]]:
            means = [np.nanmean(values(row, f"{metric} {of}", its)) * factor for _, of, its in columns]
            cells = [row, *(f"{mean:.4f}" for mean in means)]
            if metric == "aurc":
                both = (values(each, "aurc whole", cases) for each in (row, SOFTMAX))
                ratio = ratio_interval(*both, groups=[patient[case] for case in cases])
                cells.append(f"{ratio.mean:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Read the results and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("split", type=Path)
    parser.add_argument("table", type=Path)
    options = parser.parse_args()
    with options.split.open(newline="", encoding="utf-8") as file:
        split = list(csv.DictReader(file))
    options.table.write_text(measures(read_json(options.results), split), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
