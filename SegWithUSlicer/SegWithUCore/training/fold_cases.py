"""Training cases as new cases: each is predicted by the fold network that has not been trained with it."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..inference.model import Model
from ..models.bundle import Bundle
from ..models.bundle_network import write_weights
from ..models.stage_two_file import copy_stage_two
from ..progress import Progress, silent
from .dataset import Case
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
