"""`segwithu plan` and `train`: a recipe for a data set, and the measured model that comes of it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.bundle import read_bundle
from ..models.quality import model_warnings, weaknesses
from ..util.atomic_files import one_writer
from ..util.errors import OutputError, UsageError
from .arguments import CommandParser, add_command, finite_number, refuse_if
from .console import Console
from .models import compile_graphs

if TYPE_CHECKING:
    from SegWithULab.training.plan import PlanOptions


def add_commands(commands: Any) -> None:
    """Add `plan` and `train`."""
    plan = add_command(commands, "plan", run_plan)
    _add_plan_options(plan)
    plan.add_shared("--output", "--overwrite", "--threads")
    train = add_command(commands, "train", run_train)
    _add_plan_options(train)
    train.add_shared("--output", metavar="MODEL", help="folder of the model that is written")
    train.add_argument("--run", dest="folder", type=Path, help="folder of the run (default: MODEL with .run)")
    train.add_argument("--recipe", type=Path, help="use this recipe instead of a planned one")
    train.add_flag("--redo", "repeat stages whose inputs have changed")
    train.add_flag("--no-graphs", "do not compile graphs for the engine openvino")
    train.add_shared("--overwrite", "--allow-seen-cases", "--network", "--threads")


def _add_plan_options(command: CommandParser) -> None:
    """Add the data set, and what the user may ask of a plan."""
    add = command.add_argument
    add("data", metavar="DATA", type=Path, help="an nnU-Net data set folder, a split table (columns case, role, "
        "patient; with folders images and labels next to it), or a folder that holds images and labels")  # fmt: skip
    add("--name", help="name of the model (default: that of the output folder)")
    add("--modality", help="DICOM modality, such as MR or CT (default: from the intensities)")
    add("--label", action="append", default=[], metavar="VALUE=NAME", help="name of a structure; once for each")
    add("--hours", type=finite_number, help="time for the whole training; decides the epochs")
    add("--spacing", type=_spacing, metavar="X,Y,Z", help="voxel size in mm of the network's grid; coarser is faster")
    add("--patient-pattern", metavar="REGEX", help="finds the patient in names, such as '(p[0-9]+)_'")
    command.add_flag("--leave-out-bad", "ignore cases that cannot be used")
    command.add_flag("--different-patients", "cases that look like parts of one scan are of different patients")


def _spacing(text: str) -> tuple[float, ...]:
    """Read three voxel sizes, for argparse."""
    sizes = tuple(finite_number(part) for part in text.split(","))
    if len(sizes) != 3 or min(sizes) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a voxel size: give three numbers above 0, as in 1.5,1.5,5")
    return sizes


def _plan_options(options: argparse.Namespace) -> "PlanOptions":
    """Check what the user asks of a plan.

    Raises:
        UsageError: a value is impossible, or a label is named twice.
    """
    from SegWithULab.training.plan import PlanOptions

    refuse_if((options.hours is not None and options.hours <= 0, f"--hours is {options.hours}: give a time above 0."))
    labels: dict[int, str] = {}
    for text in options.label:
        value, _, name = text.partition("=")
        if not value.strip().isdecimal() or not name.strip() or int(value) in labels:
            raise UsageError(f'--label is {text!r}: give each value one name, such as 1="left atrium".', "wrong-usage")
        labels[int(value)] = name.strip()
    same = ("modality", "hours", "patient_pattern", "leave_out_bad", "different_patients")
    given = {name: getattr(options, name) for name in same}
    name = options.name or options.output.resolve().name
    return PlanOptions(name, labels=labels, spacing_mm=options.spacing, **given)


def run_plan(options: argparse.Namespace, console: Console) -> int:
    """Analyse a data set and write a recipe for it.

    Read all images and references, report problems, and write a recipe with the reason for each choice (recipe.json,
    plan.md), and a split by patient (split.csv) if there is none. Nothing is trained, except a few steps to predict
    the time. Cases that look like parts of one scan, such as its left and right side, need a column patient.

    Examples:
    plan DATA --output plans/atrium --name left_atrium --label 1="left atrium" --hours 3
    plan DATA/split.csv --output plans/heart --modality MR
    """
    from SegWithULab.training.plan import REASONS, RECIPE, SPLIT, make_plan, table_of

    asked, recipe = _plan_options(options), options.output / RECIPE
    with one_writer(options.output, overwrite=True):
        if recipe.exists() and not options.overwrite:
            raise OutputError(f"{recipe} exists: choose another folder, or pass --overwrite.", "exists-already")
        with console.progress("plan") as progress:
            made = make_plan(options.data, options.output, asked, progress=progress, note=console.note)
    text = f"{recipe}, with reasons in {REASONS}. Next:\n"
    table = table_of(options.data)
    table = table if table.is_file() else options.output / SPLIT
    text += f"  segwithu train {table} --recipe {recipe} --output models/{asked.name}"
    console.result(text, {"recipe": str(recipe), "cases": len(made.cases), "unusable": len(made.unusable)})
    return 0


def run_train(options: argparse.Namespace, console: Console) -> int:
    """Train a model on a data set: plan, train, calibrate, evaluate.

    Plan a recipe, train backbone, cross-validation models (if the time is sufficient) and head, calibrate, evaluate on
    the test cases, and write the model with its card, graphs and report. Every stage and epoch is saved; the same
    command resumes. You may edit RUN/plan/recipe.json before the training; it is kept.

    Examples:
    train DATA --output models/atrium --label 1="left atrium" --hours 3
    train DATA --recipe my_recipe.json --output models/mine
    """
    from SegWithULab.pipeline import Pipeline, TrainingJob
    from SegWithULab.training.recipe import read_recipe_json
    from SegWithULab.training.stages import has_left, run_stages

    asked, output = _plan_options(options), options.output
    synthesises = options.recipe is not None and "synthesis" in read_recipe_json(options.recipe)
    refuse_if((synthesises, f"{options.recipe} synthesises images: give train-backbone, train-head and so on."))
    folder = options.folder or output.with_name(f"{output.name}.run")
    refuse_if((folder.resolve() == output.resolve(), f"--run and --output are both {folder}: give two folders."))
    with one_writer(output, overwrite=True):
        if output.exists() and not options.overwrite and not has_left(folder, "model", output):
            raise OutputError(f"{output} exists already: choose another folder, or pass --overwrite.", "exists-already")
        chosen = (options.recipe, options.allow_seen_cases, not options.no_graphs)
        job = TrainingJob(options.data, output, folder, asked, *chosen)
        training = Pipeline(job, console.note, lambda bundle: compile_graphs(bundle, console))
        with console.progress("train") as progress:
            facts = run_stages(folder, training.stages(), progress, redo=options.redo)
    warnings, weak = model_warnings(bundle := read_bundle(output)), weaknesses(bundle)
    lines = [*(f"Warning: {warning} Give more --hours or cases." for warning in warnings), *weak]
    lines.append(f"{output}: trained, calibrated on {facts['calibrate']['cases']} cases.")
    if facts["evaluate"]:
        lines += [f"{title}: {value:.3f} on test cases" for title, value in facts["evaluate"]["dice"].items()]
    report = training.report()
    lines += [] if report is None else [f"report: {report}"]
    lines.append(f"card: {output / 'MODEL_CARD.md'}; logs: {folder / 'run'}")
    lines.append(f"next: segwithu segment IMAGE --model {output} --output results")
    console.result("\n".join(lines), {"model": str(output), "warnings": warnings, "weaknesses": weak, **facts})
    return 0
