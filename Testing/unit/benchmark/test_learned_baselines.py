"""Baselines that learn from errors: softmax with distance, and boosted trees with the image."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from baseline_cases import SHAPE, other_weights, smooth_volume, toy_case
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from SegWithUCore.inference.engines.torch_engine import BackboneAlone
from SegWithUCore.inference.model import Model
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.models.bundle import read_bundle
from SegWithULab.benchmark.baselines import distance, image_trees, local_temperature
from SegWithULab.benchmark.baselines.base import Baseline, FittingCases, FoldBackbone
from SegWithULab.benchmark.baselines.distance import (
    PENALTY,
    TERMS,
    SoftmaxDistance,
    distance_terms,
    logistic_weights,
)
from SegWithULab.benchmark.baselines.image_trees import ImageTrees
from SegWithULab.evaluation.frozen_backbone import FrozenBackbone, FrozenCase


class Cases:
    """A frozen backbone that knows its cases; where the image is bright every other doubtful voxel is wrong."""

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
    monkeypatch.setattr(image_trees, "IN_DOUBT", 0.0)
    monkeypatch.setitem(image_trees.TREES, "max_iter", 20)
    return Cases(backbone, 4)


def restored(baseline: Baseline, fresh: Baseline) -> Baseline:
    fresh.load_state({name: np.asarray(values) for name, values in baseline.state().items()})
    return fresh


def test_logistic_weights_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, TERMS))
    y = random.random(4000) < 1 / (1 + np.exp(-x @ random.normal(size=TERMS)))
    counts = random.integers(1, 10, 4000)
    expected = LogisticRegression(C=1 / (2 * PENALTY), fit_intercept=False, tol=1e-8).fit(x, y, counts).coef_[0]
    np.testing.assert_allclose(logistic_weights(x, y, counts), expected, atol=2e-3)


def test_terms_are_finite_where_the_softmax_is_sure_and_no_boundary_is_near() -> None:
    sure = distance_terms(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([np.inf, 0.0]))
    assert sure.shape == (TERMS, 2)
    assert np.isfinite(sure).all()


def test_softmax_with_distance_learns_that_the_boundary_is_wrong_and_not_the_middle(
    backbone: FrozenBackbone, cases: Cases
) -> None:
    """Errors lie within 2 mm of the boundary, whatever the softmax says."""
    for name, case in cases.seen.items():
        near = Band().distance(case.classes, case.spacing_zyx) <= 2.0
        wrong = near & (np.random.default_rng(1).random(near.shape) < 0.4)
        cases.seen[name] = replace(case, truth=np.where(wrong, case.runner_up, case.classes).astype(np.int16))
    baseline = SoftmaxDistance(Band())
    baseline.fit(cases.fitting())
    case = next(iter(cases.seen.values()))
    score = baseline.answers(case)["softmax with distance"].score
    plain = 1 - case.probabilities.max(0)
    assert roc_auc_score(case.error.ravel(), score.ravel()) > 0.05 + roc_auc_score(case.error.ravel(), plain.ravel())
    again = restored(baseline, SoftmaxDistance(Band()))
    np.testing.assert_array_equal(again.answers(case)["softmax with distance"].score, score)


def test_voxels_that_are_left_out_of_the_fit_are_counted_by_others(
    backbone: FrozenBackbone, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distance, "SURE_LOG_ODDS", 100.0)
    case = next(iter(cases.seen.values()))
    rows = SoftmaxDistance(Band(0.1, False))._rows(case)
    assert len(rows[0]) < case.error.size
    assert rows[3].sum() == pytest.approx(case.error.size, rel=0.01)


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
    again = restored(baseline, ImageTrees(Band()))
    for case in (new, known):
        np.testing.assert_array_equal(again.answers(case)[row].score, baseline.answers(case)[row].score)


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
    seen, before = trees.state(), alone.state()
    further = len(seen["wrong"]) - len(before["wrong"])
    assert grown[:4] == [count + further for count in grown[4:]], "all trees see cases of folds"
    assert len(seen["wrong"]) == len(before["wrong"]) + sum(fold.seen[each.name].error.size for each in names)
    np.testing.assert_array_equal(seen["wrong"][: len(before["wrong"])], before["wrong"])
    assert set(seen["fold"].tolist()) == {0, 1, 2, -1} and seen["names"].tolist() == before["names"].tolist()
    row, known = trees.rows[0], fold.seen["case5"]
    assert np.abs(trees.answers(known)[row].score - alone.answers(known)[row].score).max() > 0.01
    regression, other = SoftmaxDistance(Band()), SoftmaxDistance(Band())
    regression.fit(fitting)
    other.fit(without)
    assert any(np.abs(regression.weights[pair] - weights).max() > 1e-3 for pair, weights in other.weights.items())


def test_local_temperatures_learn_from_folds_as_their_networks_segment_them(
    backbone: FrozenBackbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FrozenBackbone(Model(read_bundle(other_weights(tmp_path / "other")), torch.device("cpu")))
    prepared = {
        name: SimpleNamespace(image=smooth_volume(n)[None], labels=np.zeros(SHAPE)) for n, name in enumerate("abc")
    }
    monkeypatch.setattr(FittingCases, "prepared", lambda _, case: prepared[case.name])
    own, fold, select = ([SimpleNamespace(name=name)] for name in "abc")
    read: list[np.ndarray] = []

    def trained(_: Any, batch: Any, learned_from: int, chosen_on: int, *__: Any) -> int:
        assert (learned_from, chosen_on) == (2, 1)
        read.extend(batch(number)[0][0].numpy() for number in range(3))
        return 1

    monkeypatch.setattr(local_temperature, "train", trained)
    fitting: Any = FittingCases(backbone, select, own, [FoldBackbone(other, fold)])  # type: ignore[arg-type]
    local_temperature.LocalTemperatureScaling(backbone).fit(fitting)
    for logits, network, name in zip(read, (backbone, other, backbone), "abc", strict=True):
        np.testing.assert_array_equal(logits, network.stitched(BackboneAlone(network.module), prepared[name].image))
    assert np.abs(read[1] - backbone.stitched(BackboneAlone(backbone.module), prepared["b"].image)).max() > 0.01


def test_trees_of_cases_without_an_error_fear_none(backbone: FrozenBackbone, cases: Cases) -> None:
    cases.seen = {name: replace(case, truth=case.classes.astype(np.int16)) for name, case in cases.seen.items()}
    baseline = ImageTrees(Band())
    baseline.fit(cases.fitting())
    assert baseline.answers(cases.seen["case0"])[baseline.rows[0]].score.max() < 0.01


def test_without_scikit_learn_the_row_says_so(
    backbone: FrozenBackbone, cases: Cases, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ImageTrees(Band()).lacks(cases.fitting()) is None
    monkeypatch.setattr(image_trees.importlib.util, "find_spec", lambda name: None)
    missing = ImageTrees(Band()).lacks(cases.fitting())
    assert missing is not None
    assert "pip install scikit-learn" in missing


def test_trees_of_one_patient_are_grown_once(backbone: FrozenBackbone, cases: Cases) -> None:
    fitting = cases.fitting()
    for case in fitting.calibration:
        case.__dict__["group"] = "one"
    baseline = ImageTrees(Band())
    baseline.fit(fitting)
    assert len(baseline.state()["folds"]) == 4
    assert np.isfinite(baseline.answers(cases.seen["case0"])[baseline.rows[0]].score).all()
