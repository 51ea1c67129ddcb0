"""Metrics of each structure: volume, uncertain part, case-level numbers, histograms; and warnings about unusual ones.

They are for the table, `case.json` and the live readout of the threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ..calibration.per_structure import (
    AsymmetryInterval,
    PredictedDice,
    ProbabilitySums,
    VolumeInterval,
    asymmetry,
    soft_dice,
)
from ..models.bundle import Bundle
from ..models.input_spec import Label, Total, side_pairs
from ..models.quality import EMPTY_KIND, emptiness
from ..regions.region import UNCERTAIN
from ..review.flags import distinct_texts
from ..util.plane_files import Planes, plane_pieces
from ..util.strict_json import typed
from .deviation import NOTE, WARNING, Deviation
from .uncertainty_maps import VoxelMaps

HISTOGRAM_BINS = 256


TOTALS, ASYMMETRIES = "totals", "asymmetries"
"""Of a calibration block: intervals by name. Of `case.json`: what they say of a case."""
_BLOCKS = ("volume_interval", "predicted_dice", TOTALS, ASYMMETRIES)


@dataclass(frozen=True)
class CaseLevelCalibration:
    """Fitted maps from sums of probabilities to case-level numbers, by label value; a structure may have none.

    Attributes:
        totals, asymmetries: by name of the total, and of what both sides have.
    """

    intervals: Mapping[int, VolumeInterval] = field(default_factory=dict)
    dice: Mapping[int, PredictedDice] = field(default_factory=dict)
    totals: Mapping[str, VolumeInterval] = field(default_factory=dict)
    asymmetries: Mapping[str, AsymmetryInterval] = field(default_factory=dict)

    @classmethod
    def from_json(cls, calibration: Mapping[str, Any] | None) -> "CaseLevelCalibration":
        """From the calibration block of a bundle; empty for bundles without such numbers."""
        found = ((calibration or {}).get(block) or {} for block in _BLOCKS)
        return typed(cls, dict(zip((each.name for each in fields(cls)), found, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Entries for the calibration block of a bundle."""
        parts: Sequence[Mapping[Any, Any]] = (self.intervals, self.dice, self.totals, self.asymmetries)
        pairs = zip(_BLOCKS, parts, strict=True)
        return {block: {str(key): each.to_json() for key, each in found.items()} for block, found in pairs}


@dataclass(frozen=True)
class StructureMetrics:
    """Metrics of the voxels predicted as one structure (or as background, where structures may be missed).

    Attributes:
        label: the structure.
        voxels, volume_mm3: what the segmentation says.
        expected_volume_mm3: sum over all voxels of the structure's tempered probability, refitted on calibration cases,
            times voxel volume and, where fitted, times the factor that goes with the interval; None without fitted
            calibration, or where the input is too far from the training cases.
        expected_wrong_mm3: sum of error probability times voxel volume; None without fitted calibration.
        uncertain_share, uncertain_mm3: voxels above `UNCERTAIN`; None without fitted calibration.
        expected_interval_mm3: holds the true volume of nine in ten cases like the training cases; None if no
            interval is fitted, and where the expected volume is None.
        predicted_dice: None if it is not fitted, not informative, or the input is too far from the training cases.
        dice_estimate: the same also where it is not informative: for sorting and limits that a user sets, never shown
            as a figure.
        predicted_dice_informative: whether the prediction beats the mean of the calibration cases; None if
            nothing is fitted.
        soft_dice: the Dice that the tempered probabilities expect; None if nothing is there, and where the expected
            volume is None.
        calibration_cases: number of cases behind the interval, None without one.
        dice_cases: number of cases behind the predicted Dice, likewise.
        held, held_of: in so many of so many real cases the interval held the true volume; None if nobody has measured.
    """

    label: Label
    voxels: int
    volume_mm3: float
    expected_volume_mm3: float | None = None
    expected_wrong_mm3: float | None = None
    uncertain_share: float | None = None
    uncertain_mm3: float | None = None
    expected_interval_mm3: tuple[float, float] | None = None
    predicted_dice: float | None = None
    predicted_dice_informative: bool | None = None
    dice_estimate: float | None = None
    calibration_cases: int | None = None
    soft_dice: float | None = None
    dice_cases: int | None = None
    held: int | None = None
    held_of: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For `case.json`: the label's fields and the metrics side by side."""
        metrics = {key: value for key, value in asdict(self).items() if key != "label"}
        if self.expected_interval_mm3 is not None:
            metrics["expected_interval_mm3"] = list(self.expected_interval_mm3)
        return {**self.label.to_json(), **metrics}


NOT_FITTED = CaseLevelCalibration()


