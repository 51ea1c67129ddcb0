"""`segwithu models`: list, show, verify, download, import and delete; `download` and `list --available` connect."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, UsageError
from . import compile as compiling
from .arguments import add_network_option
from .console import Console, table, terminal_line

if TYPE_CHECKING:
    from ..models.bundle import Bundle
    from ..models.model_row import ModelRow
    from ..models.registry import Offer


def add_commands(commands: Any) -> None:
    """Add `segwithu models`."""
    command = commands.add_parser("models", shared=False, help="list, show, verify, download, import and delete models")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser(
        "list",
        examples=("models list", "models list --available"),
        help="all installed models, a line each",
    )
    listing.add_argument(
        "--available",
        action="store_true",
        help="also those that the registries in SEGWITHU_REGISTRY offer (connects to their servers)",
    )
    listing.set_defaults(run=run_list)
    show = actions.add_parser(
        "show", examples=("models show hippocampus",), help="what a model knows and how well it was measured to work"
    )
    show.add_argument("model", help="name, NAME@VERSION or folder of an installed model")
    show.set_defaults(run=run_show)
    verify = actions.add_parser(
        "verify",
        examples=("models verify", "models verify hippocampus --deep"),
        help="check description, hashes and weights files",
    )
    verify.add_argument("model", nargs="?", help="name, NAME@VERSION or folder (default: all installed models)")
    verify.add_argument("--load", action="store_true", help="also build the network and load its weights (needs torch)")
    verify.add_argument(
        "--deep",
        action="store_true",
        help="also run compiled graphs on their stored input and compare with what torch gave there (needs openvino)",
    )
    add_network_option(verify)
    verify.set_defaults(run=run_verify)
    compiling.add_action(actions)
    _add_store(actions)


def _add_store(actions: Any) -> None:
    download = actions.add_parser(
        "download",
        examples=("models download liver",),
        help="install a model of a registry (connects to its server)",
        description="Show size and licences of a model, then download it to your folder of models.",
    )
    download.add_argument("model", metavar="NAME[@VERSION]", help="without a version the newest")
    download.add_argument(
        "--from", dest="place", metavar="URL|FOLDER", help="registry to take it from (default: SEGWITHU_REGISTRY)"
    )
    download.add_argument("--yes", action="store_true", help="accept licences that forbid commercial use")
    download.add_argument("--withdrawn", action="store_true", help="accept a version that was withdrawn")
    download.set_defaults(run=run_download)
    importing = actions.add_parser(
        "import", examples=("models import my_model.zip",), help="install a model from a folder or zip file"
    )
    importing.add_argument("source", type=Path, metavar="FOLDER|ZIP", help="bundle that was fetched by hand")
    importing.set_defaults(run=run_import)
    delete = actions.add_parser(
        "delete", examples=("models delete my_model",), help="delete a model from your own folder of models"
    )
    delete.add_argument("model", metavar="NAME[@VERSION]", help="with its version where several are installed")
    delete.add_argument("--yes", action="store_true", help="confirm beforehand what would be asked")
    delete.set_defaults(run=run_delete)


def run_list(options: argparse.Namespace, console: Console) -> int:
    """Print all models, usable or not."""
    from ..models.installed import find_models, model_folders, unreadable_folders
    from ..models.model_row import overview
    from ..models.registry import read_registries

    _warn(console, unreadable_folders())
    found = find_models()
    known = read_registries(connect=options.available)
    failed = options.available and known.problems
    for problem in known.problems:
        if failed:
            console.error(problem)
        else:
            console.note(f"Warning: {problem}")
    rows = [row for row in overview(found, known) if options.available or row.folder is not None]
    for row in rows:
        if row.state == "damaged":
            console.error(row.note)
        elif row.state == "withdrawn" and row.folder is not None:
            console.note(f"Warning: {row.name} {row.version} was withdrawn: {row.note}")
        elif row.note and row.folder is not None:
            console.note(f"Warning: {row.note}")
    shown = [row for row in rows if row.state != "damaged"]
    if not shown:
        places = " or ".join(str(place) for place in model_folders())
        console.note(f"No model is installed: put bundle folders into {places}.")
    else:
        text = _available_table(shown) if options.available else _installed_table(shown)
        console.result(text, {"models": [row.to_json() for row in shown]})
    return 1 if failed or any(model.bundle is None for model in found) else 0


def _installed_table(rows: "Sequence[ModelRow]") -> str:
    cells = [[row.name, row.version, ", ".join(row.channels), row.task] for row in rows]
    return table(["model", "version", "channels", "task"], cells, words=range(4))


def _available_table(rows: "Sequence[ModelRow]") -> str:
    cells = []
    for row in rows:
        licences = f"{row.licence_weights}, data {row.licence_data}"
        size = "" if row.size is None else f"{row.size / 1e6:.1f} MB"
        calibrated = {True: "yes", False: "no", None: "?"}[row.calibrated]
        cells.append([row.name, row.version, row.state, size, calibrated, licences, row.task])
    return table(
        ["model", "version", "state", "size", "calibrated", "licences", "task"], cells, words=(0, 1, 2, 4, 5, 6)
    )


def run_show(options: argparse.Namespace, console: Console) -> int:
    """Print a model's description."""
    from ..models.installed import resolve_model
    from ..models.registry import read_registries

    bundle = resolve_model(options.model)
    why = read_registries().withdrawn(bundle.name, bundle.about["version"])
    if why:
        console.note(f"Warning: {bundle.name} {bundle.about['version']} was withdrawn: {why}")
    console.result("\n".join(_description(bundle)), bundle.to_json())
    return 0


