"""Do fold networks err on new cases as the network itself does? Only then can their cases stand for its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from SegWithUCore.metrics.bootstrap import metric_interval
from SegWithUCore.metrics.error_detection import average_precision, region_groups
from SegWithUCore.metrics.overlap import dice_of

from .reference_cases import ReferenceCase

LIKENESS = "fold_errors"
"""Of the blocks that are fitted on fold networks' cases, too."""
LEAST_PATIENTS = 8
"""Of the network itself, below which nothing is said beyond chance: with 5 two alike networks differ in 10 % of draws,
with 2 in 40 %."""


@dataclass(frozen=True)
class CaseErrors:
    """What the errors of a case are like.

    Attributes:
        metrics: by title, NaN where there is none.
        group: whom the case comes from.
    """

    metrics: Mapping[str, float]
    group: str

    @classmethod
    def of(cls, case: ReferenceCase) -> "CaseErrors":
        """Measure them."""
        return cls({title: metric(case) for title, metric in METRICS.items()}, case.group)


def errors_alike(own: Sequence[CaseErrors], folds: Sequence[CaseErrors]) -> dict[str, Any]:
    """Compare the errors of the network itself with those of fold networks, on cases that neither has seen.

    Returns:
        `cases` of the folds; `metrics`, each with `title`, the means `own` and `folds`, their
        `difference` with its 95 % bootstrap interval over patients of both, and `is_alike`, whether that holds 0; and a
        `sentence`.
    """
    compared = [_compared(title, own, folds) for title in METRICS]
    metrics = [each for each in compared if np.isfinite(each["difference"]["mean"])]
    words = ", ".join(f"{each['title']} {each['folds']:.3g} (own {each['own']:.3g})" for each in metrics)
    other = [each["title"] for each in metrics if not each["is_alike"]]
    verdict = f"they differ, beyond chance, in {' and '.join(other)}" if other else "alike, as far as can be told"
    patients = len({case.group for case in own})
    if patients < LEAST_PATIENTS:
        verdict = f"{patients} patients of the network's own are too few to tell whether they differ"
    sentence = f"Errors of fold networks on {len(folds)} cases against the network's own: {words}; {verdict}."
    return {"cases": len(folds), "metrics": metrics, "sentence": sentence}


def _compared(title: str, own: Sequence[CaseErrors], folds: Sequence[CaseErrors]) -> dict[str, Any]:
    values = np.asarray([case.metrics[title] for case in [*own, *folds]])
    is_fold = np.arange(len(values)) >= len(own)
    groups = [(kind, case.group) for kind, cases in (("own", own), ("fold", folds)) for case in cases]

    def mean_of(which: np.ndarray) -> float:
        there = values[which][np.isfinite(values[which])]
        return float(there.mean()) if there.size else float("nan")

    def gap(which: np.ndarray) -> float:
        return mean_of(which[is_fold[which]]) - mean_of(which[~is_fold[which]])

    found = metric_interval(gap, groups)
    every = np.arange(len(values))
    return {
        "title": title,
        "own": mean_of(every[~is_fold]),
        "folds": mean_of(every[is_fold]),
        "difference": asdict(found),
        "is_alike": bool(found.low <= 0 <= found.high),
    }


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


METRICS: dict[str, Callable[[ReferenceCase], float]] = {
    "mean Dice": _mean_dice,
    "wrong share of what is drawn or there": _wrong_share,
    "AUPRC of the softmax": _softmax_auprc,
    "doubt of the softmax at errors": _doubt_at_errors,
}
