"""What a training of a recipe costs on this machine: a few steps are made, with the window full of noise."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.losses import DiceCELoss

from SegWithUCore.network.backbones import build_backbone, count_parameters

from .backbone import spec_of, supervised
from .mixed_precision import autocast
from .plan import Choice
from .recipe import Recipe

TIMED_STEPS = 2
"""After one that warms up."""
MEMORY_FACTOR = 1.25
"""Activations are also needed in passing: gradients of the layer at hand, caches of the allocator."""
PROGRAM_MB = 800
"""Of the program itself, torch and oneDNN loaded: 1.22 GB of hippocampi and 1.38 GB of hearts, less the rest below."""
BACKBONE_SHARE = 0.65
"""Of the hours; the rest is for the head, calibration and evaluation."""
WINDOWING = 1.15
"""Drawing windows and validating, on top of the steps."""
HEAD_SHARE, HEAD_EPOCH = 0.25, 1.4
"""Of the hours for the head, and what one of its epochs takes in epochs of the backbone (52 s to 37 s measured)."""
FEWEST_EPOCHS, MOST_EPOCHS = 2, 400
FEW_EPOCHS = 20
"""Fewer make a model to try the commands with, not one to use; said in the plan."""


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step of the backbone's training, and the memory of its activations in MB."""

    seconds: float
    activations_mb: float


def time_step(recipe: Recipe) -> StepCost:
    """Make a few steps of the backbone's training and time the fastest."""
    network = build_backbone(supervised(spec_of(recipe), recipe.backbone_training)).train()
    settings, window = recipe.backbone_training, recipe.input.window_zyx
    image = torch.randn(settings.batch_size, len(recipe.input.channels), *window)
    labels = torch.randint(0, len(recipe.labels), (settings.batch_size, 1, *window)).float()
    loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    seconds, kept = [], _SavedBytes()
    for step in range(1 + TIMED_STEPS):
        begun = time.perf_counter()
        with kept if step == 0 else torch.enable_grad(), autocast(settings.precision):
            output = network(image)
        first = output[:, 0] if output.ndim == 6 else output
        optimiser.zero_grad()
        loss(first.float(), labels).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - begun)
    return StepCost(min(seconds[1:]), kept.bytes / 1e6)


