"""Cases as a whole summed up: does a confidence tell bad cases, do predicted Dice and volume intervals hold."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..calibration.case_level import PredictedDice
from ..inference.structures import FittedNumbers
from ..metrics.bootstrap import figure_interval
from ..metrics.case_level import (
    case_augrc,
    case_aurc,
    case_excess_aurc,
    interval_figures,
    mean_absolute_error,
    spearman,
)
from ..models.bundle import Bundle
from .detection_table import finite
from .evaluate import CaseEvaluation

DRAWS = 1000
"""Of the bootstrap over patients."""
CONFIDENCE_FIGURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "aurc": case_aurc,
    "e-aurc": case_excess_aurc,
    "augrc": case_augrc,
    "spearman": lambda confidence, risk: spearman(confidence, 1 - risk),
}


def confidence_table(cases: Sequence[CaseEvaluation]) -> list[dict[str, Any]]:
    """A row for each confidence: AURC, e-AURC and AUGRC with 1 - mean Dice as risk, Spearman with mean Dice.

    Also "true order", the best there is, and "any order", which tells nothing.
    """
    risk = np.asarray([case.risk for case in cases])
    groups = [case.group for case in cases]
    rows = []
    for name in cases[0].confidences:
        confidence = np.asarray([case.confidences[name] for case in cases])
        row: dict[str, Any] = {"confidence": name, "cases": int(np.isfinite(confidence + risk).sum())}
        for title, figure in CONFIDENCE_FIGURES.items():
            row[title] = _with_interval(figure, confidence, risk, groups)
        rows.append(row)
    for name, confidence in (("true order", -risk), ("any order", np.zeros(risk.size))):
        found = {title: {"value": finite(figure(confidence, risk))} for title, figure in CONFIDENCE_FIGURES.items()}
        rows.append({"confidence": name, "cases": int(np.isfinite(risk).sum()), **found})
    return rows


def _with_interval(
    figure: Callable[[np.ndarray, np.ndarray], float], first: np.ndarray, second: np.ndarray, groups: Sequence[str]
) -> dict[str, float | None]:
    found = figure_interval(lambda chosen: figure(first[chosen], second[chosen]), groups, DRAWS)
    return {"value": finite(found.mean), "low": finite(found.low), "high": finite(found.high)}


def structure_table(cases: Sequence[CaseEvaluation], bundle: Bundle) -> list[dict[str, Any]]:
    """A row for each structure: predicted Dice against the constant mean, and coverage and width of intervals."""
    fitted = FittedNumbers.from_json(bundle.calibration)
    rows = []
    for index, label in enumerate(bundle.labels[1:]):
        numbers = [case.structures[index] for case in cases]
        line, interval = fitted.dice.get(label.value), fitted.intervals.get(label.value)
        row: dict[str, Any] = {"structure": label.name}
        if line is not None:
            true = np.asarray([entry.dice for entry in numbers])
            predicted = np.asarray([entry.predicted_dice for entry in numbers])
            row["predicted_dice"] = _predicted_dice(line, predicted, true, [case.group for case in cases])
        if interval is not None:
            held = interval_figures(
                [entry.low_mm3 for entry in numbers],
                [entry.high_mm3 for entry in numbers],
                [entry.true_mm3 for entry in numbers],
            )
            figures = {key: finite(value) for key, value in asdict(held).items()}
            row["volume_interval"] = {**figures, "level": interval.level}
        rows.append(row)
    return rows


def _predicted_dice(
    line: PredictedDice, predicted: np.ndarray, true: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    constant = np.where(np.isfinite(predicted), line.mean, np.nan)
    return {
        "informative": line.informative,
        "mean_absolute_error": _with_interval(mean_absolute_error, predicted, true, groups),
        "mean_absolute_error_of_mean": _with_interval(mean_absolute_error, constant, true, groups),
        "spearman": _with_interval(spearman, predicted, true, groups),
    }
