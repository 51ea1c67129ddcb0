"""Shading, sharpness and brightness of each channel, compared with the training cases: what hurts a segmentation most.

The factors from which on there is a warning follow harm that was measured on real images: from there about a fifth more
voxels are wrong (`Testing/Benchmarks/results/input_harm.md`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .appearance import MINIMUM_CASES
from .deviation import NOTE, WARNING, Deviation
from .image_features import BLOCKS, PERCENTILES, ImageFeatures

SHADING_WARNED = 1.2
"""Shading beyond this multiple of the strongest of a training case."""
SHARPNESS_WARNED = 0.7
"""Sharpness below this part of that of the least sharp training case."""
MIDDLE_WARNED = 0.9
"""Median grey value below this part of that of the darkest training case."""
FINER = 0.9
"""Voxels below this part of the smallest training voxel are smooth by nature: their sharpness tells nothing."""
ROUNDING = 1e-3
"""What a limit may be off by, since features travel to the worker rounded."""


def fit_quality(
    train: Sequence[ImageFeatures], others: Sequence[ImageFeatures], mirror_axis: int | None
) -> dict[str, Any] | None:
    """Fit the block of one channel for a bundle's fingerprint; None for too few training cases.

    Args:
        train, others, mirror_axis: as for `fit_appearance`.
    """
    known = [f for f in [*train, *others] if not f.flat and f.gradients is not None and f.sharpness is not None]
    own = [f.gradients for f in train if not f.flat and f.gradients is not None]
    if len(own) < MINIMUM_CASES:
        return None
    gradients = np.mean(own, axis=0, dtype=np.float64)
    if mirror_axis is not None:
        gradients = (gradients + np.flip(gradients, mirror_axis)) / 2
    gradients = (gradients - gradients.mean()).round(4)
    return {
        "cases": len(own),
        "gradients": gradients.ravel().tolist(),
        "shading": round(max(shading(f.gradients, gradients) for f in known if f.gradients is not None), 4),
        "sharpness": np.min([f.sharpness for f in known if f.sharpness is not None], axis=0).round(4).tolist(),
        "middle": round(min(median(f) for f in known), 4),
    }


def shading(gradients: np.ndarray, usual: np.ndarray) -> float:
    """Estimate how many times as bright an image is at one corner as at the opposite one, beyond what is usual.

    A field that multiplies an image multiplies its edges too, whatever its unit and offset: the logarithms of the mean
    gradients differ from the usual ones by a plane, which reaches from the middle of the first block to that of the
    last.
    """
    beyond = gradients - usual
    rises = [np.subtract(*np.moveaxis(beyond, axis, 0)[[-1, 0]]).mean() for axis in range(3)]
    return float(np.exp(np.abs(rises).sum() * BLOCKS / (BLOCKS - 1)))


def median(features: ImageFeatures) -> float:
    """Return the median grey value, as a share of the contrast."""
    middle = len(PERCENTILES) // 2
    return float(np.mean(features.quantiles[middle - 1 : middle + 1]))


def quality_deviations(
    features: ImageFeatures,
    block: Mapping[str, Any],
    channel: str,
    spacing: Sequence[float],
    usual_spacing: Mapping[str, Sequence[float]],
) -> list[Deviation]:
    """Compare one channel with the training cases.

    Args:
        features: of the part to be segmented, turned to the model's axes.
        block: from `fit_quality`.
        spacing: along the model's axes x, y, z, and that of the training cases.
    """
    if features.flat:
        return []
    fine = [own < FINER * low for own, low in zip(spacing, usual_spacing["low"], strict=True)]
    checks = [
        _shading(features, block, channel),
        _sharpness(features, block, channel, fine[::-1]),
        _middle(features, block, channel),
    ]
    return [check for check in checks if check is not None]


def _shading(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Deviation | None:
    if f.gradients is None:
        return None
    found = shading(f.gradients, np.asarray(block["gradients"]).reshape((BLOCKS,) * 3))
    most = block["shading"]
    if found <= most + ROUNDING:
        return None
    figures = f"(about {found:.1f} times as bright at one end as at the other; training cases at most {most:.1f})"
    text = f"The {channel} image is shaded more than the training cases {figures}"
    if found <= SHADING_WARNED * most:
        return Deviation(NOTE, f"{text}: look at its darker end.", "shading")
    advice = "correct the bias field first, as with N4ITK, or check the result with care"
    return Deviation(WARNING, f"{text}: {advice}.", "shading")


def _sharpness(f: ImageFeatures, block: Mapping[str, Any], channel: str, fine: Sequence[bool]) -> Deviation | None:
    if f.sharpness is None:
        return None
    limits = zip(f.sharpness, block["sharpness"], fine, strict=True)
    pairs = [(own, low) for own, low, skipped in limits if low > 0 and not skipped]  # 0: slices that repeat each other
    if not pairs:
        return None
    own, low = min(pairs, key=lambda pair: pair[0] / pair[1])
    if own >= low - ROUNDING:
        return None
    figures = f"(sharpness {own:.2f}; training cases at least {low:.2f})"
    if own >= SHARPNESS_WARNED * low:
        text = f"The {channel} image is a little less sharp than the training cases {figures}: look at the boundaries."
        return Deviation(NOTE, text, "sharpness")
    text = f"The {channel} image is blurred, in one direction at least, compared with the training cases {figures}"
    advice = "take a sharper series, one that was not smoothed or interpolated, or check the boundaries with care"
    return Deviation(WARNING, f"{text}: {advice}.", "sharpness")


def _middle(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Deviation | None:
    found, low = median(f), block["middle"]
    if found >= MIDDLE_WARNED * low:
        return None
    return Deviation(
        WARNING,
        f"The {channel} image is dark but for a few bright voxels (half of its voxels lie below {100 * found:.0f} % of "
        f"its range of grey values; training cases at least {100 * low:.0f} %): look for bright artefacts, strong "
        "shading or another contrast, or check the result with care.",
        "grey values",
    )
