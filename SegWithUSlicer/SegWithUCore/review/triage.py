"""Figures that order cases, and how a case ranks among those that its model was calibrated on. Standard library only.

They need no fitted limit: with the usual twenty calibration cases no limit may tell bad cases from good ones beyond
chance, and yet the worst case is often that of the largest expected wrong share or of the lowest predicted Dice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

FIGURES = ("wrong_share", "wrong_mm3", "predicted_dice")
"""What a bundle keeps of its calibration cases (`calibration.flags.figures`), sorted, for each of them."""
FIGURE_DIGITS = 6
"""Of the figures that a bundle keeps."""
LARGEST = 1e6
"""Stands for the infinite share of an empty segmentation, since JSON knows no infinity."""


def told_apart(value: float, limit: float, digits: int) -> tuple[str, str]:
    """Write a value and the limit that it is beyond, with more digits where fewer read the same."""
    for count in range(digits, digits + 4):
        texts = f"{value:.{count}f}", f"{limit:.{count}f}"
        if texts[0] != texts[1]:
            break
    return texts


@dataclass(frozen=True)
class Rank:
    """How a case compares with the calibration cases by one figure.

    Attributes:
        better: calibration cases that look better.
        cases: all of them that have the figure.
    """

    better: int
    cases: int

    @property
    def text(self) -> str:
        """For tables."""
        return f"{self.better} of {self.cases}"


@dataclass(frozen=True)
class Triage:
    """Figures of a whole case; None for what its model does not give.

    Attributes:
        wrong_share: expected wrong volume, missed tissue included, over the volume of all structures.
        wrong_mm3: that expected wrong volume.
        predicted_dice: the lowest of its structures, also where the prediction is not informative.
        ranks: by figure, among the calibration cases; without those that say nothing: of the share where nothing was
            segmented, of the predicted Dice where it is not informative. Empty for bundles that do not know them.
        rules_active: whether any limit of a figure can flag the case.
    """

    wrong_share: float | None = None
    wrong_mm3: float | None = None
    predicted_dice: float | None = None
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    rules_active: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether something is expected to be missed, and nothing was segmented."""
        return self.wrong_share is not None and self.wrong_share >= LARGEST

    @property
    def sentences(self) -> list[str]:
        """Say how the case ranks, for people."""
        said = []
        if (rank := self.ranks.get("wrong_share")) and self.wrong_share is not None:
            what = f"{100 * self.wrong_share:.0f} %"
            said.append(
                f"The expected wrong volume, missed tissue included, is {what} of the segmented volume: larger than "
                f"in {rank.text} calibration cases."
            )
        elif self.is_empty and self.wrong_mm3 is not None:
            said.append(f"Nothing was segmented; {self.wrong_mm3:.0f} mm3 are expected to be missed.")
        if (rank := self.ranks.get("predicted_dice")) and self.predicted_dice is not None:
            said.append(
                f"The lowest predicted Dice of a structure is {self.predicted_dice:.2f}: lower than in {rank.text} "
                "calibration cases."
            )
        return said


UNKNOWN = Triage()
"""Of a case that was not read."""


def figures_of_case(case: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the `FIGURES` of a case.

    Args:
        case: the content of its `case.json`.
    """
    wrong = [float(entry["expected_wrong_mm3"]) for entry in case["structures"]
             if entry.get("expected_wrong_mm3") is not None]  # fmt: skip
    volume = sum(float(entry["volume_mm3"]) for entry in case["structures"] if int(entry["value"]) != 0)
    dice = [value for entry in case["structures"] if (value := dice_estimate(entry)) is not None]
    total = sum(wrong) if wrong else None
    return {
        "wrong_share": None if total is None else share(total, volume),
        "wrong_mm3": total,
        "predicted_dice": min(dice, default=None),
    }


def dice_estimate(entry: Mapping[str, Any]) -> float | None:
    """Predicted Dice of a structure, informative or not; None if there is none."""
    value = entry.get("dice_estimate")
    return None if value is None else float(value)


def triage_of(case: Mapping[str, Any], rules_active: bool) -> Triage:
    """Return the figures of a case, and its ranks among the calibration cases of its model.

    Args:
        case: the content of its `case.json`.
        rules_active: whether any limit of a figure can flag it.
    """
    figures = figures_of_case(case)
    known = ((case.get("model") or {}).get("flags") or {}).get("figures") or {}
    share_found, wrong, dice = (figures[name] for name in FIGURES)
    found = Triage(share_found, wrong, dice, rules_active=rules_active)
    silent = {"wrong_share"} if found.is_empty else set()
    estimated = [entry for entry in case["structures"] if dice_estimate(entry) is not None]
    if not all(entry.get("predicted_dice") is not None for entry in estimated):
        silent.add("predicted_dice")
    ranks = {
        name: _rank(value, [float(other) for other in known[name]], low_is_bad=name == "predicted_dice")
        for name, value in figures.items()
        if value is not None and known.get(name) and name not in silent
    }
    return replace(found, ranks=ranks)


def share(part: float, whole: float) -> float:
    """Part over whole; `LARGEST` if there is a part of nothing."""
    return min(part / whole, LARGEST) if whole > 0 else LARGEST if part > 0 else 0.0


def _rank(value: float, others: list[float], low_is_bad: bool) -> Rank:
    value = round(value, FIGURE_DIGITS)  # as theirs, else a tie would look like the worst of all
    better = sum(other > value if low_is_bad else other < value for other in others)
    return Rank(better, sum(math.isfinite(other) for other in others))
