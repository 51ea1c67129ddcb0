"""nnU-Net's trainer for a few hours of one CPU core: fewer steps, bfloat16, a checkpoint after every epoch.

nnU-Net finds it through the environment variable `nnUNet_extTrainer`. Loss, optimiser, polynomial learning rate,
augmentation, sampling and network are nnU-Net's own.
"""

import os
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

EPOCHS = 30
ITERATIONS = 20


class InFloat32(torch.nn.Module):
    """A loss that is computed in float32 whatever the network's outputs are."""

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        """As the loss itself; `output` is a tensor, or one a resolution."""
        parts = [part.float() for part in output] if isinstance(output, (list, tuple)) else output.float()
        with torch.autocast("cpu", enabled=False):
            return self.loss(parts, target)


class SliceBySlice(torch.nn.Conv3d):
    """A 3D convolution with a kernel of 1 x k x k, computed as a 2D one over all slices.

    The same sums. As 3D in bfloat16, its gradient by the weights overwrites memory on processors with AMX ("double
    free"; torch 2.13, oneDNN's `brgconv_bwd_w`, windows of 8 x 192 x 160). Without AMX a step takes 13.5 s, not 6.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As Conv3d; (batch, channels, slices, rows, columns)."""
        batch, channels, slices, *plane = input.shape
        flat = torch.nn.functional.conv2d(
            input.transpose(1, 2).reshape(batch * slices, channels, *plane),
            self.weight.squeeze(2), self.bias, self.stride[1:], self.padding[1:],
        )  # fmt: skip
        return flat.reshape(batch, slices, *flat.shape[1:]).transpose(1, 2)


class nnUNetTrainerHours(nnUNetTrainer):  # noqa: N801 (nnU-Net's way of naming)
    """600 steps in epochs of 20."""

    def __init__(
        self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict[str, Any], device: torch.device
    ) -> None:
        # spelt out, for nnU-Net notes the arguments by the names of this signature
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ.get("HOURS_EPOCHS", EPOCHS))
        self.num_iterations_per_epoch = int(os.environ.get("HOURS_ITERATIONS", ITERATIONS))
        self.num_val_iterations_per_epoch = 2
        self.save_every = 1

    def initialize(self) -> None:
        """As nnU-Net's; flat kernels are computed slice by slice."""
        super().initialize()
        for layer in self.network.modules():
            if isinstance(layer, torch.nn.Conv3d) and layer.kernel_size[0] == 1 < layer.kernel_size[1]:
                layer.__class__ = SliceBySlice

    def _build_loss(self) -> torch.nn.Module:
        return InFloat32(super()._build_loss())

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step under autocast."""
        with torch.autocast("cpu", torch.bfloat16):
            return super().train_step(batch)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One batch of the validation cases under autocast."""
        with torch.autocast("cpu", torch.bfloat16):
            return super().validation_step(batch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the validation cases in whole, under autocast."""
        with torch.autocast("cpu", torch.bfloat16):
            super().perform_actual_validation(save_probabilities)

    def save_checkpoint(self, filename: str) -> None:
        """Write it whole or not at all, so that a killed training can go on."""
        part = Path(f"{filename}.part")
        super().save_checkpoint(str(part))
        if part.is_file():  # checkpoints may be switched off
            part.replace(filename)
