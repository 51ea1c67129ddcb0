"""What the command line prints of a segmented case: a table of its structures, and the next commands."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from ..case.case_file import asked_structures, is_mask_alone
from ..case.case_files import regions_of_case
from ..case.pictures import PREVIEW_FILE
from ..case.structures_table import table_entries
from ..regions.region import Kind, Region, expected_wrong
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
        expected = "" if is_mask_alone(case) else f", expected {behind}"
        text += f"  {entry['name']}: {entry['volume_mm3']:.0f} mm³{expected}\n"
    text += f"{case['light']['reason']}\n{table(found.header, found.rows)}\n"
    if not refused and not case["model"]["calibrated"] and not is_mask_alone(case):
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def asked_regions(case: Mapping[str, Any], folder: Path) -> list[Region]:
    """Read the regions of what is to be measured, by rank; none without calibration.

    Args:
        case: the content of its `case.json`.
    """
    if not case.get("regions"):
        return []
    regions, asked = regions_of_case(folder, case)[0], asked_structures(case)
    return [region for region in regions if region.kind is not Kind.BLIND and region.is_about(asked)]


def next_steps(case: Mapping[str, Any], target: Path) -> str:
    """Name the picture of a case, the number of regions of what is to be measured, and the commands that show them.

    Args:
        case: the content of its `case.json`.
    """
    text, preview = "", target / PREVIEW_FILE
    if regions := asked_regions(case, target):
        count = len(asked_structures(case))
        text = f"{len(regions)} regions of {count} {'structure' if count == 1 else 'structures'} to review"
        if not is_mask_alone(case):
            text += f", with {expected_wrong(regions):.0f} mm³ of expected error.\n"
            text += f"  list    segwithu regions {quote(str(target))}"
        text += "\n"
        text += f"  review  segwithu web {quote(str(target))} --open\n"
    return f"{text}  picture {preview}\n" if preview.is_file() else text
