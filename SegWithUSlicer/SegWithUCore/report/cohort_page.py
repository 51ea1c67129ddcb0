"""The overview of a folder of cases: `index.html` with a preview of each case, and `structures.csv`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..case.case_file import DAMAGED, read_case
from ..case.case_folders import case_folders, holds_cases
from ..case.pictures import PREVIEW_FILE
from ..case.structures_table import STRUCTURES_FILE, write_structures_of
from ..review.flags import WITHOUT_LIMITS, Rule, metrics_of_case, rules_of_case
from ..util.atomic_files import atomic_file
from ..util.errors import InputError
from .case_report import REPORT_FILE
from .render import render
from .tables import structures_table

INDEX_FILE = "index.html"
_FILES = (PREVIEW_FILE, REPORT_FILE)


def write_cohort_overview(output: Path) -> list[str]:
    """Write `structures.csv` and `index.html` about all cases in a folder, each whole or not at all.

    Returns:
        A sentence for each case that cannot be read.

    Raises:
        OutputError: the folder cannot be written to.
    """
    try:
        folders = case_folders([output])
    except InputError as error:  # there may be no case, for reasons that the run has reported
        return [str(error)] if holds_cases(output) else []
    troubles = write_structures_of(folders, output / STRUCTURES_FILE)
    rows = []
    for folder in folders:
        try:
            rows.append(_row(folder, read_case(folder)))
        except (InputError, *DAMAGED):
            continue  # reported by the table
    rows.sort(key=lambda row: row["order"])
    page = render(
        "cohort.html",
        title=f"{output.resolve().name}: {len(rows)} cases",
        heading=output.resolve().name,
        alerts=list(dict.fromkeys(sentence for row in rows for sentence in row["warnings"])),
        lead=[_lead(rows)],
        rows=rows,
        table=STRUCTURES_FILE,
    )
    with atomic_file(output / INDEX_FILE) as work:
        work.write_text(page, encoding="utf-8", errors="backslashreplace")
    return troubles


def _lead(rows: Sequence[Mapping[str, Any]]) -> str:
    flagged = sum(bool(row["flags"]) for row in rows)
    text = f"{len(rows)} cases, {flagged} flagged" if len(rows) != 1 else f"1 case, {flagged} flagged"
    if not any(row["active"] for row in rows):
        text += f" (no rule is active for this model: only {WITHOUT_LIMITS} flag a case)"
    return (
        f"{text}. First come those that lack a structure, then the largest expected wrong share of what is segmented."
    )


def _row(folder: Path, case: Mapping[str, Any]) -> dict[str, Any]:
    """Make the content of a case on the page; links are relative to it, "" for none."""
    name, share = str(case["name"]), metrics_of_case(case)["wrong_share"]
    flags = [(str(flag["rule"]), str(flag["message"])) for flag in case.get("flags") or []]
    lacks = any(rule == Rule.EMPTY for rule, _ in flags)
    preview, report = (f"{quote(folder.name)}/{file}" if (folder / file).is_file() else "" for file in _FILES)
    return {
        "name": name,
        "active": rules_of_case(case).active,
        "folder": quote(folder.name),
        "preview": preview,
        "report": report,
        "share": "" if share is None else f"{100 * min(share, 9.99):.0f} %",
        "flags": [sentence for _, sentence in flags],
        "structures": [[row[0], row[1], row[-1]] for row in structures_table(case).rows],
        "order": (not lacks, share is None, -(share or 0.0), name),
        "warnings": [sentence for rule, sentence in flags if rule == Rule.MODEL],
    }
