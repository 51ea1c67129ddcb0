"""Volumes of thick slices: nothing is turned, halved or averaged across them that should stay apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segwithu_command import changed_description, tiny_bundle
from torch import nn
from training_runs import tiny_recipe

from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.network.backbones import build_backbone, example_input
from SegWithUCore.network.heads.context import ContextFusion
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import dynunet_spec
from SegWithUCore.util.errors import InputError
from SegWithULab.training.augmentation import WindowSampler, augmentation, thick_axis
from SegWithULab.training.backbone import training_window
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.recipe import HeadTraining, read_recipe, recipe_from_json

FILTERS = [4, 8, 8]
TAPS = ["upsamples.0.conv_block", "output_block"]


def flat_dynunet() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(dynunet_spec(1, 3, FILTERS, flat_levels=3)).eval()


def test_any_number_of_slices_fits_a_flat_dynunet_and_none_sees_another() -> None:
    network, image = flat_dynunet(), torch.randn(1, 1, 5, 16, 16)
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm3d):  # the only thing that all slices share
            module.forward = nn.Identity().forward
    changed = image.clone()
    changed[:, :, 2] += 1
    with torch.no_grad():
        differs = (network(image) - network(changed)).abs().amax((0, 1, 3, 4)) > 0
    assert differs.tolist() == [False, False, True, False, False]


def test_only_axes_that_the_backbone_halves_are_halved_by_the_context_fusion() -> None:
    torch.manual_seed(0)
    fusion = ContextFusion([3, 5], 6)
    thick = fusion([torch.randn(1, 3, 7, 8, 8), torch.randn(1, 5, 7, 16, 16)])
    assert tuple(thick.shape) == (1, 6, 7, 8, 8)
    cubes = fusion([torch.randn(1, 3, 4, 8, 8), torch.randn(1, 5, 8, 16, 16)])
    assert tuple(cubes.shape) == (1, 6, 4, 8, 8)


def test_memory_is_foretold_for_halving_two_axes_or_three() -> None:
    fusion = ContextFusion([3, 5], 6)
    two = fusion.live_channels([torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 5, 8, 16, 16)])
    three = fusion.live_channels([torch.zeros(1, 3, 4, 8, 8), torch.zeros(1, 5, 8, 16, 16)])
    at_full = two - 2 * (two - three)  # what does not depend on it
    assert two > three > at_full > 0


@pytest.mark.parametrize("variant", ["paper", "context"])
def test_a_head_on_a_flat_dynunet_gives_maps_of_every_slice(variant: str) -> None:
    backbone = flat_dynunet()
    spec = dynunet_spec(1, 3, FILTERS, flat_levels=3)
    example = example_input(spec, 1, (5, 16, 16))
    assert tuple(example.shape) == (1, 1, 5, 16, 16)
    network = SegWithU(backbone, TAPS, example, variant, 4)
    logits, maps = network(torch.randn(1, 1, 6, 32, 16))
    assert maps.ranking.shape == (1, 1, *logits.shape[2:]) and logits.shape[2:] == (6, 32, 16)


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1.5, 1.5, 10.0), 0), ((8.0, 1.0, 1.0), 2), ((1.0, 1.0, 2.9), None), ((1.0, 1.0, 1.0), None)],
)
def test_slices_are_thick_above_three_times_the_shortest_edge(spacing: tuple[float, ...], axis: int | None) -> None:
    assert thick_axis(spacing) == axis


@pytest.mark.parametrize("thick", [0, 1, 2])
def test_augmentation_never_moves_a_voxel_to_another_thick_slice(thick: int) -> None:
    number = np.arange(1, 13, dtype=np.int16)
    labels = np.broadcast_to(number.reshape([-1 if axis == thick else 1 for axis in range(3)]), (12, 12, 12)).copy()
    case = PreparedCase("slices", labels[None].astype(np.float32), labels, (1, 1, 8), (12, 12, 96))
    sampler = WindowSampler([case], (12, 12, 12), 0, augmentation(None, thick))
    moved = 0
    for epoch in range(12):
        window = sampler.window_of(epoch, 0)["labels"][0].numpy()
        assert ((window == labels) | (window == 0)).all()
        moved += bool((window == 0).any())
    assert moved > 4


def test_trainings_may_take_smaller_windows_than_the_input(tmp_path: Path) -> None:
    recipe: dict[str, Any] = tiny_recipe()
    recipe["backbone_training"]["window"] = [16, 24, 8]
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe))
    read = read_recipe(path)
    assert training_window(read, read.backbone_training) == (8, 24, 16)
    assert training_window(read, HeadTraining()) == read.input.window_zyx


@pytest.mark.parametrize("window", [[16, 24, 6], [16, 24], [0, 24, 8]])
def test_a_window_that_cannot_be_halved_is_refused(window: list[int]) -> None:
    recipe = recipe_from_json(tiny_recipe(), "recipe.json", head={"window": window})
    with pytest.raises(InputError, match=r"trains in the window \[.*\]: give x, y and z in multiples of 4, 4, 4\."):
        training_window(recipe, recipe.head_training)


def test_a_window_that_does_not_fit_the_strides_is_refused(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "model")
    x, y, z = read_bundle(folder).input.window
    changed_description(folder, "backbone/size_divisor", [1, y, x])
    assert read_bundle(folder).backbone.size_divisors == (1, y, x)
    changed_description(folder, "backbone/size_divisor", [z, y, 2 * x])
    with pytest.raises(InputError, match=rf"json .* at input/window, not multiples of \[{2 * x}, {y}, {z}\]"):
        read_bundle(folder)
