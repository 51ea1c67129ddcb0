"""`segwithu train-backbone` and `train-head`: make your own model; `calibrate` is in its own file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import CancelledError, OutputError, UsageError
from ..util.interruption import says_farewell
from .arguments import add_network_option, add_threads_option, whole_number
from .case_roles import add_role_options
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.training.dataset import PreparedCase
    from SegWithULab.training.recipe import Recipe
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.trainer import Trainer

    from ..models.input_spec import InputSpec

CASES_HELP = "TABLE.csv:ROLE (columns case, role; folders images and labels beside it) or an nnU-Net folder"


def add_commands(commands: Any) -> None:
    """Add the two training commands."""
    _add_training(commands, "backbone").set_defaults(run=run_backbone)
    _add_training(commands, "head").set_defaults(run=run_head)


def _add_training(commands: Any, part: str) -> argparse.ArgumentParser:
    what = "a segmentation backbone" if part == "backbone" else "an uncertainty head on the frozen backbone of a run"
    command: argparse.ArgumentParser = commands.add_parser(
        f"train-{part}",
        examples=(
            f"train-{part} --run runs/atrium --recipe recipe.json --cases split.csv:train --select split.csv:select",
            f"train-{part} --run runs/atrium --cases split.csv:train --select split.csv:select --resume",
        ),
        help=f"train {what}",
        description=f"Train {what}. Log, curves and checkpoints go to the run folder after every epoch; the best "
        "epoch is the one with the lowest proper score on the validation cases. Equal seeds, machine and threads give "
        "equal bits, also after --resume.",
    )
    command.add_argument("--run", dest="folder", required=True, type=Path, help="folder of the training run")
    recipe_help = "recipe (JSON); see Resources/Recipes"
    if part == "head":
        recipe_help = (
            'recipe whose backbone is that of a model ("backbone": {"model": "NAME or folder"}): begins a run; with '
            "--restart also the run's own recipe with another head or head_training: the backbone stays"
        )
    command.add_argument("--recipe", type=Path, help=recipe_help)
    command.add_argument("--cases", required=True, help=f"training cases: {CASES_HELP}")
    command.add_argument("--select", required=True, help="cases that choose the best epoch, given in the same way")
    command.add_argument("--resume", action="store_true", help="go on after the last completed epoch")
    command.add_argument("--restart", action="store_true", help="begin again and replace what the run holds")
    command.add_argument("--epochs", type=whole_number(1, 1_000_000), help="replaces the recipe's number of epochs")
    command.add_argument("--seed", type=whole_number(0, 2**63 - 1), help="replaces the recipe's seed")
    add_role_options(command)
    add_network_option(command)
    add_threads_option(command)
    return command


def run_backbone(options: argparse.Namespace, console: Console) -> int:
    """Train a backbone."""
    from SegWithULab.training.backbone import BackboneTrainer
    from SegWithULab.training.case_roles import check_unseen, prepared_hashes
    from SegWithULab.training.recipe import read_recipe
    from SegWithULab.training.recipe_check import check_labels_occur, check_recipe
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.run_record import note_roles
    from SegWithULab.training.training_fingerprint import training_fingerprint

    run = RunFolder(options.folder)
    _check_start(run, "backbone", options, console)
    if options.resume:
        recipe = _going_on(run, options, console)
    elif options.recipe is None:
        raise UsageError("--recipe is missing: give a recipe file, for example Resources/Recipes/hippocampus.json.")
    else:
        recipe = read_recipe(options.recipe, backbone=_replaced(options))
    source = str(options.recipe or run.path / "run.json")
    check_recipe(recipe, source)
    train, select = _trainable(options, recipe, console)
    check_labels_occur(recipe, train, source)
    check_unseen("select", prepared_hashes(select), {"train": prepared_hashes(train)}, options.allow_seen_cases)
    if options.resume:
        run.change_recipe(recipe)
    else:  # only now that recipe and cases are known to be usable
        run.forget("backbone")
        run.start(recipe, {})
    note_roles(run, train, select, options.allow_seen_cases, not options.no_hashes)
    run.add_facts({"fingerprint": training_fingerprint(train, select, recipe)})
    trainer = BackboneTrainer(recipe, train, select, run)
    _fit(trainer, options, console)
    best = run.facts()["backbone_best"]
    said = f"best epoch {best['epoch'] + 1}: validation Dice {best['select_dice']:.4f}, in {run.path}"
    console.result(said, {**best, "epoch": best["epoch"] + 1})
    return 0


def _going_on(run: "RunFolder", options: argparse.Namespace, console: Console) -> "Recipe":
    """Return the recipe of a run that is resumed, with what a recipe file given beside may change."""
    from SegWithULab.training.recipe import read_recipe
    from SegWithULab.training.recipe_check import resumed_recipe

    replaced = _replaced(options)
    kept = run.recipe(backbone=replaced)
    if options.recipe is not None:
        seed = {"seed": kept.backbone_training.seed}  # --seed of the first call, perhaps
        given = read_recipe(options.recipe, backbone=seed | replaced)
        kept, changed = resumed_recipe(kept, given, str(options.recipe), run.load_state("head") is not None)
        if changed:
            console.note(f"Going on with what {options.recipe} changes: {', '.join(changed)}.")
    return kept


def _fit(trainer: "Trainer", options: argparse.Namespace, console: Console) -> None:
    """Train, and say what is kept where Ctrl-C ends it.

    Raises:
        CancelledError: with the sentence.
    """
    with console.progress(options.command) as progress:
        if options.resume:
            trainer.resume()
        try:
            with says_farewell(lambda: console.error(_kept_words(trainer))):
                trainer.fit(progress)
        except KeyboardInterrupt:
            raise CancelledError(_kept_words(trainer)) from None


def _kept_words(trainer: "Trainer") -> str:
    kept, of = trainer.next_epoch, trainer.run.path
    if not kept:
        return f"cancelled before the first epoch was finished; the same command with --resume begins again in {of}."
    epochs = "1 epoch is" if kept == 1 else f"{kept} epochs are"
    return f"cancelled: {epochs} kept in {of}; run the same command with --resume to go on."


def run_head(options: argparse.Namespace, console: Console) -> int:
    """Train a head."""
    from SegWithULab.training.head import HeadTrainer
    from SegWithULab.training.recipe_check import check_recipe
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.run_record import note_roles
    from SegWithULab.training.training_fingerprint import training_fingerprint

    run = RunFolder(options.folder)
    _check_start(run, "head", options, console)
    if options.recipe is None or _keeps_the_backbone(run, options):
        recipe = run.recipe(head=_replaced(options)) if options.recipe is None else _with_another_head(run, options)
        run.load_best("backbone")
        check_recipe(recipe, str(options.recipe or run.path / "run.json"), recipe.head_training.cross_fit > 0)
        train, select = _trainable(options, recipe, console)
    else:
        recipe, train, select = _begun_on_model(run, options, console)
    note_roles(run, train, select, options.allow_seen_cases, not options.no_hashes)
    if not options.resume:
        run.forget("head")
    run.change_recipe(recipe)  # a refusal above leaves the run as it was
    if "fingerprint" not in run.facts():  # the backbone was imported, not trained here
        run.add_facts({"fingerprint": training_fingerprint(train, select, recipe)})
    trainer = HeadTrainer(recipe, train, select, run)
    _fit(trainer, options, console)
    best = run.facts()["head_best"]
    said = f"best epoch {best['epoch'] + 1}: validation NLL {best['select_nll']:.5f}, in {run.path}"
    console.result(said, {**best, "epoch": best["epoch"] + 1})
    return 0


def _keeps_the_backbone(run: "RunFolder", options: argparse.Namespace) -> bool:
    """Whether the recipe file changes only the head of a run that is there."""
    from SegWithULab.training.make_bundle import names_a_model
    from SegWithULab.training.recipe import read_recipe_json

    begun = (run.path / "run.json").exists()
    return bool(options.restart and begun and not names_a_model(read_recipe_json(options.recipe)))


def _with_another_head(run: "RunFolder", options: argparse.Namespace) -> "Recipe":
    """Return the run's recipe with the head of a recipe file that is otherwise the same."""
    from SegWithULab.training.recipe import read_recipe
    from SegWithULab.training.recipe_check import resumed_recipe

    kept = run.recipe()
    trained = {name: getattr(kept.backbone_training, name) for name in ("seed", "epochs", "validate_every")}
    given = read_recipe(options.recipe, backbone=trained, head=_replaced(options))
    way_out = "give the run's own recipe with another head, or begin another run"
    return resumed_recipe(kept, given, str(options.recipe), head_begun=False, way_out=way_out)[0]


