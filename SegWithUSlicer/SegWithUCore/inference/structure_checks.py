"""Whether what was found is like what the training cases hold: asked once the case is segmented."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..models.bundle import Bundle
from .deviation import WARNING, Deviation
from .structures import FittedNumbers, StructureFigures


def structure_deviations(
    structures: Sequence[StructureFigures], bundle: Bundle, numbers: FittedNumbers
) -> list[Deviation]:
    """One sentence for each structure of a volume that no training case has, or of an unusually low predicted Dice.

    Args:
        structures: figures, background first.
    """
    volumes: Mapping[str, Any] = (bundle.fingerprint or {}).get("volumes_mm3") or {}
    checks = []
    for figures in structures[1:]:
        value = figures.label.value
        checks.append(_volume(figures, volumes.get(str(value)), bundle))
        checks.append(_dice(figures, numbers))
    return [check for check in checks if check is not None]


def _volume(figures: StructureFigures, span: Mapping[str, Any] | None, bundle: Bundle) -> Deviation | None:
    if span is None or span["low"] <= figures.volume_mm3 <= span["high"]:
        return None
    name, value = figures.label.name, figures.label.value
    seen = f"in the {span['cases']} training cases of '{bundle.name}' {span['low']:.0f} to {span['high']:.0f} mm3"
    if figures.voxels == 0:
        return Deviation(WARNING, f"No {name} was found ({seen}): check the region of interest.", "volume", value)
    small_large = "small" if figures.volume_mm3 < span["low"] else "large"
    return Deviation(
        WARNING,
        f"The {name} is unusually {small_large}: {figures.volume_mm3:.0f} mm3, {seen}; check whether it lies whole "
        "within the region of interest and whether the segmentation follows it.",
        "volume",
        value,
    )


def _dice(figures: StructureFigures, numbers: FittedNumbers) -> Deviation | None:
    fitted = numbers.dice.get(figures.label.value)
    if fitted is None or figures.predicted_dice is None or figures.predicted_dice >= fitted.lowest:
        return None
    return Deviation(
        WARNING,
        f"The segmentation of the {figures.label.name} is probably poor: predicted Dice {figures.predicted_dice:.2f}, "
        f"lower than in any of the {fitted.cases} calibration cases ({fitted.lowest:.2f} at least).",
        "predicted Dice",
        figures.label.value,
    )
