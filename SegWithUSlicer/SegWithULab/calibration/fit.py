"""Fit a model's calibration on labelled cases: all of it, or with the model's own calibration as a prior."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from scipy.special import softmax

from SegWithUCore.calibration.error_probability import ErrorProbability, fit_percentiles, fit_temperature
from SegWithUCore.calibration.second_stage import SecondStage
from SegWithUCore.inference.prediction import Prediction, error_probability, tempered_logits
from SegWithUCore.inference.uncertainty_maps import FittedCalibration
from SegWithUCore.models.input_spec import Label, Total
from SegWithUCore.models.second_stage_file import CHECK, check_message
from SegWithUCore.regions.region import UNCERTAIN
from SegWithUCore.util.memory import check_memory

from .blocks import Calibration, per_structure_blocks
from .cases import MOST_BYTES, CalibrationCase, PredictedCases, fit_on_clean, fit_table, slabs
from .fit_second_stage import LEAST_PATIENTS, fit_added, fit_second_stage
from .prior import CaseSummary, drawn_counts, lines_of, refit, summary_of

BESIDE = 4
"""Times the logits of a case that a fit needs besides all cases: tempered logits in double precision."""
WINDOW_PERCENTILES = (50.0, 99.95)
"""Display window of ranking and calibration maps: dark for the lower half of all voxels, bright for one in 2000."""


def fit(
    cases: Iterable[CalibrationCase],
    labels: Sequence[Label],
    prior: Mapping[str, Any] | None = None,
    folds: Callable[[float], PredictedCases] | None = None,
    validation: Iterable[CalibrationCase] = (),
    totals: Sequence[Total] = (),
    least: int = LEAST_PATIENTS,
) -> Calibration:
    """Fit a calibration on cases that neither network nor head was trained with.

        made = fit(cases, bundle.labels)                                # everything, on these cases
        made = fit(cases, bundle.labels, prior=bundle.calibration)      # keep what they do not improve

    Args:
        cases: predicted; with a prior one after the other: of more than `MOST_BYTES` only numbers are kept, and no
            second stage is fitted.
        labels: of the model, background first.
        prior: the model's calibration block, replaced part by part where the cases show, each patient judged by the
            others, that another predicts better.
        folds: predicts training cases with cross-validation models, given the tempering scale; for the second stage,
            predicted Dice and flags. Without a prior only.
        validation: predicted cases on which the epochs were chosen: good enough for what is fitted per structure.
            Without a prior only.
        totals: of the model; with a prior only.
        least: patients from which on a second stage is fitted. Without a prior only.

    Raises:
        InputError: the cases contain no errors to fit.
    """
    if prior is None:
        all_cases = list[CalibrationCase]()
        for case in cases:
            needed = float(BESIDE * case.prediction.logits.nbytes)
            check_memory("Fitting a calibration on these cases", needed, ["give fewer cases"])
            all_cases.append(case)
        return _fit_all(all_cases, labels, folds, validation, least)
    table, scale = ErrorProbability.from_json(prior["error_probability"]), float(prior["tempering_scale"])
    summaries, kept, needed, why = list[CaseSummary](), list[CalibrationCase](), 0, ""
    for case in cases:
        summaries.append(summary_of(case, table, scale, labels))
        needed += case.bytes
        if not case.alone.all():
            why = "structures have no label of their own in the references, or are not finished"
        elif case.prediction.sums is not None:
            why = "the images are finer than the grid that it works on"
        elif needed * max(1, LEAST_PATIENTS / len(summaries)) > MOST_BYTES:  # so many cases find no room: keep none
            why = f"the cases take more than {MOST_BYTES >> 30} GB of memory at once"
        kept = [] if why else [*kept, case]
        del case  # before the next one is predicted
    lines = lines_of(summaries, labels)
    added = fit_added(kept, table, lines.left_out if lines is not None and lines.helps else {})
    if added is not None and added.helps:
        chances = (_chance(case, added.table, added.fitted.stage) for case in kept)
        drawn = (drawn_counts(case, chance, labels) for case, chance in zip(kept, chances, strict=True))
        summaries = [replace(each, drawn=counts) for each, counts in zip(summaries, drawn, strict=True)]
    found = refit(prior, labels, summaries, lines, added, totals)
    if not why or len({each.patient for each in summaries}) < LEAST_PATIENTS:
        return found
    return replace(found, messages=(*found.messages, f"Second stage: the model's own stays; {why}."))


def _fit_all(
    cases: Sequence[CalibrationCase],
    labels: Sequence[Label],
    folds: Callable[[float], PredictedCases] | None,
    validation: Iterable[CalibrationCase],
    least: int,
) -> Calibration:
    """Fit everything, with baselines to be measured against.

    The head learns to soften on training cases, where the backbone is wrong too rarely. The scale, one number fitted on
    cases it has never seen, corrects that. `baselines` holds the baselines: the temperature of temperature scaling, and
    an error probability from 1 - maximum softmax, fitted as ours is from the ranking map (isotonic, then by direction).
    """
    predictions, truths = [case.prediction for case in cases], [case.truth for case in cases]
    scale = fit_temperature((tempered_logits(p) for p in predictions), truths)
    other = None if folds is None else folds(scale)
    table = fit_table(cases)
    found = fit_second_stage(cases, table, other=other, least=least)
    stage = found.stage if found is not None and found.helps else None
    chances = [_chance(case, table, stage) for case in cases]
    own = PredictedCases()
    for case, chance in chain(
        zip(cases, chances, strict=True), ((case, _chance(case, table, stage)) for case in validation)
    ):
        own.add(case, scale)
        own.wrong_voxels.append(float(chance.sum(dtype=np.float64)))
    unsure = [
        np.concatenate([1 - softmax(p.logits[:, planes].astype(np.float64), 0).max(0) for planes in slabs(p.logits)])
        for p in predictions
    ]
    softmax_table = fit_on_clean(unsure, cases)
    block: dict[str, Any] = {
        "cases": len(cases),
        "error_probability": table.to_json(),
        "sources": _sources(predictions, chances),
        "tempering_scale": scale,
        **per_structure_blocks(labels, own, other),
        "baselines": {
            "temperature": fit_temperature((p.logits for p in predictions), truths),
            "maximum_softmax": softmax_table.to_json(),
        },
    }
    if found is not None:
        block[CHECK] = found.check
    messages = (check_message(found.check),) if found is not None and other is not None else ()
    return Calibration(block, messages, stage, _display_windows(predictions), own=own)


def _chance(case: CalibrationCase, table: ErrorProbability, stage: SecondStage | None) -> np.ndarray:
    """Error probability of each voxel; without an image to look at, that of the table."""
    prediction = case.prediction
    if prediction.view is None:
        return table(prediction.ranking, prediction.classes, prediction.runner_up)
    fitted = FittedCalibration(table, second_stage=stage)
    chance = error_probability(fitted, prediction.view, prediction.logits, prediction)
    assert chance is not None
    return chance


def _sources(predictions: Sequence[Prediction], chances: Sequence[np.ndarray]) -> dict[str, list[float] | None]:
    """Percentiles of model and data part among uncertain voxels; see `calibration.error_probability`."""
    uncertain = [chance > UNCERTAIN for chance in chances]
    data = [p.aleatoric for p in predictions if p.aleatoric is not None]
    return {
        "model": fit_percentiles([p.epistemic for p in predictions], uncertain),
        "data": fit_percentiles(data, uncertain) if data else None,
    }


def _display_windows(predictions: Sequence[Prediction]) -> dict[str, list[float]]:
    """Window of each map over all calibration cases; error probability spans 0 to 0.5 in every model."""
    windows: dict[str, list[float]] = {"error_probability": [0.0, 0.5]}
    for name in ("ranking", "calibration"):
        values = np.concatenate([np.ravel(getattr(p, name)) for p in predictions])
        windows[name] = [float(v) for v in np.percentile(values, WINDOW_PERCENTILES)]
    return windows
