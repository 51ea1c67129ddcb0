"""Networks run by torch: on CPU, CUDA and MPS; for training and for networks of any kind."""

import sys
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import nn

from ...calibration.per_structure import ProbabilitySums
from ...network.heads.base import temper_logits
from ...network.segwithu import SegWithU
from . import TORCH
from .base import DeviceMemoryError, Engine, Voxelwise


class WindowNetwork(Protocol):
    """A network that can be run window by window, such as `SegWithU`."""

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """Compute what may be averaged over windows, (batch, channels, *spatial), of an image of that shape."""


class BackboneAlone:
    """A backbone in the place of a network with a head: its windows give logits and nothing else."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone

    def window_output(self, image: torch.Tensor) -> torch.Tensor:
        """Logits of one window, (batch, classes, *spatial)."""
        with torch.no_grad():
            logits: torch.Tensor = self.backbone(image)
        return logits


class TorchWindows:
    """A network of torch's behind `WindowRunner`.

    Args:
        network: in eval mode, on `device`.
        device: of the network.
        precision: "float32" or "bfloat16", in which the network runs; results are float32 of either.
    """

    def __init__(self, network: WindowNetwork, device: torch.device | str = "cpu", precision: str = "float32") -> None:
        self.network, self.precision = network, precision
        self._device = torch.device(device)

    def window(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `WindowRunner.window`.

        Raises:
            DeviceMemoryError: a graphics card ran out of memory.
        """
        (output,) = self._ran(lambda windows: (self.network.window_output(windows),), image)
        return (output,)

    def _ran(self, run: Callable[[torch.Tensor], tuple[torch.Tensor, ...]], image: np.ndarray) -> list[np.ndarray]:
        """Run a window; return float32 arrays without the axis of the batch."""
        mixed = torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bfloat16")
        try:
            with torch.inference_mode(), mixed:
                windows = torch.from_numpy(np.ascontiguousarray(image))[None].to(self._device)
                return [part.float()[0].cpu().contiguous().numpy() for part in run(windows)]
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(str(error)) from error


class TorchEngine(TorchWindows, Engine):
    """A bundle's network, loaded, on one device.

    Args:
        network: in eval mode.
        device: where it is put.
        precision: as for `TorchWindows`; the maps are made in float32 of either.
    """

    name = TORCH

    def __init__(self, network: SegWithU, device: torch.device | str = "cpu", precision: str = "float32") -> None:
        super().__init__(network, device, precision)
        self.network: SegWithU = network
        self.num_classes = network.num_classes
        self.response_channels = network.head.response_channels
        self.has_aleatoric = network.head.aleatoric is not None
        self.move(str(device))

    def window(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `Engine.window`, logits and responses apart."""
        return tuple(self._ran(self.network.window_answer, image))

    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        """As `Engine.maps`."""
        with torch.inference_mode():
            stitched = torch.from_numpy(chunk)[None].to(self._device)
            logits, _ = self.network.split(stitched)
            maps = self.network.maps(stitched)
            tempered = torch.softmax(temper_logits(logits, maps.calibration) / tempering_scale, 1)[0]
            first, second = maps.top[0].to("cpu", torch.uint8).numpy()
            aleatoric = None if maps.aleatoric is None else _flat(maps.aleatoric)
            floats = (_flat(maps.ranking), _flat(maps.calibration), _flat(maps.epistemic), aleatoric)
            return Voxelwise(first, second, *floats, _sums(tempered, maps.top[:, 0]))

    def window_memory(self, answer_bytes: float) -> float:
        """As `Engine.window_memory`: torch lets go of less (measured with 20 and 42 values a voxel)."""
        return self.window_bytes + 1.6 * answer_bytes

    def move(self, device: str) -> None:
        """Put the network on another device."""
        self._device = torch.device(device)
        self.device = self._device.type
        self.window_bytes = 0 if self.device == "cuda" else self.network.window_bytes
        self.network.to(self._device)

    def versions(self) -> dict[str, str]:
        """Of torch, and of MONAI where it was needed."""
        # Asked of the modules: what Slicer brings need not have package metadata.
        monai = sys.modules.get("monai")
        return {"torch": torch.__version__, **({} if monai is None else {"monai": monai.__version__})}

    def identity(self) -> dict[str, str | None]:
        """As `Engine.identity`."""
        return {"name": TORCH, "version": torch.__version__, "precision": self.precision, "graphs_sha256": None}


def _flat(values: torch.Tensor) -> np.ndarray:
    """Return one map, (1, 1, voxels), as an array (voxels,)."""
    return values[0, 0].cpu().numpy()


def _sums(probabilities: torch.Tensor, classes: torch.Tensor) -> ProbabilitySums:
    """Sum over one chunk; probabilities (classes, voxels), predicted classes (1, voxels)."""
    chosen = classes == torch.arange(len(probabilities), device=classes.device)[:, None]
    parts = (probabilities, probabilities * chosen, probabilities * (1 - probabilities))
    return ProbabilitySums(*(part.sum(1).cpu().double().numpy() for part in parts))
