"""Blocks of a calibration that are fitted per structure or case: intervals, predicted Dice, flags, quality, checks.

They are fitted on every case that the network has not been trained with: calibration and validation cases, which the
network itself predicts, and training cases that cross-validation models predict. Volume intervals are of the network's
own cases alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation

from SegWithUCore.calibration.flag_limits import FlagCase, fit_flag_limit
from SegWithUCore.calibration.per_structure import (
    DiceFit,
    VolumeInterval,
    Volumes,
    fit_predicted_dice,
    fit_volume_interval,
)
from SegWithUCore.calibration.second_stage import SecondStage
from SegWithUCore.inference.prediction import Prediction
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import metric_interval, paired_bootstrap
from SegWithUCore.metrics.error_detection import auroc, region_groups
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.quality import QUALITY, measured_quality
from SegWithUCore.review.flags import FIGURE_DIGITS, finite_share

from .cases import CaseNumbers, PredictedCases


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration, and the report of it.

    Attributes:
        block: of a bundle; `bundles.written_block` adds what belongs to a second stage that was fitted here.
        messages: one sentence a part: what was fitted, or kept, and why.
        second_stage: fitted here; None where there is none, or where the prior's stays.
        display: windows of the maps; None where the prior's stay.
        is_changed: whether anything is not the prior's.
    """

    block: Mapping[str, Any]
    messages: tuple[str, ...] = ()
    second_stage: SecondStage | None = None
    display: Mapping[str, list[float]] | None = None
    is_changed: bool = True


FOLD_WEIGHT = 0.5
"""A case of a cross-validation model counts as so many of the network itself, which errs in its own way."""


def per_structure_blocks(
    labels: Sequence[Label], own: PredictedCases, other: PredictedCases | None = None
) -> dict[str, Any]:
    """Fit the blocks "volume_interval", "predicted_dice", "quality" and "flags" of a calibration.

    Args:
        own: cases that the network itself predicts.
        other: cases of cross-validation models, each counted as `FOLD_WEIGHT` of the own.
    """
    numbers = fit_per_structure(own.numbers, labels, own.patients, other)
    flag_cases = [flag_case(case, labels, patient) for case, patient in zip(own.numbers, own.patients, strict=True)]
    if other is not None:
        pairs = zip(other.numbers, other.patients, other.networks, strict=True)
        flag_cases += [flag_case(case, labels, patient, FOLD_WEIGHT, network) for case, patient, network in pairs]
    figures = triage_figures(own.numbers, own.wrong_voxels, numbers, labels)
    flags = {**fit_flag_limit(flag_cases), "figures": figures}
    if other is not None and own.errors and other.errors:
        flags[LIKENESS] = errors_alike(own, other)
    return {**numbers.to_json(), QUALITY: structure_quality(own.numbers, labels), "flags": flags}


def structure_quality(cases: Sequence[CaseNumbers], labels: Sequence[Label]) -> dict[str, dict[str, Any]]:
    """Make the block `quality` of a calibration: what unseen cases say of each structure."""
    columns = enumerate(zip(*(zip(case.dice, case.true, case.predicted, strict=True) for case in cases), strict=True))
    return {str(labels[index].value): measured_quality(column).to_json() for index, column in columns if index}


def fit_per_structure(
    cases: Sequence[CaseNumbers],
    labels: Sequence[Label],
    patients: Sequence[str] | None = None,
    other: PredictedCases | None = None,
) -> CaseLevelCalibration:
    """Fit every structure that enough cases have; background has no numbers.

    Args:
        patients: of each case; None if every case stands alone.
        other: cases of cross-validation models, which predicted Dice is fitted on too; intervals are of `cases` alone.
    """
    intervals: dict[int, VolumeInterval] = {}
    for index, label in enumerate(labels[1:], 1):
        expected, ambiguous, true = np.asarray([case.volumes_mm3(index) for case in cases]).T
        segmented = np.asarray([case.segmented_mm3(index) for case in cases])
        interval = fit_volume_interval(Volumes(expected, ambiguous, segmented, true), patients=patients)
        intervals |= {label.value: interval} if interval is not None else {}
    return CaseLevelCalibration(intervals, dice_fit(cases, labels, patients, other).lines)


