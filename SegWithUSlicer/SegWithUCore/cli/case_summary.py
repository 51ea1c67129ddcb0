"""What the command line prints of a segmented case: a table of its structures, and what to do next."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from ..case.pictures import PREVIEW_FILE
from ..case.structures_table import OUTSIDE
from ..regions.region import UNCERTAIN
from .console import table

_HEADER = ["structure", "volume mm3", "expected mm3", "predicted Dice", "wrong mm3", f"error prob. > {UNCERTAIN:g}"]


def summary(name: str, facts: Mapping[str, Any], target: Path) -> str:
    """Make the table of one case.

    Args:
        facts: as `cohort.one_case.case_facts` returns them.
    """
    outside, *structures = facts["structures"]
    rows = [_row(metrics, facts["refused"]) for metrics in [*structures, outside]]
    text = f"{name}\n{table(_HEADER, rows)}\n"
    cases = [each["calibration_cases"] for each in structures if each["calibration_cases"] is not None]
    if cases:
        text += f"In brackets the 90 % interval of the true volume, from {max(cases)} calibration cases.\n"
    if facts["refused"]:
        text += "Not assessed: the image is too far from the training cases for figures to mean anything.\n"
    elif not facts["calibrated"]:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def _row(metrics: Mapping[str, Any], refused: bool) -> list[str]:
    is_structure = metrics["value"] != 0
    name, volume = (metrics["name"], f"{metrics['volume_mm3']:.0f}") if is_structure else (OUTSIDE, "")
    if refused or metrics["expected_wrong_mm3"] is None or metrics["uncertain_mm3"] is None:
        unknown = "not assessed" if refused else "not calibrated"
        return [name, volume, *[unknown if is_structure else ""] * 2, unknown, unknown]
    wrong, uncertain = f"{metrics['expected_wrong_mm3']:.0f}", f"{metrics['uncertain_mm3']:.0f} mm3"
    if not is_structure:
        return [name, volume, "", "", wrong, uncertain]
    expected, dice = metrics["expected_volume_mm3"], metrics["predicted_dice"]
    shown = "not assessed" if expected is None else f"{expected:.0f}"
    if expected is not None and metrics["expected_interval_mm3"] is not None:
        low, high = metrics["expected_interval_mm3"]
        shown += f" ({low:.0f} to {high:.0f})"
    unknown = "not informative" if metrics["predicted_dice_informative"] is False else "not assessed"
    share = f"{100 * metrics['uncertain_share']:.1f} % = {uncertain}"
    return [name, volume, shown, unknown if dice is None else f"{dice:.2f}", wrong, share]


def next_steps(case: Mapping[str, Any], target: Path) -> str:
    """Say where the picture of a case is, how many regions are to be reviewed, and which commands show them.

    Args:
        case: the content of its `case.json`.
    """
    found, text, preview = case.get("regions"), "", target / PREVIEW_FILE
    if found and found["count"]:
        text = f"{found['count']} regions to review, with {found['expected_wrong_in_regions_mm3']:.0f} mm3 of expected "
        text += f"error.\n  list    segwithu regions {quote(str(target))}\n"
        text += f"  review  segwithu web {quote(str(target))} --open\n"
    return f"{text}  picture {preview}\n" if preview.is_file() else text
