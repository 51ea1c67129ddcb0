"""`segwithu plan`: look at a data set and write a recipe for it, with reasons."""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.atomic_files import one_writer
from ..util.errors import InputError, OutputError, UsageError
from ..util.progress import Progress
from .arguments import add_threads_option, finite_number
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.training.data_survey import Survey
    from SegWithULab.training.dataset import Case
    from SegWithULab.training.plan import Plan
    from SegWithULab.training.recipe import Recipe
    from SegWithULab.training.training_cost import StepCost

SPATIAL = 3
RECIPE, REASONS, SPLIT = "recipe.json", "plan.md", "split.csv"
_EXAMPLES = """examples:
  segwithu plan DATA --output plans/atrium --name left_atrium --label 1="left atrium" --hours 3
  segwithu plan DATA/split.csv --output plans/heart --modality MR
  segwithu plan Dataset004_Hippocampus --output plans/hippocampus"""


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `plan`."""
    command = commands.add_parser(
        "plan",
        parents=[common],
        help="look at a data set and write a recipe for it",
        description="Read every image and reference of a data set, say what is wrong with it, and write a recipe with "
        f"the reason for each choice ({RECIPE}, {REASONS}), and a split by patient ({SPLIT}) where there is none. "
        "Nothing is trained; a few steps are made to predict time and memory.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_argument(command)
    required = command.add_argument_group("required")
    required.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the plan is written"
    )
    add_wishes(command)
    command.add_argument("--overwrite", action="store_true", help="replace an earlier plan")
    add_threads_option(command)
    command.set_defaults(run=run)


def add_data_argument(command: argparse.ArgumentParser) -> None:
    """Add the data set."""
    command.add_argument(
        "data",
        metavar="DATA",
        help="an nnU-Net data set folder, a split table (columns case, role, patient; folders images and labels beside "
        "it), or a folder that holds images and labels",
    )


def add_wishes(command: argparse.ArgumentParser) -> None:
    """Add what the user may say about a plan."""
    command.add_argument("--name", help="name of the model (default: that of the output folder)")
    command.add_argument("--task", help="what the model segments, one sentence for its card")
    command.add_argument("--modality", help="DICOM modality, such as MR or CT (default: told by the intensities)")
    command.add_argument(
        "--label", action="append", default=[], metavar="VALUE=NAME", help="name of a structure; once for each"
    )
    mirror = command.add_mutually_exclusive_group()
    mirror.add_argument("--mirror", action="store_true", default=None, help="left and right may be exchanged")
    mirror.add_argument("--no-mirror", dest="mirror", action="store_false", help="they may not")
    command.add_argument("--hours", type=finite_number, help="time for the whole training; decides the epochs")
    command.add_argument(
        "--spacing",
        type=_spacing,
        metavar="X,Y,Z",
        help="voxel size in mm of the network's grid (default: of the images); coarser trains faster",
    )
    command.add_argument("--patient-pattern", metavar="REGEX", help="finds the patient in names, such as '(p[0-9]+)_'")
    command.add_argument("--leave-out-bad", action="store_true", help="plan without cases that cannot be used")


def _spacing(text: str) -> tuple[float, ...]:
    """Read three voxel sizes, for argparse."""
    sizes = tuple(finite_number(part) for part in text.split(","))
    if len(sizes) != SPATIAL or min(sizes) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no voxel size: give three numbers above 0, such as 1.5,1.5,5")
    return sizes


def run(options: argparse.Namespace, console: Console) -> int:
    """Plan, and say what is next."""
    check_wishes(options)
    with one_writer(options.output, overwrite=True):
        _check_target(options)
        with console.progress("plan") as progress:
            made = make_plan(options, console, progress)
    console.result(
        f"{options.output / RECIPE}, with reasons in {REASONS}. Next:\n"
        f"  segwithu train {options.data} --recipe {options.output / RECIPE} --output models/{made.name}\n"
        "or step by step:\n"
        f"  segwithu train-backbone --recipe {options.output / RECIPE} --run runs/{made.name} "
        f"--cases {made.table}:train --select {made.table}:select",
        {"recipe": str(options.output / RECIPE), "cases": made.cases, "unusable": made.unusable},
    )
    return 0


@dataclass(frozen=True)
class Made:
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


def check_wishes(options: argparse.Namespace) -> None:
    """Check the options that no data are needed for.

    Raises:
        UsageError: one of them is none.
    """
    if options.hours is not None and options.hours <= 0:
        raise UsageError(f"--hours is {options.hours:g}: give a time above 0.")
    _names(options.label)


def make_plan(options: argparse.Namespace, console: Console, progress: Progress) -> Made:
    """Survey, plan, time a step, write into the folder `options.output`."""
    from SegWithULab.training.data_survey import survey
    from SegWithULab.training.plan import Wishes, plan
    from SegWithULab.training.training_cost import has_bfloat16

    check_wishes(options)
    cases, has_roles = _cases_of(options.data)
    found = survey(cases, progress)
    found = replace(
        found, names={**_nnunet_names(options.data), **found.names}, channels=_nnunet_channels(options.data)
    )
    _say_problems(found, options, console)
    wishes = Wishes(
        name=options.name or getattr(options, "model_name", None) or options.output.resolve().name,
        modality=options.modality,
        task=options.task,
        precision="bfloat16" if has_bfloat16() else "float32",
        names=_names(options.label),
        mirror=options.mirror,
        spacing_mm=options.spacing,
    )
    roles = None if has_roles else _roles(found, options)
    planned_on = [facts for facts in found.cases if roles is None or roles[facts.case.name][1] != "test"]
    planned = plan(replace(found, cases=planned_on), wishes)
    recipe, text, seconds = _costed(planned, found, roles, options, console)
    _write(options, recipe, text, found, roles)
    where = options.output / SPLIT if roles is not None else _table_of(options.data)
    return Made(recipe["about"]["name"], where, len(found.cases), len(found.unusable), *seconds)


def _check_target(options: argparse.Namespace) -> None:
    if (options.output / RECIPE).exists() and not options.overwrite:
        raise OutputError(f"{options.output / RECIPE} exists: choose another folder, or pass --overwrite.")


def _names(labels: list[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for text in labels:
        value, _, name = text.partition("=")
        if not value.strip().isdecimal() or not name.strip():
            raise UsageError(f'--label is {text!r}: give a label value and a name, such as 1="left atrium".')
        if int(value) in names:
            raise UsageError(
                f"--label names {int(value)} twice, {names[int(value)]} and {name.strip()}: give one name."
            )
        names[int(value)] = name.strip()
    return names


def _table_of(data: str) -> Path:
    """Return the split table of a data set; a path that is no file if it has none."""
    return Path(data) / SPLIT if Path(data).is_dir() else Path(data)


def _cases_of(data: str) -> "tuple[list[Case], bool]":
    """Return the cases that are planned on (none of role *test*), and whether the data set has roles.

    Raises:
        UsageError: there are none.
    """
    from SegWithULab.training.dataset import find_cases, roles_of

    table = _table_of(data)
    if table.is_file():
        wanted = [role for role in roles_of(table) if role != "test"]
        if not wanted:
            raise UsageError(
                f"{table} has no case of another role than test: give train, select and calibration cases.",
                code="nothing-to-plan-on",
            )
        return [case for role in wanted for case in find_cases(f"{table}:{role}")], True
    return find_cases(data), False


def _nnunet_description(data: str) -> dict[str, Any]:
    from ..util.strict_json import read_json_object

    path = Path(data) / "dataset.json"
    return read_json_object(path, "restore it, or remove it") if path.is_file() else {}


def _nnunet_names(data: str) -> dict[int, str]:
    labels = _nnunet_description(data).get("labels", {})
    pairs = labels.items() if isinstance(labels, dict) else ()
    # nnU-Net's second version writes {"liver": 1}, the first {"1": "liver"}.
    named = {value: name for name, value in pairs if isinstance(value, int)}
    named |= {int(value): name for value, name in pairs if isinstance(name, str) and value.isdecimal()}
    return {value: str(name) for value, name in named.items() if value}


def _nnunet_channels(data: str) -> list[str]:
    described = _nnunet_description(data)
    channels = described.get("channel_names", described.get("modality", {}))
    if not isinstance(channels, dict) or not all(str(key).isdecimal() for key in channels):
        return []
    return [str(channels[key]) for key in sorted(channels, key=int)]


def _say_problems(found: "Survey", options: argparse.Namespace, console: Console) -> None:
    for sentence in (*found.unusable.values(), *found.warnings):
        console.note(sentence)
    if found.unusable and not options.leave_out_bad:
        raise InputError(
            f"{len(found.unusable)} of {len(found.unusable) + len(found.cases)} cases cannot be used (see above): "
            "correct them, or pass --leave-out-bad."
        )


def _roles(found: "Survey", options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Return patient and role of each case."""
    from SegWithULab.training.split import patients_by_name, roles

    patients = patients_by_name([facts.case.name for facts in found.cases], options.patient_pattern)
    first_of: dict[tuple[str, ...], str] = {}
    for facts in found.cases:  # one image under two names is one patient
        patients[facts.case.name] = patients[first_of.setdefault(facts.voxels_sha256, facts.case.name)]
    drawn = roles(patients)
    return {name: (patient, drawn[name]) for name, patient in patients.items()}


