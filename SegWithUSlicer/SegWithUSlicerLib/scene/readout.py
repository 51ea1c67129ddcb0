"""Texts about structures, and what is above a threshold, from the histograms in `case.json`; no MRML needed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from SegWithUCore.case.case_file import CHANGED_FILE, CaseDescription, Histograms, Structure
from SegWithUCore.util.errors import code_of

from ..i18n import _

MM3_IN_ML = 1000.0


@dataclass(frozen=True)
class AboveThreshold:
    """Part of one predicted structure above a threshold.

    Attributes:
        share: part of the structure's assessed voxels, 0 to 1; None for an empty structure.
        volume_mm3: None if the voxel size is not known.
    """

    value: int
    name: str
    share: float | None
    volume_mm3: float | None


def share_above(case: CaseDescription, map_name: str, threshold: float) -> list[AboveThreshold]:
    """List per structure the share and volume of voxels at or above `threshold` (in the map's unit).

    Inside the bin that the threshold cuts, voxels are assumed to be evenly distributed. Empty if the case has no
    such map or the map has no histograms.
    """
    info = case.maps.get(map_name)
    if info is None or info.histograms is None:
        return []
    rows = []
    for structure in case.structures:
        counts = info.histograms.counts.get(structure.value)
        total = 0.0 if counts is None else sum(counts)
        above = 0.0 if counts is None else float(np.interp(threshold, *voxels_above(info.histograms, counts)))
        share = above / total if total else None
        volume = None if case.voxel_mm3 is None else above * case.voxel_mm3
        rows.append(AboveThreshold(structure.value, structure.name, share, volume))
    return rows


def above_text(row: AboveThreshold) -> str:
    """Format a row for the user: "3.1 % of the anterior hippocampus, 42 mm3"."""
    if row.share is None:
        return _("{name}: empty").format(name=row.name)
    text = _("{percent:.1f} % of the {name}").format(percent=100 * row.share, name=row.name)
    return text if row.volume_mm3 is None else f"{text}, {volume_text(row.volume_mm3)}"


def typeset(text: str) -> str:
    """Write the unit of volumes as tables do; messages of the engine are plain text."""
    return text.replace("mm3", "mm³")


_COMMAND = r"(?<![^\s(`'\"])(?:--[a-z]|segwithu [a-z])"
"""An option or a command, in a message of the engine."""
_ADVICE = {
    "seen-cases": _("open a folder or a worklist without these cases, and teach with the others"),
    **dict.fromkeys((CHANGED_FILE, "changed-regions"), _("restore it from a copy, or segment its image again")),
    "several-series": _("load the series that is meant, and press Apply"),
    "other-channels": _("load the volumes, and press Apply"),
}
"""What a user of Slicer can do instead, by the code of the error."""


def for_panel(message: str) -> str:
    """Exchange the ways out that need the command line, in a message of the engine, for those that Slicer has.

    Example: "Folder is in use: wait, or share it with --part." becomes "Folder is in use: wait."
    """
    text = re.sub(rf" \([^()]*{_COMMAND}[^()]*\)", "", message)
    found = re.fullmatch(rf"(.*[:;] )?(.*{_COMMAND}.*?)\.?( \[[a-z-]+\])?", text, re.DOTALL)
    if found is None:
        return text
    problem, ways, code = (part or "" for part in found.groups())
    left = [way for way in re.split(r",? or |, ", ways) if not re.search(_COMMAND, way)]
    return f"{problem}{_ADVICE.get(code_of(code)) or ', or '.join(left)}".rstrip(":; ") + f".{code}"


def volume_text(volume_mm3: float | None) -> str:
    """Format a volume in the unit a reader expects: mm3 below 10 mL, else mL; "not assessed" for None."""
    if volume_mm3 is None:
        return _("not assessed")
    if volume_mm3 < 10 * MM3_IN_ML:
        return _("{volume:.0f} mm³").format(volume=volume_mm3)
    return _("{volume:.1f} mL").format(volume=volume_mm3 / MM3_IN_ML)


def expected_text(expected_mm3: float | None, interval_mm3: Sequence[float] | None) -> str:
    """Format the expected volume, with its interval if the model has one: "2180 mm3 (2010 to 2350 mm3)"."""
    volume = volume_text(expected_mm3)
    if expected_mm3 is None or interval_mm3 is None:
        return volume
    low, high = interval_mm3
    in_ml = high >= 10 * MM3_IN_ML
    low_text = f"{low / MM3_IN_ML:.1f}" if in_ml else f"{low:.0f}"
    high_text = f"{high / MM3_IN_ML:.1f} mL" if in_ml else volume_text(high)
    return _("{volume} ({low} to {high})").format(volume=volume, low=low_text, high=high_text)


def dice_text(structure: Structure) -> str:
    """Format the predicted Dice; "not informative" if it does not beat a constant, "not assessed" if there is none."""
    if structure.predicted_dice is not None:
        return f"{structure.predicted_dice:.2f}"
    return _("not informative") if structure.predicted_dice_informative is False else _("not assessed")


def voxels_above(histograms: Histograms, counts: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the edges of a histogram's bins, rising, and how many voxels lie above each."""
    edges = np.linspace(histograms.low, histograms.high, len(counts) + 1)
    return edges, np.append(np.cumsum(counts[::-1])[::-1], 0.0)
