"""The out-of-distribution (OOD) check: does the input look like what the model was trained on?

A bundle's *fingerprint* holds what its training cases have in common: field of view, spacing and, for each channel, the
*appearance* (noise, contrast, grey values, a coarse picture). A *deviation* is one way in which an input differs from
it, said in a sentence before any result is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..imaging.grid import VoxelGrid
from ..imaging.volume import reorient
from ..models.bundle import Bundle
from .image_features import CELLS, ImageFeatures, image_features, reorient_cells

NOTE = "note"
"""Worth knowing; the result need not be worse for it."""
WARNING = "warning"
"""The result may be worse: check it with care."""
REFUSED = "refused"
"""The result would be meaningless: given only to those who insist, and never with case-level numbers."""


@dataclass(frozen=True)
class Deviation:
    """One way in which the input, or what was found in it, differs from the training cases.

    Attributes:
        severity: `NOTE`, `WARNING` or `REFUSED`.
        sentence: what differs, the value found and that of the training cases, and what to do.
        kind: what was compared: "field of view", "spacing", "empty", "picture", "noise", "contrast", "grey values",
            "intensities", "volume", "predicted Dice", "region of interest", "place", "model", "memory", "preview".
        structure: label value of the structure that it is about, None for the image.
    """

    severity: str
    sentence: str
    kind: str
    structure: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For `case.json`."""
        return asdict(self)


REFUSED_FACTOR = 1.5
"""Field of view beyond this multiple of the largest training case: the network never saw such surroundings."""
WARNED_FACTOR = 1.15
SPACING_FACTOR = 1.5


def deviations(images: Sequence[sitk.Image], bundle: Bundle) -> list[Deviation]:
    """Compare the part to be segmented with the training cases: its grid first, then how each channel looks.

    Args:
        images: the channels, already cut to the region of interest.
    """
    grid = VoxelGrid.of(images[0])
    found = grid_deviations(grid, bundle)
    if bundle.fingerprint is None or "channels" not in bundle.fingerprint or is_refused(found):
        return found
    features = {
        name: image_features(sitk.GetArrayViewFromImage(image))
        for name, image in zip(bundle.input.channels, images, strict=True)
    }
    return [*found, *channel_deviations(features, grid, bundle)]


def deviations_of_features(
    features: Mapping[str, ImageFeatures], grid: sitk.Image | VoxelGrid, bundle: Bundle
) -> list[Deviation]:
    """Compare as `deviations` does, with features computed elsewhere.

    Args:
        features: by channel; those of unknown channels are left out.
        grid: of the part to be segmented, or an image on it.
    """
    grid = VoxelGrid.of(grid)
    found = grid_deviations(grid, bundle)
    return found if is_refused(found) else [*found, *channel_deviations(features, grid, bundle)]


def grid_deviations(grid: VoxelGrid, bundle: Bundle) -> list[Deviation]:
    """Compare field of view and spacing alone."""
    if bundle.fingerprint is None:
        return []
    seen = _reoriented(grid, bundle.input.orientation)
    extents = [float(n * s) for n, s in zip(seen.size, seen.spacing, strict=True)]
    checks = [_field_of_view(extents, bundle), _spacing(seen.spacing, bundle)]
    return [check for check in checks if check is not None]


def channel_deviations(features: Mapping[str, ImageFeatures], grid: VoxelGrid, bundle: Bundle) -> list[Deviation]:
    """Compare how the channels look; empty for bundles that do not know how the training cases looked."""
    if bundle.fingerprint is None:
        return []
    blocks: Mapping[str, Any] = bundle.fingerprint.get("channels") or {}
    orientation, found = bundle.input.orientation, []
    like_spacing = _spacing(_reoriented(grid, orientation).spacing, bundle) is None
    for channel in bundle.input.channels:
        if channel in features and blocks.get(channel) is not None:
            own = to_model_orientation(features[channel], grid, orientation)
            found += appearance_deviations(own, blocks[channel], channel, orientation, like_spacing)
    return found


def to_model_orientation(features: ImageFeatures, grid: sitk.Image | VoxelGrid, orientation: str) -> ImageFeatures:
    """Features with their coarse picture turned from the axes of `grid` to `orientation`, as `volume.turned` does."""
    own = VoxelGrid.of(grid).orientation
    wanted = "".join(own["xyz".index(axis)] for axis in orientation) if orientation.islower() else orientation
    return replace(features, cells=reorient_cells(features.cells, own, wanted))


def is_refused(found: Sequence[Deviation]) -> bool:
    """Whether results would be meaningless."""
    return any(deviation.severity == REFUSED for deviation in found)


