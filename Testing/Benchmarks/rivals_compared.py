"""Compare rows of two benchmarks of the same segmentation and cases, such as without and with cases of fold networks.

    python Testing/Benchmarks/rivals_compared.py BEFORE/rivals.json AFTER/rivals.json

Prints, for each refitted figure, every row that both have (after minus before), and every row of either in % of AFTER's
reference row; 95 % bootstrap intervals over patients, the part of a case's name before "_frame".
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "SegWithUSlicer"))

from SegWithUCore.metrics.bootstrap import paired_bootstrap, ratio_interval
from SegWithULab.benchmark.benchmark import REFITTED

FIGURES = {"auprc whole": 1.0, "aurc band": 1e3, "brier": 1e3, "ece band": 1.0}
"""By title behind `REFITTED`, with the factor in print."""


def main() -> int:
    """Print both lists and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after))
    if before["by_case"].keys() != after["by_case"].keys() or before["backbone_sha256"] != after["backbone_sha256"]:
        parser.error("the two benchmarks have other cases or another backbone")
    patients = [name.split("_frame")[0] for name in after["by_case"]]
    for title, factor in FIGURES.items():
        old, new = (_values(found, f"{REFITTED}{title}") for found in (before, after))
        reference = new[after["reference"]]
        print(f"\n{title}")
        for row, values in {**old, **new}.items():
            share = ratio_interval(values, reference, patients)
            told = [f"{100 * (value - 1):+.1f}" for value in (share.mean, share.low, share.high)]
            line = f"  {row}: {factor * sum(values) / len(values):.4f}, {told[0]} % ({told[1]} to {told[2]})"
            if row in old and row in new:
                gap = paired_bootstrap(new[row], old[row], groups=patients)
                told = [f"{factor * value:+.4f}" for value in (gap.mean, gap.low, gap.high)]
                line += f"; before {factor * sum(old[row]) / len(values):.4f}, {told[0]} ({told[1]} to {told[2]})"
            print(line)
    return 0


def _values(found: dict[str, Any], title: str) -> dict[str, list[float]]:
    """A figure of all cases, by row; rows without it are left out."""
    rows = next(iter(found["by_case"].values()))
    return {
        row: [case[row][title] for case in found["by_case"].values()]
        for row in rows
        if all(case[row].get(title) is not None for case in found["by_case"].values())
    }


if __name__ == "__main__":
    sys.exit(main())
