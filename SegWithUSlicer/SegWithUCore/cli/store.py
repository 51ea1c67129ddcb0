"""`segwithu models` refresh, download, import, delete, mirror and publish: models that travel.

Only `refresh` and `download` connect to a server, and only to those that the user named.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .console import Console, terminal_line

if TYPE_CHECKING:
    from ..models.download import Downloader
    from ..models.store_registry import KnownRegistries, Offer

YES_HELP = "confirm beforehand what would be asked"


def add_actions(actions: Any, common: argparse.ArgumentParser) -> None:
    """Add the actions to `segwithu models`."""
    refresh = actions.add_parser(
        "refresh",
        parents=[common],
        help="fetch the lists of models of the registries in SEGWITHU_REGISTRY (connects to them)",
    )
    refresh.set_defaults(run=run_refresh)
    download = actions.add_parser(
        "download",
        parents=[common],
        help="install a model of a registry (connects to its server)",
        description="Show size and licences of a model, then download it to your folder of models. What was cut off, "
        "killed or cancelled is gone on with by the same command.",
    )
    download.add_argument("model", metavar="NAME[@VERSION]", help="without a version the newest")
    download.add_argument(
        "--from", dest="place", metavar="URL|FOLDER", help="registry to take it from (default: SEGWITHU_REGISTRY)"
    )
    download.add_argument(
        "--yes", action="store_true", help="accept licences that forbid commercial use, and models that were withdrawn"
    )
    download.set_defaults(run=run_download)
    _add_local_actions(actions, common)


def _add_local_actions(actions: Any, common: argparse.ArgumentParser) -> None:
    importing = actions.add_parser("import", parents=[common], help="install a model from a folder or zip file")
    importing.add_argument("source", type=Path, metavar="FOLDER|ZIP", help="bundle that was fetched by hand")
    importing.set_defaults(run=run_import)
    delete = actions.add_parser("delete", parents=[common], help="delete a model from your own folder of models")
    delete.add_argument("model", metavar="NAME[@VERSION]", help="with its version where several are installed")
    delete.add_argument("--yes", action="store_true", help=YES_HELP)
    delete.set_defaults(run=run_delete)
    mirror = actions.add_parser(
        "mirror",
        parents=[common],
        help="copy installed models to a folder with a registry, for computers without a network",
        description="Copy installed models, with a registry of them, to a folder such as a USB stick or a network "
        "share. Other computers use it with SEGWITHU_REGISTRY=FOLDER, or models download NAME --from FOLDER.",
    )
    mirror.add_argument("folder", type=Path, metavar="FOLDER", help="made where there is none; may hold a registry")
    mirror.add_argument("models", nargs="*", metavar="NAME[@VERSION]", help="default: all that are installed")
    mirror.set_defaults(run=run_mirror)
    publish = actions.add_parser("publish", parents=[common], help="add a bundle to the registry in a folder")
    publish.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    publish.add_argument(
        "--registry",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="folder that a server or share shows",
    )
    publish.add_argument("--replace", action="store_true", help="take the place of other files of the same version")
    publish.add_argument(
        "--non-commercial",
        action="store_true",
        help="the licences forbid commercial use",
    )
    publish.add_argument("--withdraw", metavar="WHY", help="list it as withdrawn, for this reason")
    publish.set_defaults(run=run_publish)


def run_refresh(options: argparse.Namespace, console: Console) -> int:
    """Fetch the registries."""
    from ..models.store import refresh

    for registry in refresh(lambda: _downloader(console)):
        state = "changed" if registry.changed else "unchanged"
        console.result(
            f"{registry.place}: {registry.models} {'model' if registry.models == 1 else 'models'}, {state}",
            {"registry": registry.place, "models": registry.models, "changed": registry.changed},
        )
    return 0


def run_download(options: argparse.Namespace, console: Console) -> int:
    """Install a model."""
    console.started()
    from ..models.model_name import parse_name
    from ..models.store import download, folder_of, registries_for_download, target_of
    from ..models.store_registry import find_offer

    name, version = parse_name(options.model)
    connections: list[Downloader] = []

    def connect() -> "Downloader":
        """Keep one connection for all files."""
        connections[:] = connections or [_downloader(console)]
        return connections[0]

    known = registries_for_download(options.place, connect)
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
    try:
        with console.progress(f"download {offer.entry.key}") as progress:
            folder = download(offer, connect, progress, console.note)
    except KeyboardInterrupt:
        console.note(f"What came of {offer.entry.key} is kept: the same command goes on.")
        raise
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


def run_mirror(options: argparse.Namespace, console: Console) -> int:
    """Copy models to a folder."""
    from ..models.registry import find_models, resolve_model
    from ..models.store_publish import mirror
    from ..models.store_registry import known_registries

    if options.models:
        bundles = [resolve_model(name) for name in options.models]
    else:
        found = find_models()
        for model in found:
            if model.problem:
                console.note(f"Warning: left out, for {model.problem}")
        bundles = [model.bundle for model in found if model.bundle]
    bundles = list({f"{bundle.name}@{bundle.about['version']}": bundle for bundle in reversed(bundles)}.values())[::-1]
    with console.progress("mirror") as progress:
        keys = mirror(bundles, options.folder, known_registries(), progress)
    console.result(
        f"{', '.join(keys) or 'no model'} in {options.folder}", {"registry": str(options.folder), "models": keys}
    )
    return 0


def run_publish(options: argparse.Namespace, console: Console) -> int:
    """Add a bundle to a registry."""
    from ..models.store_publish import publish

    allowed = False if options.non_commercial else None
    with console.progress("publish") as progress:
        entry = publish(options.bundle, options.registry, options.replace, allowed, options.withdraw, progress)
    state = "listed as withdrawn" if entry.withdrawn else "listed"
    console.result(
        f"{entry.key} is {state} in {options.registry} ({len(entry.files)} files, {entry.size / 1e6:.1f} MB)",
        {"model": entry.name, "version": entry.version, "registry": str(options.registry)},
    )
    return 0


def _downloader(console: Console) -> "Downloader":
    from ..models.download import Downloader

    return Downloader(note=console.note)
