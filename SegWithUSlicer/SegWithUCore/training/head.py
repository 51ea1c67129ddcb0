"""Training an uncertainty head on a frozen backbone."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..calibration.error_probability import fit_error_probability
from ..errors import InputError
from ..inference.sliding_window import stitched
from ..metrics.calibration import binary_cross_entropy
from ..network.backbones import build_backbone, example_input
from ..network.heads import HEADS
from ..network.heads.base import temper_logits
from ..network.heads.losses import negative_log_likelihood
from ..network.segwithu import SegWithU
from ..network.weights import load_state
from ..progress import Progress, silent
from .augmentation import WindowSampler, augmentation, case_seed, epoch_order, mirroring, thick_axis_of
from .backbone import BackboneTrainer, autocast, left_right_axis, spec_of, training_window
from .dataset import PreparedCase
from .recipe import HeadTraining, Recipe
from .run_folder import RunFolder

PART = "head"


def network_of(recipe: Recipe, run: RunFolder) -> SegWithU:
    """The run's best backbone with a fresh head."""
    spec = spec_of(recipe)
    run.check_network(spec.kind)
    backbone = build_backbone(spec)
    load_state(backbone, run.load_best("backbone"), str(run.path))
    torch.manual_seed(recipe.head_training.seed)
    example = example_input(spec, len(recipe.input.channels), recipe.input.window_zyx)
    head = recipe.head
    return SegWithU(
        backbone,
        head["taps"],
        example,
        head["variant"],
        head["feature_channels"],
        head["probes"],
        head["aleatoric"],
    )


def learning_rate(settings: HeadTraining, step: int, steps: int) -> float:
    """Half a cosine from the first to the final rate."""
    share = step / max(1, steps - 1)
    span = settings.learning_rate - settings.final_learning_rate
    return settings.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * share))


