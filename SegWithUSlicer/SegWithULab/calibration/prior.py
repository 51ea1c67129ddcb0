"""Refit a model's calibration on new cases: each part only where that predicts better, with the reason.

Of each case only counts and sums are kept, so that any number of cases fits into memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from SegWithUCore.calibration import error_counts
from SegWithUCore.calibration.error_probability import ErrorProbability
from SegWithUCore.calibration.flag_limits import LEAST_CASES, fit_flag_limit
from SegWithUCore.calibration.per_structure import (
    AsymmetryInterval,
    PredictedDice,
    VolumeInterval,
    Volumes,
    asymmetry,
    fit_asymmetry,
    fit_volume_interval,
    held_too_rarely,
)
from SegWithUCore.calibration.structure_lines import BLOCK as STRUCTURE_LINES
from SegWithUCore.inference.structures import CaseLevelCalibration
from SegWithUCore.metrics.bootstrap import paired_bootstrap
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.input_spec import Label, Total, side_pairs, without_side
from SegWithUCore.models.quality import QUALITY
from SegWithUCore.review.flags import FlagRules

from . import blocks
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
        known, together: as of `StructureLines`.
    """

    patient: str
    drawn: DrawnCounts
    numbers: CaseNumbers
    known: tuple[int, ...]
    together: tuple[int, ...] = ()


def summary_of(case: CalibrationCase, table: ErrorProbability, scale: float, labels: Sequence[Label]) -> CaseSummary:
    """Sum up a case under the error probability and the tempering scale that the model has."""
    numbers = case_numbers(case.prediction, case.truth, scale, case.alone)
    known = tuple(np.flatnonzero(case.known).tolist())
    together = () if case.judged_as is None else tuple(case.judged_as.tolist())
    return CaseSummary(case.patient, drawn_counts(case, own_chance(case, table), labels), numbers, known, together)


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
    patients = [case.patient for case in cases]
    return fit_structure_lines([case.drawn for case in cases], patients, labels, cases[0].known, _together(cases))


def _together(cases: Sequence[CaseSummary]) -> tuple[int, ...]:
    """Return `StructureLines.together` of all cases: a class that a review of one of them finished stands alone.

    What is known is the same for all else: of the references together.
    """
    found = [case.together for case in cases]
    return tuple(np.max(found, 0).tolist()) if all(found) else ()


def refit(
    calibration: Mapping[str, Any],
    labels: Sequence[Label],
    cases: Sequence[CaseSummary],
    lines: FittedLines | None = None,
    added: AddedStage | None = None,
    totals: Sequence[Total] = (),
) -> blocks.Calibration:
    """Take from the new cases what predicts better than the model's own calibration, and keep the rest.

    Args:
        calibration: the model's own.
        labels: of the model, background first.
        lines: by structure, of these cases.
        added: second stage of these cases; where it helps, their errors are counted by its error probability, and no
            lines are needed.
        totals: of the model.
    """
    stage = added.fitted.stage if added is not None and added.helps else None
    better = lines is not None and lines.helps and stage is None
    own = CaseLevelCalibration.from_json(calibration)
    numbers, about_numbers = _case_level(cases, own, labels, totals)
    changed = better or stage is not None or numbers != own
    result: dict[str, Any] = {**calibration, **numbers.to_json()}
    quality = blocks.structure_quality([case.numbers for case in cases], labels)
    result[QUALITY] = {**calibration.get(QUALITY, {}), **quality}  # that of a structure without a label stays
    patients = len({case.patient for case in cases})
    if lines is not None and better:
        result[STRUCTURE_LINES] = [*calibration.get(STRUCTURE_LINES, ()), asdict(lines.lines)]
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
    return blocks.Calibration(result if changed else calibration, tuple(messages), stage, is_changed=changed)


KEPT, REPLACED = "the model's own stay", "refitted"


def _too_few(count: int, what: str, least: int) -> str:
    return f"{count} {what} are too few, give {least}"


def _about_lines(
    lines: FittedLines | None, patients: int, cases: Sequence[CaseSummary], labels: Sequence[Label]
) -> str:
    """Return whether the error probability was moved structure by structure, and why."""
    if patients < error_counts.FACTOR_PATIENTS:
        return f"Error probability: {KEPT}; {_too_few(patients, 'patients', error_counts.FACTOR_PATIENTS)}."
    if not any(case.drawn for case in cases):
        return f"Error probability: {KEPT}; the labels tell no drawn structure from its neighbours: label these, too."
    if lines is None:
        return f"Error probability: {KEPT}; the patients ({patients}) have no errors to fit."
    together = _together(cases)
    known = {index for index in cases[0].known if not together or together[index]}
    unknown = [name for name, its in structure_classes(labels).items() if not known.intersection(its)]
    why = "but next to finished structures" if 0 in cases[0].known else "for want of labels"
    left = f"; not calibrated here, {why}: {', '.join(unknown)}" if unknown else ""
    measured = f"{lines.better} of {patients} patients, each judged by the others, have a smaller log loss"
    factor = (
        f"; all together {lines.factor}, so many times as many voxels are wrong as expected" if lines.factor else ""
    )
    what = f"{REPLACED} for {len(lines.lines.lines)} structures" if lines.helps else KEPT
    return f"Error probability: {what}; {measured}{factor}{left}."


