"""Inputs that no model can segment: a header in another unit, a few voxels, a segmentation instead of an image."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..io.volume import orientation_of
from ..models.bundle import Bundle
from .deviation import REFUSED, Deviation

UNIT_FACTOR = 20.0
"""Spacing beyond this multiple of every training case, or below this part: a header in metres or micrometres."""
TINY_FACTOR = 4.0
"""A side shorter than this part of the smallest training case shows nothing that could be segmented."""
FEWEST_VALUES, SAMPLED = 12, 200_000
"""Different intensities that every image has, and voxels that are looked at for them."""


def odd_inputs(images: Sequence[sitk.Image], bundle: Bundle) -> list[Deviation]:
    """Say what no model can segment; nothing where the model does not know its training cases.

    Args:
        images: the channels, cut to the region of interest.
    """
    if bundle.fingerprint is None:
        return []
    checks = [_unit(images[0], bundle), _tiny(images[0], bundle)]
    checks += [_labels(name, image) for name, image in zip(bundle.input.channels, images, strict=True)]
    return [check for check in checks if check is not None]


def _turned(image: sitk.Image, bundle: Bundle) -> tuple[list[float], list[float]]:
    """Spacing and edge lengths along the model's axes."""
    wanted = bundle.input.orientation
    own = orientation_of(image)
    if wanted.islower():
        order = ["xyz".index(letter) for letter in wanted]
    else:
        order = [next(axis for axis, side in enumerate(own) if side in _LINES[letter]) for letter in wanted]
    spacing = [float(image.GetSpacing()[axis]) for axis in order]
    return spacing, [image.GetSize()[axis] * image.GetSpacing()[axis] for axis in order]


_LINES = {"R": "RL", "L": "RL", "A": "AP", "P": "AP", "S": "SI", "I": "SI"}


def _unit(image: sitk.Image, bundle: Bundle) -> Deviation | None:
    assert bundle.fingerprint is not None
    span = bundle.fingerprint["spacing_mm"]
    spacing, _ = _turned(image, bundle)
    pairs = list(zip(spacing, span["low"], span["high"], strict=True))
    if all(low / UNIT_FACTOR <= value <= UNIT_FACTOR * high for value, low, high in pairs):
        return None
    sentence = (
        f"The voxels are {_triple(spacing)} mm, but those of the training cases of '{bundle.name}' about "
        f"{_triple(span['low'])} mm: the header seems to have another unit than millimetres, so correct its spacing"
    )
    return Deviation(REFUSED, f"{sentence}.", "spacing")


def _tiny(image: sitk.Image, bundle: Bundle) -> Deviation | None:
    assert bundle.fingerprint is not None
    low = bundle.fingerprint["field_of_view_mm"]["low"]
    _, extents = _turned(image, bundle)
    if all(extent >= least / TINY_FACTOR for extent, least in zip(extents, low, strict=True)):
        return None
    size = " x ".join(str(voxels) for voxels in image.GetSize())
    sentence = (
        f"The part to be segmented has {size} voxels and spans {_triple(extents)} mm, too little to show a "
        f"structure; the training cases of '{bundle.name}' span at least {_triple(low)} mm: give a larger image or "
        "region of interest"
    )
    return Deviation(REFUSED, f"{sentence}.", "field of view")


def _labels(channel: str, image: sitk.Image) -> Deviation | None:
    """Say so where an image holds a few whole numbers only, as segmentations do; one value alone is an empty image."""
    array = sitk.GetArrayViewFromImage(image)
    step = max(1, round((array.size / SAMPLED) ** (1 / 3)))
    values = np.unique(array[::step, ::step, ::step])
    if not 1 < values.size < FEWEST_VALUES or not np.array_equal(values, np.rint(values)):
        return None
    shown = ", ".join(f"{value:g}" for value in values[:4]) + (", ..." if values.size > 4 else "")
    sentence = (
        f"The {channel} image holds {values.size} different values only ({shown}), as a segmentation does: give the "
        "image that was segmented"
    )
    return Deviation(REFUSED, f"{sentence}.", "grey values")


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
