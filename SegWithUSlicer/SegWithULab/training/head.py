"""Training an uncertainty head on a frozen backbone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from SegWithUCore.calibration.error_probability import fit_error_probability
from SegWithUCore.inference.engines.torch_engine import TorchWindows
from SegWithUCore.inference.sliding_window import stitched
from SegWithUCore.metrics.calibration import binary_cross_entropy
from SegWithUCore.metrics.patients import patient_folds
from SegWithUCore.network.backbones import build_backbone, example_input
from SegWithUCore.network.heads import head_type
from SegWithUCore.network.heads.base import temper_logits
from SegWithUCore.network.heads.losses import negative_log_likelihood
from SegWithUCore.network.segwithu import SegWithU
from SegWithUCore.network.weights import load_state
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, part_of, silent

from .augmentation import WindowSampler, augmentation, mirroring, thick_axis_of
from .backbone import BackboneTrainer, spec_of, training_window
from .dataset import PreparedCase, left_right_axis
from .mixed_precision import autocast
from .recipe import HeadTraining, Recipe
from .run_folder import RunFolder
from .synthesis import synthesiser_of
from .trainer import Trainer, cosine


class HeadTrainer(Trainer):
    """One training run of a head.

    The best epoch has the lowest sum of two proper scores: NLL of the tempered probabilities, and cross-entropy of the
    error probability that a monotone map makes of the ranking map.

    Args:
        recipe: settings; `recipe.head_training` rules here.
        train, validation: prepared cases.
        run: holds the trained backbone; everything is written there.
    """

    settings: HeadTraining
    network: SegWithU
    part = "head"
    scores: ClassVar[Mapping[str, str]] = {
        "select_nll": "validation NLL {:.5f}",
        "select_error_ce": "error cross-entropy {:.5f}",
    }
    minimised = ("select_nll", "select_error_ce")

    def __init__(
        self, recipe: Recipe, train: Sequence[PreparedCase], validation: Sequence[PreparedCase], run: RunFolder
    ) -> None:
        self.recipe = recipe
        self.settings = recipe.head_training
        self.patience = self.settings.patience
        self.out_of_fold: list[nn.Module] = []
        spec = spec_of(recipe)
        run.check_network(spec.kind)
        backbone = build_backbone(spec)
        load_state(backbone, run.load_best("backbone"), str(run.path))
        torch.manual_seed(self.settings.seed)
        example = example_input(spec, len(recipe.input.channels), recipe.input.window_zyx)
        sizes = [recipe.head[name] for name in ("feature_channels", "probes", "aleatoric")]
        self.network = SegWithU(backbone, recipe.head["taps"], example, recipe.head["variant"], *sizes)
        self.loss = head_type(recipe.head["variant"]).loss
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        axis = left_right_axis(recipe.input.orientation) if self.settings.mirror else None
        transform = augmentation(axis, thick_axis_of(train)) if self.settings.augment else mirroring(axis)
        window = training_window(recipe, self.settings)
        synthesiser = synthesiser_of(recipe, window)
        source = (transform, None) if synthesiser is None else (None, synthesiser.draw)
        self.sampler = WindowSampler(train, window, self.settings.seed, *source)
        super().__init__(train, validation, run, parameters)

    def modules(self) -> dict[str, nn.Module]:
        """Return fusion and head."""
        return {"fusion": self.network.fusion, "head": self.network.head}

    def best_weights(self) -> dict[str, torch.Tensor]:
        """Return the tensors of fusion and head."""
        return self.network.head_state()

    def rate(self, step: int, steps: int) -> float:
        """Return half a cosine from the first to the final rate."""
        final = self.settings.final_learning_rate / self.settings.learning_rate
        return final + (1 - final) * cosine(step / max(1, steps - 1))

    def fit(self, progress: Progress = silent) -> None:
        """Train, after the cross-fitted backbones if the recipe asks for them; one progress over both."""
        settings, share = self.settings, 0.0
        if settings.cross_fit and not self.out_of_fold:
            folds = (settings.cross_fit - 1) * settings.cross_fit_epochs  # in epochs over all cases
            share = folds / (folds + settings.epochs)
            part = part_of(progress, 0.0, share)
            self.out_of_fold = out_of_fold_backbones(self.recipe, self.train_cases, self.run, part)
        super().fit(part_of(progress, share, 1.0))

    def backbones_for(self, cases: Sequence[int], seed: int) -> list[nn.Module]:
        """Return the backbone of each window: out-of-fold ones for a share of the batches, else the frozen one."""
        if self.out_of_fold and np.random.default_rng(seed).random() < self.settings.cross_fit_share:
            return [self.out_of_fold[case] for case in cases]
        return [self.network.backbone] * len(cases)

    def loss_of(
        self, batch: Mapping[str, torch.Tensor], cases: Sequence[int], seed: int
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the loss of the head's type on the maps of a batch."""
        with autocast(self.settings.precision):
            windows = zip(batch["image"].split(1), self.backbones_for(cases, seed), strict=True)
            output = torch.cat([self.network.window_output(image, backbone) for image, backbone in windows])
        logits, responses = self.network.split(output.float())
        maps = self.network.head.maps(logits, responses)
        return self.loss(logits, maps, batch["labels"], batch["valid"], torch.Generator().manual_seed(seed))

    def score(self) -> dict[str, float]:
        """Return the means over the validation cases of the two proper scores, in windows as the model will run."""
        self.network.eval()
        runner = TorchWindows(self.network, next(self.network.head.parameters()).device, self.settings.precision)
        rankings, errors, nlls = [], [], []
        with torch.no_grad():
            for case in self.validation_cases:
                output = torch.from_numpy(stitched(runner, case.image, self.recipe.input))
                logits, responses = self.network.split(output.flatten(1)[None])
                maps = self.network.head.maps(logits, responses)
                truth = torch.from_numpy(case.labels.astype(np.int64)).flatten()
                softened = temper_logits(logits, maps.calibration)[0].T
                nlls.append(float(negative_log_likelihood(softened, truth)))
                rankings.append(maps.ranking[0, 0].numpy())
                errors.append((logits[0].argmax(0) != truth).numpy())
        return {"select_nll": float(np.mean(nlls)), "select_error_ce": _error_cross_entropy(rankings, errors)}


