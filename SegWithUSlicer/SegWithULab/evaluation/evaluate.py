"""A model on cases with references: every case segmented as `segment` does, and measured.

Before an evaluation some cases are compared with those that the model was trained with, so that another organ is
refused at once; during it all are.

An evaluation summed up: what `segwithu evaluate` prints, writes, and records in a bundle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk

from SegWithUCore.inference.deviation import NOTE, REFUSED, WARNING, Deviation
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.ood_check import input_deviations
from SegWithUCore.inference.prediction import Prediction, predict
from SegWithUCore.inference.preprocessing import assessed_box
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import mean_interval, metric_interval, paired_bootstrap
from SegWithUCore.metrics.calibration import Reliability
from SegWithUCore.metrics.case_level import interval_metrics, mean_absolute_error, spearman
from SegWithUCore.metrics.overlap import Band, class_surface_dice, mean_dice
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.quality import checks_lacking
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, in_turn, silent

from ..calibration.cases import case_numbers, check_labelled
from ..training.case_reading import read_assessed, read_images
from ..training.dataset import Case
from . import case_metrics
from .case_metrics import BASELINE_SCORE, OUR_SCORE, SURFACE_TOLERANCE_MM

LOOKED_AT = 5
"""Cases that are compared before an evaluation, spread over all of them."""


@dataclass(frozen=True)
class CaseEvaluation:
    """All that is known of a case afterwards.

    Attributes:
        name, group: of the case, and what it is resampled with.
        metrics: what a bundle records, by title.
        detection: error detection by (metric, region, score).
        structures: of `measure_structures`.
        risk: 1 - mean Dice.
        counts: voxels of the part that is assessed, and wrong ones, by region.
        ood_warnings: how its images differ from the training cases.
    """

    name: str
    group: str
    metrics: dict[str, float]
    detection: dict[tuple[str, str, str], float]
    structures: list[dict[str, Any]]
    risk: float
    counts: dict[str, tuple[int, int]]
    ood_warnings: list[Deviation] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """Measured cases.

    Attributes:
        band: around the predicted surface.
        reliability: of the error probability over the voxels of all cases, by region; empty without fitted calibration.
    """

    band: Band = field(default_factory=Band)
    cases: list[CaseEvaluation] = field(default_factory=list)
    reliability: dict[str, Reliability] = field(default_factory=dict)


def evaluate(cases: Sequence[Case], model: Model, band: Band | None = None, progress: Progress = silent) -> Evaluation:
    """Measure every case, one after the other; memory holds one case and counts.

    Raises:
        InputError: an image or reference cannot be used; or as `check_labelled`.
    """
    found, overlaps = Evaluation(band or Band()), list[np.ndarray]()
    for case in in_turn(cases, "evaluating", progress):
        read = read_assessed(case, model.bundle)
        prediction = predict(read.images, model)
        overlaps.append(read.overlap(prediction.classes, len(model.bundle.labels)))
        add_case(found, case, prediction, read.truth, read.images, model.bundle, read.judged_as)
    if len(cases) > 1:  # what is drawn in one case alone may be wrong
        check_labelled(np.array(overlaps), [case.reference for case in cases], model.bundle.labels)
    progress("evaluating", 1.0)
    return found


def add_case(
    found: Evaluation,
    case: Case,
    prediction: Prediction,
    truth: np.ndarray,
    images: Sequence[sitk.Image],
    bundle: Bundle,
    judged_as: np.ndarray | None = None,
) -> None:
    """Measure one case and add it to what was found.

    Args:
        truth: class of each voxel, (z, y, x).
        images: the channels, on the grid of the prediction.
        judged_as: as in `AssessedCase`; what has no label of its own has no Dice and volumes.
    """
    spacing = images[0].GetSpacing()[::-1]
    seen = case_metrics.measure_case(prediction, truth, spacing, bundle, found.band, judged_as)
    names = [label.name for label in seen.labels[1:]]
    detection = case_metrics.detection_metrics(seen)
    metrics = case_metrics.recorded_metrics(seen, detection, bundle)
    if not found.band.in_slices:
        dice = class_surface_dice(seen.classes, seen.truth, len(seen.labels), SURFACE_TOLERANCE_MM, list(spacing))
        metrics |= {f"surface dice {name}": each for name, each in zip(names, dice, strict=True)}
    scale = 1.0 if bundle.calibration is None else bundle.calibration["tempering_scale"]
    alone = None if judged_as is None else (judged_as > 0) & (np.bincount(judged_as)[judged_as] == 1)
    numbers = case_numbers(prediction, truth, scale, alone)
    structures = case_metrics.measure_structures(numbers, bundle.labels, bundle.calibration)
    risk = 1 - mean_dice(seen.classes, seen.truth, len(seen.labels))
    for region in ("whole", "band", "inside") if OUR_SCORE in seen.scores else ():
        mask = seen.regions[region]
        found.reliability.setdefault(region, Reliability()).add(seen.scores[OUR_SCORE][mask], seen.error[mask])
    counts, warned = case_metrics.region_counts(seen.error, seen.regions), input_deviations(images, bundle)
    found.cases.append(CaseEvaluation(case.name, case.group, metrics, detection, structures, risk, counts, warned))


def ood_check(found: Mapping[str, Sequence[Deviation]], bundle: Bundle) -> dict[str, Any] | None:
    """Summarise the OOD check of an evaluation; None if the model has no OOD reference.

    Args:
        found: deviations of all cases, by name.

    Returns:
        `cases` checked; `lacks`, the parts of the check that the model does not have; `out_of_distribution`, the names
        of cases with a warning or more; `noted`, of those with notes alone; and `found`, all sentences by case.
    """
    if bundle.ood_reference is None:
        return None
    worst = {name: {each.severity for each in its} for name, its in found.items()}
    return {
        "cases": len(found),
        "lacks": checks_lacking(bundle),
        "out_of_distribution": [name for name, severities in worst.items() if severities & {WARNING, REFUSED}],
        "noted": [name for name, severities in worst.items() if severities == {NOTE}],
        "found": {name: [each.to_json() for each in its] for name, its in found.items() if its},
    }


def check_like_training(cases: Sequence[Case], bundle: Bundle) -> list[str]:
    """Compare some cases with the training cases; returns the warnings about them, each once.

    Raises:
        InputError: most of them are out of distribution, or one cannot be read.
    """
    if bundle.ood_reference is None:
        return []
    looked = list(cases)[:: max(1, len(cases) // LOOKED_AT)][:LOOKED_AT]
    refused, notes = [], []
    for case in looked:
        images = read_images(case)
        if len(images) != len(bundle.input.channels):
            continue  # refused when all of them are read
        box = assessed_box(images, bundle.input)
        found = input_deviations([box.crop(image) for image in images], bundle)
        refused += [each.message for each in found if each.severity == REFUSED][:1]
        notes += [f"{case.name}: {each.message}" for each in found]
    if len(refused) * 2 > len(looked):
        problem = (
            f"{len(refused)} of {len(looked)} cases are too far out of distribution for metrics of '{bundle.name}'"
        )
        ways = "choose a model for such images, or continue with --unlike-training"
        raise InputError(f"{problem} ({refused[0].rstrip('.')}): {ways}.", "out-of-distribution")
    return list(dict.fromkeys(notes))


RECORDED = ("cases", "table", "comparisons", "by_case")
"""What a bundle keeps; the rest is for reports."""
PAIRS = {
    "nll tempered - temperature scaling": ("nll tempered", "nll temperature scaling"),
    "nll tempered by the map alone - temperature scaling": ("nll tempered by the map alone", "nll temperature scaling"),
    "brier of error probability, ranking - softmax": ("error probability brier", "error probability brier softmax"),
    **{
        f"{name} whole, {OUR_SCORE} - {BASELINE_SCORE}": (f"{name} whole {OUR_SCORE}", f"{name} whole {BASELINE_SCORE}")
        for name in ("auprc", "aurc")
    },
}
DRAWS = 1000
"""Of the bootstrap over patients."""
Metric = Callable[[np.ndarray, np.ndarray], float]


def summary(evaluation: Evaluation, bundle: Bundle) -> dict[str, Any]:
    """Means and spread over cases, pooled metrics and comparisons, for JSON.

    Returns:
        `cases`, `table` (title, mean, p10, p90, cases that have it, low and high of the mean's bootstrap interval),
        `comparisons` and `by_case`; and beyond what a bundle records, `patients`, `band`, `regions`, `detection`,
        `structures`, `reliability`, `ood_check` and `metrics_by_case`.
    """
    cases, band = evaluation.cases, evaluation.band
    groups = [case.group for case in cases]
    titles = list(dict.fromkeys(title for case in cases for title in case.metrics))
    return {
        "cases": len(cases),
        "table": [{"title": title, **spread([c.metrics[title] for c in cases], groups)} for title in titles],
        "comparisons": _comparisons(evaluation),
        "by_case": {case.name: _finite(case.metrics) for case in cases},
        "patients": len(set(groups)),
        "band": str(band),
        "surface_tolerance_mm": None if band.in_slices else SURFACE_TOLERANCE_MM,
        "regions": region_rows([case.counts for case in cases], groups),
        "detection": [
            dict(zip(("value", "region", "score"), key, strict=True))
            | spread([case.detection[key] for case in cases], groups)
            for key in cases[0].detection
        ],
        "structures": _structure_table(cases, bundle),
        "reliability": {region: counted.diagram() for region, counted in evaluation.reliability.items()},
        "ood_check": ood_check({case.name: case.ood_warnings for case in cases}, bundle),
        "metrics_by_case": {
            case.name: {
                "patient": case.group,
                "mean_dice": finite(1 - case.risk),
                "structures": [_finite(entry) for entry in case.structures],
                "detection": _finite({" ".join(key): value for key, value in case.detection.items()}),
            }
            for case in cases
        },
    }


def recorded(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part that a bundle keeps."""
    return {key: result[key] for key in RECORDED}


def spread(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """Mean with its bootstrap interval, 10 and 90 % of the cases, and how many have a value."""
    known = np.asarray([value for value in values if np.isfinite(value)])
    if not known.size:
        return {"mean": None, "cases": 0}
    interval = mean_interval(values, groups=groups)
    p10, p90 = np.percentile(known, [10, 90]).tolist()
    numbers = {"mean": float(known.mean()), "p10": p10, "p90": p90, "cases": int(known.size)}
    return {**numbers, "low": interval.low, "high": interval.high}


def region_rows(cases: Sequence[Mapping[str, tuple[int, int]]], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Sum up voxels and wrong ones of each region over cases; see `region_counts`."""
    rows = []
    for name in cases[0]:
        voxels, errors = zip(*(case[name] for case in cases), strict=True)
        shares = [wrong / count if count else float("nan") for wrong, count in zip(errors, voxels, strict=True)]
        without = {"cases_without_errors": errors.count(0), "cases_without_voxels": voxels.count(0)}
        sums = {"region": name, "voxels": sum(voxels), "errors": sum(errors)}
        rows.append({**sums, **without, "error_rate": spread(shares, groups)})
    return rows


def finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if np.isfinite(value) else None


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if isinstance(value, str) else finite(value) for key, value in values.items()}


def _structure_table(cases: Sequence[CaseEvaluation], bundle: Bundle) -> list[dict[str, Any]]:
    """Make a row for each structure: predicted Dice against the constant mean, coverage and width of intervals."""
    fitted, groups = CaseLevelCalibration.from_json(bundle.calibration), [case.group for case in cases]
    rows = []
    for index, label in enumerate(bundle.labels[1:]):
        numbers = [case.structures[index] for case in cases]
        line, interval = fitted.dice.get(label.value), fitted.intervals.get(label.value)
        row: dict[str, Any] = {"structure": label.name}
        if line is not None:
            true, predicted = (np.asarray([entry[what] for entry in numbers]) for what in ("dice", "predicted_dice"))
            constant = np.where(np.isfinite(predicted), line.mean, np.nan)
            row["predicted_dice"] = {
                "informative": line.informative,
                "mean_absolute_error": _with_interval(mean_absolute_error, predicted, true, groups),
                "mean_absolute_error_of_mean": _with_interval(mean_absolute_error, constant, true, groups),
                "spearman": _with_interval(spearman, predicted, true, groups),
            }
        if interval is not None:
            ends = ([entry[f"{what}_mm3"] for entry in numbers] for what in ("low", "high", "true"))
            row["volume_interval"] = {**_finite(interval_metrics(*ends)), "level": interval.level}
        rows.append(row)
    return rows


def _comparisons(evaluation: Evaluation) -> dict[str, Any]:
    """Ratios and paired differences; those that do not exist, as where nothing is wrong, are left out."""
    rows, groups = [case.metrics for case in evaluation.cases], [case.group for case in evaluation.cases]
    found: dict[str, Any] = {
        "aurc whole, ranking / distance": _ratio(rows, "aurc whole ranking", "aurc whole distance"),
        "aurc whole, ranking / softmax": _ratio(rows, "aurc whole ranking", "aurc whole softmax"),
    }
    if "band" in evaluation.reliability:
        for title, (first, second) in PAIRS.items():
            difference = paired_bootstrap([row[first] for row in rows], [row[second] for row in rows], groups=groups)
            found[title] = asdict(difference) if np.isfinite(difference.mean) else None
        pooled = evaluation.reliability["band"].expected_calibration_error()
        found["error probability ece band, pooled"] = finite(pooled)
        found["wrong voxels, expected / true"] = _ratio(rows, "wrong voxels expected", "wrong voxels")
    return {title: value for title, value in found.items() if value is not None}


def _ratio(rows: Sequence[Mapping[str, float]], first: str, second: str) -> float | None:
    """Ratio of the sums over cases, None if there is none."""
    above, below = (float(np.nansum([row[title] for row in rows])) for title in (first, second))
    return above / below if below else None


def _with_interval(
    metric: Metric, first: np.ndarray, second: np.ndarray, groups: Sequence[str]
) -> dict[str, float | None]:
    found = metric_interval(lambda chosen: metric(first[chosen], second[chosen]), groups, DRAWS)
    return {"value": finite(found.mean), "low": finite(found.low), "high": finite(found.high)}
