"""Stage two is taken where the image tells errors, and left out where it does not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from SegWithUCore.inference.prediction import NetworkView, Prediction
from SegWithUCore.metrics.bootstrap import Interval
from SegWithUCore.models.input_spec import Label
from SegWithULab.training.fit_stage_two import StageTwoCheck, fit_stage_two, fit_table, folds_of, table_probability
from SegWithULab.training.reference_cases import ReferenceCase
from SegWithULab.training.within_structures import auroc_within, within_structures, worse_sentences

SHAPE = (8, 12, 12)


def made_up(seed: int, told: float, patients: int = 12) -> ReferenceCase:
    """A case whose image shows, so strongly, where the segmentation is wrong."""
    random = np.random.default_rng(seed)
    edge = gaussian_filter(random.normal(0, 9, SHAPE), 2) + np.linspace(-2, 2, SHAPE[2])
    logits = np.stack([edge, -edge]).astype(np.float32)
    classes = logits.argmax(0).astype(np.uint8)
    chance = 1 / (1 + np.exp(2 * np.abs(edge)))
    wrong = random.random(SHAPE) < chance
    image = (random.normal(size=SHAPE) + told * wrong).astype(np.float32)
    ranking = np.log(chance / (1 - chance)).astype(np.float32)
    flat = np.ones(SHAPE, np.float32)
    view = NetworkView(image[None], (0, 1, 2), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    prediction = Prediction(logits, classes, 1 - classes, flat, ranking, flat, None, 1.0, view=view)
    return ReferenceCase(prediction, np.where(wrong, 1 - classes, classes), f"patient{seed % patients}")


def test_it_is_taken_where_the_image_tells_errors() -> None:
    cases = [made_up(seed, told=2) for seed in range(12)]
    found = fit_stage_two(cases, fit_table(cases))
    assert found is not None
    stage, check = found.stage, found.check
    assert check.helps and check.difference.mean > 0.05 and "taken" in check.sentence
    assert stage.pairs == ((0, 1), (1, 0)) and stage.cases == 12 and stage.axes == (True, True, True)
    assert list(stage.values) == sorted(stage.values)


def test_it_is_left_out_where_nothing_is_shown() -> None:
    check = StageTwoCheck(27, 0.41, 0.42, Interval(0.01, -0.001, 0.02))
    assert not check.helps and check.sentence.endswith("by cross-validation over 27 cases: left out.")
    assert check.to_json()["difference"] == {"mean": 0.01, "low": -0.001, "high": 0.02}


def test_too_few_patients_get_none() -> None:
    cases = [made_up(seed, told=2, patients=4) for seed in range(12)]
    assert fit_stage_two(cases, fit_table(cases)) is None


def test_the_cases_of_a_patient_share_a_fold() -> None:
    folds = folds_of(["a", "b", "a", "c", "d", "e", "b"], seed=0)
    assert folds[0] == folds[2] and folds[1] == folds[6] and len(set(folds.tolist())) == 4


def test_equal_seeds_give_equal_networks() -> None:
    cases = [made_up(seed, told=2) for seed in range(10)]
    stages = [fit_stage_two(cases, fit_table(cases)) for _ in range(2)]
    first, second = (found.stage.arrays() for found in stages if found is not None)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_table_alone_is_what_it_was() -> None:
    case = made_up(0, told=0)
    table = fit_table([case])
    p = case.prediction
    assert table_probability(p, table) == pytest.approx(table(p.ranking, p.classes, p.runner_up))


def test_structures_where_the_softmax_ranks_better_are_named() -> None:
    labels = [Label(0, "background", (0, 0, 0)), Label(1, "organ", (1, 2, 3)), Label(2, "other", (1, 2, 3))]
    cases = [{1: (0.80 + n / 1000, 0.85), 2: (0.9, 0.8)} for n in range(12)]
    found = within_structures(cases, [str(n) for n in range(12)], labels)
    assert found["1"]["difference"]["high"] < 0 < found["2"]["difference"]["low"]
    (sentence,) = worse_sentences(found, labels)
    assert "Within organ" in sentence and "0.850" in sentence
    empty = [{1: (float("nan"), float("nan")), 2: (0.9, 0.8)}]
    assert set(within_structures(empty, ["a"], labels)) == {"2"}


def test_within_a_structure_both_scores_see_the_same_voxels() -> None:
    case = made_up(3, told=0)
    p = case.prediction
    sure = 1 / (1 + np.exp(-np.abs(p.logits[0] - p.logits[1])))
    ours, plain = auroc_within(p, case.truth, 1 - sure)[1]
    assert ours == pytest.approx(plain, abs=1e-6) and 0.5 < ours < 1


def test_knowing_the_direction_of_errors_counts_within_a_structure() -> None:
    random = np.random.default_rng(0)
    edge = random.normal(0, 1, SHAPE)
    logits = np.stack([edge, -edge]).astype(np.float32)
    classes = logits.argmax(0).astype(np.uint8)
    chance = np.where(classes == 1, 0.6, 0.1) * np.exp(-np.abs(edge))  # drawn too large more often than too small
    truth = np.where(random.random(SHAPE) < chance, 1 - classes, classes)
    flat = np.ones(SHAPE, np.float32)
    ours, plain = auroc_within(Prediction(logits, classes, 1 - classes, flat, flat, flat, None, 1.0), truth, chance)[1]
    assert ours > plain + 0.03
