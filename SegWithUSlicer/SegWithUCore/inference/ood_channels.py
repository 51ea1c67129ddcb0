"""The out-of-distribution (OOD) check of each channel: how the training cases look, and what differs from it.

*Appearance* is noise, a coarse picture and, of CT, the range of intensities; *quality* is shading, sharpness and
brightness, what hurts a segmentation most. A warning is given from where about a fifth more voxels are wrong
(`Testing/Benchmarks/results/input_harm.md`).
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations, product
from typing import Any

import numpy as np

from ..models.quality import LOOK_CASES
from .deviation import NOTE, REFUSED, WARNING, Deviation
from .image_features import BLOCKS, CELLS, PERCENTILES, ImageFeatures

MINIMUM_CASES = LOOK_CASES
"""Below, the extremes of the cases say too little about what is usual: nothing is fitted, nothing is checked."""
NOISE_WARNED = 3.4
"""Noise beyond this multiple of that of the noisiest training case."""
ROUND_OFF = 1e-6
"""Correlations this far below the lowest one are no lower."""


def fit_appearance(
    train: Sequence[ImageFeatures], others: Sequence[ImageFeatures], mirror_axis: int | None, absolute: bool
) -> dict[str, Any] | None:
    """Fit the block of one channel for a bundle's OOD reference; None for less than `MINIMUM_CASES` training cases.

    Args:
        train: of the training cases as they are, cells turned to the model's orientation; they make the averages.
        others: further features that the limits must embrace: validation cases, off-centre copies.
        mirror_axis: axis of the cells (z, y, x) along which the model was trained with both directions, or None.
        absolute: intensities are scaled by constants, so that their range must fit too.
    """
    if len(train) < MINIMUM_CASES:
        return None
    template = np.mean([f.cells for f in train], axis=0)
    if mirror_axis is not None:
        template = (template + np.flip(template, mirror_axis)) / 2
    # Rounded before the limits are found, so that these belong to what is stored.
    template = template.round(4)
    both = [f for f in [*train, *others] if not f.flat]
    noises = [f.noise for f in both if f.noise is not None]
    seen = [_template_correlation(f.cells, template, mirror_axis) for f in both]
    lows, highs = [f.low for f in both], [f.high for f in both]
    return {
        "cases": len(train),
        "noise": [min(noises), max(noises)],
        "template": template.ravel().tolist(),
        "mirror_axis": mirror_axis,
        "least_correlation": min(own for own, _ in seen),
        "rotation_gain": max(0.0, *(other - own for own, other in seen)),
        "intensities": {"low": [min(lows), max(lows)], "high": [min(highs), max(highs)]} if absolute else None,
    }


def appearance_deviations(
    features: ImageFeatures, block: Mapping[str, Any], channel: str, like_spacing: bool
) -> Iterator[Deviation]:
    """Compare the look of one channel with the training cases.

    Args:
        features: of the part to be segmented, cells in the model's orientation.
        block: from `fit_appearance`.
        like_spacing: the voxels are about as large as in training; else their noise cannot be compared.
    """
    if features.flat:
        text = f"The part of the {channel} image to be segmented is empty (practically all voxels are {features.low:g})"
        yield Deviation(REFUSED, f"{text}: check the file and the region of interest.", "empty")
        return
    yield from _picture(features, block, channel)
    most, noise = block["noise"][1], features.noise
    if like_spacing and noise is not None and noise > NOISE_WARNED * most:
        figures = f"(noise {noise:.3f} of the contrast; training cases at most {most:.3f})"
        text = f"The {channel} image is much noisier than the training cases {figures}"
        yield Deviation(WARNING, f"{text}: take a less noisy series, or check the result with care.", "noise")
    yield from _intensities(features, block, channel)


def _picture(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Iterator[Deviation]:
    template = np.asarray(block["template"]).reshape((CELLS,) * 3)
    own, other = _template_correlation(f.cells, template, block["mirror_axis"])
    least = block["least_correlation"] - ROUND_OFF
    reorient = other - own > block["rotation_gain"] and other >= least
    if own >= least and not reorient:
        return
    advice = "check the kind of image and the place of the region of interest"
    if own < -abs(least):
        advice = "dark and bright seem to be exchanged"
    elif reorient:
        advice = "check in a viewer whether anterior and superior are correct, because it looks reoriented"
    metrics = f"(correlation with their average {own:.2f}; training cases at least {least:.2f})"
    text = f"The {channel} image does not show what the training cases show {metrics}: {advice}."
    yield Deviation(WARNING, text, "picture")


def _intensities(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Iterator[Deviation]:
    if block["intensities"] is None:
        return
    (low_from, low_to), (high_from, high_to) = (block["intensities"][end] for end in ("low", "high"))
    if not (low_from <= f.low <= low_to and high_from <= f.high <= high_to):
        found = f"The intensities of the {channel} image run from {f.low:g} to {f.high:g}"
        usual = f"those of the training cases from {low_from:g}-{low_to:g} to {high_from:g}-{high_to:g}"
        yield Deviation(WARNING, f"{found}, {usual}: check unit and offset.", "intensities")


def _template_correlation(cells: np.ndarray, template: np.ndarray, mirror_axis: int | None) -> tuple[float, float]:
    """Correlation with the template as the axes are, and the best one with reoriented axes.

    Mirroring that the model was trained with does not count.
    """
    goal, best = template.ravel(), -1.0
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        flipped = tuple(axis for axis in range(3) if flips[axis])
        if order != (0, 1, 2) or not set(flipped) <= ({mirror_axis} if mirror_axis is not None else set()):
            best = max(best, _correlation(np.flip(cells.transpose(order), flipped), goal))
    return _correlation(cells, goal), best


def _correlation(cells: np.ndarray, goal: np.ndarray) -> float:
    flat = cells.ravel()
    if flat.std() < 1e-9 or goal.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(flat, goal)[0, 1])


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
    """Fit the block of one channel for a bundle's OOD reference; None for too few training cases.

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
        "least_median": round(min(median(f) for f in known), 4),
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
) -> Iterator[Deviation]:
    """Compare one channel with the training cases.

    Args:
        features: of the part to be segmented, turned to the model's axes.
        block: from `fit_quality`.
        spacing: along the model's axes x, y, z, and that of the training cases.
    """
    if features.flat:
        return
    fine = [own < FINER * low for own, low in zip(spacing, usual_spacing["low"], strict=True)]
    yield from _shading(features, block, channel)
    yield from _sharpness(features, block, channel, fine[::-1])
    yield from _middle(features, block, channel)


