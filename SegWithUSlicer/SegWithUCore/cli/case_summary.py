"""What the command line prints of a segmented case: a table of its structures, and the next commands."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from ..case.pictures import PREVIEW_FILE
from ..report.tables import structures_table
from .console import table


def summary(case: Mapping[str, Any], target: Path, refused: bool = False) -> str:
    """Make the table of one case.

    Args:
        case: the content of its `case.json`.
        refused: whether the image is too far from the training cases.
    """
    found = structures_table(case)
    text = f"{case['name']}: {case['light']['level']}\n{case['light']['reason']}\n{table(found.header, found.rows)}\n"
    counts = [int(each["calibration_cases"]) for each in case["structures"] if each.get("calibration_cases")]
    if counts:
        text += f"In brackets after volumes: the 90 % interval, from {max(counts)} calibration cases.\n"
    if not refused and not case["model"]["calibrated"]:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def next_steps(case: Mapping[str, Any], target: Path) -> str:
    """Name the picture of a case, the number of its regions to review, and the commands that show them.

    Args:
        case: the content of its `case.json`.
    """
    found, text, preview = case.get("regions"), "", target / PREVIEW_FILE
    if found and found["count"]:
        text = f"{found['count']} regions to review, with {found['expected_wrong_in_regions_mm3']:.0f} mm3 of expected "
        text += f"error.\n  list    segwithu regions {quote(str(target))}\n"
        text += f"  review  segwithu web {quote(str(target))} --open\n"
    return f"{text}  picture {preview}\n" if preview.is_file() else text
