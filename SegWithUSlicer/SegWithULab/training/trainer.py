"""What the trainings of backbone and head share: epochs, learning rate, validation, best weights, log, resuming."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, TimeLeft, silent

from .augmentation import WindowSampler, case_seed, epoch_order
from .dataset import PreparedCase
from .recipe import BackboneTraining, HeadTraining
from .run_folder import RunFolder

CURVES_EVERY_S = 20.0
"""Drawing them takes up to a second, longer than an epoch of a small network."""


class Trainer(ABC):
    """One training run, resumable after any epoch.

    Everything random follows from (seed, epoch, case), and the learning rate from (step, steps), so a resumed run ends
    like one that nobody interrupted.

    Args:
        settings: of this training.
        train: prepared cases.
        validation: prepared cases that choose the best epoch; if there are none, the last epoch is kept.
        run: where everything is written.
        network: what is trained.
        parameters: those of its parameters that the optimiser changes.
        sampler: cuts the windows of a batch.
    """

    part: ClassVar[str]
    """Of the run folder's file names."""
    scores: ClassVar[Mapping[str, str]]
    """Columns of the log that `score` fills, each with its text for the progress."""
    minimised: ClassVar[tuple[str, ...]]
    """Scores whose sum the best epoch has lowest."""
    patience: float = math.inf
    """Epochs without a better score before stopping."""

    def __init__(
        self,
        settings: BackboneTraining | HeadTraining,
        train: Sequence[PreparedCase],
        validation: Sequence[PreparedCase],
        run: RunFolder,
        network: nn.Module,
        parameters: Sequence[nn.Parameter],
        sampler: WindowSampler,
    ) -> None:
        self._common = settings
        self.train_cases = train
        self.validation_cases = validation
        self.run = run
        self.trained, self.sampler = network, sampler
        self.parameters = list(parameters)
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.rows: list[dict[str, float]] = []
        self.best, self.best_epoch, self.next_epoch = math.inf, -1, 0
        self.scheduler = self._scheduler()
        self.left = TimeLeft()
        self._drawn = time.monotonic()

    @property
    def steps_an_epoch(self) -> int:
        """Number of batches."""
        return -(-len(self.train_cases) // self._common.batch_size)

    @abstractmethod
    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of one of all steps, as a share of the settings' rate."""

    @abstractmethod
    def loss_of(
        self, batch: Mapping[str, torch.Tensor], cases: Sequence[int], seed: int
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Compute the loss of a batch.

        Args:
            batch: windows, from the sampler.
            cases: which training cases they are cut from.
            seed: for what is drawn at random.

        Returns:
            The scalar to minimise, and its terms for the log.
        """

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Score the network on the validation cases; keys as in `scores`."""

    @abstractmethod
    def best_weights(self) -> dict[str, torch.Tensor]:
        """Return the tensors that are kept of the best epoch."""

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """Return the modules whose state a resumed run needs, by name in the checkpoint."""

    def after_step(self) -> None:  # noqa: B027 - most have nothing to do
        """Do what is to be done after each step of the optimiser."""

    def resume(self) -> bool:
        """Go on from the last completed epoch. Returns False if there is none."""
        state = self.run.load_state(self.part)
        if state is None:
            return False
        for name, module in self.modules().items():
            module.load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rows, self.best, self.next_epoch = state["rows"], state["best"], state["next_epoch"]
        self.best_epoch = state["best_epoch"]
        self.scheduler = self._scheduler()
        return True

    def fit(self, progress: Progress = silent) -> None:
        """Train until the last epoch or until patience is out; writes after each epoch all but the curves."""
        epochs = self._common.epochs
        self.left = TimeLeft()
        for epoch in range(self.next_epoch, epochs):
            if self._is_over:
                break
            begun = time.monotonic()
            terms = self._epoch(epoch, progress)
            scores = self.score() if self._validates(epoch) else {}
            self._note(epoch, terms, scores, time.monotonic() - begun)
            said = [text.format(scores[name]) for name, text in self.scores.items() if name in scores]
            done = (epoch + 1) / epochs
            detail = [f"epoch {epoch + 1}/{epochs}", f"loss {terms['loss']:.4f}", *said, self.left.message(done)]
            progress(f"training the {self.part}", done, ", ".join(filter(None, detail)))
        self.run.add_facts({f"{self.part}_finished": self.next_epoch})

    @property
    def _is_over(self) -> bool:
        """Whether no epoch follows."""
        return self.next_epoch == self._common.epochs or self.next_epoch - 1 - self.best_epoch >= self.patience

    def _validates(self, epoch: int) -> bool:
        last = epoch == self._common.epochs - 1
        return bool(self.validation_cases) and (last or epoch % self._common.validate_every == 0)

    def _epoch(self, epoch: int, progress: Progress) -> dict[str, float]:
        """Train on every case once; returns the mean terms of the loss."""
        settings, count = self._common, len(self.train_cases)
        order, size = epoch_order(settings.seed, epoch, count), settings.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        self.trained.train()
        sums: dict[str, float] = {}
        for number, cases in enumerate(batches):
            seed = case_seed(settings.seed, epoch, count + number)
            terms = self._step(self.sampler.batch(epoch, cases), cases, seed)
            sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
            done = (epoch + (number + 1) / len(batches)) / settings.epochs
            loss = sums["loss"] / (number + 1)
            detail = [f"epoch {epoch + 1}/{settings.epochs}", f"loss {loss:.4f}", self.left.message(done)]
            progress(f"training the {self.part}", done, ", ".join(filter(None, detail)))
        return {name: value / len(batches) for name, value in sums.items()}

    def _step(self, batch: Mapping[str, torch.Tensor], cases: Sequence[int], seed: int) -> dict[str, float]:
        loss, terms = self.loss_of(batch, cases, seed)
        self.optimiser.zero_grad()
        loss.backward()
        size = nn.utils.clip_grad_norm_(self.parameters, self._common.gradient_clip)
        if not torch.isfinite(size + loss.detach()):
            raise self._diverged(float(loss.detach()), float(size))
        self.optimiser.step()
        self.scheduler.step()
        self.after_step()
        return {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}

    def _diverged(self, loss: float, gradient: float) -> InputError:
        """Say that no step can be made, before the weights are spoilt."""
        remedy = "a lower 'learning_rate'"
        if self._common.precision != "float32":
            remedy += " or the 'precision' \"float32\""
        return InputError(
            f"Training the {self.part} in {self.run.path} stopped in epoch {self.next_epoch + 1} at a loss of {loss:g} "
            f"whose gradient has the length {gradient:g}, and the epochs before are kept: begin anew with a recipe "
            f"that has {remedy} under '{self.part}_training'."
        )

    def _scheduler(self) -> LambdaLR:
        """Make a scheduler for the next epoch. It has no state but the step."""
        for group in self.optimiser.param_groups:
            group["initial_lr"] = self._common.learning_rate
        steps = self._common.epochs * self.steps_an_epoch
        first = self.next_epoch * self.steps_an_epoch
        return LambdaLR(self.optimiser, lambda step: self.rate(step, steps), last_epoch=first - 1)

    def _note(self, epoch: int, terms: dict[str, float], scores: dict[str, float], seconds: float) -> None:
        """Keep the weights if they are the best so far, and write log and checkpoint."""
        nothing = dict.fromkeys(self.scores, math.nan)
        self.rows.append({"epoch": epoch, **terms, **nothing, **scores, "seconds": seconds})
        if scores and sum(scores[name] for name in self.minimised) < self.best:
            self.best, self.best_epoch = sum(scores[name] for name in self.minimised), epoch
            self.run.save_best(self.part, self.best_weights())
            self.run.add_facts({f"{self.part}_best": {"epoch": epoch, **scores}})
        elif not self.validation_cases:
            self.run.save_best(self.part, self.best_weights())
        self.next_epoch = epoch + 1
        draws = self._is_over or time.monotonic() - self._drawn >= CURVES_EVERY_S
        self.run.write_log(self.part, [{**row, "epoch": int(row["epoch"]) + 1} for row in self.rows], draws)
        self._drawn = time.monotonic() if draws else self._drawn
        self.run.save_state(self.part, self._state())

    def _state(self) -> dict[str, Any]:
        return {
            **{name: module.state_dict() for name, module in self.modules().items()},
            "optimiser": self.optimiser.state_dict(),
            "rows": self.rows,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "next_epoch": self.next_epoch,
        }


def cosine(share: float) -> float:
    """Half a cosine from 1 at share 0 to 0 at share 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
