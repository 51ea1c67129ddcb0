"""Make a bundle of an ONNX file and its specification: OpenVINO reads the file once, and graphs are kept, not ONNX.

So an imported network is checked, hashed and run as every other one that has compiled graphs; it needs no torch. Its
maps are those of the softmax: what the image says of errors is for the second stage.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from safetensors.numpy import save_file

from ...models.bundle import LICENCE_FILE, MAPS_FILE, WINDOW_FILE, Bundle, Graphs, bundle_from_json, file_sha256
from ...models.bundle_files import verify_tensors
from ...models.graphs import BYTES
from ...models.model_card import licence_notice, write_description
from ...network.specs import ONNX
from ...util.errors import NEEDS_PACKAGE, InputError, UsageError
from ...util.input_files import read_bounded
from ...util.paths import WEIGHTS_FILE
from ...util.strict_json import read_json_object, shown
from ...version import __version__
from .compiled_graphs import FEWEST_HALVES, example_window, serialise, write_graphs
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


def read_spec(path: Path) -> Bundle:
    """Read the specification of an ONNX file: blocks `about`, `input` and `labels` as in a recipe, and `output`.

    Returns:
        The description without weights; the arguments of its backbone are `output` and `output_name`.

    Raises:
        InputError: unreadable, or a block is missing, unknown or not as in a recipe.
    """

    def refuse(what: str) -> NoReturn:
        raise InputError(f"{what}: {REMEDY}.", WRONG_SPEC)

    data = read_json_object(path, REMEDY)
    arguments = {"output": data.pop("output", None), "output_name": data.pop("output_name", None)}
    if set(data) != set(BLOCKS) or not isinstance(arguments["output_name"], str | None):
        refuse(f"{path} has the blocks {shown(sorted(data))}, not {', '.join(BLOCKS)} and output")
    if arguments["output"] not in (LOGITS, PROBABILITIES):
        refuse(f"{path} has {shown(arguments['output'])} at output, not {LOGITS} or {PROBABILITIES}")
    head = {"name": HEAD, "default": True, "variant": HEAD, "taps": [ONNX], "feature_channels": 1, "probes": 0}
    data |= {"format_version": 1, "backbone": {"kind": ONNX, "arguments": arguments, "size_divisor": 1}}
    data |= {"heads": [{**head, "aleatoric": False}], "weights_sha256": "0" * 64, **dict.fromkeys(NOT_YET)}
    try:
        bundle = bundle_from_json(data, None, str(path), REMEDY)
    except InputError as error:
        raise InputError(str(error).removesuffix(f" [{error.code}]"), WRONG_SPEC) from error
    if bundle.input.precision != "float32":
        refuse(f"{path} has a precision other than float32, which graphs compute in")
    return bundle


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
    try:
        window = _window_graph(openvino, content, wanted, source)
        models = {WINDOW_FILE: window, MAPS_FILE: _maps_graph(openvino, len(wanted.labels))}
        serialised = {name: serialise(openvino, model, folder / name) for name, model in models.items()}
    except (IndexError, RuntimeError, UnicodeDecodeError) as error:  # no protobuf, or what OpenVINO says
        words = " ".join(str(error).split())[-300:].removesuffix(".")
        raise InputError(f"{source} is not an ONNX network that OpenVINO can run ({words}).", UNUSABLE) from error
    weights = {f"backbone.{number}": values for number, values in enumerate(_weights(window))}
    none = np.zeros(1, np.float32)  # a bundle has tensors of each part
    save_file({"backbone.none": none, f"heads.{HEAD}.none": none, **weights}, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)
    refusal = (f"{source}, as OpenVINO reads it,", "export it without", UNUSABLE)
    files, digest = write_graphs(folder, serialised, *refusal), file_sha256(folder / WEIGHTS_FILE)
    versions = {"openvino": openvino_version(openvino), "segwithu-slicer": __version__}
    live = _live_bytes(window) / int(np.prod(wanted.input.window))
    about = {**wanted.about, "origin": f"{source.name}, SHA-256 {hashlib.sha256(content).hexdigest()}"}
    graphs = Graphs(HEAD, digest, live, files, versions, largest_difference={})
    made = replace(wanted, about=about, folder=folder, weights_sha256=digest, graphs=graphs)
    verify_tensors(made)
    _check_output(made, source)
    (folder / LICENCE_FILE).write_text(licence_notice(about), encoding="utf-8")
    return write_description(made, folder, str(spec))


def _check(fine: bool, source: Path, what: str, remedy: str = "correct its specification or export it again") -> None:
    if not fine:
        raise InputError(f"{source} {what}: {remedy}.", UNUSABLE)


def _window_graph(openvino: ModuleType, content: bytes, wanted: Bundle, source: Path) -> Any:
    """Read an ONNX network as a graph from one window (1, channels, z, y, x) to logits of all classes.

    Raises:
        InputError: it does not fit its specification, or has parts in other files.
        IndexError, RuntimeError, UnicodeDecodeError: OpenVINO cannot read it.
    """
    is_split = _keeps_data_elsewhere(memoryview(content), "model")
    _check(not is_split, source, "keeps its weights in another file", INLINE)
    model, arguments, classes = openvino.Core().read_model(content, b""), wanted.backbone.arguments, len(wanted.labels)
    _check(len(model.inputs) == 1, source, f"has {len(model.inputs)} inputs, not one with all channels")
    image, names = model.inputs[0], [next(iter(port.get_names()), "") for port in model.outputs]
    name, listed = arguments["output_name"], ", ".join(names)[:200]
    _check(name in names or [name, len(names)] == [None, 1], source, f"has the outputs {listed}", "see output_name")
    shape = [1, len(wanted.input.channels), *wanted.input.window_zyx]
    is_flat = image.partial_shape.rank.is_static and image.partial_shape.rank.get_length() == 4
    if is_flat:
        _check(shape.pop(2) == 1, source, "takes slices", "give its specification a window of one slice, [x, y, 1]")
    takes = openvino.PartialShape(shape)
    _check(
        image.partial_shape.compatible(takes), source, f"takes {image.partial_shape}, not {takes} (channels, window)"
    )
    model.reshape({image: takes})
    ops = openvino.opset13
    _rewrite(ops, model)
    output = model.outputs[names.index(name) if name else 0].get_node().input_value(0)
    gives, kind = output.get_partial_shape(), output.get_element_type().get_type_name()
    sizes = list(gives.to_shape()) if gives.is_static else []
    is_one = classes == 2 and sizes == [1, 1, *shape[2:]]
    fits = is_one or sizes == [1, classes, *shape[2:]]
    _check(fits, source, f"gives {gives}, not one channel for each of {classes} labels")
    _check(kind in ("f32", "f16"), source, f"gives {kind}, not {arguments['output']}")
    given = ops.parameter([*shape[:2], *wanted.input.window_zyx], np.float32, "image")
    slices = ops.constant([2])
    taken = ops.convert(ops.squeeze(given, slices) if is_flat else given, image.get_element_type().get_type_name())
    _replace(image, taken.output(0))
    logits = _logits(ops, ops.convert(output, "f32"), arguments["output"], is_one)
    return openvino.Model([ops.unsqueeze(logits, slices) if is_flat else logits], [given], "window")


def _logits(ops: Any, values: Any, output: str, is_one: bool) -> Any:
    """Make logits of all classes of what a network gives, also of the only structure's channel, by its sigmoid."""
    if output == PROBABILITIES:
        shares = ops.concat([ops.subtract(np.float32(1), values), values], 1) if is_one else values
        return ops.log(ops.maximum(shares, np.float32(LEAST_PROBABILITY)))
    return ops.concat([ops.multiply(values, np.float32(0)), values], 1) if is_one else values


