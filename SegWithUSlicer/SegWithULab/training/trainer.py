"""What the trainings of backbone and head share: epochs, learning rate, validation, best weights, log, resuming."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, silent

from .augmentation import WindowSampler, case_seed, epoch_order
from .dataset import PreparedCase
from .recipe import BackboneTraining, HeadTraining
from .run_folder import RunFolder


class Trainer(ABC):
    """One training run, resumable after any epoch.

    Everything random follows from (seed, epoch, case), and the learning rate from (step, steps), so a resumed run ends
    like an uninterrupted one, unless epochs are cut to keep within `budget_s`.

    Args:
        train: prepared cases.
        validation: prepared cases that choose the best epoch; if there are none, the last epoch is kept.
        run: where everything is written.
        parameters: those of the network's parameters that the optimiser changes.
    """

    settings: BackboneTraining | HeadTraining
    network: nn.Module
    sampler: WindowSampler
    """Of this training; what is trained; cuts the windows of a batch. A subclass makes them first."""

    part: ClassVar[str]
    """Of the run folder's file names."""
    scores: ClassVar[Mapping[str, str]]
    """Columns of the log that `score` fills, each with its text for the progress."""
    minimised: ClassVar[tuple[str, ...]]
    """Scores whose sum the best epoch has lowest."""
    patience: float = math.inf
    """Epochs without a better score before stopping."""
    budget_s: float = math.inf
    """Seconds that all epochs may take together, those before an interruption included."""

    def __init__(
        self,
        train: Sequence[PreparedCase],
        validation: Sequence[PreparedCase],
        run: RunFolder,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        self.train_cases = train
        self.validation_cases = validation
        self.run = run
        self.parameters = parameters
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        self.optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        self.rows: list[dict[str, float]] = []
        self.best, self.best_epoch, self.next_epoch, self.epochs = math.inf, -1, 0, self.settings.epochs
        self.scheduler = self._scheduler()

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
        self.rows, self.best = state["rows"], state["best"]
        self.best_epoch, self.next_epoch = state["best_epoch"], state["next_epoch"]
        self.scheduler = self._scheduler()
        return True

    def fit(self, progress: Progress = silent) -> None:
        """Train until the last epoch or until patience is out; writes log and checkpoints after each epoch."""
        self._keep_to_budget()
        while (epoch := self.next_epoch) < self.epochs and epoch - 1 - self.best_epoch < self.patience:
            started = time.monotonic()
            terms = self._epoch(epoch, progress)
            validates = bool(self.validation_cases) and (
                epoch == self.epochs - 1 or epoch % self.settings.validate_every == 0
            )
            scores = self.score() if validates else {}
            self._note(epoch, terms, scores, time.monotonic() - started)
            shown = [text.format(scores[name]) for name, text in self.scores.items() if name in scores]
            self._report(progress, epoch + 1, epoch, terms["loss"], shown)
            self._keep_to_budget()
        self.run.add_facts({f"{self.part}_finished": self.next_epoch})

    def _report(self, progress: Progress, done: float, epoch: int, loss: float, shown: Sequence[str] = ()) -> None:
        """Report that so many epochs are done."""
        late = "" if self.epochs == self.settings.epochs else f" (of {self.settings.epochs} planned: it runs late)"
        detail = [f"epoch {epoch + 1}/{self.epochs}{late}", f"loss {loss:.4f}", *shown]
        progress(f"training the {self.part}", min(done / self.epochs, 1.0), ", ".join(detail))

    def _keep_to_budget(self) -> None:
        """Cut the epochs to those that fit at the pace so far; the learning rate then falls faster."""
        spent = sum(row["seconds"] for row in self.rows)
        if spent + (self.epochs - self.next_epoch) * spent / max(1, len(self.rows)) > self.budget_s:
            self.epochs = self.next_epoch + max(0, int((self.budget_s - spent) * len(self.rows) / spent))
            self.scheduler = self._scheduler()

    def _epoch(self, epoch: int, progress: Progress) -> dict[str, float]:
        """Train on every case once; returns the mean terms of the loss."""
        settings, count = self.settings, len(self.train_cases)
        order, size = epoch_order(settings.seed, epoch, count), settings.batch_size
        batches = [order[i : i + size] for i in range(0, len(order), size)]
        self.network.train()
        sums: dict[str, float] = {}
        for number, cases in enumerate(batches):
            terms = self._step(self.sampler.batch(epoch, cases), cases, case_seed(settings.seed, epoch, count + number))
            sums = {name: sums.get(name, 0.0) + value for name, value in terms.items()}
            self._report(progress, epoch + (number + 1) / len(batches), epoch, sums["loss"] / (number + 1))
        return {name: value / len(batches) for name, value in sums.items()}

    def _step(self, batch: Mapping[str, torch.Tensor], cases: Sequence[int], seed: int) -> dict[str, float]:
        loss, terms = self.loss_of(batch, cases, seed)
        self.optimiser.zero_grad()
        loss.backward()
        size = nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        if not torch.isfinite(size + loss.detach()):  # no step can be made, before the weights are spoilt
            other = "" if self.settings.precision == "float32" else " or the 'precision' \"float32\""
            found = f"loss {float(loss.detach()):g}, gradient norm {float(size):g}; earlier epochs are kept"
            where = f"Training of the {self.part} in {self.run.path} stopped in epoch {self.next_epoch + 1} ({found})"
            ways = f"restart with a lower 'learning_rate'{other} under '{self.part}_training'"
            raise InputError(f"{where}: {ways}.", "training-diverged")
        self.optimiser.step()
        self.scheduler.step()
        self.after_step()
        return {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}

    def _scheduler(self) -> LambdaLR:
        """Make a scheduler for the next epoch. It has no state but the step."""
        for group in self.optimiser.param_groups:
            group["initial_lr"] = self.settings.learning_rate
        an_epoch = -(-len(self.train_cases) // self.settings.batch_size)
        steps, first = self.epochs * an_epoch, self.next_epoch * an_epoch
        return LambdaLR(self.optimiser, lambda step: self.rate(step, steps), last_epoch=first - 1)

    def _note(self, epoch: int, terms: dict[str, float], scores: dict[str, float], seconds: float) -> None:
        """Keep the weights if they are the best so far, and write log and checkpoint."""
        nothing = dict.fromkeys(self.scores, math.nan)
        self.rows.append({"epoch": epoch, **terms, **nothing, **scores, "seconds": seconds})
        total = sum(scores[name] for name in self.minimised) if scores else math.inf
        if total < self.best or not self.validation_cases:
            self.run.save_best(self.part, self.best_weights())
        if total < self.best:
            self.best, self.best_epoch = total, epoch
            self.run.add_facts({f"{self.part}_best": {"epoch": epoch, **scores}})
        self.next_epoch = epoch + 1
        self.run.write_log(self.part, [{**row, "epoch": int(row["epoch"]) + 1} for row in self.rows])
        state = {name: module.state_dict() for name, module in self.modules().items()}
        kept = ("rows", "best", "best_epoch", "next_epoch")
        state |= {"optimiser": self.optimiser.state_dict(), **{name: getattr(self, name) for name in kept}}
        self.run.save_state(self.part, state)


def cosine(share: float) -> float:
    """Return the cosine schedule: 1 at share 0, 0 at share 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