def dice_fit(
    cases: Sequence[CaseNumbers],
    labels: Sequence[Label],
    patients: Sequence[str] | None = None,
    other: PredictedCases | None = None,
) -> DiceFit:
    """Fit the predicted Dice of all structures together; see `fit_per_structure`."""
    names = [str(number) for number in range(len(cases))] if patients is None else list(patients)
    weights, networks = [1.0] * len(cases), list[str | None]([None] * len(cases))
    if other is not None:
        cases, names = [*cases, *other.numbers], [*names, *other.patients]
        weights += [FOLD_WEIGHT] * len(other.numbers)
        networks += other.networks
    pairs = {
        label.value: ([case.confidence(index) for case in cases], [float(case.dice[index]) for case in cases])
        for index, label in enumerate(labels[1:], 1)
    }
    return fit_predicted_dice(pairs, names, weights, networks)


def flag_case(
    case: CaseNumbers,
    labels: Sequence[Label],
    patient: str | None = None,
    weight: float = 1.0,
    network: str | None = None,
) -> FlagCase:
    """Return what the limit of flags is fitted on; what is given as in `FlagCase`."""
    classes = range(1, len(labels))
    soft = [each for each in (case.confidence(index) for index in classes) if np.isfinite(each)]
    known = [float(case.dice[index]) for index in classes if np.isfinite(case.dice[index])]
    return FlagCase(min(soft, default=float("nan")), min(known, default=float("nan")), weight, patient, network)


def triage_figures(
    cases: Sequence[CaseNumbers],
    wrong_voxels: Sequence[float],
    numbers: CaseLevelCalibration,
    labels: Sequence[Label],
) -> dict[str, list[float]]:
    """Return what `review.worklist` reads of a case, of all calibration cases, each sorted.

    Args:
        wrong_voxels: so many are expected to be wrong in each case, background included.
    """
    found: dict[str, list[float]] = {"wrong_share": [], "wrong_mm3": [], "predicted_dice": []}
    for case, voxels in zip(cases, wrong_voxels, strict=True):
        wrong = voxels * case.voxel_mm3
        found["wrong_mm3"].append(wrong)
        found["wrong_share"].append(finite_share(wrong, float(case.predicted[1:].sum()) * case.voxel_mm3))
        dice = [
            line(case.confidence(index))
            for index, label in enumerate(labels[1:], 1)
            if (line := numbers.dice.get(label.value)) is not None and np.isfinite(case.confidence(index))
        ]
        found["predicted_dice"] += [min(dice)] if dice else []
    return {name: sorted(round(value, FIGURE_DIGITS) for value in values) for name, values in found.items() if values}


WITHIN = "within_structures"
"""Of a calibration block."""
GROWN = 2
"""Voxels around a predicted structure that belong to it here: where it was drawn too small."""
AurocPairs = Mapping[int, tuple[float, float]]
"""By class index: AUROC of the error probability and of 1 - maximum softmax within a structure; NaN without errors."""


def auroc_within(prediction: Prediction, truth: np.ndarray, score: np.ndarray) -> AurocPairs:
    """Compare a score with the softmax within each structure as predicted, and `GROWN` voxels around it.

    Over a whole image most of the ranking is that far voxels are safe. Within a structure that is no help, and there a
    head can do worse than the softmax it begins with. The part is known without the reference: of voxels that only the
    reference gives to a structure every one is wrong, so among them a score would gain by ignoring that errors are
    rarer on that side of the boundary.
    """
    wrong = prediction.classes != truth
    spread = prediction.logits.astype(np.float64) - prediction.logits.max(0)
    unsure = (1 - 1 / np.exp(spread).sum(0)).astype(np.float32)
    masks: dict[str, np.ndarray | None] = {
        str(index): binary_dilation(prediction.classes == index, iterations=GROWN)
        for index in range(1, len(prediction.logits))
    }
    ours, plain = (region_groups(np.asarray(each, np.float32), wrong, masks) for each in (score, unsure))
    return {int(key): (auroc(ours[key]), auroc(plain[key])) for key in masks}