def _error_cross_entropy(rankings: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> float:
    try:
        table = fit_error_probability(rankings, errors)
    except InputError:  # a perfect or useless backbone leaves nothing to rank
        return 0.0
    return float(np.mean([binary_cross_entropy(table.table(r), e) for r, e in zip(rankings, errors, strict=True)]))


def folds_of(cases: Sequence[PreparedCase], folds: int, seed: int) -> list[int]:
    """Assign each case a fold; cases of one patient share one, and folds differ by one patient at most.

    Raises:
        InputError: fewer patients than folds.
    """
    patients = [case.group or case.name for case in cases]
    count = len(set(patients))
    if count < folds:
        raise InputError(f"{count} training patients cannot be cross-fitted in {folds} folds: choose fewer.")
    return patient_folds(patients, folds, seed).tolist()


def out_of_fold_backbones(
    recipe: Recipe,
    cases: Sequence[PreparedCase],
    run: RunFolder,
    progress: Progress = silent,
    budget_s: float = math.inf,
) -> list[nn.Module]:
    """Train or read the out-of-fold backbone of each training case, frozen; a fold shares one object.

    A fold that is done is read from `RUN/fold<k>`. One that was interrupted resumes after its last epoch. One that was
    made with another recipe or other cases is made again.

    Args:
        recipe: `head_training.cross_fit` folds of `cross_fit_epochs` further epochs, otherwise trained as
            `backbone_training` describes.
        run: holds the backbone to start from.
        budget_s: seconds for all epochs of all folds.
    """
    settings = recipe.head_training
    folds = folds_of(cases, settings.cross_fit, settings.seed)
    training = replace(recipe.backbone_training, epochs=settings.cross_fit_epochs, seed=settings.seed)
    of_fold = replace(recipe, backbone_training=training)
    made: dict[int, nn.Module] = {}
    for number in sorted(set(folds)):
        others = [case for case, fold in zip(cases, folds, strict=True) if fold != number]
        folder, names = RunFolder(run.path / f"fold{number}"), [case.name for case in others]
        started = folder.load_state("backbone") is not None
        if started and (folder.facts().get("cases") != names or _of_backbone(folder.recipe()) != _of_backbone(of_fold)):
            folder.forget("backbone")
            started = False
        if not started:
            folder.start(of_fold, {"cases": names})
        start = None if settings.cross_fit_scratch else run.load_best("backbone")
        trainer = BackboneTrainer(of_fold, others, [], folder, start=start)
        count = len(set(folds))
        trainer.budget_s = budget_s / count
        trainer.resume()
        trainer.fit(part_of(progress, len(made) / count, (len(made) + 1) / count))
        backbone = build_backbone(spec_of(of_fold))
        load_state(backbone, folder.load_best("backbone"), str(folder.path))
        made[number] = backbone.eval().requires_grad_(False)
    return [made[fold] for fold in folds]


def _of_backbone(recipe: Recipe) -> tuple[Any, ...]:
    return recipe.input, recipe.labels, recipe.backbone, recipe.backbone_training, recipe.synthesis
