"""`segwithu models`: which models there are, what they know, whether they are whole."""

import argparse
from collections.abc import Sequence
from typing import Any

from .console import Console, table


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `models list`, `models show` and `models verify`."""
    command = commands.add_parser("models", help="list, show and verify installed models")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[common], help="all installed models, a line each")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", parents=[common], help="what a model knows and how well it was measured to work")
    show.add_argument("model", help="name or folder")
    show.set_defaults(run=run_show)
    verify = actions.add_parser("verify", parents=[common], help="check description, hashes and weights")
    verify.add_argument("model", nargs="?", help="name or folder (default: all installed models)")
    verify.set_defaults(run=run_verify)


def run_list(options: argparse.Namespace, console: Console) -> int:
    """Print all models, usable or not."""
    from ..models.registry import find_models, model_folders, unreadable_places

    _warn(console, unreadable_places())
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
    from ..models.bundle import file_sha256, weights_path
    from ..models.registry import resolve_model

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
    """Load every asked model completely; exit code 1 if one is not whole."""
    from ..errors import InputError
    from ..models.bundle import load_network
    from ..models.registry import find_models, resolve_model, unreadable_places

    bundles = [resolve_model(options.model)] if options.model else []
    problems = []
    if not options.model:
        _warn(console, unreadable_places())
        found = find_models()
        bundles = [model.bundle for model in found if model.bundle]
        problems = [model.problem or "" for model in found if model.problem]
    for bundle in bundles:
        try:
            for head in bundle.heads:
                load_network(bundle, head.name)
        except InputError as error:
            problems.append(str(error))
        else:
            console.result(f"{bundle.name}: whole", {"model": bundle.name, "whole": True})
    for problem in problems:
        console.error(problem)
    return 1 if problems else 0
