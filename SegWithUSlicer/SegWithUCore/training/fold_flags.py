"""Limits of flags fitted on every training case as a new case: each is predicted by the fold network without it."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..calibration.flag_limits import CaseMetrics, fit_flag_rules
from ..inference.model import Model
from ..inference.structures import CaseLevelCalibration
from ..models.bundle import Bundle
from ..models.bundle_network import write_weights
from ..models.stage_two_file import copy_stage_two
from ..progress import Progress, silent
from .calibrate import case_numbers, flag_figures, predict_case
from .dataset import Case
from .run_folder import RunFolder


def fit_on_folds(
    run: RunFolder, bundle: Bundle, train: Sequence[Case], calibration: Sequence[Case], progress: Progress = silent
) -> dict[str, Any]:
    """Fit the block "flags" on the training cases, out of fold, and the calibration cases.

    Args:
        run: with its fold networks, trained from scratch, and its head.
        bundle: calibrated; its tables turn predictions into figures.
        train: cases of the run.
        calibration: cases that the bundle itself predicts.
    """
    folds = sorted(run.path.glob("fold*"), key=lambda path: path.name)
    jobs: list[tuple[RunFolder | None, list[Case]]] = [(None, list(calibration))]
    for fold in map(RunFolder, folds):
        kept = set(fold.facts()["cases"])
        jobs.append((fold, [case for case in train if case.name not in kept]))
    total, found = sum(len(cases) for _, cases in jobs), list[CaseMetrics]()
    for folder, cases in jobs:
        with tempfile.TemporaryDirectory() as work:
            model = Model(bundle if folder is None else _with_backbone(bundle, run, folder, Path(work)))
            for case in cases:
                progress("predicting cases out of fold", len(found) / total, case.name)
                found.append(_figures(case, model, bundle))
    return fit_flag_rules(found)


def _with_backbone(bundle: Bundle, run: RunFolder, fold: RunFolder, work: Path) -> Bundle:
    """Return the model with the backbone of a fold in place of its own."""
    digest = write_weights(work, fold.load_best("backbone"), {bundle.default_head.name: run.load_best("head")})
    copy_stage_two(bundle, work)
    return replace(bundle, folder=work, weights_sha256=digest, graphs=None)


def _figures(case: Case, model: Model, bundle: Bundle) -> CaseMetrics:
    calibration = bundle.calibration or {}
    prediction, truth = predict_case(case, model, [label.value for label in bundle.labels])
    chance = prediction.error_probability
    assert chance is not None
    numbers = case_numbers(prediction, truth, calibration["tempering_scale"])
    return flag_figures(numbers, prediction.classes, chance, CaseLevelCalibration.from_json(calibration), bundle.labels)
