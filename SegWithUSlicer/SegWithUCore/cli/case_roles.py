"""Options and checks about cases that were seen before, which several commands share."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .console import Console

if TYPE_CHECKING:
    from ..models.bundle import Bundle
    from ..models.training_record import TrainingRecord
    from ..training.dataset import Case


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
    from ..models.registry import resolve_model
    from ..models.training_record import TrainingRecord, read_record
    from ..training.case_roles import check_unseen, hashes_of, known_to, run_record, seen_of
    from ..training.run_folder import RunFolder

    with console.progress("calibrate") as progress:
        given = hashes_of(cases, progress)
    run = None if options.folder is None else RunFolder(options.folder)
    kept = read_record(resolve_model(options.model).folder) if run is None else None
    known = seen_of(kept.roles if kept else None) if run is None else known_to(run)
    remarks = check_unseen("calibration", given, known, options.allow_seen_cases)
    hashes = None if options.no_hashes else given
    if run is not None:
        return run_record(run, hashes, remarks)
    return (kept or TrainingRecord()).with_role("calibration", None if hashes is None else list(hashes), remarks)


def test_record(
    bundle: "Bundle", cases: "Sequence[Case]", options: argparse.Namespace, console: Console
) -> "TrainingRecord | None":
    """Return the model's record with these cases as its test cases; None where there is nothing to compare or note.

    Raises:
        UsageError: the model has seen some of them, and that was not allowed.
    """
    from ..models.training_record import TrainingRecord, read_record
    from ..models.weights_file import weights_path
    from ..training.case_roles import check_unseen, hashes_of, seen_of

    record = read_record(weights_path(bundle).parent)
    if not options.record and (record is None or not record.roles):
        return None
    with console.progress("evaluate") as progress:
        given = hashes_of(cases, progress)
    known = seen_of(record.roles if record else None)
    remarks = check_unseen("test", given, known, options.allow_seen_cases)
    return (record or TrainingRecord()).with_role("test", list(given), remarks)