def _begun_on_model(
    run: "RunFolder", options: argparse.Namespace, console: Console
) -> "tuple[Recipe, Sequence[PreparedCase], Sequence[PreparedCase]]":
    """Begin a run with the backbone of a model; the run folder is touched only when all that is needed is usable."""
    from SegWithULab.training.make_bundle import begin_on_model, facts_of_model, recipe_on_model
    from SegWithULab.training.recipe_check import check_recipe
    from SegWithULab.training.run_record import noted_roles
    from SegWithULab.training.training_fingerprint import training_fingerprint

    if options.resume:
        raise UsageError("--recipe begins a run and --resume goes on with one: give one of them.")
    begun = (run.path / "run.json").exists()
    if begun and ((run.path / "backbone_last.pt").exists() or "backbone_best" in run.facts()):
        raise OutputError(
            f"{run.path} has trained a backbone of its own, which the model's in {options.recipe} would replace: give "
            "the run's own recipe with another head, or another folder."
        )
    if begun and not options.restart:
        raise OutputError(f"{run.path} holds a run already: leave out --recipe, or pass --restart to begin again.")
    recipe, bundle = recipe_on_model(options.recipe, head=_replaced(options))
    check_recipe(recipe, str(options.recipe), recipe.head_training.cross_fit > 0)
    train, select = _trainable(options, recipe, console)
    noted_roles(
        facts_of_model(recipe, bundle), train, select, options.allow_seen_cases
    )  # refuses before all is replaced
    begin_on_model(run, recipe, bundle)
    run.add_facts({"fingerprint": training_fingerprint(train, select, recipe)})
    return recipe, train, select


