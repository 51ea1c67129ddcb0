"""Every baseline's answers against an independent way to get them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from baseline_cases import SHAPE, other_weights, toy_backbone, toy_case
from baselines import frozen_backbone
from baselines.augmentation import Augmentation
from baselines.base import FittingCases, PassAverage, unsure_of
from baselines.ensemble import Ensemble, read_member
from baselines.from_logits import NO_BOUNDARY, Distance, Softmax, Temperature
from baselines.frozen_backbone import FrozenBackbone, FrozenCase
from monai.transforms import Compose, RandAffined, RandFlipd
from segwithu_command import MODEL
from torch.distributions import Categorical
from toy_models import write_toy_bundle

from SegWithUCore.calibration.error_probability import fit_temperature
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.prediction import predict
from SegWithUCore.metrics.overlap import Band
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.util.errors import InputError
from SegWithULab.calibration.cases import predict_case
from SegWithULab.training.dataset import find_cases


@pytest.fixture
def case(backbone: FrozenBackbone) -> FrozenCase:
    return toy_case(backbone)


def test_softmax_margin_and_entropy_equal_torch(case: FrozenCase) -> None:
    answers = Softmax().answers(case)
    p = torch.softmax(torch.from_numpy(case.logits).double(), 0)
    top = p.topk(2, dim=0).values
    np.testing.assert_allclose(answers["maximum softmax"].score, 1 - top[0], rtol=1e-6)
    np.testing.assert_allclose(answers["margin"].score, 1 - (top[0] - top[1]), rtol=1e-6)
    np.testing.assert_allclose(answers["entropy"].score, Categorical(p.movedim(0, -1)).entropy(), rtol=1e-6)
    for answer in answers.values():
        assert answer.probabilities is not None
        np.testing.assert_allclose(answer.probabilities, p, rtol=1e-12)


def test_a_voxel_that_is_almost_sure_keeps_its_place_among_others() -> None:
    probabilities = np.zeros((2, 1, 1, 2))
    probabilities[1, 0, 0] = [1e-20, 1e-12]
    probabilities[0] = 1 - probabilities[1]
    score = unsure_of(np.zeros((1, 1, 2), np.uint8), probabilities)
    np.testing.assert_allclose(score.ravel(), [1e-20, 1e-12])  # 1 - p would call both 0


def test_distance_knows_the_boundary_alone_and_an_empty_case_is_far_from_it(case: FrozenCase) -> None:
    score = Distance(Band()).answers(case)["distance to boundary"].score
    assert score.max() == 0
    np.testing.assert_allclose(-score, Band().distance(case.classes, case.spacing_zyx), rtol=1e-6)
    empty = FrozenCase(**{**case.__dict__, "classes": np.zeros_like(case.classes)})
    assert (Distance(Band()).answers(empty)["distance to boundary"].score == -NO_BOUNDARY).all()


def test_mean_and_mutual_information_of_passes_equal_torch() -> None:
    logits = torch.randn(7, 3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    p = torch.softmax(logits, 1)
    passes = PassAverage()
    for part in p:
        passes.add(part.numpy())
    mean = Categorical(p.mean(0).movedim(0, -1))
    expected = mean.entropy() - Categorical(p.movedim(1, -1)).entropy().mean(0)
    np.testing.assert_allclose(passes.mean(), p.mean(0), rtol=1e-12)
    np.testing.assert_allclose(passes.mutual_information(), expected, atol=1e-6)


def test_temperature_is_the_one_that_calibrating_a_model_fits(data_folder: Path) -> None:
    frozen = frozen_backbone(read_bundle(MODEL))
    cases = find_cases(f"{data_folder / 'hippocampus' / 'split.csv'}:calibration")[:3]
    baseline = Temperature()
    baseline.fit(FittingCases(frozen, calibration=cases))
    model = Model(read_bundle(MODEL), torch.device("cpu"))
    predicted = [predict_case(case, model) for case in cases]
    expected = fit_temperature([p.logits for p, _ in predicted], [truth for _, truth in predicted])
    assert baseline.temperature == pytest.approx(expected, rel=1e-6)


def test_the_frozen_segmentation_is_what_the_whole_model_predicts(data_folder: Path) -> None:
    frozen = frozen_backbone(read_bundle(MODEL))
    seen = frozen.segmented(find_cases(f"{data_folder / 'hippocampus' / 'split.csv'}:test")[0])
    predicted = predict(seen.images, Model(read_bundle(MODEL), torch.device("cpu")))
    np.testing.assert_array_equal(seen.classes, predicted.classes)
    np.testing.assert_array_equal(seen.runner_up, predicted.runner_up)
    np.testing.assert_array_equal(seen.logits, predicted.logits)


def test_without_turning_or_noise_a_pass_of_augmentation_is_the_plain_one(
    backbone: FrozenBackbone, case: FrozenCase
) -> None:
    baseline = Augmentation(backbone, mirror=False)
    transform = Compose([RandFlipd(["image", "labels", "valid"], prob=0.0, spatial_axis=2)])
    np.testing.assert_array_equal(baseline.turned_back(case, 1, transform), case.stitched)


def test_a_mirrored_pass_sees_the_other_side_and_is_mirrored_back(backbone: FrozenBackbone, case: FrozenCase) -> None:
    baseline = Augmentation(backbone, mirror=True)
    transform = Compose([RandFlipd(["image", "labels", "valid"], prob=1.0, spatial_axis=2)])
    with torch.no_grad():
        seen = backbone.module(torch.from_numpy(case.array[..., ::-1].copy())[None])[0]
    np.testing.assert_allclose(baseline.turned_back(case, 1, transform), seen.numpy()[..., ::-1], atol=1e-5)
    assert (
        np.abs(baseline.turned_back(case, 1, transform) - case.stitched).max() > 0.05
    )  # this backbone looks to one side


def test_a_turned_pass_is_turned_back(tmp_path: Path) -> None:
    frozen = toy_backbone(tmp_path / "local", "local")  # logits follow from the voxel alone
    seen = toy_case(frozen, 3)
    baseline = Augmentation(frozen, mirror=False)
    keys = ["image", "labels", "valid"]
    turn = RandAffined(
        keys,
        prob=1.0,
        rotate_range=((0.5, 0.5), (0, 0), (0, 0)),
        translate_range=((0, 0), (0, 0), (5, 5)),
        mode=("bilinear", "nearest", "nearest"),
        padding_mode="zeros",
    )
    transform = Compose([turn])
    back = baseline.turned_back(seen, 1, transform)
    gap = np.abs(back - seen.stitched)[1]
    spread = float(seen.stitched[1].std())
    assert (gap == 0).any()  # out of the picture
    assert np.median(gap[gap > 0]) < 0.2 * spread  # twice interpolated
    wrong_way = np.abs(np.roll(seen.stitched, 5, 3) - seen.stitched)[1]
    assert np.median(gap[gap > 0]) < 0.3 * np.median(wrong_way)


def test_augmented_passes_are_drawn_from_case_and_pass_alone(backbone: FrozenBackbone, case: FrozenCase) -> None:
    first = Augmentation(backbone, mirror=True).answers(case)
    Augmentation(backbone, mirror=True).answers(toy_case(backbone, 4))
    again = Augmentation(backbone, mirror=True).answers(case)
    for row, answer in first.items():
        np.testing.assert_array_equal(answer.score, again[row].score)
        assert answer.score.shape == SHAPE


def test_an_ensemble_is_the_mean_of_its_members_and_judges_the_frozen_class(
    backbone: FrozenBackbone, case: FrozenCase, tmp_path: Path
) -> None:
    members = [read_member(other_weights(tmp_path / f"m{seed}", seed=seed), backbone) for seed in (5, 6)]
    baseline = Ensemble(backbone, members)
    assert baseline.passes == 3
    answer = baseline.answers(case)["deep ensemble of 3"]
    image = torch.from_numpy(case.array)[None]
    networks = [backbone.module, *(member.network for member in members)]
    with torch.no_grad():
        mean = torch.stack([torch.softmax(network(image).double(), 1)[0] for network in networks]).mean(0).numpy()
    np.testing.assert_allclose(answer.probabilities, mean, atol=1e-6)
    of_frozen = np.take_along_axis(mean, case.classes[None].astype(np.int64), 0)[0]
    np.testing.assert_allclose(answer.score, 1 - of_frozen, atol=1e-6)
    assert (mean.argmax(0) != case.classes).any()  # else nobody could tell whose class is judged


def test_an_ensemble_refuses_wrong_members(backbone: FrozenBackbone, tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "same", "looking", (16, 20, 12))
    with pytest.raises(InputError, match="is the frozen backbone itself"):
        read_member(tmp_path / "same", backbone)
    write_toy_bundle(tmp_path / "two", "local", (16, 20, 12))
    with pytest.raises(InputError, match="same task"):
        read_member(tmp_path / "two", backbone)
    with pytest.raises(InputError, match="not a training run"):
        read_member(tmp_path, backbone)
