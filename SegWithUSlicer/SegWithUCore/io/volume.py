"""Reading images and keeping their geometry.

Axis order: SimpleITK images index (i, j, k) = (x, y, z); numpy arrays and tensors are (z, y, x),
k slowest. Points are RAS millimetres in everything a user sees and LPS inside SimpleITK.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError, UsageError
from ..util.input_files import regular_file
from . import metaimage, nrrd
from .dicom_header import dicom_kind
from .grid import check_grid, check_scalar_volume
from .header_fields import unreadable
from .nifti_file import check_nifti, is_nifti_name, not_finite_message, read_nifti
from .plain_names import check_plain
from .stored_voxels import StoredImage, check_voxels, read_voxels

FloatArray = np.ndarray
_WANTED = "give an image file (NIfTI, NRRD or MHA)"
_GREY_LEVELS = 4096
"""Of a CT; an image that keeps so many steps between its darkest and its brightest voxel loses nothing of use."""
_LPS_RAS = np.diag([-1.0, -1.0, 1.0])


def read_image(path: Path) -> sitk.Image:
    """Read a scalar 3D image of any voxel type as float32.

    A trailing axis of one (a 4D NIfTI holding one volume) is dropped.

    Raises:
        InputError: missing, unreadable or truncated file; not 3D; several values a voxel;
            NaN or infinite voxels; a constant image.
    """
    return checked_volume(path, read_file(path))


def checked_volume(path: Path, image: sitk.Image) -> sitk.Image:
    """Convert what was read from `path` to float32, if it is a usable volume.

    Raises:
        InputError: as `read_image` where the file could be read.
    """
    image = without_axes_of_one(image)
    values, is_complex = image.GetNumberOfComponentsPerPixel(), "complex" in image.GetPixelIDTypeAsString()
    check_scalar_volume(path, image.GetSize(), values, is_complex)
    if image.GetPixelID() != sitk.sitkFloat32:  # else it would be copied
        image = sitk.Cast(image, sitk.sitkFloat32)
    _check_voxels(path, sitk.GetArrayViewFromImage(image))
    return image


def coarse_notes(image: sitk.Image) -> list[str]:
    """Say that an image read as float32 has few grey levels, because its numbers lie far from 0; else nothing."""
    array = sitk.GetArrayViewFromImage(image)
    low, high = float(array.min()), float(array.max())
    step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
    if low == high or step * _GREY_LEVELS <= high - low or (step <= 1 and np.array_equal(np.rint(array), array)):
        return []
    return [
        f"The intensities run from {low:.10g} to {high:.10g}, where single precision, which everything is computed in, "
        f"has steps of {step:.3g}: finer differences are lost, so subtract a constant from the image."
    ]


def without_axes_of_one(image: sitk.Image) -> sitk.Image:
    """Drop trailing axes of one voxel beyond the third."""
    while image.GetDimension() > 3 and image.GetSize()[-1] == 1:
        image = image[(slice(None),) * (image.GetDimension() - 1) + (0,)]
    return image


def read_file(path: Path) -> sitk.Image:
    """Read an image file with every byte checked: the one way in which this program reads volumes.

    Voxels, grid and, of NRRD files, key/value pairs (`GetMetaData`) are those that ITK gives.

    Raises:
        InputError: no regular file, a damaged or unknown one, or voxels outside the folder of their header.
    """
    regular_file(path, _WANTED)
    check_plain(path)
    try:
        image = read_stored_image(path) if is_stored_image(path) else _read_nifti(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the disk and its permissions.") from error
    check_grid(path, image)
    return image


def check_file(path: Path) -> None:
    """Check that a volume which was just written is whole: not every library reports a full disk.

    Raises:
        InputError: it is cut or damaged, or a NIfTI file with voxels that are not finite.
    """
    if is_stored_image(path):
        check_voxels(stored_header(path))
    else:
        check_nifti(path)


def _read_nifti(path: Path) -> sitk.Image:
    if is_dicom(path):
        raise InputError(_dicom_alone(path))
    if not is_nifti_name(path):
        raise unreadable(path, "the format is unknown")
    return read_nifti(path)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, with or without a preamble."""
    return dicom_kind(path) is not None


def _dicom_alone(path: Path) -> str:
    kind = dicom_kind(path)
    if kind is not None and kind.no_image:
        return f"{path} is a DICOM file that holds no image ({kind.no_image}): give the folder of an image series."
    return f"{path} is one DICOM file, mostly one slice of many: give the folder that holds the whole series."


def _check_voxels(path: Path, array: FloatArray) -> None:
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise InputError(not_finite_message(path, bad, array.size))
    if array.size == 0 or float(array.min()) == float(array.max()):
        value = f"every voxel is {float(array.flat[0]):g}" if array.size else "it has no voxels"
        raise InputError(f"{path} is empty: {value}; check that the right file was given.")


