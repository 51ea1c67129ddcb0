"""Local temperature scaling: a small network that gives every voxel a temperature of its own."""

import copy
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from SegWithUCore.inference.engines.torch_engine import BackboneAlone
from SegWithUCore.inference.uncertainty_maps import resample_to_grid
from SegWithUCore.util.progress import Progress, silent

from ...evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from ...training.augmentation import epoch_order
from ...training.trainer import cosine
from .base import Baseline, BaselineInputs, FittingCases, UncertaintyPrediction, baseline, in_parts, unsure_of

EPOCHS = 20
LEARNING_RATE = 3e-3
INITIAL_SPREAD = 1e-3
LEAST = 0.05
"""Temperature below which none goes: as in `calibration.error_probability`."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class LocalTemperature(nn.Module):
    """Temperatures from logits and image by a tree of convolutions: four leaves mixed by gates, then one of the image.

    Args:
        classes, channels: of logits and image.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.leaves, self.gates = _looking(classes, 4), _looking(classes, 3)
        self.image_leaf, self.image_gate = _looking(channels, 1), _looking(1, 1)
        self.offset = nn.Parameter(torch.tensor(math.log(math.expm1(1.0))))

    def forward(self, logits: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Temperatures (batch, 1, *spatial) of logits (batch, classes, *spatial) and image (batch, channels, ...)."""
        leaves, gates = self.leaves(logits).split(1, 1), torch.sigmoid(self.gates(logits)).split(1, 1)
        left = leaves[0] * gates[0] + leaves[1] * (1 - gates[0])
        right = leaves[2] * gates[1] + leaves[3] * (1 - gates[1])
        of_logits = left * gates[2] + right * (1 - gates[2])
        of_image = self.image_leaf(image)
        gate = torch.sigmoid(self.image_gate(of_image))
        mixed = of_image * gate + of_logits * (1 - gate)
        return functional.softplus(mixed + self.offset) + LEAST


def _looking(inputs: int, outputs: int) -> nn.Conv3d:
    """Nine voxels wide, as in the paper; starts near zero, so that all temperatures start near one."""
    layer = nn.Conv3d(inputs, outputs, 5, padding=4, dilation=2, padding_mode="replicate")
    nn.init.normal_(layer.weight, std=INITIAL_SPREAD)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def train(
    network: LocalTemperature,
    read: Callable[[int], Batch],
    calibration: int,
    select: int,
    seed: int,
    progress: Progress = silent,
) -> int:
    """Fit by NLL, one whole case a step; returns the epoch that is kept, from 1.

    Args:
        read: batch of a case: logits, image and true classes; cases to learn from come first, then validation cases.
        calibration, select: how many of them; the epoch best on the latter is kept, the last one without them.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    scheduler = LambdaLR(optimiser, lambda epoch: cosine(epoch / EPOCHS))
    best, best_epoch, kept = math.inf, 0, copy.deepcopy(network.state_dict())
    for epoch in range(EPOCHS):
        for number in epoch_order(seed, epoch, calibration):
            loss = _loss(network, read(number))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        scheduler.step()
        with torch.no_grad():
            score = sum(float(_loss(network, read(calibration + number))) for number in range(select))
        if score < best or not select:
            best, best_epoch, kept = score, epoch + 1, copy.deepcopy(network.state_dict())
        progress("fitting local temperature scaling", (epoch + 1) / EPOCHS, f"epoch {epoch + 1}")
    network.load_state_dict(kept)
    network.eval()
    return best_epoch


def _loss(network: LocalTemperature, batch: Batch) -> torch.Tensor:
    logits, image, truth = batch
    return functional.cross_entropy(logits / network(logits, image), truth)


class LocalTemperatureScaling(Baseline):
    """Fitted by NLL on the calibration cases and those of folds, one whole case a step.

    Source: Ding et al., ICCV 2021 (arXiv 2008.05105), its tree with image; here in 3D, and kept positive by a softplus.
    """

    name = "local-temperature"
    needs = ("calibration",)
    uses = ("select",)
    learns_from_folds = True
    rows = ("local temperature scaling",)

    def __init__(self, backbone: FrozenBackbone, seed: int = 0) -> None:
        self.backbone, self.seed = backbone, seed
        self._sizes = len(backbone.bundle.labels), len(backbone.bundle.input.channels)
        self.network = LocalTemperature(*self._sizes).eval()
        self.best_epoch = EPOCHS

    @property
    def how(self) -> str:
        """With the epoch that was kept."""
        return (
            "logits / T with T of each voxel from a tree of convolutions on logits and image, fitted by NLL on the "
            f"calibration cases (and those of --folds, if given); epoch {self.best_epoch} of {EPOCHS}"
        )

    def settings(self) -> dict[str, Any]:
        """How it is fitted."""
        return {"epochs": EPOCHS, "learning_rate": LEARNING_RATE, "seed": self.seed}

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:
        """Train on the calibration cases and those of folds; keep the epoch best on validation cases, or the last."""
        with tempfile.TemporaryDirectory() as folder:
            store = _Store(Path(folder), cases, progress)
            torch.manual_seed(self.seed)
            self.network = LocalTemperature(*self._sizes)
            counts = len(cases.to_learn_from), len(cases.select)
            self.best_epoch = train(self.network, store.read, *counts, self.seed, progress)

    def state(self) -> dict[str, np.ndarray]:
        """Weights and the kept epoch."""
        weights = {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}
        return {**weights, "best_epoch": np.asarray(self.best_epoch)}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over weights."""
        weights = {name: torch.from_numpy(np.asarray(array)) for name, array in state.items() if name != "best_epoch"}
        self.network.load_state_dict(weights)
        self.best_epoch = int(state["best_epoch"])

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""
        with torch.inference_mode():
            inputs = (torch.from_numpy(array)[None] for array in (case.stitched, case.array))
            temperatures = self.network(*inputs)[0].numpy()
        local = resample_to_grid(temperatures, case.working, case.images[0]).astype(np.float64)
        p = softmax(case.logits / local, 0)
        return {self.rows[0]: UncertaintyPrediction(unsure_of(case.classes, p), p)}


class _Store:
    """Logits, image and true classes of cases to learn from, then validation cases, on disk: memory holds one case."""

    def __init__(self, folder: Path, cases: FittingCases, progress: Progress) -> None:
        self._folder = folder
        both = cases.to_learn_from + [(cases.backbone, case) for case in cases.select]
        report = in_parts(progress, "predicting the cases of the fit", [case for _, case in both])
        for number, (backbone, case) in enumerate(both):
            report(number)
            prepared = cases.prepared(case)
            logits = backbone.stitched(BackboneAlone(backbone.module), prepared.image)
            np.savez(folder / f"{number}.npz", logits=logits, image=prepared.image, truth=prepared.labels)

    def read(self, number: int) -> Batch:
        """Batches of one: logits, image, and classes."""
        with np.load(self._folder / f"{number}.npz") as arrays:
            logits, image, truth = (torch.from_numpy(arrays[name])[None] for name in ("logits", "image", "truth"))
        return logits, image, truth.long()


@baseline("local-temperature", title="local temperature scaling")
def _local_temperature(inputs: BaselineInputs) -> list[Baseline]:
    return [LocalTemperatureScaling(inputs.backbone)]