class HeadTrainer:
    """One training run of a head, resumable after any epoch.

    Args:
        recipe: settings; `recipe.head_training` rules here.
        train, select: prepared cases. The best epoch has the lowest sum of two proper scores on `select`: NLL of the
            tempered probabilities, and cross-entropy of the error probability that a monotone map makes of the
            ranking map.
        run: holds the trained backbone; everything is written there.
    """

    def __init__(
        self, recipe: Recipe, train: Sequence[PreparedCase], select: Sequence[PreparedCase], run: RunFolder
    ) -> None:
        self.recipe = recipe
        self.settings = recipe.head_training
        self.select_cases = select
        self.train_cases = train
        self.cases = len(train)
        self.run = run
        self.forgetful: list[nn.Module] = []
        self.network = network_of(recipe, run)
        self.loss = HEADS[recipe.head["variant"]].loss
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            trainable, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        axis = left_right_axis(recipe.input.orientation) if self.settings.mirror else None
        transform = augmentation(axis, thick_axis_of(train)) if self.settings.augment else mirroring(axis)
        self.sampler = WindowSampler(train, training_window(recipe, self.settings), self.settings.seed, transform)
        self.rows: list[dict[str, float]] = []
        self.best, self.best_epoch, self.next_epoch = math.inf, -1, 0

    def resume(self) -> bool:
        """Go on from the last completed epoch; False when there is none."""
        state = self.run.load_state(PART)
        if state is None:
            return False
        self.network.fusion.load_state_dict(state["fusion"])
        self.network.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rows, self.best = state["rows"], state["best"]
        self.best_epoch, self.next_epoch = state["best_epoch"], state["next_epoch"]
        return True

    def fit(self, progress: Progress = silent) -> None:
        """Train until the last epoch or until patience is out, writing everything after each epoch."""
        if self.settings.cross_fit and not self.forgetful:
            self.forgetful = out_of_fold_backbones(self.recipe, self.train_cases, self.run, progress)
        started, first = time.monotonic(), self.next_epoch
        for epoch in range(self.next_epoch, self.settings.epochs):
            if epoch - 1 - self.best_epoch >= self.settings.patience:
                break
            begun = time.monotonic()
            terms = self._epoch(epoch, progress)
            looks = epoch == self.settings.epochs - 1 or epoch % self.settings.validate_every == 0
            self._note(epoch, terms, self.score() if looks else {}, time.monotonic() - begun)
            left = (time.monotonic() - started) / (epoch - first + 1) * (self.settings.epochs - epoch - 1)
            row = self.rows[-1]
            progress(
                "training the head",
                (epoch + 1) / self.settings.epochs,
                f"epoch {epoch + 1}/{self.settings.epochs}, loss {terms['loss']:.4f}, "
                f"select NLL {row['select_nll']:.5f}, error cross-entropy {row['select_error_ce']:.5f}, "
                f"{left / 60:.0f} min left",
            )

    def _epoch(self, epoch: int, progress: Progress) -> dict[str, float]:
        order = epoch_order(self.settings.seed, epoch, self.cases)
        size = self.settings.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        self.network.train()
        sums: dict[str, float] = {}
        for number, batch in enumerate(batches):
            step = epoch * len(batches) + number
            rate = learning_rate(self.settings, step, self.settings.epochs * len(batches))
            seed = case_seed(self.settings.seed, epoch, self.cases + number)
            forgot = self.forgetful and np.random.default_rng(seed).random() < self.settings.cross_fit_share
            shown_by = [self.forgetful[case] for case in batch] if forgot else [self.network.backbone] * len(batch)
            terms = self._step(self.sampler.batch(epoch, batch), shown_by, rate, seed)
            sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
            done = (epoch + (number + 1) / len(batches)) / self.settings.epochs
            progress("training the head", done, f"epoch {epoch + 1}, loss {sums['loss'] / (number + 1):.4f}")
        return {name: value / len(batches) for name, value in sums.items()}

    def _step(
        self, batch: dict[str, torch.Tensor], shown_by: Sequence[nn.Module], rate: float, seed: int
    ) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with autocast(self.settings.precision):
            windows = zip(batch["image"].split(1), shown_by, strict=True)
            output = torch.cat([self.network.window_output(image, backbone) for image, backbone in windows])
        logits, responses = self.network.split(output.float())
        maps = self.network.head.maps(logits, responses)
        generator = torch.Generator().manual_seed(seed)
        loss = self.loss(logits, maps, batch["labels"], batch["valid"], generator)
        self.optimiser.zero_grad()
        loss.total.backward()
        trainable = [p for group in self.optimiser.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(trainable, self.settings.gradient_clip)
        self.optimiser.step()
        return {"loss": float(loss.total.detach()), **{name: float(term.detach()) for name, term in loss.terms.items()}}

    def score(self) -> dict[str, float]:
        """The two proper scores on the select cases, in windows as the model will run; means over cases."""
        self.network.eval()
        spec = replace(self.recipe.input, precision=self.settings.precision)
        device = next(self.network.head.parameters()).device
        rankings, errors, nlls = [], [], []
        with torch.no_grad():
            for case in self.select_cases:
                output = torch.from_numpy(stitched(self.network, case.image, spec, device))
                logits, responses = self.network.split(output.flatten(1)[None])
                maps = self.network.head.maps(logits, responses)
                truth = torch.from_numpy(case.labels.astype(np.int64)).flatten()
                softened = temper_logits(logits, maps.calibration)[0].T
                nlls.append(float(negative_log_likelihood(softened, truth)))
                rankings.append(maps.ranking[0, 0].numpy())
                errors.append((logits[0].argmax(0) != truth).numpy())
        return {"select_nll": float(np.mean(nlls)), "select_error_ce": _error_cross_entropy(rankings, errors)}

    def _note(self, epoch: int, terms: dict[str, float], scores: dict[str, float], seconds: float) -> None:
        nothing = {"select_nll": math.nan, "select_error_ce": math.nan}
        self.rows.append({"epoch": epoch, **terms, **nothing, **scores, "seconds": seconds})
        total = sum(scores.values())
        if scores and total < self.best:
            self.best, self.best_epoch = total, epoch
            self.run.save_best(PART, self.network.head_state())
            self.run.add_facts({"head_best": {"epoch": epoch, **scores}})
        self.next_epoch = epoch + 1
        self.run.write_log(PART, self.rows)
        self.run.save_state(PART, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            "fusion": self.network.fusion.state_dict(),
            "head": self.network.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rows": self.rows,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "next_epoch": self.next_epoch,
        }


def _error_cross_entropy(rankings: Sequence[np.ndarray], errors: Sequence[np.ndarray]) -> float:
    try:
        table = fit_error_probability(rankings, errors)
    except InputError:  # a perfect or useless backbone leaves nothing to rank
        return 0.0
    return float(np.mean([binary_cross_entropy(table.table(r), e) for r, e in zip(rankings, errors, strict=True)]))


def folds_of(cases: Sequence[PreparedCase], folds: int, seed: int) -> list[int]:
    """The fold of each case; cases of one patient share one, and folds differ by one patient at most.

    Raises:
        InputError: fewer patients than folds.
    """
    patients = sorted({_patient(case) for case in cases})
    if len(patients) < folds:
        raise InputError(f"{len(patients)} training patients cannot be cross-fitted in {folds} folds: choose fewer.")
    order = np.random.default_rng(seed).permutation(len(patients))
    fold = {patients[patient]: place % folds for place, patient in enumerate(order)}
    return [fold[_patient(case)] for case in cases]


def _patient(case: PreparedCase) -> str:
    return case.group or case.name


def out_of_fold_backbones(
    recipe: Recipe, cases: Sequence[PreparedCase], run: RunFolder, progress: Progress = silent
) -> list[nn.Module]:
    """For each training case the backbone that has forgotten it, frozen; folds share one object.

    A fold that is done is read from `RUN/fold<k>`, one that was interrupted goes on after its last epoch, and one that
    was made with another recipe or other cases is made anew.

    Args:
        recipe: `head_training.cross_fit` folds of `cross_fit_epochs` further epochs, otherwise trained as
            `backbone_training` says.
        run: holds the backbone to start from.
    """
    folds = folds_of(cases, recipe.head_training.cross_fit, recipe.head_training.seed)
    made = {}
    for fold in sorted(set(folds)):
        kept = [case for case, its in zip(cases, folds, strict=True) if its != fold]
        made[fold] = _without(recipe, kept, run, RunFolder(run.path / f"fold{fold}"), progress)
    return [made[fold] for fold in folds]


def _without(
    recipe: Recipe, kept: Sequence[PreparedCase], run: RunFolder, folder: RunFolder, progress: Progress
) -> nn.Module:
    settings = recipe.head_training
    training = replace(recipe.backbone_training, epochs=settings.cross_fit_epochs, seed=settings.seed)
    recipe = replace(recipe, backbone_training=training)
    _begin_unless_begun(folder, recipe, [case.name for case in kept])
    trainer = BackboneTrainer(recipe, kept, [], folder, start=run.load_best("backbone"))
    trainer.resume()

    def told(stage: str, fraction: float, detail: str = "") -> None:
        progress(f"{stage} that forgets {folder.path.name}", fraction, detail)

    trainer.fit(told)
    backbone = build_backbone(spec_of(recipe))
    load_state(backbone, folder.load_best("backbone"), str(folder.path))
    return backbone.eval().requires_grad_(False)


def _begin_unless_begun(folder: RunFolder, recipe: Recipe, cases: Sequence[str]) -> None:
    """Keep what a fold's folder holds if it was begun with the same recipe and cases, else begin it again."""
    if folder.load_state("backbone") is not None:
        if folder.facts().get("cases") == list(cases) and _backbone_part(folder.recipe()) == _backbone_part(recipe):
            return
        folder.forget("backbone")
    folder.start(recipe, {"cases": list(cases)})


def _backbone_part(recipe: Recipe) -> tuple[Any, ...]:
    return recipe.input, recipe.labels, recipe.backbone, recipe.backbone_training
