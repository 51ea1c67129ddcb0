"""How far training turns windows, on an arrow that tells its direction."""

import math
from pathlib import Path

import numpy as np
import pytest
from training_runs import tiny_recipe

from SegWithULab.training.augmentation import WindowSampler, augmentation, thick_axis
from SegWithULab.training.backbone import BackboneTrainer
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.recipe import recipe_from_json
from SegWithULab.training.run_folder import RunFolder

WINDOW = (4, 64, 64)


def arrow(spacing_mm: tuple[float, float, float] = (1.5, 1.5, 10.0)) -> PreparedCase:
    """In each slice a shaft (1) with a head (2) at its right end."""
    labels = np.zeros(WINDOW, np.int16)
    labels[:, 29:35, 22:36], labels[:, 26:38, 36:42] = 1, 2
    return PreparedCase("arrow", labels[None].astype(np.float32), labels, spacing_mm, WINDOW[::-1])


def angles(sampler: WindowSampler, windows: int = 60) -> np.ndarray:
    """Direction of the arrow within slices, in degrees, in each window; 0 as it lies in the case."""
    found = []
    for epoch in range(windows):
        labels = sampler.window_of(epoch, 0)["labels"][0].numpy()
        (_, y, x), (_, tip_y, tip_x) = (np.argwhere(labels == part).mean(0) for part in (1, 2))
        found.append(math.degrees(math.atan2(tip_y - y, tip_x - x)))
    return np.abs(found)


@pytest.mark.parametrize(("spacing_mm", "limit"), [((1.5, 1.5, 10.0), 40), ((1.0, 1.0, 1.0), 30)])
def test_windows_are_turned_a_little(spacing_mm: tuple[float, float, float], limit: float) -> None:
    case = arrow(spacing_mm)
    turned = angles(WindowSampler([case], WINDOW, 0, augmentation(None, thick_axis(spacing_mm))))
    assert limit / 6 < turned.max() < limit


@pytest.mark.parametrize("any_turn", [True, False])
def test_a_recipe_may_have_half_of_the_windows_turned_by_any_angle(tmp_path: Path, any_turn: bool) -> None:
    recipe = recipe_from_json(tiny_recipe(), "recipe.json", backbone={"any_turn": any_turn, "mirror": False})
    trainer = BackboneTrainer(recipe, [arrow()], [arrow()], RunFolder(tmp_path))
    turned = angles(WindowSampler([arrow()], WINDOW, 0, trainer.sampler.transform))
    assert ((turned > 120).sum() > 4) == any_turn
    assert (turned < 40).mean() > 0.5
