"""Every figure of error detection that one score earns on one case, region by region."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from .error_detection import (
    ScoreGroups,
    augrc,
    aurc,
    auroc,
    average_precision,
    excess_aurc,
    false_positive_rate,
    risk_at_coverage,
    score_groups,
    share_of_errors_within,
)
from .score_histogram import ScoreHistogram, figure_bounds

SORTED_UP_TO = 1 << 21
"""Voxels up to which a case is sorted, which is exact and takes less than a second; larger ones are binned."""

FIGURES: dict[str, Callable[[ScoreGroups], float]] = {
    "auroc": auroc,
    "auprc": average_precision,
    "aurc": aurc,
    "e-aurc": excess_aurc,
    "augrc": augrc,
    "fpr95": false_positive_rate,
    "risk at 80 %": partial(risk_at_coverage, coverage=0.8),
    "found in 1 %": partial(share_of_errors_within, share=0.01),
    "found in 2 %": partial(share_of_errors_within, share=0.02),
    "found in 5 %": partial(share_of_errors_within, share=0.05),
}
"""Figures by title: `error_detection` says what each means; "found in 1 %" is the share of the wrong voxels among the
riskiest 1 % of the region, a review budget."""
WHOLE: dict[str, np.ndarray | None] = {"whole": None}


def figures_of(groups: ScoreGroups) -> dict[str, float]:
    """All of `FIGURES`; NaN where there are no errors to be found."""
    return {title: figure(groups) for title, figure in FIGURES.items()}


def binning_error(groups: ScoreGroups) -> dict[str, float]:
    """How far each of `FIGURES` of binned voxels can be off, whatever their order within the bins."""
    errors = {}
    for title, figure in FIGURES.items():
        value, (low, high) = figure(groups), figure_bounds(groups, figure)
        errors[title] = max(high - value, value - low)
    return errors


def region_groups(
    score: np.ndarray,
    error: np.ndarray,
    regions: Mapping[str, np.ndarray | None] = WHOLE,
    sorted_up_to: int = SORTED_UP_TO,
) -> dict[str, ScoreGroups]:
    """Voxels of each region by score, sorted once for all regions; binned where there are more than `sorted_up_to`.

    Args:
        score: higher = riskier, any shape.
        error: boolean, of the same shape.
        regions: boolean masks of that shape by name, None for all voxels.
    """
    if score.size > sorted_up_to:
        return {name: region_histogram(score, error, mask).groups() for name, mask in regions.items()}
    order = np.argsort(score, axis=None, kind="stable")
    ascending, wrong = np.ravel(score)[order], np.ravel(error)[order]
    groups = {}
    for name, mask in regions.items():
        here = slice(None) if mask is None else np.ravel(mask)[order]
        groups[name] = score_groups(ascending[here], wrong[here])
    return groups


def region_histogram(score: np.ndarray, error: np.ndarray, mask: np.ndarray | None) -> ScoreHistogram:
    """The voxels of one region, to be added to those of other cases; `mask` is None for all voxels."""
    histogram = ScoreHistogram()
    if mask is None:
        histogram.add(score, error)
    else:
        histogram.add(score[mask], error[mask])
    return histogram


def score_figures(
    score: np.ndarray, error: np.ndarray, regions: Mapping[str, np.ndarray | None] = WHOLE
) -> dict[str, float]:
    """All figures of one score on one case.

    Args:
        score: any score, higher = riskier, any shape.
        error: where the segmentation is wrong, boolean, of the same shape.
        regions: boolean masks of that shape by name, None for all voxels.

    Returns:
        Figures by title: the name of a figure and of a region, such as "auroc band".
    """
    found = region_groups(score, error, regions)
    return {f"{title} {name}": value for name, groups in found.items() for title, value in figures_of(groups).items()}
