"""Training cases as new cases: each is predicted by a cross-validation model that has not seen its patient.

The models are runs of the model's recipe that were trained from scratch without a part of the training cases, each with
a head of its own (`find_folds`); or, in `segwithu train`, the fold models of one run with its one head.
"""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SegWithUCore.calibration.error_probability import MOST_VOXELS, fit_temperature
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import tempered_logits
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.bundle_network import write_weights
from SegWithUCore.util.errors import UsageError, naming
from SegWithUCore.util.progress import Progress, in_turn, part_of, silent

from ..training.backbone import spec_of
from ..training.dataset import Case
from ..training.make_bundle import HEAD_SETTINGS, write_plain_bundle
from ..training.run_folder import RunFolder
from ..training.run_record import known_to, voxel_hashes
from .cases import MOST_BYTES, CalibrationCase, PredictedCases, fit_table, predict_case

LEAST_PATIENTS = 5
"""Of a fold, whose table and scale are fitted on them."""


@dataclass(frozen=True)
class Fold:
    """A network and head with cases that neither has seen, nor others of their patients."""

    run: RunFolder
    cases: list[Case]


def find_folds(
    bundle: Bundle,
    trained: Collection[str],
    runs: Sequence[RunFolder],
    cases: Sequence[Case],
    others: Mapping[str, Sequence[Case]],
    progress: Progress = silent,
) -> list[Fold]:
    """Assign each training case of a model to a run of its recipe that has not seen its patient.

    Patients that all runs have seen are left out.

    Args:
        bundle: the model.
        trained: hashes of its training cases.
        runs: each trained from scratch without a part of the cases.
        cases: all cases that the runs were trained with, and were not.
        others: cases by the option that names them; none may be among `cases`, nor another of its patient.

    Raises:
        InputError: a run is unfinished, keeps no hashes of its cases, or has another network, input or head than the
            model; the model keeps no hashes.
        UsageError: cases that are no training cases of the model, or that are among the others; a run has seen
            further ones, none or all of them, or is left with too few patients.
    """
    for run in runs:
        _check_like(bundle, run)
    hashes = voxel_hashes(cases, progress)
    if not trained:
        raise _refusal(f"the model {bundle.name} keeps no hashes of its training cases: leave --folds out")
    strange = [case.name for case, sha256 in zip(cases, hashes, strict=True) if sha256 not in trained]
    if strange:  # some may be test cases, which would then go unnoticed
        found = f"{len(strange)} of {len(cases)} --fold-cases are no training cases of the model {bundle.name}"
        raise _refusal(f"{found}, {strange[0]} first")
    known = dict(zip(hashes, cases, strict=True))
    patients = {case.patient for case in cases} - {None}
    for option, each in others.items():
        pairs = zip(each, voxel_hashes(each, progress), strict=True)
        shared = [case.name for case, sha256 in pairs if sha256 in known or case.patient in patients]
        if shared:
            raise _refusal(f"--fold-cases and {option} share {len(shared)} case(s) or patients, such as {shared[0]}")
    seen = [_seen_groups(run, known) for run in runs]
    folds, unique = [Fold(run, []) for run in runs], list(known.values())
    its = by_patient([case.group for case in unique])
    unseen = {
        patient: [fold for fold, groups in zip(folds, seen, strict=True) if patient not in groups] for patient in its
    }
    for patient in sorted(unseen, key=lambda patient: len(unseen[patient])):  # those with a choice fill what is left
        if unseen[patient]:
            fold = min(unseen[patient], key=lambda fold: len(fold.cases))
            fold.cases.extend(unique[index] for index in its[patient])
    for fold in folds:
        count = len({case.group for case in fold.cases})
        if count < LEAST_PATIENTS:
            raise _refusal(
                f"{fold.run.path} is left with {count} patient(s) that it has not seen: {LEAST_PATIENTS} are needed"
            )
    return folds


def _refusal(problem: str) -> UsageError:
    wanted = "all training cases of the model as --fold-cases (TABLE.csv:train), and runs of its recipe as --folds"
    problem = f"{problem[0].upper()}{problem[1:]}; give {wanted}, each trained without another part of the patients."
    return UsageError(problem, "unusable-folds")


def _seen_groups(run: RunFolder, known: Mapping[str, Case]) -> set[str]:
    """Find the patients that a run was trained with; `known` are the cases by the hash of their voxels."""
    roles = known_to(run)
    seen = {sha256 for role in roles.values() for sha256 in role}
    if not seen:
        raise _refusal(f"{run.path} keeps no hashes of its cases")
    others = [name or sha256[:12] for sha256, name in roles.get("train", {}).items() if sha256 not in known]
    if others:
        found = f"{run.path} was trained with {len(others)} case(s) that are not among --fold-cases"
        raise _refusal(f"{found}, {others[0]} first")
    groups = {case.group for sha256, case in known.items() if sha256 in seen}
    if not groups or groups >= {case.group for case in known.values()}:
        found = f"{run.path} has seen {'all' if groups else 'none'} of the patients of --fold-cases"
        raise _refusal(f"{found}, in training or to choose its epoch")
    return groups


