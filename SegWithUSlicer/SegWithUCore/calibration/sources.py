"""Where the uncertainty comes from: model and data part on scales that can be compared.

The variance of the probes (model, epistemic) and the aleatoric branch (data) have no common unit. As percentiles among
the uncertain voxels of the calibration cases they can be set side by side: "more model uncertainty than in 94 of 100
voxels that were as doubtful".
"""

from collections.abc import Sequence

import numpy as np

QUANTILES = 101


def fit_percentiles(values: Sequence[np.ndarray], uncertain: Sequence[np.ndarray]) -> list[float] | None:
    """The percentiles 0 to 100 of a part over the uncertain voxels of all cases; None where there are none.

    Args:
        values: model or data part of each case, any shape.
        uncertain: boolean of the same shapes.
    """
    chosen = np.concatenate([part[where] for part, where in zip(values, uncertain, strict=True)])
    if not chosen.size:
        return None
    return [float(value) for value in np.quantile(chosen.astype(np.float64), np.linspace(0, 1, QUANTILES))]


def percentiles_of(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """The percentile of each value, uint8 from 0 to 100."""
    return np.clip(np.searchsorted(np.asarray(quantiles), values, side="right") - 1, 0, 100).astype(np.uint8)
