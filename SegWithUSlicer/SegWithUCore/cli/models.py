"""`segwithu check`, whether inputs and cases are intact; `segwithu models`: list, get, compile, delete."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.bundle import Bundle, read_bundle
from ..models.installed import find_models, model_folders, resolve_model, unreadable_folders
from ..network.specs import WITHOUT_TORCH
from ..util.errors import InputError, UsageError
from .arguments import add_command, refuse_if
from .console import Console, table, terminal_line

if TYPE_CHECKING:
    from ..models.model_row import ModelRow

_NAMED = {"help": "name, NAME@VERSION or folder"}


def add_commands(commands: Any) -> None:
    """Add `check` and `models`."""
    check = add_command(commands, "check", run_check)
    check.add_argument("places", nargs="+", type=Path, metavar="INPUT|CASE", help="image files, folders of DICOM "
                       "series or in nnU-Net naming, case folders, or folders of any of these")  # fmt: skip
    check.add_argument("--images", action="append", default=[], type=Path, metavar="FOLDER",
                       help="folder in which the images of finished cases lie, which are read, too")  # fmt: skip
    mend = check.add_mutually_exclusive_group()
    mend.add_argument("--take-as-edit", metavar="NAME", help="keep what another program saved over the segmentation of "
                      "a case as the version of this reviewer, and restore it")  # fmt: skip
    mend.add_argument("--restore", action="store_true", help="restore a segmentation that was saved over")
    command = commands.add_parser("models", shared=False, help="list, show, verify, download, import and delete models")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = add_command(actions, "list", run_list)
    listing.add_flag("--available", "also models of the registries in SEGWITHU_REGISTRY (connects to servers)")
    show = add_command(actions, "show", run_show)
    show.add_argument("model", **_NAMED)
    verify = add_command(actions, "verify", run_verify)
    verify.add_argument("model", nargs="?", help="name, NAME@VERSION or folder (default: all installed models)")
    verify.add_flag("--load", "also build the network and load its weights (needs torch, but for ONNX networks)")
    verify.add_shared("--network")
    compiling = add_command(actions, "compile", run_compile)
    compiling.add_argument("model", **_NAMED)
    compiling.add_shared("--network", "--threads")
    download = add_command(actions, "download", run_download)
    download.add_argument("model", metavar="NAME[@VERSION]", help="without a version the newest")
    download.add_argument("--from", dest="place", metavar="URL|FOLDER", help="registry (default: SEGWITHU_REGISTRY)")
    download.add_flag("--yes", "accept licences that forbid commercial use")
    download.add_flag("--withdrawn", "accept a version that was withdrawn")
    importing = add_command(actions, "import", run_import)
    importing.add_argument("source", type=Path, metavar="SOURCE", help="folder of a bundle or an nnU-Net, a .zip of "
                           "either, or an .onnx file")  # fmt: skip
    importing.add_argument("--spec", type=Path, metavar="SPEC.json", help="what an .onnx file expects and gives "
                           "(default: the .json of its name beside it)")  # fmt: skip
    delete = add_command(actions, "delete", run_delete)
    delete.add_argument("model", metavar="NAME[@VERSION]", help="with its version if several are installed")
    delete.add_flag("--yes", "answer yes to all questions")


def run_check(options: argparse.Namespace, console: Console) -> int:
    """Check that inputs and finished cases are intact.

    Read images, DICOM series and finished case folders as the other commands would, and report what is wrong with
    each; nothing is segmented, and nothing written but with --restore and --take-as-edit. Exit code 1 where one is
    refused or changed. For models see models verify.

    Examples:
    check DATA
    check results/case_1 --take-as-edit "A. Smith"
    """
    from ..review.check import BAD, check_paths

    console.started()
    if options.restore or options.take_as_edit:
        _mend(options, console)
    rows, counts, bad = [], Counter[str](), False
    for one in check_paths(options.places, options.images):
        rows.append([str(one.source), one.kind, str(one.outcome)])
        counts[str(one.outcome)] += 1
        bad |= one.outcome in BAD
        metadata = {"source": str(one.source), "kind": one.kind, "outcome": str(one.outcome), **one.metadata}
        console.step("", {"event": "checked", **metadata, "warnings": list(one.messages)})
        for message in one.messages:
            if one.outcome in BAD:
                console.error(message, source=str(one.source))
            else:
                console.note(message)
    summed_up = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    text = f"{table(['what', 'kind', 'outcome'], rows, words=(0, 1, 2))}\n{len(rows)} checked: {summed_up}."
    console.result(text, {"checked": len(rows), "outcomes": dict(counts)})
    return 1 if bad else 0


def _mend(options: argparse.Namespace, console: Console) -> None:
    """Undo what another program has done to the segmentation of a case, or keep that as a reviewer's edit first."""
    from ..review.corrections import restore_segmentation, take_as_edit

    refuse_if((len(options.places) > 1, "--restore and --take-as-edit go with one CASE."))
    if options.take_as_edit:
        console.note(f"Kept as an edit: {take_as_edit(options.places[0], options.take_as_edit)[0]}.")
    console.note(*(f"Restored: {path}." for path in restore_segmentation(options.places[0])))


