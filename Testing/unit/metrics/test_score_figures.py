"""All figures of a score by region, against scikit-learn on the region's own voxels."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from SegWithUCore.metrics.error_detection import (
    METRICS,
    metrics_of,
    region_groups,
    score_groups,
)


def figures_of(score: np.ndarray, error: np.ndarray, regions: dict[str, np.ndarray | None]) -> dict[str, float]:
    """All metrics of all regions."""
    found = region_groups(score, error, regions)
    return {f"{title} {name}": value for name, groups in found.items() for title, value in metrics_of(groups).items()}


def scored(seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray | None]]:
    """A volume (8, 30, 40) with ties, errors that go with the score, and two regions besides the whole."""
    generator = np.random.default_rng(seed)
    score = np.round(generator.normal(size=(8, 30, 40)), 2).astype(np.float32)
    error = generator.random(score.shape) < 0.1 / (1 + np.exp(-2 * score))
    return score, error, {"whole": None, "band": score > 0.3, "clean": ~error}


def test_figures_of_each_region_are_those_of_its_voxels_alone() -> None:
    score, error, regions = scored()
    figures = figures_of(score, error, regions)
    assert len(figures) == len(METRICS) * len(regions)
    band = regions["band"]
    assert figures["auroc band"] == pytest.approx(roc_auc_score(error[band], score[band]), rel=1e-12)
    assert figures["auprc band"] == pytest.approx(average_precision_score(error[band], score[band]), rel=1e-12)
    assert figures["auroc whole"] == pytest.approx(roc_auc_score(error.ravel(), score.ravel()), rel=1e-12)
    for title, figure in METRICS.items():
        assert figures[f"{title} band"] == figure(score_groups(score[band], error[band]))


def test_regions_without_errors_have_no_rates() -> None:
    score, error, regions = scored()
    figures = figures_of(score, error, regions)
    assert np.isnan([figures["auroc clean"], figures["auprc clean"], figures["fpr95 clean"]]).all()
    assert figures["aurc clean"] == 0


def test_binning_of_large_volumes_moves_no_metric_much() -> None:
    generator = np.random.default_rng(1)
    score = np.exp(generator.normal(-3, 2, 100_000)).astype(np.float32)
    error = generator.random(score.size) < np.clip(score, 0, 0.9) * 0.1
    regions = {"whole": None, "part": score > 0.01}
    exact, binned = region_groups(score, error, regions), region_groups(score, error, regions, sorted_up_to=1000)
    for name in regions:
        assert binned[name].voxels.size < exact[name].voxels.size
        for title, value in metrics_of(binned[name]).items():
            assert value == pytest.approx(METRICS[title](exact[name]), abs=1e-3), title
