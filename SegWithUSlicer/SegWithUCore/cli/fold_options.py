"""Options of commands that take training cases as new ones, each from a fold's network that has not seen it."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..util.errors import UsageError
from .console import Console

if TYPE_CHECKING:
    from SegWithULab.training.dataset import Case
    from SegWithULab.training.fold_cases import Fold

    from ..models.bundle import Bundle


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
) -> "list[Fold]":
    """Find what each fold's network is to predict, and say whom all have seen.

    Args:
        others: cases by the option that names them; nobody's are in both.
        command: whose progress is shown.

    Raises:
        InputError, UsageError: see `fold_cases.find_folds`.
    """
    if options.folds is None:
        return []
    from SegWithULab.training.dataset import find_cases
    from SegWithULab.training.fold_cases import find_folds
    from SegWithULab.training.run_folder import RunFolder

    with console.progress(command) as progress:
        runs = [RunFolder(run) for run in options.folds]
        given = find_cases(options.fold_cases)
        found = find_folds(bundle, runs, given, others, progress)
    groups = {case.group for case in given}
    left = len(groups) - len({case.group for fold in found for case in fold.cases})
    if left:
        console.note(f"Left out: {left} of {len(groups)} patients of --fold-cases, whom all of the runs have seen.")
    return found
