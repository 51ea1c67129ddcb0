"""TensorFlow.js layers models: written for tests, and evaluated in plain numpy, apart from the program's own reader."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import erf

ACTIVATIONS: dict[str, Any] = {
    "linear": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "elu": lambda v: np.where(v > 0, v, np.expm1(np.minimum(v, 0))),
    "gelu": lambda v: 0.5 * v * (1 + erf(v / math.sqrt(2))),
}


def evaluated(folder: Path, image: np.ndarray) -> np.ndarray:
    """The output (x, y, z, classes) of the model in `folder` for an image (x, y, z), in float64.

    Layers ending in "_gn" are followed by a z-score of each channel, as brainchop's program does.
    """
    data = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    group = data["weightsManifest"][0]
    stored, start, weights = np.fromfile(folder / group["paths"][0], "<f4"), 0, {}
    for entry in group["weights"]:
        size = math.prod(entry["shape"])
        weights[entry["name"]] = stored[start : start + size].reshape(entry["shape"]).astype(np.float64)
        start += size
    values = image[..., None].astype(np.float64)
    for layer in data["modelTopology"]["model_config"]["config"]["layers"]:
        name, settings = layer["config"]["name"], layer["config"]
        if layer["class_name"] == "Conv3D":
            values = convolved(values, weights[f"{name}/kernel"], settings["dilation_rate"][0])
            values = values + weights.get(f"{name}/bias", 0.0)
            values = ACTIVATIONS[settings["activation"]](values)
            if name.endswith("_gn"):
                mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
                values = (values - mean) / np.sqrt(variance + 1e-5)
        elif layer["class_name"] == "BatchNormalization":
            own = {key: weights[f"{name}/{key}"] for key in ("gamma", "beta", "moving_mean", "moving_variance")}
            spread = np.sqrt(own["moving_variance"] + settings["epsilon"])
            values = (values - own["moving_mean"]) / spread * own["gamma"] + own["beta"]
        elif layer["class_name"] == "Activation":
            values = ACTIVATIONS[settings["activation"]](values)
    return values


def convolved(values: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """Padding "same", stride 1: a sum over the kernel's places of shifted copies."""
    width = kernel.shape[0]
    reach = dilation * (width // 2)
    padded = np.pad(values, [(reach, reach)] * 3 + [(0, 0)])
    result = np.zeros((*values.shape[:3], kernel.shape[-1]))
    for place in np.ndindex(width, width, width):
        cut = [slice(i * dilation, i * dilation + size) for i, size in zip(place, values.shape[:3], strict=True)]
        result += padded[tuple(cut)] @ kernel[place]
    return result


def layer(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    """One layer as Keras describes it, without its inputs."""
    return {"class_name": kind, "name": name, "config": {"name": name, **settings}}


def convolution(name: str, filters: int, kernel: int = 3, dilation: int = 1, **changes: Any) -> dict[str, Any]:
    """A Conv3D layer."""
    settings = {"filters": filters, "kernel_size": [kernel] * 3, "strides": [1, 1, 1], "padding": "same"}
    settings |= {"dilation_rate": [dilation] * 3, "activation": "linear", "use_bias": True, **changes}
    return layer("Conv3D", name, **settings)


def write_model(folder: Path, layers: Sequence[dict[str, Any]], weights: dict[str, np.ndarray]) -> Path:
    """Write `model.json` and `weights.bin` of a chain of layers; returns the path of `model.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, previous = [], None
    for entry in [layer("InputLayer", "input"), *layers]:
        chain.append({**entry, "inbound_nodes": [[[previous, 0, 0, {}]]] if previous else []})
        previous = entry["name"]
    entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights.items()]
    data = {
        "format": "layers-model",
        "modelTopology": {"model_config": {"class_name": "Functional", "config": {"layers": chain}}},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": entries}],
    }
    (folder / "weights.bin").write_bytes(b"".join(array.astype("<f4").tobytes() for array in weights.values()))
    path = folder / "model.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path
