"""Windows that are laid into whole cases, turned and scaled."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import tiny_recipe

from SegWithUCore.util.errors import InputError
from SegWithULab.training.augmentation import ScaledWindows, WindowSampler, augmentation
from SegWithULab.training.backbone import BackboneTrainer
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.recipe import recipe_from_json
from SegWithULab.training.run_folder import RunFolder

WINDOW = (5, 32, 32)


def slices(count: int = 5, edge: int = 128) -> PreparedCase:
    """A ball of label 1 and grey value 1 in the middle of each slice; slices differ by 10 in grey value."""
    z, y, x = np.mgrid[:count, :edge, :edge]
    labels = (np.hypot(y - (edge - 1) / 2, x - (edge - 1) / 2) < 8).astype(np.int16)
    return PreparedCase("case", (labels + 10 * z)[None].astype(np.float32), labels, (1.0, 1.0, 10.0), (1.0, 1.0, 1.0))


def drawn(case: PreparedCase, number: int, **settings: Any) -> dict[str, torch.Tensor]:
    usual = {"window": WINDOW, "scale": (0.5, 2.0), "thick": 0}
    return ScaledWindows(**{**usual, **settings}).draw(case, np.random.default_rng(number))


def test_equal_numbers_draw_equal_windows_and_others_do_not() -> None:
    case = slices()
    first, again, other = drawn(case, 1), drawn(case, 1), drawn(case, 2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["image"], other["image"])


def test_thick_slices_are_never_mixed() -> None:
    for number in range(20):
        found = drawn(slices(), number, any_turn=True)
        values = found["image"][0] - 10 * torch.arange(5.0)[:, None, None]
        inside = found["valid"][0] > 0
        outside = torch.nn.functional.pad((~inside).float(), (1, 1, 1, 1), value=1.0)
        inner = torch.nn.functional.max_pool2d(outside, 3, 1) == 0  # at the rim linear values fall to zero
        assert values[inner].min() >= -1e-4
        assert values[inner].max() <= 1 + 1e-4


def test_image_and_labels_stay_together() -> None:
    found = drawn(slices(1), 3, window=(1, 64, 64))
    inside = found["valid"][0] > 0
    assert found["labels"].sum() > 0
    differs = (found["image"][0] > 0.5) != (found["labels"][0] > 0)
    assert float(differs[inside].float().mean()) < 0.02  # the boundary alone: linear here, nearest there
    assert set(found["labels"].unique().tolist()) <= {0.0, 1.0}


def test_areas_follow_the_scale() -> None:
    case = slices(1, 256)
    whole = float(case.labels.sum())
    shares = [float(drawn(case, number, window=(1, 256, 256))["labels"].sum()) / whole for number in range(60)]
    factors = np.sqrt(shares)  # of both axes together; each is stretched by up to 15 % besides
    assert 0.5 / 1.16 <= factors.min() < 0.65
    assert 1.6 < factors.max() <= 2.0 * 1.16
    assert 0.8 < np.median(factors) < 1.25  # evenly in the logarithm


def test_what_is_turned_shows_the_image_in_its_corners() -> None:
    found = [drawn(slices(5, 256), number, scale=(1.0, 1.0), any_turn=True) for number in range(20)]
    assert np.mean([float(window["valid"].mean()) for window in found]) > 0.97


def test_half_of_the_windows_are_turned_by_any_angle_where_that_is_asked() -> None:
    """A case whose left half is class 1: seen from the window, its edge turns."""
    labels = np.zeros((1, 128, 128), np.int16)
    labels[:, :, :64] = 1
    case = PreparedCase("case", labels[None].astype(np.float32), labels, (1.0, 1.0, 10.0), (1.0, 1.0, 1.0))

    def reversed_windows(any_turn: bool) -> int:
        found = 0
        for number in range(60):
            window = drawn(case, number, window=(1, 128, 128), scale=(0.5, 0.6), any_turn=any_turn)
            left = window["labels"][0, 0] > 0
            right = (window["valid"][0, 0] > 0) & ~left
            found += int(torch.argwhere(left)[:, 1].float().mean() > torch.argwhere(right)[:, 1].float().mean())
        return found

    assert reversed_windows(False) == 0
    assert 5 <= reversed_windows(True) <= 25  # half of half


def test_a_sampler_masks_and_mirrors_scaled_windows() -> None:
    case = slices()
    scaled = ScaledWindows(WINDOW, (0.2, 0.25), 0)
    sampler = WindowSampler([case], WINDOW, 0, augmentation(2, 0, False, True), scaled.draw)
    window, again = sampler.window_of(1, 0), sampler.window_of(1, 0)
    assert torch.equal(window["image"], again["image"])
    assert 0 < window["valid"].mean() < 1
    assert float(window["image"][window["valid"] == 0].abs().max()) == 0
    assert window["image"].shape == (1, *WINDOW)


def test_cubes_are_turned_about_every_axis() -> None:
    labels = np.zeros((48, 48, 48), np.int16)
    labels[:24] = 1
    case = PreparedCase("case", labels[None].astype(np.float32), labels, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    found = drawn(case, 0, window=(24, 24, 24), scale=(1.0, 1.0), thick=None, any_turn=True)
    assert (found["image"][0].diff(dim=2).abs() > 0.1).any()


@pytest.mark.parametrize("scale", [[2.0, 0.5], [0.0, 1.0], [1.0], "wide", [1, True]])
def test_a_scale_that_is_none_is_refused(scale: Any) -> None:
    recipe = tiny_recipe(backbone_training={"scale": scale})
    with pytest.raises(InputError, match="scale"):
        recipe_from_json(recipe, "recipe.json")


def test_a_recipe_with_a_scale_trains_on_scaled_windows(tmp_path: Path) -> None:
    recipe = recipe_from_json(tiny_recipe(backbone_training={"scale": [0.8, 1.25]}), "recipe.json")
    run = RunFolder(tmp_path)
    run.start(recipe, {})
    labels = np.ones((32, 44, 32), np.int16)
    case = PreparedCase("case", labels[None].astype(np.float32), labels, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    trainer = BackboneTrainer(recipe, [case], [], run)
    draw: Any = trainer.sampler.draw
    assert draw.__self__ == ScaledWindows((32, 44, 32), (0.8, 1.25), None, False)
    assert run.recipe() == recipe
    assert json.loads((tmp_path / "run.json").read_text())["recipe"]["backbone_training"]["scale"] == [0.8, 1.25]
