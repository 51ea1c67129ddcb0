"""The U-Net with added skips: it sees left from right and far away, and its traced form computes the same."""

import pytest
import torch

from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.graph import PooledInstanceNorm, with_pooled_norms
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import BackboneSpec
from SegWithUCore.util.errors import InputError

ARGUMENTS = {"in_channels": 1, "num_classes": 5, "filters": [4, 6, 8]}


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(BackboneSpec("unet", ARGUMENTS, size_divisor=4)).eval()


def test_skips_are_added_and_levels_have_two_convolutions_but_the_first(network: torch.nn.Module) -> None:
    convolutions = {
        name: tuple(m.weight.shape) for name, m in network.named_modules() if isinstance(m, torch.nn.Conv3d)
    }
    assert convolutions["up.0.0.0"] == (4, 4, 3, 3, 3)
    assert sorted(name for name in convolutions if name.startswith("down")) == [
        "down.0.0.0", "down.1.0.0", "down.1.1.0", "down.2.0.0", "down.2.1.0"]  # fmt: skip
    image = torch.rand(1, 1, 16, 12, 8)
    with torch.no_grad():
        found = network(image)
        skip = network.down[0](image)
        for blocks in network.up:  # nothing but what the first level hands over
            blocks.register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        network.reduce[0].register_forward_hook(lambda _module, _inputs, output: torch.zeros_like(output))
        seen = {}
        network.up[0].register_forward_pre_hook(lambda _module, inputs: seen.update(last=inputs[0]))
        network(image)
    assert found.shape == (1, 5, 16, 12, 8)
    torch.testing.assert_close(seen["last"], skip)


def test_the_traced_form_has_pooled_norms_and_computes_the_same(network: torch.nn.Module) -> None:
    whole = SegWithU(network, ["up.1", "up.0", "head"], torch.zeros(1, 1, 8, 8, 8), "context", 4, 2).eval()
    traced = with_pooled_norms(whole)
    kinds = [type(module) for module in traced.backbone.modules()]
    assert torch.nn.GroupNorm not in kinds and kinds.count(PooledInstanceNorm) == 8
    image = torch.randn(1, 1, 16, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(traced.backbone(image), whole.backbone(image), rtol=1e-4, atol=1e-4)


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(InputError, match="unet"):
        build_backbone(BackboneSpec("unet", {**ARGUMENTS, "top": 2}))
