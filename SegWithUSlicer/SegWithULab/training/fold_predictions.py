"""Training cases as new cases: each predicted by a network of a fold that has not been trained with it."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.temperature_scaling import MOST_VOXELS, fit_temperature
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import tempered_logits
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.bundle_network import write_weights
from SegWithUCore.models.stage_two_file import copy_stage_two
from SegWithUCore.util.errors import UsageError, naming
from SegWithUCore.util.progress import Progress, silent

from .calibrate import case_numbers, predict_case
from .dataset import Case
from .error_likeness import CaseErrors
from .fit_stage_two import fit_table
from .fold_cases import Fold
from .fold_networks import write_plain_bundle
from .reference_cases import MOST_BYTES, OutOfFold, ReferenceCase, bytes_of
from .run_folder import RunFolder
from .whole_cases import PredictedCases, predict_into, whole_case_blocks


def fit_on_folds(
    run: RunFolder, bundle: Bundle, train: Sequence[Case], own: Sequence[Case], progress: Progress = silent
) -> dict[str, Any]:
    """Fit the blocks on the training cases, out of fold, and on those that the bundle itself predicts.

    Args:
        run: with its fold networks, trained from scratch, and its head; without any nothing is out of fold.
        bundle: calibrated; its tables turn predictions into figures.
        train: cases of the run.
        own: calibration and validation cases.
    """
    jobs = []
    for number in range(run.recipe().head_training.cross_fit):  # further folders are of an earlier recipe
        fold = RunFolder(run.path / f"fold{number}")
        kept = set(fold.facts()["cases"])
        jobs.append((fold, [case for case in train if case.name not in kept]))
    total, done = len(own) + sum(len(cases) for _, cases in jobs), 0
    mine, others = PredictedCases(), PredictedCases()
    for case in predict_into(bundle, Model(bundle), own, mine, with_errors=True):
        progress("predicting cases out of fold", done / total, case)
        done += 1
    for fold, cases in jobs:
        with tempfile.TemporaryDirectory() as work:
            model = Model(_with_backbone(bundle, run, fold, Path(work)))
            for case in predict_into(bundle, model, cases, others, with_errors=True):
                progress("predicting cases out of fold", done / total, case)
                done += 1
            del model  # it holds its files open, which Windows does not delete
        others.networks.extend([fold.path.name] * (len(others.numbers) - len(others.networks)))
    return whole_case_blocks(bundle.labels, mine, others)


def _with_backbone(bundle: Bundle, run: RunFolder, fold: RunFolder, work: Path) -> Bundle:
    """Return the model with the backbone of a fold in place of its own."""
    digest = write_weights(work, fold.load_best("backbone"), {bundle.default_head.name: run.load_best("head")})
    copy_stage_two(bundle, work)
    return replace(bundle, folder=work, weights_sha256=digest, graphs=None)


@dataclass(frozen=True)
class FoldCases:
    """Cases that a fold's network has predicted, which it has not seen.

    Attributes:
        network: path of its run.
    """

    network: str
    cases: Sequence[ReferenceCase]

    @cached_property
    def table(self) -> ErrorProbability:
        """From the network's ranking map to an error probability.

        Raises:
            InputError: the cases hold no errors.
        """
        with naming(Path(self.network)):
            return fit_table(self.cases)

    @cached_property
    def scale(self) -> float:
        """Tempering scale of the network; of larger cases every so many voxels, evenly."""
        step = max(1, sum(case.truth.size for case in self.cases) // MOST_VOXELS)
        logits, truths = [], []
        for case in self.cases:
            softened = tempered_logits(case.prediction)
            logits.append(softened.reshape(len(softened), -1)[:, ::step].copy())
            truths.append(np.ravel(case.truth)[::step])
        return fit_temperature(logits, truths)


def predicted_by_folds(folds: Sequence[Fold], together: bool, progress: Progress = silent) -> Iterator[FoldCases]:
    """Predict the cases of each fold with its network.

    Args:
        together: whether all folds stay in memory.

    Raises:
        InputError: a case is unusable.
        UsageError: memory does not take them.
    """
    total, done, taken = sum(len(fold.cases) for fold in folds), 0, 0
    for fold in folds:
        found: list[ReferenceCase] = []
        with tempfile.TemporaryDirectory() as work:
            model = Model(write_plain_bundle(fold.run, Path(work) / "fold"))
            for case in fold.cases:
                progress("predicting cases out of fold", done / total, case.name)
                found.append(ReferenceCase(*predict_case(case, model), case.group))
                taken += bytes_of(found[-1])
                _check_memory(taken, together)
                done += 1
            del model  # it holds its files open, which Windows does not delete
        yield FoldCases(str(fold.run.path), found)
        taken = taken if together else 0


def _check_memory(taken: int, together: bool) -> None:
    if taken > MOST_BYTES:
        which = "The --fold-cases take" if together else "The --fold-cases of one run take"
        raise UsageError(
            f"{which} more than {MOST_BYTES >> 30} GB of memory at once: give fewer patients, and runs that were "
            "trained with those alone, or leave --folds out."
        )


def all_out_of_fold(folds: Iterable[FoldCases]) -> OutOfFold:
    """Put the cases of all folds together, for stage two; what is raised as for `FoldCases.table`."""
    cases: list[ReferenceCase] = []
    tables: list[ErrorProbability] = []
    for fold in folds:
        cases += fold.cases
        tables += [fold.table] * len(fold.cases)
    return OutOfFold(cases, tables)


def numbers_out_of_fold(folds: Iterable[FoldCases]) -> PredictedCases:
    """Sum up what fold networks said of cases, each by its own scale; one fold after the other is in memory."""
    found = PredictedCases()
    for fold in folds:
        found.numbers.extend(case_numbers(case.prediction, case.truth, fold.scale) for case in fold.cases)
        found.patients.extend(case.group for case in fold.cases)
        found.networks.extend([fold.network] * len(fold.cases))
        found.errors.extend(CaseErrors.of(case) for case in fold.cases)
        del fold  # before the next is predicted
    return found