def _check_start(run: "RunFolder", part: str, options: argparse.Namespace, console: Console) -> None:
    begun = run.load_state(part) is not None
    if options.resume and options.restart:
        raise UsageError("--resume and --restart contradict each other: give one of them.")
    if begun and not options.resume and not options.restart:
        raise OutputError(f"{run.path} holds a {part} already: pass --resume to go on or --restart to begin again.")
    if options.resume and not begun:
        if not (run.path / "run.json").exists():
            raise UsageError(f"{run.path} holds no run to go on with: leave out --resume.")
        console.note(f"No epoch of the {part} in {run.path} was finished: training begins with the first.")


def _replaced(options: argparse.Namespace) -> dict[str, int]:
    chosen = {"epochs": options.epochs, "seed": options.seed}
    return {name: value for name, value in chosen.items() if value is not None}


def _trainable(
    options: argparse.Namespace, recipe: "Recipe", console: Console
) -> "tuple[Sequence[PreparedCase], Sequence[PreparedCase]]":
    return prepared_cases(options.cases, options.select, recipe, console)


def prepared_cases(
    train_source: str, select_source: str, recipe: "Recipe", console: Console, train_option: str = "--cases"
) -> "tuple[Sequence[PreparedCase], Sequence[PreparedCase]]":
    """Read training and validation cases as a recipe wants them."""
    return prepared_of(train_source, select_source, recipe.input, recipe.label_values, console, train_option)


def prepared_of(
    train_source: str,
    select_source: str,
    spec: "InputSpec",
    label_values: "Sequence[int]",
    console: Console,
    train_option: str = "--cases",
) -> "tuple[Sequence[PreparedCase], Sequence[PreparedCase]]":
    """Read training and validation cases as a network wants them."""
    from SegWithULab.training.dataset import check_channels, find_cases, prepare

    train, select = find_cases(train_source), find_cases(select_source)
    both = {case.name for case in train} & {case.name for case in select}
    if both:
        raise UsageError(
            f"{len(both)} cases, such as {min(both)}, are in {train_option} and --select: keep them apart."
        )
    check_channels([*train, *select], spec)
    with console.progress("reading cases") as progress:
        prepared = []
        for number, case in enumerate([*train, *select], 1):
            prepared.append(prepare(case, spec, label_values))
            progress("reading", number / (len(train) + len(select)), case.name)
    return prepared[: len(train)], prepared[len(train) :]
