"""`worklist.csv` and `worklist.json`: written beside or above the cases, which are named relative to them."""

import csv
import io
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..whole_files import whole_file
from .worklist import SORTED_BY, Worklist, WorklistEntry

WORKLIST_CSV, WORKLIST_JSON = "worklist.csv", "worklist.json"
COLUMNS = (
    *("rank", "case", "flags", "reasons", "worst_structure", "expected_wrong_mm3", "regions", "open_regions"),
    *("open_wrong_mm3", "minutes", "benefit_mm3_per_minute", "reviewed", "trouble", "folder"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_worklist(worklist: Worklist, folder: Path, anonymous: bool = False) -> None:
    """Write both files, each whole or not at all.

    Args:
        anonymous: leave out when it was made.

    Raises:
        OutputError: the folder cannot be written to.
    """
    rows = [_row(rank, entry, folder) for rank, entry in enumerate(worklist.entries, 1)]
    content = {
        "format": "segwithu-worklist",
        "format_version": 1,
        **({} if anonymous else {"created": datetime.now(UTC).isoformat(timespec="seconds")}),
        "sorted_by": SORTED_BY,
        "pace": worklist.pace,
        "seconds_per_region": worklist.seconds_per_region,
        "rules": None if worklist.rules is None else worklist.rules.to_json(),
        "cases": rows,
    }
    with whole_file(folder / WORKLIST_JSON) as work:
        work.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with whole_file(folder / WORKLIST_CSV) as work:
        work.write_text(worklist_csv(rows), encoding="utf-8")


def worklist_csv(rows: list[dict[str, Any]]) -> str:
    """The table for spreadsheets: one row a case, lists joined with semicolons."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        flags = row["flags"]
        told = {
            **row,
            "flags": "; ".join(dict.fromkeys(flag["rule"] for flag in flags)),
            "reasons": " ".join(flag["sentence"] for flag in flags),
            "reviewed": "; ".join(review["text"] for review in row["reviews"]),
        }
        writer.writerow([spreadsheet_cell(told[name]) for name in COLUMNS])
    return text.getvalue()


def read_worklist(path: Path) -> list[tuple[Mapping[str, Any], Path]]:
    """The cases of a `worklist.json`, each with its folder.

    Raises:
        InputError: it is no worklist.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != "segwithu-worklist":
            raise ValueError("another format")
        return [(row, path.parent / row["folder"]) for row in content["cases"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no worklist ({error}): give one that segwithu worklist wrote.") from error


def _row(rank: int, entry: WorklistEntry, base: Path) -> dict[str, Any]:
    known = entry.regions is not None
    return {
        "rank": rank,
        "case": entry.name,
        "flags": [flag.to_json() for flag in entry.flags],
        "worst_structure": entry.worst_structure,
        "expected_wrong_mm3": _rounded(entry.expected_wrong_mm3),
        "regions": entry.regions,
        "open_regions": entry.open_regions if known else None,
        "open_wrong_mm3": _rounded(entry.open_wrong_mm3) if known else None,
        "minutes": _rounded(entry.minutes) if known else None,
        "benefit_mm3_per_minute": _rounded(entry.benefit) if known else None,
        "reviews": [
            {"reviewer": r.reviewer, "decided": r.decided, "regions": r.regions, "when": r.when, "text": r.text}
            for r in entry.reviews
        ],
        "notes": list(entry.notes),
        "trouble": entry.trouble,
        "folder": _relative(entry.folder, base),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _relative(folder: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(folder.resolve(), base.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return folder.resolve().as_posix()


def spreadsheet_cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: names of cases and reviewers come from outside."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
