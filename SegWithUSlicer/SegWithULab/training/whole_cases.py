"""Numbers of whole cases and the limit of flags, fitted on every case that the network has not been trained with.

These are calibration and validation cases, which the network itself predicts, and cases that networks of other folds
predict (`fold_predictions`). Volume intervals are of the network's own cases alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from SegWithUCore.calibration.flag_limits import fit_flag_limit
from SegWithUCore.inference.engines import TORCH
from SegWithUCore.inference.model import Model
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.quality import QUALITY
from SegWithUCore.util.progress import Progress, silent

from .calibrate import (
    CaseNumbers,
    FurtherCases,
    case_numbers,
    fit_case_level,
    flag_case,
    predict_case,
    structure_quality,
    triage_figures,
)
from .dataset import Case
from .error_likeness import LIKENESS, CaseErrors, errors_alike
from .reference_cases import FOLD_WEIGHT, ReferenceCase


@dataclass(frozen=True)
class PredictedCases:
    """What a model says of cases with references, one entry a case.

    Attributes:
        wrong_voxels: so many are expected to be wrong, background included; of the network's own cases.
        networks: that predicted each; of cases of folds.
        errors: what the errors are like; empty where nobody asks.
    """

    numbers: list[CaseNumbers] = field(default_factory=list)
    wrong_voxels: list[float] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    errors: list[CaseErrors] = field(default_factory=list)


def whole_case_blocks(
    labels: Sequence[Label], own: PredictedCases, out_of_fold: PredictedCases | None = None, weight: float = FOLD_WEIGHT
) -> dict[str, Any]:
    """Fit the blocks "volume_interval", "predicted_dice", "flags" and "quality" of a calibration.

    Args:
        own: cases that the network itself predicts.
        out_of_fold: cases of other networks, each counted as `weight` of the own.
    """
    other = out_of_fold or PredictedCases()
    further = FurtherCases(other.numbers, other.patients, other.networks, weight) if other.numbers else None
    numbers = fit_case_level(own.numbers, labels, own.patients, further)
    flag_cases = [flag_case(case, labels, patient) for case, patient in zip(own.numbers, own.patients, strict=True)]
    for case, patient, network in zip(other.numbers, other.patients, other.networks, strict=True):
        flag_cases.append(flag_case(case, labels, patient, weight, network))
    figures = triage_figures(own.numbers, own.wrong_voxels, numbers, labels)
    flags = {**fit_flag_limit(flag_cases), "figures": figures}
    if own.errors and other.errors:
        flags[LIKENESS] = errors_alike(own.errors, other.errors)
    return {**numbers.to_json(), "flags": flags, QUALITY: structure_quality(own.numbers, labels)}


def fit_on_unseen(
    bundle: Bundle,
    cases: Sequence[Case],
    out_of_fold: PredictedCases | None = None,
    progress: Progress = silent,
    engine: str = TORCH,
) -> dict[str, Any]:
    """Fit the blocks on cases that the bundle itself predicts, and on those that fold networks predicted."""
    found, model = PredictedCases(), Model(bundle, engine=engine)
    for number, case in enumerate(predict_into(bundle, model, cases, found, out_of_fold is not None)):
        progress("predicting the calibration cases", number / len(cases), case)
    return whole_case_blocks(bundle.labels, found, out_of_fold)


def predict_into(
    bundle: Bundle, model: Model, cases: Sequence[Case], found: PredictedCases, with_errors: bool = False
) -> Iterator[str]:
    """Predict cases and note in `found` what is said of them; yields the name of each before its turn."""
    scale = float((bundle.calibration or {})["tempering_scale"])
    for case in cases:
        yield case.name
        prediction, truth = predict_case(case, model)
        chance = prediction.error_probability
        assert chance is not None
        found.numbers.append(case_numbers(prediction, truth, scale))
        found.wrong_voxels.append(float(chance.sum(dtype=np.float64)))
        found.patients.append(case.group)
        if with_errors:
            found.errors.append(CaseErrors.of(ReferenceCase(prediction, truth, case.group)))
