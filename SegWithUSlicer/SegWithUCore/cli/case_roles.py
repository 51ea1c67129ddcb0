"""Options and checks about cases, which several commands share: who has seen them, whose they are, folds."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import UsageError
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.calibration.cross_validation import Fold
    from SegWithULab.training.dataset import Case

    from ..models.bundle import Bundle
    from ..models.training_record import TrainingRecord


def add_role_options(command: argparse.ArgumentParser) -> None:
    """Add what is said about cases that were seen before."""
    group = command.add_argument_group("who has seen which case")
    group.add_argument(
        "--allow-seen-cases",
        action="store_true",
        help="take cases that were seen in another role, such as validation cases for calibration; the card says so",
    )
    group.add_argument(
        "--no-hashes",
        action="store_true",
        help="keep no voxel hashes of the cases in run and model; the card says so",
    )


def calibration_record(options: argparse.Namespace, cases: "Sequence[Case]", console: Console) -> "TrainingRecord":
    """Make the record of the bundle to come, after a look whether its cases were seen before.

    Raises:
        UsageError: they were, and that was not allowed.
    """
    from SegWithULab.training.case_roles import check_unseen, hashes_of, seen_of

    with console.progress("calibrate") as progress:
        given = hashes_of(cases, progress)
    hashes = None if options.no_hashes else given
    if options.folder is None:  # no torch is needed
        from ..models.installed import resolve_model
        from ..models.training_record import TrainingRecord, read_record

        kept = read_record(resolve_model(options.model).folder) or TrainingRecord()
        remarks = check_unseen("calibration", given, seen_of(kept.roles), options.allow_seen_cases)
        return kept.with_role("calibration", None if hashes is None else list(hashes), remarks)
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.run_record import known_to, run_record

    run = RunFolder(options.folder)
    remarks = check_unseen("calibration", given, known_to(run), options.allow_seen_cases)
    return run_record(run, hashes, remarks)


def test_record(
    bundle: "Bundle", cases: "Sequence[Case]", options: argparse.Namespace, console: Console
) -> "TrainingRecord | None":
    """Return the model's record with these cases as its test cases; None where there is nothing to compare or note.

    Raises:
        UsageError: the model has seen some of them, and that was not allowed.
    """
    from SegWithULab.training.case_roles import check_unseen, hashes_of, seen_of

    from ..models.bundle_files import weights_path
    from ..models.training_record import TrainingRecord, read_record

    record = read_record(weights_path(bundle).parent)
    if not options.record and (record is None or not record.roles):
        return None
    with console.progress("evaluate") as progress:
        given = hashes_of(cases, progress)
    known = seen_of(record.roles if record else None)
    remarks = check_unseen("test", given, known, options.allow_seen_cases)
    return (record or TrainingRecord()).with_role("test", list(given), remarks)


def note_patients(cases: "Sequence[Case]", console: Console) -> None:
    """Say so where nothing tells the patients of cases: nobody would notice two cases of one patient otherwise."""
    if not any(case.patient for case in cases):
        console.note(
            "No case names its patient, so each counts as a patient of its own: if some have several cases, give a "
            "table with a column 'patient'."
        )


def add_fold_options(command: argparse.ArgumentParser, title: str, words: str) -> None:
    """Add --folds and --fold-cases."""
    group = command.add_argument_group(
        title,
        "Networks of the model's recipe that were trained from scratch without a part of the training cases, each with "
        f"a head of its own, predict what they have not seen. {words}",
    )
    group.add_argument("--folds", type=Path, nargs="+", metavar="RUN", help="training runs of the folds")
    group.add_argument("--fold-cases", metavar="CASES", help="the training cases of all folds, such as TABLE.csv:train")


def check_fold_options(options: argparse.Namespace) -> None:
    """Refuse the one without the other.

    Raises:
        UsageError: one is missing.
    """
    if (options.folds is None) != (options.fold_cases is None):
        raise UsageError("--folds and --fold-cases go together: give the runs, and the cases that they share.")


def given_folds(
    options: argparse.Namespace,
    bundle: "Bundle",
    others: "Mapping[str, Sequence[Case]]",
    console: Console,
    command: str,
    trained: "Collection[str] | None" = None,
) -> "list[Fold]":
    """Find what each fold's network is to predict, and say whom all have seen.

    Args:
        others: cases by the option that names them; nobody's are in both.
        command: whose progress is shown.
        trained: hashes of the training cases; None for those that the model keeps.

    Raises:
        InputError, UsageError: see `cross_validation.find_folds`.
    """
    if options.folds is None:
        return []
    from SegWithULab.calibration.cross_validation import find_folds
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.run_folder import RunFolder

    from ..models.bundle_files import weights_path
    from ..models.training_record import read_record

    if trained is None:
        record = read_record(weights_path(bundle).parent)
        trained = ((record and record.roles) or {}).get("train", ())
    with console.progress(command) as progress:
        runs = [RunFolder(run) for run in options.folds]
        given = find_cases(options.fold_cases)
        found = find_folds(bundle, trained, runs, given, others, progress)
    groups = {case.group for case in given}
    left = len(groups) - len({case.group for fold in found for case in fold.cases})
    if left:
        console.note(f"Left out: {left} of {len(groups)} patients of --fold-cases, whom all of the runs have seen.")
    return found
