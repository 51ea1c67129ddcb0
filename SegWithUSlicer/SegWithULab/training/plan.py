"""Plan a recipe for a data set, with the reason for each choice: spacing, window, levels, normalisation, epochs.

The rules follow nnU-Net's planner (Isensee et al., Nature Methods 18, 2021), with the budget of a processor instead of
a graphics card; `Choice.reason` says what differs.
"""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.util.atomic_files import atomic_file
from SegWithUCore.util.csv_files import write_csv
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.progress import Progress, silent

from .dataset import find_cases
from .recipe import Recipe, read_recipe_json, recipe_from_json
from .split import patients_by_name, roles
from .survey import CaseMetadata, Survey, survey_for_plan

RECIPE, REASONS, SPLIT = "recipe.json", "plan.md", "split.csv"
WINDOW_VOXELS = 1 << 18
"""Most voxels of a window: a step on one processor core then takes 1 to 2 s, and a training about 1.4 GB."""
BATCH_VOXELS, LARGEST_BATCH = 600_000, 4
FEWEST_DEEPEST = 5
"""Voxels that the deepest level keeps along the shortest axis that is halved; nnU-Net keeps 4."""
FEWEST_LEVELS, MOST_LEVELS = 3, 5
"""What MONAI's DynUNet needs, and what the paper's has."""
FIRST_FILTERS, MOST_FILTERS = 16, 192
THICK_RATIO = 3.0
"""Coarsest to finest spacing from which slices count as thick, as in nnU-Net."""
EQUAL_SPACING = 0.01
AIR_HU = -500
"""Below it, a CT shows air; no other modality is usually stored with such values."""
BACKBONE_SHARE, HEAD_SHARE = 0.65, 0.25
"""Of the hours; the rest is for calibration and evaluation."""
EPOCH_OVERHEAD = 1.15
"""Drawing windows and validating, on top of the steps."""
HEAD_EPOCH = 1.4
"""What an epoch of the head takes in epochs of the backbone (52 s to 37 s measured)."""
FEWEST_EPOCHS, MOST_EPOCHS, FEW_EPOCHS = 2, 400, 20
FOLDS = 3
"""Cross-validation models, each trained from scratch on the cases of the other folds: together twice the backbone."""
EPOCHS_BEFORE_FOLDS = 40
"""The backbone gets as many first; cross-validation models come only where the hours allow both."""
COLORS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
"""Okabe and Ito's palette, which colour-blind people can tell apart."""
_SIDE = re.compile(r"left|right|\bl\b|\br\b|_l$|_r$|^l_|^r_|ventric|atri", re.IGNORECASE)
"""Names of structures that have a side, or lie in a heart, which is not symmetric."""


@dataclass(frozen=True)
class Choice:
    """One decision of the plan: what was chosen, and why."""

    name: str
    value: str
    reason: str


@dataclass
class Plan:
    """A recipe that fits `recipe.schema.json`, and the choices in their order."""

    recipe: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)


@dataclass(frozen=True)
class PlanOptions:
    """What the user asks of a plan; None where the data decide.

    Attributes:
        name: of the model.
        modality: DICOM modality.
        task: what the model segments, for its card.
        labels: names of label values.
        mirror: whether left and right may be exchanged.
        spacing_mm: along the axes of the orientation.
        hours: for the whole training.
        patient_pattern: regular expression whose first group is the patient.
        leave_out_bad: plan without the cases that cannot be used.
    """

    name: str
    modality: str | None = None
    task: str | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    mirror: bool | None = None
    spacing_mm: tuple[float, ...] | None = None
    hours: float | None = None
    patient_pattern: str | None = None
    leave_out_bad: bool = False


@dataclass(frozen=True)
class PlanResult:
    """What a plan came to.

    Attributes:
        name: of the model.
        table: of the split.
        cases, unusable: how many.
        backbone_s, folds_s, head_s: predicted time of the trainings.
    """

    name: str
    table: Path
    cases: int
    unusable: int
    backbone_s: float
    folds_s: float
    head_s: float


