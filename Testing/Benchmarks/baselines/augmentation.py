"""Test-time augmentation with the transforms that the backbone was trained with."""

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.special import softmax

from SegWithUCore.inference.engines.torch_engine import BackboneAlone
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithULab.training.augmentation import augmentation, case_seed, thick_axis
from SegWithULab.training.dataset import left_right_axis

from .base import Baseline, BaselineInputs, PassAverage, UncertaintyPrediction, baseline
from .frozen_backbone import FrozenBackbone, FrozenCase

PASSES = 5
"""Augmented ones, in addition to that of the frozen segmentation."""


class Augmentation(Baseline):
    """Passes over augmented copies; their logits are brought back and averaged, as probabilities, with the plain ones.

    What was turned out of the picture has the logits of the plain pass.
    Source: Wang et al., Neurocomputing 338 (2019); transforms and their inverses by MONAI.

    Args:
        backbone: the frozen one.
        mirror: exchange left and right too, as the training did where labels have no side.
    """

    name = "augmentation"
    rows = ("test-time augmentation", "test-time augmentation, mutual information")

    def __init__(self, backbone: FrozenBackbone, mirror: bool, seed: int = 0) -> None:
        self.backbone, self.mirror, self.seed = backbone, mirror, seed
        self.passes = 1 + PASSES
        self.mirror_axis = left_right_axis(backbone.bundle.input.orientation) if mirror else None

    @property
    def how(self) -> str:
        """With the number of passes."""
        sides = "with" if self.mirror else "without"
        return (
            f"{PASSES} passes under the training's augmentations ({sides} exchange of left and right) and a plain one"
        )

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        found = PassAverage()
        found.add(case.probabilities)
        transform = augmentation(self.mirror_axis, thick_axis(case.working.GetSpacing()))
        for number in range(PASSES):
            logits = self.turned_back(case, case_seed(self.seed, number, case.number), transform)
            found.add(softmax(resample_to_grid(logits, case.working, case.images[0]).astype(np.float64), 0))
        return found.answers(self.rows, case.classes)

    def turned_back(self, case: FrozenCase, seed: int, transform: Compose) -> np.ndarray:
        """Logits of one augmented copy on the working grid, float32 (classes, z, y, x)."""
        shape = case.array.shape[1:]
        window = self.backbone.bundle.input.window_zyx
        full = [max(size, wanted) for size, wanted in zip(shape, window, strict=True)]
        starts = [(whole - size) // 2 for whole, size in zip(full, shape, strict=True)]  # in the middle
        place = tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))
        image, inside = torch.zeros(len(case.array), *full), torch.zeros(1, *full)
        image[(slice(None), *place)] = torch.from_numpy(case.array)
        inside[(slice(None), *place)] = 1
        transform.set_random_state(seed=seed)
        changed = transform({"image": image, "labels": torch.ones(1, *full), "valid": inside})
        shown = (changed["image"] * changed["valid"]).as_tensor()  # padding is exactly zero, as in training
        raw = self.backbone.stitched(BackboneAlone(self.backbone.module), shown.float().numpy())
        changed["image"] = MetaTensor(torch.from_numpy(raw), meta=changed["image"].meta)
        changed["image"].applied_operations = list(changed["labels"].applied_operations)
        back = transform.inverse(changed)
        logits, seen = (back[key].as_tensor()[(slice(None), *place)].numpy() for key in ("image", "labels"))
        return np.where(seen > 0.5, logits, case.stitched).astype(np.float32)


@baseline("augmentation", title="test-time augmentation")
def _augmentation(inputs: BaselineInputs) -> list[Baseline]:
    return [Augmentation(inputs.backbone, inputs.mirror)]
