"""A recipe for a data set, with the reason for each choice: spacing, window, levels, normalisation, head.

Rules follow nnU-Net's planner (Isensee et al., Nature Methods 18, 2021) where it applies, with a budget of a processor
instead of a graphics card; what differs is said in `Choice.reason`.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from SegWithUCore.util.errors import UsageError

from .data_survey import AIR_HU, CaseFacts, Survey

WINDOW_VOXELS = 1 << 18
"""Most voxels of a window: a step on one processor core then takes 1 to 2 s with the filters below."""
BATCH_VOXELS = 600_000
"""Most voxels of a batch, 4 windows at most."""
FEWEST_DEEPEST = 5
"""Voxels that the deepest level keeps along the shortest axis that is halved; nnU-Net keeps 4."""
FEWEST_LEVELS, MOST_LEVELS = 3, 5
"""What MONAI's DynUNet needs, and what the paper's has."""
FIRST_FILTERS, MOST_FILTERS = 16, 192
THICK_RATIO = 3.0
"""Coarsest to finest spacing from which slices count as thick, as in nnU-Net."""
EQUAL_SPACING = 0.01
COLORS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)
"""Okabe and Ito's palette, which colour-blind people can tell apart."""
_SIDE = re.compile(r"left|right|\bl\b|\br\b|_l$|_r$|^l_|^r_|ventric|atri", re.IGNORECASE)
"""Names that say that a structure has a side, or lies in a heart, which is no mirror image of itself."""


@dataclass(frozen=True)
class Choice:
    """One decision of the plan: what was decided, on what, in words."""

    name: str
    value: str
    reason: str


@dataclass
class Plan:
    """A recipe as JSON and why it is as it is.

    Attributes:
        recipe: fits `recipe.schema.json`.
        choices: in the order in which they were made.
    """

    recipe: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)


@dataclass(frozen=True)
class Wishes:
    """What the user said; None where the data decide.

    Attributes:
        name: of the model.
        modality: DICOM modality.
        task: what the model segments, for its card.
        precision: of the trainings.
        names: of label values.
        mirror: whether left and right may be exchanged.
        spacing_mm: along the axes of the orientation.
    """

    name: str
    modality: str | None = None
    task: str | None = None
    precision: str = "float32"
    names: Mapping[int, str] = field(default_factory=dict)
    mirror: bool | None = None
    spacing_mm: tuple[float, ...] | None = None


