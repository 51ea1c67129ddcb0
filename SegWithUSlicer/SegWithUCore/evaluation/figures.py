"""Figures of a bundle on cases with references: segmentation, ranking, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from ..calibration.error_probability import ErrorProbability
from ..inference.prediction import Prediction, tempered_logits
from ..metrics.bands import distance_to_boundary
from ..metrics.bootstrap import paired_bootstrap
from ..metrics.calibration import brier_score, expected_calibration_error, negative_log_likelihood
from ..metrics.error_detection import aurc, auroc, average_precision, score_groups
from ..metrics.overlap import class_dice
from ..models.bundle import Bundle

BAND_MM = 3.0
"""Half width of the band around the predicted surface (data/README.md)."""


@dataclass(frozen=True)
class Band:
    """Error probabilities and errors of the voxels near the predicted surface of one case."""

    ours: np.ndarray
    softmax: np.ndarray
    error: np.ndarray


def case_figures(
    prediction: Prediction, truth: np.ndarray, spacing_zyx: Sequence[float], bundle: Bundle
) -> tuple[dict[str, float], Band | None]:
    """All figures of one case, and its band for pooled figures (None without fitted calibration).

    Args:
        truth: class of each voxel, (z, y, x).
    """
    error = prediction.classes != truth
    distance = distance_to_boundary(prediction.classes, spacing_zyx)
    near = distance <= BAND_MM
    probabilities = softmax(prediction.logits.astype(np.float64), 0)
    unsure = 1 - probabilities.max(0)
    names = [label.name for label in bundle.labels[1:]]
    dice = class_dice(prediction.classes, truth, len(bundle.labels))
    figures = {f"dice {name}": value for name, value in zip(names, dice, strict=True)}
    scores = {"ranking": prediction.ranking, "softmax": unsure, "distance": -distance}
    for name, score in scores.items():
        whole, band = score_groups(score, error), score_groups(score[near], error[near])
        figures |= {
            f"auroc whole {name}": auroc(whole),
            f"auroc band {name}": auroc(band),
            f"auprc whole {name}": average_precision(whole),
            f"aurc whole {name}": aurc(whole),
            f"aurc band {name}": aurc(band),
        }
    figures["error rate"] = float(error.mean())
    figures["nll plain"] = negative_log_likelihood(probabilities, truth)
    figures["nll tempered by the map alone"] = negative_log_likelihood(softmax(tempered_logits(prediction), 0), truth)
    if bundle.calibration is None:
        return figures, None
    return _calibrated_figures(figures, prediction, truth, error, near, unsure, bundle.calibration)


def _calibrated_figures(
    figures: dict[str, float],
    prediction: Prediction,
    truth: np.ndarray,
    error: np.ndarray,
    near: np.ndarray,
    unsure: np.ndarray,
    calibration: Mapping[str, Any],
) -> tuple[dict[str, float], Band]:
    table = ErrorProbability.from_json(calibration["error_probability"])
    rival = ErrorProbability.from_json(calibration["rivals"]["maximum_softmax"])
    temperature = calibration["rivals"]["temperature"]
    ours = table(prediction.ranking, prediction.classes, prediction.runner_up)
    theirs = rival.table(unsure)
    scaled = softmax(prediction.logits.astype(np.float64) / temperature, 0)
    softened = softmax(tempered_logits(prediction, calibration["tempering_scale"]), 0)
    figures |= {
        "auprc whole error probability": average_precision(score_groups(ours, error)),
        "auprc band error probability": average_precision(score_groups(ours[near], error[near])),
        "aurc whole error probability": aurc(score_groups(ours, error)),
        "aurc band error probability": aurc(score_groups(ours[near], error[near])),
        "auroc band error probability": auroc(score_groups(ours[near], error[near])),
        "nll tempered": negative_log_likelihood(softened, truth),
        "nll temperature scaling": negative_log_likelihood(scaled, truth),
        "error probability ece band": expected_calibration_error(ours[near], error[near]),
        "error probability brier": brier_score(ours, error),
        "error probability brier softmax": brier_score(theirs, error),
        "error probability brier band": brier_score(ours[near], error[near]),
        "error probability brier band softmax": brier_score(theirs[near], error[near]),
        "wrong voxels": float(error.sum()),
        "wrong voxels expected": float(ours.sum(dtype=np.float64)),
    }
    return figures, Band(ours[near], theirs[near], error[near])


def summary(names: Sequence[str], rows: Sequence[Mapping[str, float]], bands: Sequence[Band]) -> dict[str, Any]:
    """Means and spread over cases, pooled figures and comparisons.

    Args:
        names: of the cases.
        rows: figures of each case, from `case_figures`.
        bands: of the cases; empty without fitted calibration.

    Returns:
        What a bundle stores as `figures`: `cases`, `table` (title, mean, p10, p90, cases that have it), `comparisons`,
        and `by_case`.
    """
    table = [_spread(title, [row[title] for row in rows]) for title in rows[0]]
    comparisons: dict[str, Any] = {
        "aurc whole, ranking / distance": _mean(rows, "aurc whole ranking") / _mean(rows, "aurc whole distance"),
        "aurc whole, ranking / softmax": _mean(rows, "aurc whole ranking") / _mean(rows, "aurc whole softmax"),
    }
    if bands:
        pairs = {
            "nll tempered - temperature scaling": ("nll tempered", "nll temperature scaling"),
            "nll tempered by the map alone - temperature scaling": (
                "nll tempered by the map alone",
                "nll temperature scaling",
            ),
            "brier of error probability, ranking - softmax": (
                "error probability brier",
                "error probability brier softmax",
            ),
        }
        for title, (first, second) in pairs.items():
            interval = paired_bootstrap([row[first] for row in rows], [row[second] for row in rows])
            comparisons[title] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        pooled = {
            part: np.concatenate([getattr(band, part) for band in bands]) for part in ("ours", "softmax", "error")
        }
        comparisons["error probability ece band, pooled"] = expected_calibration_error(pooled["ours"], pooled["error"])
        comparisons["wrong voxels, expected / true"] = _mean(rows, "wrong voxels expected") / _mean(
            rows, "wrong voxels"
        )
    by_case = {name: dict(row) for name, row in zip(names, rows, strict=True)}
    return {"cases": len(rows), "table": table, "comparisons": comparisons, "by_case": by_case}


def _mean(rows: Sequence[Mapping[str, float]], title: str) -> float:
    return float(np.nanmean([row[title] for row in rows]))


def _spread(title: str, values: Sequence[float]) -> dict[str, Any]:
    there = np.asarray([value for value in values if np.isfinite(value)])
    if not there.size:
        return {"title": title, "mean": None, "cases": 0}
    low, high = np.percentile(there, [10, 90])
    return {
        "title": title,
        "mean": float(there.mean()),
        "p10": float(low),
        "p90": float(high),
        "cases": int(there.size),
    }