def within_structures(
    cases: Sequence[AurocPairs], patients: Sequence[str], labels: Sequence[Label]
) -> dict[str, dict[str, Any]]:
    """Sum up over cases, by label value, for the calibration block of a bundle.

    Args:
        cases: measured with what was fitted on other patients.
        labels: of the model, background first.
    """
    found: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(labels[1:], 1):
        pairs = np.asarray([case[index] for case in cases])
        known = np.isfinite(pairs).all(1)
        if not known.any():
            continue
        own = [patient for patient, counts in zip(patients, known, strict=True) if counts]
        gap = paired_bootstrap(pairs[known, 0].tolist(), pairs[known, 1].tolist(), groups=own)
        ours, plain = pairs[known].mean(0).tolist()
        found[str(label.value)] = {
            "cases": int(known.sum()),
            "error_probability": ours,
            "softmax": plain,
            "difference": asdict(gap),
        }
    return found


def worse_sentences(found: Mapping[str, Mapping[str, Any]], labels: Sequence[Label]) -> list[str]:
    """Name the structures within which the error probability ranks worse than the softmax, beyond chance."""
    entries = [(label.name, found[str(label.value)]) for label in labels[1:] if str(label.value) in found]
    return [
        f"Within {name} the error probability ranks errors worse than the plain softmax: AUROC "
        f"{entry['error_probability']:.3f} against {entry['softmax']:.3f} (cross-validated, {entry['cases']} "
        "cases). Compare voxels of one structure by the softmax there, not by the error probability."
        for name, entry in entries
        if entry["difference"]["high"] < 0
    ]


LIKENESS = "fold_errors"
"""Of the blocks that are fitted on cases of cross-validation models, too."""
LEAST_OWN_PATIENTS = 8
"""Of the network itself, below which nothing is said beyond chance: with 5 two alike networks differ in 10 % of draws,
with 2 in 40 %."""


def errors_alike(own: PredictedCases, folds: PredictedCases) -> dict[str, Any]:
    """Compare the errors of the network itself with those of cross-validation models, on cases that neither has seen.

    Only if they are alike can the models' cases stand for the network's own.

    Returns:
        `cases` of the folds; `metrics`, each with `title`, the means `own` and `folds`, their
        `difference` with its 95 % bootstrap interval over patients of both, and `is_alike`, whether that holds 0; and a
        `sentence`.
    """
    compared = [_compared(title, own, folds) for title in folds.errors[0]]
    metrics = [each for each in compared if np.isfinite(each["difference"]["mean"])]
    listed = ", ".join(f"{each['title']} {each['folds']:.3g} (own {each['own']:.3g})" for each in metrics)
    other = [each["title"] for each in metrics if not each["is_alike"]]
    verdict = f"they differ, beyond chance, in {' and '.join(other)}" if other else "alike, as far as can be told"
    patients = len(set(own.patients))
    if patients < LEAST_OWN_PATIENTS:
        verdict = f"{patients} patients of the network's own are too few to tell whether they differ"
    count = len(folds.errors)
    sentence = f"Errors of cross-validation models on {count} cases against the network's own: {listed}; {verdict}."
    return {"cases": count, "metrics": metrics, "sentence": sentence}


def _compared(title: str, own: PredictedCases, folds: PredictedCases) -> dict[str, Any]:
    values = np.asarray([errors[title] for errors in [*own.errors, *folds.errors]])
    is_fold = np.arange(len(values)) >= len(own.errors)
    groups = [("own", patient) for patient in own.patients] + [("fold", patient) for patient in folds.patients]

    def mean_of(which: np.ndarray) -> float:
        there = values[which][np.isfinite(values[which])]
        return float(there.mean()) if there.size else float("nan")

    def gap(which: np.ndarray) -> float:
        return mean_of(which[is_fold[which]]) - mean_of(which[~is_fold[which]])

    found = metric_interval(gap, groups)
    return {
        "title": title,
        "own": mean_of(np.flatnonzero(~is_fold)),
        "folds": mean_of(np.flatnonzero(is_fold)),
        "difference": asdict(found),
        "is_alike": bool(found.low <= 0 <= found.high),
    }
