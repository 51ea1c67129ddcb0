"""What a model can do: warnings from its unseen cases of each structure, and which parts of the OOD check it has.

All that a user is warned of is worded here, once: the end of a training, `models show`, the card, cases, worklists and
pages show these sentences.

What a model says of images unlike its training cases: the site of its calibration, and its table `away`.

No third-party packages, so that Slicer's own process can ask too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .bundle import Bundle
from .input_spec import Label

QUALITY = "quality"
"""Of the block in a bundle's calibration, by label value."""
QUALITY_KIND, EMPTY_KIND, MISPLACED_KIND = "model quality", "empty structure", "misplaced structure"
"""Kinds of the warnings in a case."""
POOR_DICE = 0.5
"""Below it, most of what is found or looked for is wrong."""
MOST = 0.5
"""A structure that is missed in more than this share of the cases that have it is one that the model does not draw."""
EXPECTED_SHARE = 0.95
"""A structure that this share of the unseen cases have is expected in every case. One in twenty is what surgery or a
narrow field of view may take; organs are above it, tumours, which a patient may not have, far below."""
WEAK_SHARE = 1 / 3
"""From this expected wrong share on, missed tissue included, a model is called weak; a Dice of about 0.83."""
LOOK_CASES = 40
"""Fewer training cases do not say how images usually look (`inference.ood_channels`)."""
NAMED = 5
"""Structures that a sentence names."""


@dataclass(frozen=True)
class StructureQuality:
    """How well a model segments a structure of cases that it was not trained with.

    Attributes:
        cases: number of calibration cases, and validation cases where they served, too.
        present: of these, cases whose reference has the structure.
        missed: of these, cases in which the model draws nothing of it.
        dice: mean over the cases in which reference or model have it; None if neither has it in any.
    """

    cases: int
    present: int
    missed: int
    dice: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measured_quality(cases: Iterable[tuple[float, int, int]]) -> StructureQuality:
    """Sum up Dice (NaN where neither has the structure), true and drawn voxels of a structure, one entry a case."""
    found = list(cases)
    dice = [float(value) for value, _, _ in found if math.isfinite(value)]
    drawn = [bool(predicted) for _, true, predicted in found if true]
    return StructureQuality(len(found), len(drawn), drawn.count(False), sum(dice) / len(dice) if dice else None)


@dataclass(frozen=True)
class Emptiness:
    """What it means that nothing of a structure was drawn in a case.

    Attributes:
        expected: whether the structure should be there; None if nobody knows.
        message: for people.
    """

    expected: bool | None
    message: str


def qualities(calibration: Mapping[str, Any] | None) -> dict[int, StructureQuality]:
    """Return what a calibration block says of each structure; that of the shipped model says nothing."""
    return {int(value): StructureQuality(**entry) for value, entry in ((calibration or {}).get(QUALITY) or {}).items()}


def model_warnings(bundle: Bundle) -> list[str]:
    """Say which structures a model does not draw, or too poorly to be used; nothing where that is not known."""
    return quality_warnings(bundle.name, bundle.labels, bundle.calibration, bundle.metrics)


def quality_warnings(
    name: str, labels: Sequence[Label], calibration: Mapping[str, Any] | None, metrics: Mapping[str, Any] | None = None
) -> list[str]:
    """As `model_warnings`, of the blocks of a bundle.

    Args:
        name: of the model.
        labels: background first.
        metrics: what was measured on test cases.
    """
    known, undrawn, poor = qualities(calibration), [], []
    for label in labels[1:]:
        found = known.get(label.value)
        if found is not None and found.missed > MOST * found.present:
            undrawn.append(f"{label.name} (nothing in {found.missed} of the {found.present} unseen cases that have it)")
        elif (worst := _lowest_dice(label, found, calibration, metrics)) is not None and worst[0] < POOR_DICE:
            poor.append(f"{label.name} (mean Dice {worst[0]:.2f} in {worst[1]} unseen cases)")
    messages = []
    if undrawn:
        messages.append(f"The model '{name}' does not draw {_listed(undrawn)}: it cannot be used for that.")
    if poor:
        why = f"below {POOR_DICE} most of what is drawn or looked for is wrong"
        messages.append(f"The model '{name}' is too poor to be used for {_listed(poor)}: {why}.")
    return messages


def weaknesses(bundle: Bundle) -> list[str]:
    """Say what more training or more cases would mend: much that is likely wrong, and what the OOD check lacks."""
    metrics, found = ((bundle.calibration or {}).get("flags") or {}).get("metrics") or {}, []
    shares = metrics.get("wrong_share") or []
    if shares and (share := min(median(shares), 1.0)) >= WEAK_SHARE:
        found.append(
            f"As much as {share * 100:.0f} % of what the model '{bundle.name}' draws is likely wrong (median of "
            f"{len(shares)} unseen cases): train longer or with more cases."
        )
    lacking, cases = checks_lacking(bundle), (bundle.ood_reference or {}).get("cases")
    if lacking and cases is not None:
        remedy = "train it again, it is of an older version"
        if cases < LOOK_CASES:
            remedy = f"train with {LOOK_CASES} cases or more, {cases} say too little about what is usual"
        found.append(f"The OOD check of '{bundle.name}' lacks {', '.join(lacking)}: {remedy}.")
    return found


