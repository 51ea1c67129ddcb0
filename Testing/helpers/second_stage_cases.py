"""A made-up second stage for tests: random networks, so that every feature counts."""

import numpy as np

from SegWithUCore.calibration.local_features import feature_count, mask_feature_count
from SegWithUCore.calibration.second_stage import MAPS, SecondStage

PAIRS = ((0, 1), (1, 0))


def made_up_stage(channels: int = 2, seed: int = 5, sees_mask: bool = False) -> SecondStage:
    """A second stage for images of so many channels."""
    random = np.random.default_rng(seed)
    width = len(MAPS) + len(PAIRS) + feature_count(channels) + sees_mask * mask_feature_count(channels)
    layers = tuple(
        (random.normal(0, 0.3, (5, a, b)).astype(np.float32), random.normal(size=(5, 1, b)).astype(np.float32))
        for a, b in ((width, 24), (24, 24), (24, 1))
    )
    mean, scale = random.normal(size=(2, width)).astype(np.float32)
    ends = ((-9.0, 0.0, 9.0), (-8.0, -1.0, 5.0))
    return SecondStage(PAIRS, (True,) * 3, mean, np.abs(scale) + 1, layers, *ends, 12, sees_mask=sees_mask)
