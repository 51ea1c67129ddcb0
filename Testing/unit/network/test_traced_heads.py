"""The forms of heads that other engines run give the same numbers as the heads themselves."""

import pytest
import torch
from torch import nn

from SegWithUCore.models.graphs import MAPS
from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.graph import MapsGraph, WindowGraph
from SegWithUCore.network.heads.base import temper_logits
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.specs import dynunet_spec

TAPS = ["upsamples.0.conv_block", "output_block"]


def network(variant: str = "context", classes: int = 3, flat_levels: int = 0, **head: bool | int) -> SegWithU:
    """A small DynUNet with a head of random weights everywhere, zeros of its beginning included."""
    torch.manual_seed(0)
    backbone = build_backbone(dynunet_spec(1, classes, [4, 8, 8], flat_levels=flat_levels))
    made = SegWithU(backbone, TAPS, torch.zeros(1, 1, 8, 16, 16), variant, features=6, **head).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in [*made.fusion.parameters(), *made.head.parameters()]:
            parameter += 0.3 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize(
    "made",
    [
        pytest.param({}, id="context"),
        pytest.param({"probes": 0}, id="no probes"),
        pytest.param({"aleatoric": False}, id="no data part"),
        pytest.param({"classes": 9}, id="many pairs"),
        pytest.param({"classes": 2}, id="two classes"),
        pytest.param({"flat_levels": 3}, id="thick slices"),
        pytest.param({"variant": "paper"}, id="paper"),
    ],
)
def test_traced_forms_equal_the_network(made: dict[str, int | str]) -> None:
    model = network(**made)  # type: ignore[arg-type]
    variant = str(made.get("variant", "context"))
    depth = 7 if "flat_levels" in made else 8  # any number of slices fits
    image = torch.randn(1, 1, depth, 16, 24)
    with torch.inference_mode():
        expected = model.window_output(image)
        found = torch.cat(WindowGraph(model, variant)(image), 1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

        chunk = expected[0].flatten(1)
        maps = model.maps(chunk[None])
        outputs = dict(zip(MAPS, MapsGraph(model, variant)(chunk, torch.tensor([1.3])), strict=False))
        for name in ("calibration", "ranking", "epistemic", "aleatoric"):
            wanted = getattr(maps, name)
            assert (name in outputs) == (wanted is not None)
            if wanted is not None:
                torch.testing.assert_close(outputs[name], wanted[0, 0], rtol=1e-4, atol=1e-5)
        assert torch.equal(torch.stack([outputs["classes"], outputs["runner_up"]]), maps.top[0].to(torch.uint8))
        logits = chunk[None, : model.num_classes]
        tempered = torch.softmax(temper_logits(logits, maps.calibration) / 1.3, 1)[0]
        torch.testing.assert_close(outputs["probabilities"], tempered, rtol=1e-4, atol=1e-6)


def test_of_classes_that_tie_the_lower_one_is_first_in_both() -> None:
    model = network(classes=4)
    chunk = torch.randn(4 + model.head.response_channels, 6)
    chunk[:4] = torch.tensor([[1.0, 2, 2, 1, 0, 5], [1, 2, 0, 3, 0, 5], [1, 0, 2, 3, 0, 5], [1, 2, 2, 3, 0, 5]])
    with torch.inference_mode():
        outputs = MapsGraph(model, "context")(chunk, torch.ones(1))
        expected = model.maps(chunk[None]).top[0].to(torch.uint8)
    assert torch.equal(torch.stack(outputs[:2]), expected)
    assert outputs[0].tolist() == [0, 0, 0, 1, 0, 0]


def test_an_odd_length_is_averaged_as_in_the_fusion() -> None:
    """A backbone without divisor: the last voxel of an odd length stands alone."""

    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv3d(1, 5, 3, padding=1), nn.Conv3d(5, 3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.second(self.first(image))
            return logits

    torch.manual_seed(1)
    model = SegWithU(Same(), ["second"], torch.zeros(1, 1, 7, 9, 5), "context", features=4).eval()
    image = torch.randn(1, 1, 7, 9, 5)
    with torch.inference_mode():
        found = torch.cat(WindowGraph(model, "context")(image), 1)
        torch.testing.assert_close(found, model.window_output(image), rtol=1e-4, atol=1e-5)
