"""Track which cases a run has seen, and write the training record of its bundle.

The same voxels are found under any name, and no case is judged by what has seen it. No torch is needed.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SegWithUCore.models.training_record import ROLE_WORDS, TRAINING_FOLDER, TrainingRecord
from SegWithUCore.util.csv_files import read_csv
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.progress import Progress, in_turn, silent

from .case_reading import Fingerprint, fingerprint, read_images
from .dataset import Case, PreparedCase
from .survey import check_images

if TYPE_CHECKING:
    from .run_folder import RunFolder

FACT, REMARKS = "voxels_sha256", "remarks"
"""Of `run.json`: role -> hash -> name (None where a model keeps no hashes), and sentences for the model card."""
ALLOW = "--allow-seen-cases"
Known = Mapping[str, Mapping[str, str]]
"""Cases that were seen: by role, voxel hash -> name ("" where the name is not known)."""


def fingerprints(cases: Sequence[Case], progress: Progress = silent) -> list[Fingerprint]:
    """Take the fingerprint of each case, in order.

    Raises:
        InputError: as `read_images`.
    """
    compared = in_turn(cases, "comparing with the cases of training", progress)
    return [fingerprint(read_images(case)) for case in compared]


def voxel_hashes(cases: Sequence[Case], progress: Progress = silent) -> list[str]:
    """Hash the voxels of each case, in order; raises as `fingerprints`."""
    return [each.sha256 for each in fingerprints(cases, progress)]


def hashes_of(cases: Sequence[Case], note: Callable[[str], None], progress: Progress = silent) -> dict[str, str]:
    """Hash the voxels of each case; returns hash -> name, the last name of those with the same voxels.

    Args:
        note: receives a warning about images of several patients that are much alike.

    Raises:
        InputError: as `fingerprints`, or one image counts as several patients.
    """
    prints = fingerprints(cases, progress)
    check_images(cases, prints, note)
    return {each.sha256: case.name for each, case in zip(prints, cases, strict=True)}


def check_unseen(role: str, given: Mapping[str, str], known: Known, allowed: bool) -> list[str]:
    """Refuse cases of a role that were seen in another one.

    Args:
        role: what the cases are to be used for.
        given: hash -> name.
        known: cases that were seen; those of the same role do not count, nor of test.
        allowed: whether the user wants them all the same.

    Returns:
        A message for the model card for each role in which some were seen.

    Raises:
        UsageError: some were seen and that was not allowed; names the first and under which name it was seen.
    """
    remarks = []
    for other, seen in known.items():
        both = [sha256 for sha256 in given if sha256 in seen]
        if other in (role, "test") or not both:
            continue
        if not allowed:
            name, before = given[both[0]], seen[both[0]]
            alias = f" under the name {before}" if before and before != name else ""
            found = f"{len(both)} of {len(given)} {role} cases were seen before: the image of {name} is that of "
            ways = f"leave them out, or pass {ALLOW} (the model card will say so)"
            raise UsageError(f"{found}{ROLE_WORDS[other]}{alias}; {ways}.", "seen-cases")
        harm = "metrics look better than on new cases"
        if role == "calibration":
            harm = "an error probability fitted on them may be too low on new cases"
        remarks.append(f"{len(both)} of {len(given)} {role} cases were {other} cases ({ALLOW}), so {harm}.")
    return remarks


def seen_of(roles: Mapping[str, Sequence[str]] | None) -> dict[str, dict[str, str]]:
    """Return the cases of a bundle's record, which has no names."""
    return {role: dict.fromkeys(hashes, "") for role, hashes in (roles or {}).items()}


def known_to(run: "RunFolder") -> dict[str, dict[str, str]]:
    """Return the cases that a run has seen; empty where it does not know."""
    return {role: dict(seen) for role, seen in (run.facts().get(FACT) or {}).items()}


def noted_roles(
    facts: Mapping[str, Any], train: Sequence[PreparedCase], select: Sequence[PreparedCase], allowed: bool = False
) -> dict[str, Any]:
    """Add to the facts of a run with which cases it is trained and validated, besides those that it knows.

    Args:
        allowed: whether cases may have been seen in the other role.

    Returns:
        The facts that change.

    Raises:
        UsageError: see `check_unseen`.
    """
    known, remarks = facts.get(FACT, {}), list(facts.get(REMARKS, []))
    roles: dict[str, dict[str, str]] = {role: dict(seen) for role, seen in (known or {}).items()}
    for role, cases in (("train", train), ("select", select)):
        given = {case.voxels_sha256: case.name for case in cases}
        remarks += [one for one in check_unseen(role, given, roles, allowed) if one not in remarks]
        roles[role] = {**roles.get(role, {}), **given}
    return {FACT: None if known is None else roles, REMARKS: remarks}


def run_record(run: "RunFolder", calibration: Mapping[str, str], remarks: Sequence[str] = ()) -> TrainingRecord:
    """Make the record of a bundle that is made of a run.

    Args:
        calibration: hash -> name of the calibration cases.
        remarks: further sentences for the card.
    """
    facts, recipe = run.facts(), run.recipe()
    planned = {"backbone": recipe.backbone_training.epochs, "head": recipe.head_training.epochs}
    trainings = []
    for part, epochs in planned.items():
        log, best = run.path / f"{part}_log.csv", facts.get(f"{part}_best")
        if not log.is_file():  # not trained here
            continue
        found: dict[str, Any] = {"part": part, "epochs": len(read_csv(log)) - 1, "planned": epochs}
        if best:
            scores = {name: value for name, value in best.items() if name != "epoch"}
            found |= {"best_epoch": best["epoch"] + 1, "scores": scores}
        trainings.append(found)
    portable = recipe.to_json()
    if "file" in portable["backbone"]:  # its place on this computer is private
        portable["backbone"] = {**portable["backbone"], "file": Path(str(portable["backbone"]["file"])).name}
    roles = facts.get(FACT, {})
    record = TrainingRecord(
        recipe=portable,
        trainings=tuple(trainings),
        roles=None if roles is None else {role: sorted(seen) for role, seen in roles.items()},
        remarks=tuple(facts.get(REMARKS, [])),
    )
    return record.with_role("calibration", list(calibration), remarks)


def copy_logs(run: "RunFolder", bundle: Path) -> None:
    """Copy the logs of a run to the record of its bundle."""
    (bundle / TRAINING_FOLDER).mkdir(parents=True, exist_ok=True)
    for log in run.path.glob("*_log.csv"):
        shutil.copyfile(log, bundle / TRAINING_FOLDER / log.name)
