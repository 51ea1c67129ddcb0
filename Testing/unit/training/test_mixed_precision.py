"""Gradients of 3D convolutions in mixed precision, against PyTorch's own in float32 and float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from training_runs import tiny_recipe

from SegWithUCore.util.errors import InputError
from SegWithULab.training.backbone import BackboneTrainer
from SegWithULab.training.dataset import PreparedCase
from SegWithULab.training.mixed_precision import Geometry, autocast, check_gradients, weight_gradient
from SegWithULab.training.recipe import recipe_from_json
from SegWithULab.training.run_folder import RunFolder

BFLOAT16_STEP = 2**-8

GEOMETRIES = [
    Geometry((1, 1, 1), (1, 1, 1), (1, 1, 1), False, (0, 0, 0), 1),
    Geometry((2, 1, 2), (0, 1, 1), (1, 1, 1), False, (0, 0, 0), 1),
    Geometry((1, 2, 1), (2, 2, 4), (2, 1, 3), False, (0, 0, 0), 1),
    Geometry((3, 1, 1), (1, 0, 0), (1, 2, 1), False, (0, 0, 0), 2),
    Geometry((2, 2, 2), (0, 0, 0), (1, 1, 1), True, (0, 0, 0), 1),
    Geometry((3, 2, 1), (1, 1, 0), (2, 1, 1), True, (2, 1, 0), 2),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_the_gradient_of_slices_is_that_of_the_volume(geometry: Geometry) -> None:
    draw = torch.Generator().manual_seed(0)
    groups = geometry.groups
    channels = (4, 6 // groups) if geometry.transposed else (6, 4 // groups)
    image = torch.randn(2, 4, 9, 11, 13, generator=draw, dtype=torch.float64)
    weight = torch.randn(*channels, 3, 2, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    output = torch.ops.aten.convolution(image, weight, None, *geometry)
    change = torch.randn(output.shape, generator=draw, dtype=torch.float64)
    (wanted,) = torch.autograd.grad(output, weight, change)
    near, far = (change, image) if geometry.transposed else (image, change)
    torch.testing.assert_close(weight_gradient(near, far, weight.detach(), geometry), wanted)


def gradients(layer: nn.Module, image: torch.Tensor, precision: str) -> list[torch.Tensor]:
    """Of the input and of all parameters, in float32."""
    image = image.clone().requires_grad_()
    with autocast(precision):
        output = layer(image)
    change = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((output.float() * change).sum(), [image, *layer.parameters()])
    return [part.float() for part in found]


def layer_and_image(kind: Any, channels: tuple[int, int], size: tuple[int, int, int], **named: Any) -> Any:
    torch.manual_seed(0)
    return kind(*channels, **named), torch.randn(1, channels[0], *size)


@pytest.mark.parametrize(
    ("kind", "channels", "size", "named"),
    [
        # without the sums over slices these gave NaN, or took the process down, on a Xeon with AMX
        (nn.Conv3d, (48, 32), (4, 32, 112), {"kernel_size": 3, "padding": 1}),
        (nn.Conv3d, (96, 32), (4, 32, 64), {"kernel_size": 3, "padding": 1}),
        pytest.param(nn.Conv3d, (96, 32), (10, 160, 160), {"kernel_size": 1}, marks=pytest.mark.slow),  # 0.5 GB
        (nn.Conv3d, (160, 32), (4, 32, 144), {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)}),
        (nn.Conv3d, (32, 32), (7, 192, 160), {"kernel_size": (1, 3, 3), "padding": (0, 1, 1)}),
        # other ways of calling
        (nn.Conv3d, (8, 8), (6, 20, 20), {"kernel_size": (3, 3, 5), "padding": "same", "dilation": (3, 2, 1)}),
        (nn.Conv3d, (8, 8), (6, 20, 20), {"kernel_size": 3, "padding": "valid", "stride": 2, "groups": 4}),
        (nn.Conv3d, (8, 8), (6, 20, 20), {"kernel_size": 3, "padding": 1, "padding_mode": "reflect", "bias": False}),
        (nn.ConvTranspose3d, (16, 8), (5, 12, 14), {"kernel_size": (1, 2, 2), "stride": (1, 2, 2)}),
        (nn.ConvTranspose3d, (16, 8), (5, 12, 14), {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
    ],
)
def test_gradients_in_bfloat16_are_those_in_float32_but_for_rounding(
    kind: Any, channels: tuple[int, int], size: tuple[int, int, int], named: dict[str, Any]
) -> None:
    layer, image = layer_and_image(kind, channels, size, **named)
    for exact, found in zip(gradients(layer, image, "float32"), gradients(layer, image, "bfloat16"), strict=True):
        assert found.isfinite().all()
        assert (found - exact).norm() < BFLOAT16_STEP * exact.norm() * 2


def test_images_without_a_batch_axis_are_convolved_too() -> None:
    layer, image = layer_and_image(nn.Conv3d, (2, 3), (4, 8, 8), kernel_size=3)
    for batched, alone in zip(gradients(layer, image, "float32"), gradients(layer, image[0], "bfloat16"), strict=True):
        assert (alone - batched.reshape(alone.shape)).norm() < BFLOAT16_STEP * batched.norm() * 2


def test_networks_may_compute_parts_anew_for_their_gradients() -> None:
    layer, image = layer_and_image(nn.Conv3d, (96, 32), (4, 32, 64), kernel_size=3, padding=1)
    wanted = gradients(layer, image, "float32")
    image.requires_grad_()
    with autocast("bfloat16"):
        output = checkpoint(layer, image, use_reentrant=False)
    change = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (output.float() * change).sum().backward()
    for exact, found in zip(wanted, [image, *layer.parameters()], strict=True):
        assert (found.grad - exact).norm() < BFLOAT16_STEP * exact.norm() * 2


def test_parts_whose_gradients_would_not_be_seen_are_refused() -> None:
    layer, image = layer_and_image(nn.Conv3d, (2, 3), (4, 8, 8), kernel_size=3)
    with autocast("bfloat16"), pytest.raises(InputError, match="use_reentrant=False"):
        checkpoint(layer, image.requires_grad_(), use_reentrant=True)
    with autocast("bfloat16"), torch.no_grad():
        assert layer.requires_grad_(False)(image).dtype == torch.bfloat16


def test_networks_that_are_not_python_are_trained_in_float32_only() -> None:
    network = nn.Sequential(nn.Identity(), torch.jit.script(nn.Conv3d(1, 2, 3)))
    check_gradients(network, "float32")
    with pytest.raises(InputError, match="1 is TorchScript, whose gradients would be wrong"):
        check_gradients(network, "bfloat16")


def test_what_pytorch_refuses_is_refused() -> None:
    image, weight = torch.randn(1, 2, 4, 4, 4), torch.randn(2, 2, 3, 3, 3, requires_grad=True)
    with autocast("bfloat16"):
        for padding, stride in (("same", 2), ("smae", 1)):
            with pytest.raises((RuntimeError, ValueError)):
                torch.conv3d(image, weight, None, stride, padding)
        assert torch.conv3d(image.double(), weight.double()).dtype == torch.float64


def test_float32_is_left_as_it_is() -> None:
    layer, image = layer_and_image(nn.Conv3d, (3, 5), (6, 9, 9), kernel_size=3)
    output = layer(image)
    with autocast("float32"):
        assert torch.equal(layer(image), output)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_that_diverges_stops_before_it_spoils_what_it_has(tmp_path: Path, precision: str) -> None:
    recipe = recipe_from_json(tiny_recipe(), "recipe.json", backbone={"precision": precision})
    z, y, x = recipe.input.window_zyx
    labels = np.zeros((z, y, x), np.int16)
    labels[:, : y // 2] = 1
    case = PreparedCase("hot", np.full((1, z, y, x), np.inf, np.float32), labels, (1.0, 1.0, 1.0), (x, y, z))
    trainer = BackboneTrainer(recipe, [case], [], RunFolder(tmp_path))
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    with pytest.raises(InputError, match=r"stopped in epoch 1 .*nan.*'learning_rate'.*") as stopped:
        trainer.fit()
    assert ("float32" in str(stopped.value)) == (precision == "bfloat16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.network.state_dict().items())
    assert not list(tmp_path.glob("backbone_*"))
