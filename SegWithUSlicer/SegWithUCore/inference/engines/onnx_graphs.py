"""Make a bundle of an ONNX file and its specification: OpenVINO reads the file once, and graphs are kept, not ONNX.

So an imported network is checked, hashed and run as every other one that has compiled graphs; it needs no torch. Its
maps are those of the softmax: what the image says of errors is for the second stage.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ...models.bundle import (
    CONSTANTS_FILE,
    GRAPH_FILES,
    LICENCE_FILE,
    MAPS_FILE,
    WINDOW_FILE,
    Bundle,
    Graphs,
    bundle_from_json,
    file_sha256,
)
from ...models.bundle_files import verify_tensors
from ...models.graphs import BYTES, check_graph
from ...models.model_card import licence_notice, write_description
from ...network.specs import ONNX
from ...util.errors import NEEDS_PACKAGE, InputError, UsageError
from ...util.input_files import read_bounded
from ...util.paths import WEIGHTS_FILE
from ...util.strict_json import read_json_object, shown
from ...version import __version__
from .compiled_graphs import FEWEST_HALVES, GraphConstants, example_window
from .openvino_engine import OpenVINOEngine
from .openvino_import import OpenVINOImportError, import_openvino, openvino_version

UNUSABLE, WRONG_SPEC = "unusable-onnx", "wrong-spec"
MAXIMUM_BYTES = 1 << 30
"""Of an ONNX file: protobuf ends at twice of it, and nnU-Net's largest preset has half of it."""
BLOCKS = ("about", "input", "labels")
NOT_YET = ("calibration", "calibration_sha256", "ood_reference", "display", "metrics")
HEAD = "softmax"
REMEDY = "see docs/models/bring_your_network.md"
LOGITS, PROBABILITIES = "logits", "probabilities"
LEAST_PROBABILITY = 1e-7
"""Smaller ones count as this one in logarithms: float32 has none below one."""
SUM_TOLERANCE = 1e-3
"""Of probabilities, beside their floor: float16 has one of 5e-4."""
INLINE = "save it as one file (torch.onnx.export(..., external_data=False))"


@dataclass(frozen=True)
class OnnxSpec:
    """What an ONNX file does not say of itself, as its specification says it.

    Attributes:
        bundle: about, input and labels as in a recipe; without weights.
        output: "logits" or "probabilities".
        output_name: of the output that is meant, None for the only one.
    """

    bundle: Bundle
    output: str
    output_name: str | None = None


def read_spec(path: Path) -> OnnxSpec:
    """Read the specification of an ONNX file: blocks `about`, `input` and `labels` as in a recipe, and `output`.

    Raises:
        InputError: unreadable, or a block is missing, unknown or not as in a recipe.
    """
    data = read_json_object(path, REMEDY)
    data.pop("$schema", None)
    name, kind = data.pop("output_name", None), data.pop("output", None)
    if set(data) != set(BLOCKS) or not isinstance(name, str | None):
        what = f"{path} has the blocks {shown(sorted(data))}, not {', '.join(BLOCKS)}"
        raise InputError(f"{what}: {REMEDY}.", WRONG_SPEC)
    if kind not in (LOGITS, PROBABILITIES):
        raise InputError(f"{path} has {shown(kind)} at output, not {LOGITS} or {PROBABILITIES}: {REMEDY}.", WRONG_SPEC)
    head = {"name": HEAD, "default": True, "variant": HEAD, "taps": [ONNX], "feature_channels": 1, "probes": 0,
            "aleatoric": False}  # fmt: skip
    data |= {"format_version": 1, "backbone": {"kind": ONNX, "arguments": {"output": kind}, "size_divisor": 1},
             "heads": [head], "weights_sha256": "0" * 64, **dict.fromkeys(NOT_YET)}  # fmt: skip
    try:
        bundle = bundle_from_json(data, None, str(path), REMEDY)
    except InputError as error:
        raise InputError(str(error).removesuffix(f" [{error.code}]"), WRONG_SPEC) from error
    if bundle.input.precision != "float32":
        raise InputError(f"{path} has a precision other than float32, which graphs compute in: {REMEDY}.", WRONG_SPEC)
    return OnnxSpec(bundle, kind, name)


