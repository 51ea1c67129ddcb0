"""The protocol of an engine: a window in, logits and responses out; a chunk of both in, maps out. No torch here.

All else in `inference` knows networks only through it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...calibration.per_structure import ProbabilitySums
from ...calibration.second_stage import HeadMaps


@dataclass(frozen=True)
class Voxelwise(HeadMaps):
    """The network's output voxel by voxel; arrays of one shape.

    Attributes:
        sums: of the tempered probabilities, per class.
    """

    sums: ProbabilitySums


class DeviceMemoryError(Exception):
    """A graphics card ran out of memory; the same engine may continue in the computer's memory."""


class WindowRunner(Protocol):
    """What can be run window by window."""

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        """Compute what may be averaged over windows.

        Args:
            image: one window, float32 (channels, z, y, x).

        Returns:
            Float32 arrays (channels_i, z, y, x), which follow each other along the channels: one, or several where
            joining them would cost time. They hold until the next call at least.
        """


class Engine(ABC):
    """Runs the network of one bundle with one head.

    Attributes:
        name: "torch" or "openvino".
        device: where windows run: "cpu", "cuda" or "mps".
        num_classes: classes of the backbone, background included.
        response_channels: channels of the head's responses, which follow the logits.
        has_aleatoric: whether the head has a data part.
        has_calibration: whether there is a calibration map, which softens the probabilities.
        window_bytes: activations a voxel of a window in this computer's own memory.
        keeps_window: whether the memory of a window stays taken when its answer is used.
    """

    name: str
    device: str
    num_classes: int
    response_channels: int
    has_aleatoric: bool
    window_bytes: float
    keeps_window = False
    has_calibration = True

    @abstractmethod
    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        """As `WindowRunner.window`: logits first, then the head's responses.

        Raises:
            DeviceMemoryError: a graphics card ran out of memory.
            InputError: the network gives NaN or infinite values.
        """

    @abstractmethod
    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        """Compute classes and maps of some voxels.

        Args:
            chunk: stitched logits and responses, float32 (channels, voxels).
            tempering_scale: by which tempered logits are divided before the softmax; fitted on calibration cases.

        Returns:
            Arrays (voxels,).
        """

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions of what computes, by name, for `case.json`."""

    @abstractmethod
    def identity(self) -> dict[str, str | None]:
        """Return what decides the numbers besides the model: "name", "version", "precision" and "graphs_sha256"."""

    def window_memory(self, answer_bytes: float) -> float:
        """Predict the bytes that a voxel of a window takes in this computer's own memory, its answer included."""
        return max(self.window_bytes, 2 * answer_bytes)  # what is made first is gone before the answer is whole

    def move(self, device: str) -> None:  # noqa: B027 - most engines run in one place
        """Go on on another device."""
