r"""Convert a MeshNet of brainchop (TensorFlow.js) to weights and a recipe for `segwithu import-checkpoint`.

    python examples/brainchop/convert.py model5_gw_ae/model.json \
        --recipe examples/brainchop/recipes/meshnet_tissue_light.json --output converted

See README.md beside this file. Needs an installed `segwithu`; TensorFlow is not needed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tfjs_weights import TfjsLayer, read_tfjs_layers

from SegWithUCore.models.bundle import file_sha256
from SegWithUCore.network.backbones.meshnet import ACTIVATIONS
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.strict_json import to_json
from SegWithULab.training.recipe import read_recipe_json

WEIGHTS_FILE, RECIPE_FILE = "weights.safetensors", "recipe.json"
_NOTHING_WHEN_PREDICTING = {"InputLayer", "Dropout", "SpatialDropout3D"}
_NORMALISED_SUFFIX = "_gn"
"""brainchop has no layer for it: a convolution of such a name is followed by InstanceNorm without weights."""


def convert(model: Path, recipe: Path, target: Path) -> tuple[Path, Path]:
    """Write weights and recipe for `segwithu import-checkpoint --kind weights`.

    Args:
        model: `model.json`, with its `.bin` files beside it.
        recipe: says what no weights file does: labels, channels, spacing, licence. Its backbone gets the arguments.
        target: folder to write into; made if it does not exist.

    Returns:
        The files of weights and recipe.

    Raises:
        InputError: a file is missing or damaged, or the model is no MeshNet.
    """
    blocks = read_recipe_json(recipe)
    kind = str(blocks.get("backbone", {}).get("kind", "meshnet"))[:60]
    if kind != "meshnet":
        raise InputError(f"{model} holds a meshnet, but the recipe's backbone is a {kind}: correct the recipe.")
    arguments, state = read_tfjs_meshnet(model)
    source = f"{model.resolve().parent.name}/{model.name} of TensorFlow.js, SHA-256 {file_sha256(model)}"
    about = {"about": {**blocks["about"], "converted_from": source}} if "about" in blocks else {}
    target.mkdir(parents=True, exist_ok=True)
    weights, completed = target / WEIGHTS_FILE, target / RECIPE_FILE
    save_file(state, weights)
    backbone = {"kind": "meshnet", "arguments": arguments}
    completed.write_text(to_json({**blocks, **about, "backbone": backbone}) + "\n", encoding="utf-8")
    return weights, completed


def read_tfjs_meshnet(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a MeshNet that TensorFlow.js saved.

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
    """Tell whether nothing follows the convolution yet."""
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
    """Turn the kernel (x, y, z, in, out) to (out, in, z, y, x); the bias comes along if there is one."""
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
    """Fold a batch normalisation into the convolution before it."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert what the command line names and print the next command."""
    parser = argparse.ArgumentParser(description="Convert a MeshNet of brainchop for segwithu import-checkpoint.")
    parser.add_argument("model", type=Path, help="model.json, with its .bin files beside it")
    parser.add_argument("--recipe", type=Path, required=True, help="recipe (JSON), see recipes/ beside this file")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    options = parser.parse_args(arguments)
    try:
        weights, recipe = convert(options.model, options.recipe, options.output)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"segwithu import-checkpoint {weights} --kind weights --recipe {recipe} --output MODEL")
    return 0


if __name__ == "__main__":
    sys.exit(main())