def write_onnx_bundle(source: Path, spec: Path, folder: Path) -> Bundle:
    """Make a bundle of an ONNX file in an existing empty folder; it is not calibrated.

    Raises:
        InputError: the file or its specification is unusable, or they do not fit each other.
        UsageError: OpenVINO is not here.
    """
    wanted, content = read_spec(spec), read_bounded(source, MAXIMUM_BYTES, "give a smaller network")
    try:
        openvino = import_openvino()
    except OpenVINOImportError as error:
        raise UsageError(f"OpenVINO reads ONNX files, but {error}: pip install openvino.", NEEDS_PACKAGE) from error
    window = _window_graph(openvino, content, wanted, source)
    serialised = {}
    for file, model in ((WINDOW_FILE, window), (MAPS_FILE, _maps_graph(openvino, len(wanted.bundle.labels)))):
        openvino.save_model(model, folder / file, compress_to_fp16=False)
        constants = (folder / file).with_suffix(".bin")
        serialised[file] = ((folder / file).read_bytes(), constants.read_bytes())
        constants.unlink()
    none = np.zeros(1, np.float32)  # a bundle has tensors of each part
    weights = {f"backbone.{number}": values for number, values in enumerate(_weights(window))}
    save_file({"backbone.none": none, f"heads.{HEAD}.none": none, **weights}, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)
    kept = GraphConstants(folder / WEIGHTS_FILE)
    documents = {file: kept.moved(*pair) for file, pair in serialised.items()}
    for file, document in documents.items():
        check_graph(document, kept.end, f"{source}, as OpenVINO reads it,", "export it without", UNUSABLE)
        (folder / file).write_bytes(document)
    (folder / CONSTANTS_FILE).write_bytes(kept.others)
    digest, files = file_sha256(folder / WEIGHTS_FILE), {name: file_sha256(folder / name) for name in GRAPH_FILES}
    versions = {"openvino": openvino_version(openvino), "segwithu-slicer": __version__}
    voxels = int(np.prod(wanted.bundle.input.window))
    graphs = Graphs(HEAD, digest, _live_bytes(window) / voxels, files, versions, largest_difference={})
    about = {**wanted.bundle.about, "origin": f"{source.name}, SHA-256 {file_sha256(source)}"}
    made = replace(wanted.bundle, about=about, folder=folder, weights_sha256=digest, graphs=graphs)
    verify_tensors(made)
    _check_output(made, wanted, source)
    (folder / LICENCE_FILE).write_text(licence_notice(about), encoding="utf-8")
    return write_description(made, folder, str(spec))


