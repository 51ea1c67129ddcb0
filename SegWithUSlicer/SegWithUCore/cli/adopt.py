"""`segwithu adopt`: from a trained nnU-Net and its data set to a calibrated model, in one command."""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.atomic_files import one_writer
from ..util.errors import OutputError
from .arguments import add_threads_option, check_folder_name, whole_number
from .console import Console
from .import_model import ABOUT, parsed_orientation

if TYPE_CHECKING:
    from SegWithULab.evaluation.adopt import Adoption
    from SegWithULab.evaluation.adopt_folds import FoldPlan
    from SegWithULab.training.dataset import Case

    from ..models.nnunet_import import NnunetFolder


def add_commands(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "adopt",
        examples=(
            "adopt nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres "
            "--dataset nnUNet_raw/Dataset004_Hippocampus --output Models/hippo",
            "adopt RESULT_FOLDER --dataset MY_CASES --unseen --output Models/total   # cases that it never saw",
        ),
        help="make a calibrated model of a trained nnU-Net, in one command",
        description="Import the networks of an nnU-Net result folder, train an uncertainty head, calibrate on what the "
        "networks have not seen, judge, and write the model with its card and one page (adoption.html) that says in "
        "words whether its uncertainty can be trusted. Ctrl-C keeps what is finished; the same command goes on.",
    )
    command.add_argument(
        "folder", type=Path, metavar="RESULT_FOLDER", help="holds plans.json, dataset.json, fold_0 ..."
    )
    command.add_argument(
        "--dataset", required=True, help="the raw data set that it was trained with (imagesTr, labelsTr); required"
    )
    command.add_argument("--output", required=True, type=Path, help="folder of the model to write; required")
    command.add_argument("--work", type=Path, help="folder of what is unfinished (default: OUTPUT_adoption)")
    command.add_argument("--splits", type=Path, help="splits_final.json (default: looked for, as nnU-Net keeps it)")
    command.add_argument("--unseen", action="store_true", help="the network was trained with none of these cases")
    command.add_argument("--fold", help="fold whose network goes into the model (default: the first that is there)")
    command.add_argument(
        "--patient-pattern", help="regular expression whose first group is the patient in a case's name"
    )
    command.add_argument("--epochs", type=whole_number(1, 100_000), help="of each head (default: about 2000 windows)")
    command.add_argument("--checkpoint", default="checkpoint_final.pth", help="file within the folds")
    command.add_argument("--configuration", help="such as 3d_fullres (default: the one that was trained)")
    command.add_argument("--orientation", help="as in import-nnunet")
    command.add_argument("--modality", help="DICOM modality (default: CT where intensities are scaled as CT, else MR)")
    for name in ABOUT:
        command.add_argument(f"--{name.replace('_', '-')}", help=f"{name.replace('_', ' ')} noted in the model")
    command.add_argument("--overwrite", action="store_true", help="replace a model that is there already")
    command.add_argument("--redo", action="store_true", help="train heads anew whose settings or cases changed")
    command.add_argument("--resume", action="store_true", help="go on with what is unfinished; the default, too")
    command.add_argument("--no-hashes", action="store_true", help="keep no voxel hashes of the cases in the model")
    add_threads_option(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Adopt."""
    console.started()
    from SegWithULab.evaluation.adopt import adoption_stages
    from SegWithULab.evaluation.adopt_page import PAGE
    from SegWithULab.training.stages import has_left, run_stages

    job, first = _job(options)
    with one_writer(options.output, overwrite=True):
        if options.output.exists() and not options.overwrite and not has_left(job.work, "model", options.output):
            raise OutputError(f"{options.output} exists already: choose another output folder or pass --overwrite.")
        job = replace(job, replaces=options.output.exists())
        for note in _notes(job, options.patient_pattern is None):
            console.note(note)
        with console.progress("adopt") as progress:
            found = run_stages(job.work, adoption_stages(job, first), progress, options.redo)["model"]
    if found["graphs"]:
        console.note(f"No graphs for the engine openvino: {found['graphs']}. The model is whole, and runs on torch.")
    page, warnings = options.output / PAGE, found["warnings"]
    lines = [
        *(f"Warning: {warning}" for warning in warnings),
        found["headline"],
        f"The model is in {options.output}; why, and on how many cases, is in {page}.",
        f"{job.work} holds what was needed on the way and may be deleted.",
    ]
    data = {"bundle": str(options.output), "page": str(page), "trust": found["trust"], "headline": found["headline"]}
    console.result("\n".join(lines), {**data, "warnings": warnings})
    return 0


def _job(options: argparse.Namespace) -> "tuple[Adoption, NnunetFolder]":
    """Check everything that can be checked before work begins."""
    from SegWithULab.evaluation.adopt import Adoption
    from SegWithULab.evaluation.adopt_folds import plan_folds
    from SegWithULab.training.dataset import check_channels

    from ..models.nnunet_import import read_nnunet_folder

    if options.name is not None:
        check_folder_name(options.name, "--name")
    reading = {
        "configuration": options.configuration,
        "checkpoint": options.checkpoint,
        "orientation": parsed_orientation(options.orientation),
        "modality": options.modality,
    }
    cases = _cases(options)
    plan = plan_folds(
        options.folder,
        Path(options.dataset),
        {name: case.group for name, case in cases.items()},
        options.checkpoint,
        first=options.fold,
        splits=options.splits,
        all_unseen=options.unseen,
    )
    first = read_nnunet_folder(options.folder, plan.folds[0].network, **reading)
    used = {name for fold in plan.folds for name in (*fold.seen, *fold.unseen)}
    cases = {name: case for name, case in cases.items() if name in used}
    check_channels(list(cases.values()), first.model.input)
    work = options.work or options.output.with_name(f"{options.output.name}_adoption")
    about = {name: getattr(options, name) for name in ABOUT}
    about["name"] = about["name"] or _name_of(options.output)
    return Adoption(
        result=options.folder,
        cases=cases,
        plan=plan,
        options=reading,
        about=about,
        output=options.output,
        work=work,
        epochs=options.epochs,
        hashes=not options.no_hashes,
    ), first


def _name_of(output: Path) -> str | None:
    """Take the folder's own name, where it can name a model."""
    return output.name if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", output.name) else None


def _cases(options: argparse.Namespace) -> "dict[str, Case]":
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.split import patients_by_name

    found = find_cases(options.dataset)
    patients = patients_by_name([case.name for case in found], options.patient_pattern)
    return {case.name: replace(case, patient=case.patient or patients[case.name]) for case in found}


def _notes(job: "Adoption", patients_by_name: bool) -> list[str]:
    plan: FoldPlan = job.plan
    kind, _ = plan.groups()
    notes = []
    if patients_by_name:
        count = len(set(plan.patients.values()))
        notes.append(
            f"Patients are told from the names of cases: {len(plan.patients)} cases of {count} patients; if that is "
            "wrong, give --patient-pattern."
        )
    if plan.dropped:
        notes.append(
            f"{len(plan.dropped)} validation cases, such as {plan.dropped[0]}, are not used: their patients were "
            "trained with under another name (--patient-pattern tells patients by name otherwise)."
        )
    if plan.unknown:
        notes.append(f"{len(plan.unknown)} cases, such as {plan.unknown[0]}, are in no fold and are not used.")
    if kind == "none":
        notes.append(
            f"Only {len(plan.unseen)} cases are left that the network has not seen: the model will not be calibrated."
        )
    else:
        from SegWithULab.evaluation.adopt_page import judged_words

        notes.append(f"Will be calibrated and judged on {judged_words(plan)}.")
    return notes
