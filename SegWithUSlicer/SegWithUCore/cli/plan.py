"""`segwithu plan`: look at a data set and write a recipe for it, with reasons."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.atomic_files import one_writer
from ..util.errors import OutputError, UsageError
from .arguments import add_threads_option, finite_number
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.training.plan import PlanOptions

SPATIAL = 3


def add_commands(commands: Any) -> None:
    """Add `plan`."""
    command = commands.add_parser(
        "plan",
        examples=(
            'plan DATA --output plans/atrium --name left_atrium --label 1="left atrium" --hours 3',
            "plan DATA/split.csv --output plans/heart --modality MR",
            "plan Dataset004_Hippocampus --output plans/hippocampus",
        ),
        help="look at a data set and write a recipe for it",
        description="Read every image and reference of a data set, say what is wrong with it, and write a recipe with "
        "the reason for each choice (recipe.json, plan.md), and a split by patient (split.csv) where there is none. "
        "Nothing is trained; a few steps are made to predict the time.",
    )
    add_data_argument(command)
    command.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="where the plan is written")
    add_plan_options(command)
    command.add_argument("--overwrite", action="store_true", help="replace an earlier plan")
    add_threads_option(command)
    command.set_defaults(run=run)


def add_data_argument(command: argparse.ArgumentParser) -> None:
    """Add the data set."""
    command.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="an nnU-Net data set folder, a split table (columns case, role, patient; folders images and labels beside "
        "it), or a folder that holds images and labels",
    )


def add_plan_options(command: argparse.ArgumentParser) -> None:
    """Add what the user may ask of a plan."""
    command.add_argument("--name", help="name of the model (default: that of the output folder)")
    command.add_argument("--task", help="what the model segments, one sentence for its card")
    command.add_argument("--modality", help="DICOM modality, such as MR or CT (default: from the intensities)")
    command.add_argument(
        "--label", action="append", default=[], metavar="VALUE=NAME", help="name of a structure; once for each"
    )
    command.add_argument(
        "--mirror", action=argparse.BooleanOptionalAction, help="whether left and right may be exchanged"
    )
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a voxel size: give three numbers above 0, as in 1.5,1.5,5")
    return sizes


def plan_options(options: argparse.Namespace) -> "PlanOptions":
    """Check what the user asks of a plan.

    Raises:
        UsageError: a value is impossible, or a label is named twice.
    """
    from SegWithULab.training.plan import PlanOptions

    if options.hours is not None and options.hours <= 0:
        raise UsageError(f"--hours is {options.hours:g}: give a time above 0.")
    labels: dict[int, str] = {}
    for text in options.label:
        value, _, name = text.partition("=")
        if not value.strip().isdecimal() or not name.strip():
            raise UsageError(f'--label is {text!r}: give a label value and a name, such as 1="left atrium".')
        if int(value) in labels:
            raise UsageError(
                f"--label names {int(value)} twice, {labels[int(value)]} and {name.strip()}: give one name."
            )
        labels[int(value)] = name.strip()
    return PlanOptions(
        options.name or options.output.resolve().name,
        options.modality,
        options.task,
        labels,
        options.mirror,
        options.spacing,
        options.hours,
        options.patient_pattern,
        options.leave_out_bad,
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Plan, and print the next command."""
    from SegWithULab.training.plan import REASONS, RECIPE, make_plan

    asked, recipe = plan_options(options), options.output / RECIPE
    with one_writer(options.output, overwrite=True):
        if recipe.exists() and not options.overwrite:
            raise OutputError(f"{recipe} exists: choose another folder, or pass --overwrite.")
        with console.progress("plan") as progress:
            made = make_plan(options.data, options.output, asked, progress=progress, note=console.note)
    console.result(
        f"{recipe}, with reasons in {REASONS}. Next:\n"
        f"  segwithu train {options.data} --recipe {recipe} --output models/{made.name}\n"
        "or step by step:\n"
        f"  segwithu train-backbone --recipe {recipe} --run runs/{made.name} "
        f"--cases {made.table}:train --select {made.table}:select",
        {"recipe": str(recipe), "cases": made.cases, "unusable": made.unusable},
    )
    return 0
