"""Who predicts which training case as a new one: the fold network that has not been trained with its patient."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.training_record import read_record
from SegWithUCore.models.weights_file import weights_path
from SegWithUCore.util.errors import InputError, UsageError
from SegWithUCore.util.progress import Progress, silent

from .backbone import spec_of
from .case_roles import voxel_hashes
from .dataset import Case
from .run_folder import RunFolder
from .run_record import known_to

HEAD_SETTINGS = ("variant", "taps", "feature_channels", "probes", "aleatoric")
"""What a fold's head must have in common with the model's, so that its maps mean the same."""
LEAST_PATIENTS = 5
"""Of a fold, whose table and scale are fitted on them."""


@dataclass(frozen=True)
class Fold:
    """A network and head with cases that neither has seen, nor others of their patients."""

    run: RunFolder
    cases: list[Case]


def find_folds(
    bundle: Bundle,
    runs: Sequence[RunFolder],
    cases: Sequence[Case],
    others: Mapping[str, Sequence[Case]],
    progress: Progress = silent,
) -> list[Fold]:
    """Share out the training cases of a model among runs of its recipe, each to one that has not seen its patient.

    Patients that all runs have seen are left out.

    Args:
        bundle: the model.
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
    _check_training_cases(bundle, cases, hashes)
    known = dict(zip(hashes, cases, strict=True))
    for option, each in others.items():
        _check_apart(cases, known, option, each, voxel_hashes(each, progress))
    folds = _shared_out(runs, [_seen_groups(run, known) for run in runs], known.values())
    for fold in folds:
        count = len({case.group for case in fold.cases})
        if count < LEAST_PATIENTS:
            raise UsageError(
                f"{fold.run.path} is left with {count} patient(s) that it has not seen and no other run predicts: give "
                f"fewer runs, or such that were trained without {LEAST_PATIENTS} or more."
            )
    return folds


def _check_apart(
    cases: Sequence[Case], known: Collection[str], option: str, others: Sequence[Case], hashes: Sequence[str]
) -> None:
    patients = {case.patient for case in cases} - {None}
    shared = [
        case.name for case, sha256 in zip(others, hashes, strict=True) if sha256 in known or case.patient in patients
    ]
    if shared:
        raise UsageError(
            f"--fold-cases and {option} share {len(shared)} case(s), by voxels or patient, {shared[0]} first: what is "
            "fitted on the ones is judged on the others, so give the training cases alone, such as --fold-cases "
            "TABLE.csv:train."
        )


def _shared_out(runs: Sequence[RunFolder], seen: Sequence[set[str]], cases: Iterable[Case]) -> list[Fold]:
    folds = [Fold(run, []) for run in runs]
    by_patient: dict[str, list[Case]] = {}
    for case in cases:
        by_patient.setdefault(case.group, []).append(case)
    unseen = {
        patient: [fold for fold, groups in zip(folds, seen, strict=True) if patient not in groups]
        for patient in by_patient
    }
    for patient in sorted(unseen, key=lambda patient: len(unseen[patient])):  # those with a choice fill what is left
        if unseen[patient]:
            min(unseen[patient], key=lambda fold: len(fold.cases)).cases.extend(by_patient[patient])
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
        validated = {case.group for sha256, case in known.items() if sha256 in roles.get("select", {})}
        which = (
            f"all of the patients of --fold-cases, {len(validated)} of them to choose its epoch on"
            if validated
            else (f"{'all' if groups else 'none'} of the patients of --fold-cases")
        )
        raise UsageError(
            f"{run.path} has seen {which}: give runs that were each trained without another part of them, and chose "
            "their epoch on cases outside of --fold-cases."
        )
    return groups


def _check_training_cases(bundle: Bundle, cases: Sequence[Case], hashes: Sequence[str]) -> None:
    """Refuse cases that the model was not trained with: some may be test cases, which nobody would notice then."""
    record = read_record(weights_path(bundle).parent)
    trained = set((record and record.roles and record.roles.get("train")) or ())
    if not trained:
        raise InputError(
            f"The model {bundle.name} keeps no hashes of its training cases, so nobody can tell whether --fold-cases "
            "are those: leave --folds out."
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
    facts = run.facts()
    if not facts.keys().isdisjoint(("origin", "backbone_source")):
        raise InputError(
            f"The backbone in {run.path} was not trained there, so nobody knows what it has seen: give runs of "
            "train-backbone."
        )
    if "cases" in facts:
        raise InputError(
            f"{run.path} is a copy that train-head makes for its own use, which may have seen all cases: give runs of "
            "train-backbone."
        )
    for part in ("backbone", "head"):
        run.check_finished(part)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
