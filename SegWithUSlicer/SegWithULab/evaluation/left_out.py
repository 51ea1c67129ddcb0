"""A calibration judged without cases kept apart: each group of cases is measured with what the other groups give."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SegWithUCore.calibration.site_line import ErrorCounts, count_errors
from SegWithUCore.inference.prediction import Prediction, error_probability
from SegWithUCore.inference.uncertainty_maps import FittedCalibration
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.stage_two_file import BLOCK, read_stage_two
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.progress import Progress, silent
from SegWithUCore.util.strict_json import read_json_object, to_json

from ..training.case_reading import read_assessed
from ..training.dataset import Case
from ..training.recalibrate import whole_calibration
from ..training.reference_cases import ReferenceCase
from .evaluate import Evaluation, PooledHistograms, Settings, add_case
from .pictures import WorstCases

CALIBRATION_FILE = "calibration.json"
Stored = Callable[[str], tuple[Prediction, np.ndarray]]
"""From the name of a case to its prediction and the true classes."""


@dataclass(frozen=True)
class LeftOut:
    """Cases measured with calibrations that were fitted without them.

    Attributes:
        evaluation: as of a model on test cases.
        counts: voxels and errors by error probability, of each case.
        with_stage_two: whether the calibration without a group took stage two of the error probability, by group.
    """

    evaluation: Evaluation
    counts: dict[str, ErrorCounts]
    with_stage_two: dict[str, bool]


def judge_left_out(
    cases: Mapping[str, Case],
    groups: Mapping[str, str],
    stored: Stored,
    bundle: Bundle,
    folder: Path,
    progress: Progress = silent,
) -> LeftOut:
    """Measure each group with the calibration that the other groups give.

    Args:
        cases: by name; `group` of a case is what intervals resample.
        groups: of each case that is measured.
        bundle: what it all belongs to; its own calibration is not used.
        folder: keeps the calibrations, so that a second call goes on.
    """
    found = LeftOut(Evaluation(Settings(), [], PooledHistograms(), WorstCases()), {}, {})
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(set(groups.values()))
    for number, group in enumerate(names):
        progress("judging", number / len(names), f"without {group}")
        calibrated = _without(group, groups, stored, cases, bundle, folder)
        found.with_stage_two[group] = BLOCK in (calibrated.calibration or {})
        for name in (case for case, its in groups.items() if its == group):
            _measure(found, cases[name], stored(name), calibrated)
    progress("judging", 1.0)
    return found


def _without(
    group: str, groups: Mapping[str, str], stored: Stored, cases: Mapping[str, Case], bundle: Bundle, folder: Path
) -> Bundle:
    """Calibrate on all cases of other groups, or read what an earlier call fitted."""
    place = folder / f"without_{hashlib.sha256(group.encode()).hexdigest()[:16]}"
    if not place.is_dir():
        others = [ReferenceCase(*stored(case), cases[case].group) for case, its in groups.items() if its != group]
        with atomic_folder(place) as work:
            text = to_json(whole_calibration(others, bundle, work)) + "\n"
            (work / CALIBRATION_FILE).write_text(text, encoding="utf-8")
    calibration = read_json_object(place / CALIBRATION_FILE, f"remove {place}, and run the same command again")
    return replace(bundle, calibration=calibration, folder=place)


def _measure(found: LeftOut, case: Case, known: tuple[Prediction, np.ndarray], bundle: Bundle) -> None:
    prediction, truth = known
    fitted = FittedCalibration.from_json(bundle.calibration, read_stage_two(bundle))
    assert prediction.view is not None
    chance = error_probability(fitted, prediction.view, prediction.logits, prediction.head_maps)
    assert chance is not None
    prediction = replace(prediction, error_probability=chance)
    add_case(found.evaluation, case, prediction, truth, read_assessed(case, bundle).images, bundle)
    found.counts[case.name] = count_errors(chance, prediction.classes != truth)
