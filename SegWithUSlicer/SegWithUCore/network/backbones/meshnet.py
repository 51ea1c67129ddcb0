"""MeshNet: dilated convolutions one after the other at full resolution (Fedorov et al. 2017), as brainchop uses it.

There is no stride and no skip connection: every tap has the resolution of the image, and a voxel sees
`receptive_radius` voxels in each direction.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import InputError
from ..tfjs_weights import TfjsLayer, read_tfjs_layers

ACTIVATIONS: dict[str, type[nn.Module]] = {"linear": nn.Identity, "relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}
LAYER_FIELDS = {"filters", "kernel", "dilation", "bias", "normalised", "activation"}
_NOTHING_WHEN_PREDICTING = {"InputLayer", "Dropout", "SpatialDropout3D"}
_NORMALISED_SUFFIX = "_gn"
"""brainchop has no layer for it: a convolution of such a name is followed by InstanceNorm without weights."""
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
    """Convolution, normalisation where there is one, activation."""
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
    """How many voxels a voxel sees in each direction, normalisation apart."""
    return sum(layer["dilation"] * (layer["kernel"] // 2) for layer in layers)


def read_tfjs_meshnet(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A MeshNet that TensorFlow.js saved.

    brainchop hands over its volumes with x as the first axis; here z is the first, so kernels are turned.
    Batch normalisation after a convolution is folded into it, which changes nothing when predicting.

    Args:
        path: `model.json`, with its `.bin` files beside it.

    Returns:
        The arguments of `MeshNet` and its weights.

    Raises:
        InputError: see `read_tfjs_layers`; a layer that MeshNet does not have; or weights that do not fit.
    """
    layers: list[dict[str, Any]] = []
    arrays: list[dict[str, np.ndarray]] = []
    for layer in read_tfjs_layers(path):
        if layer.kind == "Conv3D":
            layers.append(_layer_of(layer, path))
            arrays.append(_convolution(layer, path))
        elif layer.kind == "BatchNormalization" and layers and _is_bare(layers[-1]):
            arrays[-1] = _folded(arrays[-1], layer, path)
            layers[-1]["bias"] = True
        elif layer.kind == "Activation" and layers and layers[-1]["activation"] == "linear":
            layers[-1]["activation"] = _known_activation(layer, path)
        elif layer.kind not in _NOTHING_WHEN_PREDICTING:
            raise InputError(
                f"{path} has the layer '{layer.name}' ({layer.kind}) where a MeshNet has none: only convolutions, each "
                "with a batch normalisation and an activation if need be, can be imported."
            )
    if not layers:
        raise InputError(f"{path} has no convolution: give the model.json of a MeshNet.")
    return {"in_channels": arrays[0]["weight"].shape[1], "layers": layers}, _state(layers, arrays, path)


def _is_bare(layer: Mapping[str, Any]) -> bool:
    """Whether nothing follows the convolution yet."""
    return layer["activation"] == "linear" and not layer["normalised"]


def _layer_of(layer: TfjsLayer, path: Path) -> dict[str, Any]:
    settings = layer.settings
    missing = [field for field in ("filters", "kernel_size") if field not in settings]
    if missing:
        raise InputError(f"{path} does not say '{missing[0]}' of the layer '{layer.name}': download the model again.")
    kernel, dilation = settings["kernel_size"], settings.get("dilation_rate", [1, 1, 1])
    plain = {"strides": [1, 1, 1], "padding": "same", "groups": 1}
    for field, wanted in plain.items():
        if settings.get(field, wanted) != wanted:
            raise InputError(
                f"{path} has {field} {str(settings[field])[:60]} in the layer '{layer.name}': a MeshNet has {wanted} "
                "throughout."
            )
    if len({*kernel}) > 1 or len({*dilation}) > 1 or kernel[0] % 2 == 0:
        raise InputError(
            f"{path} has a kernel of {kernel} with dilation {dilation} in the layer '{layer.name}': only odd kernels "
            "that are equal along all axes can be imported."
        )
    return {
        "filters": settings["filters"],
        "kernel": kernel[0],
        "dilation": dilation[0],
        "bias": bool(settings.get("use_bias", True)),
        "normalised": layer.name.endswith(_NORMALISED_SUFFIX),
        "activation": _known_activation(layer, path),
    }