def _window_graph(openvino: ModuleType, content: bytes, wanted: OnnxSpec, source: Path) -> Any:
    """Read an ONNX network as a graph from one window (1, channels, z, y, x) to logits of all classes.

    Raises:
        InputError: OpenVINO cannot read it, or it does not fit its specification.
    """

    def check(fine: bool, what: str, remedy: str = "correct its specification or export it again") -> None:
        if not fine:
            raise InputError(f"{source} {what}: {remedy}.", UNUSABLE)

    ops, spec, classes = openvino.opset13, wanted.bundle.input, len(wanted.bundle.labels)
    try:
        external = _keeps_data_elsewhere(memoryview(content), "model")
    except (IndexError, RecursionError):
        external = None
    check(external is not None, "is not an ONNX file, or is truncated", "export it again")
    check(not external, "keeps its weights in another file", INLINE)
    try:
        model = openvino.Core().read_model(content, b"")
    except RuntimeError as error:
        check(False, f"is not a network that OpenVINO can read ({' '.join(str(error).split())[-300:]})", "export it again")
    check(len(model.inputs) == 1, f"has {len(model.inputs)} inputs, not one with all channels")
    image, names = model.inputs[0], [next(iter(port.get_names()), "") for port in model.outputs]
    found = names.index(wanted.output_name) if wanted.output_name in names else 0 if len(names) == 1 else None
    check(found is not None, f"has the outputs {', '.join(names)[:200]}", "name one of them at output_name")
    shape = [1, len(spec.channels), *spec.window_zyx]
    is_flat = image.partial_shape.rank.is_static and image.partial_shape.rank.get_length() == 4
    if is_flat:
        check(shape.pop(2) == 1, "takes slices", "give its specification a window of one slice, [x, y, 1]")
    takes = openvino.PartialShape(shape)
    check(image.partial_shape.compatible(takes), f"takes {image.partial_shape}, not {takes} (channels, window)")
    try:
        model.reshape({image: takes})
    except RuntimeError as error:
        check(False, f"does not take {takes} ({' '.join(str(error).split())[-200:]})")
    for op in model.get_ops():
        if op.get_type_name() == "MVN":
            _pool_norm(ops, op)
    output = model.outputs[found].get_node().input_value(0)
    gives, kind = output.get_partial_shape(), output.get_element_type().get_type_name()
    sizes = list(gives.to_shape()) if gives.is_static else []
    is_one = classes == 2 and sizes == [1, 1, *shape[2:]]
    check(is_one or sizes == [1, classes, *shape[2:]], f"gives {gives}, not one channel for each of {classes} labels")
    check(kind in ("f32", "f16"), f"gives {kind}, not {wanted.output}")
    given = ops.parameter([1, len(spec.channels), *spec.window_zyx], np.float32, "image")
    taken = ops.squeeze(given, ops.constant([2])) if is_flat else given
    if (kind := image.get_element_type().get_type_name()) != "f32":
        taken = ops.convert(taken, kind)
    for place in image.get_target_inputs():
        place.replace_source_output(taken.output(0))
    logits = ops.convert(output, "f32")
    if is_one:
        logits = _both_classes(ops, logits, wanted.output)
    elif wanted.output == PROBABILITIES:
        logits = ops.log(ops.maximum(logits, np.float32(LEAST_PROBABILITY)))
    logits = ops.unsqueeze(logits, ops.constant([2])) if is_flat else logits
    return openvino.Model([logits], [given], "window")


PARTS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "elsewhere"},
}
"""Of ONNX's messages: the fields that lead to a tensor's place in another file."""


def _keeps_data_elsewhere(message: memoryview, kind: str) -> bool:
    """Whether a tensor of an ONNX file names another file, which OpenVINO would open wherever it lies.

    Raises:
        IndexError, RecursionError: it is no protobuf.
    """
    place = 0

    def number() -> int:
        nonlocal place
        found = shift = 0
        while True:
            found |= (message[place] & 127) << shift
            place, shift = place + 1, shift + 7
            if message[place - 1] < 128:
                return found

    while place < len(message):
        field, wire = divmod(number(), 8)
        size = {0: 0, 1: 8, 5: 4}.get(wire)
        if wire == 0:
            number()
        elif size is None:
            size = number() if wire == 2 else len(message) + 1
        if place + (size or 0) > len(message):
            raise IndexError("truncated")
        part = PARTS[kind].get(field) if wire == 2 else None
        if part == "elsewhere" or (part and _keeps_data_elsewhere(message[place : place + (size or 0)], part)):
            return True
        place += size or 0
    return False


def _pool_norm(ops: Any, norm: Any) -> None:
    """Replace a norm over whole channels by one that pools, as `PooledInstanceNorm` does and for its reason."""
    features, axes = norm.input_value(0), norm.input_value(1).get_node()
    spatial = list(features.get_shape())[2:]
    rank, attributes = len(spatial) + 2, norm.get_attributes()
    is_whole = axes.get_type_name() == "Constant" and sorted(np.mod(axes.data.ravel(), rank)) == list(range(2, rank))
    if not is_whole or not spatial or not attributes["normalize_variance"]:
        return
    kernels = ([1, *spatial[1:]], [spatial[0], *(1 for _ in spatial[1:])])

    def mean(values: Any) -> Any:
        for kernel in kernels:
            none = [0] * len(kernel)
            values = ops.avg_pool(values, [1] * len(kernel), none, none, kernel, True)
        return values

    centred = ops.subtract(features, mean(features))
    variance = mean(ops.multiply(centred, centred))
    epsilon, is_inside = np.float32(attributes["eps"]), str(attributes["eps_mode"]).lower().startswith("inside")
    root = ops.sqrt(ops.add(variance, epsilon)) if is_inside else ops.add(ops.sqrt(variance), epsilon)
    pooled = ops.divide(centred, root)
    for place in norm.output(0).get_target_inputs():
        place.replace_source_output(pooled.output(0))