def _check_like(bundle: Bundle, run: RunFolder) -> None:
    """Refuse a run of another network, input or head than the model's, and one that may have seen all cases."""
    recipe, head, facts = run.recipe(), bundle.default_head, run.facts()
    own = {name: getattr(head, name) for name in HEAD_SETTINGS}
    pairs = (
        ("input", recipe.input, bundle.input),
        ("labels", recipe.label_values, [label.value for label in bundle.labels]),
        ("backbone", spec_of(recipe), bundle.backbone),
        *((f"head ({name})", recipe.head[name], own[name]) for name in HEAD_SETTINGS if name != "taps"),
        ("head (taps)", list(recipe.head["taps"]), list(own["taps"])),
    )
    differs = [name for name, other, its in pairs if other != its]
    if differs:
        raise _refusal(f"{run.path} has another {differs[0]} than the model {bundle.name}")
    if not facts.keys().isdisjoint(("origin", "backbone_source", "cases")):
        raise _refusal(f"the backbone in {run.path} was not trained by train-backbone: its cases are unknown")
    for part in ("backbone", "head"):
        run.check_finished(part)


def predicted_by_folds(folds: Sequence[Fold], progress: Progress = silent) -> PredictedCases:
    """Predict the cases of each fold with its network; all of them stay in memory, for the second stage.

    Raises:
        InputError: a case is unusable, or the cases of a run hold no errors.
        UsageError: memory does not take them.
    """
    total, found = sum(len(fold.cases) for fold in folds), PredictedCases()
    for fold in folds:
        own, first = list[CalibrationCase](), len(found.cases)
        with tempfile.TemporaryDirectory() as work:
            bundle = write_plain_bundle(fold.run, Path(work) / "fold")
            for case in _predicted(bundle, fold.cases, part_of(progress, first / total, 1.0)):
                own.append(case)
                if sum(each.bytes for each in (*found.cases, *own)) > MOST_BYTES:
                    problem = f"The --fold-cases take more than {MOST_BYTES >> 30} GB of memory at once"
                    raise UsageError(f"{problem}: give fewer patients and runs trained with those, or no --folds.")
        with naming(fold.run.path):
            found.tables.extend([fit_table(own)] * len(own))
        found.cases.extend(own)
        scale = _scale(own)
        for each in own:
            found.add(each, scale, str(fold.run.path))
    return found


def _predicted(bundle: Bundle, cases: Sequence[Case], progress: Progress) -> Iterator[CalibrationCase]:
    model = Model(bundle)
    for case in in_turn(cases, "predicting cases out of fold", progress):
        yield CalibrationCase(*predict_case(case, model), case.group)
    # The model ends here: it holds its files open, which Windows does not delete.


def _scale(cases: Sequence[CalibrationCase]) -> float:
    """Fit the tempering scale of a network; of larger cases every so many voxels, evenly."""
    step = max(1, sum(case.truth.size for case in cases) // MOST_VOXELS)
    logits, truths = [], []
    for case in cases:
        softened = tempered_logits(case.prediction)
        logits.append(softened.reshape(len(softened), -1)[:, ::step].copy())
        truths.append(np.ravel(case.truth)[::step])
    return fit_temperature(logits, truths)


def predicted_by_run_folds(
    run: RunFolder, train: Sequence[Case], progress: Progress, bundle: Bundle, scale: float
) -> PredictedCases:
    """Predict the training cases of a run with its cross-validation models and its head; only their numbers are kept.

    Args:
        run: with cross-validation models that were trained from scratch.
        bundle: of the run, without calibration.
        scale: its tempering scale.
    """
    count, found = run.recipe().head_training.cross_fit, PredictedCases()  # further folds are of an earlier recipe
    for number in range(count):
        fold = RunFolder(run.path / f"fold{number}")
        kept = set(fold.facts()["cases"])
        cases = [case for case in train if case.name not in kept]
        with tempfile.TemporaryDirectory() as work:
            heads = {bundle.default_head.name: run.load_best("head")}
            digest = write_weights(Path(work), fold.load_best("backbone"), heads)
            own = replace(bundle, folder=Path(work), weights_sha256=digest, graphs=None)
            for each in _predicted(own, cases, part_of(progress, number / count, (number + 1) / count)):
                found.add(each, scale, fold.path.name)
    return found
