"""Lines by structure: what a few patients teach, what stays the model's, and what is refused."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.special import expit, logit

from SegWithUCore.calibration.error_counts import ErrorCounts, count_errors
from SegWithUCore.calibration.structure_lines import StructureLine, StructureLines
from SegWithUCore.models.input_spec import Label
from SegWithUCore.util.strict_json import typed
from SegWithULab.calibration.fit_structure_lines import (
    expected_errors,
    fit_structure_lines,
    log_loss,
    structure_classes,
)

NAMES = ("background", "left organ", "right organ", "vessel")
LABELS = tuple(Label(value, name, (9, 9, 9)) for value, name in enumerate(NAMES))
VOXELS = 20_000
SITE = {"organ": (0.7, -0.8), "vessel": (1.0, 0.9)}
"""True slope and offset of what the model says."""


def patients(
    count: int, site: Mapping[str, tuple[float, float]], seed: int = 0, spread: float = 0.1, voxels: int = VOXELS
) -> list[dict[str, ErrorCounts]]:
    draw, found = np.random.default_rng(seed), []
    for _ in range(count):
        own = {}
        for name, (slope, offset) in site.items():
            odds = draw.normal(-3, 2, voxels)
            own[name] = count_errors(
                expit(odds), draw.random(voxels) < expit(slope * odds + offset + spread * draw.normal())
            )
        found.append(own)
    return found


def off(own: Mapping[str, ErrorCounts], lines: StructureLines | None) -> list[float]:
    """How far expected and wrong voxels of each structure lie apart, as logarithms."""
    return [
        abs(float(np.log(expected_errors({name: counts}, lines) / counts.errors.sum()))) for name, counts in own.items()
    ]


def test_three_patients_teach_each_structure_its_own_line() -> None:
    fitted = fit_structure_lines(patients(3, SITE), ["a", "b", "c"], LABELS, (1, 2, 3))
    assert fitted is not None and fitted.helps and fitted.better == 3
    lines = {line.name: line for line in fitted.lines.lines}
    assert lines["organ"].classes == (1, 2) and lines["vessel"].classes == (3,)
    assert lines["organ"].slope < 0.95 and lines["organ"].offset < 0 < lines["vessel"].offset
    for other in patients(10, SITE, seed=1):
        assert max(off(other, fitted.lines)) < 0.35 < max(off(other, None))
        assert log_loss(other, fitted.lines) < log_loss(other)


def test_structures_without_errors_follow_the_others() -> None:
    """Ten voxels say nothing: what all structures show is the better guess."""
    site = {"organ": (1.0, 1.0), "vessel": (1.0, 1.0)}
    cases = patients(4, site)
    for own in cases:
        own["vessel"] = count_errors(np.full(10, 0.01), np.zeros(10, bool))
    fitted = fit_structure_lines(cases, range(4), LABELS, (1, 2, 3))
    assert fitted is not None
    offsets = {line.name: line.offset for line in fitted.lines.lines}
    assert 0.2 < offsets["vessel"] < offsets["organ"]


def test_a_large_structure_of_one_patient_does_not_outvote_the_others() -> None:
    small, large = patients(2, {"organ": (1.0, 1.0)}, spread=0), patients(1, {"organ": (1.0, -1.0)}, voxels=400_000)
    fitted = fit_structure_lines([*small, *large], ["a", "b", "c"], LABELS, (1, 2))
    assert fitted is not None and fitted.lines.lines[0].offset > 0.05


def test_patients_like_those_of_the_model_change_little() -> None:
    own = {"organ": (1.0, 0.0), "vessel": (1.0, 0.0)}
    for seed in range(5):
        fitted = fit_structure_lines(patients(3, own, seed), ["a", "b", "c"], LABELS, (1, 2, 3))
        assert fitted is not None
        for other in patients(3, own, seed + 100):
            assert max(off(other, fitted.lines)) < 0.35


def test_too_few_patients_and_no_errors_give_nothing() -> None:
    assert fit_structure_lines(patients(3, SITE), ["a", "b", "b"], LABELS, (1, 2, 3)) is None
    right = {"organ": count_errors(np.full(100, 0.1), np.zeros(100, bool))}
    assert fit_structure_lines([right] * 3, ["a", "b", "c"], LABELS, (1, 2)) is None


def test_lines_that_predict_nobody_better_are_refused() -> None:
    """Each patient errs in the way of the two others turned round."""
    cases = [patients(1, {"organ": (1.0, offset)}, seed=n, spread=0)[0] for n, offset in enumerate((-3.0, 0.0, 3.0))]
    fitted = fit_structure_lines(cases, ["a", "b", "c"], LABELS, (1, 2))
    assert fitted is not None and not fitted.helps


def test_only_pairs_that_the_references_know_are_moved() -> None:
    lines = StructureLines((1, 2), (), (StructureLine("organ", (1, 2), 0.5, 1.0),), 3)
    chance = np.full((1, 2, 3), 0.2, np.float32)
    drawn = np.array([[[1, 2, 1], [0, 3, 1]]], np.uint8)
    other = np.array([[[2, 1, 0], [1, 1, 3]]], np.uint8)
    moved = float(expit(0.5 * logit(0.2) + 1.0))
    assert lines(chance, drawn, other).ravel() == pytest.approx([moved, moved, 0.2, 0.2, 0.2, 0.2])
    assert typed(StructureLines, asdict(lines)) == lines
    alike = replace(lines, together=(0, 1, 1, 3))  # one label for both: nobody knows which of them it is
    assert (alike(chance, drawn, other) == chance).all()


def test_sides_are_one_structure() -> None:
    assert structure_classes(LABELS) == {"background": (0,), "organ": (1, 2), "vessel": (3,)}
