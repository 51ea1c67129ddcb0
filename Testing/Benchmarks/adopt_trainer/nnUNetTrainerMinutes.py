"""nnU-Net's trainer for a few minutes of one CPU core: few steps, AdamW, no augmentation, one pass in validation.

nnU-Net finds it through the environment variable `nnUNet_extTrainer`. Loss, sampling, network, validation and the files
that it leaves are nnU-Net's own. Its networks are there to be adopted, not to be good.
"""

import os
from typing import Any

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA


class nnUNetTrainerMinutes(nnUNetTrainerNoDA):  # noqa: N801 (nnU-Net's way of naming)
    """Epochs and steps from the environment."""

    def __init__(
        self, plans: dict[str, Any], configuration: str, fold: int, dataset_json: dict[str, Any], device: torch.device
    ) -> None:
        # spelt out, for nnU-Net notes the arguments by the names of this signature
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ.get("MINUTES_EPOCHS", "6"))
        self.num_iterations_per_epoch = int(os.environ.get("MINUTES_ITERATIONS", "15"))
        self.num_val_iterations_per_epoch = 1
        self.initial_lr = 3e-3
        self.save_every = 1

    def configure_optimizers(self) -> tuple[Any, Any]:
        """AdamW learns in fewer steps than nnU-Net's SGD."""
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=self.initial_lr, weight_decay=self.weight_decay)
        return optimiser, PolyLRScheduler(optimiser, self.initial_lr, self.num_epochs)