def _bounds(interval: VolumeInterval, volumes: Volumes) -> np.ndarray:
    """Return expected volume, lower and upper end of each case, (3, cases), in mm3."""
    sizes = zip(volumes.expected.tolist(), volumes.ambiguous.tolist(), volumes.segmented.tolist(), strict=True)
    return np.asarray([interval(*each) for each in sizes]).T


def _moved(interval: VolumeInterval, volumes: Volumes, patients: Sequence[str]) -> VolumeInterval | None:
    """Move an interval by what a few patients show, and widen it by Student's t; None for too few patients.

    The logarithms of true over expected volumes are normal around that of the site.
    """
    expected, _, high = _bounds(interval, volumes)
    # Where nothing was drawn, or there is nothing, volumes have no ratio.
    expected = np.where((expected > 0) & (volumes.segmented > 0), expected, np.nan)
    ratios = _of_patients(np.log(np.where(volumes.true > 0, volumes.true, np.nan) / expected), patients)
    if len(ratios) < error_counts.FACTOR_PATIENTS or not interval.half_width:
        return None
    half = float(np.nanmedian(high / expected - 1))
    core = replace(interval, unseen=0.0)  # what others draw is seen now
    own = float(np.nanmedian(_bounds(core, volumes)[2] / expected - 1))
    variance, quantile = _spread(half, interval, ratios - ratios.mean())
    kept = error_counts.SITE_SPREAD**2 / (error_counts.SITE_SPREAD**2 + variance / len(ratios))
    wanted = quantile * float(np.sqrt(variance * (1 + kept / len(ratios))))
    wanted = max(wanted, half) if len(ratios) < NEVER_NARROWER else wanted
    move = float(np.exp(kept * ratios.mean()))
    width = interval.half_width * move * wanted / own
    moved = replace(core, factor=interval.factor * move, half_width=width)
    return replace(moved, cases=len(ratios), held=None, held_of=None)


def _widened(interval: AsymmetryInterval, off: np.ndarray, patients: Sequence[str]) -> AsymmetryInterval | None:
    """Fit the width of an asymmetry's interval to a few patients by Student's t; None for too few.

    Args:
        off: true minus drawn asymmetry of each case, in percentage points; NaN where there is none.
    """
    gaps = _of_patients(off, patients)
    if len(gaps) < error_counts.FACTOR_PATIENTS:
        return None
    variance, quantile = _spread(interval.half_width, interval, gaps)
    wanted = quantile * float(np.sqrt(variance))
    wanted = max(wanted, interval.half_width) if len(gaps) < NEVER_NARROWER else wanted
    return replace(interval, half_width=wanted, cases=len(gaps), held=None, held_of=None)


