"""`segwithu models` download, import and delete: models that travel. Only `download` connects, to what users named."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, UsageError
from .console import Console, terminal_line

if TYPE_CHECKING:
    from ..models.store_registry import KnownRegistries, Offer

YES_HELP = "confirm beforehand what would be asked"


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
    download.add_argument(
        "--yes", action="store_true", help="accept licences that forbid commercial use, and models that were withdrawn"
    )
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
    delete.add_argument("--yes", action="store_true", help=YES_HELP)
    delete.set_defaults(run=run_delete)


def run_download(options: argparse.Namespace, console: Console) -> int:
    """Install a model."""
    console.started()
    from ..models.model_name import parse_name
    from ..models.store import download, folder_of, reached_registries, target_of
    from ..models.store_registry import find_offer

    name, version = parse_name(options.model)
    known = reached_registries(options.place)
    if known.problems and not known.registries:
        raise InputError(known.problems[0])
    for problem in known.problems:
        console.note(f"Warning: {problem}")
    offer = find_offer(known, name, version)
    data = {"model": offer.entry.name, "version": offer.entry.version, "folder": str(target_of(offer.entry))}
    there = folder_of(offer.entry)
    if there is not None:
        data["folder"] = str(there)
        console.result(f"{offer.entry.key} is installed already in {there}", {**data, "new": False})
        return 0
    _show_offer(offer, known, options.yes, console)
    with console.progress(f"download {offer.entry.key}") as progress:
        folder = download(offer, progress)
    console.result(f"{offer.entry.key} is installed in {folder}", {**data, "new": True})
    return 0


def _show_offer(offer: "Offer", known: "KnownRegistries", confirmed: bool, console: Console) -> None:
    """Show size and licences, and ask where use is restricted.

    Raises:
        UsageError: the user does not agree, or cannot be asked.
    """
    from ..models.store import target_of

    entry = offer.entry
    allowed = "" if entry.commercial_use else " (no commercial use)"
    lines = [
        f"{entry.name} {entry.version}: {entry.task}",
        f"  size      {entry.size / 1e6:.1f} MB, from {offer.registry.source} to {target_of(entry)}",
        f"  licences  weights {entry.licence_weights}, training data {entry.licence_data}{allowed}",
        f"  cite      {entry.citation}",
    ]
    data = {"event": "offer", **entry.to_json(), "size": entry.size, "registry": offer.registry.source}
    console.step("\n".join(terminal_line(line) for line in lines), data)
    why = known.withdrawn(entry.name, entry.version)
    if why:
        console.note(f"Warning: {entry.key} was withdrawn: {why}")
        _agree(f"Install {entry.key} although it was withdrawn?", confirmed, console)
    if not entry.commercial_use:
        _agree(f"The licences of {entry.key} forbid commercial use. Do you agree to them?", confirmed, console)


def _agree(question: str, confirmed: bool, console: Console) -> None:
    """Ask, unless it was confirmed beforehand.

    Raises:
        UsageError: the answer is no, or nobody is there to give one.
    """
    if confirmed:
        return
    if console.as_json or not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here: pass --yes if you do.")
    print(f"{terminal_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was changed, for you did not agree.")


def run_import(options: argparse.Namespace, console: Console) -> int:
    """Install a bundle from a folder or zip file."""
    console.started()
    from ..models.bundle import read_bundle
    from ..models.store_import import import_model

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
    _agree(f"Delete {options.model} in {folder}?", options.yes, console)
    delete(options.model)
    console.result(f"{options.model} is deleted ({folder})", {"model": options.model, "folder": str(folder)})
    return 0
