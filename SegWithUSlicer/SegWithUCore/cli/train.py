"""`segwithu train-backbone` and `train-head`: make your own model step by step; `train` does all in one."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.atomic_files import atomic_folder
from ..util.errors import CancelledError, InputError, OutputError, UsageError, naming
from .arguments import CASES_HELP, add_command, int_between, refuse_if
from .case_roles import prepared_of
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.training.dataset import PreparedCase
    from SegWithULab.training.recipe import Recipe
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.trainer import Trainer

    Prepared = tuple[Sequence[PreparedCase], Sequence[PreparedCase]]


def add_commands(commands: Any) -> None:
    """Add the two training commands, and `synthesise`."""
    for part, run in (("backbone", run_backbone), ("head", run_head)):
        command = add_command(commands, f"train-{part}", run)
        add = command.add_argument
        add("--run", dest="folder", required=True, type=Path, help="folder of the training run")
        add("--recipe", type=Path, help="recipe (JSON); see Resources/Recipes. For a head: one on the backbone of a "
            'model ("backbone": {"model": "NAME"}), or with --restart the run\'s own with another head')  # fmt: skip
        add("--cases", required=True, help=f"training cases: {CASES_HELP}")
        add("--select", required=True, help="validation cases for choosing the epoch, in the same form")
        command.add_flag("--resume", "resume after the last completed epoch")
        command.add_flag("--restart", "restart and replace the contents of the run")
        add("--epochs", type=int_between(1, 1_000_000), help="replaces the recipe's number of epochs")
        add("--seed", type=int_between(0, 2**63 - 1), help="replaces the recipe's seed")
        command.add_shared("--allow-seen-cases", "--network", "--threads")
    command = add_command(commands, "synthesise", run_synthesise)
    command.add_argument("--recipe", required=True, type=Path, help="recipe with a block 'synthesis'")
    command.add_argument("--cases", required=True, help=f"label maps (images are not needed): {CASES_HELP}")
    command.add_argument("--count", type=int_between(1, 10_000), default=1, help="images of each label map")
    command.add_argument("--seed", type=int_between(0, 2**63 - 1), default=0, help="of all that is random")
    command.add_shared("--output", "--overwrite", "--threads")


def run_backbone(options: argparse.Namespace, console: Console) -> int:
    """Train a segmentation backbone.

    Log and checkpoints go to the run folder after every epoch; the best epoch is the one with the lowest proper
    score on the validation cases. Equal seeds, machine and threads give equal bits, also after --resume.

    Examples:
    train-backbone --run runs/atrium --recipe recipe.json --cases split.csv:train --select split.csv:select
    train-backbone --run runs/atrium --cases split.csv:train --select split.csv:select --resume
    """
    from SegWithULab.training import backbone, dataset, recipe_check, run_folder, run_record
    from SegWithULab.training import recipe as recipes

    run = run_folder.RunFolder(options.folder)
    _check_start(run, "backbone", options, console)
    if options.resume:
        refuse_if((options.recipe, "--resume uses the recipe of the run: leave out --recipe, or give --restart."))
        recipe = run.recipe(backbone=_replaced(options))
    elif options.recipe is None:
        raise UsageError("--recipe is missing: give a recipe file, for example Resources/Recipes/hippocampus.json.")
    else:
        recipe = recipes.read_recipe(options.recipe, backbone=_replaced(options))
    source = str(options.recipe or run.path / "run.json")
    recipe_check.check_recipe(recipe, source)
    train, select = prepared_of(options, recipe, console)
    recipe_check.check_labels_occur(recipe, train, source)
    run_record.noted_roles({}, train, select, options.allow_seen_cases)  # refuses before anything is replaced
    if options.resume:
        run.change_recipe(recipe)
    else:  # only now that recipe and cases are known to be usable
        run.forget("backbone")
        run.start(recipe, {})
    run.add_facts(run_record.noted_roles(run.facts(), train, select, options.allow_seen_cases))
    run.add_facts({"ood_reference": dataset.ood_reference(train, select, recipe)})
    return _fit(backbone.BackboneTrainer(recipe, train, select, run), "backbone", options, console)


def run_head(options: argparse.Namespace, console: Console) -> int:
    """Train an uncertainty head on the frozen backbone of a run.

    Log and checkpoints go to the run folder after every epoch; the best epoch is the one with the lowest proper
    score on the validation cases. Equal seeds, machine and threads give equal bits, also after --resume.

    Examples:
    train-head --run runs/atrium --recipe recipe.json --cases split.csv:train --select split.csv:select
    train-head --run runs/atrium --cases split.csv:train --select split.csv:select --resume
    """
    from SegWithULab.training import dataset, make_bundle, recipe_check, run_folder, run_record
    from SegWithULab.training import head as heads
    from SegWithULab.training import recipe as recipes

    run = run_folder.RunFolder(options.folder)
    _check_start(run, "head", options, console)
    again = options.recipe is not None and options.restart and (run.path / "run.json").exists()
    if options.recipe is None or (again and not make_bundle.names_a_model(recipes.read_recipe_json(options.recipe))):
        recipe = run.recipe(head=_replaced(options))
        if options.recipe is not None:
            given = recipes.read_recipe(options.recipe, head=_replaced(options))
            recipe = recipe_check.with_another_head(recipe, given, str(options.recipe))
        run.load_best("backbone")
        recipe_check.check_recipe(
            recipe, str(options.recipe or run.path / "run.json"), recipe.head_training.cross_fit > 0
        )
        train, select = prepared_of(options, recipe, console)
    else:
        recipe, (train, select) = _begun_on_model(run, options, console)
    run.add_facts(run_record.noted_roles(run.facts(), train, select, options.allow_seen_cases))
    if not options.resume:
        run.forget("head")
    run.change_recipe(recipe)  # a refusal above leaves the run as it was
    if "ood_reference" not in run.facts():  # the backbone was imported, not trained here
        run.add_facts({"ood_reference": dataset.ood_reference(train, select, recipe)})
    return _fit(heads.HeadTrainer(recipe, train, select, run), "head", options, console)


def run_synthesise(options: argparse.Namespace, console: Console) -> int:
    """Synthesise images from label maps, to look at, or to calibrate and evaluate a model on.

    Write images and references, as the recipe's trainings see them but on the grid of the label map, and a table of
    cases: give FOLDER/split.csv:synthesised to calibrate and evaluate. All images of a label map count as one patient.

    Examples:
    synthesise --recipe Resources/Recipes/brain.json --cases heads.csv:calibration --count 5 --output images
    """
    from SegWithULab.training import dataset, synthesis
    from SegWithULab.training import recipe as recipes

    with naming(options.recipe):
        synthesiser = synthesis.synthesiser_of(recipes.read_recipe(options.recipe))
    if synthesiser is None:
        raise InputError(f"{options.recipe} has no block 'synthesis': add one.", "wrong-recipe")
    with console.progress(options.command) as progress, atomic_folder(options.output, options.overwrite) as work:
        cases = dataset.find_cases(options.cases, label_maps=True)
        synthesis.write_images(synthesiser, cases, options.count, options.seed, work, progress)
    table = options.output / "split.csv"
    console.result(f"{len(cases) * options.count} images: {table}:synthesised", {"table": str(table)})
    return 0


def _fit(trainer: "Trainer", part: str, options: argparse.Namespace, console: Console) -> int:
    """Train, and say which epoch is the best, or what is kept where Ctrl-C ends it.

    Raises:
        CancelledError: with the message.
    """

    def kept() -> str:
        return f"Cancelled; {trainer.next_epoch} epochs are kept in {trainer.run.path}. Resume with --resume."

    with console.progress(options.command) as progress:
        if options.resume:
            trainer.resume()
        try:
            console.on_cancel = lambda: console.error(kept())
            trainer.fit(progress)
        except KeyboardInterrupt:
            raise CancelledError(kept()) from None
    best = trainer.run.facts()[f"{part}_best"]
    score = "validation Dice {select_dice:.4f}" if part == "backbone" else "validation NLL {select_nll:.5f}"
    text = f"best epoch {best['epoch'] + 1}: {score.format(**best)}, in {trainer.run.path}"
    console.result(text, {**best, "epoch": best["epoch"] + 1})
    return 0


def _begun_on_model(run: "RunFolder", options: argparse.Namespace, console: Console) -> "tuple[Recipe, Prepared]":
    """Begin a run with the backbone of a model; the run folder is touched only when all that is needed is usable."""
    from SegWithULab.training import dataset, make_bundle, recipe_check, run_record

    refuse_if((options.resume, "--recipe begins a run and --resume continues one: give one of them."))
    started = (run.path / "run.json").exists()
    if started and ((run.path / "backbone_last.pt").exists() or "backbone_best" in run.facts()):
        raise OutputError(f"{run.path} has trained a backbone of its own: give another folder.", "exists-already")
    if started and not options.restart:
        raise OutputError(f"{run.path} holds a run already: leave out --recipe, or pass --restart.", "exists-already")
    recipe, bundle = make_bundle.recipe_on_model(options.recipe, head=_replaced(options))
    recipe_check.check_recipe(recipe, str(options.recipe), recipe.head_training.cross_fit > 0)
    train, select = prepared_of(options, recipe, console)
    facts = make_bundle.facts_of_model(recipe, bundle)
    run_record.noted_roles(facts, train, select, options.allow_seen_cases)  # refuses before all is replaced
    make_bundle.begin_on_model(run, recipe, bundle)
    run.add_facts({"ood_reference": dataset.ood_reference(train, select, recipe)})
    return recipe, (train, select)


def _check_start(run: "RunFolder", part: str, options: argparse.Namespace, console: Console) -> None:
    started = run.load_state(part) is not None
    refuse_if((options.resume and options.restart, "--resume and --restart contradict each other: give one of them."))
    if started and not options.resume and not options.restart:
        raise OutputError(f"{run.path} holds a {part} already: pass --resume or --restart.", "exists-already")
    if options.resume and not started:
        refuse_if((not (run.path / "run.json").exists(), f"{run.path} holds no run: leave out --resume."))
        console.note(f"No epoch of the {part} in {run.path} was completed: training starts from the first.")


def _replaced(options: argparse.Namespace) -> dict[str, int]:
    chosen = {"epochs": options.epochs, "seed": options.seed}
    return {name: value for name, value in chosen.items() if value is not None}
