"""Compile the graphs of a bundle for OpenVINO, and compare them with torch on a random input.

Tracing needs torch and OpenVINO and is done when a model is made, never while segmenting.
"""

import hashlib
import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from ...models import bundle as bundle_format
from ...models.bundle import Bundle, Graphs, file_sha256, write_bundle_json
from ...models.bundle_files import describe_files, read_origin, weights_path, write_origin
from ...models.graphs import ALIGNMENT, check_graph, others_start
from ...network.specs import is_user_network
from ...util.atomic_files import atomic_folder
from ...util.errors import InputError, UsageError
from ...util.strict_json import parse_json
from ...version import __version__
from .base import Engine
from .openvino_import import import_openvino, openvino_version

if TYPE_CHECKING:
    from ...network.segwithu import SegWithU

TRACED_VOXELS = 512
FEWEST_HALVES = 256
"""Numbers of a constant that is stored as float16: fewer are not worth a conversion."""


def compile_model(bundle: Bundle) -> Bundle:
    """Give a bundle graphs, in place of those that it has; its folder is replaced as a whole or not at all.

    Args:
        bundle: read from a folder.

    Raises:
        OpenVINOImportError, InputError, UsageError: as `add_graphs`.
        OutputError: the folder cannot be written.
    """
    folder = weights_path(bundle).parent
    with atomic_folder(folder, overwrite=True) as work:
        shutil.copytree(folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*bundle_format.GRAPH_FILES))
        written = add_graphs(replace(bundle, folder=work, graphs=None), work)
        origin = read_origin(work)
        if origin is not None:  # the files that it came with are others now
            write_origin(work, origin[0], describe_files(work))
    return replace(written, folder=folder)


def add_graphs(bundle: Bundle, folder: Path) -> Bundle:
    """Write the graphs of the default head into the bundle's folder and note them in its description.

    Args:
        bundle: as it lies in `folder`.

    Raises:
        OpenVINOImportError: no OpenVINO that works.
        InputError: the weights are damaged, or the network cannot be traced.
        UsageError: the network is the user's own code, or was measured in other numbers than float32.
    """
    from ...models.bundle_network import load_network

    openvino = import_openvino()
    if is_user_network(bundle.backbone.kind):
        raise UsageError(f"No graphs were made, for the network of '{bundle.name}' is the user's own code.")
    if (precision := bundle.input.precision) != "float32":
        message = (
            f"No graphs were made, for '{bundle.name}' was measured in {precision}, and graphs compute in float32."
        )
        raise UsageError(message)
    network = load_network(bundle)
    with tempfile.TemporaryDirectory(prefix="segwithu-graphs-") as place:
        traced = _traced(openvino, network, bundle, Path(place))
    files = write_graphs(folder, traced, f"The graph of {bundle.name}")
    return _described(bundle, folder, files, network, openvino)


def serialise(openvino: ModuleType, model: Any, path: Path) -> tuple[bytes, bytes]:
    """Return XML and constants of a graph as OpenVINO writes them; nothing stays at `path`."""
    files = (path, path.with_suffix(".bin"))
    openvino.save_model(model, path, compress_to_fp16=False)  # by default it would store halves
    content = (files[0].read_bytes(), files[1].read_bytes())
    for file in files:
        file.unlink()
    return content


def write_graphs(folder: Path, graphs: dict[str, tuple[bytes, bytes]], *refusal: str) -> dict[str, str]:
    """Write graphs beside the weights file, which holds what constants it has; returns the hash of each file.

    Args:
        graphs: by file, as `serialise` returns them.
        refusal: source, remedy and code as for `check_graph`.

    Raises:
        InputError: a graph holds an operation that those of this program do not have.
    """
    constants = _Constants(folder / bundle_format.WEIGHTS_FILE)
    documents = {name: constants.moved(*graphs[name]) for name in (bundle_format.WINDOW_FILE, bundle_format.MAPS_FILE)}
    for name, document in documents.items():
        check_graph(document, constants.end, *refusal)
        (folder / name).write_bytes(document)
    (folder / bundle_format.CONSTANTS_FILE).write_bytes(constants.others)
    return {name: file_sha256(folder / name) for name in bundle_format.GRAPH_FILES}


def _described(
    bundle: Bundle, folder: Path, files: dict[str, str], network: "SegWithU", openvino: ModuleType
) -> Bundle:
    """Compare both engines on one input, and write the description."""
    import torch

    from .openvino_engine import OpenVINOEngine
    from .torch_engine import TorchEngine

    versions = {"openvino": openvino_version(openvino), "torch": torch.__version__, "segwithu-slicer": __version__}
    head, weights = bundle.default_head.name, bundle.weights_sha256
    graphs = Graphs(head, weights, network.window_bytes, files, versions, largest_difference={})
    written = replace(bundle, folder=folder, graphs=graphs)
    window = example_window(len(bundle.input.channels), bundle.input.window_zyx)
    largest = engine_differences(OpenVINOEngine(written), TorchEngine(network), window)
    return write_bundle_json(replace(written, graphs=replace(graphs, largest_difference=largest)), folder)


