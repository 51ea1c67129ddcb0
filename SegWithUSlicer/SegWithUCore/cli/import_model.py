"""`segwithu import-nnunet`, `import-checkpoint` and `adopt`: make models of networks that were trained elsewhere."""

import argparse
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.atomic_files import exists_error, one_writer
from ..util.errors import InputError, OutputError
from ..util.input_files import is_there, regular_file
from .arguments import CommandParser, add_command, axes, check_folder_name, int_between, refuse_if
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.evaluation.adopt import Adoption

    from ..models.nnunet_import import NnunetFolder

ABOUT = ("name", "version", "task", "licence_weights", "licence_data", "citation")
KINDS = {
    "segwithu": "safetensors checkpoint of the method's authors, head included",
    "weights": "state dict of the recipe's backbone (safetensors, or .pt of tensors only)",
}


def add_commands(commands: Any) -> None:
    """Add the three commands."""
    checkpoint = add_command(commands, "import-checkpoint", run_import_checkpoint)
    checkpoint.add_argument("source", metavar="FILE", type=Path, help="the file of the foreign network")
    kinds = "; ".join(f"{kind}: {words}" for kind, words in KINDS.items())
    checkpoint.add_argument("--kind", required=True, choices=list(KINDS), help=kinds)
    checkpoint.add_argument("--recipe", required=True, type=Path, help="recipe (JSON) with labels, channels, "
                            "spacing and licence; see Resources/Recipes")  # fmt: skip
    checkpoint.add_argument("--licence", type=Path, metavar="FILE", help="licence text to distribute with the weights")
    checkpoint.add_shared("--output", "--overwrite", "--network")
    nnunet = add_command(commands, "import-nnunet", run_import_nnunet)
    _add_nnunet_options(nnunet)
    nnunet.add_argument("--fold", default="0", help="a number, 'all', or 'mean' of the numbered (default 0)")
    nnunet.add_shared("--output", help="folder of the bundle to write")
    adopt = add_command(commands, "adopt", run_adopt)
    _add_nnunet_options(adopt)
    add = adopt.add_argument
    add("--dataset", required=True, help="the raw data set that it was trained with (imagesTr, labelsTr)")
    adopt.add_shared("--output", "--threads")
    add("--work", type=Path, help="folder for intermediate results (default: OUTPUT_adoption)")
    add("--splits", type=Path, help="splits_final.json (default: searched in nnU-Net's folders)")
    adopt.add_flag("--unseen", "the network was trained with none of these cases")
    add("--fold", help="fold whose network is used in the model (default: the lowest)")
    add("--patient-pattern", help="regular expression whose first group is the patient in a case's name")
    add("--epochs", type=int_between(1, 100_000), help="epochs of each head (default: about 2000 windows)")
    adopt.add_flag("--redo", "train heads again whose settings or cases changed")


def _add_nnunet_options(command: CommandParser) -> None:
    """Add the result folder of nnU-Net and what it does not tell."""
    add = command.add_argument
    add("folder", type=Path, metavar="RESULT_FOLDER", help="folder with plans.json, dataset.json, fold_0 ...")
    add("--configuration", help="such as 3d_fullres (default: the one that was trained)")
    add("--checkpoint", default="checkpoint_final.pth", help="file within the fold")
    add("--orientation", type=axes, help="axis directions (x, y, z) of the training images, such as LPS")
    add("--modality", help="DICOM modality (default: CT where intensities are scaled as CT, else MR)")
    for name in ABOUT:
        add(f"--{name.replace('_', '-')}", help=f"{name.replace('_', ' ')} noted in the model")
    command.add_shared("--overwrite")


def run_import_checkpoint(options: argparse.Namespace, console: Console) -> int:
    """Import weights that were trained elsewhere as a model bundle.

    The model is not calibrated, and has an untrained uncertainty head unless the file contains one: run train-head
    with a recipe on this model, then calibrate.

    Examples:
    import-checkpoint weights.safetensors --kind segwithu --recipe recipe.json --output my_model
    """
    from SegWithULab.training.make_bundle import import_checkpoint

    output = options.output
    if output.exists() and not options.overwrite:
        raise exists_error(output)
    given = (options.kind, options.source, options.recipe, output, options.licence, options.overwrite)
    bundle = import_checkpoint(*given)
    head = "its own head" if bundle.default_head.trained else "an untrained head"
    text = f"{bundle.name}, {bundle.backbone.kind} with {head}, not calibrated, in {output}"
    console.result(text, {"bundle": str(output), "trained_head": bundle.default_head.trained})
    return 0


