"""Convolutions that ask oneDNN themselves give what torch gives, and step aside wherever they are not meant."""

import copy

import pytest
import torch
from torch import nn

from SegWithUCore.inference.engines import torch_engine
from SegWithUCore.inference.engines.torch_engine import onednn_works, use_onednn

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1, stride=(1, 2, 2)),
        nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1), groups=4, bias=False),
        nn.Conv3d(8, 6, 3, padding=2, dilation=2),
        nn.Conv3d(6, 3, 1),
        nn.Conv3d(3, 3, 3, padding="same"),
        nn.Conv3d(3, 3, 3, padding=1, padding_mode="replicate"),
    ).eval()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often oneDNN was asked."""
    asked: list[int] = []
    real = torch.mkldnn_convolution

    def counting(*arguments: object) -> torch.Tensor:
        asked.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    assert onednn_works()
    monkeypatch.setattr(torch, "mkldnn_convolution", counting)
    return asked


@needs_onednn
def test_results_are_torchs_and_a_copy_stays_its_own(calls: list[int]) -> None:
    plain, image = network(), torch.randn(1, 2, 6, 9, 7)
    changed = network()
    use_onednn(changed)
    with torch.inference_mode():
        torch.testing.assert_close(changed(image), plain(image), rtol=1e-5, atol=1e-5)
    assert len(calls) == 4
    twin = copy.deepcopy(changed)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.zero_()
    with torch.inference_mode():
        torch.testing.assert_close(twin(image), plain(image), rtol=1e-5, atol=1e-5)


@needs_onednn
def test_gradients_tracing_and_halves_are_torchs_own(calls: list[int]) -> None:
    changed, image = network(), torch.randn(1, 2, 6, 9, 7)
    use_onednn(changed)
    changed(image).sum().backward()
    with torch.no_grad():
        changed(image)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        changed(image)
    assert calls == []


def test_a_torch_without_onednn_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_engine, "onednn_works", lambda: False)
    changed = network()
    use_onednn(changed)
    assert all("_conv_forward" not in vars(module) for module in changed)
