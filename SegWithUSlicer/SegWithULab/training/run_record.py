"""What a run knows of its cases and its training, and the record that its bundle gets of both."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from SegWithUCore.models.training_record import TRAINING_FOLDER, TrainingRecord
from SegWithUCore.util.csv_files import read_csv

from .case_roles import check_unseen, prepared_hashes
from .dataset import PreparedCase
from .recipe import Recipe
from .run_folder import RunFolder

FACT, REMARKS = "voxels_sha256", "remarks"
"""Of `run.json`: role -> hash -> name (None where hashes were to be left out), and sentences for the model card."""


def known_to(run: RunFolder) -> dict[str, dict[str, str]]:
    """Return the cases that a run has seen; empty where it does not know."""
    return {role: dict(seen) for role, seen in (run.facts().get(FACT) or {}).items()}


def note_roles(
    run: RunFolder,
    train: Sequence[PreparedCase],
    select: Sequence[PreparedCase],
    allowed: bool = False,
    hashes: bool = True,
) -> None:
    """Note in a run with which cases it is trained and validated; see `noted_roles`."""
    run.add_facts(noted_roles(run.facts(), train, select, allowed, hashes))


def noted_roles(
    facts: Mapping[str, Any],
    train: Sequence[PreparedCase],
    select: Sequence[PreparedCase],
    allowed: bool = False,
    hashes: bool = True,
) -> dict[str, Any]:
    """Add to the facts of a run with which cases it is trained and validated, besides those that it knows.

    Args:
        allowed: whether cases may have been seen in the other role.
        hashes: False leaves them out, from now on.

    Returns:
        The facts that change.

    Raises:
        UsageError: see `check_unseen`.
    """
    known, remarks = facts.get(FACT, {}), list(facts.get(REMARKS, []))
    roles: dict[str, dict[str, str]] = {role: dict(seen) for role, seen in (known or {}).items()}
    for role, cases in (("train", train), ("select", select)):
        given = prepared_hashes(cases)
        remarks += [one for one in check_unseen(role, given, roles, allowed) if one not in remarks]
        roles[role] = {**roles.get(role, {}), **given}
    return {FACT: roles if hashes and known is not None else None, REMARKS: remarks}


def run_record(run: RunFolder, calibration: Mapping[str, str] | None, remarks: Sequence[str] = ()) -> TrainingRecord:
    """Make the record of a bundle that is made of a run.

    Args:
        calibration: hash -> name of the calibration cases; None to leave hashes out.
        remarks: further sentences for the card.
    """
    facts, recipe = run.facts(), run.recipe()
    roles = facts.get(FACT, {})
    trainings = [one for part in ("backbone", "head") if (one := _training(part, run, recipe, facts)) is not None]
    record = TrainingRecord(
        recipe=_portable(recipe.to_json()),
        trainings=tuple(trainings),
        roles=None if roles is None else {role: sorted(seen) for role, seen in roles.items()},
        remarks=tuple(facts.get(REMARKS, [])),
    )
    return record.with_role("calibration", None if calibration is None else list(calibration), remarks)


def _training(part: str, run: RunFolder, recipe: Recipe, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tell how a part was trained; None where it was not trained here."""
    log = run.path / f"{part}_log.csv"
    if not log.is_file():
        return None
    settings = recipe.backbone_training if part == "backbone" else recipe.head_training
    found: dict[str, Any] = {"part": part, "epochs": len(read_csv(log)) - 1, "planned": settings.epochs}
    best = facts.get(f"{part}_best")
    if best:
        scores = {name: value for name, value in best.items() if name != "epoch"}
        found |= {"best_epoch": best["epoch"] + 1, "scores": scores}
    return found


def _portable(recipe: dict[str, Any]) -> dict[str, Any]:
    """Leave out where the file of a user's own network lies on this computer."""
    backbone = dict(recipe["backbone"])
    if "file" in backbone:
        backbone["file"] = Path(str(backbone["file"])).name
    return {**recipe, "backbone": backbone}


def copy_curves(run: RunFolder, bundle: Path) -> None:
    """Put logs and curves of a run beside the record of its bundle."""
    folder = bundle / TRAINING_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("backbone", "head"):
        for name in (f"{part}_log.csv", f"{part}_curves.png"):
            if (run.path / name).is_file():
                shutil.copyfile(run.path / name, folder / name)
