"""Passes with dropout: each has its own masks, and the network is left as it was."""

import pytest
import torch
from torch import nn

from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.specs import dynunet_spec
from SegWithULab.benchmark.baselines.dropout import DroppedBackbone

TAPS = ["upsamples.1.conv_block", "output_block"]
IMAGE = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(dynunet_spec(1, 3, [4, 8, 8])).eval()


def test_the_network_is_as_before_afterwards_even_when_a_pass_fails(network: nn.Module) -> None:
    with pytest.raises(RuntimeError):
        DroppedBackbone(network, TAPS, 0.3, [5]).window_output(torch.zeros(1, 2, 16, 16, 16))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_dropped_passes_are_those_of_passes_made_one_by_one(network: nn.Module) -> None:
    together = DroppedBackbone(network, TAPS, 0.3, [5, 6]).window_output(IMAGE)
    apart = [DroppedBackbone(network, TAPS, 0.3, [seed]).window_output(IMAGE) for seed in (5, 6)]
    torch.testing.assert_close(together, torch.cat(apart, 1), rtol=0, atol=0)
    assert not torch.equal(apart[0], apart[1])