def emptiness(bundle: Bundle, label: Label) -> Emptiness:
    """Say what it means that nothing of a structure was drawn in a case."""
    found = qualities(bundle.calibration).get(label.value)
    seen = ((bundle.ood_reference or {}).get("volumes_mm3") or {}).get(str(label.value))
    expected, why = None, f"how many cases have it is not known of the model '{bundle.name}'"
    if found is not None:
        expected = found.present >= EXPECTED_SHARE * found.cases
        why = f"{found.present} of {found.cases} unseen cases of '{bundle.name}' have it"
    elif seen is not None:
        expected = seen["low"] > 0
        span = f"{seen['low']:.0f} to {seen['high']:.0f} mm3"
        why = f"the {seen['cases']} cases that '{bundle.name}' was made with have {span} of it"
    remedy = ": check the image and the region of interest, and do not use this segmentation" if expected else ""
    return Emptiness(expected, f"Nothing was drawn of the {label.name} ({why}){remedy}.")


def _lowest_dice(
    label: Label,
    found: StructureQuality | None,
    calibration: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
) -> tuple[float, int] | None:
    """Return the lower of the mean Dice on cases of the calibration and on test cases, and on how many cases."""
    line = ((calibration or {}).get("predicted_dice") or {}).get(str(label.value))
    means = [(found.dice, found.cases)] if found is not None and found.dice is not None else []
    if found is None and line is not None:  # as of the shipped model
        means.append((float(line["mean"]), int(line["cases"])))
    rows = [row for row in (metrics or {}).get("table") or () if row.get("title") == f"dice {label.name}"]
    means += [(float(row["mean"]), int(row["cases"])) for row in rows if row.get("cases")]
    return min(means, default=None)


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - NAMED
    return ", ".join(parts[:NAMED]) + (f" and {more} more structures" if more > 0 else "")


IMAGE_QUALITY = "quality"
"""Block of an OOD reference: shading, sharpness and brightness of the training cases, by channel."""
_PARTS = {"channels": ("picture", "noise"), IMAGE_QUALITY: ("shading", "sharpness", "brightness")}
"""Parts of the OOD check by the block that they need; size and voxels are known to all models with a reference."""


def checks_lacking(bundle: Bundle) -> list[str]:
    """Name the parts of the OOD check that a model cannot do."""
    reference, channels = bundle.ood_reference or {}, bundle.input.channels
    lacking = [block for block in _PARTS if any((reference.get(block) or {}).get(name) is None for name in channels)]
    return [part for block in lacking for part in _PARTS[block]]


COLUMNS = ("images", "patients", "Dice", "expected over true errors", "within 20 %", "AUPRC")
NOT_MEASURED = "Not measured out of distribution."


def site_message(calibration: Mapping[str, Any] | None) -> str:
    """Say in one sentence on what a recalibrated model rests, and for what it holds; "" for any other."""
    site = (calibration or {}).get("site")
    if site is None:
        return ""
    factor, added, words = site.get("factor"), site.get("added"), []
    if added is not None:
        words.append(f"its error probability rests on {added['cases']} corrected cases alone")
    if factor is not None:
        words.append("factor {factor:.2g} ({low:.2g} to {high:.2g})".format(**factor))
    what = f": {', '.join(words)}" if words else ""
    return f"Calibrated on {site['patients']} patients of one site{what}; it holds for images of that site."


def site_command(name: str, cases: Path | None = None) -> str:
    """Return the command that calibrates a model for a site on cases."""
    place = "MY_CASES" if cases is None else f'"{cases}"' if " " in str(cases) else str(cases)
    return f"segwithu calibrate --model {name} --add {place} --output {name}_here"


def away_rows(away: Mapping[str, Any] | None) -> list[list[str]]:
    """Return the cells of the table `away` of a bundle, one row for each kind of images; none if not measured."""
    return [
        [
            str(row["images"]),
            str(row["patients"]),
            f"{row['dice']:.3f}",
            f"{row['expected_over_true']:.2f}",
            f"{100 * row['within_20_percent']:.0f} %",
            f"{row['auprc']:.3f}",
        ]
        for row in (away or {}).get("rows", ())
    ]


def away_lines(bundle: Bundle) -> tuple[str, ...]:
    """Return the site of a model and the table as sentences, for places without tables."""
    site, others = site_message(bundle.calibration), COLUMNS[1:]
    rows = [
        f"{cells[0]}: {', '.join(f'{name}: {cell}' for name, cell in zip(others, cells[1:], strict=True))}."
        for cells in away_rows(bundle.away)
    ]
    return (*([site] if site else []), *(rows or [NOT_MEASURED]))


def away_markdown(away: Mapping[str, Any] | None) -> str:
    """Return the table as Markdown, or that it was not measured."""
    rows = away_rows(away)
    if not rows:
        return NOT_MEASURED
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [COLUMNS, ["---"] * len(COLUMNS), *rows])
