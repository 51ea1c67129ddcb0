"""The out-of-distribution (OOD) check: does the input look like what the model was trained on?

A bundle's *OOD reference* holds what its training cases have in common: field of view, spacing and, for each channel,
what `ood_channels` compares. A *deviation* is one way in which an input differs from it; its sentence is shown before
any result. No model can segment some inputs: a header in another unit, few voxels, a segmentation instead of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..models import proposal
from ..models.bundle import LEAST_HEAD_MM, Bundle
from ..models.proposal import mm_range, reoriented, triple
from ..models.quality import IMAGE_QUALITY
from ..network.specs import MASK_ALONE
from .deviation import REFUSED, TOO_SMALL, WARNING, Deviation, is_refused
from .image_features import ImageFeatures, image_features, reorient_axes, reorient_cells
from .lost_calibration import blank_deviations
from .ood_channels import appearance_deviations, quality_deviations

SPACING_FACTOR = 1.5


def input_deviations(images: Sequence[sitk.Image], bundle: Bundle) -> list[Deviation]:
    """Say what no model can segment, then how the input differs from the training cases; arguments as `deviations`."""
    if bundle.ood_reference is None:
        return []
    labels = [found for pair in zip(bundle.input.channels, images, strict=True) for found in _labels(*pair)]
    return [*labels, *deviations(images, bundle)]


def deviations(images: Sequence[sitk.Image], bundle: Bundle) -> list[Deviation]:
    """Compare the part to be segmented with the training cases: its grid first, then how each channel looks.

    Args:
        images: the channels, already cut to the region of interest.
    """
    grid, reference = VoxelGrid.of(images[0]), bundle.ood_reference
    if reference is None:
        return []
    seen, orientation = reoriented(grid, bundle.input.orientation), bundle.input.orientation
    voxels = _spacing(seen.spacing, bundle)
    if voxels is not None and voxels.severity == REFUSED:
        return [voxels]  # lengths in mm mean nothing
    # Without a network all but the surroundings of the mask is cut away.
    extents = None if bundle.backbone.kind == MASK_ALONE else _field_of_view(grid, bundle)
    found = [check for check in (extents, voxels) if check is not None]
    if is_refused(found):
        return found
    blocks, qualities = reference.get("channels") or {}, reference.get(IMAGE_QUALITY) or {}
    for channel, image in zip(bundle.input.channels, images, strict=True):
        if blocks.get(channel) is not None:
            own = to_model_orientation(image_features(sitk.GetArrayViewFromImage(image)), grid, orientation)
            found += appearance_deviations(own, blocks[channel], channel, like_spacing=voxels is None)
            if qualities.get(channel) is not None:
                found += quality_deviations(own, qualities[channel], channel, seen.spacing, reference["spacing_mm"])
            found += blank_deviations(own, bundle, channel)
    return found


def to_model_orientation(features: ImageFeatures, grid: sitk.Image | VoxelGrid, orientation: str) -> ImageFeatures:
    """Features with their coarse picture turned from the axes of `grid` to `orientation`, as `volume.reorient` does."""
    own = VoxelGrid.of(grid).orientation
    wanted = "".join(own["xyz".index(axis)] for axis in orientation) if orientation.islower() else orientation
    gradients, sharpness = features.gradients, features.sharpness
    return replace(
        features,
        cells=reorient_cells(features.cells, own, wanted),
        gradients=None if gradients is None else reorient_cells(gradients, own, wanted),
        sharpness=None if sharpness is None else reorient_axes(sharpness, own, wanted),
    )


UNIT_FACTOR = 20.0
"""Spacing beyond this multiple of every training case, or below this part: a header in metres or micrometres."""
TINY_FACTOR = 4.0
"""A side shorter than this part of the smallest training case shows nothing that could be segmented."""


def _field_of_view(grid: VoxelGrid, bundle: Bundle) -> Deviation | None:
    assert bundle.ood_reference is not None
    span, kind, extents = bundle.ood_reference["field_of_view_mm"], "field of view", proposal.extents_mm(grid, bundle)
    given = f"The part to be segmented spans {triple(extents)} mm, but"
    if any(extent < low / TINY_FACTOR for extent, low in zip(extents, span["low"], strict=True)):
        size = " x ".join(map(str, grid.size))
        text = f"The part to be segmented spans only {triple(extents)} mm ({size} voxels), but the training cases of "
        text += f"'{bundle.name}' at least {triple(span['low'])} mm: give "
        text += "the whole volume, not a slice" if 1 in grid.size else "a larger image or region of interest"
        return Deviation(REFUSED, f"{text}.", TOO_SMALL)
    if bundle.placement is not None and bundle.placement.is_whole:
        wanted = f"'{bundle.name}' needs a whole head, {LEAST_HEAD_MM:g} mm or more each way: give the whole image."
        return Deviation(REFUSED, f"{given} {wanted}", TOO_SMALL) if min(extents) < LEAST_HEAD_MM else None
    given += f" the {bundle.ood_reference['cases']} training cases of '{bundle.name}' span {mm_range(span)} mm"
    if proposal.is_larger(extents, bundle, proposal.REFUSED_FACTOR):
        return Deviation(REFUSED, f"{given}: give a region of interest of about that size around the structure.", kind)
    if proposal.is_larger(extents, bundle, proposal.WARNED_FACTOR):
        return Deviation(WARNING, f"{given}: a smaller region of interest is safer.", kind)
    if proposal.is_smaller(extents, bundle, proposal.WARNED_FACTOR):
        return Deviation(WARNING, f"{given}: a larger region of interest is safer.", kind)
    return None


def _spacing(spacing: Sequence[float], bundle: Bundle) -> Deviation | None:
    assert bundle.ood_reference is not None
    span = bundle.ood_reference["spacing_mm"]
    pairs = [*zip(spacing, span["low"], span["high"], strict=True)]
    if all(low / SPACING_FACTOR <= value <= SPACING_FACTOR * high for value, low, high in pairs):
        return None
    if not all(low / UNIT_FACTOR <= value <= UNIT_FACTOR * high for value, low, high in pairs):
        text = f"The voxels are {triple(spacing)} mm, but those of the training cases of '{bundle.name}' about "
        text += f"{triple(span['low'])} mm: correct the spacing, which seems to have another unit than millimetres."
        return Deviation(REFUSED, text, "spacing")
    usual = f"those of the training cases of '{bundle.name}' {mm_range(span)} mm"
    return Deviation(WARNING, f"The voxels are {triple(spacing)} mm, {usual}: check the result with care.", "spacing")


FEWEST_VALUES, SAMPLED = 12, 200_000
"""Different intensities that every image has, and voxels in which they are counted."""


def _labels(channel: str, image: sitk.Image) -> Iterator[Deviation]:
    """Report an image of few different integers, as of a segmentation; one value alone is an empty image."""
    array = sitk.GetArrayViewFromImage(image)
    step = max(1, round((array.size / SAMPLED) ** (1 / 3)))
    values = np.unique(array[::step, ::step, ::step])
    if 1 < values.size < FEWEST_VALUES and np.array_equal(values, np.rint(values)):
        shown = ", ".join(f"{value:g}" for value in values[:4]) + (", ..." if values.size > 4 else "")
        sentence = f"The {channel} image holds {values.size} different values only ({shown}), as a segmentation does"
        yield Deviation(REFUSED, f"{sentence}: give the image that was segmented.", "grey values")