@contextlib.contextmanager
def itk_messages_kept_off_the_terminal() -> Iterator[None]:
    """Silence what ITK and its image libraries print on their own; our errors say it in one sentence.

    The NIfTI and NRRD libraries write to the C-level stderr, so the file descriptor is set aside.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    with tempfile.TemporaryFile() as sink:
        kept = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def same_grid(a: sitk.Image, b: sitk.Image, tolerance: float = 1e-3) -> bool:
    """Whether two images have the same size, and corners within `tolerance` of the smallest spacing."""
    if a.GetSize() != b.GetSize():
        return False
    corners = [(0, 0, 0), tuple(n - 1 for n in a.GetSize())]
    corners += [tuple((n - 1) * (axis == i) for i, n in enumerate(a.GetSize())) for axis in range(3)]
    gap = max(
        float(np.abs(np.subtract(a.TransformIndexToPhysicalPoint(c), b.TransformIndexToPhysicalPoint(c))).max())
        for c in corners
    )
    return gap <= tolerance * min(a.GetSpacing())


def check_same_grid(path: Path, image: sitk.Image, first_path: Path, first: sitk.Image) -> None:
    """Refuse an image that does not lie on the grid of the first one.

    Raises:
        InputError: names what differs (size, spacing, directions, origin) and by how much.
    """
    if not same_grid(image, first):
        difference = ", ".join(_grid_differences(image, first))
        raise InputError(
            f"{path} is not on the grid of {first_path} ({difference}): resample one to the other first.",
            code="other-grid",
        )


def _grid_differences(image: sitk.Image, first: sitk.Image) -> list[str]:
    """Describe how two grids differ, each with its values."""
    found = []
    if image.GetSize() != first.GetSize():
        found.append(f"size {_times(image.GetSize())} instead of {_times(first.GetSize())} voxels")
    if not np.allclose(image.GetSpacing(), first.GetSpacing(), rtol=1e-4):
        found.append(f"spacing {_times(image.GetSpacing())} instead of {_times(first.GetSpacing())} mm")
    if orientation_of(image) != orientation_of(first):
        found.append(f"axes run {orientation_of(image)} instead of {orientation_of(first)}")
    elif (angle := _angle_degrees(image, first)) > 0.01:
        found.append(f"axes turned by {angle:.3g} degrees")
    distance = float(np.linalg.norm(np.subtract(image.GetOrigin(), first.GetOrigin())))
    if distance > 1e-3 * min(first.GetSpacing()) or not found:
        found.append(f"origin {distance:.3g} mm away")
    return found


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.5g}" for value in values)


def _angle_degrees(a: sitk.Image, b: sitk.Image) -> float:
    """Angle of the rotation from the axes of one image to those of the other."""
    first, second = (np.reshape(image.GetDirection(), (3, 3)) for image in (a, b))
    # By the distance of the matrices, which unlike the arc cosine of the trace is exact for small angles.
    share = float(np.linalg.norm(first - second)) / np.sqrt(8)
    return float(np.degrees(2 * np.arcsin(min(1.0, share))))


def grid_facts(image: sitk.Image) -> dict[str, list[float]]:
    """Size, spacing (mm), origin and direction (LPS, row by row) as JSON values."""
    return _facts(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


def _facts(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float]
) -> dict[str, list[float]]:
    return {
        "size_ijk": [int(n) for n in size],
        "spacing_mm": [float(v) for v in spacing],
        "origin_lps_mm": [float(v) for v in origin],
        "direction_lps": [float(v) for v in direction],
    }


def image_on_grid(array: FloatArray, grid: sitk.Image) -> sitk.Image:
    """Wrap a (z, y, x) array as an image with the geometry of `grid`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.CopyInformation(grid)
    return image


def voxel_volume_mm3(image: sitk.Image) -> float:
    """Volume of one voxel in mm3."""
    return float(np.prod(image.GetSpacing()))


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


def is_stored_image(path: Path) -> bool:
    """Whether a file is NRRD or MetaImage, by its name as for ITK."""
    return path.name.lower().endswith(nrrd.SUFFIXES + metaimage.SUFFIXES)


def stored_header(path: Path) -> StoredImage:
    """Read and check the header of an NRRD or MetaImage file.

    Raises:
        InputError: as `read_nrrd_header` and `read_metaimage_header`.
    """
    is_nrrd = path.name.lower().endswith(nrrd.SUFFIXES)
    return nrrd.read_nrrd_header(path) if is_nrrd else metaimage.read_metaimage_header(path)


def read_stored_image(path: Path) -> sitk.Image:
    """Read an NRRD or MetaImage file; key/value pairs of an NRRD header become metadata.

    Raises:
        InputError: as `stored_header` and `read_voxels`.
    """
    stored = stored_header(path)
    array = np.ascontiguousarray(read_voxels(stored))
    image = sitk.GetImageFromArray(array, isVector=array.ndim > len(stored.size))
    image.SetSpacing(stored.spacing)
    image.SetOrigin(stored.origin)
    image.SetDirection(stored.direction)
    for key, value in stored.fields.items():
        image.SetMetaData(key, value)
    return image


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
        raise UsageError("The transform of the volume is not a 4 x 4 matrix of numbers: give it anew.")
    matrix = matrix.reshape(4, 4)
    turn = _LPS_RAS @ matrix[:3, :3] @ _LPS_RAS
    if abs(np.linalg.det(turn)) < 1e-9:
        raise UsageError("The transform of the volume flattens space: choose another transform.")
    axes = turn @ np.asarray(image.GetDirection()).reshape(3, 3) * np.asarray(image.GetSpacing())
    spacing = np.linalg.norm(axes, axis=0)
    left, _, right = np.linalg.svd(axes / spacing)
    result = sitk.Image(image)
    result.SetSpacing(spacing.tolist())
    result.SetDirection((left @ right).ravel().tolist())
    result.SetOrigin((turn @ np.asarray(image.GetOrigin()) + _LPS_RAS @ matrix[:3, 3]).tolist())
    return result