def _of_patients(values: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Mean of each patient, whose cases are alike; those without a value are left out."""
    means = [values[its][np.isfinite(values[its])] for its in by_patient(patients).values()]
    return np.array([each.mean() for each in means if each.size])


def _spread(half: float, interval: VolumeInterval | AsymmetryInterval, off: np.ndarray) -> tuple[float, float]:
    """Variance between patients, and Student's quantile for its degrees of freedom.

    The spread that the model's own half width tells counts as `SPREAD_WEIGHT` patients.
    """
    freedom, side = error_counts.SPREAD_WEIGHT + off.size - 1, (1 + interval.level) / 2
    few = interval.cases < LEAST_INTERVAL_PATIENTS
    own = half / float(student.ppf(side, error_counts.SPREAD_WEIGHT + interval.cases - 1 if few else np.inf))
    variance = (error_counts.SPREAD_WEIGHT * own**2 + float((off**2).sum())) / freedom
    return variance, float(student.ppf(side, freedom))


def _case_level(
    cases: Sequence[CaseSummary], own: CaseLevelCalibration, labels: Sequence[Label], totals: Sequence[Total]
) -> tuple[CaseLevelCalibration, list[str]]:
    """Intervals and predicted Dice: those of the new cases where these are enough; of a few, moved intervals."""
    patients, numbers = [case.patient for case in cases], [case.numbers for case in cases]
    every = blocks.named_volumes(numbers, labels, totals)
    volumes = {name: each for name, each in every.items() if np.isfinite(each.true).any()}
    volumes |= {name: volumes[total.name] for total in totals for name in own.totals
                if name not in volumes and total.name in volumes and without_side(name) == total.name}  # fmt: skip
    few = len(set(patients)) < LEAST_INTERVAL_PATIENTS

    def refitted(name: str, interval: VolumeInterval) -> VolumeInterval:
        known, its = volumes[name].known(patients)  # each review knows structures of its own
        are_few = len(set(its)) < LEAST_INTERVAL_PATIENTS
        return (_moved(interval, known, its) if are_few else fit_volume_interval(known, its)) or interval

    def widened(name: str, interval: AsymmetryInterval) -> AsymmetryInterval:
        one, other = (volumes[side] for side in side_pairs(volumes)[name])
        drawn, true = asymmetry(one.segmented, other.segmented), asymmetry(one.true, other.true)
        found = _widened(interval, true - drawn, patients) if few else fit_asymmetry(drawn, true, patients)
        return found or interval

    fitted = blocks.fit_per_structure(numbers, labels, patients)
    known = {label.value: label.name for label in labels[1:] if label.name in volumes}
    intervals = {value: refitted(known[value], each) for value, each in own.intervals.items() if value in known}
    found = CaseLevelCalibration(
        {**own.intervals, **({} if few else fitted.intervals), **intervals},
        {**own.dice, **({} if few else _better_dice(cases, own, fitted, labels))},
        {**own.totals, **{name: refitted(name, each) for name, each in own.totals.items() if name in volumes}},
        {name: widened(name, each) if name in side_pairs(volumes) else each for name, each in own.asymmetries.items()},
    )
    why = "".join(
        _held_too_rarely(own.intervals[value], *volumes[name].known(patients), name)
        for value, name in known.items()
        if value in own.intervals
    )
    count, told = len(set(patients)), []
    parts: tuple[tuple[str, Mapping[Any, Any], Mapping[Any, Any], str], ...] = (
        ("Volume intervals", own.intervals, found.intervals, why),
        ("Totals", own.totals, found.totals, ""),
        ("Asymmetries", own.asymmetries, found.asymmetries, ""),
        ("Predicted Dice", own.dice, found.dice, ""),
    )
    for what, before, after, reason in parts:
        new = [str(known.get(key, key)) for key, each in after.items() if each != before.get(key)]
        done = f"{'moved' if few else REPLACED} for {', '.join(new)}" if new else KEPT
        least = LEAST_INTERVAL_PATIENTS if new or what == "Predicted Dice" else error_counts.FACTOR_PATIENTS
        later = f"; from {least} patients on fitted anew" if new else f"; {_too_few(count, 'patients', least)}"
        told += [f"{what}: {done}{later if count < least else ''}{reason}."] if before or after else []
    return found, told


def _held_too_rarely(interval: VolumeInterval, volumes: Volumes, patients: Sequence[str], name: str) -> str:
    """Say that an interval held fewer true volumes than it would by chance; "" if it did not."""
    _, low, high = _bounds(interval, volumes)
    inside = (low <= volumes.true) & (volumes.true <= high)
    groups = by_patient(patients)
    # The cases of a patient are alike, so it counts once, by the share of its volumes.
    held = float(sum(inside[its].mean() for its in groups.values()))
    if not held_too_rarely(held, len(groups), interval.level):
        return ""
    return f"; the model's own held {inside.sum()} of {inside.size} volumes of {name}"


def _better_dice(
    cases: Sequence[CaseSummary], own: CaseLevelCalibration, fitted: CaseLevelCalibration, labels: Sequence[Label]
) -> dict[int, PredictedDice]:
    """Lines of predicted Dice: all of them where they are off by less, each patient left out in turn, than the own.

    Structures are judged together; one that had no line gets its new one in any case.
    """
    patients = [case.patient for case in cases]
    left = blocks.dice_fit([case.numbers for case in cases], labels, patients)
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
    if len(cases[0].known) < len(labels) or any(case.together for case in cases):
        return own, f"Limits of flags: {KEPT}; they need a label of its own for each structure."
    numbers_of = [case.numbers for case in cases]
    limit = fit_flag_limit(
        [blocks.flag_case(each, labels, case.patient) for each, case in zip(numbers_of, cases, strict=True)]
    )
    wrong = [expected_errors(case.drawn, lines.lines if lines else None) for case in cases]
    fitted = {**limit, "metrics": blocks.triage_metrics([case.numbers for case in cases], wrong, numbers, labels)}
    found = " ".join(rule["message"] for rule in fitted["rules"].values())
    if own is not None and FlagRules.fitted(own).active and not FlagRules.fitted(fitted).active:
        return {**own, "metrics": fitted["metrics"]}, f"Limits of flags: {KEPT}; on these {len(cases)} cases: {found}"
    return fitted, f"Limits of flags: {REPLACED} on {len(cases)} cases. {found}"