MINIMUM_CASES = 40
"""Below, the extremes of the cases say too little about what is usual: nothing is fitted, nothing is checked."""
ROUND_OFF = 1e-6
"""Correlations this far below the lowest one are no lower."""
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))


def fit_appearance(
    train: Sequence[ImageFeatures], others: Sequence[ImageFeatures], mirror_axis: int | None, absolute: bool
) -> dict[str, Any] | None:
    """Fit the block of one channel for a bundle's fingerprint; None for less than `MINIMUM_CASES` training cases.

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
    quantiles = np.mean([f.quantiles for f in train], axis=0).round(5)
    both = [f for f in [*train, *others] if not f.flat]
    noises = [f.noise for f in both if f.noise is not None]
    seen = [_template_correlation(f.cells, template, mirror_axis) for f in both]
    lows, highs = [f.low for f in both], [f.high for f in both]
    return {
        "cases": len(train),
        "noise": [min(noises), max(noises)],
        "middle_half": [min(f.middle_half for f in both), max(f.middle_half for f in both)],
        "quantiles": quantiles.tolist(),
        "quantile_distance": max(_distance(f, quantiles) for f in both),
        "template": template.ravel().tolist(),
        "mirror_axis": mirror_axis,
        "likeness": min(own for own, _, _ in seen),
        "turned_gain": max(0.0, *(other - own for own, other, _ in seen)),
        "intensities": {"low": [min(lows), max(lows)], "high": [min(highs), max(highs)]} if absolute else None,
    }


def appearance_deviations(
    features: ImageFeatures, block: Mapping[str, Any], channel: str, orientation: str, like_spacing: bool
) -> list[Deviation]:
    """Compare the look of one channel with the training cases.

    Args:
        features: of the part to be segmented, cells turned to `orientation`.
        block: from `fit_appearance`.
        orientation: letters of the model's axes, x, y, z.
        like_spacing: the voxels are about as large as in training; else their noise cannot be compared.
    """
    if features.flat:
        return [
            Deviation(
                REFUSED,
                f"The part of the {channel} image to be segmented is empty, practically all voxels are "
                f"{features.low:g}: check the file and the region of interest.",
                "empty",
            )
        ]
    checks = [
        _picture(features, block, channel, orientation),
        _noise(features, block, channel) if like_spacing else None,
        _contrast(features, block, channel),
        _grey_values(features, block, channel),
        _intensities(features, block, channel),
    ]
    return [check for check in checks if check is not None]


def _reoriented(grid: VoxelGrid, orientation: str) -> VoxelGrid:
    return grid.axes_after(lambda image: reorient(image, orientation))


def _field_of_view(extents: Sequence[float], bundle: Bundle) -> Deviation | None:
    assert bundle.fingerprint is not None
    span = bundle.fingerprint["field_of_view_mm"]
    seen = f"the {bundle.fingerprint['cases']} training cases of '{bundle.name}' span {_range(span)} mm"
    kind = "field of view"
    given = f"The part to be segmented spans {_triple(extents)} mm, but {seen}"
    if any(e > REFUSED_FACTOR * high for e, high in zip(extents, span["high"], strict=True)):
        return Deviation(REFUSED, f"{given}: give a region of interest of about that size around the structure.", kind)
    if any(e > WARNED_FACTOR * high for e, high in zip(extents, span["high"], strict=True)):
        return Deviation(WARNING, f"{given}: a smaller region of interest is safer.", kind)
    if any(e < low / WARNED_FACTOR for e, low in zip(extents, span["low"], strict=True)):
        return Deviation(WARNING, f"{given}: a larger region of interest is safer.", kind)
    return None


def _spacing(spacing: Sequence[float], bundle: Bundle) -> Deviation | None:
    assert bundle.fingerprint is not None
    span = bundle.fingerprint["spacing_mm"]
    pairs = zip(spacing, span["low"], span["high"], strict=True)
    if all(low / SPACING_FACTOR <= value <= SPACING_FACTOR * high for value, low, high in pairs):
        return None
    return Deviation(
        WARNING,
        f"The voxels are {_triple(spacing)} mm, but those of the training cases of '{bundle.name}' {_range(span)} mm: "
        "finer detail than in training is lost and coarser images carry less; check the result with care.",
        "spacing",
    )


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _range(span: dict[str, Sequence[float]]) -> str:
    pairs = zip(span["low"], span["high"], strict=True)
    return " x ".join(f"{low:.3g}" if low == high else f"{low:.3g}-{high:.3g}" for low, high in pairs)


def _picture(f: ImageFeatures, block: Mapping[str, Any], channel: str, orientation: str) -> Deviation | None:
    template = np.asarray(block["template"]).reshape((CELLS,) * 3)
    own, other, letters = _template_correlation(f.cells, template, block["mirror_axis"], orientation)
    least = block["likeness"] - ROUND_OFF
    alike, reorient = own >= least, other - own > block["turned_gain"] and other >= least
    if alike and not reorient:
        return None
    figures = f"(correlation with their average {own:.2f}; training cases at least {least:.2f})"
    text = f"The {channel} image does not show what the training cases show {figures}"
    if own < -abs(least):
        return Deviation(WARNING, f"{text}: dark and bright seem to be exchanged.", "picture")
    if reorient:
        start = f"The {channel} image looks turned {figures}" if alike else text
        return Deviation(
            WARNING,
            f"{start}: with axes running towards {letters} instead of {orientation} it would fit better ({other:.2f}); "
            "check in a viewer that anterior and superior are where the file says.",
            "picture",
        )
    return Deviation(WARNING, f"{text}: check the kind of image and the place of the region of interest.", "picture")


def _noise(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Deviation | None:
    low, high = block["noise"]
    if f.noise is None or low <= f.noise <= high:
        return None
    figures = f"(noise {f.noise:.3f} of the contrast; training cases {low:.3f} to {high:.3f})"
    if f.noise < low:
        return Deviation(NOTE, f"The {channel} image is smoother than the training cases {figures}.", "noise")
    much = "much " if f.noise > 2 * high else ""
    return Deviation(WARNING, f"The {channel} image is {much}noisier than the training cases {figures}.", "noise")


def _contrast(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Deviation | None:
    low, high = block["middle_half"]
    if low <= f.middle_half <= high:
        return None
    less_more = "less" if f.middle_half < low else "more"
    return Deviation(
        NOTE,
        f"The {channel} image has {less_more} contrast than the training cases (the middle half of its voxels spans "
        f"{f.middle_half:.0%} of the range of grey values; training cases {low:.0%} to {high:.0%}).",
        "contrast",
    )


def _grey_values(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Deviation | None:
    found = _distance(f, np.asarray(block["quantiles"]))
    if found <= block["quantile_distance"]:
        return None
    return Deviation(
        NOTE,
        f"The grey values of the {channel} image are distributed unlike those of the training cases (on average "
        f"{found:.0%} of their range away; training cases at most {block['quantile_distance']:.0%}).",
        "grey values",
    )


def _intensities(f: ImageFeatures, block: Mapping[str, Any], channel: str) -> Deviation | None:
    span = block["intensities"]
    if span is None:
        return None
    (low_from, low_to), (high_from, high_to) = span["low"], span["high"]
    if low_from <= f.low <= low_to and high_from <= f.high <= high_to:
        return None
    return Deviation(
        WARNING,
        f"The intensities of the {channel} image run from {f.low:g} to {f.high:g}; those of the training cases start "
        f"at {low_from:g} to {low_to:g} and end at {high_from:g} to {high_to:g}: check unit and offset.",
        "intensities",
    )


def _distance(f: ImageFeatures, quantiles: np.ndarray) -> float:
    return float(np.abs(np.asarray(f.quantiles) - quantiles).mean())


def _template_correlation(
    cells: np.ndarray, template: np.ndarray, mirror_axis: int | None, orientation: str = "RAS"
) -> tuple[float, float, str]:
    """Correlation with the template as the axes are, the best one with turned axes, and the letters of those.

    Mirroring that the model was trained with is no turning.
    """
    goal = template.ravel()
    own, best, letters = _correlation(cells, goal), -1.0, ""
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        flipped = tuple(axis for axis in range(3) if flips[axis])
        if order == (0, 1, 2) and set(flipped) <= ({mirror_axis} if mirror_axis is not None else set()):
            continue
        found = _correlation(np.flip(cells.transpose(order), flipped), goal)
        if found > best:
            best, letters = found, _letters(order, flips, orientation)
    return own, best, letters


def _letters(order: Sequence[int], flips: Sequence[bool], orientation: str) -> str:
    """Towards which the axes x, y, z of cells run that fit once transposed by `order`, then flipped."""
    seen = [""] * 3
    for axis, (source, flipped) in enumerate(zip(order, flips, strict=True)):
        letter = orientation[2 - axis]
        seen[2 - source] = _OPPOSITE.get(letter, f"-{letter}") if flipped else letter  # "xyz" where axes have no names
    return "".join(seen)


def _correlation(cells: np.ndarray, goal: np.ndarray) -> float:
    flat = cells.ravel()
    if flat.std() < 1e-9 or goal.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(flat, goal)[0, 1])
