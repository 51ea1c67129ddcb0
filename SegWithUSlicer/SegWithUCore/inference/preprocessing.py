"""From images as they come to the tensor a network was trained on, and nothing that training does not do too."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..models.input_spec import InputSpec
from .volume import orientation_of

SPACING_TOLERANCE = 1e-3
"""Relative difference below which two spacings count as equal: headers round to about 1e-5."""


def to_working_grid(image: sitk.Image, spec: InputSpec, labels: bool = False) -> sitk.Image:
    """Turn the axes to the spec's orientation and resample to its working spacing.

    Without resampling only axes are permuted and flipped, so voxel values stay bit-identical.

    Args:
        labels: nearest neighbour instead of linear.
    """
    turned = sitk.DICOMOrient(image, spec.orientation)
    if spec.spacing_mm is None or np.allclose(turned.GetSpacing(), spec.spacing_mm, rtol=SPACING_TOLERANCE):
        return turned
    return _resample(turned, spec.spacing_mm, sitk.sitkNearestNeighbor if labels else sitk.sitkLinear)


def _resample(image: sitk.Image, spacing: Sequence[float], interpolator: int) -> sitk.Image:
    old = np.asarray(image.GetSpacing())
    new = np.asarray(spacing)
    size = np.maximum(1, np.rint(np.asarray(image.GetSize()) * old / new)).astype(int)
    # The outer faces of the first voxels coincide, so that the covered box stays the same.
    shift = np.asarray(image.GetDirection()).reshape(3, 3) @ ((new - old) / 2)
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in size])
    filter_.SetOutputSpacing([float(v) for v in new])
    filter_.SetOutputOrigin([float(v) for v in np.asarray(image.GetOrigin()) + shift])
    filter_.SetOutputDirection(image.GetDirection())
    filter_.SetInterpolator(interpolator)
    filter_.UseNearestNeighborExtrapolatorOn()
    return filter_.Execute(image)


def network_input(channels: Sequence[sitk.Image], spec: InputSpec) -> tuple[np.ndarray, sitk.Image]:
    """Working-grid array of all channels and the grid it lies on.

    Args:
        channels: one image per channel of the spec, all on one grid.

    Returns:
        Normalised float32 array (channels, z, y, x) and the working grid.

    Raises:
        InputError: the number of channels is wrong.
    """
    if len(channels) != len(spec.channels):
        wanted = ", ".join(spec.channels)
        raise InputError(
            f"The model wants {len(spec.channels)} channel(s) ({wanted}) but {len(channels)} were given: "
            "give one file a channel."
        )
    working = [to_working_grid(image, spec) for image in channels]
    arrays = [spec.normalisation(sitk.GetArrayViewFromImage(image)) for image in working]
    return np.stack(arrays), working[0]


def mirrored_copy(image: sitk.Image) -> sitk.Image:
    """The image with left and right exchanged along its left-right voxel axis; the grid stays where it is."""
    letters = orientation_of(image)
    axis = next(i for i, letter in enumerate(letters) if letter in "LR")
    flipped = sitk.Flip(image, [i == axis for i in range(3)])
    flipped.CopyInformation(image)
    return flipped
