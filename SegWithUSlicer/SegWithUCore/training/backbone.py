"""Training a segmentation backbone from scratch with MONAI's network and losses."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import InputError
from ..inference.sliding_window import BackboneAlone, stitched
from ..metrics.overlap import mean_dice
from ..network.backbone_spec import USER_PREFIX, BackboneSpec, dynunet_spec, is_user_network
from ..network.backbones import build_backbone
from ..network.backbones.user_network import register_network
from ..network.weights import unique_state
from ..progress import Progress, silent
from .augmentation import ScaledWindows, WindowSampler, augmentation, epoch_order, thick_axis_of
from .dataset import PreparedCase
from .recipe import BackboneTraining, HeadTraining, Recipe
from .run_folder import RunFolder

PART = "backbone"


def spec_of(recipe: Recipe) -> BackboneSpec:
    """The backbone of a recipe with its channel numbers filled in; where it names the file of a user's own network,
    this process knows that file from now on."""
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
    """The window (z, y, x) of one of the trainings.

    Raises:
        InputError: it is not three sizes, each a multiple of what the backbone halves.
    """
    window, divisors = list(training.window or recipe.input.window), spec_of(recipe).size_divisors[::-1]
    if len(window) != len(divisors) or any(size % by or size < 1 for size, by in zip(window, divisors, strict=True)):
        wanted = ", ".join(map(str, divisors))
        raise InputError(f"The recipe trains in the window {window}: give x, y and z in multiples of {wanted}.")
    x, y, z = window
    return z, y, x


def learning_rate(settings: BackboneTraining, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def left_right_axis(orientation: str) -> int:
    """Tensor axis (z, y, x numbering) along which left and right lie, for an orientation such as "RAS".

    Raises:
        InputError: axes are taken as stored ("xyz"), so that nobody knows.
    """
    if set(orientation) <= set("xyz"):
        raise InputError(
            f"The recipe takes images as they are stored (orientation {orientation}), so left and right cannot be "
            "exchanged: set mirror to false."
        )
    letters = orientation.upper()
    return 2 - next(i for i, letter in enumerate(letters) if letter in "LR")


class BackboneTrainer:
    """One training run of a backbone, resumable after any epoch.

    Args:
        recipe: settings; `recipe.backbone_training` rules here.
        train, select: prepared cases; the best epoch is the one with the lowest mean Brier score on `select`, or the
            last where `select` is empty.
        run: where everything is written.
        start: weights to begin with instead of random ones; heads of deep supervision may be missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Sequence[PreparedCase],
        select: Sequence[PreparedCase],
        run: RunFolder,
        start: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.recipe = recipe
        self.settings = recipe.backbone_training
        self.train_cases = train
        self.select_cases = select
        self.run = run
        torch.manual_seed(self.settings.seed)
        spec = spec_of(recipe)
        run.check_network(spec.kind)
        heads = self.settings.deep_supervision_heads
        extra = {"deep_supervision_heads": heads} if spec.kind == "dynunet" and heads else {}
        self.network = build_backbone(BackboneSpec(spec.kind, {**spec.arguments, **extra}))
        if start is not None:
            _load_plain(self.network, start)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(self.settings.average_decay))
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        axis = left_right_axis(recipe.input.orientation) if self.settings.mirror else None
        window = training_window(recipe, self.settings)
        thick, scale, any_turn = thick_axis_of(train), self.settings.scale, self.settings.any_turn
        scaled = None if scale is None else ScaledWindows(window, (scale[0], scale[1]), thick, any_turn)
        transform = augmentation(axis, thick, any_turn, scaled is not None)
        self.sampler = WindowSampler(train, window, self.settings.seed, transform, scaled)
        loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
        self.loss: nn.Module = DeepSupervisionLoss(loss, weight_mode="exp")
        self.rows: list[dict[str, float]] = []
        self.best = math.inf
        self.next_epoch = 0

    def resume(self) -> bool:
        """Go on from the last completed epoch; False when there is none."""
        state = self.run.load_state(PART)
        if state is None:
            return False
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rows, self.best, self.next_epoch = state["rows"], state["best"], state["next_epoch"]
        return True

    def fit(self, progress: Progress = silent) -> None:
        """Train to the last epoch, writing log, curves and checkpoints after each."""
        started, first = time.monotonic(), self.next_epoch
        for epoch in range(self.next_epoch, self.settings.epochs):
            begun = time.monotonic()
            loss = self._epoch(epoch, progress)
            last = epoch == self.settings.epochs - 1
            looks = self.select_cases and (last or epoch % self.settings.validate_every == 0)
            self._note(epoch, loss, self.score() if looks else {}, time.monotonic() - begun)
            left = (time.monotonic() - started) / (epoch - first + 1) * (self.settings.epochs - epoch - 1)
            row = self.rows[-1]
            chosen = f"select Brier {row['select_brier']:.5f}, Dice {row['select_dice']:.4f}, "
            progress(
                "training the backbone",
                (epoch + 1) / self.settings.epochs,
                f"epoch {epoch + 1}/{self.settings.epochs}, loss {loss:.4f}, "
                f"{chosen if self.select_cases else ''}{left / 60:.0f} min left",
            )

    def _epoch(self, epoch: int, progress: Progress) -> float:
        order = epoch_order(self.settings.seed, epoch, len(self.train_cases))
        size = self.settings.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        self.network.train()
        total = 0.0
        for number, batch in enumerate(batches):
            rate = learning_rate(self.settings, epoch * len(batches) + number, self.settings.epochs * len(batches))
            total += self._step(self.sampler.batch(epoch, batch), rate)
            done = (epoch + (number + 1) / len(batches)) / self.settings.epochs
            progress("training the backbone", done, f"epoch {epoch + 1}, loss {total / (number + 1):.4f}")
        return total / len(batches)

    def _step(self, batch: dict[str, torch.Tensor], rate: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with autocast(self.settings.precision):
            output = self.network(batch["image"])
        outputs = [part.float() for part in output.unbind(1)] if output.ndim == 6 else [output.float()]
        loss = self.loss(outputs, batch["labels"])
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimiser.step()
        self.average.update_parameters(self.network)
        return float(loss.detach())

    def score(self) -> dict[str, float]:
        """Mean over the select cases of the Brier score (summed over classes) and the foreground Dice.

        In windows, as the model will run: InstanceNorm sees another image in larger ones (ACDC, trained and scored in
        windows of 160: Brier 0.0133; scored in windows of 256: 0.0153, and another epoch looks best).
        """
        network = BackboneAlone(self.average.module.eval())
        spec = replace(self.recipe.input, precision=self.settings.precision)
        device = next(self.average.parameters()).device
        briers, dices = [], []
        for case in self.select_cases:
            logits = torch.from_numpy(stitched(network, case.image, spec, device))
            labels = torch.from_numpy(case.labels.astype("int64"))
            probabilities = torch.softmax(logits, 0)
            truth = nn.functional.one_hot(labels, logits.shape[0]).movedim(-1, 0)
            briers.append(float((probabilities - truth).square().sum(0).mean()))
            dices.append(mean_dice(logits.argmax(0).numpy(), case.labels, logits.shape[0]))
        return {"select_brier": sum(briers) / len(briers), "select_dice": sum(dices) / len(dices)}

    def _note(self, epoch: int, loss: float, scores: dict[str, float], seconds: float) -> None:
        nothing = {"select_brier": math.nan, "select_dice": math.nan}
        self.rows.append({"epoch": epoch, "loss": loss, **nothing, **scores, "seconds": seconds})
        if scores and scores["select_brier"] < self.best:
            self.best = scores["select_brier"]
            self.run.save_best(PART, self._plain_weights())
            self.run.add_facts({"backbone_best": {"epoch": epoch, **scores}})
        elif not self.select_cases:
            self.run.save_best(PART, self._plain_weights())
        self.next_epoch = epoch + 1
        self.run.write_log(PART, self.rows)
        self.run.save_state(PART, self._state())

    def _plain_weights(self) -> dict[str, torch.Tensor]:
        """The averaged weights without the deep supervision heads, which a bundle has no use for."""
        state = unique_state(self.average.module)
        return {name: tensor for name, tensor in state.items() if not _supervises(name)}

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rows": self.rows,
            "best": self.best,
            "next_epoch": self.next_epoch,
        }


def _load_plain(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load the weights of a bundle or run into a network that may have heads of deep supervision besides.

    Raises:
        InputError: other weights are missing, or some do not belong.
    """
    found = network.load_state_dict(dict(weights), strict=False)
    missing = [name for name in unique_state(network) if name in found.missing_keys and not _supervises(name)]
    if missing or found.unexpected_keys:
        raise InputError(f"The weights to begin with do not fit the network: {(missing + found.unexpected_keys)[0]}.")


def _supervises(name: str) -> bool:
    return "super_head" in name or "deep_supervision" in name


def autocast(precision: str) -> torch.autocast:
    """Mixed precision on the CPU when asked for."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