def make_plan(
    data: Path,
    output: Path,
    options: PlanOptions,
    given: Path | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda message: None,
) -> PlanResult:
    """Survey a data set, plan a recipe, time a step, and write recipe, reasons and, where there is none, a split.

    Args:
        data: an nnU-Net data set folder, a split table, or a folder with `images` and `labels`.
        output: folder for `recipe.json`, `plan.md` and `split.csv`.
        given: a recipe to use instead of the planned one.
        note: receives the warnings on the data.

    Raises:
        InputError: cases cannot be used, and were not left out.
        UsageError: an option does not fit the data.
    """
    from .recipe_check import check_recipe

    table = table_of(data)
    found = survey_for_plan(data, table, options.leave_out_bad, progress, note)
    split = None if table.is_file() else _drawn_split(found, options.patient_pattern)
    planned_on = [one for one in found.cases if split is None or split[one.case.name][1] != "test"]
    planned = plan(replace(found, cases=planned_on), options)
    recipe = planned.recipe if given is None else read_recipe_json(given)
    check_recipe(recipe_from_json(recipe, str(given or RECIPE)), str(given or RECIPE))
    note("Timing a few steps of the training...")
    step_s = time_step(recipe_from_json(recipe, RECIPE))
    train = _training_cases(found, split, table)
    if options.hours is not None and given is None:
        recipe, choice = choose_epochs(recipe, options.hours, step_s, train)
        planned.choices.append(choice)
    whole = recipe_from_json(recipe, RECIPE)
    seconds = training_seconds(whole, step_s, train)
    page = _page(planned, found, _cost(whole, step_s, train, seconds), split, data)
    output.mkdir(parents=True, exist_ok=True)
    if split is not None:
        rows = []
        for one in found.cases:
            folders = one.case.channels[0].parent.resolve(), one.case.reference.parent.resolve()
            patient, role = split[one.case.name]
            rows.append([one.case.name, role, patient, *map(str, folders)])
        write_csv(output / SPLIT, ["case", "role", "patient", "images", "labels"], rows)
    for name, text in ((REASONS, page), (RECIPE, json.dumps(recipe, indent=1, ensure_ascii=False) + "\n")):
        with atomic_file(output / name) as work:
            work.write_text(text, encoding="utf-8")
    where = table if split is None else output / SPLIT
    return PlanResult(recipe["about"]["name"], where, len(found.cases), len(found.unusable), *seconds)


def table_of(data: Path) -> Path:
    """Return the split table of a data set; a path that is not a file if it has none."""
    return data / SPLIT if data.is_dir() else data


def _drawn_split(found: Survey, pattern: str | None) -> dict[str, tuple[str, str]]:
    """Draw a role for each case; return patient and role by case."""
    patients = patients_by_name([one.case.name for one in found.cases], pattern)
    first_of: dict[tuple[str, ...], str] = {}
    for one in found.cases:  # one image under two names is one patient
        patients[one.case.name] = patients[first_of.setdefault(one.voxels_sha256, one.case.name)]
    drawn = roles(patients)
    return {name: (patient, drawn[name]) for name, patient in patients.items()}


def _training_cases(found: Survey, split: Mapping[str, tuple[str, str]] | None, table: Path) -> int:
    if split is not None:
        return sum(role == "train" for _, role in split.values())
    usable = {one.case.name for one in found.cases}
    return sum(case.name in usable for case in find_cases(f"{table}:train"))


