"""Images as this program takes them: a `Volume` with what its header says, and the geometry of images.

Axis order: SimpleITK images index (i, j, k) = (x, y, z); numpy arrays and tensors are (z, y, x),
k slowest. Points are RAS millimetres in everything a user sees and LPS inside SimpleITK.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError, UsageError, unreadable_named
from ..util.input_files import regular_file
from ..util.memory import check_memory
from . import metaimage, mgh, nifti, nrrd
from .dicom_folder import is_dicom
from .grid import VoxelGrid, check_geometry, check_grid, check_scalar_volume
from .header_fields import DETACHED
from .image_file import WANTED, StoredImage, check_voxels, checked_place, not_finite, read_voxels, unreadable


def _read_no_pair(path: Path) -> StoredImage:
    raise InputError(f"{path} is header or voxels of two files: save one .nii.gz, .nrrd or .mha.", DETACHED)


FORMATS = (
    (nrrd.SUFFIXES, nrrd.read_nrrd_header),
    (metaimage.SUFFIXES, metaimage.read_metaimage_header),
    (nifti.SUFFIXES, nifti.read_nifti_header),
    (mgh.SUFFIXES, mgh.read_mgh_header),
    ((".hdr", ".img", ".hdr.gz", ".img.gz", ".nia", ".nhdr", ".mhd"), _read_no_pair),
)
"""Ends of file names, and what reads and checks the header of such a file: all that a format needs."""
_GREY_LEVELS = 4096
"""Of a CT; an image that keeps so many steps between its darkest and its brightest voxel loses nothing of use."""
_LPS_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Header:
    """What the header of a file or a DICOM series says, read once: before the voxels, and kept with them.

    Attributes:
        grid: of the one volume; None where only reading says what is wrong. Of a DICOM series only its size is known.
        voxel_bytes: of one number as stored.
        components: numbers a voxel.
        notes: warnings about what it leaves open, without a file name.
        has_two_places: whether qform and sform of a NIfTI file put the image at two places.
        source: what reads the voxels.
        patient: of a DICOM series, PatientID and its issuer; no file gets them.
    """

    grid: VoxelGrid | None
    voxel_bytes: int = 4
    components: int = 1
    notes: tuple[str, ...] = ()
    has_two_places: bool = False
    source: Any = None
    patient: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """An image that was read, with its header.

    Attributes:
        image: its voxels, in float32, and its grid.
        header: of the file or series.
    """

    image: sitk.Image
    header: Header


def read_header(path: Path) -> Header:
    """Read and check the header of an image file.

    Raises:
        InputError: as `read_volume`, as far as header and size of the file tell.
    """
    stored = stored_header(path)
    checked_place(stored)
    number_bytes = stored.number.itemsize
    if stored.is_scaled and stored.number.kind != "f":  # integers become float32
        number_bytes = max(number_bytes, 4)
    i, j, k = stored.size
    grid = VoxelGrid((i, j, k), stored.spacing, stored.origin, stored.direction)
    check_geometry(path, grid.size, grid.spacing, grid.origin, np.reshape(grid.direction, (3, 3)))
    return Header(grid, number_bytes, stored.components, stored.notes, stored.has_two_places, stored)


def read_volume(path: Path, header: Header | None = None) -> Volume:
    """Read a scalar 3D image file of any voxel type as float32.

    Args:
        header: of that file, where it was read before.

    Raises:
        InputError: missing, unreadable or truncated file; not 3D; several values a voxel;
            NaN or infinite voxels; a constant image.
    """
    if header is None or header.source is None:
        header = read_header(path)
    return Volume(checked_volume(path, read_stored(header.source)), header)


def read_image(path: Path) -> sitk.Image:
    """Read the voxels and grid of an image file, as `read_volume`."""
    return read_volume(path).image


def read_file(path: Path) -> sitk.Image:
    """Read an image file as it is, with every byte checked: any type, and values a voxel.

    Voxels, grid and, of NRRD files, key/value pairs (`GetMetaData`) are those that ITK gives.

    Raises:
        InputError: no regular file, a damaged or unknown one, or voxels outside the folder of their header.
    """
    return read_stored(stored_header(path))


def read_labels(path: Path) -> sitk.Image:
    """Read a label volume as int16, whatever type the file has.

    Raises:
        InputError: as `read_file`, or labels that are not integers of 16 bits.
    """
    image = read_file(path)
    array = whole_labels(path, sitk.GetArrayViewFromImage(image))
    labels = sitk.GetImageFromArray(array, isVector=image.GetNumberOfComponentsPerPixel() > 1)
    labels.CopyInformation(image)
    return labels


def whole_labels(path: Path, array: np.ndarray) -> np.ndarray:
    """Make labels that were read from `path` int16.

    Raises:
        InputError: they are not integers of 16 bits.
    """
    rounded = np.rint(array)
    if not np.array_equal(rounded, array):
        raise InputError(f"{path} holds {array[rounded != array][0]:g}: give a label volume.", "label-values")
    limits = np.iinfo(np.int16)
    outside = (array < limits.min) | (array > limits.max)
    if outside.any():
        label, span = array[outside][0], f"from {limits.min} to {limits.max}"
        raise InputError(f"{path} holds the label {label:.0f}: give labels {span}.", "label-values")
    return rounded.astype(np.int16)


def stored_header(path: Path) -> StoredImage:
    """Read and check the header of an image file of any of the formats; what a format is, the file's name says.

    Raises:
        InputError: no regular file, a damaged or unknown one, or voxels outside the folder of their header.
    """
    regular_file(path, WANTED)
    name = path.name.lower()
    with unreadable_named(path):
        for suffixes, read in FORMATS:
            if name.endswith(suffixes):
                if read is nifti.read_nifti_header and is_dicom(path):  # in haste renamed
                    break
                return read(path)
        if not is_dicom(path):
            raise unreadable(path, "the format is unknown")
    raise InputError(f"{path} is one DICOM file: give the folder that holds the whole series.", "one-dicom-file")


def read_stored(stored: StoredImage) -> sitk.Image:
    """Read the voxels of a file whose header was read; key/value pairs of the header become metadata.

    Raises:
        InputError: as `read_voxels`, or its grid cannot be that of a patient's image.
    """
    checked_place(stored)
    voxels = math.prod(stored.shape)
    needed = voxels * (stored.number.itemsize + 4)
    check_memory(f"Reading {voxels} voxels", needed, ["give a smaller image"], file=stored.path)
    with unreadable_named(stored.path):
        array = np.ascontiguousarray(read_voxels(stored))
    image = sitk.GetImageFromArray(array, isVector=array.ndim > len(stored.size))
    image.SetSpacing(stored.spacing)
    image.SetOrigin(stored.origin)
    image.SetDirection(stored.direction)
    for key, value in stored.fields.items():
        image.SetMetaData(key, value)
    check_grid(stored.path, image)
    return image


def check_file(path: Path) -> None:
    """Check that a volume which was just written is whole: not every library reports a full disk.

    Raises:
        InputError: it is cut or damaged, or has voxels that are not finite.
    """
    check_voxels(stored_header(path))


def checked_volume(path: Path, image: sitk.Image) -> sitk.Image:
    """Convert what was read from `path` to float32, if it is a usable volume.

    Raises:
        InputError: as `read_volume` where the file could be read.
    """
    values, is_complex = image.GetNumberOfComponentsPerPixel(), "complex" in image.GetPixelIDTypeAsString()
    check_scalar_volume(path, image.GetSize(), values, is_complex)
    if image.GetPixelID() != sitk.sitkFloat32:  # else it would be copied
        image = sitk.Cast(image, sitk.sitkFloat32)
    array = sitk.GetArrayViewFromImage(image)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():  # a NaN is the least and the largest
        raise not_finite(path, int(array.size - np.count_nonzero(np.isfinite(array))), array.size)
    if low == high:
        raise InputError(f"{path} is empty: every voxel is {low:g}; check that the right file was given.")
    return image


def coarse_notes(image: sitk.Image) -> list[str]:
    """Say that an image read as float32 has few grey levels, because its numbers lie far from 0; else nothing."""
    array = sitk.GetArrayViewFromImage(image)
    low, high = float(array.min()), float(array.max())
    step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
    if low == high or step * _GREY_LEVELS <= high - low or (step <= 1 and np.array_equal(np.rint(array), array)):
        return []
    span = f"from {low:.10g} to {high:.10g}, where single precision has steps of {step:.3g}"
    return [f"The intensities run {span}: finer differences are lost, so subtract a constant from the image."]


def same_grid(a: sitk.Image, b: sitk.Image, tolerance: float = 1e-3) -> bool:
    """Whether two images have the same size, and corners within `tolerance` of the smallest spacing."""
    if a.GetSize() != b.GetSize():
        return False
    corners = [(0, 0, 0), tuple(n - 1 for n in a.GetSize())]
    corners += [tuple((n - 1) * (axis == i) for i, n in enumerate(a.GetSize())) for axis in range(3)]
    first, second = ([image.TransformIndexToPhysicalPoint(corner) for corner in corners] for image in (a, b))
    return float(np.abs(np.subtract(first, second)).max()) <= tolerance * min(a.GetSpacing())


def check_same_grid(path: Path, image: sitk.Image, first_path: Path, first: sitk.Image) -> None:
    """Refuse an image that does not lie on the grid of the first one.

    Raises:
        InputError: names both grids.
    """
    if not same_grid(image, first):
        grids = [f"{grid.place}, axes towards {grid.orientation}" for grid in map(VoxelGrid.of, (image, first))]
        found = f"{path} is not on the grid of {first_path} ({grids[0]} instead of {grids[1]})"
        raise InputError(f"{found}: resample one to the other.", "other-grid")


def grid_facts(image: sitk.Image) -> dict[str, list[float]]:
    """Size, spacing (mm), origin and direction (LPS, row by row) as JSON values."""
    return VoxelGrid.of(image).facts()


def image_on_grid(array: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """Wrap a (z, y, x) array as an image with the geometry of `grid`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.CopyInformation(grid)
    return image


