"""Cases of commands that train, fit and measure: read, compared with those seen before, put into folds."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ..models.bundle import Bundle
from ..models.installed import resolve_model
from ..models.training_record import TrainingRecord, read_record
from .arguments import refuse_if
from .console import Console

_MOST_NOTES = 3

if TYPE_CHECKING:
    from SegWithULab.calibration.cross_validation import Fold
    from SegWithULab.training.dataset import Case, PreparedCase
    from SegWithULab.training.recipe import Recipe


def prepared_of(
    options: argparse.Namespace, recipe: "Recipe", console: Console
) -> "tuple[Sequence[PreparedCase], Sequence[PreparedCase]]":
    """Read training and validation cases as a network wants them."""
    from SegWithULab.training.dataset import check_channels, find_cases, prepare
    from SegWithULab.training.synthesis import synthesiser_of

    spec, synthesiser = recipe.input, synthesiser_of(recipe)
    draw = None if synthesiser is None else synthesiser.first_draw
    train, select = (find_cases(source, synthesiser is not None) for source in (options.cases, options.select))
    both = {case.name for case in train} & {case.name for case in select}
    refuse_if((both, f"{len(both)} cases, such as {min(both, default='')}, are in --cases and --select."))
    check_channels([*train, *select], spec)
    with console.progress("reading cases") as progress:
        prepared = []
        for number, case in enumerate([*train, *select], 1):
            prepared.append(prepare(case, spec, recipe.label_values, draw))
            progress("reading", number / (len(train) + len(select)), case.name)
    return prepared[: len(train)], prepared[len(train) :]


def calibration_record(
    options: argparse.Namespace, cases: "Sequence[Case]", console: Console
) -> tuple[TrainingRecord, dict[str, str]]:
    """Make the record of the bundle to come, after a look whether its cases were seen before; and hash -> name of them.

    Raises:
        UsageError: they were, and that was not allowed.
    """
    from SegWithULab.training.run_record import check_unseen, hashes_of, seen_of

    with console.progress("calibrate") as progress:
        given = hashes_of(cases, console.note, progress)
    if options.folder is None:  # no torch is needed
        kept = read_record(resolve_model(options.model).folder) or TrainingRecord()
        remarks = check_unseen("calibration", given, seen_of(kept.roles), options.allow_seen_cases)
        return kept.with_role("calibration", list(given), remarks), given
    from SegWithULab.training.run_folder import RunFolder
    from SegWithULab.training.run_record import known_to, run_record

    run = RunFolder(options.folder)
    remarks = check_unseen("calibration", given, known_to(run), options.allow_seen_cases)
    return run_record(run, given, remarks), given


def test_record(
    bundle: Bundle, cases: "Sequence[Case]", allow_seen: bool, record_anyway: bool, console: Console
) -> TrainingRecord | None:
    """Return the model's record with these cases as its test cases; None where there is nothing to compare or note.

    Raises:
        UsageError: the model has seen some of them, and that was not allowed.
    """
    from SegWithULab.training.run_record import check_unseen, hashes_of, seen_of

    from ..models.bundle_files import weights_path

    record = read_record(weights_path(bundle).parent) or TrainingRecord()
    with console.progress("evaluate") as progress:
        given = hashes_of(cases, console.note, progress)
    if not record_anyway and not record.roles:
        return None
    return record.with_role("test", list(given), check_unseen("test", given, seen_of(record.roles), allow_seen))


def note_patients(cases: "Sequence[Case]", console: Console) -> None:
    """Note where no case names its patient: two cases of one patient would go unnoticed otherwise."""
    if not any(case.patient for case in cases):
        console.note("No patients are given (column 'patient'), so each case counts as one patient.")


def note_unlike(options: argparse.Namespace, cases: "Sequence[Case]", bundle: Bundle, console: Console) -> None:
    """Note how cases differ from those that a model was trained on, unless the user wants them all the same.

    Raises:
        InputError: most of them are far out of distribution.
    """
    from SegWithULab.evaluation.evaluate import check_like_training

    notes = [] if options.unlike_training else check_like_training(cases, bundle)
    for note in notes[:_MOST_NOTES]:
        console.note(f"Note: {note}")
    if len(notes) > _MOST_NOTES:
        console.note(f"... and {len(notes) - _MOST_NOTES} more differences from the training cases.")


def given_folds(
    options: argparse.Namespace,
    bundle: Bundle,
    others: "Mapping[str, Sequence[Case]]",
    console: Console,
    trained: "Collection[str] | None" = None,
) -> "list[Fold]":
    """Find what each fold's network is to predict, and note whom all have seen.

    Args:
        others: cases by the option that names them; no case may be in both.
        trained: hashes of the training cases; None for those that the model keeps.

    Raises:
        InputError, UsageError: see `cross_validation.find_folds`, or one of the two options is missing.
    """
    refuse_if(((options.folds is None) != (options.fold_cases is None), "--folds and --fold-cases go together."))
    if options.folds is None:
        return []
    from SegWithULab.calibration.cross_validation import find_folds
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.run_folder import RunFolder

    from ..models.bundle_files import weights_path

    if trained is None:
        record = read_record(weights_path(bundle).parent)
        trained = ((record and record.roles) or {}).get("train", ())
    with console.progress(options.command) as progress:
        runs = [RunFolder(run) for run in options.folds]
        given = find_cases(options.fold_cases)
        found = find_folds(bundle, trained, runs, given, others, progress)
    groups = {case.group for case in given}
    left = len(groups) - len({case.group for fold in found for case in fold.cases})
    if left:
        console.note(f"Left out: {left} of {len(groups)} patients of --fold-cases, whom all of the runs have seen.")
    return found
