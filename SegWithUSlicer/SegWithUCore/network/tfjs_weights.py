"""Networks that TensorFlow.js saved: the layers of a `model.json` and their weights out of its `.bin` files.

Only JSON and numpy: TensorFlow is not needed, and nothing in the files is run.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

_FLOATS = {"float32": "<f4", "float16": "<f2"}
_QUANTISED = {"uint8": "<u1", "uint16": "<u2", "float16": "<f2"}


@dataclass(frozen=True)
class TfjsLayer:
    """One layer of the chain.

    Attributes:
        kind: Keras' class name ("Conv3D").
        name: of the layer.
        settings: Keras' `config`.
        weights: float32 arrays by their name without the layer's ("kernel", "bias").
    """

    kind: str
    name: str
    settings: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]


def read_tfjs_layers(path: Path) -> list[TfjsLayer]:
    """The layers of a TensorFlow.js layers model from input to output.

    Args:
        path: `model.json`; its `.bin` files lie beside it.

    Raises:
        InputError: a file is missing, cut short or of another format; weights of an unknown type; or layers that
            branch, which a chain cannot say.
    """
    data = _json(path)
    try:
        layers = data["modelTopology"]["model_config"]["config"]["layers"]
        manifest = data["weightsManifest"]
        chain = [(layer["class_name"], _name(layer), dict(layer["config"]), _inputs(layer)) for layer in layers]
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path} is not a TensorFlow.js layers model: it lacks {error}; give the model.json of such a model."
        ) from error
    _check_chain(chain, path)
    weights = dict(_weights(manifest, path))
    found = [
        TfjsLayer(kind, name, settings, {key.removeprefix(f"{name}/"): weights.pop(key) for key in _own(weights, name)})
        for kind, name, settings, _ in chain
    ]
    if weights:
        raise InputError(f"{path} has weights of no layer: {', '.join(sorted(weights))}.")
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give the model.json of a TensorFlow.js model."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}): give the model.json of a TensorFlow.js model."
        ) from error


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer["name"] if "name" in layer else layer["config"]["name"])


def _inputs(layer: Mapping[str, Any]) -> list[str] | None:
    """Names of the layers that feed this one; None in a sequential model, which does not say."""
    nodes = layer.get("inbound_nodes")
    return None if nodes is None else [str(entry[0]) for node in nodes for entry in node]


def _check_chain(chain: Sequence[tuple[str, str, Mapping[str, Any], list[str] | None]], path: Path) -> None:
    previous: list[str] = []
    for _, name, _, inputs in chain:
        if inputs is not None and inputs != previous:
            raise InputError(
                f"{path} is no chain: the layer '{name}' is fed by {' and '.join(inputs) or 'nothing'}; "
                "only networks whose layers follow one another can be imported."
            )
        previous = [name]


def _own(weights: Mapping[str, np.ndarray], name: str) -> list[str]:
    return [key for key in weights if key.startswith(f"{name}/")]


def _weights(manifest: Any, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the manifest by its name."""
    try:
        groups = [(_bytes(group["paths"], path), list(group["weights"])) for group in manifest]
        for content, entries in groups:
            sizes = [_item_size(entry, path) * math.prod(entry["shape"]) for entry in entries]
            _check_length(content, sum(sizes), path)
            start = 0
            for entry, size in zip(entries, sizes, strict=True):
                yield str(entry["name"]), _array(content[start : start + size], entry)
                start += size
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} has a damaged list of weights ({error}): download the model again.") from error


def _bytes(names: Sequence[str], path: Path) -> bytes:
    content = b""
    for name in names:
        if Path(name).name != name:
            raise InputError(f"{path} names the weights file '{name}': it must lie beside {path.name}.")
        try:
            content += (path.parent / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{path.parent / name} cannot be read ({error.strerror}): put it beside {path.name}."
            ) from error
    return content


def _stored_type(entry: Mapping[str, Any], path: Path) -> str:
    quantised = entry.get("quantization")
    known, stored = (_QUANTISED, quantised["dtype"]) if quantised else (_FLOATS, entry["dtype"])
    if stored not in known:
        raise InputError(
            f"{path} stores the weight '{entry['name']}' as {stored}: this version reads {', '.join(sorted(known))}; "
            "convert the model without quantisation."
        )
    return known[stored]


def _item_size(entry: Mapping[str, Any], path: Path) -> int:
    return np.dtype(_stored_type(entry, path)).itemsize


def _check_length(content: bytes, wanted: int, path: Path) -> None:
    if len(content) != wanted:
        reason = "its end is missing" if len(content) < wanted else "they do not belong together"
        raise InputError(
            f"The weights beside {path} have {len(content)} bytes, but it describes {wanted}: {reason}; "
            "download the model again."
        )


def _array(content: bytes, entry: Mapping[str, Any]) -> np.ndarray:
    """One tensor as float32; quantised values become value * scale + min."""
    quantised = entry.get("quantization") or {}
    stored = _QUANTISED[quantised["dtype"]] if quantised else _FLOATS[entry["dtype"]]
    values = np.frombuffer(content, stored).reshape(entry["shape"]).astype(np.float64)
    if "scale" in quantised:
        values = values * quantised["scale"] + quantised.get("min", 0.0)
    return values.astype(np.float32)