def run_import_nnunet(options: argparse.Namespace, console: Console) -> int:
    """Import a trained nnU-Net (version 2) as a model bundle.

    Read a fold of an nnU-Net result folder (plans.json, dataset.json, fold_0), or all, and write a bundle whose logits
    equal nnU-Net's, with an untrained uncertainty head. train-head, with a recipe on this model, and calibrate can
    follow.

    Examples:
    import-nnunet nnUNet_results/Dataset004_Hippocampus --output hippocampus_nnunet
    """
    console.started()
    from ..models.nnunet_import import about_of, read_nnunet_folder, write_nnunet_bundle

    if options.name is not None:
        check_folder_name(options.name, "--name")
    folder = read_nnunet_folder(options.folder, options.fold, **_reading(options))
    about = about_of(folder, {name: getattr(options, name) for name in ABOUT})
    console.note(*folder.model.notes)
    bundle = write_nnunet_bundle(folder, about, options.output, options.overwrite)
    console.result(f"{bundle.name}, not calibrated, in {options.output}", {"bundle": str(options.output)})
    return 0


def _reading(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("configuration", "checkpoint", "orientation", "modality")}


def run_adopt(options: argparse.Namespace, console: Console) -> int:
    """Make a calibrated model of a trained nnU-Net, in one command.

    Import the networks of an nnU-Net result folder, train an uncertainty head, calibrate on cases that the networks
    have not seen, evaluate, and write the model; its card states whether its uncertainty can be trusted.
    Ctrl-C keeps what is finished; the same command resumes.

    Examples:
    adopt nnUNet_results/Dataset004_Hippocampus --dataset nnUNet_raw/Dataset004_Hippocampus -o hippo
    """
    console.started()
    from ..network.backbones.nnunet import package

    package("architectures")  # whether it is there is said before the work
    from SegWithULab.evaluation.adopt import AdoptionStages
    from SegWithULab.evaluation.report import PAGE_FILE
    from SegWithULab.training.run_record import hashes_of
    from SegWithULab.training.stages import has_left, run_stages

    job, first = _job(options)
    output = options.output
    with one_writer(output, overwrite=True):
        if output.exists() and not options.overwrite and not has_left(job.work, "model", output):
            raise OutputError(f"{output} exists already: choose another folder or pass --overwrite.", "exists-already")
        job = replace(job, replaces=output.exists())
        console.note(*_notes(job))
        with console.progress("adopt") as progress:  # before minutes of training
            hashes_of(list(job.cases.values()), console.note, progress)
        with console.progress("adopt") as progress:
            found = run_stages(job.work, AdoptionStages(job, first).stages(), progress, options.redo)["model"]
    if found["graphs"]:
        console.note(f"No graphs for the engine openvino: {found['graphs']}. The model is whole, and runs on torch.")
    warnings = found["warnings"]
    lines = [f"Warning: {warning}" for warning in warnings]
    lines += [found["headline"], f"The model is in {output}; its {PAGE_FILE} has all metrics."]
    lines.append(f"{job.work} holds what was needed on the way and may be deleted.")
    data = {"bundle": str(output), "trust": found["trust"], "headline": found["headline"]}
    console.result("\n".join(lines), {**data, "warnings": warnings})
    return 0


def _job(options: argparse.Namespace) -> "tuple[Adoption, NnunetFolder]":
    """Check everything that can be checked before work begins."""
    from SegWithULab.evaluation.adopt import Adoption
    from SegWithULab.evaluation.adopt_folds import plan_folds
    from SegWithULab.training.dataset import check_channels, find_cases
    from SegWithULab.training.plan import patients_by_name

    from ..models.nnunet_import import read_nnunet_folder

    if options.name is not None:
        check_folder_name(options.name, "--name")
    found = find_cases(options.dataset)
    patients = patients_by_name([case.name for case in found], options.patient_pattern)
    cases = {case.name: replace(case, patient=case.patient or patients[case.name]) for case in found}
    trained = (options.folder, Path(options.dataset), {name: case.group for name, case in cases.items()})
    asked = {"first": options.fold, "splits": options.splits, "all_unseen": options.unseen}
    plan = plan_folds(*trained, options.checkpoint, **asked)
    first = read_nnunet_folder(options.folder, plan.folds[0].network, **_reading(options))
    used = {name for fold in plan.folds for name in (*fold.seen, *fold.unseen)}
    cases = {name: case for name, case in cases.items() if name in used}
    check_channels(list(cases.values()), first.model.input)
    output = options.output
    about = {name: getattr(options, name) for name in ABOUT}
    if about["name"] is None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", output.name):
        about["name"] = output.name
    return Adoption(
        result=options.folder,
        cases=cases,
        plan=plan,
        options=_reading(options),
        about=about,
        output=output,
        work=options.work or output.with_name(f"{output.name}_adoption"),
        epochs=options.epochs,
    ), first


