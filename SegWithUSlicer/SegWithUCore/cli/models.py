"""`segwithu models` (list, show, verify), and the commands that make bundles of foreign models."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, UsageError
from .arguments import check_folder_name
from .console import Console, table

if TYPE_CHECKING:
    from ..models.bundle import Bundle
    from ..models.nnunet_import import NnunetFolder


def _add_models(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `models list`, `models show` and `models verify`."""
    command = commands.add_parser("models", help="list, show and verify installed models")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[common], help="all installed models, a line each")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", parents=[common], help="what a model knows and how well it was measured to work")
    show.add_argument("model", help="name or folder")
    show.set_defaults(run=run_show)
    verify = actions.add_parser("verify", parents=[common], help="check description, hashes and weights files")
    verify.add_argument("model", nargs="?", help="name or folder (default: all installed models)")
    verify.add_argument("--load", action="store_true", help="also build the network and load its weights (needs torch)")
    verify.set_defaults(run=run_verify)


def run_list(options: argparse.Namespace, console: Console) -> int:
    """Print all models, usable or not."""
    from ..models.registry import find_models, model_folders, unreadable_folders

    _warn(console, unreadable_folders())
    found = find_models()
    rows = []
    for model in found:
        bundle = model.bundle
        if bundle is None:
            console.error(model.problem or "")
        else:
            rows.append([bundle.name, bundle.about["version"], ", ".join(bundle.input.channels), bundle.about["task"]])
    if not rows:
        places = " or ".join(str(place) for place in model_folders())
        console.note(f"No model is installed: put bundle folders into {places}.")
    data = [{"name": r[0], "version": r[1], "channels": r[2], "task": r[3]} for r in rows]
    if rows:
        console.result(table(["model", "version", "channels", "task"], rows, words=range(4)), {"models": data})
    return 1 if any(model.bundle is None for model in found) else 0


def run_show(options: argparse.Namespace, console: Console) -> int:
    """Print a model's description."""
    from ..models.bundle import file_sha256
    from ..models.registry import resolve_model
    from ..models.weights_file import weights_path

    bundle = resolve_model(options.model)
    about, spec, weights = bundle.about, bundle.input, weights_path(bundle)
    calibration, fingerprint = bundle.calibration, bundle.fingerprint
    fitted = f"fitted on {calibration['cases']} cases" if calibration else "not calibrated"
    span = fingerprint["field_of_view_mm"] if fingerprint else None
    lines = [
        f"{bundle.name} {about['version']}: {about['task']}",
        f"  channels        {', '.join(spec.channels)} ({spec.modality}), axes {spec.orientation}, "
        f"spacing {_spacing(spec)}",
        f"  field of view   {_span(span)}",
        f"  structures      {', '.join(f'{label.value} {label.name}' for label in bundle.labels[1:])}",
        f"  backbone        {bundle.backbone.kind} {dict(bundle.backbone.arguments)}",
        f"  heads           {', '.join(head.name + (' (default)' if head.default else '') for head in bundle.heads)}",
        f"  calibration     {fitted}",
        f"  licences        weights {about['licence_weights']}, training data {about['licence_data']}",
        f"  cite            {about['citation']}",
        f"  weights         {weights}",
        f"  SHA-256         {file_sha256(weights) if weights.is_file() else 'weights missing'}",
    ]
    lines += [f"  notes           {about['notes']}"] if "notes" in about else []
    console.result("\n".join(lines), bundle.to_json())
    return 0


def _warn(console: Console, problems: Sequence[str]) -> None:
    for problem in problems:
        console.note(f"Warning: {problem}.")


def _spacing(spec: Any) -> str:
    if spec.slice_edge is not None:
        return f"such that the longer edge of a slice has {spec.slice_edge} voxels"
    return "as given" if spec.spacing_mm is None else " x ".join(f"{v:g}" for v in spec.spacing_mm) + " mm"


def _span(span: Any) -> str:
    if span is None:
        return "not recorded"
    pairs = zip(span["low"], span["high"], strict=True)
    return " x ".join(f"{low:g}-{high:g}" for low, high in pairs) + " mm"


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """Check every asked model; exit code 1 if one is not whole."""
    from ..errors import InputError
    from ..models.registry import find_models, resolve_model, unreadable_folders

    bundles = [resolve_model(options.model)] if options.model else []
    problems = []
    if not options.model:
        _warn(console, unreadable_folders())
        found = find_models()
        bundles = [model.bundle for model in found if model.bundle]
        problems = [model.problem or "" for model in found if model.problem]
    for bundle in bundles:
        try:
            _verify(bundle, options.load)
        except InputError as error:
            problems.append(str(error))
        else:
            console.result(f"{bundle.name}: whole", {"model": bundle.name, "whole": True})
    for problem in problems:
        console.error(problem)
    return 1 if problems else 0


def _verify(bundle: "Bundle", load: bool) -> None:
    """Check the weights file of a bundle and its curves, and where `load` that each head loads.

    Raises:
        InputError: a file is damaged, or the weights do not fit the description.
    """
    from ..models.curves import read_curves
    from ..models.weights_file import verify_tensors, verify_weights, weights_path

    verify_weights(bundle)
    verify_tensors(bundle)
    read_curves(weights_path(bundle).parent)
    if load:
        from ..models.bundle_network import load_network

        for head in bundle.heads:
            load_network(bundle, head.name)


ABOUT = ("name", "version", "task", "licence_weights", "licence_data", "citation")


def _add_import_nnunet(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    command = commands.add_parser(
        "import-nnunet",
        parents=[common],
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
    from ..models.nnunet_import import about_of, read_nnunet_folder, write_nnunet_bundle

    if options.output is None and options.run_folder is None:
        raise UsageError("Nothing is to be written: give --output for a bundle, --run for a training run, or both.")
    if options.run_folder is not None and options.run_folder.exists():
        raise OutputError(f"{options.run_folder} exists already: choose another folder for the training run.")
    orientation = _orientation(options.orientation)
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
    from ..atomic_files import atomic_folder
    from ..models.nnunet_import import head_recipe
    from ..training.recipe import recipe_from_json
    from ..training.run_folder import RunFolder

    with atomic_folder(target) as work:
        run = RunFolder(work)
        run.start(recipe_from_json(head_recipe(folder, about), folder.source), {"backbone_source": folder.source})
        run.save_best("backbone", folder.weights)


def _orientation(text: str | None) -> str | None:
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


def _add_import_checkpoint(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `import-checkpoint`."""
    command = commands.add_parser(
        "import-checkpoint",
        parents=[common],
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
    command.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    command.set_defaults(run=run_import_checkpoint)


def run_import_checkpoint(options: argparse.Namespace, console: Console) -> int:
    """Write the bundle."""
    from ..training.import_weights import import_checkpoint

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


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `models`, `import-checkpoint` and `import-nnunet`."""
    _add_models(commands, common)
    _add_import_checkpoint(commands, common)
    _add_import_nnunet(commands, common)
