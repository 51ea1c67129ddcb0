"""Do fold networks err on new cases as the network itself does? Only then can their cases stand for its own."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from ..metrics.bootstrap import Interval, metric_interval
from ..metrics.error_detection import average_precision
from ..metrics.overlap import dice_of
from ..metrics.score_histogram import region_groups
from .reference_cases import ReferenceCase

LIKENESS = "fold_errors"
"""Of a calibration block."""


@dataclass(frozen=True)
class Compared:
    """A figure of a case, mean over those of the network itself and over those of fold networks.

    Attributes:
        difference: of the second minus the first, with its 95 % bootstrap interval over patients of both.
    """

    title: str
    own: float
    folds: float
    difference: Interval

    @property
    def is_alike(self) -> bool:
        """Whether chance would do."""
        return bool(self.difference.low <= 0 <= self.difference.high)

    @property
    def words(self) -> str:
        """Say both."""
        return f"{self.title} {self.folds:.3g} (own {self.own:.3g})"


@dataclass(frozen=True)
class Likeness:
    """What both kinds of cases look like, figure by figure."""

    cases: int
    figures: tuple[Compared, ...]

    @property
    def sentence(self) -> str:
        """Say where they differ."""
        other = [figure.title for figure in self.figures if not figure.is_alike]
        verdict = f"they differ, beyond chance, in {' and '.join(other)}" if other else "alike, as far as can be told"
        words = ", ".join(figure.words for figure in self.figures)
        return f"Errors of fold networks on {self.cases} cases against the network's own: {words}; {verdict}."

    def to_json(self) -> dict[str, Any]:
        """For the calibration block of a bundle."""
        figures = [{**asdict(figure), "is_alike": figure.is_alike} for figure in self.figures]
        return {"cases": self.cases, "figures": figures}


def errors_alike(own: Sequence[ReferenceCase], folds: Sequence[ReferenceCase]) -> Likeness:
    """Compare the errors of the network itself with those of fold networks.

    Args:
        own, folds: cases that their networks have not seen.
    """
    compared = [_compared(title, figure, own, folds) for title, figure in FIGURES.items()]
    return Likeness(len(folds), tuple(each for each in compared if np.isfinite(each.difference.mean)))


def _compared(
    title: str,
    figure: Callable[[ReferenceCase], float],
    own: Sequence[ReferenceCase],
    folds: Sequence[ReferenceCase],
) -> Compared:
    values = np.asarray([figure(case) for case in [*own, *folds]])
    is_fold = np.arange(len(values)) >= len(own)
    groups = [(kind, case.group) for kind, cases in (("own", own), ("fold", folds)) for case in cases]

    def gap(which: np.ndarray) -> float:
        parts = [values[which[is_fold[which] == kind]] for kind in (True, False)]
        means = [float(part[np.isfinite(part)].mean()) if np.isfinite(part).any() else float("nan") for part in parts]
        return means[0] - means[1]

    return Compared(
        title, float(np.nanmean(values[~is_fold])), float(np.nanmean(values[is_fold])), metric_interval(gap, groups)
    )


def _mean_dice(case: ReferenceCase) -> float:
    classes = range(1, len(case.prediction.logits))
    found = [dice_of(case.prediction.classes == index, case.truth == index) for index in classes]
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _wrong_share(case: ReferenceCase) -> float:
    there = np.count_nonzero((case.prediction.classes > 0) | (case.truth > 0))
    return float(np.count_nonzero(case.wrong) / there) if there else float("nan")


def _softmax_auprc(case: ReferenceCase) -> float:
    return float(average_precision(region_groups(_doubt(case), case.wrong)["whole"]))


def _doubt_at_errors(case: ReferenceCase) -> float:
    return float(_doubt(case)[case.wrong].mean()) if case.wrong.any() else float("nan")


def _doubt(case: ReferenceCase) -> np.ndarray:
    found: np.ndarray = 1 - softmax(case.prediction.logits.astype(np.float64), 0).max(0)
    return found


FIGURES: dict[str, Callable[[ReferenceCase], float]] = {
    "mean Dice": _mean_dice,
    "wrong share of what is drawn or there": _wrong_share,
    "AUPRC of the softmax": _softmax_auprc,
    "doubt of the softmax at errors": _doubt_at_errors,
}
