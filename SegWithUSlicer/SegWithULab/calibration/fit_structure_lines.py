"""Fit lines by structure on the patients of a site: slope and offset of the log-odds of an error.

A model is biased structure by structure, in another protocol most of all: of one it expects half of the errors, of
another twice as many. Three patients show it, since all images of a site are alike in this. The logarithm of wrong over
expected voxels of a structure is drawn towards that of all structures together, and this towards 0; the slope is drawn
towards 1. Patients count alike, and left and right are one structure.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from SegWithUCore.calibration.error_counts import (
    CENTRES,
    FACTOR_PATIENTS,
    PATIENT_SPREAD,
    SITE_SPREAD,
    SPREAD_WEIGHT,
    ErrorCounts,
    SiteFactor,
    fit_site_factor,
    sum_counts,
)
from SegWithUCore.calibration.error_probability import fit_line
from SegWithUCore.calibration.structure_lines import StructureLine, StructureLines
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.input_spec import Label, without_side

LARGEST_OFFSET = 5.0
SLOPE_PATIENTS = 3
"""So many patients' worth of slope 1."""

DrawnCounts = Mapping[str, ErrorCounts]
"""Of one case or patient, by the name of the drawn structure without side; only voxels that are scored."""


def structure_classes(labels: Sequence[Label]) -> dict[str, tuple[int, ...]]:
    """Return the class indices of each structure by its name without side; the background is one, too."""
    names = [without_side(label.name) for label in labels]
    return {name: tuple(n for n, other in enumerate(names) if other == name) for name in dict.fromkeys(names)}


@dataclass(frozen=True)
class FittedLines:
    """Lines, and whether they predict patients that they were not fitted on.

    Attributes:
        lines: of all patients.
        left_out: by patient: fitted on the others.
        better: so many patients, each left out in turn, have a smaller log loss.
        factor: so many times as many voxels are wrong as the model expects, all structures together.
    """

    lines: StructureLines
    left_out: Mapping[Hashable, StructureLines]
    better: int
    factor: SiteFactor | None

    @property
    def helps(self) -> bool:
        """Whether at least one left-out patient is predicted better; lines are drawn towards doing nothing anyway."""
        return self.better > 0


def fit_structure_lines(
    cases: Sequence[DrawnCounts],
    patients: Sequence[Hashable],
    labels: Sequence[Label],
    known: Sequence[int],
    together: Sequence[int] = (),
) -> FittedLines | None:
    """Fit lines on the cases of patients; None for fewer than `FACTOR_PATIENTS`, or for no errors.

    Args:
        cases: voxels and errors that are scored.
        labels: of the model, background first.
        known, together: as of `StructureLines`.
    """
    of = {patient: _summed([cases[n] for n in its]) for patient, its in by_patient(patients).items()}
    if len(of) < FACTOR_PATIENTS or not sum(each.errors.sum() for own in of.values() for each in own.values()):
        return None
    classes, left_out, better = structure_classes(labels), {}, 0
    for patient, own in of.items():
        lines = _lines([other for name, other in of.items() if name != patient], classes, known, together)
        left_out[patient] = lines
        better += log_loss(own, lines) < log_loss(own)
    factor = fit_site_factor([sum_counts(list(own.values())) for own in of.values()])
    return FittedLines(_lines(list(of.values()), classes, known, together), left_out, better, factor)


def log_loss(own: DrawnCounts, lines: StructureLines | None = None) -> float:
    """Sum of the log loss of an error over voxels, after lines."""
    return sum(counts.log_loss(*line) * counts.voxels.sum() for counts, line in _with_lines(own, lines))


def expected_errors(own: DrawnCounts, lines: StructureLines | None = None) -> float:
    """Sum of the error probability over voxels, after lines."""
    return sum(counts.expected(*line) for counts, line in _with_lines(own, lines))


def _with_lines(own: DrawnCounts, lines: StructureLines | None) -> Iterator[tuple[ErrorCounts, tuple[float, float]]]:
    found = {} if lines is None else {line.name: (line.slope, line.offset) for line in lines.lines}
    yield from ((counts, found.get(name, (1.0, 0.0))) for name, counts in own.items())


def _summed(cases: Sequence[DrawnCounts]) -> DrawnCounts:
    names = dict.fromkeys(name for case in cases for name in case)
    return {name: sum_counts([case[name] for case in cases if name in case]) for name in names}


def _lines(
    patients: Sequence[DrawnCounts],
    classes: Mapping[str, tuple[int, ...]],
    known: Sequence[int],
    together: Sequence[int],
) -> StructureLines:
    of_all = _log_factor([sum_counts(list(own.values())) for own in patients], 0.0)
    found = []
    for name, indices in classes.items():
        counts = [own[name] for own in patients if name in own and own[name].voxels.any()]
        if not counts:
            continue
        log_factor = _log_factor(counts, of_all)
        alike = sum_counts([ErrorCounts(c.voxels / c.voxels.sum(), c.errors / c.voxels.sum()) for c in counts])
        slope = fit_line(CENTRES, alike.voxels, alike.errors)[0] if alike.errors.any() else 1.0
        slope = 1 + (slope - 1) * len(counts) / (len(counts) + SLOPE_PATIENTS)
        offset = _offset(alike, slope, float(np.exp(log_factor)))
        found.append(StructureLine(name, indices, slope, offset))
    return StructureLines(tuple(known), tuple(together), tuple(found), len(patients))


def _log_factor(counts: Sequence[ErrorCounts], middle: float) -> float:
    """Logarithm of wrong over expected voxels, drawn towards `middle`; that of each patient is normal around it."""
    ratios = np.log([(each.errors.sum() + 0.5) / (each.expected() + 0.5) for each in counts])
    freedom = SPREAD_WEIGHT + len(ratios) - 1
    between = (SPREAD_WEIGHT * PATIENT_SPREAD**2 + ((ratios - ratios.mean()) ** 2).sum()) / freedom
    by_chance = np.mean([1 / (each.errors.sum() + 0.5) for each in counts])
    kept = SITE_SPREAD**2 / (SITE_SPREAD**2 + (between + by_chance) / len(ratios))
    return float(middle + kept * (ratios.mean() - middle))


def _offset(counts: ErrorCounts, slope: float, factor: float) -> float:
    """Return what the log-odds need for `factor` times as many voxels to be expected wrong."""
    wanted, ends = factor * counts.expected(), (-LARGEST_OFFSET, LARGEST_OFFSET)
    low, high = (counts.expected(slope, end) for end in ends)
    return float(brentq(lambda offset: counts.expected(slope, offset) - np.clip(wanted, low, high), *ends))