def run_list(options: argparse.Namespace, console: Console) -> int:
    """List all installed models, usable or not.

    Examples:
    models list
    models list --available
    """
    from ..models.model_row import overview
    from ..models.registry import read_registries

    found, known = find_models(), read_registries(connect=options.available)
    console.warn(*(f"{problem.removesuffix('.')}." for problem in [*unreadable_folders(), *known.problems]))
    rows = [row for row in overview(found, known) if options.available or row.folder is not None]
    for row in rows:
        if row.state == "damaged":
            console.error(row.note)
        elif row.note and row.folder is not None:
            withdrawn = " was withdrawn" if row.state == "withdrawn" else ""
            console.warn(f"{row.name} {row.version}{withdrawn}: {row.note}")
    shown = [row for row in rows if row.state != "damaged"]
    if shown:
        console.result(_models_table(shown, options.available), {"models": [row.to_json() for row in shown]})
    else:
        places = " or ".join(str(place) for place in model_folders())
        console.note(f"No model is installed: put bundle folders into {places}.")
    return 1 if (options.available and known.problems) or any(model.bundle is None for model in found) else 0


def _models_table(rows: "Sequence[ModelRow]", available: bool) -> str:
    header, cells = ["model", "version", "channels", "task"], []
    for row in rows:
        cells.append([row.name, row.version, ", ".join(row.channels), row.task])
        if available:
            size = "" if row.size is None else f"{row.size / 1e6:.1f} MB"
            cells[-1] += [row.state, f"{row.licence_weights}, data {row.licence_data}", size]
    header += ["state", "licences", "size"] if available else []
    return table(header, cells, words=range(6))


def run_show(options: argparse.Namespace, console: Console) -> int:
    """Show the card of a model: purpose and measured accuracy.

    Examples:
    models show hippocampus
    """
    from ..models.model_card import model_card
    from ..models.registry import read_registries

    bundle = resolve_model(options.model)
    why = read_registries().withdrawn(bundle.name, bundle.about["version"])
    if why:
        console.warn(f"{bundle.name} {bundle.about['version']} was withdrawn: {why}")
    console.result(model_card(bundle), bundle.to_json())
    return 0


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """Check description, hashes and weights files of models.

    Examples:
    models verify
    """
    from ..inference.engines.choice import open_engine
    from ..models.bundle_files import check_files

    for problem in [] if options.model else unreadable_folders():
        console.warn(f"{problem}.")
    found = [] if options.model else find_models()
    bundles = [resolve_model(options.model)] if options.model else [model.bundle for model in found if model.bundle]
    problems = [model.problem for model in found if model.problem]
    named = Counter(bundle.name for bundle in bundles)
    for bundle in bundles:
        try:
            check_files(bundle)
            if options.load and bundle.backbone.kind in WITHOUT_TORCH:
                open_engine(bundle)
            elif options.load:
                from ..models.bundle_network import load_network

                for head in bundle.heads:
                    load_network(bundle, head.name)
        except InputError as error:
            problems.append(str(error))
        else:
            name = f"{bundle.name} {bundle.about['version']} in {bundle.folder}"
            facts = {"model": bundle.name, "folder": str(bundle.folder), "whole": True}
            console.result(f"{name if named[bundle.name] > 1 else bundle.name}: whole", facts)
    console.error(*problems)
    return 1 if problems else 0


def run_compile(options: argparse.Namespace, console: Console) -> int:
    """Compile graphs for the engine openvino into a model.

    Write graphs for the default head into the bundle, replacing existing ones, so that it runs without torch, and
    compare with torch on a random input. Needs torch and openvino; nothing is sent anywhere.

    Examples:
    models compile my_model
    """
    from ..inference.engines.compiled_graphs import compile_model
    from ..inference.engines.openvino_import import OpenVINOImportError

    try:
        bundle = compile_model(resolve_model(options.model))
    except OpenVINOImportError as error:
        raise UsageError(f"Graphs are compiled by OpenVINO, but {error}: pip install openvino.") from error
    assert bundle.graphs is not None
    differences = ", ".join(f"{name} {value:.2g}" for name, value in bundle.graphs.largest_difference.items())
    text = f"{bundle.name}: graphs of the head '{bundle.graphs.head}'; largest differences from torch: {differences}"
    console.result(text, asdict(bundle.graphs))
    return 0


