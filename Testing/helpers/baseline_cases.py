"""Frozen cases of toy backbones for tests of baselines."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from baselines.frozen_backbone import FrozenBackbone, FrozenCase
from scipy.ndimage import gaussian_filter
from toy_models import toy_network, write_toy_bundle

from SegWithUCore.inference.model import Model
from SegWithUCore.models.bundle import write_bundle_json
from SegWithUCore.models.bundle_network import write_weights
from SegWithUCore.network.weights import unique_state

WINDOW = (16, 20, 12)
"""(x, y, z)."""
SHAPE = (12, 20, 16)
"""Of the case, (z, y, x): one window."""


def toy_backbone(folder: Path, kind: str = "looking") -> FrozenBackbone:
    """A toy backbone as the frozen one; registered toys are the caller's business."""
    return FrozenBackbone(Model(write_toy_bundle(folder, kind, WINDOW), torch.device("cpu")))


def other_weights(folder: Path, kind: str = "looking", seed: int = 5) -> Path:
    """A toy bundle whose backbone has other weights."""
    bundle = write_toy_bundle(folder, kind, WINDOW)
    network = toy_network(kind)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    digest = write_weights(folder, unique_state(network.backbone), {"paper": network.head_state()})
    write_bundle_json(bundle.__class__(**{**bundle.__dict__, "weights_sha256": digest}), folder)
    return folder


def smooth_volume(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Smooth noise around 0.5, float32 (z, y, x)."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    volume: np.ndarray = (0.5 + 0.4 * noise / np.abs(noise).max()).astype(np.float32)
    return volume


def toy_case(backbone: FrozenBackbone, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> FrozenCase:
    """A smooth image whose voxel axes run R, A, S; here and there the backbone is wrong."""
    volume = smooth_volume(seed, shape)
    image = sitk.GetImageFromArray(volume)
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    image.SetSpacing((1.0, 1.5, 2.0))
    seen = backbone.of_images(f"case{seed}", f"case{seed}", [image], np.zeros(shape, np.int16))
    wrong = np.random.default_rng(seed + 1).random(shape) < 0.05
    truth = np.where(wrong, seen.runner_up, seen.classes).astype(np.int16)
    return backbone.of_images(f"case{seed}", f"case{seed}", [image], truth)
