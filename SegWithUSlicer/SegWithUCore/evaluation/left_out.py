"""A calibration judged without cases kept apart: each group of cases is measured with what the other groups give."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import atomic_file
from ..calibration.error_probability import ErrorProbability
from ..calibration.site_line import ErrorCounts, count_errors
from ..inference.prediction import Prediction
from ..models.bundle import Bundle
from ..progress import Progress, silent
from ..strict_json import read_json_object, to_json
from ..training.calibrate import fitted
from ..training.dataset import Case
from .assessed_case import read_assessed
from .evaluate import Evaluation, PooledHistograms, Settings, add_case
from .pictures import WorstCases

Stored = Callable[[str], tuple[Prediction, np.ndarray]]
"""From the name of a case to its prediction and the true classes."""


@dataclass(frozen=True)
class LeftOut:
    """Cases measured with calibrations that were fitted without them.

    Attributes:
        evaluation: as of a model on test cases.
        counts: voxels and errors by error probability, of each case.
    """

    evaluation: Evaluation
    counts: dict[str, ErrorCounts]


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
    found = LeftOut(Evaluation(Settings(), [], PooledHistograms(), WorstCases()), {})
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(set(groups.values()))
    for number, group in enumerate(names):
        progress("judging", number / len(names), f"without {group}")
        calibration = _without(group, groups, stored, bundle, folder)
        for name in (case for case, its in groups.items() if its == group):
            _measure(found, cases[name], stored(name), replace(bundle, calibration=calibration))
    progress("judging", 1.0)
    return found


def _without(group: str, groups: Mapping[str, str], stored: Stored, bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Fit on all cases of other groups, or read what an earlier call fitted."""
    file = folder / f"without_{hashlib.sha256(group.encode()).hexdigest()[:16]}.json"
    if not file.is_file():
        others = [stored(case) for case, its in groups.items() if its != group]
        calibration = fitted([p for p, _ in others], [truth for _, truth in others], bundle.labels)
        with atomic_file(file) as work:
            work.write_text(to_json(calibration) + "\n", encoding="utf-8")
    return read_json_object(file, "remove it, and run the same command again")


def _measure(found: LeftOut, case: Case, known: tuple[Prediction, np.ndarray], bundle: Bundle) -> None:
    prediction, truth = known
    assert bundle.calibration is not None
    add_case(found.evaluation, case, prediction, truth, read_assessed(case, bundle).images[0], bundle)
    table = ErrorProbability.from_json(bundle.calibration["error_probability"])
    chance = table(prediction.ranking, prediction.classes, prediction.runner_up)
    found.counts[case.name] = count_errors(chance, prediction.classes != truth)