def compile_graphs(bundle: Bundle, console: Console) -> None:
    """Give the bundle graphs if it has none yet, or say why it goes without."""
    from ..models.graphs import graphs_lacking

    if graphs_lacking(bundle) is None:
        return
    from ..inference.engines.openvino_import import OpenVINOImportError

    try:
        from ..inference.engines.compiled_graphs import compile_model

        compile_model(bundle)
    except (OpenVINOImportError, InputError, UsageError, ModuleNotFoundError) as error:
        reason = str(error).removesuffix(".")
        console.note(f"No graphs for the engine openvino: {reason}. The model is whole, and runs on torch.")


def run_download(options: argparse.Namespace, console: Console) -> int:
    """Install a model of a registry (connects to its server).

    Show size and licences of a model, then download it to your folder of models.

    Examples:
    models download liver
    """
    console.started()
    from ..models.model_name import parse_name
    from ..models.registry import read_registries
    from ..models.store import download, installed_folder, target_of

    name, version = parse_name(options.model)
    known = read_registries(None if options.place is None else [options.place], connect=True)
    if known.problems and not known.listed:
        raise InputError(known.problems[0])
    console.warn(*known.problems)
    offer = known.find(name, version)
    entry, folder = offer.entry, installed_folder(offer)
    if folder is None:
        allowed = "" if entry["commercial_use"] else " (no commercial use)"
        text = f"{offer.key}: {entry['task']}\n  {offer.size / 1e6:.1f} MB, from {offer.source} to {target_of(offer)}\n"
        text += f"  weights {entry['licence_weights']}, training data {entry['licence_data']}{allowed}\n"
        text += f"  cite {entry['citation']}"
        console.step(text, {"event": "offer", **entry, "size": offer.size, "registry": offer.source})
        if why := known.withdrawn(name, offer.version):
            console.warn(f"{offer.key} was withdrawn: {why}")
            _agree(f"Install {offer.key} although it was withdrawn?", "--withdrawn", options.withdrawn, console)
        if not entry["commercial_use"]:
            question = f"The licences of {offer.key} forbid commercial use. Do you agree to them?"
            _agree(question, "--yes", options.yes, console)
        with console.progress(f"download {offer.key}") as progress:
            installed = download(offer, progress)
    else:
        installed = folder
    data = {"model": offer.name, "version": offer.version, "folder": str(installed), "new": folder is None}
    console.result(f"{offer.key} is installed in {installed}", data)
    return 0


def _agree(question: str, option: str, confirmed: bool, console: Console) -> None:
    """Ask, unless it was confirmed beforehand by an option.

    Raises:
        UsageError: the answer is no, or there is no terminal for it.
    """
    if confirmed:
        return
    if console.as_json or not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody can be asked here: pass {option} if you do.")
    print(f"{terminal_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("Nothing was changed, for you did not agree.")


def run_import(options: argparse.Namespace, console: Console) -> int:
    """Install a model from a folder, a zip file or an ONNX file.

    Take the folder of a bundle; a result folder of nnU-Net, with its first fold (for choices use import-nnunet); a zip
    file of either; or a network in an ONNX file, with its specification. Networks trained elsewhere are not calibrated
    yet (docs/models/bring_your_network.md).

    Examples:
    models import my_model
    models import network.onnx --spec network.json
    """
    console.started()
    from ..models.store import import_model
    from .import_model import bundle_of

    begin = f"import {options.source.name}"
    with console.progress(begin) as progress, bundle_of(options.source, options.spec) as (made, kind):
        folder = import_model(made, progress, options.source)
    bundle = read_bundle(folder)
    about, structures = bundle.about, ", ".join(label.name for label in bundle.labels[1:])
    data = {"model": about["name"], "version": about["version"], "folder": str(folder), "new": True, "found": kind}
    licences = f"weights {about['licence_weights']}, training data {about['licence_data']}"
    text = f"Found {kind} of {structures}. {about['name']} {about['version']} is installed in {folder}; {licences}"
    console.result(text, data)
    return 0


def run_delete(options: argparse.Namespace, console: Console) -> int:
    """Delete a model from your own folder of models.

    Examples:
    models delete my_model
    """
    from ..models.store import delete, folder_to_delete

    folder = folder_to_delete(options.model)
    _agree(f"Delete {options.model} in {folder}?", "--yes", options.yes, console)
    delete(options.model)
    console.result(f"{options.model} is deleted ({folder})", {"model": options.model, "folder": str(folder)})
    return 0