def _traced(openvino: ModuleType, network: "SegWithU", bundle: Bundle, place: Path) -> dict[str, tuple[bytes, bytes]]:
    """Trace both functions; return XML and constants of each as OpenVINO writes them.

    Raises:
        InputError: OpenVINO has no form of some operation.
    """
    import torch

    from ...network.graph import MapsGraph, WindowGraph

    variant = bundle.default_head.variant
    window = torch.zeros(1, len(bundle.input.channels), *bundle.input.window_zyx)
    channels = network.num_classes + network.head.response_channels
    chunk = (torch.zeros(channels, TRACED_VOXELS), torch.ones(1))
    sources = {
        bundle_format.WINDOW_FILE: (WindowGraph(network, variant), window, [("image", list(window.shape))]),
        bundle_format.MAPS_FILE: (MapsGraph(network, variant), chunk, [("chunk", [channels, -1]), ("scale", [1])]),
    }
    # As numbers of float16, `write_weights` stores them.
    weights = network.backbone.state_dict().values()
    is_rounded = all(bool((tensor.half().float() == tensor).all()) for tensor in weights)
    found = {}
    for name, (module, example, shapes) in sources.items():
        path = place / name
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that sizes become constants, as they shall
                model = openvino.convert_model(module.eval(), example_input=example, input=shapes)
            if is_rounded:
                _store_halves(openvino, model)
            found[name] = serialise(openvino, model, path)
        except Exception as error:
            words = " ".join(str(error).split())[:300]
            raise InputError(f"OpenVINO cannot convert the network of '{bundle.name}' ({words}): use torch.") from error
    return found


def _store_halves(openvino: ModuleType, model: Any) -> None:
    """Replace constants that are all numbers of float16 by such and a conversion, so that the weights file has them."""
    opset13 = openvino.opset13

    for constant in model.get_ops():
        if constant.get_type_name() == "Constant" and constant.get_element_type() == openvino.Type.f32:
            values = np.array(constant.data)
            with np.errstate(over="ignore"):
                halves = values.astype(np.float16)
            if values.size > FEWEST_HALVES and np.array_equal(halves, values):
                converted = opset13.convert(opset13.constant(halves), "f32")
                for place in constant.output(0).get_target_inputs():
                    place.replace_source_output(converted.output(0))


class _Constants:
    """Constants of graphs, moved to the weights file where it has them, else to a file of their own.

    Attributes:
        others: content of that file.
    """

    def __init__(self, weights: Path) -> None:
        self.others = bytearray()
        self._start = others_start(weights.stat().st_size)
        self._places = _tensor_places(weights.read_bytes())

    @property
    def end(self) -> int:
        """First byte behind all constants."""
        return self._start + len(self.others)

    def moved(self, document: bytes, constants: bytes) -> bytes:
        """Return the XML of a graph with new places, and without what nobody needs to run it."""
        root = ElementTree.fromstring(document)
        for extra in root.findall("rt_info"):
            root.remove(extra)
        for data in root.findall("layers/layer[@type='Const']/data"):
            offset, size = int(data.attrib["offset"]), int(data.attrib["size"])
            data.attrib["offset"] = str(self._place(constants[offset : offset + size]))
        return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)

    def _place(self, content: bytes) -> int:
        """Return where a constant lies, and put it there if it does not yet."""
        digest = hashlib.sha256(content).digest()
        if digest not in self._places:
            self.others.extend(bytes(-len(self.others) % ALIGNMENT))
            self._places[digest] = self._start + len(self.others)
            self.others.extend(content)
        return self._places[digest]


def _tensor_places(weights: bytes) -> dict[bytes, int]:
    """Return where each tensor of a safetensors file begins, by the hash of its bytes."""
    header = int.from_bytes(weights[:8], "little")
    entries = parse_json(weights[8 : 8 + header], "the header of the weights")
    found = {}
    for name, entry in entries.items():
        if name != "__metadata__":
            begin, end = (8 + header + offset for offset in entry["data_offsets"])
            found[hashlib.sha256(weights[begin:end]).digest()] = begin
    return found


BLOCK, STEPS_A_UNIT = 4, 32
"""Voxels along each axis that share a value of the example, and its steps in one unit of a normalised image."""
PLACES = 1024
"""Voxels whose maps are compared, evenly spread."""
FLOAT_MAPS = ("calibration", "ranking", "epistemic", "aleatoric")


def example_window(channels: int, window_zyx: tuple[int, ...]) -> np.ndarray:
    """Draw a window of random blocks, float32 (channels, z, y, x)."""
    blocks = [-(-size // BLOCK) for size in window_zyx]
    found = np.random.RandomState(0).randint(-64, 65, (channels, *blocks)).astype(np.float32) / STEPS_A_UNIT
    for axis in (1, 2, 3):
        found = found.repeat(BLOCK, axis)
    z, y, x = window_zyx
    return np.ascontiguousarray(found[:, :z, :y, :x])


def engine_differences(engine: Engine, reference: Engine, window: np.ndarray) -> dict[str, float]:
    """Return the largest absolute differences of two engines by output; of the labels the share that differs."""
    values, right = (np.concatenate(each.window(window)).reshape(-1, window[0].size) for each in (engine, reference))
    places = np.unique(np.linspace(0, window[0].size - 1, min(PLACES, window[0].size)).astype(np.int64))
    chunk = np.ascontiguousarray(right[:, places])
    maps, right_maps = engine.maps(chunk), reference.maps(chunk)
    classes, gap = reference.num_classes, np.abs(values - right)
    present = [name for name in FLOAT_MAPS if getattr(right_maps, name) is not None]
    return {
        "logits": float(gap[:classes].max()),
        "responses": float(gap[classes:].max(initial=0)),
        "labels": float((values[:classes].argmax(0) != right[:classes].argmax(0)).mean()),
        **{name: float(np.abs(getattr(maps, name) - getattr(right_maps, name)).max()) for name in present},
    }