def plan(survey: Survey, wishes: Wishes) -> Plan:
    """Plan a recipe; epochs are filled in by `with_epochs` once a step has been timed.

    Raises:
        UsageError: a name is wished for a label value that does not occur.
    """
    choices: list[Choice] = []
    modality = _modality(survey, wishes, choices)
    orientation = _orientation(survey, choices)
    spacing = _spacing(survey, orientation, wishes, choices)
    window, levels, flat = _window(survey, orientation, spacing, choices)
    labels = _labels(survey, wishes)
    batch = max(1, min(4, BATCH_VOXELS // math.prod(window)))
    choices.append(Choice("batch", f"{batch} windows", f"at most {BATCH_VOXELS:,} voxels a step"))
    mirror = _mirror(labels, wishes, choices)
    filters = [min(FIRST_FILTERS * 2**level, MOST_FILTERS) for level in range(levels)]
    training = {"batch_size": batch, "precision": wishes.precision, "mirror": mirror, "seed": 1}
    recipe = {
        "about": {
            "name": wishes.name,
            "version": "1.0.0",
            "task": wishes.task or f"{', '.join(str(label['name']) for label in labels[1:])} in {modality} images.",
            "licence_weights": "not stated",
            "licence_data": "not stated",
            "data": f"the training cases of {wishes.name}",
            "citation": "not stated",
        },
        "input": {
            "channels": survey.channels or _channel_names(survey, modality),
            "modality": modality,
            "orientation": orientation,
            "spacing_mm": list(spacing),
            "window": list(window),
            "normalisation": _normalisation(survey, modality, choices),
        },
        "labels": labels,
        "backbone": {"kind": "dynunet", "filters": filters, **({"flat_levels": flat} if flat else {})},
        "head": {
            "variant": "context",
            "taps": taps_of(levels),
            "feature_channels": 32,
            "probes": 8,
            "aleatoric": True,
        },
        "backbone_training": {
            "epochs": 100,
            "learning_rate": 0.002,
            "validate_every": 2,
            "deep_supervision_heads": min(2, levels - 2),
            **training,
        },
        "head_training": {
            "epochs": 24,
            "learning_rate": 0.0015,
            "final_learning_rate": 0.00005,
            **training,
        },
    }
    return Plan(recipe, choices)


def taps_of(levels: int) -> list[str]:
    """Name the last three stages of a DynUNet's decoder, or two where there are no more; from coarse to fine."""
    return [f"upsamples.{level}.conv_block" for level in range(max(0, levels - 4), levels - 2)] + ["output_block"]


def along(facts: CaseFacts, orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """Size and spacing of a case along the axes of `orientation`."""
    order = [next(i for i, letter in enumerate(facts.orientation) if letter in pair) for pair in _pairs(orientation)]
    return np.array(facts.size)[order], np.array(facts.spacing_mm)[order]


def _pairs(orientation: str) -> list[str]:
    return [next(pair for pair in ("LR", "AP", "SI") if letter in pair) for letter in orientation]


def _modality(survey: Survey, wishes: Wishes, choices: list[Choice]) -> str:
    if wishes.modality:
        choices.append(Choice("modality", wishes.modality, "as you said"))
        return wishes.modality
    air = np.mean([min(facts.lowest) < AIR_HU and facts.whole_numbers for facts in survey.cases])
    if air > 0.5:
        reason = f"whole numbers below {AIR_HU} in {100 * air:.0f} % of the images, as only air in a CT has"
        choices.append(Choice("modality", "CT", reason))
        return "CT"
    choices.append(Choice("modality", "MR", "intensities have no unit (say --modality where that is wrong)"))
    return "MR"


def _channel_names(survey: Survey, modality: str) -> list[str]:
    count = len(survey.cases[0].case.channels)
    return [modality] if count == 1 else [f"{modality} {number}" for number in range(1, count + 1)]


def _orientation(survey: Survey, choices: list[Choice]) -> str:
    (letters, count), *_ = Counter(facts.orientation for facts in survey.cases).most_common(1)
    reason = f"{count} of {len(survey.cases)} images lie so"
    choices.append(Choice("orientation", letters, reason))
    return letters


def _spacing(survey: Survey, orientation: str, wishes: Wishes, choices: list[Choice]) -> tuple[float, ...]:
    if wishes.spacing_mm is not None:
        choices.append(Choice("spacing", f"{_times(wishes.spacing_mm)} mm", "as you said"))
        return tuple(map(float, wishes.spacing_mm))
    spacings = np.array([along(facts, orientation)[1] for facts in survey.cases])
    median = np.median(spacings, 0)
    reason = "median of the images"
    if np.ptp(spacings, 0).max() <= EQUAL_SPACING * median.max():
        reason = "all images have it"
    elif median.max() >= THICK_RATIO * median.min():
        axis = int(median.argmax())
        median[axis] = np.percentile(spacings[:, axis], 10)
        reason = "median of the images; across thick slices their 10th percentile, so that few slices are lost"
        median[axis] = max(median[axis], np.delete(median, axis).max())
    value = tuple(float(f"{part:.5g}") for part in median)
    choices.append(Choice("spacing", f"{_times(value)} mm", reason))
    return value


def _window(
    survey: Survey, orientation: str, spacing: Sequence[float], choices: list[Choice]
) -> tuple[tuple[int, ...], int, int]:
    """Choose the window, the number of levels, and how many of them look within thick slices only."""
    sizes = []
    for facts in survey.cases:
        size, own = along(facts, orientation)
        sizes.append(np.rint(size * own / np.array(spacing)))
    wanted, share = np.max(sizes, axis=0), "all"
    if wanted.prod() > WINDOW_VOXELS:
        wanted, share = np.percentile(sizes, 95, axis=0), "95 % of the"
    flat = _flat_levels(spacing)
    thick = int(np.argmax(spacing)) if flat else -1
    window = wanted.copy()
    while window.prod() > WINDOW_VOXELS:  # shrink what is longest in mm, but never across thick slices first
        extents = window * np.array(spacing)
        if thick >= 0 and window[thick] * 4 < np.delete(window, thick).max():
            extents[thick] = 0
        longest = extents >= extents.max() * 0.99
        window[longest] *= 0.97
    levels = _levels(window, thick)
    divisors = [1 if axis == thick else 2 ** (levels - 1) for axis in range(3)]
    rounded = tuple(
        max(by, int((math.ceil if part >= full else round)(part / by)) * by)
        for part, full, by in zip(window, wanted, divisors, strict=True)
    )
    covers = bool(np.all(np.array(rounded) >= wanted))
    what = f"covers {share} cases whole" if covers else f"cut out of larger images, at most {WINDOW_VOXELS:,} voxels"
    choices.append(Choice("window", f"{_times(rounded)} voxels", what))
    choices.append(Choice("levels", str(levels), f"the deepest keeps {FEWEST_DEEPEST} voxels or more along an axis"))
    flat = min(flat, levels)
    if flat:
        ratio = max(spacing) / min(spacing)
        reason = f"slices are {ratio:.1f} times as thick as pixels are wide, so their number is never halved"
        choices.append(Choice("flat levels", str(flat), reason))
    return rounded, levels, flat


def _flat_levels(spacing: Sequence[float]) -> int:
    ratio = max(spacing) / min(spacing)
    return math.ceil(math.log2(ratio)) if ratio >= THICK_RATIO else 0


def _levels(window: np.ndarray, thick: int) -> int:
    """Halve as long as the shortest axis that is halved keeps enough voxels."""
    shortest = min(float(size) for axis, size in enumerate(window) if axis != thick)
    deepest = int(math.log2(max(1.0, shortest / FEWEST_DEEPEST) * 1.03)) + 1  # 1.03: sizes are rounded up afterwards
    return max(FEWEST_LEVELS, min(MOST_LEVELS, deepest))


def _normalisation(survey: Survey, modality: str, choices: list[Choice]) -> dict[str, Any] | list[dict[str, Any]]:
    if modality != "CT":
        reason = "percentiles 0.5 and 99.5 clipped, then mean 0 and deviation 1 in each image: units differ"
        choices.append(Choice("normalisation", "volume", reason))
        return {"kind": "volume", "low": 0.5, "high": 99.5}
    blocks = []
    for channel in range(len(survey.cases[0].case.channels)):
        values = np.concatenate([facts.foreground[channel] for facts in survey.cases])
        low, high = np.percentile(values, [0.5, 99.5])
        inside = np.clip(values, low, high)
        numbers = {"low": low, "high": high, "mean": inside.mean(), "std": max(float(inside.std()), 1e-3)}
        blocks.append({"kind": "fixed", **{name: round(float(value), 2) for name, value in numbers.items()}})
    reason = f"{blocks[0]['low']:g} to {blocks[0]['high']:g}, percentiles 0.5 and 99.5 of labelled voxels: CT has units"
    choices.append(Choice("normalisation", "fixed", reason))
    return blocks[0] if len(blocks) == 1 else blocks


def _labels(survey: Survey, wishes: Wishes) -> list[dict[str, Any]]:
    names, known = {**survey.names, **wishes.names}, survey.label_values[1:]
    for value, name in wishes.names.items():
        if value not in known:
            there = ", ".join(map(str, known))
            raise UsageError(f'--label {value}="{name}" names a value that no reference holds: they hold {there}.')
    labels: list[dict[str, Any]] = [{"value": 0, "name": "background", "color": [0, 0, 0]}]
    for number, value in enumerate(known):
        color = COLORS[number % len(COLORS)]
        labels.append({"value": value, "name": names.get(value, f"structure {value}"), "color": list(color)})
    return labels


def _mirror(labels: Sequence[Mapping[str, Any]], wishes: Wishes, choices: list[Choice]) -> bool:
    if wishes.mirror is not None:
        choices.append(Choice("mirror", _yes(wishes.mirror), "as you said"))
        return wishes.mirror
    names = [str(label["name"]) for label in labels[1:]]
    sided = [name for name in names if _SIDE.search(name) or name.startswith("structure ")]
    reason = "no name of a structure has a side"
    if sided:
        reason = f"'{sided[0]}' may have a side (say --mirror where left and right may be exchanged)"
    choices.append(Choice("mirror", _yes(not sided), reason))
    return not sided


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def plan_page(plan: Plan, survey: Survey, costs: Sequence[str], roles: Mapping[str, int], source: str) -> str:
    """Write the reasons down, as Markdown.

    Args:
        costs: sentences on time and memory.
        roles: number of cases of each role, if they were drawn here.
        source: of the data.
    """
    lines = [f"# Plan for {plan.recipe['about']['name']}", "", f"From {len(survey.cases)} cases of `{source}`.", ""]
    lines += ["| what | chosen | because |", "|---|---|---|"]
    lines += [f"| {choice.name} | {choice.value} | {choice.reason} |" for choice in plan.choices]
    lines += ["", "## Cost", "", *(f"- {sentence}" for sentence in costs)]
    if roles:
        listed = ", ".join(f"{count} {role}" for role, count in roles.items())
        lines += [
            "",
            "## Split",
            "",
            f"Drawn by patient (seed 0): {listed}. *test* was checked, and not planned on.",
        ]
    lines += ["", "## Structures", "", "| label | name | cases | median volume (mm3) |", "|---|---|---|---|"]
    for label in plan.recipe["labels"][1:]:
        volumes = [
            facts.label_voxels[label["value"]] * float(np.prod(facts.spacing_mm))
            for facts in survey.cases
            if label["value"] in facts.label_voxels
        ]
        lines.append(f"| {label['value']} | {label['name']} | {len(volumes)} | {np.median(volumes):.0f} |")
    problems = [*survey.unusable.values(), *survey.warnings]
    lines += ["", "## To look at", "", *(f"- {sentence}" for sentence in problems or ["nothing was found"])]
    return "\n".join(lines) + "\n"
