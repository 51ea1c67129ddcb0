"""Read the compiled graphs of a bundle, each file checked before anything runs it; no torch and no OpenVINO here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..util.errors import InputError
from ..util.input_files import read_bounded
from ..util.paths import BUNDLE_FILE, WEIGHTS_FILE
from .bundle import Bundle
from .graphs import ALIGNMENT, CHECK_FILE, CONSTANTS_FILE, MAPS_FILE, WINDOW_FILE, check_graph, others_start

MAKE_ANEW = "make graphs with `segwithu models compile`"
MAXIMUM_BYTES = {WINDOW_FILE: 16 << 20, MAPS_FILE: 16 << 20, CONSTANTS_FILE: 1 << 30, CHECK_FILE: 16 << 20}
"""Of each file; the shipped model's have 0.15, 0.1, 0.003 and 0.1 MB."""
MAXIMUM_WEIGHTS_BYTES = 16 << 30


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
    """Say why no graphs of a bundle can be used, as a clause; None if they can. Files are not looked at."""
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


def read_graphs(bundle: Bundle) -> GraphContent:
    """Read the graphs of a bundle and its weights, each held against its hash, and check the XML.

    What was checked is what is returned: nothing is read twice.

    Raises:
        InputError: a file is missing, too large, damaged or changed, or an XML holds what no graph of ours does.
    """
    graphs, folder = bundle.graphs, bundle.folder
    if graphs is None or folder is None:
        raise InputError(f"The bundle {bundle.name} has no compiled graphs: {MAKE_ANEW}.")
    weights = _verified(folder / WEIGHTS_FILE, graphs.weights_sha256, MAXIMUM_WEIGHTS_BYTES)
    others = read_graph_file(bundle, CONSTANTS_FILE)
    constants = joined_constants(weights, others)
    documents = {name: read_graph_file(bundle, name) for name in (WINDOW_FILE, MAPS_FILE)}
    for name, document in documents.items():
        check_graph(document, len(constants), str(folder / name))
    return GraphContent(documents[WINDOW_FILE], documents[MAPS_FILE], constants)


def verify_graphs(bundle: Bundle) -> None:
    """Check the graphs of a bundle as they are checked before they run; without any, or of other weights, nothing.

    Raises:
        InputError: as `read_graphs`.
    """
    if bundle.graphs is not None and bundle.graphs.weights_sha256 == bundle.weights_sha256:
        read_graphs(bundle)
        read_graph_file(bundle, CHECK_FILE)


def read_graph_file(bundle: Bundle, name: str) -> bytes:
    """Read one of `GRAPH_FILES`, held against its hash.

    Raises:
        InputError: missing, too large, or another file than the bundle was written with.
    """
    assert bundle.graphs is not None and bundle.folder is not None
    return _verified(bundle.folder / name, bundle.graphs.files[name], MAXIMUM_BYTES[name])


def joined_constants(weights: bytes, others: bytes) -> np.ndarray:
    """Put both files of constants into one array, uint8, whose memory begins at a multiple of `ALIGNMENT`."""
    start = others_start(len(weights))
    spacious = np.zeros(start + len(others) + ALIGNMENT, np.uint8)
    begin = -spacious.ctypes.data % ALIGNMENT
    found = spacious[begin : begin + start + len(others)]
    found[: len(weights)] = np.frombuffer(weights, np.uint8)
    found[start:] = np.frombuffer(others, np.uint8)
    return found


def _verified(path: Path, sha256: str, maximum_bytes: int) -> bytes:
    content = read_bounded(path, maximum_bytes, MAKE_ANEW)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(
            f"{path} is damaged or was changed: its SHA-256 is {found[:12]}... but {BUNDLE_FILE} says "
            f"{sha256[:12]}...; restore it from its source, or {MAKE_ANEW}."
        )
    return content
