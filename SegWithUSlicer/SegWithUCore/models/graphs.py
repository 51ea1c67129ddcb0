"""The compiled graphs of a bundle: their block in its description, and the check of their XML before OpenVINO reads it.

A graph is OpenVINO's XML and constants. Weights are stored once: constants that are tensors of `weights.safetensors`
are read there, all others in `graph_constants.bin`. In the XML, places count from the begin of the weights file; the
other file follows it at the next multiple of `ALIGNMENT`. The XML may hold no entities, known operations alone, and
constants within their file. `graph_files` reads the files.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from ..util.errors import InputError

WINDOW_FILE, MAPS_FILE, CONSTANTS_FILE = "graph_window.xml", "graph_maps.xml", "graph_constants.bin"
CHECK_FILE = "graph_check.safetensors"
GRAPH_FILES = (WINDOW_FILE, MAPS_FILE, CONSTANTS_FILE, CHECK_FILE)
ALIGNMENT = 64


@dataclass(frozen=True)
class Graphs:
    """The block `graphs` of `bundle.json`.

    Attributes:
        head: name of the head that they compute.
        weights_sha256: of the weights file that they were made of and read constants from.
        window_bytes: activations a voxel of a window.
        files: SHA-256 of each of `GRAPH_FILES`.
        made_with: versions by package.
        largest_difference: from torch on the stored input, by name of the output.
    """

    head: str
    weights_sha256: str
    window_bytes: float
    files: Mapping[str, str]
    made_with: Mapping[str, str]
    largest_difference: Mapping[str, float]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Graphs":
        """Build from the block."""
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Make the block."""
        return asdict(self)

    @property
    def sha256(self) -> str:
        """One hash of all that decides what the graphs compute."""
        parts = [self.weights_sha256, *(self.files[name] for name in (WINDOW_FILE, MAPS_FILE, CONSTANTS_FILE))]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def others_start(weights_bytes: int) -> int:
    """Return where `graph_constants.bin` begins behind a weights file of that size."""
    return -(-weights_bytes // ALIGNMENT) * ALIGNMENT


MAPS = ("classes", "runner_up", "calibration", "ranking", "epistemic", "probabilities", "aleatoric")
"""In this order: (voxels,) each but the tempered probabilities, (classes, voxels). The last only if the head has a data
part."""


MAXIMUM_LAYERS = 20000
"""Of a graph: the shipped model's window has 230, nnU-Net's largest some 600."""
MAXIMUM_AXIS = 1 << 31
BYTES = {
    "f64": 8, "f32": 4, "f16": 2, "bf16": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u64": 8, "u32": 4, "u16": 2,
    "u8": 1, "boolean": 1,
}  # fmt: skip
"""Of a number of each kind that constants may hold."""
OPERATIONS = {
    "Abs", "Add", "AvgPool", "BatchNormInference", "Broadcast", "Clamp", "Concat", "Const", "Convert", "ConvertLike",
    "Convolution", "ConvolutionBackpropData", "Divide", "Einsum", "Elu", "Equal", "Erf", "Exp", "Floor", "FloorMod",
    "Gather", "GatherElements", "GatherND", "Gelu", "Greater", "GreaterEqual", "GroupConvolution",
    "GroupConvolutionBackpropData", "GroupNormalization", "HSigmoid", "HSwish", "HardSigmoid", "Interpolate", "Less",
    "LessEqual", "Log", "LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr", "MVN", "MatMul", "MaxPool", "Maximum",
    "Minimum", "Mish", "Mod", "Multiply", "Negative", "NormalizeL2", "NotEqual", "OneHot", "PReLU", "Pad",
    "Parameter", "Power", "Range", "ReLU", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "Reshape", "Result", "ScatterElementsUpdate", "ScatterNDUpdate", "ScatterUpdate", "Select", "Selu",
    "ShapeOf", "Sigmoid", "Sign", "Slice", "SoftMax", "SoftPlus", "Softmax", "Split", "Sqrt", "SquaredDifference",
    "Squeeze", "StridedSlice", "Subtract", "Swish", "Tanh", "Tile", "TopK", "Transpose", "Unsqueeze",
    "VariadicSplit",
}  # fmt: skip
"""What networks and heads are made of: arithmetic on arrays. No loops, states, files or operations of extensions."""
_RESTORE = "restore the model from its source"
_OPSET = re.compile(r"opset([1-9]|[12][0-9])")


def check_graph(document: bytes, constants_bytes: int, source: str) -> None:
    """Check the XML of a graph.

    Args:
        constants_bytes: length of what its constants are read from.
        source: names it in messages.

    Raises:
        InputError: entities or a document type, no XML, another element or operation than graphs of ours have, or a
            constant beyond its file.
    """
    for layer in layers_of(document, source):
        kind, opset = layer.get("type", ""), layer.get("version", "")
        if kind not in OPERATIONS or not _OPSET.fullmatch(opset):
            raise InputError(
                f"{source} has a layer of type '{kind[:40]}' ({opset[:40]}), which no graph of ours has: {_RESTORE}."
            )
        if kind == "Const":
            _check_constant(layer, constants_bytes, source)


def layers_of(document: bytes, source: str) -> Iterator[ElementTree.Element]:
    """Yield the layers of a graph.

    Raises:
        InputError: entities or a document type, which none of ours has; no XML; or not a graph.
    """
    if b"<!" in document or b"<?" in document.replace(b"<?xml", b"", 1):
        raise InputError(f"{source} has a document type, entity or instruction, as no graph of ours has: {_RESTORE}.")
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{source} is not XML ({error}): {_RESTORE}.") from error
    layers = root.find("layers")
    if root.tag != "net" or layers is None or {child.tag for child in root} - {"layers", "edges"}:
        raise InputError(f"{source} is not a graph of layers and edges alone: {_RESTORE}.")
    if len(layers) > MAXIMUM_LAYERS:
        raise InputError(f"{source} has {len(layers)} layers, more than {MAXIMUM_LAYERS}: {_RESTORE}.")
    for layer in layers:
        if layer.tag != "layer" or {child.tag for child in layer} - {"data", "input", "output", "rt_info"}:
            raise InputError(f"{source} has a layer of an unknown form ('{layer.tag[:40]}'): {_RESTORE}.")
        yield layer


def _check_constant(layer: ElementTree.Element, constants_bytes: int, source: str) -> None:
    data = layer.find("data")
    fields = {} if data is None else dict(data.attrib)
    try:
        shape = [int(axis) for axis in fields.get("shape", "").split(",") if axis.strip()]
        offset, size, width = int(fields["offset"]), int(fields["size"]), BYTES[fields["element_type"]]
    except (KeyError, ValueError):
        raise InputError(f"{source} has a constant without a readable place and kind: {_RESTORE}.") from None
    if any(not 0 <= axis < MAXIMUM_AXIS for axis in shape) or size != width * math.prod(shape):
        raise InputError(f"{source} has a constant of {size} bytes for the shape {shape[:8]}: {_RESTORE}.")
    if offset < 0 or offset + size > constants_bytes:
        raise InputError(
            f"{source} has a constant from byte {offset} to {offset + size}, but its constants end at "
            f"{constants_bytes}: {_RESTORE}."
        )