def _notes(job: "Adoption") -> list[str]:
    plan = job.plan
    patients = len(set(plan.patients.values()))
    notes = [f"{len(plan.patients)} cases of {patients} patients; if that is wrong, give --patient-pattern."]
    if plan.dropped:
        notes.append(f"{len(plan.dropped)} validation cases are not used, since their patients were trained with: "
                     f"{plan.dropped[0]} ...")  # fmt: skip
    if plan.unknown:
        notes.append(f"{len(plan.unknown)} cases, such as {plan.unknown[0]}, belong to no fold and are not used.")
    return [*notes, plan.message]


@contextmanager
def bundle_of(source: Path, spec: Path | None = None) -> Iterator[tuple[Path, str]]:
    """Yield the folder of a bundle, and what it was: a folder of one or of an nnU-Net, a zip file of either, or ONNX.

    What is made goes with the block; messages name the source.

    Args:
        spec: of an ONNX file; None for the `.json` beside it.

    Raises:
        InputError, UsageError: it is none of these, or it cannot be taken.
    """
    from ..models.store import work_folder

    if not is_there(source):
        regular_file(source)  # says so
    suffix = source.suffix.lower() if source.is_file() else ""
    refuse_if((spec is not None and suffix != ".onnx", "--spec goes with an ONNX file."))
    if source.is_dir():
        with work_folder() as work:
            yield _found(source, work / "bundle")
        return
    with work_folder() as work:
        try:
            yield _onnx(source, spec, work) if suffix == ".onnx" else _found(_unpacked(source, work), work / "bundle")
        except InputError as error:
            raise InputError(str(error).replace(str(work), str(source))) from error


def _onnx(source: Path, spec: Path | None, target: Path) -> tuple[Path, str]:
    from ..inference.engines.onnx_graphs import WRONG_SPEC, write_onnx_bundle

    beside = source.with_suffix(".json")
    if spec is None and not beside.exists():
        what = f"{source} needs a specification: give --spec, or write {beside.name} beside it"
        raise InputError(f"{what} (docs/models/bring_your_network.md).", WRONG_SPEC)
    write_onnx_bundle(source, spec or beside, target)
    return target, "an ONNX network"


def _found(folder: Path, target: Path) -> tuple[Path, str]:
    """Return the bundle in a folder, or at `target` that of an nnU-Net in it, and what it is."""
    from ..models.store import NOT_A_MODEL, bundle_folder

    places = [path.parent for pattern in NNUNET_PLACES for path in sorted(folder.glob(f"{pattern}/plans.json"))]
    trained = {place: sorted(path.name.removeprefix("fold_") for path in place.glob("fold_*")) for place in places}
    trained = {place: folds for place, folds in trained.items() if folds}
    if len(trained) > 1:
        names = ", ".join(place.name for place in trained)
        raise InputError(f"{folder} holds several nnU-Nets ({names}): give the folder of one.", NOT_A_MODEL)
    if not trained:
        return bundle_folder(folder), "a model"
    from ..models.nnunet_import import about_of, read_nnunet_folder, write_nnunet_bundle

    ((place, folds),) = trained.items()
    network = read_nnunet_folder(place, folds[0])
    write_nnunet_bundle(network, about_of(network, {}), target)
    return target, f"an nnU-Net ({place.name}, fold {folds[0]} of {', '.join(folds)})"


NNUNET_PLACES = (".", "*", "*/*", "*/*/*")
"""Where a result folder lies in what users give, and in what nnU-Net exports as a zip file."""
MAXIMUM_ENTRIES = 5000
"""Of a zip file: nnU-Net's has some 30."""


def _unpacked(source: Path, target: Path) -> Path:
    """Unpack a zip file into an empty folder.

    Raises:
        InputError: it is damaged, or has too many files or more bytes than are free.
    """
    from ..models.store import NOT_A_MODEL

    if source.suffix.lower() != ".zip":
        raise InputError(f"{source} is neither a folder nor a .zip or .onnx file: give one.", NOT_A_MODEL)
    regular_file(source)
    try:
        with zipfile.ZipFile(source) as archive:
            entries, free = archive.infolist(), shutil.disk_usage(target).free
            size = sum(entry.file_size for entry in entries)
            if len(entries) > MAXIMUM_ENTRIES or size > free:
                what = f"{len(entries)} files of {size / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
                raise InputError(f"{source} is too large to be unpacked ({what}): unpack what is needed.", "large-file")
            archive.extractall(target / source.stem)  # within it: names that lead elsewhere are changed
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, ValueError) as error:
        raise InputError(f"{source} cannot be unpacked ({error}): copy it again.", "damaged-file") from error
    return target / source.stem
