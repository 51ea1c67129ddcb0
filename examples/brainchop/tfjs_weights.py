"""Read networks that TensorFlow.js saved: the layers of a `model.json` and their weights out of its `.bin` files.

Only JSON and numpy: TensorFlow is not needed, and nothing in the files is run.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.input_files import is_there, read_bounded, regular_file
from SegWithUCore.util.strict_json import check_schema, read_json, schema

GIVE_MODEL = "give the model.json of a TensorFlow.js layers model, with its .bin files beside it"
MAXIMUM_JSON_BYTES = 8 << 20
"""Of `model.json`: brainchop's have 20 kB."""
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
    """Read the layers of a TensorFlow.js layers model, from input to output.

    Args:
        path: `model.json`; its `.bin` files lie beside it.

    Raises:
        InputError: a file is missing, cut short or of another format; weights of an unknown type; or layers that
            branch, which a chain cannot say.
    """
    if not is_there(path):
        raise InputError(f"{path} does not exist: {GIVE_MODEL}.")
    data = read_json(path, GIVE_MODEL, MAXIMUM_JSON_BYTES)
    wanted = schema(Path(__file__).with_name("tfjs_model.schema.json"))
    check_schema(data, wanted, str(path), GIVE_MODEL, "a TensorFlow.js layers model")
    layers = data["modelTopology"]["model_config"]["config"]["layers"]
    chain = [(layer["class_name"], _name(layer, path), layer["config"], _inputs(layer)) for layer in layers]
    _check_chain(chain, path)
    weights = dict(_weights(data["weightsManifest"], path))
    found = [
        TfjsLayer(kind, name, settings, {key.removeprefix(f"{name}/"): weights.pop(key) for key in _own(weights, name)})
        for kind, name, settings, _ in chain
    ]
    if weights:
        raise InputError(f"{path} has weights of no layer: {', '.join(sorted(weights))}.")
    return found


def _name(layer: Mapping[str, Any], path: Path) -> str:
    name = layer.get("name") or layer["config"].get("name")
    if name is None:
        raise InputError(f"{path} has a layer without a name ({layer['class_name']}): {GIVE_MODEL}.")
    return str(name)


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


def _weights(manifest: Sequence[Mapping[str, Any]], path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor of the manifest by its name."""
    for group in manifest:
        entries = group["weights"]
        sizes = [_item_size(entry, path) * math.prod(entry["shape"]) for entry in entries]
        content, start = _bytes(group["paths"], sum(sizes), path), 0
        for entry, size in zip(entries, sizes, strict=True):
            array = _array(content[start : start + size], entry)
            if not np.isfinite(array).all():
                raise InputError(
                    f"{path} has NaN or infinite values in the weight '{entry['name']}': get the model again from its "
                    "source."
                )
            yield str(entry["name"]), array
            start += size


def _bytes(names: Sequence[str], wanted: int, path: Path) -> memoryview:
    """Read the files of a group, one after the other; their sizes are compared before any is read."""
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise InputError(f"{path} names the weights file {name!r}: it must lie beside {path.name}.")
    files = [path.parent / name for name in names]
    for file in files:
        if not is_there(file):
            raise InputError(f"{file} does not exist: put it beside {path.name}.")
    _check_length(sum(regular_file(file, f"put it beside {path.name}").st_size for file in files), wanted, path)
    content = b"".join(read_bounded(file, wanted, f"put it beside {path.name}") for file in files)
    _check_length(len(content), wanted, path)
    return memoryview(content)


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


def _check_length(found: int, wanted: int, path: Path) -> None:
    if found != wanted:
        reason = "its end is missing" if found < wanted else "they do not belong together"
        raise InputError(
            f"The weights beside {path} have {found} bytes, but it describes {wanted}: {reason}; "
            "download the model again."
        )


def _array(content: memoryview, entry: Mapping[str, Any]) -> np.ndarray:
    """One tensor as float32; quantised values become value * scale + min."""
    quantised = entry.get("quantization") or {}
    stored = _QUANTISED[quantised["dtype"]] if quantised else _FLOATS[entry["dtype"]]
    values = np.frombuffer(content, stored).reshape(entry["shape"]).astype(np.float64)
    if "scale" in quantised:
        values = values * quantised["scale"] + quantised.get("min", 0.0)
    return values.astype(np.float32)
