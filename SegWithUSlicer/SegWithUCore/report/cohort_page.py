"""The overview of a folder of cases: `index.html` with a preview of each case, and `structures.csv`."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..case.case_file import read_case
from ..case.case_folders import case_folders, holds_cases
from ..case.pictures import PREVIEW_FILE
from ..case.structures_table import STRUCTURES_FILE, write_structures_of
from ..review.worklist import WorklistEntry, make_worklist
from ..util.atomic_files import write_text
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
    worklist = make_worklist(folders)
    rows = [_row(entry) for entry in worklist.entries if not entry.trouble]
    page = render(
        "cohort.html",
        title=f"{output.resolve().name}: {len(rows)} cases",
        heading=output.resolve().name,
        alerts=worklist.warnings,
        lead=[f"{worklist.counts}.", worklist.order],
        rows=rows,
        table=STRUCTURES_FILE,
    )
    write_text(output / INDEX_FILE, page)
    return list(dict.fromkeys([*troubles, *(entry.trouble for entry in worklist.entries if entry.trouble)]))


def _row(entry: WorklistEntry) -> dict[str, Any]:
    """Make the content of a case on the page; links are relative to it, "" for none."""
    folder = entry.folder
    preview, report = (f"{quote(folder.name)}/{file}" if (folder / file).is_file() else "" for file in _FILES)
    return {
        "name": entry.name,
        "folder": quote(folder.name),
        "preview": preview,
        "report": report,
        "share": entry.share_text,
        "light": entry.light,
        "structures": [[row[0], row[1], row[-1]] for row in structures_table(read_case(folder)).rows],
    }
