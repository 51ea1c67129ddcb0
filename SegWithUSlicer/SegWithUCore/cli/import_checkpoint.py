"""`segwithu import-checkpoint`: a model bundle of weights that were trained elsewhere."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import OutputError, UsageError
from .console import Console

KINDS = {
    "tfjs-meshnet": "model.json of a MeshNet in TensorFlow.js, as brainchop has them",
    "segwithu": "safetensors checkpoint of the method's authors, head included",
    "weights": "state dict of the recipe's backbone (safetensors, or .pt of tensors only)",
}


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
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
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
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
