"""Plan a recipe for a data set, with the reason for each choice, and a split by patient where there is none.

The rules follow nnU-Net's planner (Isensee et al., Nature Methods 18, 2021), with the budget of a processor instead of
a graphics card; the reasons say what differs.
"""

import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.io.grid import times
from SegWithUCore.io.inputs import stem_of
from SegWithUCore.util.atomic_files import write_text
from SegWithUCore.util.csv_files import write_csv
from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.progress import Progress, silent
from SegWithUCore.util.strict_json import to_json

from .dataset import PreparedCase, find_cases, roles_of
from .recipe import Recipe, read_recipe_json, recipe_from_json
from .survey import SAME, CaseMetadata, Survey, add_names, check_patients, same_images, survey

NAMED = 10
"""Files that a warning names."""
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
_SIDE = re.compile(r"left|right|\bl\b|\br\b|_l$|_r$|^l_|^r_|ventric|atri|^structure ", re.IGNORECASE)
"""Names of structures that have a side, or lie in a heart, which is not symmetric, or say nothing."""
SHARES = {"select": 0.1, "calibration": 0.15, "test": 0.15}
"""Of the patients, the others train. Intervals and flags are fitted and judged on the cases of the last two."""
FEWEST_PATIENTS = 10
"""So that every role has a patient."""

Choices = dict[str, tuple[str, str]]
"""The decisions of a plan in their order: by name, what was chosen and why."""


@dataclass(frozen=True)
class PlanOptions:
    """What the user asks of a plan; None where the data decide.

    Attributes:
        name: of the model.
        modality: DICOM modality.
        labels: names of label values.
        spacing_mm: along the axes of the orientation.
        hours: for the whole training.
        patient_pattern: regular expression whose first group is the patient.
        leave_out_bad: plan without the cases that cannot be used.
        different_patients: cases that look like parts of one scan are of different patients.
    """

    name: str
    modality: str | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    spacing_mm: tuple[float, ...] | None = None
    hours: float | None = None
    patient_pattern: str | None = None
    leave_out_bad: bool = False
    different_patients: bool = False


def make_plan(
    data: Path,
    output: Path,
    options: PlanOptions,
    given: Path | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda message: None,
) -> Survey:
    """Survey a data set, plan a recipe, time a step, and write recipe, reasons and, where there is none, a split.

    Args:
        data: an nnU-Net data set folder, a split table, or a folder with `images` and `labels`.
        output: folder for `recipe.json`, `plan.md` and `split.csv`.
        given: a recipe to use instead of the planned one.
        note: receives the warnings on the data.

    Raises:
        InputError: cases cannot be used, and were not left out; or cases of different patients look like one scan's.
        UsageError: an option does not fit the data.
    """
    from .recipe_check import check_recipe

    table = table_of(data)
    found = _survey_of(data, table, options.leave_out_bad, progress, note)
    split = _split_of(found, table, options)
    planned_on = [one for one in found.cases if not split or split[one.case.name][1] != "test"]
    recipe, choices = plan(replace(found, cases=planned_on), options)
    recipe, source = (recipe, RECIPE) if given is None else (read_recipe_json(given), str(given))
    checked = recipe_from_json(recipe, source)
    check_recipe(checked, source)
    note("Timing a few steps of the training...")
    step_s, usable = time_step(checked), {one.case.name for one in found.cases}
    known = [role for _, role in split.values()] or [
        "train" for case in find_cases(f"{table}:train") if case.name in usable
    ]
    train = known.count("train")
    if options.hours is not None and given is None:
        recipe, choices["epochs, folds"] = choose_epochs(recipe, options.hours, step_s, train)
        fitting = f"{recipe['backbone_training']['epochs']} epochs of the backbone"
        fitting += f" and {recipe['head_training']['epochs']} of the head"
        note(f"{options.hours:g} h are enough for {fitting}; if this computer gets slower, epochs are left out.")
    epoch_s = _epoch_s(step_s, train, checked.backbone_training.batch_size)
    pace = f"An epoch of the backbone takes about {epoch_s:.0f} s here: {train} cases, {step_s:.2f} s a step."
    output.mkdir(parents=True, exist_ok=True)
    if split:
        rows = [
            [one.case.name, *reversed(split[one.case.name]),
             *(str(file.parent.resolve()) for file in (one.case.channels[0], one.case.reference))]
            for one in found.cases
        ]  # fmt: skip
        write_csv(output / SPLIT, ["case", "role", "patient", "images", "labels"], rows)
    counts = Counter(role for _, role in split.values())
    write_text(output / REASONS, _reasons(recipe["about"]["name"], data, found, choices, pace, counts))
    write_text(output / RECIPE, to_json(recipe) + "\n")
    return found


