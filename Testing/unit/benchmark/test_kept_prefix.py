"""Several passes on one input: what comes before the named modules is computed once, and the rest is as ever."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from SegWithUCore.network.backbone_spec import dynunet_spec
from SegWithUCore.network.backbones import build_backbone
from SegWithULab.benchmark.baselines.dropout import ActivationCache, DroppedBackbone

TAPS = ["upsamples.1.conv_block", "output_block"]
IMAGE = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(dynunet_spec(1, 3, [4, 8, 8])).eval()


@pytest.fixture
def convolved(network: nn.Module) -> Iterator[list[str]]:
    """Names of the convolutions that run, in order."""
    ran: list[str] = []
    plain = torch.conv3d

    def counted(*arguments: object, **options: object) -> torch.Tensor:
        ran.append("convolution")
        result: torch.Tensor = plain(*arguments, **options)  # type: ignore[arg-type]
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv3d", counted)
        yield ran


def test_every_pass_gives_what_a_plain_one_gives(network: nn.Module) -> None:
    with torch.no_grad():
        plain = network(IMAGE)
        with ActivationCache(network, TAPS) as kept:
            for _ in range(3):  # MONAI's blocks add in place: what is kept must not change
                kept.begin()
                torch.testing.assert_close(network(IMAGE), plain, rtol=0, atol=0)


def test_convolutions_before_the_first_named_module_run_once(network: nn.Module, convolved: list[str]) -> None:
    with torch.no_grad(), ActivationCache(network, TAPS) as kept:
        kept.begin()
        network(IMAGE)
        first = len(convolved)
        kept.begin()
        network(IMAGE)
    assert 0 < len(convolved) - first < first / 2


def test_the_network_is_as_before_afterwards_even_when_a_pass_fails(network: nn.Module) -> None:
    before = {name: dict(vars(module)) for name, module in network.named_modules()}
    with pytest.raises(RuntimeError), ActivationCache(network, TAPS) as kept, torch.no_grad():
        kept.begin()
        network(torch.zeros(1, 2, 16, 16, 16))
    for name, module in network.named_modules():
        assert vars(module).keys() == before[name].keys(), name
        assert not module._forward_pre_hooks, name


def test_dropped_passes_are_those_of_passes_made_one_by_one(network: nn.Module) -> None:
    together = DroppedBackbone(network, TAPS, 0.3, [5, 6]).window_output(IMAGE)
    apart = [DroppedBackbone(network, TAPS, 0.3, [seed]).window_output(IMAGE) for seed in (5, 6)]
    torch.testing.assert_close(together, torch.cat(apart, 1), rtol=0, atol=0)
    assert not torch.equal(apart[0], apart[1])
