"""`segwithu import-nnunet` and `import-checkpoint`: make bundles of models that were trained elsewhere."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import OutputError, UsageError
from .arguments import add_network_option, check_folder_name
from .console import Console

if TYPE_CHECKING:
    from ..models.nnunet_import import NnunetFolder


def add_commands(commands: Any) -> None:
    """Add both."""
    _add_import_checkpoint(commands)
    _add_import_nnunet(commands)


ABOUT = ("name", "version", "task", "licence_weights", "licence_data", "citation")


def _add_import_nnunet(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "import-nnunet",
        examples=("import-nnunet nnUNet_results/Dataset004_Hippocampus --output hippocampus_nnunet",),
        help="make a model bundle of a trained nnU-Net (version 2)",
        description="Read one fold of an nnU-Net result folder (plans.json, dataset.json, fold_0). --output writes a "
        "bundle whose logits equal nnU-Net's, with an untrained uncertainty head; --run starts a training run, so "
        "that train-head and calibrate can follow.",
    )
    command.add_argument("folder", type=Path, metavar="RESULT_FOLDER", help="holds plans.json, dataset.json, fold_0")
    command.add_argument("--fold", default="0", help="fold to take, a number or 'all' (default 0)")
    command.add_argument("--configuration", help="such as 3d_fullres (default: the one that was trained)")
    command.add_argument("--checkpoint", default="checkpoint_final.pth", help="file within the fold")
    command.add_argument("--output", type=Path, help="folder of the bundle to write")
    command.add_argument("--run", dest="run_folder", type=Path, help="folder of the training run to start")
    command.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    command.add_argument(
        "--orientation",
        help="letters towards which x, y, z of the training images ran, such as LPS (default: axes as stored)",
    )
    command.add_argument("--modality", help="DICOM modality (default: CT where intensities are scaled as CT, else MR)")
    for name in ABOUT:
        command.add_argument(f"--{name.replace('_', '-')}", help=f"{name.replace('_', ' ')} noted in the bundle")
    command.set_defaults(run=run_import_nnunet)


def run_import_nnunet(options: argparse.Namespace, console: Console) -> int:
    """Import a fold."""
    console.started()
    from ..models.nnunet_import import about_of, read_nnunet_folder, write_nnunet_bundle

    if options.output is None and options.run_folder is None:
        raise UsageError("Nothing is to be written: give --output for a bundle, --run for a training run, or both.")
    if options.run_folder is not None and options.run_folder.exists():
        raise OutputError(f"{options.run_folder} exists already: choose another folder for the training run.")
    orientation = parsed_orientation(options.orientation)
    folder = read_nnunet_folder(
        options.folder, options.fold, options.configuration, options.checkpoint, orientation, options.modality
    )
    if options.name is not None:
        check_folder_name(options.name, "--name")
    about = about_of(folder, {name: getattr(options, name) for name in ABOUT})
    for note in folder.model.notes:
        console.note(note)
    if options.output is not None:
        bundle = write_nnunet_bundle(folder, about, options.output, options.overwrite)
        console.result(f"{bundle.name}, not calibrated, in {options.output}", {"bundle": str(options.output)})
    if options.run_folder is not None:
        _start_run(folder, about, options.run_folder)
        console.result(
            f"backbone of {folder.source} in {options.run_folder}; go on with train-head",
            {"run": str(options.run_folder)},
        )
    return 0


def _start_run(folder: "NnunetFolder", about: dict[str, str], target: Path) -> None:
    from SegWithULab.training.recipe import recipe_from_json
    from SegWithULab.training.run_folder import RunFolder

    from ..models.nnunet_import import head_recipe
    from ..util.atomic_files import atomic_folder

    with atomic_folder(target) as work:
        run = RunFolder(work)
        run.start(recipe_from_json(head_recipe(folder, about), folder.source), {"backbone_source": folder.source})
        run.save_best("backbone", folder.weights)


def parsed_orientation(text: str | None) -> str | None:
    """Read --orientation; None where it is not given.

    Raises:
        UsageError: it names no axes.
    """
    if text is None:
        return None
    letters = text.upper()
    if len(letters) != 3 or {"LRAPIS".find(letter) // 2 for letter in letters} != {0, 1, 2}:
        raise UsageError(f"'{text}' is not an orientation: give one letter of each of LR, AP, IS, such as RAS.")
    return letters


KINDS = {
    "segwithu": "safetensors checkpoint of the method's authors, head included",
    "weights": "state dict of the recipe's backbone (safetensors, or .pt of tensors only)",
}


def _add_import_checkpoint(commands: Any) -> None:
    """Add `import-checkpoint`."""
    command = commands.add_parser(
        "import-checkpoint",
        examples=("import-checkpoint weights.safetensors --kind segwithu --recipe recipe.json --output my_model",),
        help="make a model bundle of weights that were trained elsewhere",
        description="Make a model bundle of a foreign network. It is not calibrated, and where the file brings no "
        "uncertainty head it gets an untrained one: train-head with a recipe on this model, then calibrate.",
    )
    command.add_argument("source", metavar="FILE", type=Path, help="the file of the foreign network")
    kinds = "; ".join(f"{kind}: {words}" for kind, words in KINDS.items())
    command.add_argument("--kind", required=True, choices=list(KINDS), help=kinds)
    command.add_argument(
        "--recipe",
        type=Path,
        help="recipe (JSON) with what no weights file tells: labels, channels, spacing, licence; see Resources/Recipes",
    )
    command.add_argument("--output", required=True, type=Path, help="folder of the bundle to write")
    command.add_argument("--licence", type=Path, metavar="FILE", help="licence text to hand on with the weights")
    add_network_option(command)
    command.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    command.set_defaults(run=run_import_checkpoint)


def run_import_checkpoint(options: argparse.Namespace, console: Console) -> int:
    """Write the bundle."""
    from SegWithULab.training.import_weights import import_checkpoint

    if options.recipe is None:
        raise UsageError("--recipe is missing: give a recipe with labels, channels and spacing, see Resources/Recipes.")
    if options.output.exists() and not options.overwrite:
        raise OutputError(f"{options.output} exists already: choose another output folder or pass --overwrite.")
    bundle = import_checkpoint(
        options.kind, options.source, options.recipe, options.output, options.licence, options.overwrite
    )
    head = "its own head" if bundle.default_head.trained else "an untrained head"
    console.result(
        f"{bundle.name}, {bundle.backbone.kind} with {head}, not calibrated, in {options.output}",
        {"bundle": str(options.output), "trained_head": bundle.default_head.trained},
    )
    return 0
