"""Backbones that have forgotten a fold of the training cases: a head must see errors as they are on new cases.

A backbone knows its training cases by heart, so on them it errs too rarely, and elsewhere than it will on new ones. For
each fold its weights are trained further on all the other cases, until the fold is as good as new; the head is then
shown each case by the backbone that forgot it. Only training uses these backbones: the frozen one stays as it is.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from ..errors import InputError
from ..network.backbones import build_backbone, load_state
from ..progress import Progress, silent
from .backbone import BackboneTrainer, spec_of
from .dataset import PreparedCase
from .recipe import Recipe
from .run_folder import RunFolder


def folds_of(cases: Sequence[PreparedCase], folds: int, seed: int) -> list[int]:
    """The fold of each case; cases of one patient share one, and folds differ by one patient at most.

    Raises:
        InputError: fewer patients than folds.
    """
    patients = sorted({_patient(case) for case in cases})
    if len(patients) < folds:
        raise InputError(f"{len(patients)} training patients cannot be cross-fitted in {folds} folds: choose fewer.")
    order = np.random.default_rng(seed).permutation(len(patients))
    fold = {patients[patient]: place % folds for place, patient in enumerate(order)}
    return [fold[_patient(case)] for case in cases]


def _patient(case: PreparedCase) -> str:
    return case.group or case.name


def forgetful_backbones(
    recipe: Recipe, cases: Sequence[PreparedCase], run: RunFolder, progress: Progress = silent
) -> list[nn.Module]:
    """For each training case the backbone that has forgotten it, frozen; folds share one object.

    A fold that is done is read from `RUN/fold<k>`, one that was interrupted goes on after its last epoch, and one that
    was made with another recipe or other cases is made anew.

    Args:
        recipe: `head_training.cross_fit` folds of `cross_fit_epochs` further epochs, otherwise trained as
            `backbone_training` says.
        run: holds the backbone to start from.
    """
    folds = folds_of(cases, recipe.head_training.cross_fit, recipe.head_training.seed)
    made = {}
    for fold in sorted(set(folds)):
        kept = [case for case, its in zip(cases, folds, strict=True) if its != fold]
        made[fold] = _without(recipe, kept, run, RunFolder(run.path / f"fold{fold}"), progress)
    return [made[fold] for fold in folds]


def _without(
    recipe: Recipe, kept: Sequence[PreparedCase], run: RunFolder, folder: RunFolder, progress: Progress
) -> nn.Module:
    settings = recipe.head_training
    training = replace(recipe.backbone_training, epochs=settings.cross_fit_epochs, seed=settings.seed)
    recipe = replace(recipe, backbone_training=training)
    _begin_unless_begun(folder, recipe, [case.name for case in kept])
    trainer = BackboneTrainer(recipe, kept, [], folder, start=run.load_best("backbone"))
    trainer.resume()

    def told(stage: str, fraction: float, detail: str = "") -> None:
        progress(f"{stage} that forgets {folder.path.name}", fraction, detail)

    trainer.fit(told)
    backbone = build_backbone(spec_of(recipe))
    load_state(backbone, folder.load_best("backbone"), str(folder.path))
    return backbone.eval().requires_grad_(False)


def _begin_unless_begun(folder: RunFolder, recipe: Recipe, cases: Sequence[str]) -> None:
    """Keep what a fold's folder holds if it was begun with the same recipe and cases, else begin it again."""
    if folder.load_state("backbone") is not None:
        if folder.facts().get("cases") == list(cases) and _backbone_part(folder.recipe()) == _backbone_part(recipe):
            return
        folder.forget("backbone")
    folder.start(recipe, {"cases": list(cases)})


def _backbone_part(recipe: Recipe) -> tuple[Any, ...]:
    return recipe.input, recipe.labels, recipe.backbone, recipe.backbone_training
