"""Refit a model's calibration on new cases: each part only where that predicts better, with the reason.

Of each case only counts and sums are kept, so that any number of cases fits into memory.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from SegWithUCore.calibration import error_counts
from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.flag_limits import LEAST_CASES, fit_flag_limit
from SegWithUCore.calibration.per_structure import PredictedDice, VolumeInterval, held_too_rarely
from SegWithUCore.calibration.structure_lines import BLOCK as STRUCTURE_LINES
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.quality import QUALITY
from SegWithUCore.review.flags import FlagRules

from .blocks import Calibration, dice_fit, fit_per_structure, flag_case, structure_quality, triage_metrics
from .cases import CalibrationCase, CaseNumbers, case_numbers
from .fit_second_stage import AddedStage, own_chance
from .fit_structure_lines import DrawnCounts, FittedLines, expected_errors, fit_structure_lines, structure_classes

LEAST_INTERVAL_PATIENTS = 9
"""Fewer allow no interval of their own that holds nine in ten; the model's own is moved and widened."""
NEVER_NARROWER = 5
"""With fewer patients an interval does not become narrower than the model's."""


@dataclass(frozen=True)
class CaseSummary:
    """What a case shows about a calibration: its patient, its errors by error probability, and its numbers.

    Attributes:
        drawn: errors of the voxels that are scored, by name of the drawn structure without side.
        known: indices of the classes that have a label in the references.
    """

    patient: str
    drawn: DrawnCounts
    numbers: CaseNumbers
    known: tuple[int, ...]


def summary_of(case: CalibrationCase, table: ErrorProbability, scale: float, labels: Sequence[Label]) -> CaseSummary:
    """Sum up a case under the error probability and the tempering scale that the model has."""
    numbers = case_numbers(case.prediction, case.truth, scale, case.alone)
    known = tuple(np.flatnonzero(case.known).tolist())
    return CaseSummary(case.patient, drawn_counts(case, own_chance(case, table), labels), numbers, known)


def drawn_counts(case: CalibrationCase, chance: np.ndarray, labels: Sequence[Label]) -> DrawnCounts:
    """Count the errors of a case by drawn structure under an error probability (z, y, x)."""
    drawn = np.where(case.clean, case.prediction.classes, len(labels))
    found = {}
    for name, indices in structure_classes(labels).items():
        here = np.isin(drawn, indices)
        if here.any():
            found[name] = error_counts.count_errors(chance[here], case.wrong[here])
    return found


def lines_of(cases: Sequence[CaseSummary], labels: Sequence[Label]) -> FittedLines | None:
    """Fit lines by structure on summed up cases; None for too few patients."""
    if not cases:
        return None
    known = cases[0].known  # the same for all: of the references together
    return fit_structure_lines([case.drawn for case in cases], [case.patient for case in cases], labels, known)


def refit(
    calibration: Mapping[str, Any],
    labels: Sequence[Label],
    cases: Sequence[CaseSummary],
    lines: FittedLines | None = None,
    added: AddedStage | None = None,
) -> Calibration:
    """Take from the new cases what predicts better than the model's own calibration, and keep the rest.

    Args:
        calibration: the model's own.
        labels: of the model, background first.
        lines: by structure, of these cases.
        added: second stage of these cases; where it helps, their errors are counted by its error probability, and no
            lines are needed.
    """
    stage = added.fitted.stage if added is not None and added.helps else None
    better = lines is not None and lines.helps and stage is None
    own = CaseLevelCalibration.from_json(calibration)
    numbers, about_numbers = _per_structure(cases, own, labels)
    changed = better or stage is not None or numbers.intervals != own.intervals
    result: dict[str, Any] = {**calibration, **numbers.to_json()}
    quality = structure_quality([case.numbers for case in cases], labels)
    result[QUALITY] = {**calibration.get(QUALITY, {}), **quality}  # that of a structure without a label stays
    patients = len({case.patient for case in cases})
    if lines is not None and better:
        result[STRUCTURE_LINES] = [*calibration.get(STRUCTURE_LINES, ()), lines.lines.to_json()]
    if added is not None and stage is not None:
        result = {name: block for name, block in result.items() if name != STRUCTURE_LINES} | added.block
    about = [added.message] if added is not None else []
    messages = [*about, *([_about_lines(lines, patients, cases, labels)] if stage is None else []), *about_numbers]
    if changed:
        flags, about_flags = _flags(cases, calibration.get("flags"), labels, numbers, lines if better else None)
        result |= {} if flags is None else {"flags": flags}
        messages.append(about_flags)
    else:
        messages.append(f"Limits of flags: {KEPT}.")
    own_site = calibration.get("site") or {}
    result["site"] = {"cases": len(cases), "patients": patients, "messages": messages}
    if lines is not None and lines.factor is not None and better:
        result["site"]["factor"] = asdict(lines.factor)
    elif stage is None and "factor" in own_site:  # it still holds
        result["site"]["factor"] = own_site["factor"]
    taken = added.check if added is not None and stage is not None else own_site.get("added")
    if taken is not None:  # what the error probability rests on, also after further lines
        result["site"]["added"] = dict(taken)
    return Calibration(result if changed else calibration, tuple(messages), stage, is_changed=changed)


KEPT, REPLACED = "the model's own stay", "refitted"


def _too_few(count: int, what: str, least: int) -> str:
    return f"{count} {what} are too few, give {least}"


