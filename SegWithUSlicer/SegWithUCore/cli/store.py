"""`segwithu models` download, import and delete: models that travel. Only `download` connects, to what users named."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, UsageError
from .console import Console, terminal_line

if TYPE_CHECKING:
    from ..models.store_registry import Offer


def add_actions(actions: Any) -> None:
    """Add the actions to `segwithu models`."""
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
    _add_local_actions(actions)


def _add_local_actions(actions: Any) -> None:
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


def run_download(options: argparse.Namespace, console: Console) -> int:
    """Install a model."""
    console.started()
    from ..models.model_name import parse_name
    from ..models.store import download, installed_folder, target_of
    from ..models.store_registry import read_registries

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
