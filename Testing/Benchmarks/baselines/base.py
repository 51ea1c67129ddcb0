"""The base class of all baselines, and the registry that a new one enters by its decorator."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from SegWithUCore.metrics.overlap import Band
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.util.progress import Progress, silent
from SegWithULab.training.dataset import Case

from .frozen_backbone import FrozenBackbone, FrozenCase


@dataclass(frozen=True)
class UncertaintyPrediction:
    """What a baseline predicts for a case.

    Attributes:
        score: higher = riskier, float32 (z, y, x).
        probabilities: its own, (classes, z, y, x); None for a score that is no probability.
    """

    score: np.ndarray
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class FoldBackbone:
    """A network of the frozen one's recipe with training cases that it has not been trained with."""

    backbone: FrozenBackbone
    cases: Sequence[Case]


@dataclass(frozen=True)
class FittingCases:
    """What baselines are fitted on; none of it is a test case.

    Attributes:
        backbone: the frozen one.
        calibration: cases.
        folds: training cases as new ones, for what learns where a segmentation is wrong.
    """

    backbone: FrozenBackbone
    calibration: Sequence[Case] = ()
    folds: Sequence[FoldBackbone] = ()


@dataclass(frozen=True)
class BaselineInputs:
    """What baselines are built from.

    Attributes:
        backbone: the frozen one.
        bundles: models whose heads are compared.
        members: folders of the ensemble's further networks.
        band: around the predicted surface.
        mirror: whether the backbone was trained with left and right exchanged.
    """

    backbone: FrozenBackbone
    bundles: Sequence[Bundle] = ()
    members: Sequence[Path] = ()
    band: Band = field(default_factory=Band)
    mirror: bool = False


class Baseline(ABC):
    """A score for errors of the frozen segmentation.

    Attributes:
        name: for files and `--baselines`.
        passes: network passes a window, that of the frozen segmentation included.
        own_pass: whether it runs the frozen backbone itself, in whose place it then stands; else it works on top.
        learns_from_folds: whether it is fitted on the cases of `FittingCases.folds`, too.
    """

    name: str
    passes: int = 1
    own_pass: ClassVar[bool] = False
    learns_from_folds: ClassVar[bool] = False

    @property
    @abstractmethod
    def rows(self) -> tuple[str, ...]:
        """Titles of its answers."""

    @property
    @abstractmethod
    def how(self) -> str:
        """Description of how it was run; after fitting also of what was fitted."""

    def lacks(self) -> str | None:
        """Return what is missing to run it, such as "no members given (--ensemble)"; None if it can run."""
        return None

    def is_refitted(self, row: str, cases: FittingCases) -> bool:
        """Return whether a row's score is recalibrated to an error probability.

        Not one that is an error probability already, was fitted on them, and was calibrated last on values of cases
        that it had not seen: on these cases it would now look surer than on new ones.
        """
        return True

    def fit(self, cases: FittingCases, progress: Progress = silent) -> None:  # noqa: B027 - many have nothing to fit
        """Fit on the given cases, never on test cases."""

    @abstractmethod
    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        """Answers by row."""


Factory = Callable[[BaselineInputs], Sequence[Baseline]]


BASELINES: dict[str, tuple[str, Factory]] = {}
"""By the name for `--baselines`, in the order of the table: the title, and what builds the baselines."""


def baseline(name: str, title: str = "") -> Callable[[Factory], Factory]:
    """Register the decorated function as what builds the baselines called `name`.

    Args:
        name: for `--baselines`.
        title: for what is not run; the name if not given.
    """

    def register(make: Factory) -> Factory:
        BASELINES[name] = (title or name, make)
        return make

    return register


def unsure_of(classes: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return 1 - the probability of the frozen class, float32.

    The other classes are summed, which keeps what is close to 0.

    Args:
        classes: (z, y, x).
        probabilities: (classes, z, y, x).
    """
    others = np.where(np.arange(len(probabilities))[:, None, None, None] == classes, 0, probabilities)
    return others.sum(0, dtype=np.float64).astype(np.float32)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Compute the entropy in nats, float64 (z, y, x), of probabilities (classes, z, y, x)."""
    logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return -(probabilities * logs).sum(0)


class PassAverage:
    """Probabilities of several passes, averaged as they come."""

    def __init__(self) -> None:
        self.passes = 0
        self._probabilities: np.ndarray = np.zeros(0)
        self._entropies: np.ndarray = np.zeros(0)

    def add(self, probabilities: np.ndarray) -> None:
        """Count one pass, float64 (classes, z, y, x)."""
        if not self.passes:
            self._probabilities, self._entropies = np.zeros_like(probabilities), np.zeros(probabilities.shape[1:])
        self._probabilities += probabilities
        self._entropies += entropy(probabilities)
        self.passes += 1

    def mean(self) -> np.ndarray:
        """Return the mean probabilities."""
        return self._probabilities / self.passes

    def mutual_information(self) -> np.ndarray:
        """Return the entropy of the mean minus the mean entropy, float32, not below 0.

        Source: Houlsby et al., arXiv 1112.5745; Gal et al., ICML 2017.
        """
        found: np.ndarray = entropy(self.mean()) - self._entropies / self.passes
        return np.maximum(found, 0).astype(np.float32)

    def answers(self, rows: Sequence[str], classes: np.ndarray) -> dict[str, UncertaintyPrediction]:
        """Return 1 - mean probability of the frozen class as the first row, mutual information as the second."""
        mean = self.mean()
        return {
            rows[0]: UncertaintyPrediction(unsure_of(classes, mean), mean),
            rows[1]: UncertaintyPrediction(self.mutual_information(), mean),
        }
