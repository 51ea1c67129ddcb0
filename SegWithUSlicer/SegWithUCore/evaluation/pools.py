"""Voxels of many cases, counted by score: what pooled figures and curves are made from."""

from collections.abc import Mapping

import numpy as np

from ..metrics.reliability import Reliability
from ..metrics.score_figures import region_histogram
from ..metrics.score_histogram import ScoreHistogram
from .scores import OUR_SCORE, POOLED_REGIONS


class Pools:
    """Histograms by score and region; the pools of two sets of cases add up to those of both.

    Attributes:
        scores: by (score, region).
        reliability: of the error probability, by region; empty without fitted calibration.
    """

    def __init__(self) -> None:
        self.scores: dict[tuple[str, str], ScoreHistogram] = {}
        self.reliability: dict[str, Reliability] = {}

    def add_case(
        self, scores: Mapping[str, np.ndarray], error: np.ndarray, regions: Mapping[str, np.ndarray | None]
    ) -> None:
        """Count the voxels of a case.

        Args:
            scores: by name, higher = riskier.
            error: where the segmentation is wrong.
            regions: masks by name; those of `POOLED_REGIONS` are counted.
        """
        for region in POOLED_REGIONS:
            mask = regions[region]
            for name, score in scores.items():
                key, counted = (name, region), region_histogram(score, error, mask)
                self.scores[key] = self.scores[key] + counted if key in self.scores else counted
            if OUR_SCORE in scores:
                here = slice(None) if mask is None else mask
                self.reliability.setdefault(region, Reliability()).add(scores[OUR_SCORE][here], error[here])
