"""Training a segmentation backbone from scratch with MONAI's network and losses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from SegWithUCore.inference.engines.torch_engine import BackboneAlone, TorchWindows
from SegWithUCore.inference.sliding_window import stitched
from SegWithUCore.metrics.overlap import mean_dice
from SegWithUCore.network.backbones import build_backbone
from SegWithUCore.network.backbones.user_network import register_network
from SegWithUCore.network.specs import USER_PREFIX, BackboneSpec, dynunet_spec, is_user_network
from SegWithUCore.network.weights import unique_state
from SegWithUCore.util.errors import InputError

from .augmentation import ScaledWindows, WindowSampler, augmentation, thick_axis_of
from .dataset import PreparedCase, left_right_axis
from .mixed_precision import autocast, check_gradients
from .recipe import BackboneTraining, HeadTraining, Recipe
from .run_folder import RunFolder
from .synthesis import synthesiser_of
from .trainer import Trainer, cosine


def spec_of(recipe: Recipe) -> BackboneSpec:
    """Describe the backbone of a recipe, with its channel numbers filled in.

    If the recipe names the file of a user's own network, this process knows that file from now on.
    """
    block = recipe.backbone
    kind, arguments = block["kind"], block.get("arguments", {})
    if "filters" in block:
        flat = block.get("flat_levels", 0)
        return dynunet_spec(len(recipe.input.channels), len(recipe.labels), block["filters"], flat_levels=flat)
    if is_user_network(kind):
        arguments = {"in_channels": len(recipe.input.channels), "num_classes": len(recipe.labels), **arguments}
        if "file" in block:
            register_network(f"{block['file']}:{kind.removeprefix(USER_PREFIX)}")
    return BackboneSpec(kind, arguments, block.get("size_divisor", 1))


def training_window(recipe: Recipe, training: BackboneTraining | HeadTraining) -> tuple[int, int, int]:
    """Return the window (z, y, x) of one of the trainings.

    Raises:
        InputError: it is not three sizes, each a multiple of what the backbone halves.
    """
    window, divisors = list(training.window or recipe.input.window), spec_of(recipe).size_divisors[::-1]
    if len(window) != len(divisors) or any(size % by or size < 1 for size, by in zip(window, divisors, strict=True)):
        wanted = ", ".join(map(str, divisors))
        raise InputError(f"The recipe trains in the window {window}: give x, y and z in multiples of {wanted}.")
    x, y, z = window
    return z, y, x


class BackboneTrainer(Trainer):
    """One training run of a backbone.

    The best epoch has the lowest mean Brier score.

    Args:
        recipe: settings; `recipe.backbone_training` rules here.
        train, validation: prepared cases.
        run: where everything is written.
        start: initial weights instead of random ones; heads of deep supervision may be missing.
    """

    settings: BackboneTraining
    part = "backbone"
    scores: ClassVar[Mapping[str, str]] = {"select_brier": "validation Brier {:.5f}", "select_dice": "Dice {:.4f}"}
    minimised = ("select_brier",)

    def __init__(
        self,
        recipe: Recipe,
        train: Sequence[PreparedCase],
        validation: Sequence[PreparedCase],
        run: RunFolder,
        start: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.recipe = recipe
        self.settings = recipe.backbone_training
        torch.manual_seed(self.settings.seed)
        spec = spec_of(recipe)
        run.check_network(spec.kind)
        self.network = build_backbone(supervised(spec, self.settings))
        check_gradients(self.network, self.settings.precision)
        if start is not None:
            _load_plain(self.network, start)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(self.settings.average_decay))
        loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
        self.loss: nn.Module = DeepSupervisionLoss(loss, weight_mode="exp")
        self.sampler = _sampler_of(recipe, train)
        super().__init__(train, validation, run, list(self.network.parameters()))

    def modules(self) -> dict[str, nn.Module]:
        """Return the network and its moving average."""
        return {"network": self.network, "average": self.average}

    def rate(self, step: int, steps: int) -> float:
        """Return a linear warm-up, then half a cosine down to zero."""
        warmup = self.settings.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        return cosine((step - warmup) / max(1, steps - warmup))

    def loss_of(
        self, batch: Mapping[str, torch.Tensor], cases: Sequence[int], seed: int
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute Dice and cross-entropy, at several resolutions if there is deep supervision."""
        with autocast(self.settings.precision):
            output = self.network(batch["image"])
        outputs = [part.float() for part in output.unbind(1)] if output.ndim == 6 else [output.float()]
        return self.loss(outputs, batch["labels"]), {}

    def after_step(self) -> None:
        """Update the moving average."""
        self.average.update_parameters(self.network)

    def score(self) -> dict[str, float]:
        """Return means over the validation cases of the Brier score (summed over classes) and the foreground Dice.

        They are scored in windows, as the model will run: in larger ones InstanceNorm sees another image, and another
        epoch looks best (`docs/developer/performance.md`).
        """
        device = next(self.average.parameters()).device
        runner = TorchWindows(BackboneAlone(self.average.module.eval()), device, self.settings.precision)
        briers, dices = [], []
        for case in self.validation_cases:
            logits = torch.from_numpy(stitched(runner, case.image, self.recipe.input))
            labels = torch.from_numpy(case.labels.astype("int64"))
            probabilities = torch.softmax(logits, 0)
            truth = nn.functional.one_hot(labels, logits.shape[0]).movedim(-1, 0)
            briers.append(float((probabilities - truth).square().sum(0).mean()))
            dices.append(mean_dice(logits.argmax(0).numpy(), case.labels, logits.shape[0]))
        return {"select_brier": sum(briers) / len(briers), "select_dice": sum(dices) / len(dices)}

    def best_weights(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights without the deep supervision heads, which a bundle has no use for."""
        state = unique_state(self.average.module)
        return {name: tensor for name, tensor in state.items() if not _supervises(name)}


def supervised(spec: BackboneSpec, training: BackboneTraining) -> BackboneSpec:
    """Add the heads of deep supervision to kinds that have them, as a training asks for."""
    heads = training.deep_supervision_heads
    extra = {"deep_supervision_heads": heads} if spec.kind == "dynunet" and heads else {}
    return replace(spec, arguments={**spec.arguments, **extra})


def _sampler_of(recipe: Recipe, train: Sequence[PreparedCase]) -> WindowSampler:
    """Make the sampler that cuts, turns and changes windows as the settings say."""
    settings = recipe.backbone_training
    axis = left_right_axis(recipe.input.orientation) if settings.mirror else None
    window = training_window(recipe, settings)
    synthesiser = synthesiser_of(recipe, window)
    if synthesiser is not None:
        return WindowSampler(train, window, settings.seed, None, synthesiser.draw)
    thick, scale, any_turn = thick_axis_of(train), settings.scale, settings.any_turn
    draw = None if scale is None else ScaledWindows(window, (scale[0], scale[1]), thick, any_turn).draw
    transform = augmentation(axis, thick, any_turn, draw is not None, settings.other_acquisitions)
    return WindowSampler(train, window, settings.seed, transform, draw)


def _load_plain(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of a bundle or run into a network that may have heads of deep supervision besides.

    Raises:
        InputError: other weights are missing, or some do not belong.
    """
    found = network.load_state_dict(dict(weights), strict=False)
    missing = [name for name in unique_state(network) if name in found.missing_keys and not _supervises(name)]
    if missing or found.unexpected_keys:
        raise InputError(f"The initial weights do not match the network: {(missing + found.unexpected_keys)[0]}.")


def _supervises(name: str) -> bool:
    return "super_head" in name or "deep_supervision" in name
