"""The one frozen segmentation that all baselines are measured on: a model's backbone without any head."""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
import torch
from scipy.special import softmax
from torch import nn

from SegWithUCore.inference.engines.torch_engine import BackboneAlone, TorchWindows, WindowNetwork
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.preprocessing import network_input
from SegWithUCore.inference.sliding_window import stitched
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.bundle_files import verify_weights, weights_path
from SegWithUCore.network.heads.base import two_largest
from SegWithUCore.network.weights import read_safetensors
from SegWithULab.training.case_reading import read_assessed
from SegWithULab.training.dataset import Case


@dataclass(frozen=True)
class FrozenCase:
    """A case as the frozen backbone segments it.

    Attributes:
        name, group: of the case, and what it is drawn with.
        images: the channels; their grid is that of all (z, y, x) arrays below but for `array` and `stitched`.
        truth: class of each voxel, int16.
        array: what the network is fed, float32 (channels, z, y, x) on the grid of `working`.
        stitched: logits there, (classes, z, y, x).
        logits: the same on the images' grid.
        classes, runner_up: index of the most and second most probable class, uint8.
    """

    name: str
    group: str
    images: list[sitk.Image]
    truth: np.ndarray
    array: np.ndarray
    working: sitk.Image
    stitched: np.ndarray
    logits: np.ndarray
    classes: np.ndarray
    runner_up: np.ndarray

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits, float64 (classes, z, y, x)."""
        return softmax(self.logits.astype(np.float64), 0)

    @property
    def error(self) -> np.ndarray:
        """Where the frozen segmentation is wrong."""
        return self.classes != self.truth

    @property
    def spacing_zyx(self) -> tuple[float, ...]:
        """Of the images, in mm."""
        return tuple(self.images[0].GetSpacing()[::-1])

    @property
    def number(self) -> int:
        """A number that belongs to the name, for whatever is drawn at random."""
        return zlib.crc32(self.name.encode())


class FrozenBackbone:
    """The backbone of a model, run as `segment` runs it.

    Args:
        model: whose backbone and input count.

    Attributes:
        module: the backbone, in eval mode.
        sha256: of its weights.
    """

    def __init__(self, model: Model) -> None:
        self.bundle: Bundle = model.bundle
        self.device = model.device
        self.module: nn.Module = model.network.backbone
        self.sha256 = backbone_sha256(model.bundle)

    def stitched(self, network: WindowNetwork, array: np.ndarray) -> np.ndarray:
        """Run `network` on a whole volume, (channels, z, y, x), in this backbone's windows."""
        spec = self.bundle.input
        return stitched(TorchWindows(network, self.device, spec.precision), array, spec)

    def segmented(self, case: Case) -> FrozenCase:
        """Read a case and segment it; see `read_assessed` for what is raised."""
        read = read_assessed(case, self.bundle)
        return self.of_images(case.name, case.group, read.images, read.truth)

    def of_images(self, name: str, group: str, images: list[sitk.Image], truth: np.ndarray) -> FrozenCase:
        """Segment a case that is read already."""
        array, working = network_input(images, self.bundle.input)
        raw = self.stitched(BackboneAlone(self.module), array)
        logits = resample_to_grid(raw, working, images[0])
        first, second = two_largest(torch.from_numpy(logits)[None])[1][0].to(torch.uint8).numpy()
        return FrozenCase(name, group, images, truth, array, working, raw, logits, first, second)


def backbone_sha256(bundle: Bundle) -> str:
    """Hash of the backbone's tensors in a bundle, whatever heads it has.

    Raises:
        InputError: the weights are damaged.
    """
    verify_weights(bundle)
    tensors = read_safetensors(weights_path(bundle))
    return tensors_sha256({name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")})


def tensors_sha256(tensors: dict[str, torch.Tensor]) -> str:
    """Hash of names, shapes and float32 values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name].detach().float().cpu().numpy(), "<f4")
        digest.update(f"{name.removeprefix('backbone.')} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
