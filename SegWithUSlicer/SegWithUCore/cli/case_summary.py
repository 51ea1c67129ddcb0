"""What the command line prints of a segmented case: a table of its structures, and the next commands."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from ..case.case_file import asked_structures
from ..case.pictures import PREVIEW_FILE
from ..case.region_files import read_regions
from ..case.structures_table import table_entries
from ..regions.region import Kind
from ..report.tables import expected_cell, structures_table
from .console import table

MAIN_VOLUMES = 4
"""Volumes that are printed before all else: of the structures that the user named, or else the model's first totals."""


def summary(case: Mapping[str, Any], target: Path, refused: bool = False) -> str:
    """Make what is printed of one case: first whether to look at it and its main volumes, then why, and the table.

    Args:
        case: the content of its `case.json`.
        refused: whether the image is too far from the training cases.
    """
    found, entries = structures_table(case), table_entries(case)
    asked = case["asked"] if case.get("asked_as") else ()
    shown = [each for each in entries if each["name"] in asked] or [each for each in entries if "of" in each]
    shown = shown or [each for each in entries if "value" in each]
    text = f"{case['name']}: {case['light']['level']}\n"
    for entry in shown[:MAIN_VOLUMES]:
        behind = ", ".join(filter(None, (expected_cell(entry), entry["held_text"])))
        text += f"  {entry['name']}: {entry['volume_mm3']:.0f} mm³, expected {behind}\n"
    text += f"{case['light']['reason']}\n{table(found.header, found.rows)}\n"
    if not refused and not case["model"]["calibrated"]:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def next_steps(case: Mapping[str, Any], target: Path) -> str:
    """Name the picture of a case, the number of its regions to review, and the commands that show them.

    Args:
        case: the content of its `case.json`.
    """
    text, preview = "", target / PREVIEW_FILE
    regions, asked = (read_regions(target), asked_structures(case)) if case.get("regions") else ((), ())
    if listed := [each for each in regions if each.kind is not Kind.BLIND and each.is_about(asked)]:
        wrong, what = sum(each.expected_wrong_mm3 for each in listed), "structure" if len(asked) == 1 else "structures"
        text = f"{len(listed)} regions of {len(asked)} {what} to review, with {wrong:.0f} mm³ of expected error."
        text += f"\n  list    segwithu regions {quote(str(target))}\n"
        text += f"  review  segwithu web {quote(str(target))} --open\n"
    return f"{text}  picture {preview}\n" if preview.is_file() else text
