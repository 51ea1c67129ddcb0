"""Heads among the baselines: they answer as shipped, and only for the frozen backbone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from baseline_cases import other_weights, toy_case
from baselines import frozen_backbone
from baselines.base import FittingCases
from baselines.benchmark import AS_IT_IS
from baselines.frozen_backbone import FrozenBackbone, FrozenCase
from baselines.heads import heads_of
from segwithu_command import MODEL
from toy_models import write_toy_bundle

from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict, tempered_logits
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.util.errors import InputError
from SegWithULab.training.dataset import find_cases


@pytest.fixture(scope="module")
def shipped() -> FrozenBackbone:
    return frozen_backbone(read_bundle(MODEL))


@pytest.fixture(scope="module")
def seen(shipped: FrozenBackbone, data_folder: Path) -> FrozenCase:
    return shipped.segmented(find_cases(f"{data_folder / 'hippocampus' / 'split.csv'}:test")[0])


@pytest.mark.parametrize(
    ("head", "first_row"),
    [("context", "ranking map, head 'context'"), ("paper", "SegWithU as published")],
)
def test_a_head_answers_what_the_model_says_as_shipped(
    shipped: FrozenBackbone, seen: FrozenCase, head: str, first_row: str
) -> None:
    bundle = read_bundle(MODEL)
    baselines = heads_of([bundle], shipped, torch.device("cpu"))
    assert [len(baseline.rows) for baseline in baselines] == [2, 2]
    (baseline,) = (one for one in baselines if one.rows[0].startswith(first_row))
    ranking, chance = (baseline.answers(seen)[row] for row in baseline.rows)
    model = Model(bundle, torch.device("cpu"), head)
    predicted = predict(seen.images, model)
    np.testing.assert_array_equal(ranking.score, predicted.ranking)
    expected = torch.softmax(torch.from_numpy(tempered_logits(predicted)), 0).numpy()
    np.testing.assert_allclose(ranking.probabilities, expected, rtol=1e-9)
    assert predicted.error_probability is not None
    np.testing.assert_array_equal(chance.score, predicted.error_probability)


@pytest.mark.parametrize("role", ["calibration", "test"])
def test_second_stage_is_refitted_on_cases_that_it_has_not_seen_alone(full_data_folder: Path, role: str) -> None:
    bundle = read_bundle(MODEL)
    frozen = frozen_backbone(bundle)
    cases = find_cases(f"{full_data_folder / 'hippocampus' / 'split_by_scan.csv'}:{role}")[:2]
    context, paper = heads_of([bundle], frozen, "cpu")
    fitting = FittingCases(frozen, calibration=cases)
    for head in (context, paper):
        assert head.is_refitted(head.rows[1], fitting) is (role == "test")
        assert head.is_refitted(head.rows[0], fitting), "the ranking map is no probability"


def test_a_score_that_is_a_probability_stays_as_it_is() -> None:
    score = np.random.default_rng(0).random((3, 4, 5), np.float32)
    score[0, 0, :2] = 0, 1
    classes = np.zeros(score.shape, np.uint8)
    np.testing.assert_array_equal(AS_IT_IS(score, classes, classes + 1), score)


def test_a_model_with_another_backbone_or_input_is_refused(backbone: FrozenBackbone, tmp_path: Path) -> None:
    same = write_toy_bundle(tmp_path / "same", "looking", (16, 20, 12))
    other = read_bundle(other_weights(tmp_path / "other"))
    window = write_toy_bundle(tmp_path / "window", "looking", (8, 20, 12))
    cpu = torch.device("cpu")
    assert len(heads_of([backbone.bundle, same], backbone, cpu)) == 2
    with pytest.raises(InputError, match="different backbones"):
        heads_of([backbone.bundle, other], backbone, cpu)
    with pytest.raises(InputError, match="another input"):
        heads_of([backbone.bundle, window], backbone, cpu)


def test_a_head_that_segments_otherwise_is_refused(backbone: FrozenBackbone) -> None:
    case = toy_case(backbone)
    (head,) = heads_of([backbone.bundle], backbone, torch.device("cpu"))
    head.answers(case)
    changed = FrozenCase(**{**case.__dict__, "classes": 3 - case.classes})
    with pytest.raises(InputError, match="disagree in the class of"):
        head.answers(changed)