class _SavedBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts what a forward pass keeps for the backward one, each tensor once."""

    def __init__(self) -> None:
        self.bytes, self._seen = 0, set[int]()

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._seen:
                self._seen.add(storage.data_ptr())
                self.bytes += storage.nbytes()
            return tensor

        super().__init__(pack, lambda tensor: tensor)


def epochs_within(hours: float, cost: StepCost, cases: int, batch_size: int) -> int:
    """Count the epochs of the backbone that fit its share of the hours.

    Args:
        hours: for everything.
        cases: of the training.
    """
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, epochs_that_fit(hours, cost, cases, batch_size)))


def epochs_that_fit(hours: float, cost: StepCost, cases: int, batch_size: int) -> int:
    """Count them without the fewest and the most that are trained; arguments of `epochs_within`."""
    epoch = cost.seconds * WINDOWING * -(-cases // batch_size)
    return int(hours * 3600 * BACKBONE_SHARE / epoch)


FOLDS = 3
"""Out-of-fold networks, each trained from scratch with the cases of the other folds: together twice the backbone."""
EPOCHS_BEFORE_FOLDS = 40
"""The backbone gets as many first; folds come only where the hours allow both."""


def within_hours(recipe: Mapping[str, Any], hours: float, cost: StepCost, cases: int) -> tuple[dict[str, Any], Choice]:
    """Choose epochs and folds for a given time.

    Args:
        hours: for everything.
        cases: of the training.

    Returns:
        The recipe with both, and the choice in words.
    """
    batch = recipe["backbone_training"]["batch_size"]
    alone = epochs_within(hours, cost, cases, batch)
    recipe = _with_head_epochs(recipe, hours, cost, cases)
    shared = int(alone / FOLDS)  # backbone and folds take three times as long as the backbone
    if shared < EPOCHS_BEFORE_FOLDS:
        fits = epochs_that_fit(hours, cost, cases, batch) >= alone
        allowed = f"allow {alone} epochs" if fits else f"are too short even for {alone} epochs, the fewest,"
        reason = (
            f"{hours:g} h {allowed} of the backbone; folds come from {FOLDS * EPOCHS_BEFORE_FOLDS} epochs "
            "on, so the limit of flags is fitted on calibration and validation cases alone"
        )
        if alone < FEW_EPOCHS:
            reason += f"; fewer than {FEW_EPOCHS} are too few for a good model: give more hours"
        return with_epochs(recipe, alone), Choice("epochs, folds", f"{alone}, none", reason)
    fitted = {"cross_fit": FOLDS, "cross_fit_epochs": shared, "cross_fit_scratch": True}
    changed = with_epochs(recipe, shared)
    changed["head_training"] = {**changed["head_training"], **fitted}
    reason = f"{hours:g} h allow the backbone and {FOLDS} networks that have never seen a third of the cases each"
    return changed, Choice("epochs, folds", f"{shared}, {FOLDS}", reason)


def _with_head_epochs(recipe: Mapping[str, Any], hours: float, cost: StepCost, cases: int) -> dict[str, Any]:
    """Leave the head as many of its epochs as its share of the hours allows."""
    head = recipe["head_training"]
    epoch = cost.seconds * WINDOWING * HEAD_EPOCH * -(-cases // head["batch_size"])
    epochs = max(FEWEST_EPOCHS, min(head["epochs"], int(hours * 3600 * HEAD_SHARE / epoch)))
    return {**recipe, "head_training": {**head, "epochs": epochs}}


def training_seconds(recipe: Recipe, cost: StepCost, cases: int) -> tuple[float, float, float]:
    """Predict the seconds of the backbone's training, of all folds, and of the head's."""
    settings, head = recipe.backbone_training, recipe.head_training
    epoch = cost.seconds * WINDOWING * -(-cases // settings.batch_size)
    share = (head.cross_fit - 1) / head.cross_fit if head.cross_fit else 0.0
    folds = epoch * share * head.cross_fit * head.cross_fit_epochs
    return epoch * settings.epochs, folds, epoch * HEAD_EPOCH * head.epochs


def with_epochs(recipe: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return a recipe with another number of epochs of the backbone."""
    return {**recipe, "backbone_training": {**recipe["backbone_training"], "epochs": epochs}}


def memory_mb(cost: StepCost, parameters: int) -> float:
    """Predict the memory of the training: program, activations, weights five times (gradient, optimiser, average)."""
    return PROGRAM_MB + MEMORY_FACTOR * cost.activations_mb + 5 * 4 * parameters / 1e6


def prediction(recipe: Recipe, cost: StepCost, cases: int) -> list[str]:
    """Say what the training of the backbone will take, in sentences.

    Args:
        cases: of the training.
    """
    settings = recipe.backbone_training
    epoch = cost.seconds * WINDOWING * -(-cases // settings.batch_size)
    hours = epoch * settings.epochs / 3600
    folds = training_seconds(recipe, cost, cases)[1] / 3600
    later = epoch * HEAD_EPOCH * recipe.head_training.epochs / 3600 * (1 - BACKBONE_SHARE) / HEAD_SHARE
    with_folds = f"{recipe.head_training.cross_fit} folds about {folds:.1f} h, " if folds else ""
    parameters = count_parameters(build_backbone(spec_of(recipe)))
    return [
        f"A step of {settings.batch_size} windows takes {cost.seconds:.2f} s here (measured, {torch.get_num_threads()} "
        f"thread(s)), an epoch of {cases} cases about {epoch:.0f} s, {settings.epochs} epochs about {hours:.1f} h; "
        f"{with_folds}head, calibration and evaluation about {later:.1f} h more.",
        f"The training needs about {memory_mb(cost, parameters) / 1000:.1f} GB besides its images; the network has "
        f"{parameters / 1e6:.1f} million weights.",
    ]


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a device file
            flags = file.read()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
