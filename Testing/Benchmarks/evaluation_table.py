#!/usr/bin/env python3
"""Keep of `segwithu evaluate`'s report what docs quote: its main table as CSV, without cases and curves.

segwithu evaluate --model M --cases TABLE.csv:test --report DIR
python Testing/Benchmarks/run.py evaluation-table DIR/metrics.json Testing/Benchmarks/results/NAME.csv
"""

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from SegWithUCore.util.strict_json import read_json

COLUMNS = ("what", "mean", "low", "high", "p10", "p90", "cases")


def rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Name each number: metrics, comparisons, and what was measured of each structure."""
    for row in report["table"]:
        yield {"what": row["title"], **row}
    for what, found in report["comparisons"].items():
        yield {"what": what, **found} if isinstance(found, Mapping) else {"what": what, "mean": found}
    for structure in report["structures"]:
        for block in ("predicted_dice", "volume_interval"):
            for key, found in (structure.get(block) or {}).items():
                what = f"{structure['structure']}: {block.replace('_', ' ')}, {key.replace('_', ' ')}"
                yield (
                    {"what": what, "mean": found["value"], **found}
                    if isinstance(found, Mapping)
                    else {"what": what, "mean": found}
                )


def main() -> int:
    """Read the report and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("table", type=Path)
    options = parser.parse_args()
    with options.table.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for row in rows(read_json(options.report)):
            table.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
