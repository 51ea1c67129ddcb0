"""`segwithu train`: from a data set to a measured model, in one command that goes on where it was stopped."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..util.atomic_files import one_writer
from ..util.errors import UsageError
from .arguments import add_network_option, add_threads_option
from .case_roles import add_role_options
from .console import Console
from .plan import add_data_argument, add_plan_options, plan_options


def add_commands(commands: Any) -> None:
    """Add `train`."""
    command = commands.add_parser(
        "train",
        examples=(
            'train DATA --output models/atrium --label 1="left atrium" --hours 3',
            "train DATA/split.csv --output models/heart --modality MR --hours 0.5",
            "train DATA --recipe my_recipe.json --output models/mine",
        ),
        help="make a measured model of a data set: plan, train, calibrate, evaluate",
        description="Plan a recipe, train backbone, out-of-fold networks (where the hours allow) and head, calibrate, "
        "measure on the cases kept apart, and write the model with its card, graphs and report. Everything is kept "
        "after each stage and epoch: the same command goes on where it was stopped, and does nothing twice. Edit "
        "RUN/plan/recipe.json before the training if you like; it is kept.",
    )
    add_data_argument(command)
    required = command.add_argument_group("required")
    required.add_argument(
        "-o", "--output", required=True, type=Path, metavar="MODEL", help="folder of the model that is written"
    )
    command.add_argument("--run", dest="folder", type=Path, help="folder of the run (default: MODEL with .run)")
    command.add_argument("--recipe", type=Path, help="use this recipe instead of a planned one")
    add_plan_options(command)
    command.add_argument("--redo", action="store_true", help="make stages anew whose inputs have changed")
    command.add_argument("--overwrite", action="store_true", help="replace a model that is there already")
    command.add_argument("--no-graphs", action="store_true", help="do not compile graphs for the engine openvino")
    add_role_options(command)
    add_network_option(command)
    add_threads_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Do all stages that are not there yet, and say what came of it."""
    from SegWithULab.pipeline import Pipeline, TrainingJob
    from SegWithULab.training.stages import run_stages

    from ..models.bundle import read_bundle
    from ..models.quality import model_warnings
    from .calibrate import compile_graphs

    asked = plan_options(options)
    folder = options.folder or options.output.with_name(f"{options.output.name}.run")
    with one_writer(options.output, overwrite=True):
        _check_target(options, folder)
        job = TrainingJob(
            options.data,
            options.output,
            folder,
            asked,
            options.recipe,
            options.allow_seen_cases,
            not options.no_hashes,
            not options.no_graphs,
        )
        training = Pipeline(job, console.note, lambda bundle: compile_graphs(bundle, console))
        with console.progress("train") as progress:
            facts = run_stages(folder, training.stages(), progress, redo=options.redo)
    warnings = model_warnings(read_bundle(options.output))
    data = {"model": str(options.output), "warnings": warnings, **facts}
    console.result(_words(options.output, folder, facts, training.report(), warnings), data)
    return 0


def _check_target(options: argparse.Namespace, folder: Path) -> None:
    """Refuse before hours go by what would be refused at the end.

    Raises:
        UsageError: another model is there, or model and run share a folder.
    """
    from SegWithULab.training.stages import has_left

    if folder.resolve() == options.output.resolve():
        raise UsageError(f"--run and --output are both {folder}: give the run a folder of its own.")
    if options.output.exists() and not options.overwrite and not has_left(folder, "model", options.output):
        raise UsageError(f"{options.output} exists already: choose another folder, or pass --overwrite.")


def _words(
    output: Path, folder: Path, facts: dict[str, dict[str, Any]], report: Path | None, warnings: Sequence[str] = ()
) -> str:
    best, head, measured = facts["backbone"], facts["head"], facts["evaluate"]
    lines = [f"Warning: {warning} Give more --hours or cases." for warning in warnings]
    lines += [f"{output}: trained, calibrated on {facts['calibrate']['cases']} cases."]
    if "select_dice" in best:
        lines.append(f"backbone: best epoch {best['epoch'] + 1}, validation Dice {best['select_dice']:.3f}; "
                     f"head: best epoch {head['epoch'] + 1}")  # fmt: skip
    if measured:
        dice = ", ".join(f"{title.removeprefix('dice ')} {value:.3f}" for title, value in measured["dice"].items())
        lines.append(f"Dice on {measured['cases']} test cases: {dice}")
    folds = facts["folds"]["folds"]
    flags = facts["calibrate"]["flag_cases"]
    lines.append(f"flags: fitted on {flags} cases, {f'{folds} folds' if folds else 'no folds'}")
    if report is not None:
        lines.append(f"report: {report}")
    lines.append(f"card: {output / 'MODEL_CARD.md'}; logs and curves: {folder / 'run'}")
    lines.append(f"next: segwithu segment IMAGE --model {output} --output results")
    return "\n".join(lines)
