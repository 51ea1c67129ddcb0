"""What `segwithu segment` prints of a case: the figures of its structures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import table

if TYPE_CHECKING:
    from ..inference.case_writer import CaseResult
    from ..inference.structures import StructureFigures


def summary(result: "CaseResult", target: Path) -> str:
    """The table of one case."""
    from ..inference.fingerprint import is_refused

    refused = is_refused(result.warnings)
    rows = [_row(figures, refused) for figures in [*result.structures[1:], result.structures[0]]]
    header = ["structure", "volume mm3", "expected mm3", "predicted Dice", "wrong mm3", "error prob. > 0.25"]
    text = f"{result.name}\n{table(header, rows)}\n{_footnotes(result.structures[1:])}"
    if refused:
        text += "Not assessed: the image is too far from the training cases for figures to mean anything.\n"
    elif result.maps.error_probability is None:
        text += "This head is not calibrated: the ranking map orders voxels, but has no probabilities.\n"
    return f"{text}written to {target}\n"


def _row(figures: "StructureFigures", refused: bool) -> list[str]:
    is_structure = figures.label.value != 0
    name = figures.label.name if is_structure else "outside (missed tissue)"
    volume = f"{figures.volume_mm3:.0f}" if is_structure else ""
    if refused or figures.expected_wrong_mm3 is None or figures.uncertain_mm3 is None:
        words = "not assessed" if refused else "not calibrated"
        return [name, volume, *[words if is_structure else ""] * 2, words, words]
    share = f"{figures.uncertain_share:.1%} = " if is_structure else ""
    return [
        name,
        volume,
        _expected(figures) if is_structure else "",
        _dice(figures) if is_structure else "",
        f"{figures.expected_wrong_mm3:.0f}",
        f"{share}{figures.uncertain_mm3:.0f} mm3",
    ]


def _expected(figures: "StructureFigures") -> str:
    if figures.expected_volume_mm3 is None:
        return "not assessed"
    volume = f"{figures.expected_volume_mm3:.0f}"
    if figures.expected_interval_mm3 is None:
        return volume
    low, high = figures.expected_interval_mm3
    return f"{volume} ({low:.0f} to {high:.0f})"


def _dice(figures: "StructureFigures") -> str:
    if figures.predicted_dice is not None:
        return f"{figures.predicted_dice:.2f}"
    return "not informative" if figures.predicted_dice_informative is False else "not assessed"


def _footnotes(structures: "Sequence[StructureFigures]") -> str:
    counts = {figures.calibration_cases for figures in structures if figures.calibration_cases is not None}
    if not counts:
        return ""
    return f"In brackets the 90 % interval of the true volume, from {max(counts)} calibration cases.\n"


def structures_json(result: "CaseResult") -> list[dict[str, Any]]:
    """Figures per structure for machines."""
    return [figures.to_json() for figures in result.structures]