def _split_of(found: Survey, table: Path, options: PlanOptions) -> dict[str, tuple[str, str]]:
    """Draw patient and role of each case; empty where a table has them.

    Raises:
        InputError: cases of different patients look like parts of one scan.
    """
    patients = _patients(found, table.is_file(), options.patient_pattern)
    if not options.different_patients:
        check_patients({one.case.name: one.step for one in found.cases if not one.case.patient}, patients)
    drawn = {} if table.is_file() else roles(patients)
    return {name: (patients[name], role) for name, role in drawn.items()}


def _reasons(name: str, data: Path, found: Survey, choices: Choices, pace: str, counts: Mapping[str, int]) -> str:
    """Say in Markdown what was chosen, and why.

    Args:
        counts: cases by role, of a split that was drawn.
    """
    lines = [f"# Plan for {name}", "", f"From {len(found.cases)} cases of `{data}`.", ""]
    lines += ["| what | chosen | because |", "|---|---|---|"]
    lines += [f"| {what} | {value} | {reason} |" for what, (value, reason) in choices.items()]
    lines += ["", pace]
    if counts:
        listed = ", ".join(f"{count} {role}" for role, count in counts.items())
        lines += ["", "## Split", "", f"Drawn by patient (seed 0): {listed}. The plan does not look at *test*."]
    problems = [*found.unusable.values(), *found.warnings] or ["none was found"]
    return "\n".join([*lines, "", "## Problems of the data", "", *(f"- {message}" for message in problems), ""])


def table_of(data: Path) -> Path:
    """Return the split table of a data set; a path that is not a file if it has none."""
    return data / SPLIT if data.is_dir() else data


def _survey_of(data: Path, table: Path, leave_out_bad: bool, progress: Progress, note: Callable[[str], None]) -> Survey:
    """Survey the cases that may be planned on: all, or those of every role but *test*."""
    sources = [str(data)]
    if table.is_file():
        sources = [f"{table}:{role}" for role in roles_of(table) if role != "test"]
    cases = [case for source in sources for case in find_cases(source)]
    if not cases:
        raise UsageError(f"{table} has test cases only: add train, select and calibration cases.", "no-data-set")
    found = survey(cases, progress)
    used, folder = {file.name for case in cases for file in case.channels}, cases[0].channels[0].parent
    left = sorted({file.name for file in folder.iterdir() if stem_of(file)} - used)
    if left and not table.is_file():
        names = ", ".join(left[:NAMED]) + (", ..." if len(left) > NAMED else "")
        found.warnings.append(f"{folder} has {len(left)} images without a reference, which are not used: {names}.")
    for message in (*found.unusable.values(), *found.warnings):
        note(message)
    if found.unusable and not leave_out_bad:
        unusable = f"{len(found.unusable)} of {len(cases)} cases cannot be used (see above)"
        raise InputError(f"{unusable}: correct them, or pass --leave-out-bad.", "unusable-cases")
    add_names(found, data / "dataset.json")
    return found


def _patients(found: Survey, has_table: bool, pattern: str | None) -> dict[str, str]:
    """Return the patient of each case: from the table, or from its name."""
    if has_table:
        return {one.case.name: one.case.group for one in found.cases}
    patients = patients_by_name([one.case.name for one in found.cases], pattern)
    names = [one.case.name for one in found.cases]
    for first, second, correlation in same_images([one.print for one in found.cases]):
        if correlation > SAME:  # one image under two names is one patient
            patients[names[second]] = patients[names[first]]
    return patients


