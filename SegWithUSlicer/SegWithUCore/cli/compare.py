"""`segwithu compare`: did a structure change between scans of one patient?"""

import argparse
from pathlib import Path
from typing import Any

from ..case.case_file import read_case
from ..case.case_folders import case_folders
from ..models.installed import resolve_model
from ..report.render import render
from ..review.changes import CHANGED, COLUMNS, NO_CHANGE, UNKNOWN, Comparison, compare
from ..util.atomic_files import atomic_folder, write_text
from ..util.csv_files import write_csv
from .arguments import add_command, refuse_if
from .console import Console, table

CHANGES_FILE, CHANGES_PAGE = "changes.csv", "changes.html"


def add_commands(commands: Any) -> None:
    """Add the command."""
    command = add_command(commands, "compare", run_compare)
    command.add_argument("scans", nargs="+", type=Path, metavar="CASE", help="case folders that segment wrote, of one "
        "patient, oldest first")  # fmt: skip
    command.add_shared("--model", required=False, help="the model that segmented them, with intervals of change of "
        "your own (default: the one that the cases name)")  # fmt: skip
    command.add_shared("--output", required=False, help=f"folder for {CHANGES_FILE} and {CHANGES_PAGE}")
    command.add_shared("--overwrite")


def run_compare(options: argparse.Namespace, console: Console) -> int:
    """Compare scans of one patient: did a structure change?

    Print the volume of each structure to be measured in the first scan and in each later one, the change, and its 90 %
    interval, from pairs of scans in which nothing changed: a change whose interval leaves out 0 is called changed. Of
    ten structures without a change about one is called so by chance. What a reader edited has no interval. All scans
    must be segmented by the same model and be of one contrast.

    Examples:
    compare results/scan_2021 results/scan_2024
    compare results/scan_2021 results/scan_2024 results/scan_2026 --output changes
    """
    folders = case_folders(options.scans)
    refuse_if((len(folders) < 2, f"{options.scans[0]} is one scan: give two or more, oldest first."))
    made = read_case(folders[0])["model"]
    found = compare(folders, resolve_model(options.model or f"{made['name']}@{made['version']}"))
    for warning in found.warnings:
        console.note(f"Warning: {warning}")
    if options.output:
        with atomic_folder(options.output, options.overwrite) as work:
            write_csv(work / CHANGES_FILE, COLUMNS, found.rows())
            title, lead = f"Changes since {found.scans[0]}", (found.basis,)
            page = render("changes.html", title=title, heading=title, lead=lead, alerts=found.warnings, found=found)
            write_text(work / CHANGES_PAGE, page)
    counts = {
        verdict: sum(each.verdict == verdict for each in found.changes) for verdict in (CHANGED, NO_CHANGE, UNKNOWN)
    }
    text = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    data = {"scans": found.scans, "changes": [dict(zip(COLUMNS, row, strict=True)) for row in found.rows()]}
    written = f"\nWritten to {options.output}." if options.output else ""
    console.result(f"{_table(found)}\n{text}. {found.basis}{written}", data | {"warnings": found.warnings})
    return 0


def _table(found: Comparison) -> str:
    several = ["scan"] if len(found.scans) > 2 else []
    header = ["structure", *several, "before mm³", "after mm³", "change", "90 % interval", "detectable", "verdict"]
    rows = [[each.structure, *[each.scan][: len(several)], *each.cells()] for each in found.changes]
    return table(
        header, rows, words=[place for place, title in enumerate(header) if title in ("structure", "scan", "verdict")]
    )
