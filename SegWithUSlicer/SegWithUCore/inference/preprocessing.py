"""From images as they come to the tensor a network was trained on, and nothing that training does not do too."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..imaging.roi import VoxelBox, whole_grid
from ..imaging.volume import orientation_of, turned
from ..imaging.voxel_grid import VoxelGrid
from ..models.input_spec import InputSpec, NnunetPreparation
from .nnunet_preparation import nonzero_mask, resampled_shape, spline_resampled

SPACING_TOLERANCE = 1e-3
"""Relative difference below which two spacings count as equal: headers round to about 1e-5."""


def to_working_grid(image: sitk.Image, spec: InputSpec, labels: bool = False) -> sitk.Image:
    """Turn the axes to the spec's orientation and resample to its working spacing.

    Without resampling only axes are permuted and flipped, so voxel values stay bit-identical.

    Args:
        labels: nearest neighbour instead of linear.
    """
    upright = turned(image, spec.orientation)
    size, spacing = working_size(upright, spec)
    if size == upright.GetSize() and np.allclose(upright.GetSpacing(), spacing, rtol=SPACING_TOLERANCE):
        return upright
    return _resample(upright, size, spacing, sitk.sitkNearestNeighbor if labels else sitk.sitkLinear)


def working_size(upright: sitk.Image | VoxelGrid, spec: InputSpec) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Size and spacing (x, y, z) of the working grid of an image whose axes are turned already.

    nnU-Net fits a whole number of voxels between the outer faces of the image, which changes the spacing a little.
    """
    grid = VoxelGrid.of(upright)
    size, old = grid.size, grid.spacing
    if spec.slice_edge is not None:
        factor = spec.slice_edge / max(size[:2])
        fitted = (*(max(1, round(n * factor)) for n in size[:2]), size[2])
        return fitted, tuple(n * s / new for n, s, new in zip(size, old, fitted, strict=True))
    if spec.spacing_mm is None:
        return size, old
    if spec.nnunet is not None:
        fitted = resampled_shape(size, old, spec.spacing_mm)
        return fitted, tuple(n * s / new for n, s, new in zip(size, old, fitted, strict=True))
    if np.allclose(old, spec.spacing_mm, rtol=SPACING_TOLERANCE):
        return size, old
    voxels = np.maximum(1, np.rint(np.asarray(size) * np.asarray(old) / np.asarray(spec.spacing_mm))).astype(int)
    return tuple(int(n) for n in voxels), spec.spacing_mm


def _resample(image: sitk.Image, size: Sequence[int], spacing: Sequence[float], interpolator: int) -> sitk.Image:
    filter_ = sitk.ResampleImageFilter()
    filter_.SetReferenceImage(_grid_of(image, size, spacing))
    filter_.SetInterpolator(interpolator)
    filter_.UseNearestNeighborExtrapolatorOn()
    return filter_.Execute(image)


def _grid_of(image: sitk.Image, size: Sequence[int], spacing: Sequence[float]) -> sitk.Image:
    """An empty image of that size and spacing; the outer faces of the first voxels coincide with those of `image`."""
    old, new = np.asarray(image.GetSpacing()), np.asarray(spacing)
    shift = np.asarray(image.GetDirection()).reshape(3, 3) @ ((new - old) / 2)
    grid = sitk.Image([int(n) for n in size], sitk.sitkUInt8)
    grid.SetSpacing([float(v) for v in new])
    grid.SetOrigin([float(v) for v in np.asarray(image.GetOrigin()) + shift])
    grid.SetDirection(image.GetDirection())
    return grid


def network_input(channels: Sequence[sitk.Image], spec: InputSpec) -> tuple[np.ndarray, sitk.Image]:
    """Working-grid array of all channels and the grid it lies on.

    Args:
        channels: one image per channel of the spec, all on one grid.

    Returns:
        Normalised float32 array (channels, z, y, x) and an image on the working grid.

    Raises:
        InputError: the number of channels is wrong.
    """
    if len(channels) != len(spec.channels):
        wanted = ", ".join(spec.channels)
        raise InputError(
            f"The model wants {len(spec.channels)} channel(s) ({wanted}) but {len(channels)} were given: "
            "give one file a channel."
        )
    if spec.nnunet is not None:
        return _nnunet_input(channels, spec, spec.nnunet)
    working = [to_working_grid(image, spec) for image in channels]
    pairs = zip(spec.channel_normalisations, working, strict=True)
    return np.stack([normalise(sitk.GetArrayViewFromImage(image)) for normalise, image in pairs]), working[0]


def _nnunet_input(
    channels: Sequence[sitk.Image], spec: InputSpec, how: NnunetPreparation
) -> tuple[np.ndarray, sitk.Image]:
    """As `network_input`, for channels that are cut to `assessed_box` already."""
    upright = [turned(image, spec.orientation) for image in channels]
    arrays = [sitk.GetArrayFromImage(image) for image in upright]
    inside = nonzero_mask(arrays)
    normalised = [each(array, inside) for each, array in zip(spec.channel_normalisations, arrays, strict=True)]
    if spec.spacing_mm is None:
        return np.stack(normalised), upright[0]
    old, wanted = upright[0].GetSpacing()[::-1], spec.spacing_mm[::-1]
    working = [spline_resampled(array, old, wanted, how) for array in normalised]
    size, spacing = working_size(upright[0], spec)
    return np.stack(working), _grid_of(upright[0], size, spacing)


def assessed_box(channels: Sequence[sitk.Image], spec: InputSpec) -> VoxelBox:
    """The part of the images that the network is shown: all of it, but for nnU-Net the box of nonzero voxels.

    Args:
        channels: one image per channel, all on one grid, cut to the region of interest.
    """
    if spec.nnunet is None:
        return whole_grid(channels[0])
    nonzero = np.zeros(channels[0].GetSize()[::-1], bool)
    for image in channels:
        nonzero |= sitk.GetArrayViewFromImage(image) != 0
    if not nonzero.any():
        return whole_grid(channels[0])
    # Axis by axis: a list of all nonzero voxels would take 24 bytes for each.
    places = [np.flatnonzero(nonzero.any(axis=tuple({0, 1, 2} - {axis}))) for axis in (2, 1, 0)]
    i, j, k = (int(place[0]) for place in places)
    di, dj, dk = (int(place[-1] - place[0]) + 1 for place in places)
    return VoxelBox((i, j, k), (di, dj, dk))


def mirrored_copy(image: sitk.Image) -> sitk.Image:
    """The image with left and right exchanged along its left-right voxel axis; the grid stays where it is."""
    letters = orientation_of(image)
    axis = next(i for i, letter in enumerate(letters) if letter in "LR")
    flipped = sitk.Flip(image, [i == axis for i in range(3)])
    flipped.CopyInformation(image)
    return flipped
