"""How far training turns and enlarges windows, on an arrow that tells its direction and its size."""

import math
from pathlib import Path

import numpy as np
import pytest
from training_runs import tiny_recipe

from SegWithUCore.network.backbones import unique_state
from SegWithUCore.training.augmentation import WindowSampler, augmentation
from SegWithUCore.training.backbone_training import BackboneTrainer
from SegWithUCore.training.cases import PreparedCase
from SegWithUCore.training.head_training import HeadTrainer
from SegWithUCore.training.recipe import recipe_from_json
from SegWithUCore.training.run_folder import RunFolder

WINDOW = (4, 64, 64)
MOST_BY_STRETCHING = 1 / 0.75**2
"""Of an area: both edges shown at three quarters of MONAI's scale."""


def arrow(spacing_mm: tuple[float, float, float] = (1.5, 1.5, 10.0)) -> PreparedCase:
    """In each slice a shaft (1) with a head (2) at its right end."""
    labels = np.zeros(WINDOW, np.int16)
    labels[:, 29:35, 22:36], labels[:, 26:38, 36:42] = 1, 2
    return PreparedCase("arrow", labels[None].astype(np.float32), labels, spacing_mm, WINDOW[::-1])


def seen(sampler: WindowSampler, windows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Direction of the arrow in degrees and its area, the plain one as 1, in each window."""
    plain = (sampler.cases[0].labels > 0).sum()
    found = []
    for epoch in range(windows):
        labels = sampler.window_of(epoch, 0)["labels"][0].numpy()
        (_, y, x), (_, tip_y, tip_x) = (np.argwhere(labels == part).mean(0) for part in (1, 2))
        found.append((math.degrees(math.atan2(tip_y - y, tip_x - x)), (labels > 0).sum() / plain))
    angles, areas = np.transpose(found)
    return angles, areas


def test_thick_slices_are_now_and_then_turned_by_any_angle_and_mostly_by_little() -> None:
    angles, _ = seen(WindowSampler([arrow()], WINDOW, 0, augmentation(None, 0)))
    assert np.histogram(angles, [-180, -90, 0, 90, 180])[0].min() > 4
    assert (np.abs(angles) > 120).sum() > 4
    assert (np.abs(angles) < 35).mean() > 0.5


@pytest.mark.parametrize("thick", [0, None])
def test_only_cases_that_keep_their_grid_are_shown_twice_as_large(thick: int | None) -> None:
    _, areas = seen(WindowSampler([arrow()], WINDOW, 0, augmentation(None, thick)))
    assert areas.max() < 1.1 * MOST_BY_STRETCHING
    _, areas = seen(WindowSampler([arrow()], WINDOW, 0, augmentation(None, thick, any_size=True)))
    assert areas.max() > 3
    assert 0.05 < (areas > 1.1 * MOST_BY_STRETCHING).mean() < 0.4


@pytest.mark.parametrize("spacing_mm", [None, [1.5, 1.5, 10.0]])
def test_a_recipe_without_spacing_trains_on_every_size(tmp_path: Path, spacing_mm: list[float] | None) -> None:
    raw = tiny_recipe(input={"spacing_mm": spacing_mm}, head_training={"augment": True})
    recipe, run = recipe_from_json(raw, "recipe.json"), RunFolder(tmp_path)
    backbone = BackboneTrainer(recipe, [arrow()], [arrow()], run)
    run.save_best("backbone", unique_state(backbone.network))
    for trainer in (backbone, HeadTrainer(recipe, [arrow()], [arrow()], run)):
        _, areas = seen(WindowSampler([arrow()], WINDOW, 0, trainer.sampler.transform))
        assert (areas.max() > 3) == (spacing_mm is None)


def test_nearly_cubic_voxels_of_a_known_size_are_turned_a_little() -> None:
    angles, _ = seen(WindowSampler([arrow((1, 1, 1))], WINDOW, 0, augmentation()))
    assert 5 < np.abs(angles).max() < 30
