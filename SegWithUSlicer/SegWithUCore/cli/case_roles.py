"""Options and checks about cases that were seen before, which several commands share."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .console import Console

if TYPE_CHECKING:
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
    from SegWithULab.training.case_roles import hashes_of

    with console.progress("calibrate") as progress:
        given = hashes_of(cases, progress)
    if options.folder is None:
        return _record_of_model(options, given)
    return _record_of_run(options, given)


def _record_of_run(options: argparse.Namespace, given: Mapping[str, str]) -> "TrainingRecord":
    from SegWithULab.training.case_roles import check_unseen
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.run_record import known_to, run_record

    run = RunFolder(options.folder)
    remarks = check_unseen("calibration", given, known_to(run), options.allow_seen_cases)
    return run_record(run, None if options.no_hashes else given, remarks)


def _record_of_model(options: argparse.Namespace, given: Mapping[str, str]) -> "TrainingRecord":
    """No torch is needed."""
    from SegWithULab.training.case_roles import check_unseen, seen_of

    from ..models.registry import resolve_model
    from ..models.training_record import TrainingRecord, read_record

    kept = read_record(resolve_model(options.model).folder) or TrainingRecord()
    if options.whole_cases_only:  # validation cases serve as well, and stay what they are
        known = {role: seen for role, seen in seen_of(kept.roles).items() if role != "select"}
        remarks = check_unseen("calibration", given, known, options.allow_seen_cases)
        select, before = ((kept.roles or {}).get(role, ()) for role in ("select", "calibration"))
        hashes = dict.fromkeys([*before, *(sha256 for sha256 in given if sha256 not in set(select))])
        return kept.with_role("calibration", None if options.no_hashes else list(hashes), remarks)
    remarks = check_unseen("calibration", given, seen_of(kept.roles), options.allow_seen_cases)
    return kept.with_role("calibration", None if options.no_hashes else list(given), remarks)


def test_record(
    bundle: "Bundle", cases: "Sequence[Case]", options: argparse.Namespace, console: Console
) -> "TrainingRecord | None":
    """Return the model's record with these cases as its test cases; None where there is nothing to compare or note.

    Raises:
        UsageError: the model has seen some of them, and that was not allowed.
    """
    from SegWithULab.training.case_roles import check_unseen, hashes_of, seen_of

    from ..models.training_record import TrainingRecord, read_record
    from ..models.weights_file import weights_path

    record = read_record(weights_path(bundle).parent)
    if not options.record and (record is None or not record.roles):
        return None
    with console.progress("evaluate") as progress:
        given = hashes_of(cases, progress)
    known = seen_of(record.roles if record else None)
    remarks = check_unseen("test", given, known, options.allow_seen_cases)
    return (record or TrainingRecord()).with_role("test", list(given), remarks)
