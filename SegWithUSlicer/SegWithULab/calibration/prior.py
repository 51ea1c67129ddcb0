"""Refit a model's calibration on new cases: each part only where that predicts better, with the reason.

Of each case only counts and sums are kept, so that any number of cases fits into memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from SegWithUCore.calibration import error_counts
from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.flag_limits import LEAST_CASES, fit_flag_limit
from SegWithUCore.calibration.per_structure import PredictedDice, held_too_rarely
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import Interval, paired_bootstrap
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.quality import QUALITY
from SegWithUCore.review.flags import FlagRules

from .blocks import Calibration, dice_fit, fit_per_structure, flag_case, structure_quality, triage_metrics
from .cases import CalibrationCase, CaseNumbers, case_numbers
from .fit_second_stage import AddedStage, own_chance

LEAST_INTERVAL_PATIENTS = 9
"""Fewer allow no interval that holds nine in ten."""


@dataclass(frozen=True)
class CaseSummary:
    """What a case shows about a calibration: its patient, its errors by error probability, and its numbers."""

    patient: str
    errors: error_counts.ErrorCounts
    numbers: CaseNumbers


def summary_of(case: CalibrationCase, table: ErrorProbability, scale: float) -> CaseSummary:
    """Sum up a case under the error probability and the tempering scale that the model has."""
    numbers = case_numbers(case.prediction, case.truth, scale, case.alone)
    errors = error_counts.count_errors(own_chance(case, table)[case.clean], case.wrong[case.clean])
    return CaseSummary(case.patient, errors, numbers)


def refit(
    calibration: Mapping[str, Any],
    labels: Sequence[Label],
    cases: Sequence[CaseSummary],
    added: AddedStage | None = None,
) -> Calibration:
    """Take from the new cases what predicts better than the model's own calibration, and keep the rest.

    Args:
        calibration: the model's own.
        labels: of the model, background first.
        added: second stage of these cases; where it helps, their errors are counted by its error probability.
    """
    patients = error_counts.patient_counts([case.errors for case in cases], [case.patient for case in cases])
    stage = added.fitted.stage if added is not None and added.helps else None
    line = error_counts.fit_site_line(patients)
    better = line is not None and line.is_better and stage is None
    own = CaseLevelCalibration.from_json(calibration)
    off = _structures_off(cases, own, labels)
    changed = better or stage is not None or bool(off)
    numbers, about_numbers = _per_structure(cases, own, labels, off) if changed else (own, [])
    quality = structure_quality([case.numbers for case in cases], labels)
    result: dict[str, Any] = {**calibration, **numbers.to_json()}
    result[QUALITY] = {**calibration.get(QUALITY, {}), **quality}  # that of a structure without a label stays
    slope, offset = (line.slope, line.offset) if line is not None and better else (1.0, 0.0)
    if better and "second_stage" in calibration:  # which begins with the table: only its last output is moved
        first, second = calibration["second_stage"].get("line", (1.0, 0.0))
        result["second_stage"] = {**calibration["second_stage"], "line": [slope * first, slope * second + offset]}
    elif better:
        table = ErrorProbability.from_json(calibration["error_probability"])
        result["error_probability"] = error_counts.moved(table, slope, offset).to_json()
    if added is not None and stage is not None:
        result |= added.block
    about = [added.message] if added is not None else []
    messages = [*about, *([_about_line(line, len(patients))] if stage is None else []), *about_numbers]
    if changed:
        flags, about_flags = _flags(cases, calibration.get("flags"), labels, numbers, (slope, offset))
        result |= {} if flags is None else {"flags": flags}
        messages.append(about_flags)
    else:
        messages.append(f"Volume intervals, predicted Dice, limits of flags: {KEPT}.")
    is_changed = better or stage is not None or numbers.to_json() != own.to_json()
    result["site"] = {"cases": len(cases), "patients": len(patients), "messages": messages}
    if line is not None and line.factor is not None and better:
        result["site"]["factor"] = asdict(line.factor)
    elif stage is None and "factor" in (own_site := calibration.get("site") or {}):  # it still holds
        result["site"]["factor"] = own_site["factor"]
    taken = added.check if added is not None and stage is not None else (calibration.get("site") or {}).get("added")
    if taken is not None:  # what the error probability rests on, also after a further factor
        result["site"]["added"] = dict(taken)
    return Calibration(result if is_changed else calibration, tuple(messages), stage, is_changed=is_changed)


KEPT, REPLACED = "the model's own stay", "refitted"


def _too_few(count: int, what: str, least: int) -> str:
    return f"{count} {what} are too few, give {least}"


def _change(change: Interval) -> str:
    return f"{change.mean:+.5f} ({change.low:+.5f} to {change.high:+.5f}) a voxel"


def _about_line(line: error_counts.SiteLine | None, patients: int) -> str:
    """Return whether the error probability was moved, and why."""
    if patients < error_counts.FACTOR_PATIENTS:
        return f"Error probability: {KEPT}; {_too_few(patients, 'patients', error_counts.FACTOR_PATIENTS)}."
    if line is None or line.factor is None:
        return f"Error probability: {KEPT}; the patients ({patients}) have no errors to fit."
    measured = f"{line.factor} on {patients} patients: so many times as many voxels are wrong as the model expects"
    if patients < error_counts.LEAST_PATIENTS:
        why = "" if line.is_better else f"; that may be chance: give {error_counts.LEAST_PATIENTS} patients"
        return f"Error probability: {REPLACED if line.is_better else KEPT}; {measured}{why}."
    measured += (
        f"; each judged by the others, slope {line.slope:.2f} and offset {line.offset:+.2f} change the log loss by "
        f"{_change(line.change)}"
    )
    return f"Error probability: {REPLACED if line.is_better else KEPT}; {measured}."


def _structures_off(cases: Sequence[CaseSummary], own: CaseLevelCalibration, labels: Sequence[Label]) -> list[str]:
    """Name the structures whose own interval held fewer true volumes than it would by chance, and how many it held."""
    found = []
    for index, label in enumerate(labels[1:], 1):
        interval = own.intervals.get(label.value)
        if interval is None or any(np.isnan(case.numbers.true[index]) for case in cases):
            continue
        inside = []
        for case in cases:
            expected, ambiguous, true = case.numbers.volumes_mm3(index)
            _, low, high = interval(expected, ambiguous, case.numbers.segmented_mm3(index))
            inside.append(low <= true <= high)
        groups = by_patient([case.patient for case in cases])
        # The cases of a patient are alike, so it counts once, by the share of its volumes.
        held = sum(sum(inside[n] for n in its) / len(its) for its in groups.values())
        if held_too_rarely(held, len(groups), interval.level):
            found.append(f"the model's own held {sum(inside)} of {len(cases)} volumes of {label.name}")
    return found


def _per_structure(
    cases: Sequence[CaseSummary], own: CaseLevelCalibration, labels: Sequence[Label], off: Sequence[str]
) -> tuple[CaseLevelCalibration, list[str]]:
    """Intervals and predicted Dice: those of the new cases where these are enough."""
    names = [case.patient for case in cases]
    patients, why = len(set(names)), "".join(f"; {text}" for text in off)
    if patients < LEAST_INTERVAL_PATIENTS:
        few = _too_few(patients, "patients", LEAST_INTERVAL_PATIENTS)
        return own, [f"Volume intervals: {KEPT}; {few}{why}."]
    fitted = fit_per_structure([case.numbers for case in cases], labels, names)
    dice = _better_dice(cases, own, fitted, labels)
    called = {label.value: label.name for label in labels[1:]}
    messages = [
        f"{what}: {REPLACED} on {len(cases)} cases for {', '.join(called[value] for value in new) or 'none'}{reason}."
        for what, new, reason in (("Volume intervals", fitted.intervals, why), ("Predicted Dice", dice, ""))
    ]
    return CaseLevelCalibration({**own.intervals, **fitted.intervals}, {**own.dice, **dice}), messages


def _better_dice(
    cases: Sequence[CaseSummary], own: CaseLevelCalibration, fitted: CaseLevelCalibration, labels: Sequence[Label]
) -> dict[int, PredictedDice]:
    """Lines of predicted Dice: all of them where they are off by less, each patient left out in turn, than the own.

    Structures are judged together; one that had no line gets its new one in any case.
    """
    patients = [case.patient for case in cases]
    left = dice_fit([case.numbers for case in cases], labels, patients)
    new, before = list[float](), list[float]()
    for index, label in enumerate(labels[1:], 1):
        line = own.dice.get(label.value)
        if line is None or label.value not in fitted.dice:
            continue
        new += left.errors[label.value].tolist()
        before += [abs(line(case.numbers.confidence(index)) - float(case.numbers.dice[index]))
                   for case in cases]  # fmt: skip
    judged = len(new) // len(cases)
    if not judged or paired_bootstrap(new, before, groups=patients * judged).high < 0:
        return dict(fitted.dice)
    return {value: line for value, line in fitted.dice.items() if value not in own.dice}


def _flags(
    cases: Sequence[CaseSummary],
    own: Mapping[str, Any] | None,
    labels: Sequence[Label],
    numbers: CaseLevelCalibration,
    line: tuple[float, float],
) -> tuple[Mapping[str, Any] | None, str]:
    """Fit the block "flags" under the new calibration, and return whether it is taken.

    Limits that flag nothing do not replace the model's own.
    """
    if len(cases) < LEAST_CASES:
        return own, f"Limits of flags: {KEPT}; {_too_few(len(cases), 'cases', LEAST_CASES)}."
    numbers_of = [case.numbers for case in cases]
    limit = fit_flag_limit(
        [flag_case(each, labels, case.patient) for each, case in zip(numbers_of, cases, strict=True)]
    )
    wrong = [case.errors.expected(*line) for case in cases]
    fitted = {**limit, "metrics": triage_metrics([case.numbers for case in cases], wrong, numbers, labels)}
    found = " ".join(rule["message"] for rule in fitted["rules"].values())
    if own is not None and FlagRules.fitted(own).active and not FlagRules.fitted(fitted).active:
        return {**own, "metrics": fitted["metrics"]}, f"Limits of flags: {KEPT}; on these {len(cases)} cases: {found}"
    return fitted, f"Limits of flags: {REPLACED} on {len(cases)} cases. {found}"
