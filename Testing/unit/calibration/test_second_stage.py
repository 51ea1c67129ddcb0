"""Second stage of the error probability: features of finite reach, the same in parts as in the whole, and its file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluated_cases import shipped_bundle
from second_stage_cases import PAIRS, made_up_stage

from SegWithUCore.calibration.local_features import (
    PER_CHANNEL,
    Steps,
    boundary_normals,
    local_features,
    mask_features,
    neighbour_axes,
)
from SegWithUCore.calibration.second_stage import LOOKS_ABOVE, HeadMaps, SecondStage, find_uncertain_voxels, refined
from SegWithUCore.models.second_stage_file import BLOCK, read_second_stage, second_stage_path, write_second_stage
from SegWithUCore.util.errors import InputError

SHAPE = (26, 24, 22)
RANDOM = np.random.default_rng(3)
IMAGE = RANDOM.normal(size=(2, *SHAPE)).astype(np.float32)
LOGITS = RANDOM.normal(size=(3, *SHAPE)).astype(np.float32)
PROBABILITY = (RANDOM.random(SHAPE) ** 4).astype(np.float32)
_ORDER = np.argsort(-LOGITS, 0).astype(np.uint8)
HEAD = HeadMaps(
    _ORDER[0],
    _ORDER[1],
    RANDOM.normal(size=SHAPE).astype(np.float32),
    *(RANDOM.random((3, *SHAPE)).astype(np.float32)),
)
MASK = (HEAD.classes, HEAD.runner_up)


def planes_of(maps: HeadMaps, planes: slice) -> HeadMaps:
    return HeadMaps(*(None if each is None else each[planes] for each in vars(maps).values()))


@pytest.mark.parametrize("steps", [Steps(), Steps((0, 1, 1)), Steps((1, 2, 1))])
def test_slabs_with_a_halo_give_the_bits_of_the_whole(steps: Steps) -> None:
    stage = made_up_stage(sees_mask=True)
    whole = find_uncertain_voxels(LOGITS, slice(None), HEAD, PROBABILITY, PAIRS, steps)
    wanted = refined(stage, whole, IMAGE, PROBABILITY, steps, MASK)
    assert 0 < whole.voxels[0].size < PROBABILITY.size and not np.array_equal(wanted, PROBABILITY)
    halo, unit = steps.halo[0], steps.unit[0]
    for first, last in ((0, 9), (9, 10), (10, 26)):
        low, high = max(0, first - unit), min(SHAPE[0], last + unit)
        planes = slice(first, last)
        doubt = find_uncertain_voxels(
            LOGITS[:, low:high].copy(),
            slice(first - low, last - low),
            planes_of(HEAD, planes),
            PROBABILITY[planes],
            PAIRS,
            steps,
        )
        low, high = max(0, first - halo), min(SHAPE[0], last + halo)
        moved = replace(doubt, voxels=(doubt.voxels[0] + first - low, *doubt.voxels[1:]))
        mask = (MASK[0][low:high].copy(), MASK[1][low:high].copy())
        features = moved.features(IMAGE[:, low:high].copy(), PROBABILITY[low:high].copy(), steps, mask)
        here = wanted[planes]
        assert np.array_equal(stage.probability(features), here[doubt.voxels])


def test_log_odds_are_the_mean_of_the_members_layer_by_layer() -> None:
    stage = made_up_stage()
    features = RANDOM.normal(size=(700, len(stage.mean))).astype(np.float32)
    hidden = ((features.astype(np.float64) - stage.mean) / stage.scale)[None]
    for weight, bias in stage.layers[:-1]:
        hidden = np.maximum(hidden @ weight + bias, 0)
    weight, bias = stage.layers[-1]
    wanted = features[:, 0] + (hidden @ weight + bias)[..., 0].mean(0)
    np.testing.assert_allclose(stage.raw_log_odds(features), wanted, rtol=1e-6, atol=1e-6)


def test_a_crop_with_a_halo_gives_the_bits_of_the_whole() -> None:
    steps = Steps()
    cut = (slice(2, 24), slice(1, 23), slice(2, 21))
    voxels = tuple(RANDOM.integers(part.start + 7, part.stop - 7, 50) for part in cut)
    normals = RANDOM.normal(size=(3, 50)).astype(np.float32) / 2
    whole = local_features(IMAGE, PROBABILITY, voxels, normals, steps)
    inside = tuple(each - part.start for each, part in zip(voxels, cut, strict=True))
    part = local_features(IMAGE[(slice(None), *cut)].copy(), PROBABILITY[cut].copy(), inside, normals, steps)
    assert np.array_equal(whole, part)


def test_calm_voxels_keep_the_probability_of_the_table() -> None:
    doubt = find_uncertain_voxels(LOGITS, slice(None), HEAD, PROBABILITY, PAIRS, Steps())
    found = refined(made_up_stage(), doubt, IMAGE, PROBABILITY, Steps(), MASK)
    calm = PROBABILITY <= LOOKS_ABOVE
    assert calm.any() and np.array_equal(found[calm], PROBABILITY[calm])
    assert found.min() >= 0 and found.max() <= 1


def test_the_slope_is_that_of_the_image_across_the_boundary() -> None:
    ramp = np.broadcast_to(np.arange(22, dtype=np.float32), SHAPE)
    logits = np.stack([-ramp, ramp]).astype(np.float32)
    voxels = (np.array([12]), np.array([12]), np.array([11]))
    classes, runner_up = np.array([1]), np.array([0])
    normals = boundary_normals(logits, voxels, classes, runner_up, Steps())
    assert normals[:, 0].tolist() == [0, 0, 1]
    found = local_features(3 * ramp[None], np.zeros(SHAPE, np.float32), voxels, normals, Steps())[0]
    named = dict(zip(PER_CHANNEL, found.tolist(), strict=False))
    assert named["slope"] == pytest.approx(3) and named["steepness"] == pytest.approx(3)
    assert named["bend"] == pytest.approx(0) and named["value"] == named["level 2"] == 33


def test_the_mask_is_seen_as_shares_and_as_grey_values_of_both_sides() -> None:
    classes = np.zeros(SHAPE, np.uint8)
    classes[:, :, 11:] = 1
    classes[0, 0, :3] = 2  # far from all voxels that are asked for
    image = np.where(classes == 1, 5, 2).astype(np.float32)[None]
    image[0, 12, 12, 12] = 6
    rivals = np.where(classes == 1, 0, 1).astype(np.uint8)
    rivals[20, 20, 20] = 2
    voxels = (np.array([12, 12, 20]), np.array([12, 12, 20]), np.array([12, 10, 20]))
    own, level_3, against = slice(0, 3), 2, (3, 7)
    first, second, third = mask_features(image, classes, rivals, voxels, Steps())
    assert first[own].tolist() == pytest.approx([1, 13 / 16, first[level_3]]) and 0.5 < first[level_3] < 13 / 16
    assert second[0] == pytest.approx(0.75) and second[4] == pytest.approx(0.25)
    assert first[:3] + first[4:7] == pytest.approx(np.ones(3))
    assert first[against[0]] == pytest.approx(1, abs=0.05) and first[against[1]] == pytest.approx(4, abs=0.05)
    assert third[4:].tolist() == [0, 0, 0, 0]


def test_thick_slices_stay_apart() -> None:
    assert neighbour_axes((8.0, 1.5, 1.5)) == (False, True, True)
    image = np.zeros((1, *SHAPE), np.float32)
    image[0, 13] = 100
    voxels = (np.array([12]), np.array([12]), np.array([11]))
    normals = np.array([[0.0], [1.0], [0.0]], np.float32)
    seen = [
        local_features(image, PROBABILITY, voxels, normals, Steps((z, 1, 1)))[0, : len(PER_CHANNEL)] for z in (0, 1)
    ]
    assert not seen[0].any() and seen[1].any()


class TestFile:
    def bundle(self, folder: Path, stage: SecondStage) -> tuple:
        bundle = shipped_bundle()
        block = write_second_stage(stage, folder, bundle.default_head.name)
        assert bundle.calibration is not None
        return replace(bundle, folder=folder, calibration={**bundle.calibration, BLOCK: block}), block

    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        stage = made_up_stage(channels=1)
        bundle, _ = self.bundle(tmp_path, stage)
        found = read_second_stage(bundle)
        assert found is not None
        features = RANDOM.normal(size=(9, stage.mean.size)).astype(np.float32)
        assert np.array_equal(found.probability(features), stage.probability(features))
        assert read_second_stage(replace(bundle, calibration=None)) is None

    def test_a_changed_file_is_refused(self, tmp_path: Path) -> None:
        bundle, _ = self.bundle(tmp_path, made_up_stage(channels=1))
        path = second_stage_path(tmp_path, bundle.default_head.name)
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
        with pytest.raises(InputError, match="was changed"):
            read_second_stage(bundle)
        path.unlink()
        with pytest.raises(InputError, match="does not exist"):
            read_second_stage(bundle)

    def test_arrays_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        bundle, _ = self.bundle(tmp_path, made_up_stage(channels=2))
        with pytest.raises(InputError, match="features, but the model has"):
            read_second_stage(bundle)
        stage = made_up_stage(channels=1)
        broken = replace(stage, layers=stage.layers[::-1])
        with pytest.raises(InputError, match="do not fit together"):
            read_second_stage(self.bundle(tmp_path, broken)[0])
        broken = replace(stage, mean=stage.mean * np.float32(np.nan))
        with pytest.raises(InputError, match="not finite"):
            read_second_stage(self.bundle(tmp_path, broken)[0])
