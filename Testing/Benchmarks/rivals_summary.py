"""The rivals' table as the README shows it: every number out of a `rivals.json`, the best of a column in bold.

python Testing/Benchmarks/rivals_summary.py Testing/Benchmarks/results/acdc_rivals.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]
TITLES = ("row", "AUROC whole / band", "AUPRC", "the same, every score refitted", "AURC x 1000 whole / band")
COLUMNS: tuple[tuple[tuple[str, float, int, bool], ...], ...] = (
    (("auroc whole", 1, 3, True), ("auroc band", 1, 3, True)),
    (("auprc whole", 1, 3, True),),
    (("refitted auprc whole", 1, 3, True),),
    (("aurc whole", 1e3, 3, False), ("aurc band", 1e3, 2, False)),
    (("nll", 1, 4, False),),
    (("brier", 1, 4, False),),
    (("ace", 1, 3, False),),
)
"""Figure, factor, decimals, and whether more is better."""


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rivals", type=Path, help="rivals.json of `segwithu benchmark`")
    print(table(json.loads(parser.parse_args().rivals.read_text(encoding="utf-8"))))
    return 0


def table(summary: dict[str, Any]) -> str:
    """The rows in Markdown; those that were not run say why."""
    rows, titles = summary["rows"], (*TITLES, "NLL", "Brier", "ACE", "passes", "added time")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    best = {figure[0]: _best(rows, *figure) for column in COLUMNS for figure in column}
    for row in rows:
        cells = [" / ".join(_shown(row, best, *figure) for figure in column) for column in COLUMNS]
        share = (row["cost"] or {}).get("cpu_share")
        cost = "" if share is None else f"{100 * share:+.0f} %"
        lines.append(f"| {' | '.join([row['row'], *cells, str(row['passes']), cost])} |")
    lines += [f"| {title} | {reason} |" + " |" * (len(titles) - 2) for title, reason in summary["not_run"].items()]
    return "\n".join(lines)


def _printed(row: Row, figure: str, factor: float, decimals: int) -> float | None:
    """As printed: rows that look the same are equally good."""
    mean = row["figures"].get(figure, {}).get("mean")
    return None if mean is None else round(mean * factor, decimals)


def _best(rows: list[Row], figure: str, factor: float, decimals: int, more: bool) -> float | None:
    values = [value for row in rows if (value := _printed(row, figure, factor, decimals)) is not None]
    return (max(values) if more else min(values)) if values else None


def _shown(row: Row, best: dict[str, float | None], figure: str, factor: float, decimals: int, more: bool) -> str:
    value = _printed(row, figure, factor, decimals)
    if value is None:
        return "-"
    text = f"{value:.{decimals}f}"
    return f"**{text}**" if value == best[figure] else text


if __name__ == "__main__":
    raise SystemExit(main())
