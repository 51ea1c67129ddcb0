"""MeshNet: dilated convolutions one after the other at full resolution (Fedorov et al. 2017), as brainchop uses it.

There is no stride and no skip connection: every tap has the resolution of the image, and a voxel sees
`receptive_radius` voxels in each direction.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"linear": nn.Identity, "relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}
LAYER_FIELDS = {"filters", "kernel", "dilation", "bias", "normalised", "activation"}
_NORMALISATION_EPSILON = 1e-5


class MeshNet(nn.Module):
    """Logits (batch, classes, z, y, x) of an image (batch, in_channels, z, y, x).

    Args:
        layers: from first to last, each with `filters`, `kernel` (odd), `dilation`, `bias`, `normalised` (InstanceNorm
            without weights after the convolution) and `activation`; the last has one filter a class.
    """

    def __init__(self, in_channels: int, layers: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        blocks = []
        for layer in layers:
            blocks.append(_block(in_channels, layer))
            in_channels = layer["filters"]
        self.layers = nn.Sequential(*blocks)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Run all layers."""
        logits: torch.Tensor = self.layers(image)
        return logits


def _block(in_channels: int, layer: Mapping[str, Any]) -> nn.Sequential:
    """Build convolution, normalisation (if the layer has one) and activation."""
    if set(layer) != LAYER_FIELDS:
        raise ValueError(f"a layer has the fields {sorted(layer)}, not {sorted(LAYER_FIELDS)}")
    if layer["activation"] not in ACTIVATIONS:
        raise ValueError(f"the activation '{layer['activation']}' is none of {', '.join(sorted(ACTIVATIONS))}")
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv3d(
        in_channels,
        layer["filters"],
        layer["kernel"],
        padding=layer["dilation"] * (layer["kernel"] // 2),
        dilation=layer["dilation"],
        bias=layer["bias"],
    )
    if layer["normalised"]:
        parts["norm"] = nn.InstanceNorm3d(layer["filters"], eps=_NORMALISATION_EPSILON)
    parts["activation"] = ACTIVATIONS[layer["activation"]]()
    return nn.Sequential(parts)


def receptive_radius(layers: Sequence[Mapping[str, Any]]) -> int:
    """Return the receptive field in each direction, without normalisation."""
    return sum(layer["dilation"] * (layer["kernel"] // 2) for layer in layers)
