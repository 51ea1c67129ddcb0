#!/usr/bin/env python3
"""Give a calibrated model its totals: their intervals, those of asymmetries, and how often all of them held.

    python Testing/Benchmarks/totals.py MODEL DATA/split_by_scan.csv:calibration+select --output FOLDER --sides
    python Testing/Benchmarks/totals.py MODEL none --output FOLDER --held-on HEADS.csv:figures

Nothing else of the calibration changes. `--sides`: each case is one side, and the two cases of a patient are the sides
of one scan, as hippocampi of the Decathlon are (cases 2k - 1 and 2k; the column patient names the scan); what both
sides have together is fitted on those pairs. `--held-on`: real cases on which no part of the model was fitted.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.calibration.per_structure import ProbabilitySums, Volumes, asymmetry, joined_classes
from SegWithUCore.inference.placed_case import all_sides, all_totals
from SegWithUCore.inference.structures import ASYMMETRIES, TOTALS, CaseLevelCalibration
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.bundle import WHOLE, Bundle, fitted_now, read_bundle
from SegWithUCore.models.input_spec import Code, Total, side_pairs
from SegWithUCore.models.model_card import write_description
from SegWithULab.calibration.blocks import named_volumes, total_blocks
from SegWithULab.calibration.cases import CaseNumbers, PredictedCases, predicted
from SegWithULab.training.dataset import find_cases

ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
FLUID = (4, 43, 14, 15, 24)
"""Ventricles and what lies outside the brain."""
DECLARED: dict[str, tuple[tuple[str, tuple[int, ...] | None, Code], ...]] = {
    "hippocampus": (("whole hippocampus", (1, 2), Code("SCT", "5366008", "Hippocampus")),),
    "brain": (
        ("hippocampus, both sides", (17, 53), Code("SCT", "5366008", "Hippocampus")),
        ("lateral ventricles", (4, 43), Code("SCT", "66720007", "Lateral ventricle")),
        ("cerebral cortex, both sides", (3, 42), Code("SCT", "40146001", "Cerebral cortex")),
        ("brain", None, Code("SCT", "12738006", "Brain")),
        ("ventricles", (4, 43, 14, 15), Code("SCT", "35764002", "Brain ventricle")),
        ("cerebral white matter, both sides", (2, 41), Code("SCT", "68523003", "Cerebral White Matter")),
    ),
}
"""Totals of the shipped models: name, label values (None: all but fluid) and code; the first are printed first."""


def declared(bundle: Bundle) -> tuple[Total, ...]:
    """Return the totals of a shipped model, by its name."""
    tissue = tuple(label.value for label in bundle.labels if label.value and label.value not in FLUID)
    return tuple(
        Total(name, of or tissue, ANATOMY, code, is_denominator=of is None) for name, of, code in DECLARED[bundle.name]
    )


def sides_of(bundle: Bundle) -> list[str]:
    """Return the sides of the boxes that a model places."""
    boxes = () if bundle.placement is None else bundle.placement.boxes
    return [box.side for box in boxes if box.side != WHOLE]


def joined_sides(own: PredictedCases) -> PredictedCases:
    """Join the two cases of each patient that has two, in mm3; the order of the sides changes no width."""
    found = PredictedCases()
    for patient, cases in by_patient(own.patients).items():
        if len(cases) == 2:
            pair = [_in_mm3(own.numbers[case]) for case in cases]
            parts = {name: joined_classes([getattr(each, name) for each in pair])
                     for name in ("predicted", "true", "dice")}  # fmt: skip
            found.numbers.append(
                CaseNumbers(ProbabilitySums.joined([each.sums for each in pair]), **parts, voxel_mm3=1.0)
            )
            found.patients.append(patient)
    return found


def _in_mm3(case: CaseNumbers) -> CaseNumbers:
    by = case.voxel_mm3
    sums = ProbabilitySums(case.sums.expected * by, case.sums.inside * by, case.sums.ambiguous * by)
    return CaseNumbers(sums, case.predicted * by, case.true * by, case.dice, 1.0)


def with_totals(bundle: Bundle, own: PredictedCases, totals: Sequence[Total], are_sides: bool = False) -> Bundle:
    """Return a calibrated bundle with these totals, their intervals and those of asymmetries; all else stays.

    Args:
        own: cases as the network itself predicts them, tempered as the calibration says.
        are_sides: as `--sides`.
    """
    assert bundle.calibration is not None
    sides = sides_of(bundle)
    bundle = replace(bundle, totals=tuple(totals))
    blocks = total_blocks(own, bundle)
    if are_sides:
        heads, wholes = all_sides(bundle.labels, sides), all_totals(totals, bundle.labels, sides)
        of_both = total_blocks(joined_sides(own), replace(bundle, labels=heads, totals=wholes, placement=None))
        blocks[TOTALS] = {**of_both[TOTALS], **blocks[TOTALS]}  # a side's own is fitted on all cases
        blocks[ASYMMETRIES] = of_both[ASYMMETRIES]
    return replace(bundle, calibration=fitted_now({**bundle.calibration, **blocks}))


def with_held(bundle: Bundle, own: PredictedCases, are_sides: bool = False) -> Bundle:
    """Return the bundle with `held` and `held_of` of every interval, counted on real cases with known volumes.

    What none of the references has is not counted. Cases count one by one, also those of one patient.

    Args:
        own, are_sides: as in `with_totals`.
    """
    assert bundle.calibration is not None
    fitted, block, sides = (
        CaseLevelCalibration.from_json(bundle.calibration),
        dict(bundle.calibration),
        sides_of(bundle),
    )
    volumes = named_volumes(own.numbers, bundle.labels, bundle.totals)
    both = volumes
    if are_sides:
        wholes = all_totals(bundle.totals, bundle.labels, sides)
        both = named_volumes(joined_sides(own).numbers, all_sides(bundle.labels, sides), wholes)
    # A side's total is counted as often as the one box that stands for either.
    of_sides = {f"{side} {total.name}": volumes[total.name] for side in sides for total in bundle.totals}
    names = {label.value: label.name for label in bundle.labels}

    def counted(key: str, holds: Callable[[str], np.ndarray | None], name_of: Callable[[str], str] = str) -> None:
        block[key] = {each: dict(entry) for each, entry in block.get(key, {}).items()}
        for each, entry in block[key].items():
            held = holds(name_of(each))
            if held is not None and held.size:
                entry |= {"held": int(held.sum()), "held_of": int(held.size)}

    def in_interval(found: Mapping[str, Volumes], interval: Any, name: str) -> np.ndarray | None:
        if name not in found or np.isnan(found[name].true).any() or not found[name].true.any():
            return None
        parts = found[name]
        ends = [
            interval(*map(float, sizes)) for sizes in zip(parts.expected, parts.ambiguous, parts.segmented, strict=True)
        ]
        return np.asarray([low <= true <= high for (_, low, high), true in zip(ends, parts.true, strict=True)])

    def in_asymmetry(name: str) -> np.ndarray | None:
        left, right = (both[side] for side in side_pairs(both)[name])
        off = np.abs(asymmetry(left.segmented, right.segmented) - asymmetry(left.true, right.true))
        known = off[np.isfinite(off)]
        return known <= fitted.asymmetries[name].half_width if left.true.any() else None

    intervals = {names[value]: interval for value, interval in fitted.intervals.items()}
    counted(
        "volume_interval", lambda name: in_interval(volumes, intervals[name], name), lambda value: names[int(value)]
    )
    counted(TOTALS, lambda name: in_interval({**both, **volumes, **of_sides}, fitted.totals[name], name))
    counted(ASYMMETRIES, in_asymmetry)
    return replace(bundle, calibration=block)


def numbers_of(bundle: Bundle, cases: str) -> PredictedCases:
    """Predict the cases of a table's role."""
    assert bundle.calibration is not None
    own = PredictedCases()
    for case in predicted(bundle, find_cases(cases), least=0.0):
        own.add(case, float(bundle.calibration["tempering_scale"]))
    return own


def main() -> int:
    """Write the model with its totals to the output folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a calibrated model")
    parser.add_argument("cases", help="calibration cases, TABLE.csv:ROLE; none: the totals stay")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--held-on", metavar="TABLE.csv:ROLE", help="count how often the intervals hold on these")
    parser.add_argument("--sides", action="store_true", help="the two cases of a patient are the sides of one scan")
    options = parser.parse_args()
    shutil.copytree(options.model, options.output)
    bundle = read_bundle(options.output)
    if options.cases != "none":
        bundle = with_totals(bundle, numbers_of(bundle, options.cases), declared(bundle), options.sides)
    if options.held_on:
        bundle = with_held(bundle, numbers_of(bundle, options.held_on), options.sides)
    write_description(bundle, options.output)
    assert bundle.calibration is not None
    for key in ("volume_interval", TOTALS, ASYMMETRIES):
        for name, entry in bundle.calibration.get(key, {}).items():
            held = f", held {entry['held']} of {entry['held_of']}" if "held" in entry else ""
            print(f"{key} {name}: half width {entry['half_width']:.3g} ({entry['cases']} cases{held})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