def plan(found: Survey, options: PlanOptions) -> Plan:
    """Plan a recipe of 100 epochs; `choose_epochs` fits their number to the hours.

    Raises:
        UsageError: a name is given to a label value that does not occur.
    """
    choices: list[Choice] = []
    modality = _modality(found, options, choices)
    (orientation, count), *_ = Counter(one.orientation for one in found.cases).most_common(1)
    choices.append(Choice("orientation", orientation, f"that of {count} of {len(found.cases)} images"))
    spacing = _spacing(found, orientation, options, choices)
    window, levels, flat = _window(found, orientation, spacing, choices)
    labels = _labels(found, options)
    batch = max(1, min(LARGEST_BATCH, BATCH_VOXELS // math.prod(window)))
    choices.append(Choice("batch", f"{batch} windows", f"at most {BATCH_VOXELS:,} voxels a step"))
    mirror = _mirror(labels, options, choices)
    channels = len(found.cases[0].case.channels)
    names = [modality] if channels == 1 else [f"{modality} {number}" for number in range(1, channels + 1)]
    filters = [min(FIRST_FILTERS * 2**level, MOST_FILTERS) for level in range(levels)]
    precision = "bfloat16" if has_bfloat16() else "float32"
    training = {"batch_size": batch, "precision": precision, "mirror": mirror, "seed": 1}
    recipe = {
        "about": {
            "name": options.name,
            "version": "1.0.0",
            "task": options.task or f"{', '.join(str(label['name']) for label in labels[1:])} in {modality} images.",
            "licence_weights": "not stated",
            "licence_data": "not stated",
            "data": f"the training cases of {options.name}",
            "citation": "not stated",
        },
        "input": {
            "channels": found.channels or names,
            "modality": modality,
            "orientation": orientation,
            "spacing_mm": list(spacing),
            "window": list(window),
            "normalisation": _normalisation(found, modality, choices),
        },
        "labels": labels,
        "backbone": {"kind": "dynunet", "filters": filters, **({"flat_levels": flat} if flat else {})},
        "head": {"variant": "context", "taps": taps_of(levels), "feature_channels": 32, "probes": 8, "aleatoric": True},
        "backbone_training": {
            "epochs": 100,
            "learning_rate": 0.002,
            "validate_every": 2,
            "deep_supervision_heads": min(2, levels - 2),
            **training,
        },
        "head_training": {"epochs": 24, "learning_rate": 0.0015, "final_learning_rate": 0.00005, **training},
    }
    return Plan(recipe, choices)


def taps_of(levels: int) -> list[str]:
    """Name the last three stages of a DynUNet's decoder, or two where there are no more; from coarse to fine."""
    return [f"upsamples.{level}.conv_block" for level in range(max(0, levels - 4), levels - 2)] + ["output_block"]


def _along(found: CaseMetadata, orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return size and spacing of a case along the axes of `orientation`."""
    axes = [next(pair for pair in ("LR", "AP", "SI") if letter in pair) for letter in orientation]
    order = [next(i for i, letter in enumerate(found.orientation) if letter in pair) for pair in axes]
    return np.array(found.size)[order], np.array(found.spacing_mm)[order]


def _modality(found: Survey, options: PlanOptions, choices: list[Choice]) -> str:
    air = float(np.mean([min(one.lowest) < AIR_HU and one.integers for one in found.cases]))
    if options.modality:
        choice = Choice("modality", options.modality, "your choice")
    elif air > 0.5:
        reason = f"integers below {AIR_HU} in {100 * air:.0f} % of the images, as only air in a CT has"
        choice = Choice("modality", "CT", reason)
    else:
        choice = Choice("modality", "MR", "intensities have no unit (give --modality where that is wrong)")
    choices.append(choice)
    return choice.value


def _spacing(found: Survey, orientation: str, options: PlanOptions, choices: list[Choice]) -> tuple[float, ...]:
    spacings = np.array([_along(one, orientation)[1] for one in found.cases])
    median = np.median(spacings, 0)
    if options.spacing_mm is not None:
        median, reason = np.array(options.spacing_mm, float), "your choice"
    elif np.ptp(spacings, 0).max() <= EQUAL_SPACING * median.max():
        reason = "that of all images"
    elif median.max() >= THICK_RATIO * median.min():
        axis = int(median.argmax())
        median[axis] = max(np.percentile(spacings[:, axis], 10), np.delete(median, axis).max())
        reason = "median of the images; across thick slices their 10th percentile, so that few slices are lost"
    else:
        reason = "median of the images"
    value = tuple(float(f"{part:.5g}") for part in median)
    choices.append(Choice("spacing", f"{_times(value)} mm", reason))
    return value


def _window(
    found: Survey, orientation: str, spacing: Sequence[float], choices: list[Choice]
) -> tuple[tuple[int, ...], int, int]:
    """Choose the window, the number of levels, and how many of them look within thick slices only."""
    sizes = []
    for one in found.cases:
        size, own = _along(one, orientation)
        sizes.append(np.rint(size * own / np.array(spacing)))
    wanted, share = np.max(sizes, axis=0), "all"
    if wanted.prod() > WINDOW_VOXELS:
        wanted, share = np.percentile(sizes, 95, axis=0), "95 % of the"
    ratio = max(spacing) / min(spacing)
    flat = math.ceil(math.log2(ratio)) if ratio >= THICK_RATIO else 0
    thick = int(np.argmax(spacing)) if flat else -1
    window = wanted.copy()
    while window.prod() > WINDOW_VOXELS:  # shrink what is longest in mm, but never across thick slices first
        extents = window * np.array(spacing)
        if thick >= 0 and window[thick] * 4 < np.delete(window, thick).max():
            extents[thick] = 0
        longest = extents >= extents.max() * 0.99
        window[longest] *= 0.97
    # Halve as long as the shortest axis that is halved keeps enough voxels; 1.03: sizes are rounded up afterwards.
    shortest = min(float(size) for axis, size in enumerate(window) if axis != thick)
    deepest = int(math.log2(max(1.0, shortest / FEWEST_DEEPEST) * 1.03)) + 1
    levels = max(FEWEST_LEVELS, min(MOST_LEVELS, deepest))
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
        reason = f"slices are {ratio:.1f} times as thick as pixels are wide, so their number is never halved"
        choices.append(Choice("flat levels", str(flat), reason))
    return rounded, levels, flat


def _normalisation(found: Survey, modality: str, choices: list[Choice]) -> dict[str, Any] | list[dict[str, Any]]:
    if modality != "CT":
        reason = "percentiles 0.5 and 99.5 clipped, then mean 0 and deviation 1 in each image: units differ"
        choices.append(Choice("normalisation", "volume", reason))
        return {"kind": "volume", "low": 0.5, "high": 99.5}
    blocks = []
    for channel in range(len(found.cases[0].case.channels)):
        values = np.concatenate([one.foreground[channel] for one in found.cases])
        low, high = np.percentile(values, [0.5, 99.5])
        inside = np.clip(values, low, high)
        numbers = {"low": low, "high": high, "mean": inside.mean(), "std": max(float(inside.std()), 1e-3)}
        blocks.append({"kind": "fixed", **{name: round(float(value), 2) for name, value in numbers.items()}})
    reason = f"{blocks[0]['low']:g} to {blocks[0]['high']:g}, percentiles 0.5 and 99.5 of labelled voxels: CT has units"
    choices.append(Choice("normalisation", "fixed", reason))
    return blocks[0] if len(blocks) == 1 else blocks


def _labels(found: Survey, options: PlanOptions) -> list[dict[str, Any]]:
    names, known = {**found.names, **options.labels}, found.label_values[1:]
    for value, name in options.labels.items():
        if value not in known:
            there = ", ".join(map(str, known))
            raise UsageError(
                f'--label {value}="{name}" names a value that no reference holds: they hold {there}.', code="no-label"
            )
    labels: list[dict[str, Any]] = [{"value": 0, "name": "background", "color": [0, 0, 0]}]
    for number, value in enumerate(known):
        color = COLORS[number % len(COLORS)]
        labels.append({"value": value, "name": names.get(value, f"structure {value}"), "color": list(color)})
    return labels


def _mirror(labels: Sequence[Mapping[str, Any]], options: PlanOptions, choices: list[Choice]) -> bool:
    names = [str(label["name"]) for label in labels[1:]]
    sided = [name for name in names if _SIDE.search(name) or name.startswith("structure ")]
    mirror = not sided if options.mirror is None else options.mirror
    reason = "no name of a structure has a side"
    if options.mirror is not None:
        reason = "your choice"
    elif sided:
        reason = f"'{sided[0]}' may have a side (give --mirror where left and right may be exchanged)"
    choices.append(Choice("mirror", "yes" if mirror else "no", reason))
    return mirror


def time_step(recipe: Recipe, steps: int = 2) -> float:
    """Train the backbone for a few steps on noise, and return the seconds of the fastest after the first."""
    import torch
    from monai.losses import DiceCELoss

    from SegWithUCore.network.backbones import build_backbone

    from .backbone import spec_of, supervised
    from .mixed_precision import autocast

    network = build_backbone(supervised(spec_of(recipe), recipe.backbone_training)).train()
    settings, window = recipe.backbone_training, recipe.input.window_zyx
    image = torch.randn(settings.batch_size, len(recipe.input.channels), *window)
    labels = torch.randint(0, len(recipe.labels), (settings.batch_size, 1, *window)).float()
    loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    seconds = []
    for _ in range(1 + steps):
        begun = time.perf_counter()
        with autocast(settings.precision):
            output = network(image)
        first = output[:, 0] if output.ndim == 6 else output
        optimiser.zero_grad()
        loss(first.float(), labels).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


def _epoch_s(step_s: float, cases: int, batch_size: int) -> float:
    return step_s * EPOCH_OVERHEAD * -(-cases // batch_size)


def choose_epochs(recipe: Mapping[str, Any], hours: float, step_s: float, cases: int) -> tuple[dict[str, Any], Choice]:
    """Choose epochs and cross-validation models for a given time.

    Args:
        hours: for everything.
        step_s: seconds of a step of the backbone.
        cases: of the training.

    Returns:
        The recipe with both, and the choice with its reason.
    """
    backbone, head = recipe["backbone_training"], recipe["head_training"]
    fitting = int(hours * 3600 * BACKBONE_SHARE / _epoch_s(step_s, cases, backbone["batch_size"]))
    alone = max(FEWEST_EPOCHS, min(MOST_EPOCHS, fitting))
    head_epoch = HEAD_EPOCH * _epoch_s(step_s, cases, head["batch_size"])
    head = {**head, "epochs": max(FEWEST_EPOCHS, min(head["epochs"], int(hours * 3600 * HEAD_SHARE / head_epoch)))}
    shared = alone // FOLDS  # backbone and folds take three times as long as the backbone
    if shared >= EPOCHS_BEFORE_FOLDS:
        head |= {"cross_fit": FOLDS, "cross_fit_epochs": shared, "cross_fit_scratch": True}
        epochs, folds = shared, str(FOLDS)
        reason = f"{hours:g} h allow the backbone and {FOLDS} models that have never seen a third of the cases each"
    else:
        epochs, folds = alone, "none"
        allowed = f"allow {alone} epochs" if fitting >= alone else f"are too short even for {alone} epochs, the fewest,"
        reason = (
            f"{hours:g} h {allowed} of the backbone; cross-validation models come from {FOLDS * EPOCHS_BEFORE_FOLDS} "
            "epochs on, so the limit of flags is fitted on calibration and validation cases alone"
        )
        if alone < FEW_EPOCHS:
            reason += f"; fewer than {FEW_EPOCHS} are too few for a good model: give more hours"
    changed = {**recipe, "backbone_training": {**backbone, "epochs": epochs}, "head_training": head}
    return changed, Choice("epochs, folds", f"{epochs}, {folds}", reason)


def training_seconds(recipe: Recipe, step_s: float, cases: int) -> tuple[float, float, float]:
    """Predict the seconds of the backbone's training, of all cross-validation models, and of the head's."""
    backbone, head = recipe.backbone_training, recipe.head_training
    epoch = _epoch_s(step_s, cases, backbone.batch_size)
    folds = max(0, head.cross_fit - 1) * head.cross_fit_epochs  # each is trained on all cases but its own fold
    return epoch * backbone.epochs, epoch * folds, epoch * HEAD_EPOCH * head.epochs


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _cost(recipe: Recipe, step_s: float, cases: int, seconds: tuple[float, float, float]) -> str:
    backbone_h, folds_h, head_h = (part / 3600 for part in seconds)
    settings = recipe.backbone_training
    later = head_h * (1 - BACKBONE_SHARE) / HEAD_SHARE
    folds = f"{recipe.head_training.cross_fit} cross-validation models about {folds_h:.1f} h, " if folds_h else ""
    return (
        f"A step of {settings.batch_size} windows takes {step_s:.2f} s here (measured), an epoch of {cases} cases "
        f"about {_epoch_s(step_s, cases, settings.batch_size):.0f} s, {settings.epochs} epochs about {backbone_h:.1f} "
        f"h; {folds}head, calibration and evaluation about {later:.1f} h more."
    )


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _page(plan: Plan, found: Survey, cost: str, split: Mapping[str, tuple[str, str]] | None, source: Path) -> str:
    """Write the reasons down, as Markdown."""
    lines = [f"# Plan for {plan.recipe['about']['name']}", "", f"From {len(found.cases)} cases of `{source}`.", ""]
    lines += ["| what | chosen | because |", "|---|---|---|"]
    lines += [f"| {choice.name} | {choice.value} | {choice.reason} |" for choice in plan.choices]
    lines += ["", "## Cost", "", cost]
    if split is not None:
        counts = Counter(role for _, role in split.values())
        listed = ", ".join(f"{count} {role}" for role, count in counts.items())
        lines += ["", "## Split", "", f"Drawn by patient (seed 0): {listed}. The plan does not look at *test*."]
    problems = [*found.unusable.values(), *found.warnings]
    lines += ["", "## Problems of the data", "", *(f"- {message}" for message in problems or ["none was found"])]
    return "\n".join(lines) + "\n"