def _description(bundle: "Bundle") -> list[str]:
    from ..models.bundle import file_sha256
    from ..models.bundle_files import weights_path
    from ..models.model_card import calibration_words
    from ..models.quality import input_check_words, model_warnings

    about, spec, weights = bundle.about, bundle.input, weights_path(bundle)
    calibration, fingerprint = bundle.calibration, bundle.fingerprint
    fitted = f"fitted on {calibration_words(calibration)}" if calibration else "not calibrated"
    span = fingerprint["field_of_view_mm"] if fingerprint else None
    lines = [
        *(f"Warning: {warning}" for warning in model_warnings(bundle)),
        f"{bundle.name} {about['version']}: {about['task']}",
        f"  channels        {', '.join(spec.channels)} ({spec.modality}), axes {spec.orientation}, "
        f"spacing {_spacing(spec)}",
        f"  field of view   {_span(span)}",
        f"  structures      {', '.join(f'{label.value} {label.name}' for label in bundle.labels[1:])}",
        f"  backbone        {bundle.backbone.kind} {dict(bundle.backbone.arguments)}",
        f"  heads           {', '.join(head.name + (' (default)' if head.default else '') for head in bundle.heads)}",
        f"  calibration     {fitted}",
        f"  input check     {input_check_words(bundle)}",
        f"  licences        weights {about['licence_weights']}, training data {about['licence_data']}",
        f"  cite            {about['citation']}",
        f"  weights         {weights}",
        f"  SHA-256         {file_sha256(weights) if weights.is_file() else 'weights missing'}",
    ]
    lines += [f"  notes           {about['notes']}"] if "notes" in about else []
    return [*lines, *_measured(bundle)]


def _measured(bundle: "Bundle") -> list[str]:
    """Say how well it was measured to work."""
    if bundle.figures is None:
        return ["  measured        not yet: segwithu evaluate --record"]
    from SegWithULab.evaluation.messages import messages

    return ["  measured", *(f"    {sentence}" for sentence in messages(bundle.figures))]


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
    from ..models.bundle_files import check_files
    from ..models.installed import find_models, resolve_model, unreadable_folders

    bundles = [resolve_model(options.model)] if options.model else []
    problems = []
    if not options.model:
        _warn(console, unreadable_folders())
        found = find_models()
        bundles = [model.bundle for model in found if model.bundle]
        problems = [model.problem or "" for model in found if model.problem]
    for bundle in bundles:
        try:
            check_files(bundle)
            if options.load:
                from ..models.bundle_network import load_network

                for head in bundle.heads:
                    load_network(bundle, head.name)
            repeated = compiling.repeated_differences(bundle) if options.deep else None
        except InputError as error:
            problems.append(str(error))
        else:
            words = "" if repeated is None else f"; {compiling.differences_words(repeated)}"
            facts = {} if repeated is None else {"largest_difference": repeated}
            several = sum(other.name == bundle.name for other in bundles) > 1
            name = f"{bundle.name} {bundle.about['version']} in {bundle.folder}" if several else bundle.name
            console.result(f"{name}: whole{words}", {"model": bundle.name, "whole": True, **facts})
    for problem in problems:
        console.error(problem)
    return 1 if problems else 0


