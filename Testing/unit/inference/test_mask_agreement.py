"""A mask is looked at structure by structure, whatever sums over all of them say; the most important comes first."""

from collections.abc import Mapping

import numpy as np
import pytest

from SegWithUCore.inference.deviation import (
    JUDGED_KIND,
    KINDS,
    NOTE,
    REFUSED,
    WARNING,
    Deviation,
    by_importance,
)
from SegWithUCore.inference.mask_agreement import structure_findings
from SegWithUCore.metrics.overlap import structure_dice
from SegWithUCore.models.input_spec import Label
from SegWithUCore.models.quality import EMPTY_KIND, MISPLACED_KIND
from SegWithUCore.review.flags import FlagRules, case_flags
from SegWithUCore.review.status import Level, status_of

NAMES = ("cortex", "left hippocampus", "right hippocampus", "left caudate", "left putamen", "third ventricle")
LABELS = [Label(10 + number, name, (9, 9, 9)) for number, name in enumerate(NAMES)]
SIZES = np.array([600_000, 4000, 4200, 4500, 6000, 900])
HONEST = np.array([0.8, 0.75, 0.82, 0.83, 0.85, 0.55])
"""Dice of a manual reference of another protocol, as of five brains."""


def joint(
    dice: np.ndarray = HONEST, names: Mapping[str, str | None] | None = None, model: np.ndarray = SIZES
) -> np.ndarray:
    """Count voxels of a mask that agrees so well with the model, its structures then renamed (None: background)."""
    found = np.zeros((len(NAMES) + 1, len(NAMES) + 1), np.int64)
    shared = (dice * SIZES).astype(int)
    for index in range(len(NAMES)):
        name = (names or {}).get(NAMES[index], NAMES[index])
        found[index + 1, 1 + NAMES.index(name) if name else 0] += min(shared[index], model[index])
        found[index + 1, 0] += max(0, model[index] - shared[index])
        found[0, 1 + NAMES.index(name) if name else 0] += SIZES[index] - shared[index]
    found[0, 0] = 4_000_000
    return found


def findings(counts: np.ndarray, **options: object) -> list[Deviation]:
    return structure_findings("mask.nii.gz", LABELS, counts, counts.sum(0)[1:].tolist(), **options)  # type: ignore[arg-type]


def level(found: list[Deviation]) -> Level:
    """Return the level of a case of which no share is known to be wrong."""
    entries = [{**label.to_json(), "volume_mm3": 100.0, "expected_wrong_mm3": 10.0} for label in LABELS]
    case = {"structures": entries, "ood": {"warnings": [each.to_json() for each in found]}}
    return status_of(case, case_flags(case, FlagRules())).level


def test_an_honest_mask_of_another_protocol_may_be_looked_at_and_is_never_unusable() -> None:
    (found,) = findings(joint())
    assert (found.kind, found.structure) == (JUDGED_KIND, 15) and "third ventricle" in found.message
    assert level([found]) is Level.LOOK
    assert findings(joint(np.maximum(HONEST, 0.6))) == []


@pytest.mark.parametrize("dice", [HONEST, np.ones(6)], ids=["honest", "the model's own"])
@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ("left hippocampus", "right hippocampus", ("sides", "(hippocampus)")),
        ("left caudate", "left putamen", ("names", "left caudate and left putamen")),
    ],
)
def test_two_exchanged_structures_are_named_and_make_a_mask_unusable(
    dice: np.ndarray, one: str, other: str, named: tuple[str, str]
) -> None:
    """Two in a hundred voxels: the Dice over all stays as it was."""
    counts = joint(dice, {one: other, other: one})
    found = findings(counts)
    assert found[0].kind == MISPLACED_KIND and all(word in found[0].message for word in named)
    assert sum(each.kind == MISPLACED_KIND for each in found) == 1
    assert level(found) is Level.DO_NOT_USE
    own = np.diag(structure_dice(counts))
    assert own[[NAMES.index(one), NAMES.index(other)]].max() == 0


def test_three_names_in_a_circle_are_found_where_they_are() -> None:
    circle = {"left hippocampus": "left caudate", "left caudate": "left putamen", "left putamen": "left hippocampus"}
    found = findings(joint(np.ones(6), circle))
    assert [each.kind for each in found] == [MISPLACED_KIND]
    assert "left caudate (where the model draws left hippocampus" in found[0].message


@pytest.mark.parametrize("dice", [0.0, 0.2, 0.39])
def test_one_structure_elsewhere_makes_a_mask_unusable(dice: float) -> None:
    found = findings(joint(np.array([1.0, 1.0, 1.0, dice, 1.0, 1.0])))
    assert [(each.kind, each.structure) for each in found] == [(MISPLACED_KIND, 13)]
    assert level(found) is Level.DO_NOT_USE


def test_one_empty_structure_makes_a_mask_unusable_unless_cases_often_lack_it() -> None:
    counts = joint(np.ones(6), {"left caudate": None})
    found = findings(counts)
    assert [(each.kind, each.structure) for each in found] == [(EMPTY_KIND, 13)]
    assert level(found) is Level.DO_NOT_USE
    found = findings(counts, rare=[3])
    assert [each.kind for each in found] == [JUDGED_KIND] and level(found) is Level.LOOK
    nearly_absent = SIZES.copy()
    nearly_absent[3] = 10  # as at the edge of a region of interest
    assert findings(joint(np.ones(6), {"left caudate": None}, nearly_absent)) == []


def test_findings_are_sorted_by_severity_and_kind() -> None:
    found = [
        Deviation(NOTE, "note", EMPTY_KIND),
        Deviation(WARNING, "blank", "calibration"),
        Deviation(WARNING, "not judged", JUDGED_KIND),
        Deviation(WARNING, "exchanged", MISPLACED_KIND),
        Deviation(REFUSED, "no head", "preview"),
    ]
    assert [each.message for each in by_importance(found)] == ["no head", "exchanged", "not judged", "blank", "note"]
    every = [Deviation(WARNING, kind, kind) for kind in KINDS]
    assert [each.kind for each in by_importance(every[::-1])] == list(KINDS)
