"""The compiled graphs of a bundle: what its description says of them.

A graph is OpenVINO's XML and constants. Weights are stored once: constants that are tensors of `weights.safetensors`
are read there, all others in `graph_constants.bin`. In the XML, places count from the begin of the weights file; the
other file follows it at the next multiple of `ALIGNMENT`. `graph_files` reads and checks them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

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
