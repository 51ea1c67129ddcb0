"""Blocks of a calibration that are fitted per structure or case: intervals, predicted Dice, flags, quality.

They are fitted on every case that the network has not been trained with: calibration and validation cases, which the
network itself predicts, and training cases that cross-validation models predict. Volume intervals are of the network's
own cases alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from SegWithUCore.calibration import per_structure
from SegWithUCore.calibration.change import DIASTOLE, EJECTION, SYSTOLE, fit_ejection
from SegWithUCore.calibration.flag_limits import FlagCase, fit_flag_limit
from SegWithUCore.calibration.per_structure import (
    VolumeInterval,
    Volumes,
    asymmetry,
    fit_asymmetry,
    fit_volume_interval,
)
from SegWithUCore.calibration.second_stage import SecondStage
from SegWithUCore.inference.structures import ASYMMETRIES, TOTALS, CaseLevelCalibration
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.bundle import WHOLE, Bundle
from SegWithUCore.models.input_spec import Label, Total, side_pairs
from SegWithUCore.models.quality import QUALITY, measured_quality
from SegWithUCore.review.flags import FIGURE_DIGITS, finite_share

from .cases import CaseNumbers, PredictedCases


@dataclass(frozen=True)
class Calibration:
    """A fitted calibration, and the report of it.

    Attributes:
        block: of a bundle; `bundles.written_block` adds what belongs to a second stage that was fitted here.
        messages: one per part: what was fitted, or kept, and why.
        second_stage: fitted here; None if not, or where the prior's stays.
        display: windows of the maps; None where the prior's stay.
        is_changed: whether anything is not the prior's.
        own: what it was fitted on; None where a prior was refitted.
    """

    block: Mapping[str, Any]
    messages: tuple[str, ...] = ()
    second_stage: SecondStage | None = None
    display: Mapping[str, list[float]] | None = None
    is_changed: bool = True
    own: PredictedCases | None = None


HEART_VENTRICLES = ("87878005", "53085002")
"""Left and right, in SNOMED CT."""
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
    flags = {**fit_flag_limit(flag_cases), "metrics": triage_metrics(own.numbers, own.wrong_voxels, numbers, labels)}
    return {**numbers.to_json(), QUALITY: structure_quality(own.numbers, labels), "flags": flags}


def structure_quality(cases: Sequence[CaseNumbers], labels: Sequence[Label]) -> dict[str, dict[str, Any]]:
    """Make the block `quality` of a calibration: what unseen cases say of each structure."""
    columns = zip(*(zip(case.dice, case.true, case.predicted, strict=True) for case in cases), strict=True)
    known = {index: [each for each in column if np.isfinite(each[1])] for index, column in enumerate(columns) if index}
    return {str(labels[index].value): measured_quality(column).to_json() for index, column in known.items() if column}


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
    names = [str(number) for number in range(len(cases))] if patients is None else patients
    for index, label in enumerate(labels[1:], 1):
        volumes, its = summed_volumes(cases, [index]).known(names)
        interval = fit_volume_interval(volumes, its) if its else None  # else no reference has a label for it alone
        intervals |= {label.value: interval} if interval is not None else {}
    return CaseLevelCalibration(intervals, dice_fit(cases, labels, patients, other).lines)


def summed_volumes(cases: Sequence[CaseNumbers], indices: Sequence[int]) -> Volumes:
    """Add up the volumes of some classes of each case."""
    found = [np.sum([(*case.volumes_mm3(index), case.segmented_mm3(index)) for index in indices], 0) for case in cases]
    expected, ambiguous, true, segmented = np.asarray(found).T
    return Volumes(expected, ambiguous, segmented, true)


def named_volumes(cases: Sequence[CaseNumbers], labels: Sequence[Label], totals: Sequence[Total]) -> dict[str, Volumes]:
    """Volumes of each structure and total, by name."""
    index = {label.value: number for number, label in enumerate(labels)}
    members = {label.name: (label.value,) for label in labels[1:]} | {total.name: total.of for total in totals}
    return {name: summed_volumes(cases, [index[value] for value in of]) for name, of in members.items()}


def total_blocks(own: PredictedCases, bundle: Bundle) -> dict[str, Any]:
    """Fit the blocks "totals" and "asymmetries" of a calibration, each on the quantity itself.

    Of a model that places a box a side, each total has the interval of its one box on either side. What both sides have
    together needs cases of both (`Testing/Benchmarks/totals.py`).

    Args:
        own: cases that the network itself predicts.
    """
    volumes = named_volumes(own.numbers, bundle.labels, bundle.totals)
    sides = [box.side for box in bundle.placement.boxes] if bundle.placement else []
    found: dict[str, Any] = {TOTALS: {}, ASYMMETRIES: {}}
    for total in bundle.totals:
        known = not np.isnan(volumes[total.name].true).any()  # else a member has no label of its own
        interval = fit_volume_interval(volumes[total.name], own.patients) if known else None
        if interval is not None:
            names = [total.name, *(f"{side} {total.name}" for side in sides if side != WHOLE)]
            found[TOTALS] |= dict.fromkeys(names, interval.to_json())
    for name, (left, right) in side_pairs(volumes).items():
        one, other = volumes[left], volumes[right]
        fitted = fit_asymmetry(asymmetry(one.segmented, other.segmented), asymmetry(one.true, other.true), own.patients)
        found[ASYMMETRIES] |= {} if fitted is None else {name: fitted.to_json()}
    return found


def ejection_block(own: PredictedCases, phases: Sequence[str], labels: Sequence[Label]) -> dict[str, Any]:
    """Fit the block "ejection" of a calibration; empty where too few patients have a ventricle in both phases.

    Args:
        own: cases that the network itself predicts.
        phases: of each case; "" where it is not known.
    """
    found: dict[str, Any] = {}
    for index, label in enumerate(labels):
        if label.type is None or label.type.value not in HEART_VENTRICLES:
            continue
        volumes, errors = summed_volumes(own.numbers, [index]), list[float]()
        for its in by_patient(own.patients).values():
            of_phase = {phases[case]: case for case in its}
            if len(its) == 2 and of_phase.keys() == {DIASTOLE, SYSTOLE}:
                diastole, systole = of_phase[DIASTOLE], of_phase[SYSTOLE]
                drawn, true = (each[systole] / each[diastole] if each[diastole] > 0 else np.nan
                               for each in (volumes.segmented, volumes.true))  # fmt: skip
                errors += [float(100 * (true - drawn))] if np.isfinite(true - drawn) else []
        fitted = fit_ejection(errors)
        found |= {} if fitted is None else {label.name: asdict(fitted)}
    return {EJECTION: found} if found else {}


def dice_fit(
    cases: Sequence[CaseNumbers],
    labels: Sequence[Label],
    patients: Sequence[str] | None = None,
    other: PredictedCases | None = None,
) -> per_structure.DiceFit:
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
    return per_structure.fit_predicted_dice(pairs, names, weights, networks)


def flag_case(
    case: CaseNumbers, labels: Sequence[Label], patient: str | None, weight: float = 1.0, network: str | None = None
) -> FlagCase:
    """Return what the limit of flags is fitted on; what is given as in `FlagCase`."""
    classes = range(1, len(labels))
    soft = [each for each in (case.confidence(index) for index in classes) if np.isfinite(each)]
    known = [float(case.dice[index]) for index in classes if np.isfinite(case.dice[index])]
    return FlagCase(min(soft, default=float("nan")), min(known, default=float("nan")), weight, patient, network)


def triage_metrics(
    cases: Sequence[CaseNumbers], wrong_voxels: Sequence[float], numbers: CaseLevelCalibration, labels: Sequence[Label]
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
