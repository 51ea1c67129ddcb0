"""The baseline that learns from errors: boosted trees with the image."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from baseline_cases import SHAPE, toy_case
from baselines import image_trees
from baselines.base import FittingCases, FoldBackbone
from baselines.frozen_backbone import FrozenBackbone, FrozenCase
from baselines.image_trees import ImageTrees
from sklearn.metrics import roc_auc_score

from SegWithUCore.metrics.overlap import Band


class Cases:
    """A frozen backbone that knows its cases; where the image is bright every other uncertain voxel is wrong."""

    def __init__(self, backbone: FrozenBackbone, count: int) -> None:
        self.seen: dict[str, FrozenCase] = {}
        for seed in range(count):
            case = toy_case(backbone, seed, (SHAPE[0], 2 * SHAPE[1], SHAPE[2]))
            chance = np.where(case.array[0] > np.median(case.array[0]), 0.5, 0.02)
            wrong = np.random.default_rng(seed).random(chance.shape) < chance
            truth = np.where(wrong, case.runner_up, case.classes).astype(np.int16)
            self.seen[case.name] = replace(case, truth=truth)

    def segmented(self, case: Any) -> FrozenCase:
        return self.seen[case.name]

    def fitting(self) -> FittingCases:
        named: Any = [SimpleNamespace(name=name, group=name) for name in self.seen]
        backbone: Any = self
        return FittingCases(backbone, calibration=named)


@pytest.fixture
def cases(backbone: FrozenBackbone, monkeypatch: pytest.MonkeyPatch) -> Cases:
    monkeypatch.setattr(image_trees, "LEAST_UNSURE", 0.0)
    monkeypatch.setitem(image_trees.TREES, "max_iter", 20)
    return Cases(backbone, 4)


def test_trees_see_the_image_and_judge_calibration_cases_as_new_ones(backbone: FrozenBackbone, cases: Cases) -> None:
    new = Cases(backbone, 5).seen["case4"]
    baseline = ImageTrees(Band())
    baseline.fit(cases.fitting())
    row = baseline.rows[0]
    score = baseline.answers(new)[row].score
    plain = 1 - new.probabilities.max(0)
    assert roc_auc_score(new.error.ravel(), score.ravel()) > 0.1 + roc_auc_score(new.error.ravel(), plain.ravel())
    known = cases.seen["case0"]
    as_new = baseline.answers(replace(known, name="another"))[row].score
    assert np.abs(as_new - baseline.answers(known)[row].score).max() > 0.01


def test_what_learns_from_folds_counts_their_cases_and_knows_them_for_no_calibration_case(
    backbone: FrozenBackbone, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold: Any = Cases(backbone, 7)
    names: Any = [SimpleNamespace(name=name, group=name) for name in ("case5", "case6")]
    without = cases.fitting()
    fitting = replace(without, folds=[FoldBackbone(fold, names)])
    grown: list[int] = []
    grow = ImageTrees._grown

    def counted(self: ImageTrees, columns: np.ndarray, wrong: np.ndarray) -> Any:
        grown.append(len(wrong))
        return grow(self, columns, wrong)

    monkeypatch.setattr(ImageTrees, "_grown", counted)
    trees = ImageTrees(Band())
    trees.fit(fitting)
    alone = ImageTrees(Band())
    alone.fit(without)
    further = trees._voxels - alone._voxels
    assert grown[:4] == [count + further for count in grown[4:]], "all trees see cases of folds"
    assert further == sum(fold.seen[each.name].error.size for each in names)
    row, known = trees.rows[0], fold.seen["case5"]
    assert np.abs(trees.answers(known)[row].score - alone.answers(known)[row].score).max() > 0.01


def test_trees_of_cases_without_an_error_fear_none(backbone: FrozenBackbone, cases: Cases) -> None:
    cases.seen = {name: replace(case, truth=case.classes.astype(np.int16)) for name, case in cases.seen.items()}
    baseline = ImageTrees(Band())
    baseline.fit(cases.fitting())
    assert baseline.answers(cases.seen["case0"])[baseline.rows[0]].score.max() < 0.01


def test_trees_of_one_patient_are_grown_once(backbone: FrozenBackbone, cases: Cases) -> None:
    fitting = cases.fitting()
    for case in fitting.calibration:
        case.__dict__["group"] = "one"
    baseline = ImageTrees(Band())
    baseline.fit(fitting)
    assert len(baseline._trees) == 1
    assert np.isfinite(baseline.answers(cases.seen["case0"])[baseline.rows[0]].score).all()