def _costed(
    planned: "Plan",
    found: "Survey",
    roles: dict[str, tuple[str, str]] | None,
    options: argparse.Namespace,
    console: Console,
) -> tuple[dict[str, Any], str, tuple[float, float, float]]:
    """Time a step, choose epochs and folds, and write the reasons down; also the seconds of backbone, folds, head."""
    from SegWithULab.training.recipe import recipe_from_json
    from SegWithULab.training.recipe_check import check_recipe
    from SegWithULab.training.training_cost import time_step, training_seconds, within_hours

    given = getattr(options, "recipe", None)
    changed = planned.recipe if given is None else _given_recipe(given)
    recipe = recipe_from_json(changed, str(given or RECIPE))
    check_recipe(recipe, str(given or RECIPE))
    console.note("Timing a few steps of the training...")
    cost = time_step(recipe)
    train = _training_cases(found, roles, options)
    if options.hours is not None and given is None:
        changed, choice = within_hours(planned.recipe, options.hours, cost, train)
        planned.choices.append(choice)
    whole = recipe_from_json(changed, RECIPE)
    page = _page(planned, whole, cost, found, roles, train, options)
    return changed, page, training_seconds(whole, cost, train)


def _given_recipe(path: Path) -> dict[str, Any]:
    from SegWithULab.training.recipe import read_recipe_json

    return read_recipe_json(path)


