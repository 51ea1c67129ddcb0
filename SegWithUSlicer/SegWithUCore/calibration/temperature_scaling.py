"""Temperature scaling: one number for all voxels, the usual yardstick of calibration."""

from collections.abc import Sequence

import numpy as np

SEARCH_RANGE = (-3.0, 3.0)
"""Logarithm of the temperature: 0.05 to 20."""
MOST_VOXELS = 2_000_000
"""One number needs no more; drawn at random from all. The shipped model's 27 calibration cases have fewer."""


def fit_temperature(logits: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """Fit the temperature that minimises the NLL of the voxels of the calibration cases, `MOST_VOXELS` at most.

    Args:
        logits: (classes, *any) of each case.
        truths: class of each voxel.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    flat = np.concatenate([z.reshape(z.shape[0], -1) for z in logits], 1)
    truth = np.concatenate([np.ravel(t) for t in truths]).astype(np.int64)
    if truth.size > MOST_VOXELS:
        drawn = np.random.default_rng(0).choice(truth.size, MOST_VOXELS, replace=False)
        flat, truth = flat[:, drawn], truth[drawn]
    flat = flat.astype(np.float64)
    chosen = flat[truth, np.arange(truth.size)]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(flat * scale, axis=0) - chosen * scale).mean())

    found = minimize_scalar(loss, bounds=SEARCH_RANGE, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
