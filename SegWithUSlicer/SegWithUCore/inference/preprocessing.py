"""From images as they come to the tensor a network was trained on, and nothing that training does not do too.

With models of nnU-Net it prepares as nnU-Net does: crop to nonzero voxels, normalise, resample with splines.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import SimpleITK as sitk

from ..io.grid import VoxelGrid
from ..io.roi import EMPTY, VoxelBox, whole_grid
from ..io.volume import reorient
from ..models.bundle import Bundle
from ..models.input_spec import InputSpec, NnunetPreparation
from ..network.specs import MASK_ALONE
from ..util.errors import InputError

SPACING_TOLERANCE = 1e-3
"""Relative difference below which two spacings count as equal: headers round to about 1e-5."""


def to_working_grid(image: sitk.Image, spec: InputSpec, labels: bool = False) -> sitk.Image:
    """Turn the axes to the spec's orientation and resample to its working spacing.

    Without resampling only axes are permuted and flipped, so voxel values stay bit-identical.

    Args:
        labels: nearest neighbour instead of linear.
    """
    upright = reorient(image, spec.orientation)
    size, spacing = working_size(upright, spec)
    if size == upright.GetSize() and np.allclose(upright.GetSpacing(), spacing, rtol=SPACING_TOLERANCE):
        return upright
    how = sitk.sitkNearestNeighbor if labels else sitk.sitkLinear
    grid = grid_within(upright, size, spacing)
    return sitk.Resample(upright, grid, sitk.Transform(), how, 0.0, upright.GetPixelID(), True)


def working_size(upright: sitk.Image | VoxelGrid, spec: InputSpec) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Size and spacing (x, y, z) of the working grid of an image whose axes are turned already.

    nnU-Net fits an integer number of voxels between the outer faces of the image, which changes the spacing a little.
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
        fitted = resampled_shape(size, old, working_spacing(spec, old))
        return fitted, tuple(n * s / new for n, s, new in zip(size, old, fitted, strict=True))
    wanted = working_spacing(spec, old)
    if np.allclose(old, wanted, rtol=SPACING_TOLERANCE):
        return size, old
    voxels = np.maximum(1, np.rint(np.asarray(size) * np.asarray(old) / np.asarray(wanted))).astype(int)
    return tuple(int(n) for n in voxels), wanted


def working_spacing(spec: InputSpec, own: Sequence[float]) -> tuple[float, ...]:
    """Return the spacing (x, y, z) to which an image of spacing `own` is resampled."""
    wanted = [each or kept for each, kept in zip(spec.spacing_mm or own, own, strict=True)]
    if spec.nnunet is not None and spec.window[2] == 1:  # nnU-Net's 2d configuration keeps the slices as they are
        wanted[2] = own[2]
    return tuple(wanted)


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
        raise InputError(f"The model wants the channel(s) {wanted}, but {len(channels)} were given.", "other-channels")
    prepared = _prepared(channels, spec) if spec.nnunet is None else _nnunet_prepared(channels, spec, spec.nnunet)
    array, grid = np.empty((0, 0, 0, 0), np.float32), channels[0]
    for number, (channel, grid) in enumerate(prepared):
        if len(channels) == 1:  # no second copy of a large image
            return channel[None], grid
        if not number:
            array = np.empty((len(channels), *channel.shape), np.float32)
        array[number] = channel
    return array, grid


def engine_input(
    channels: Sequence[sitk.Image], bundle: Bundle, mask: np.ndarray | None = None
) -> tuple[np.ndarray, sitk.Image]:
    """As `network_input`; a model without a network gets the mask that it judges as a further channel.

    Args:
        mask: class indices (z, y, x) on the grid of the channels.

    Raises:
        InputError: as `network_input`; such a model is given no mask.
    """
    array, grid = network_input(channels, bundle.input)
    if bundle.backbone.kind != MASK_ALONE:
        return array, grid
    if mask is None:
        problem = f"The model '{bundle.name}' has no network, so it judges segmentations only"
        raise InputError(f"{problem}: use segwithu judge, or choose another.", "needs-mask")
    return np.concatenate([array, mask[None]]), grid


def _prepared(channels: Sequence[sitk.Image], spec: InputSpec) -> Iterator[tuple[np.ndarray, sitk.Image]]:
    """Resample and normalise channel by channel; yields each with the grid that it lies on."""
    for normalise, image in zip(spec.channel_normalisations, channels, strict=True):
        working = to_working_grid(image, spec)
        yield normalise(sitk.GetArrayViewFromImage(working)), working


def assessed_box(channels: Sequence[sitk.Image], spec: InputSpec) -> VoxelBox:
    """Find the part that the network sees: all of it, but for nnU-Net the box of nonzero voxels.

    Args:
        channels: one image per channel, all on one grid, cut to the region of interest.
    """
    if spec.nnunet is None:
        return whole_grid(channels[0])
    nonzero = np.zeros(channels[0].GetSize()[::-1], bool)
    for image in channels:
        nonzero |= sitk.GetArrayViewFromImage(image) != 0
    box = VoxelBox.around(nonzero)
    return whole_grid(channels[0]) if box == EMPTY else box


AROUND_MASK = 12
"""Voxels around a mask that a model without a network sees: an error lies near what is drawn."""


def box_around_mask(mask: np.ndarray) -> VoxelBox:
    """Return the box of a mask (z, y, x) and `AROUND_MASK` voxels around it."""
    box = VoxelBox.around(mask)
    wide = VoxelBox.between(np.subtract(box.index, AROUND_MASK), np.add(box.index, box.size) + AROUND_MASK)
    return wide.shared_with(VoxelBox.between((0, 0, 0), mask.shape[::-1]))


THICK_SLICES = 3.0
"""Ratio of the coarsest to the finest spacing above which slices are resampled one by one."""


def nonzero_mask(channels: Sequence[np.ndarray]) -> np.ndarray:
    """Voxels that are not zero in some channel, and the holes among them; arrays (z, y, x).

    As scipy's `binary_fill_holes`, in a few bytes a voxel and a tenth of the time.
    """
    mask = np.zeros(channels[0].shape, bool)
    for channel in channels:
        mask |= channel != 0
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray(mask.view(np.uint8)), fullyConnected=False, foregroundValue=1)
    return sitk.GetArrayFromImage(filled).view(bool)


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """Size of a volume of `shape` and `spacing` after resampling to the spacing `wanted`, in the same axis order."""
    return tuple(max(1, round(old / new * size)) for size, old, new in zip(shape, spacing, wanted, strict=True))


def spline_resampled(
    array: np.ndarray, spacing: Sequence[float], wanted: Sequence[float], how: NnunetPreparation
) -> np.ndarray:
    """Resample an array to the spacing `wanted`, float32; the outer faces of the volume stay where they are.

    Args:
        array: (z, y, x).
        spacing, wanted: mm along z, y, x.
    """
    shape = resampled_shape(array.shape, spacing, wanted)
    if shape == array.shape:
        return array.astype(np.float32, copy=False)
    axis = thick_axis(spacing, wanted, how.separate_slices)
    if axis is None:
        return _zoomed_by_planes(array, shape, how.order)
    in_plane = shape[:axis] + shape[axis + 1 :]
    found = np.empty(shape, np.float32)
    slices = np.moveaxis(found, axis, 0)
    made, part = -1, np.empty(0)
    for number, index in enumerate(_nearest_slices(array.shape[axis], shape[axis])):
        if index != made:
            values = np.take(array, index, axis)
            made, part = index, np.clip(_zoomed(values, in_plane, how.order), values.min(), values.max())
        slices[number] = part
    return found


def thick_axis(spacing: Sequence[float], wanted: Sequence[float], separate: bool | None = None) -> int | None:
    """Find the axis across which slices are resampled one by one; None if all axes are resampled together.

    Args:
        separate: as `NnunetPreparation.separate_slices`.
    """
    thick = [max(each) / min(each) > THICK_SLICES for each in (spacing, wanted)]
    deciding = spacing if separate or thick[0] else wanted
    if separate is False or not (separate or any(thick)):
        return None
    coarsest = [axis for axis, value in enumerate(deciding) if value == max(deciding)]
    return coarsest[0] if len(coarsest) == 1 else None


def grid_within(image: sitk.Image, size: Sequence[int], spacing: Sequence[float]) -> sitk.Image:
    """Make an empty image of that size and spacing; the outer faces of the first voxels are those of `image`."""
    old, new = np.asarray(image.GetSpacing()), np.asarray(spacing)
    shift = np.asarray(image.GetDirection()).reshape(3, 3) @ ((new - old) / 2)
    (i, j, k), origin = (int(n) for n in size), np.asarray(image.GetOrigin()) + shift
    grid = VoxelGrid((i, j, k), tuple(new.tolist()), tuple(origin.tolist()), image.GetDirection())
    return grid.put_on(sitk.Image(grid.size, sitk.sitkUInt8))


def _nnunet_prepared(
    channels: Sequence[sitk.Image], spec: InputSpec, how: NnunetPreparation
) -> Iterator[tuple[np.ndarray, sitk.Image]]:
    """As `_prepared`, for channels that are cut to `assessed_box` already."""
    upright = [reorient(image, spec.orientation) for image in channels]
    inside = nonzero_mask([sitk.GetArrayViewFromImage(image) for image in upright])
    size, spacing = working_size(upright[0], spec)
    grid = upright[0] if spec.spacing_mm is None else grid_within(upright[0], size, spacing)
    old = upright[0].GetSpacing()[::-1]
    wanted = working_spacing(spec, old[::-1])[::-1]
    for normalise, image in zip(spec.channel_normalisations, upright, strict=True):
        channel = normalise(sitk.GetArrayViewFromImage(image), inside)
        yield channel if spec.spacing_mm is None else spline_resampled(channel, old, wanted, how), grid


def _zoomed_by_planes(array: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """Resample (z, y, x) within its slices, and then across them: splines are products of those along each axis.

    So a few planes at a time are held in double precision, not the volume, and fewer neighbours are added up.
    """
    across, within = shape[0], tuple(shape[1:])
    middle: np.ndarray = array
    if array.shape[1:] != within:
        middle = np.empty((array.shape[0], *within), np.float32)
        for part, target in zip(array, middle, strict=True):
            target[...] = _zoomed(part, within, order)
    found: np.ndarray = middle
    if array.shape[0] != across:
        found = np.empty(tuple(shape), np.float32)
        for row in range(within[0]):
            found[:, row] = _zoomed(middle[:, row], (across, within[1]), order)
    return np.clip(found, array.min(), array.max(), out=found)  # splines overshoot at edges


def _zoomed(values: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    values = values.astype(np.float64)
    if values.shape == tuple(shape):
        return values
    from scipy import ndimage  # in these functions only: loading it delays the first window

    factors = [new / old for new, old in zip(shape, values.shape, strict=True)]
    return ndimage.zoom(values, factors, order=order, mode="nearest", grid_mode=True)


def _nearest_slices(old: int, new: int) -> list[int]:
    """For each new slice, the index of the old one whose centre is nearest, ties as scipy decides them."""
    from scipy import ndimage

    places = (np.arange(new) + 0.5) * (old / new) - 0.5
    return [int(i) for i in ndimage.map_coordinates(np.arange(old), [places], order=0, mode="nearest")]
