"""`segwithu worklist`: many segmented cases in the order in which a look at them pays most."""

import argparse
from pathlib import Path
from typing import Any

from ..case.case_file import case_folders
from ..review.worklist import SORTED_BY, Worklist, WorklistEntry, make_worklist
from ..review.worklist_files import WORKLIST_CSV, write_worklist
from .console import Console, table
from .flag_options import add_flag_options, flag_rules

_MOST_ROWS = 30


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `worklist`."""
    command = commands.add_parser(
        "worklist",
        parents=[common],
        help="sort segmented cases by what a look at them buys",
        description=f"Write worklist.csv and worklist.json, sorted by {SORTED_BY}. Reads case.json, regions.csv and "
        "the reviews' logs only.",
    )
    command.add_argument("cases", nargs="+", type=Path, metavar="CASES", help="case folders, or folders of them")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the worklist")
    add_flag_options(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Write and print the worklist; 1 where a case could not be read."""
    worklist = make_worklist(case_folders(options.cases), flag_rules(options))
    write_worklist(worklist, options.output)
    for entry in worklist.entries:
        for note in entry.notes:
            console.note(f"{entry.name}: {note}")
        if entry.trouble:
            console.error(entry.trouble)
    flagged, broken = (sum(bool(getattr(e, what)) for e in worklist.entries) for what in ("flags", "trouble"))
    data = {"cases": len(worklist.entries), "flagged": flagged, "unreadable": broken, "output": str(options.output)}
    console.result(_text(worklist, flagged, options.output), data)
    return 1 if broken else 0


def _text(worklist: Worklist, flagged: int, output: Path) -> str:
    shown = [entry for entry in worklist.entries if not entry.trouble]
    header = ["case", "flags", "worst structure", "wrong mm3", "open", "min", "mm3/min", "reviewed"]
    lines = [table(header, [_row(entry) for entry in shown[:_MOST_ROWS]], words=(0, 2, 7))] if shown else []
    if len(shown) > _MOST_ROWS:
        lines.append(f"... and {len(shown) - _MOST_ROWS} more in {WORKLIST_CSV}")
    lines.append(f"{flagged} of {len(worklist.entries)} cases are flagged; {worklist.pace}. Written to {output}.")
    return "\n".join(lines)


def _row(entry: WorklistEntry) -> list[str]:
    flags = str(len(entry.flags)) if entry.flags else ""
    reviewed = "; ".join(f"{r.reviewer} {r.decided}/{r.regions}" for r in entry.reviews)
    if entry.regions is None:
        return [entry.name, flags, "not calibrated", "", "", "", "", reviewed]
    wrong = "" if entry.expected_wrong_mm3 is None else f"{entry.expected_wrong_mm3:.0f}"
    opened = f"{entry.open_regions} of {entry.regions}"
    figures = [wrong, opened, f"{entry.minutes:.1f}", f"{entry.benefit:.0f}"]
    return [entry.name, flags, entry.worst_structure or "", *figures, reviewed]
