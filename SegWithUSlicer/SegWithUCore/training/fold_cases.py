"""Training cases as new cases: each is predicted by the fold network that has not been trained with it."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..calibration.temperature_scaling import fit_temperature
from ..errors import InputError, UsageError, naming
from ..inference.model import Model
from ..inference.prediction import tempered_logits
from ..models.bundle import Bundle
from ..models.bundle_network import write_weights
from ..models.stage_two_file import copy_stage_two
from ..models.training_record import read_record
from ..models.weights_file import weights_path
from ..progress import Progress, silent
from .backbone import spec_of
from .calibrate import predict_case
from .case_roles import voxel_hashes
from .dataset import Case
from .fit_stage_two import fit_table
from .fold_networks import write_plain_bundle
from .reference_cases import OutOfFold, ReferenceCase
from .run_folder import RunFolder
from .run_record import known_to
from .whole_cases import PredictedCases, predict_into, whole_case_blocks

HEAD_SETTINGS = ("variant", "taps", "feature_channels", "probes", "aleatoric")
"""What a fold's head must have in common with the model's, so that its maps mean the same."""


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
    return whole_case_blocks(bundle.labels, mine, others)


def _with_backbone(bundle: Bundle, run: RunFolder, fold: RunFolder, work: Path) -> Bundle:
    """Return the model with the backbone of a fold in place of its own."""
    digest = write_weights(work, fold.load_best("backbone"), {bundle.default_head.name: run.load_best("head")})
    copy_stage_two(bundle, work)
    return replace(bundle, folder=work, weights_sha256=digest, graphs=None)


@dataclass(frozen=True)
class Fold:
    """A network and head with cases that neither has seen, nor others of their patients."""

    run: RunFolder
    cases: list[Case]


def find_folds(
    bundle: Bundle,
    runs: Sequence[RunFolder],
    cases: Sequence[Case],
    own: Sequence[Case] = (),
    progress: Progress = silent,
) -> list[Fold]:
    """Share out the training cases of a model among runs of its recipe, each to one that has not seen its patient.

    Args:
        bundle: what is to be calibrated.
        runs: each trained from scratch without a part of the cases.
        cases: all cases that the runs were trained with, and were not.
        own: that the model itself is calibrated on.

    Raises:
        InputError: a run is unfinished, keeps no hashes of its cases, or has another network, input or head than the
            model; the model keeps no hashes.
        UsageError: cases that are no training cases of the model, or that are among its own; a run has seen others,
            none or all of them; all runs have seen a case's patient.
    """
    for run in runs:
        _check_like(bundle, run)
    hashes = voxel_hashes(cases, progress)
    _check_training_cases(bundle, cases, hashes)
    known = dict(zip(hashes, cases, strict=True))
    shared = [case.name for case, sha256 in zip(own, voxel_hashes(own, progress), strict=True) if sha256 in known]
    groups = {case.group for case in cases}
    shared += [case.name for case in own if case.group in groups and case.name not in shared]
    if shared:
        raise UsageError(
            f"--fold-cases and --cases share {len(shared)} case(s), by voxels or patient, {shared[0]} first: what is "
            "fitted on the ones is checked on the others, so give the training cases alone, such as --fold-cases "
            "TABLE.csv:train."
        )
    return _shared_out(runs, [_seen_groups(run, known) for run in runs], known.values())


def _shared_out(runs: Sequence[RunFolder], seen: Sequence[set[str]], cases: Iterable[Case]) -> list[Fold]:
    folds = [Fold(run, []) for run in runs]
    by_patient: dict[str, list[Case]] = {}
    for case in cases:
        by_patient.setdefault(case.group, []).append(case)
    for patient, its in by_patient.items():
        left = [fold for fold, groups in zip(folds, seen, strict=True) if patient not in groups]
        if not left:
            raise UsageError(
                f"The patient of {its[0].name} has been seen by all of the fold networks: leave it out of "
                "--fold-cases, or give the run that was trained without it."
            )
        min(left, key=lambda fold: len(fold.cases)).cases.extend(its)
    return folds


def _seen_groups(run: RunFolder, known: Mapping[str, Case]) -> set[str]:
    """Find whom a run was trained with; `known` are the cases by the hash of their voxels."""
    roles = known_to(run)
    seen = {sha256 for role in roles.values() for sha256 in role}
    if not seen:
        raise InputError(f"{run.path} keeps no hashes of its cases: train it without --no-hashes.")
    others = [name or sha256[:12] for sha256, name in roles.get("train", {}).items() if sha256 not in known]
    if others:
        raise UsageError(
            f"{run.path} was trained with {len(others)} case(s) that are not among --fold-cases, {others[0]} first: "
            "give all training cases, so that nobody's second image counts as unseen."
        )
    groups = {case.group for sha256, case in known.items() if sha256 in seen}
    unseen = {case.group for case in known.values()} - groups
    if not groups or not unseen:
        which = "all" if groups else "none"
        raise UsageError(
            f"{run.path} was trained with {which} of the patients of --fold-cases: give runs that were each trained "
            "without another part of them."
        )
    return groups


def _check_training_cases(bundle: Bundle, cases: Sequence[Case], hashes: Sequence[str]) -> None:
    """Refuse cases that the model was not trained with: some may be test cases, which nobody would notice then."""
    record = read_record(weights_path(bundle).parent)
    trained = set((record and record.roles and record.roles.get("train")) or ())
    if not trained:
        raise InputError(
            f"The model {bundle.name} keeps no hashes of its training cases, so nobody can tell whether --fold-cases "
            "are those: calibrate it without --folds."
        )
    strange = [case.name for case, sha256 in zip(cases, hashes, strict=True) if sha256 not in trained]
    if strange:
        raise UsageError(
            f"{len(strange)} of {len(cases)} --fold-cases are no training cases of the model {bundle.name}, "
            f"{strange[0]} first: give those that it was trained with, such as --fold-cases TABLE.csv:train."
        )


def _check_like(bundle: Bundle, run: RunFolder) -> None:
    recipe, head = run.recipe(), bundle.default_head
    pairs = (
        ("input", recipe.input, bundle.input),
        ("labels", [label.value for label in recipe.labels], [label.value for label in bundle.labels]),
        ("backbone", spec_of(recipe), bundle.backbone),
        *((f"head ({name})", recipe.head[name], _plain(getattr(head, name))) for name in HEAD_SETTINGS),
    )
    differs = [name for name, other, own in pairs if other != own]
    if differs:
        raise InputError(
            f"{run.path} has another {differs[0]} than the model {bundle.name}: give runs of its own recipe, with its "
            f'head, whose variant is "{head.variant}".'
        )
    if "origin" in run.facts():
        raise InputError(
            f"The backbone in {run.path} was not trained there, so nobody knows what it has seen: give runs of "
            "train-backbone."
        )
    for part in ("backbone", "head"):
        run.check_finished(part)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def predicted_by_folds(bundle: Bundle, folds: Sequence[Fold], progress: Progress = silent) -> Iterator[OutOfFold]:
    """Predict the cases of each fold with its network, and fit table and scale of that.

    Raises:
        InputError: a case is unusable, or those of a fold hold no errors.
    """
    total, done = sum(len(fold.cases) for fold in folds), 0
    values = [label.value for label in bundle.labels]
    for fold in (fold for fold in folds if fold.cases):
        found: list[ReferenceCase] = []
        with tempfile.TemporaryDirectory() as work:
            model = Model(write_plain_bundle(fold.run, Path(work) / "fold"))
            for case in fold.cases:
                progress("predicting cases out of fold", done / total, case.name)
                found.append(ReferenceCase(*predict_case(case, model, values), case.group))
                done += 1
        with naming(fold.run.path):
            table = fit_table(found)
        scale = fit_temperature([tempered_logits(case.prediction) for case in found], [case.truth for case in found])
        yield OutOfFold(found, [table] * len(found), [scale] * len(found))