def whole_metrics(
    structures: Sequence[StructureMetrics],
    sums: ProbabilitySums,
    totals: Sequence[Total],
    voxel_mm3: float,
    calibration: CaseLevelCalibration = NOT_FITTED,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return totals, and the asymmetries of all that both sides have, as `case.json` holds them.

    A total is measured on sums over its members, by what was fitted on such sums; its keys are those of a structure.
    An asymmetry is left minus right volume in percent of their mean; both sides empty have none. Intervals are there
    where one is fitted and all members were assessed.

    Args:
        structures: metrics, background first.
        sums: of the same classes.
        voxel_mm3: volume of one voxel.
    """
    index, found = {metrics.label.value: number for number, metrics in enumerate(structures)}, list[dict[str, Any]]()
    for total in totals:
        members = [index[value] for value in total.of]
        entry = {**asdict(total), "volume_mm3": sum(structures[number].volume_mm3 for number in members)}
        if all(structures[number].expected_volume_mm3 is not None for number in members):
            expected, ambiguous = (float(each[members].sum()) * voxel_mm3 for each in (sums.expected, sums.ambiguous))
            entry |= _volume_metrics(calibration.totals.get(total.name), expected, ambiguous, entry["volume_mm3"])
        found.append(entry)
    by_name, asymmetries = {each["name"]: each for each in (*map(StructureMetrics.to_json, structures), *found)}, []
    for name, pair in side_pairs(by_name).items():
        sides, fitted = [by_name[side] for side in pair], calibration.asymmetries.get(name)
        percent = float(asymmetry(*(side["volume_mm3"] for side in sides)))
        known = {} if fitted is None or any(side.get("expected_volume_mm3") is None for side in sides) else {
            "interval_percent": [percent - fitted.half_width, percent + fitted.half_width], **_behind(fitted)
        }  # fmt: skip
        asymmetries += [{"name": name, "percent": percent, **known}] if np.isfinite(percent) else []
    return found, asymmetries


def structure_metrics(
    maps: VoxelMaps,
    labels: Sequence[Label],
    voxel_mm3: float,
    calibration: CaseLevelCalibration = NOT_FITTED,
    assessed: bool = True,
) -> list[StructureMetrics]:
    """Metrics of every class in the order of `labels`, background first.

    Args:
        voxel_mm3: volume of one voxel.
        calibration: fitted on calibration cases.
        assessed: False if the input is too far from the training cases for numbers of a structure as a whole.
    """
    voxels, uncertain, wrong = class_sums(maps, len(labels))
    found = []
    for index, label in enumerate(labels):
        count, above = int(voxels[index]), int(uncertain[index])
        further: dict[str, Any] = {}
        if maps.error_probability is not None:
            further = {
                "expected_wrong_mm3": float(wrong[index]) * voxel_mm3,
                "uncertain_share": above / count if count else 0.0,
                "uncertain_mm3": above * voxel_mm3,
            }
            if assessed:
                further |= _case_level_metrics(maps, index, label, count, voxel_mm3, calibration)
        found.append(StructureMetrics(label, count, count * voxel_mm3, **further))
    return found


def class_sums(maps: VoxelMaps, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, by predicted class, voxels and those above `UNCERTAIN`, and sum their error probabilities."""
    voxels, uncertain, wrong = np.zeros(classes, np.int64), np.zeros(classes, np.int64), np.zeros(classes)
    for planes in plane_pieces(maps.classes.shape):
        here = maps.classes[planes].ravel()
        voxels += np.bincount(here, minlength=classes)
        if maps.error_probability is not None:
            errors = maps.error_probability[planes].ravel()
            uncertain += np.bincount(here[errors > UNCERTAIN], minlength=classes)
            wrong += np.bincount(here, errors, classes)
    return voxels, uncertain, wrong


def lowest_and_highest(values: Planes) -> tuple[float, float]:
    """Extremes of a map; NaN if there is one, and infinite values show."""
    ends = [(part.min(), part.max()) for part in (values[planes] for planes in plane_pieces(values.shape))]
    low, high = np.min([end[0] for end in ends]), np.max([end[1] for end in ends])
    return float(low), float(high)


def histograms(
    maps: Sequence[Planes], classes: Sequence[Planes], labels: Sequence[Label], ends: tuple[float, float]
) -> dict[str, Any]:
    """Count the values of one map in each structure.

    Args:
        maps: its values, by assessed part.
        classes: predicted class indices, by assessed part.
        ends: its lowest and highest value.

    Returns:
        `low` and `high` edges and, for each label value, `HISTOGRAM_BINS` counts of equal width.
    """
    low, high = ends
    high = high if high > low else low + 1.0
    joint = np.zeros(len(labels) * HISTOGRAM_BINS, np.int64)
    for values, predicted in zip(maps, classes, strict=True):
        for planes in plane_pieces(values.shape):
            bins = ((values[planes] - low) * (HISTOGRAM_BINS / (high - low))).astype(np.int32)
            np.minimum(bins, HISTOGRAM_BINS - 1, out=bins)
            bins += predicted[planes].astype(np.int32) * HISTOGRAM_BINS
            joint += np.bincount(bins.ravel(), minlength=len(joint))
    rows = joint.reshape(len(labels), HISTOGRAM_BINS)
    return {
        "low": low,
        "high": high,
        "counts": {str(label.value): row.tolist() for label, row in zip(labels, rows, strict=True)},
    }


def empty_structures(structures: Sequence[StructureMetrics], bundle: Bundle) -> list[Deviation]:
    """Warn of each structure of which nothing was drawn although it should be there; note those that may be absent.

    Where nothing at all was drawn, a model that does not say how often that is right gets a warning, too.

    Args:
        structures: metrics, background first.
    """
    empty = [metrics.label for metrics in structures[1:] if not metrics.voxels]
    nothing, found = len(empty) == len(structures) - 1, []
    for label in empty:
        what = emptiness(bundle, label)
        is_wrong = what.expected or (nothing and what.expected is None)
        found.append(Deviation(WARNING if is_wrong else NOTE, what.message, EMPTY_KIND, label.value))
    return found


def structure_deviations(
    structures: Sequence[StructureMetrics], bundle: Bundle, calibration: CaseLevelCalibration
) -> list[Deviation]:
    """One sentence for each structure of a volume that no training case has, or that it is unusually uncertain of.

    Args:
        structures: metrics, background first.
    """
    volumes: Mapping[str, Any] = (bundle.ood_reference or {}).get("volumes_mm3") or {}
    found = []
    for metrics in structures[1:]:
        name, value, volume = metrics.label.name, metrics.label.value, metrics.volume_mm3
        span, fitted = volumes.get(str(value)), calibration.dice.get(value)
        if span is not None and metrics.voxels and not span["low"] <= volume <= span["high"]:
            trained = (bundle.ood_reference or {}).get("cases") in (None, span["cases"])
            cases = f"{span['cases']} {'training' if trained else 'training and validation'} cases of '{bundle.name}'"
            usual = f"{span['low']:.0f} to {span['high']:.0f} mm3"
            size = "small" if volume < span["low"] else "large"
            text = f"The {name} is unusually {size}: {volume:.0f} mm3, in the {cases} {usual}; check the segmentation."
            found.append(Deviation(WARNING, text, "volume", value))
        dice = metrics.dice_estimate
        if fitted is not None and dice is not None and dice < fitted.lowest:
            shown, lowest = distinct_texts(dice, fitted.lowest, 2)
            lower = f"below all {fitted.cases} calibration cases (lowest: {lowest})"
            text = f"The segmentation of the {name} is probably poor: its predicted Dice of {shown} is {lower}."
            if not fitted.informative:  # which says no figure, but that this case is unusual
                than = f"than in all {fitted.cases} calibration cases"
                text = f"The model is less certain of the {name} {than}: check the segmentation."
            found.append(Deviation(WARNING, text, "predicted Dice", value))
    return found


def _case_level_metrics(
    maps: VoxelMaps, index: int, label: Label, voxels: int, voxel_mm3: float, calibration: CaseLevelCalibration
) -> dict[str, Any]:
    """Numbers of the structure as a whole: expected volume with interval, predicted Dice."""
    expected, inside = float(maps.sums.expected[index]), float(maps.sums.inside[index])
    confidence = soft_dice(expected, inside, voxels)
    found: dict[str, Any] = {"soft_dice": confidence} if np.isfinite(confidence) else {}
    ambiguous, dice = float(maps.sums.ambiguous[index]), calibration.dice.get(label.value)
    sizes = (volume * voxel_mm3 for volume in (expected, ambiguous, voxels))
    found |= _volume_metrics(calibration.intervals.get(label.value), *sizes)
    if dice is not None:
        found["predicted_dice_informative"] = dice.informative
        found["dice_cases"] = dice.cases + dice.cross_validated_cases
        if np.isfinite(confidence):
            found["dice_estimate"] = dice(confidence)
            found |= {"predicted_dice": found["dice_estimate"]} if dice.informative else {}
    return found


def _volume_metrics(
    interval: VolumeInterval | None, expected_mm3: float, ambiguous_mm3: float, segmented_mm3: float
) -> dict[str, Any]:
    """Return the expected volume, with its interval and what is behind that where one is fitted."""
    if interval is None:
        return {"expected_volume_mm3": expected_mm3}
    volume, low, high = interval(expected_mm3, ambiguous_mm3, segmented_mm3)
    return {"expected_volume_mm3": volume, "expected_interval_mm3": (low, high), **_behind(interval)}


def _behind(fitted: VolumeInterval | AsymmetryInterval) -> dict[str, Any]:
    """Return on how many cases an interval was fitted, and in how many real cases it held."""
    return {"calibration_cases": fitted.cases, "held": fitted.held, "held_of": fitted.held_of}
