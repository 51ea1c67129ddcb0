"""`segwithu plan`: look at a data set and write a recipe for it, with reasons."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError, UsageError
from .arguments import add_threads_option, finite_number
from .console import Console

if TYPE_CHECKING:
    from ..training.data_survey import Survey
    from ..training.dataset import Case
    from ..training.plan import Plan
    from ..training.recipe import Recipe
    from ..training.training_cost import StepCost

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
    command.add_argument(
        "data",
        metavar="DATA",
        help="an nnU-Net data set folder, a split table (columns case, role, patient; folders images and labels beside "
        "it), or a folder that holds images and labels",
    )
    required = command.add_argument_group("required")
    required.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the plan is written"
    )
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
    command.add_argument("--patient-pattern", metavar="REGEX", help="finds the patient in names, such as '(p[0-9]+)_'")
    command.add_argument("--leave-out-bad", action="store_true", help="plan without cases that cannot be used")
    command.add_argument("--overwrite", action="store_true", help="replace an earlier plan")
    add_threads_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Survey, plan, time a step, write."""
    from ..training.data_survey import survey
    from ..training.plan import Wishes, plan
    from ..training.training_cost import has_bfloat16

    if options.hours is not None and options.hours <= 0:
        raise UsageError(f"--hours is {options.hours:g}: give a time above 0.")
    _check_target(options)
    names = _names(options.label)
    cases, has_roles = _cases_of(options.data)
    with console.progress("plan") as progress:
        found = survey(cases, progress)
    found = replace(
        found, names={**_nnunet_names(options.data), **found.names}, channels=_nnunet_channels(options.data)
    )
    _say_problems(found, options, console)
    wishes = Wishes(
        name=options.name or options.output.resolve().name,
        modality=options.modality,
        task=options.task,
        precision="bfloat16" if has_bfloat16() else "float32",
        names=names,
        mirror=options.mirror,
    )
    roles = None if has_roles else _roles(found, options)
    planned_on = [facts for facts in found.cases if roles is None or roles[facts.case.name][1] != "test"]
    planned = plan(replace(found, cases=planned_on), wishes)
    recipe, text = _costed(planned, found, roles, options, console)
    _write(options, recipe, text, found, roles)
    where = options.output / SPLIT if roles is not None else _table_of(options.data)
    console.result(
        f"{options.output / RECIPE}, with reasons in {REASONS}. Next:\n"
        f"  segwithu train-backbone --recipe {options.output / RECIPE} --run runs/{wishes.name} "
        f"--cases {where}:train --select {where}:select",
        {"recipe": str(options.output / RECIPE), "cases": len(found.cases), "unusable": len(found.unusable)},
    )
    return 0


def _check_target(options: argparse.Namespace) -> None:
    if (options.output / RECIPE).exists() and not options.overwrite:
        raise OutputError(f"{options.output / RECIPE} exists: choose another folder, or pass --overwrite.")


def _names(labels: list[str]) -> dict[int, str]:
    names: dict[int, str] = {}
    for text in labels:
        value, _, name = text.partition("=")
        if not value.strip().isdecimal() or not name.strip():
            raise UsageError(f'--label is {text!r}: give a label value and a name, such as 1="left atrium".')
        names[int(value)] = name.strip()
    return names


def _table_of(data: str) -> Path:
    """Return the split table of a data set; a path that is no file if it has none."""
    return Path(data) / SPLIT if Path(data).is_dir() else Path(data)


def _cases_of(data: str) -> "tuple[list[Case], bool]":
    """Return the cases that are planned on (none of role *test*), and whether the data set has roles."""
    from ..training.dataset import find_cases, roles_of

    table = _table_of(data)
    if table.is_file():
        wanted = [role for role in roles_of(table) if role != "test"]
        return [case for role in wanted for case in find_cases(f"{table}:{role}")], True
    return find_cases(data), False


def _nnunet_description(data: str) -> dict[str, Any]:
    from ..strict_json import read_json_object

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
    from ..training.split import patients_by_name, roles

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
) -> tuple[dict[str, Any], str]:
    """Time a step, choose the epochs, and write the reasons down."""
    from ..training.recipe import recipe_from_json
    from ..training.recipe_check import check_recipe
    from ..training.training_cost import epochs_within, time_step, with_epochs

    recipe = recipe_from_json(planned.recipe, RECIPE)
    check_recipe(recipe, RECIPE)
    console.note("Timing a few steps of the training...")
    cost = time_step(recipe)
    train = _training_cases(found, roles, options)
    changed = planned.recipe
    if options.hours is not None:
        epochs = epochs_within(options.hours, cost, train, recipe.backbone_training.batch_size)
        changed = with_epochs(planned.recipe, epochs)
    return changed, _page(planned, recipe_from_json(changed, RECIPE), cost, found, roles, train, options)


def _training_cases(found: "Survey", roles: dict[str, tuple[str, str]] | None, options: argparse.Namespace) -> int:
    if roles is not None:
        return sum(role == "train" for _, role in roles.values())
    from ..training.dataset import find_cases

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
    from ..training.plan import plan_page
    from ..training.training_cost import prediction

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
    from ..atomic_files import atomic_file
    from ..csv_files import write_csv

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