def run_download(options: argparse.Namespace, console: Console) -> int:
    """Install a model."""
    console.started()
    from ..models.model_name import parse_name
    from ..models.registry import read_registries
    from ..models.store import download, installed_folder, target_of

    name, version = parse_name(options.model)
    known = read_registries(None if options.place is None else [options.place], connect=True)
    if known.problems and not known.listed:
        raise InputError(known.problems[0])
    for problem in known.problems:
        console.note(f"Warning: {problem}")
    offer = known.find(name, version)
    data = {"model": offer.name, "version": offer.version}
    folder = installed_folder(offer)
    if folder is not None:
        console.result(f"{offer.key} is installed already in {folder}", {**data, "folder": str(folder), "new": False})
        return 0
    _show_offer(offer, target_of(offer), console)
    if why := known.withdrawn(name, offer.version):
        console.note(f"Warning: {offer.key} was withdrawn: {why}")
        _agree(f"Install {offer.key} although it was withdrawn?", "--withdrawn", options.withdrawn, console)
    if not offer.entry["commercial_use"]:
        question = f"The licences of {offer.key} forbid commercial use. Do you agree to them?"
        _agree(question, "--yes", options.yes, console)
    with console.progress(f"download {offer.key}") as progress:
        folder = download(offer, progress)
    console.result(f"{offer.key} is installed in {folder}", {**data, "folder": str(folder), "new": True})
    return 0


def _show_offer(offer: "Offer", target: Path, console: Console) -> None:
    """Show size and licences."""
    entry = offer.entry
    allowed = "" if entry["commercial_use"] else " (no commercial use)"
    lines = [
        f"{offer.name} {offer.version}: {entry['task']}",
        f"  size      {offer.size / 1e6:.1f} MB, from {offer.source} to {target}",
        f"  licences  weights {entry['licence_weights']}, training data {entry['licence_data']}{allowed}",
        f"  cite      {entry['citation']}",
    ]
    data = {"event": "offer", **entry, "size": offer.size, "registry": offer.source}
    console.step("\n".join(terminal_line(line) for line in lines), data)


def _agree(question: str, option: str, confirmed: bool, console: Console) -> None:
    """Ask, unless it was confirmed beforehand.

    Args:
        option: that confirms it.

    Raises:
        UsageError: the answer is no, or nobody is there to give one.
    """
    if confirmed:
        return
    if console.as_json or not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here: pass {option} if you do.")
    print(f"{terminal_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was changed, for you did not agree.")


def run_import(options: argparse.Namespace, console: Console) -> int:
    """Install a bundle from a folder or zip file."""
    console.started()
    from ..models.bundle import read_bundle
    from ..models.store import import_model

    with console.progress(f"import {options.source.name}") as progress:
        folder = import_model(options.source, progress)
    about = read_bundle(folder).about
    console.result(
        f"{about['name']} {about['version']} is installed in {folder}; "
        f"weights {about['licence_weights']}, training data {about['licence_data']}",
        {"model": about["name"], "version": about["version"], "folder": str(folder), "new": True},
    )
    return 0


def run_delete(options: argparse.Namespace, console: Console) -> int:
    """Delete a model."""
    from ..models.store import delete, folder_to_delete

    folder = folder_to_delete(options.model)
    _agree(f"Delete {options.model} in {folder}?", "--yes", options.yes, console)
    delete(options.model)
    console.result(f"{options.model} is deleted ({folder})", {"model": options.model, "folder": str(folder)})
    return 0