def patients_by_name(names: Sequence[str], pattern: str | None = None) -> dict[str, str]:
    """Derive the patient of each case from its name.

    Without a pattern, names that agree up to their last separator belong together ("patient002_frame01" and
    "patient002_frame12"), if that gives groups of at most a tenth of all cases: "heart_001" and "heart_002" stay apart.
    Putting two patients together costs little; taking one patient's cases apart would make every metric too good.

    Args:
        names: of the cases.
        pattern: regular expression whose first group is the patient.

    Raises:
        UsageError: the pattern is not valid, has no group, or does not match a name.
    """
    if pattern is None:
        found = {name: re.sub(r"[_\-. ][^_\-. ]*$", "", name) for name in names}
        largest = Counter(found.values()).most_common(1)[0][1]
        return {name: name for name in names} if largest > max(4, len(names) // 10) else found
    found = {}
    for name in names:
        try:
            match = re.search(pattern, name)
            found[name] = (match and match.group(1)) or ""
        except (re.error, IndexError):
            found[name] = ""
        if not found[name]:
            problem = f"--patient-pattern {pattern!r} does not find a patient in the name {name}"
            raise UsageError(f"{problem}: give one with a group, such as '(patient[0-9]+)'.", "wrong-usage")
    return found


def roles(patients: Mapping[str, str]) -> dict[str, str]:
    """Draw a role for each case; all cases of a patient get the same.

    Args:
        patients: of each case.

    Raises:
        InputError: fewer than `FEWEST_PATIENTS` patients.
    """
    known = sorted(set(patients.values()))
    if len(known) < FEWEST_PATIENTS:
        ways = "add cases, or write a split table (columns case, role, patient)"
        raise InputError(f"{len(known)} of {FEWEST_PATIENTS} needed patients are there: {ways}.", "too-few-patients")
    order = [known[place] for place in np.random.default_rng(0).permutation(len(known))]
    drawn = {order.pop(): role for role, share in SHARES.items() for _ in range(max(1, round(share * len(known))))}
    return {case: drawn.get(patient, "train") for case, patient in patients.items()}


def plan(found: Survey, options: PlanOptions) -> tuple[dict[str, Any], Choices]:
    """Plan a recipe of 100 epochs that fits `recipe.schema.json`; `choose_epochs` fits their number to the hours.

    Raises:
        UsageError: a name is given to a label value that does not occur.
    """
    choices: Choices = {}
    modality = _modality(found, options, choices)
    (orientation, count), *_ = Counter(one.orientation for one in found.cases).most_common(1)
    choices["orientation"] = orientation, f"that of {count} of {len(found.cases)} images"
    spacing = _spacing(found, orientation, options, choices)
    window, levels, flat = _window(found, orientation, spacing, choices)
    labels = _labels(found, options)
    structures = [str(label["name"]) for label in labels[1:]]
    batch = max(1, min(LARGEST_BATCH, BATCH_VOXELS // math.prod(window)))
    choices["batch"] = f"{batch} windows", f"at most {BATCH_VOXELS:,} voxels a step"
    channels = len(found.cases[0].case.channels)
    names = [modality] if channels == 1 else [f"{modality} {number}" for number in range(1, channels + 1)]
    filters = [min(FIRST_FILTERS * 2**level, MOST_FILTERS) for level in range(levels)]
    sided = [name for name in structures if _SIDE.search(name)]
    reason = f"'{sided[0]}' may have a side" if sided else "no name of a structure has a side"
    choices["mirror"] = "no" if sided else "yes", f"{reason} (edit `mirror` in {RECIPE} where that is wrong)"
    precision = "bfloat16" if has_bfloat16() else "float32"
    training = {"batch_size": batch, "precision": precision, "mirror": not sided, "seed": 1}
    recipe = {
        "about": {
            "name": options.name,
            "version": "1.0.0",
            "task": f"{', '.join(structures)} in {modality} images.",
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
    return recipe, choices


def taps_of(levels: int) -> list[str]:
    """Name the last three stages of a DynUNet's decoder, or two where there are no more; from coarse to fine."""
    return [f"upsamples.{level}.conv_block" for level in range(max(0, levels - 4), levels - 2)] + ["output_block"]


def _along(found: CaseMetadata, orientation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return size and spacing of a case along the axes of `orientation`."""
    axes = [next(pair for pair in ("LR", "AP", "SI") if letter in pair) for letter in orientation]
    order = [next(i for i, letter in enumerate(found.orientation) if letter in pair) for pair in axes]
    return np.array(found.size)[order], np.array(found.spacing_mm)[order]


def _modality(found: Survey, options: PlanOptions, choices: Choices) -> str:
    air = float(np.mean([min(one.lowest) < AIR_HU and one.integers for one in found.cases]))
    choice = "MR", "intensities have no unit (give --modality where that is wrong)"
    if options.modality:
        choice = options.modality, "your choice"
    elif air > 0.5:
        choice = "CT", f"integers below {AIR_HU} in {100 * air:.0f} % of the images, which only air in CT has"
    choices["modality"] = choice
    return choice[0]


def _spacing(found: Survey, orientation: str, options: PlanOptions, choices: Choices) -> tuple[float, ...]:
    spacings = np.array([_along(one, orientation)[1] for one in found.cases])
    median, reason = np.median(spacings, 0), "median of the images"
    if options.spacing_mm is not None:
        median, reason = np.array(options.spacing_mm, float), "your choice"
    elif np.ptp(spacings, 0).max() <= EQUAL_SPACING * median.max():
        reason = "that of all images"
    elif median.max() >= THICK_RATIO * median.min():
        axis = int(median.argmax())
        median[axis] = max(np.percentile(spacings[:, axis], 10), np.delete(median, axis).max())
        reason = "median of the images; across thick slices their 10th percentile, so that few slices are lost"
    value = tuple(float(f"{part:.5g}") for part in median)
    choices["spacing"] = f"{times(value)} mm", reason
    return value


def _window(
    found: Survey, orientation: str, spacing: Sequence[float], choices: Choices
) -> tuple[tuple[int, ...], int, int]:
    """Choose the window, the number of levels, and how many of them look within thick slices only."""
    pairs = [_along(one, orientation) for one in found.cases]
    sizes = [np.rint(size * own / np.array(spacing)) for size, own in pairs]
    wanted = np.max(sizes, axis=0)
    if wanted.prod() > WINDOW_VOXELS:
        wanted = np.percentile(sizes, 95, axis=0)
    ratio = max(spacing) / min(spacing)
    flat = math.ceil(math.log2(ratio)) if ratio >= THICK_RATIO else 0
    thick = int(np.argmax(spacing)) if flat else -1
    window = wanted.copy()
    while window.prod() > WINDOW_VOXELS:  # shrink what is longest in mm, but never across thick slices first
        extents = window * np.array(spacing)
        if thick >= 0 and window[thick] * 4 < np.delete(window, thick).max():
            extents[thick] = 0
        window[extents >= extents.max() * 0.99] *= 0.97
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
    what = "covers most cases whole" if covers else f"cut out of larger images, at most {WINDOW_VOXELS:,} voxels"
    choices["window"] = f"{times(rounded)} voxels", what
    choices["levels"] = str(levels), f"the deepest keeps {FEWEST_DEEPEST} voxels or more along an axis"
    if flat:
        reason = f"slices are {ratio:.1f} times as thick as pixels are wide, so their number is never halved"
        choices["flat levels"] = str(min(flat, levels)), reason
    return rounded, levels, min(flat, levels)


def _normalisation(found: Survey, modality: str, choices: Choices) -> dict[str, Any] | list[dict[str, Any]]:
    if modality != "CT":
        reason = "percentiles 0.5 and 99.5 clipped, then mean 0 and deviation 1 in each image: units differ"
        choices["normalisation"] = "volume", reason
        return {"kind": "volume", "low": 0.5, "high": 99.5}
    choices["normalisation"] = "fixed", "percentiles 0.5 and 99.5 of labelled voxels, because CT values are absolute"
    blocks = []
    for channel in range(len(found.cases[0].case.channels)):
        values = np.concatenate([one.foreground[channel] for one in found.cases])
        low, high = np.percentile(values, [0.5, 99.5])
        inside = np.clip(values, low, high)
        numbers = {"low": low, "high": high, "mean": inside.mean(), "std": max(float(inside.std()), 1e-3)}
        blocks.append({"kind": "fixed", **{name: round(float(value), 2) for name, value in numbers.items()}})
    return blocks[0] if len(blocks) == 1 else blocks


def _labels(found: Survey, options: PlanOptions) -> list[dict[str, Any]]:
    names, known = {**found.names, **options.labels}, found.label_values[1:]
    for value, name in options.labels.items():
        if value not in known:
            there = ", ".join(map(str, known))
            message = f'--label {value}="{name}" names a value that no reference holds: they hold {there}.'
            raise UsageError(message, code="wrong-usage")
    labels: list[dict[str, Any]] = [{"value": 0, "name": "background", "color": [0, 0, 0]}]
    for number, value in enumerate(known):
        color = COLORS[number % len(COLORS)]
        labels.append({"value": value, "name": names.get(value, f"structure {value}"), "color": list(color)})
    return labels


def time_step(recipe: Recipe) -> float:
    """Train the backbone for a few steps on noise, and return the seconds of the fastest after the first."""
    from .backbone import BackboneTrainer
    from .run_folder import RunFolder

    shape, random = recipe.input.window_zyx, np.random.default_rng(0)
    image = random.standard_normal((len(recipe.input.channels), *shape)).astype(np.float32)
    labels = random.integers(0, len(recipe.labels), shape).astype(np.int16)
    noise = PreparedCase("noise", image, labels, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    size = recipe.backbone_training.batch_size
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.start(recipe, {})
        trainer = BackboneTrainer(recipe, [noise] * size, [], run)
        batch, seconds = trainer.sampler.batch(0, range(size)), []
        for number in range(3):
            started = time.perf_counter()
            trainer._step(batch, range(size), number)
            seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _epoch_s(step_s: float, cases: int, batch_size: int) -> float:
    return step_s * EPOCH_OVERHEAD * -(-cases // batch_size)


def choose_epochs(
    recipe: Mapping[str, Any], hours: float, step_s: float, cases: int
) -> tuple[dict[str, Any], tuple[str, str]]:
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
    epochs, folds = max(FEWEST_EPOCHS, min(MOST_EPOCHS, fitting)), 0
    head_epoch = HEAD_EPOCH * _epoch_s(step_s, cases, head["batch_size"])
    head = {**head, "epochs": max(FEWEST_EPOCHS, min(head["epochs"], int(hours * 3600 * HEAD_SHARE / head_epoch)))}
    reason = f"what {hours:g} h allow; cross-validation models come from {FOLDS * EPOCHS_BEFORE_FOLDS} epochs on"
    if epochs // FOLDS >= EPOCHS_BEFORE_FOLDS:  # backbone and folds take three times as long as the backbone
        epochs, folds = epochs // FOLDS, FOLDS
        head |= {"cross_fit": FOLDS, "cross_fit_epochs": epochs, "cross_fit_scratch": True}
        reason = f"{hours:g} h are enough for the backbone and {FOLDS} cross-validation models"
    elif epochs < FEW_EPOCHS:
        reason += f"; fewer than {FEW_EPOCHS} epochs are too few for a good model: give more hours"
    changed = {**recipe, "backbone_training": {**backbone, "epochs": epochs}, "head_training": head}
    return changed, (f"{epochs}, {folds}", reason)


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