def _shading(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Iterator[Deviation]:
    if f.gradients is None:
        return
    found = shading(f.gradients, np.asarray(block["gradients"]).reshape((BLOCKS,) * 3))
    most = block["shading"]
    if found <= most + ROUNDING:
        return
    figures = f"(brightness ratio between opposite ends {found:.1f}; at most {most:.1f} in training cases)"
    text = f"The {channel} image is shaded more than the training cases {figures}"
    if found <= SHADING_WARNED * most:
        yield Deviation(NOTE, f"{text}: check its darker end.", "shading")
    else:
        advice = "correct the bias field first, as with N4ITK, or check the result with care"
        yield Deviation(WARNING, f"{text}: {advice}.", "shading")


def _sharpness(f: ImageFeatures, block: Mapping[str, Any], channel: str, fine: Sequence[bool]) -> Iterator[Deviation]:
    if f.sharpness is None:
        return
    limits = zip(f.sharpness, block["sharpness"], fine, strict=True)
    pairs = [(own, low) for own, low, skipped in limits if low > 0 and not skipped]  # 0: slices that repeat each other
    own, low = min(pairs, key=lambda pair: pair[0] / pair[1], default=(0.0, 0.0))  # nothing to compare
    if own >= low - ROUNDING:
        return
    figures = f"(sharpness {own:.2f}; training cases at least {low:.2f})"
    if own >= SHARPNESS_WARNED * low:
        text = f"The {channel} image is a little less sharp than the training cases {figures}: check the boundaries."
        yield Deviation(NOTE, text, "sharpness")
    else:
        text = f"The {channel} image is blurred, in one direction at least, compared with the training cases {figures}"
        advice = "take a sharper series, one that was not smoothed or interpolated, or check the boundaries with care"
        yield Deviation(WARNING, f"{text}: {advice}.", "sharpness")


def _middle(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Iterator[Deviation]:
    found, low = median(f), block["least_median"]
    if found < MIDDLE_WARNED * low:
        figures = f"(median at {100 * found:.0f} % of its grey values; training cases at least {100 * low:.0f} %)"
        text = f"The {channel} image is dark but for a few bright voxels {figures}: look for artefacts."
        yield Deviation(WARNING, text, "grey values")
