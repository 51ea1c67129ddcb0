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
    """A 3D convolution that leaves the number of slices as it is, computed as a 2D one over all slices.

    The same sums: neighbouring slices are further channels. As 3D in bfloat16, gradients overwrite memory on processors
    with AMX ("double free", or a crash; torch 2.13, oneDNN's `brgconv_bwd_w`, windows of 7 or 8 x 192 x 160).
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As Conv3d; (batch, channels, slices, rows, columns)."""
        depth, around = self.kernel_size[0], int(self.padding[0])
        padded = torch.nn.functional.pad(input, (0, 0, 0, 0, around, around))
        slices = padded.shape[2] - depth + 1
        near = torch.cat([padded[:, :, first : first + slices] for first in range(depth)], 1)
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        flat = torch.nn.functional.conv2d(_flat(near), weight, self.bias, self.stride[1:], self.padding[1:])
        return _stacked(flat, len(input))


class TransposedSliceBySlice(torch.nn.ConvTranspose3d):
    """The same for a transposed convolution whose kernel is one slice deep."""

    def forward(self, input: torch.Tensor, output_size: Any = None) -> torch.Tensor:
        """As ConvTranspose3d; (batch, channels, slices, rows, columns)."""
        weight = self.weight.squeeze(2)
        flat = torch.nn.functional.conv_transpose2d(_flat(input), weight, self.bias, self.stride[1:], self.padding[1:])
        return _stacked(flat, len(input))


def _flat(volumes: torch.Tensor) -> torch.Tensor:
    return volumes.transpose(1, 2).flatten(0, 1)


def _stacked(slices: torch.Tensor, batch: int) -> torch.Tensor:
    return slices.unflatten(0, (batch, -1)).transpose(1, 2)


class nnUNetTrainerHours(nnUNetTrainer):  # noqa: N801 (nnU-Net's way of naming)
    """600 steps in epochs of 20."""

    def __init__(
        self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict[str, Any], device: torch.device
    ) -> None:
        # spelt out, for nnU-Net notes the arguments by the names of this signature
        super().__init__(plans, configuration, fold, dataset_json, device)
        # nnU-Net takes as many threads as there are cores: pinned to one core, they wait for each other
        if threads := os.environ.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))
        self.num_epochs = int(os.environ.get("HOURS_EPOCHS", EPOCHS))
        self.num_iterations_per_epoch = int(os.environ.get("HOURS_ITERATIONS", ITERATIONS))
        self.num_val_iterations_per_epoch = 2
        self.save_every = 1

    def initialize(self) -> None:
        """As nnU-Net's; convolutions are computed slice by slice."""
        super().initialize()
        for layer in self.network.modules():
            if isinstance(layer, torch.nn.Conv3d) and layer.stride[0] == 1:
                layer.__class__ = SliceBySlice
            elif isinstance(layer, torch.nn.ConvTranspose3d) and layer.kernel_size[0] == layer.stride[0] == 1:
                layer.__class__ = TransposedSliceBySlice

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