def _both_classes(ops: Any, single: Any, output: str) -> Any:
    """Give the background a channel beside that of the only structure, so that the softmax is its sigmoid."""
    if output == PROBABILITIES:
        floor = np.float32(LEAST_PROBABILITY)
        inside, outside = (ops.log(ops.maximum(each, floor)) for each in (single, ops.subtract(np.float32(1), single)))
        return ops.concat([outside, inside], 1)
    return ops.concat([ops.multiply(single, np.float32(0)), single], 1)


def _maps_graph(openvino: ModuleType, classes: int) -> Any:
    """Make the graph of `models.graphs.MAPS` of logits: the ranking map is the log-odds of an error by the softmax.

    As `error_log_odds` computes them: nothing cancels where a probability rounds to 1.
    """
    ops, axis = openvino.opset13, openvino.opset13.constant([0])
    chunk, scale = ops.parameter([classes, -1], np.float32, "chunk"), ops.parameter([1], np.float32, "scale")
    top = ops.topk(chunk, np.int32(2), 0, "max", "value")
    (best, second), (first, runner_up) = (ops.split(top.output(place), np.int32(0), 2).outputs() for place in (0, 1))
    others = ops.reduce_sum(ops.exp(ops.minimum(ops.subtract(chunk, second), np.float32(0))), axis)
    odds = ops.subtract(ops.log(ops.subtract(others, np.float32(1))), ops.squeeze(ops.subtract(best, second), axis))
    nothing = ops.multiply(odds, np.float32(0))
    indices = [ops.convert(ops.squeeze(each, axis), "u8") for each in (first, runner_up)]
    tempered = ops.softmax(ops.divide(chunk, scale), 0)
    return openvino.Model([*indices, nothing, odds, ops.sigmoid(odds), tempered], [chunk, scale], "maps")


def _weights(graph: Any) -> Iterator[np.ndarray]:
    """Yield the large constants of a graph once each, which the weights file holds."""
    for op in graph.get_ops():
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() in ("f16", "f32"):
            values = np.array(op.data)
            if values.size > FEWEST_HALVES:
                yield values


def _live_bytes(graph: Any) -> int:
    """Return the most bytes of activations that are alive at once while a graph runs operation by operation."""
    ops = [op for op in graph.get_ordered_ops() if op.get_type_name() not in ("Constant", "Result")]
    last = {value.get_node().get_name(): number for number, op in enumerate(ops) for value in op.input_values()}
    alive, most = dict[str, int](), 0
    for number, op in enumerate(ops):
        alive[op.get_name()] = sum(
            int(np.prod(port.get_shape())) * BYTES.get(port.get_element_type().get_type_name(), 4)
            for port in op.outputs()
        )
        most = max(most, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, number) > number}
    return most


def _check_output(bundle: Bundle, wanted: OnnxSpec, source: Path) -> None:
    """Run one window: refuse what is not finite, or is no logits or probabilities although the specification says so."""
    (logits,) = OpenVINOEngine(bundle).window(example_window(len(bundle.input.channels), bundle.input.window_zyx))
    total = np.exp(np.minimum(logits, 50.0)).sum(0) if wanted.output == PROBABILITIES else logits.sum(0)
    is_one = bool(np.abs(total - 1).max() < SUM_TOLERANCE)
    if wanted.output == PROBABILITIES and not is_one:
        raise InputError(f"{source} gives values that do not sum to 1, not probabilities: set output to logits.", UNUSABLE)
    if wanted.output == LOGITS and is_one and logits.min() >= 0:
        raise InputError(f"{source} gives probabilities, not logits: set output to probabilities.", UNUSABLE)