def _known_activation(layer: TfjsLayer, path: Path) -> str:
    name = layer.settings.get("activation") or "linear"
    if name not in ACTIVATIONS:
        raise InputError(
            f"{path} has the activation '{name}' in the layer '{layer.name}': this version knows "
            f"{', '.join(sorted(ACTIVATIONS))}."
        )
    return str(name)


def _convolution(layer: TfjsLayer, path: Path) -> dict[str, np.ndarray]:
    """Kernel (x, y, z, in, out) as (out, in, z, y, x), and the bias where there is one."""
    wanted = {"kernel", "bias"} if layer.settings.get("use_bias", True) else {"kernel"}
    if set(layer.weights) != wanted:
        found = ", ".join(sorted(layer.weights)) or "none"
        raise InputError(f"{path} has other weights for the layer '{layer.name}' than its settings say: {found}.")
    shapes = {"kernel": 5, "bias": 1}
    for name, array in layer.weights.items():
        if array.ndim != shapes[name]:
            raise InputError(
                f"{path} has a {name} of shape {list(array.shape)} in the layer '{layer.name}', expected "
                f"{shapes[name]} axes: download the model again."
            )
    arrays = {"weight": layer.weights["kernel"].transpose()}
    return arrays | ({"bias": layer.weights["bias"]} if "bias" in layer.weights else {})


def _folded(arrays: Mapping[str, np.ndarray], layer: TfjsLayer, path: Path) -> dict[str, np.ndarray]:
    """Convolution and batch normalisation as one convolution."""
    filters = arrays["weight"].shape[0]
    for name in ("moving_mean", "moving_variance", *layer.weights):
        found = layer.weights.get(name)
        if found is None or found.shape != (filters,):
            what = "none" if found is None else f"of shape {list(found.shape)}"
            raise InputError(
                f"{path} has for the layer '{layer.name}' a {name} {what}, expected [{filters}]: download the model "
                "again."
            )
    if layer.weights["moving_variance"].min() < 0:
        raise InputError(
            f"{path} has a negative moving_variance in the layer '{layer.name}': download the model again."
        )
    zeros = np.zeros(arrays["weight"].shape[0])
    values = {name: array.astype(np.float64) for name, array in layer.weights.items()}
    spread = np.sqrt(values["moving_variance"] + float(layer.settings.get("epsilon", 1e-3)))
    scale = values.get("gamma", zeros + 1) / spread
    bias = (arrays.get("bias", zeros) - values["moving_mean"]) * scale + values.get("beta", zeros)
    weight = arrays["weight"] * scale[:, None, None, None, None]
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def _state(
    layers: Sequence[Mapping[str, Any]], arrays: Sequence[Mapping[str, np.ndarray]], path: Path
) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    channels = arrays[0]["weight"].shape[1]
    for number, (layer, weights) in enumerate(zip(layers, arrays, strict=True)):
        wanted = (layer["filters"], channels, *[layer["kernel"]] * 3)
        if weights["weight"].shape != wanted:
            raise InputError(
                f"{path} has a kernel of shape {list(weights['weight'].shape[::-1])} in convolution {number + 1}, "
                f"expected {list(wanted[::-1])}."
            )
        if weights.get("bias", np.empty(layer["filters"])).shape != (layer["filters"],):
            raise InputError(
                f"{path} has a bias of shape {list(weights['bias'].shape)} in convolution {number + 1}, expected "
                f"[{layer['filters']}]."
            )
        channels = layer["filters"]
        for name, array in weights.items():
            state[f"layers.{number}.conv.{name}"] = torch.from_numpy(np.ascontiguousarray(array))
    return state
