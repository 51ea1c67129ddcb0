"""The compiled graphs of a bundle, each file checked before OpenVINO reads it; no torch and no OpenVINO here.

A graph is OpenVINO's XML and constants. Weights are stored once: constants that are tensors of `weights.safetensors`
are read there, all others in `graph_constants.bin`. In the XML, places count from the begin of the weights file; the
other file follows it at the next multiple of `ALIGNMENT`. The XML may hold no entities, known operations alone, and
constants within their file.
"""

import math
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from ..util.errors import InputError
from .bundle import CONSTANTS_FILE, MAPS_FILE, WEIGHTS_FILE, WINDOW_FILE, Bundle, read_hashed

ALIGNMENT = 64
COMPILE = "make graphs with `segwithu models compile`"
MAXIMUM_BYTES = {WINDOW_FILE: 16 << 20, MAPS_FILE: 16 << 20, CONSTANTS_FILE: 1 << 30}
"""Of each file; the shipped model's have 0.15, 0.1 and 0.003 MB."""
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
_OPSET = re.compile(r"opset([1-9]|[12][0-9])")


@dataclass(frozen=True)
class GraphContent:
    """The graphs of a bundle as they were read and checked.

    Attributes:
        window, maps: XML.
        constants: of both, uint8.
    """

    window: bytes
    maps: bytes
    constants: np.ndarray


def graphs_lacking(bundle: Bundle) -> str | None:
    """Say why no graphs of a bundle can be used, as a clause; None if they can. Files are not read."""
    graphs = bundle.graphs
    if graphs is None:
        return f"the model '{bundle.name}' has no compiled graphs"
    if graphs.head != bundle.default_head.name:
        return f"the graphs of '{bundle.name}' are of its head '{graphs.head}', not of '{bundle.default_head.name}'"
    if graphs.weights_sha256 != bundle.weights_sha256:
        return f"the graphs of '{bundle.name}' are of other weights"
    if bundle.input.precision != "float32":
        return f"the model '{bundle.name}' was measured in {bundle.input.precision}, and its graphs are float32"
    return None


def only_graphs(bundle: Bundle) -> str:
    """Say that a bundle has no torch modules, as a clause."""
    return f"The network of '{bundle.name}' is not one of torch's ({bundle.backbone.kind})"


def read_graphs(bundle: Bundle) -> GraphContent:
    """Read the graphs of a bundle and its weights, each held against its hash, and check the XML.

    What was checked is what is returned: nothing is read twice.

    Raises:
        InputError: a file is missing, too large, damaged or changed, or an XML holds what no graph of ours does.
    """
    graphs, folder = bundle.graphs, bundle.folder
    if graphs is None or folder is None:
        raise InputError(f"The bundle {bundle.name} has no compiled graphs: {COMPILE}.")
    weights = read_hashed(folder / WEIGHTS_FILE, graphs.weights_sha256, 16 << 30)
    window, maps, others = (read_graph_file(bundle, name) for name in (WINDOW_FILE, MAPS_FILE, CONSTANTS_FILE))
    constants = joined_constants(weights, others)
    for name, document in ((WINDOW_FILE, window), (MAPS_FILE, maps)):
        check_graph(document, len(constants), str(folder / name))
    return GraphContent(window, maps, constants)


def read_graph_file(bundle: Bundle, name: str) -> bytes:
    """Read one of `GRAPH_FILES` after checking its hash.

    Raises:
        InputError: missing, too large, or another file than the bundle was written with.
    """
    assert bundle.graphs is not None and bundle.folder is not None
    return read_hashed(bundle.folder / name, bundle.graphs.files[name], MAXIMUM_BYTES[name])


def others_start(weights_bytes: int) -> int:
    """Return where `graph_constants.bin` begins behind a weights file of that size."""
    return -(-weights_bytes // ALIGNMENT) * ALIGNMENT


def joined_constants(weights: bytes, others: bytes) -> np.ndarray:
    """Put both files of constants into one array, uint8, whose memory begins at a multiple of `ALIGNMENT`."""
    start = others_start(len(weights))
    spacious = np.zeros(start + len(others) + ALIGNMENT, np.uint8)
    begin = -spacious.ctypes.data % ALIGNMENT
    found = spacious[begin : begin + start + len(others)]
    found[: len(weights)] = np.frombuffer(weights, np.uint8)
    found[start:] = np.frombuffer(others, np.uint8)
    return found


def check_graph(
    document: bytes, constants_bytes: int, source: str, remedy: str = COMPILE, code: str = "unusable-graphs"
) -> None:
    """Check the XML of a graph.

    Args:
        constants_bytes: length of what its constants are read from.
        source, remedy, code: of messages.

    Raises:
        InputError: entities or a document type, no XML, another element or operation than graphs of ours have, or a
            constant beyond its file.
    """

    def check(fine: bool, what: str) -> None:
        if not fine:
            raise InputError(f"{source} is not a graph of this program ({what}): {remedy}.", code=code)

    check(b"<!" not in document and b"<?" not in document.replace(b"<?xml", b"", 1), "an entity or instruction")
    try:
        root = ElementTree.fromstring(document)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{source} is not XML ({error}): {remedy}.", code=code) from error
    layers = root.find("layers")
    if layers is None or root.tag != "net" or {child.tag for child in root} - {"layers", "edges"}:
        check(False, "more than layers and edges")
        return
    check(len(layers) <= MAXIMUM_LAYERS, f"{len(layers)} layers")
    for layer in layers:
        kind, opset = layer.get("type", ""), layer.get("version", "")
        unknown = {child.tag for child in layer} - {"data", "input", "output", "rt_info"}
        known = layer.tag == "layer" and not unknown and kind in OPERATIONS and _OPSET.fullmatch(opset) is not None
        check(known, f"a layer of the type '{kind[:40]}', {opset[:40]}")
        if kind == "Const":
            check(_is_within(layer.find("data"), constants_bytes), "a constant outside of its file")


def _is_within(data: ElementTree.Element | None, constants_bytes: int) -> bool:
    """Whether a constant has a readable shape, kind and place, and lies within its file."""
    fields = {} if data is None else data.attrib
    try:
        shape = [int(axis) for axis in fields.get("shape", "").split(",") if axis.strip()]
        offset, size, width = int(fields["offset"]), int(fields["size"]), BYTES[fields["element_type"]]
    except (KeyError, ValueError):
        return False
    is_sized = all(0 <= axis < MAXIMUM_AXIS for axis in shape) and size == width * math.prod(shape)
    return is_sized and 0 <= offset <= constants_bytes - size