def extents_mm(image: sitk.Image) -> list[float]:
    """Edge lengths of the whole grid in mm, in (x, y, z) order."""
    return [float(n * s) for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]


def orientation_of(image: sitk.Image) -> str:
    """Return the three letters towards which the axes run, such as "RAS" or "LPS" (nearest, for oblique grids)."""
    return str(sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()))


def reorient(image: sitk.Image, orientation: str) -> sitk.Image:
    """Put an image's axes in another order, values and position unchanged.

    Args:
        orientation: as `InputSpec.orientation`: letters towards which the axes shall run, or stored axes ("zyx").
    """
    if orientation in ("xyz", orientation_of(image)):
        return image  # without the copy
    if orientation.islower():
        return sitk.PermuteAxes(image, ["xyz".index(letter) for letter in orientation])
    return sitk.DICOMOrient(image, orientation)


def ras_to_lps(point: Sequence[float]) -> list[float]:
    """Flip the first two coordinates; its own inverse."""
    return [-float(point[0]), -float(point[1]), float(point[2])]


def apply_transform(image: sitk.Image, own_to_world_ras: Sequence[float] | None) -> sitk.Image:
    """Give voxels the geometry that they have in the world.

    Of a transform that scales or shears, the spacing along each axis and the nearest rotation are kept, since an
    image's axes are at right angles.

    Args:
        own_to_world_ras: 4 x 4, row by row, from the volume's own RAS millimetres to the world's; None for none.

    Raises:
        UsageError: not 16 finite numbers, or a transform that flattens space.
    """
    if own_to_world_ras is None:
        return image
    matrix = np.asarray(own_to_world_ras, float)
    if matrix.size != 16 or not np.isfinite(matrix).all():
        raise UsageError("The transform of the volume is not a 4 x 4 matrix of numbers.")
    matrix = matrix.reshape(4, 4)
    turn = _LPS_RAS @ matrix[:3, :3] @ _LPS_RAS
    if abs(np.linalg.det(turn)) < 1e-9:
        raise UsageError("The volume's transform is singular: choose another transform.")
    axes = turn @ np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    result = sitk.Image(image)
    result.SetSpacing(spacing.tolist())
    result.SetDirection((left @ right).ravel().tolist())
    result.SetOrigin((turn @ np.asarray(image.GetOrigin()) + _LPS_RAS @ matrix[:3, 3]).tolist())
    return result