def _about_lines(
    lines: FittedLines | None, patients: int, cases: Sequence[CaseSummary], labels: Sequence[Label]
) -> str:
    """Return whether the error probability was moved structure by structure, and why."""
    if patients < error_counts.FACTOR_PATIENTS:
        return f"Error probability: {KEPT}; {_too_few(patients, 'patients', error_counts.FACTOR_PATIENTS)}."
    if lines is None:
        return f"Error probability: {KEPT}; the patients ({patients}) have no errors to fit."
    unknown = [name for name, its in structure_classes(labels).items() if not set(its) & set(cases[0].known)]
    left = f"; not calibrated here, for want of labels: {', '.join(unknown)}" if unknown else ""
    measured = f"{lines.better} of {patients} patients, each judged by the others, have a smaller log loss"
    factor = (
        f"; all together {lines.factor}, so many times as many voxels are wrong as expected" if lines.factor else ""
    )
    what = f"{REPLACED} for {len(lines.lines.lines)} structures" if lines.helps else KEPT
    return f"Error probability: {what}; {measured}{factor}{left}."


def _held(cases: Sequence[CaseSummary], index: int, interval: VolumeInterval) -> list[bool]:
    """Return which true volumes an interval holds."""
    found = []
    for case in cases:
        expected, ambiguous, true = case.numbers.volumes_mm3(index)
        _, low, high = interval(expected, ambiguous, case.numbers.segmented_mm3(index))
        found.append(low <= true <= high)
    return found


def _moved(interval: VolumeInterval, cases: Sequence[CaseSummary], index: int) -> VolumeInterval | None:
    """Move an interval by what a few patients show, and widen it by Student's t; None for too few patients.

    The logarithms of true over expected volumes are normal around that of the site. Their spread is the model's own,
    as `SPREAD_WEIGHT` patients' worth, and that of the patients.
    """
    of: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        expected, ambiguous, true = case.numbers.volumes_mm3(index)
        volume, low, high = interval(expected, ambiguous, case.numbers.segmented_mm3(index))
        if min(true, volume) > 0:
            of.setdefault(case.patient, []).append((np.log(true / volume), max(high / volume - 1, 1 - low / volume)))
    if len(of) < error_counts.FACTOR_PATIENTS:
        return None
    ratios, halves = np.array([np.mean(pairs, 0) for pairs in of.values()]).T
    half, count, weight = float(np.median(halves)), len(of), error_counts.SPREAD_WEIGHT
    freedom, normal = weight + count - 1, float(student.ppf((1 + interval.level) / 2, np.inf))
    variance = (weight * (half / normal) ** 2 + ((ratios - ratios.mean()) ** 2).sum()) / freedom
    kept = error_counts.SITE_SPREAD**2 / (error_counts.SITE_SPREAD**2 + variance / count)
    wanted = float(student.ppf((1 + interval.level) / 2, freedom) * np.sqrt(variance * (1 + kept / count)))
    wanted = max(wanted, half) if count < NEVER_NARROWER else wanted
    move = float(np.exp(kept * ratios.mean()))
    return replace(interval, factor=interval.factor * move, half_width=interval.half_width * move * wanted / half)


def _per_structure(
    cases: Sequence[CaseSummary], own: CaseLevelCalibration, labels: Sequence[Label]
) -> tuple[CaseLevelCalibration, list[str]]:
    """Intervals and predicted Dice: those of the new cases where these are enough; of a few, moved intervals."""
    names = [case.patient for case in cases]
    groups, off, moved = by_patient(names), "", dict[int, VolumeInterval]()
    for index, label in enumerate(labels[1:], 1):
        interval = own.intervals.get(label.value)
        if interval is None or any(np.isnan(case.numbers.true[index]) for case in cases):
            continue
        inside = _held(cases, index, interval)
        # The cases of a patient are alike, so it counts once, by the share of its volumes.
        held = sum(sum(inside[n] for n in its) / len(its) for its in groups.values())
        if held_too_rarely(held, len(groups), interval.level):
            off += f"; the model's own held {sum(inside)} of {len(cases)} volumes of {label.name}"
        moved |= {label.value: found} if (found := _moved(interval, cases, index)) is not None else {}
    if len(groups) < LEAST_INTERVAL_PATIENTS:
        few = _too_few(len(groups), "patients", LEAST_INTERVAL_PATIENTS)
        what = f"moved and widened for {_called(moved, labels)}" if moved else KEPT
        told = [f"Volume intervals: {what}; {few}{off}.", f"Predicted Dice: {KEPT}; {few}."]
        return CaseLevelCalibration({**own.intervals, **moved}, own.dice), told
    fitted = fit_per_structure([case.numbers for case in cases], labels, names)
    dice = _better_dice(cases, own, fitted, labels)
    told = [
        f"{what}: {REPLACED} on {len(cases)} cases for {_called(new, labels)}{reason}."
        for what, new, reason in (("Volume intervals", fitted.intervals, off), ("Predicted Dice", dice, ""))
    ]
    return CaseLevelCalibration({**own.intervals, **fitted.intervals}, {**own.dice, **dice}), told


def _called(values: Container[int], labels: Sequence[Label]) -> str:
    return ", ".join(label.name for label in labels[1:] if label.value in values) or "none"


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
    lines: FittedLines | None,
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
    wrong = [expected_errors(case.drawn, lines.lines if lines else None) for case in cases]
    fitted = {**limit, "metrics": triage_metrics([case.numbers for case in cases], wrong, numbers, labels)}
    found = " ".join(rule["message"] for rule in fitted["rules"].values())
    if own is not None and FlagRules.fitted(own).active and not FlagRules.fitted(fitted).active:
        return {**own, "metrics": fitted["metrics"]}, f"Limits of flags: {KEPT}; on these {len(cases)} cases: {found}"
    return fitted, f"Limits of flags: {REPLACED} on {len(cases)} cases. {found}"