def _rewrite(ops: Any, model: Any) -> None:
    """Leave out what only new versions of OpenVINO know, and replace norms that lose accuracy."""
    for op in model.get_ops():
        if op.get_type_name() == "MVN":
            _pool_norm(ops, op)
        elif op.get_type_name() == "Identity":
            _replace(op.output(0), op.input_value(0))


PARTS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
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
        value = number() if wire in (0, 2) else 0
        end = place + {0: 0, 1: 8, 2: value, 5: 4}.get(wire, len(message) + 1)
        if end > len(message):
            raise IndexError("the file is truncated or something else")
        part = PARTS[kind].get(field) if wire == 2 else None
        if part == "elsewhere" or (part and _keeps_data_elsewhere(message[place:end], part)):
            return True
        place = end
    return False


def _pool_norm(ops: Any, norm: Any) -> None:
    """Replace a norm over whole channels by one that pools, as `PooledInstanceNorm` does and for its reason."""
    features, axes = norm.input_value(0), norm.input_value(1).get_node()
    spatial = list(features.get_shape())[2:]
    rank, attributes = len(spatial) + 2, norm.get_attributes()
    is_whole = axes.get_type_name() == "Constant" and sorted(np.mod(axes.data.ravel(), rank)) == list(range(2, rank))
    if not is_whole or len(spatial) < 2 or not attributes["normalize_variance"]:
        return
    ones, none = [1] * len(spatial), [0] * len(spatial)

    def mean(values: Any) -> Any:
        within = ops.avg_pool(values, ones, none, none, [1, *spatial[1:]], True)
        return ops.avg_pool(within, ones, none, none, [spatial[0], *ones[1:]], True)

    centred = ops.subtract(features, mean(features))
    variance = mean(ops.multiply(centred, centred))
    epsilon, is_inside = np.float32(attributes["eps"]), str(attributes["eps_mode"]).lower().startswith("inside")
    root = ops.sqrt(ops.add(variance, epsilon)) if is_inside else ops.add(ops.sqrt(variance), epsilon)
    _replace(norm.output(0), ops.divide(centred, root).output(0))


def _replace(value: Any, other: Any) -> None:
    """Let what reads one value of a graph read another one."""
    for place in value.get_target_inputs():
        place.replace_source_output(other)


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


def _check_output(bundle: Bundle, source: Path) -> None:
    """Run one window; refuse what is not finite, or neither logits nor probabilities although so specified."""
    (logits,) = OpenVINOEngine(bundle).window(example_window(len(bundle.input.channels), bundle.input.window_zyx))
    output, total = bundle.backbone.arguments["output"], np.exp(np.minimum(logits, 9)).sum(0)
    if output == PROBABILITIES and np.abs(total - 1).max() > SUM_TOLERANCE:
        raise InputError(f"{source} gives values that do not sum to 1, not probabilities: see output.", UNUSABLE)
    if output == LOGITS and logits.min() >= 0 and logits.max() <= 1:
        raise InputError(f"{source} gives values from 0 to 1, probabilities, not logits: see output.", UNUSABLE)
