"""Training cases as new cases: each is predicted by the fold network that has not been trained with it."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..calibration.error_probability import ErrorProbability
from ..calibration.temperature_scaling import fit_temperature
from ..errors import InputError, UsageError
from ..inference.model import Model
from ..inference.prediction import tempered_logits
from ..models.bundle import Bundle
from ..models.bundle_network import write_weights
from ..models.stage_two_file import copy_stage_two
from ..progress import Progress, silent
from .calibrate import predict_case
from .case_roles import hashes_of
from .dataset import Case
from .fit_stage_two import fit_table
from .fold_networks import write_plain_bundle
from .reference_cases import OutOfFold, ReferenceCase
from .run_folder import RunFolder
from .run_record import known_to
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
    for case in predict_into(bundle, Model(bundle), own, mine):
        progress("predicting cases out of fold", done / total, case)
        done += 1
    for fold, cases in jobs:
        with tempfile.TemporaryDirectory() as work:
            model = Model(_with_backbone(bundle, run, fold, Path(work)))
            for case in predict_into(bundle, model, cases, others):
                progress("predicting cases out of fold", done / total, case)
                done += 1
    return whole_case_blocks(bundle.labels, mine, others)


def _with_backbone(bundle: Bundle, run: RunFolder, fold: RunFolder, work: Path) -> Bundle:
    """Return the model with the backbone of a fold in place of its own."""
    digest = write_weights(work, fold.load_best("backbone"), {bundle.default_head.name: run.load_best("head")})
    copy_stage_two(bundle, work)
    return replace(bundle, folder=work, weights_sha256=digest, graphs=None)


def predicted_out_of_fold(
    bundle: Bundle, runs: Sequence[RunFolder], cases: Sequence[Case], progress: Progress = silent
) -> OutOfFold:
    """Predict training cases by the networks and heads of runs that have not seen them.

    Args:
        bundle: what is to be calibrated.
        runs: of the same recipe, each trained without a part of the cases.

    Raises:
        InputError: a run is unfinished, keeps no hashes of its cases, or has another input or head than the bundle; a
            case is unusable, or a run's cases hold no errors.
        UsageError: a case has been seen by all runs.
    """
    for run in runs:
        _check_like(bundle, run)
    shares = unseen_cases(runs, cases, progress)
    known: list[ReferenceCase] = []
    tables: list[ErrorProbability] = []
    scales: list[float] = []
    for run, mine in zip(runs, shares, strict=True):
        found: list[ReferenceCase] = []
        with tempfile.TemporaryDirectory() as work:
            model = Model(write_plain_bundle(run, Path(work) / "fold"))
            for case in mine:
                progress("predicting cases out of fold", (len(known) + len(found)) / len(cases), case.name)
                pair = predict_case(case, model, [label.value for label in bundle.labels])
                found.append(ReferenceCase(*pair, case.group))
        tables += [fit_table(found)] * len(found)
        scale = fit_temperature([tempered_logits(case.prediction) for case in found], [case.truth for case in found])
        scales += [scale] * len(found)
        known += found
    return OutOfFold(known, tables, scales)


def unseen_cases(runs: Sequence[RunFolder], cases: Sequence[Case], progress: Progress = silent) -> list[list[Case]]:
    """Share out cases among runs: each to the first one that has seen no case of its patient, by the voxels.

    Raises:
        InputError: a run keeps no hashes of its cases.
        UsageError: a case has been seen by all runs, or a run has seen all cases.
    """
    hashes = {name: sha256 for sha256, name in hashes_of(cases, progress).items()}
    shares: list[list[Case]] = [[] for _ in runs]
    seen_groups = []
    for run in runs:
        seen = {sha256 for role in known_to(run).values() for sha256 in role}
        if not seen:
            raise InputError(f"{run.path} keeps no hashes of its cases: train it without --no-hashes.")
        seen_groups.append({case.group for case in cases if hashes[case.name] in seen})
    for case in cases:
        place = next((n for n, groups in enumerate(seen_groups) if case.group not in groups), None)
        if place is None:
            raise UsageError(
                f"The patient of {case.name} has been seen by all of the fold networks: leave it out of --fold-cases, "
                "or give the run that was trained without it."
            )
        shares[place].append(case)
    for run, mine in zip(runs, shares, strict=True):
        if not mine:
            raise UsageError(f"{run.path} is left no case that it has not seen: leave it out of --folds.")
    return shares


def _check_like(bundle: Bundle, run: RunFolder) -> None:
    recipe, variant = run.recipe(), bundle.default_head.variant
    differs = [
        name
        for name, other, own in (
            ("input", recipe.input, bundle.input),
            ("labels", [label.value for label in recipe.labels], [label.value for label in bundle.labels]),
            ("head", recipe.head["variant"], variant),
        )
        if other != own
    ]
    if differs:
        raise InputError(
            f"{run.path} has another {differs[0]} than the model {bundle.name}: give runs of its own recipe, with a "
            f'head of the variant "{variant}".'
        )