def _training_cases(found: "Survey", roles: dict[str, tuple[str, str]] | None, options: argparse.Namespace) -> int:
    if roles is not None:
        return sum(role == "train" for _, role in roles.values())
    from SegWithULab.training.dataset import find_cases

    usable = {facts.case.name for facts in found.cases}
    return sum(case.name in usable for case in find_cases(f"{_table_of(options.data)}:train"))


def _page(
    planned: "Plan",
    recipe: "Recipe",
    cost: "StepCost",
    found: "Survey",
    roles: dict[str, tuple[str, str]] | None,
    train: int,
    options: argparse.Namespace,
) -> str:
    from SegWithULab.training.plan import plan_page
    from SegWithULab.training.training_cost import prediction

    counts: dict[str, int] = {}
    for _, role in (roles or {}).values():
        counts[role] = counts.get(role, 0) + 1
    return plan_page(planned, found, prediction(recipe, cost, train), counts, options.data)


def _write(
    options: argparse.Namespace,
    recipe: dict[str, Any],
    text: str,
    found: "Survey",
    roles: dict[str, tuple[str, str]] | None,
) -> None:
    from ..util.atomic_files import atomic_file
    from ..util.csv_files import write_csv

    options.output.mkdir(parents=True, exist_ok=True)
    if roles is not None:
        rows = []
        for facts in found.cases:
            patient, role = roles[facts.case.name]
            folders = facts.case.channels[0].parent.resolve(), facts.case.reference.parent.resolve()
            rows.append([facts.case.name, role, patient, *map(str, folders)])
        write_csv(options.output / SPLIT, ["case", "role", "patient", "images", "labels"], rows)
    with atomic_file(options.output / REASONS) as work:
        work.write_text(text, encoding="utf-8")
    with atomic_file(options.output / RECIPE) as work:
        work.write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
