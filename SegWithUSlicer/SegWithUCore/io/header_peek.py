"""Geometry from headers alone: what a file claims, and notes where it has two positions in space or none.

Voxels are not needed, so that it does not matter who read the voxels, and in which process.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..util.errors import UsageError
from ..util.input_files import regular_file
from .dicom_agreement import doubts
from .dicom_elsewhere import unseen
from .dicom_folder import scan_folder
from .grid import VoxelGrid, check_geometry
from .nifti_file import is_nifti_name, read_nifti_grid, read_nifti_header
from .nifti_grid import FORMS, NiftiGrid, nifti_grid
from .nrrd import SUFFIXES as NRRD_SUFFIXES
from .plain_names import check_plain, plain_path
from .stored_voxels import DIRECTION, ORIGIN, SPACING, StoredImage, check_size
from .volume import is_stored_image, stored_header

_AXIS_ALIGNED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class FileGrid:
    """What a header claims.

    Attributes:
        grid: of one volume; of a DICOM series only its size is known.
        voxel_bytes: of one number as stored.
        components: numbers a voxel.
    """

    grid: VoxelGrid
    voxel_bytes: int
    components: int = 1

    def to_json(self) -> dict[str, Any]:
        """For a message between processes; JSON keeps every number exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "FileGrid":
        """Read what `to_json` gave."""
        grid: dict[str, Any] = {
            name: part if name == "placed" else tuple(part) for name, part in fields["grid"].items()
        }
        return cls(VoxelGrid(**grid), fields["voxel_bytes"], fields["components"])


def grid_of(path: Path, series: str | None = None) -> FileGrid | None:
    """Read the grid that a file or a folder's DICOM series claims; None if only reading can say what is wrong.

    Args:
        series: end of the UID of the series to take from a folder with several.

    Raises:
        InputError: as `read_image` and `read_series`, as far as headers and the sizes of files tell.
    """
    if path.is_dir():
        return _series_grid(path, series)
    regular_file(path, "give an image file (NIfTI, NRRD or MHA)")
    check_plain(path)
    if is_stored_image(path):
        return _stored_grid(stored_header(path))
    return _nifti_grid(path) if is_nifti_name(path) else None


def _nifti_grid(path: Path) -> FileGrid:
    header = read_nifti_header(path)
    grid = nifti_grid(header)
    bytes_as_read = 4 if header.is_scaled and header.number.kind != "f" else header.number.itemsize
    return FileGrid(VoxelGrid(grid.size, *grid.geometry()), max(header.number.itemsize, bytes_as_read))


def _stored_grid(stored: StoredImage) -> FileGrid | None:
    """Take the first three axes, if all others have a length of 1; as `check_grid`, before anything is foreseen."""
    check_size(stored)
    count, components = len(stored.size), stored.components_axis
    if count < 3 or any(n != 1 for n in stored.size[3:]):
        return None
    axes = np.reshape(stored.direction, (count, count))[:3, :3]
    spacing, origin = stored.spacing[:3], stored.origin[:3]
    check_geometry(stored.path, stored.size, spacing, origin, axes)
    i, j, k = stored.size[:3]
    grid = VoxelGrid((i, j, k), spacing, origin, tuple(axes.ravel().tolist()))
    return FileGrid(grid, stored.number.itemsize, 1 if components is None else stored.shape[components])


def _series_grid(folder: Path, series: str | None) -> FileGrid | None:
    """Slices are read as float32, whatever their type is."""
    slices = scan_folder(folder).chosen(series)
    columns, rows = (slices[0].numbers(keyword) for keyword in ("Columns", "Rows"))
    if not columns or not rows:
        return None
    size = (int(columns[0]), int(rows[0]), len(slices))
    return FileGrid(VoxelGrid(size, (1.0,) * 3, (0.0,) * 3, _AXIS_ALIGNED, placed=False), 4)


def grid_notes(path: Path, form: str | None = None, series: str | None = None) -> list[str]:
    """Sentences about doubts that headers leave: of a file about its place, of a DICOM series about its slices.

    They hold no file name.

    Args:
        path: an image file or a DICOM folder that could be read.
        form: the form of a NIfTI header that the user wants, as in `on_form`.
        series: end of the UID of the series to take from a folder with several.

    Raises:
        InputError: the header is damaged.
    """
    if path.is_dir():
        with plain_path(path) as folder:
            return [*doubts(scan_folder(folder).chosen(series)), *unseen(folder)]
    if is_nifti_name(path):
        return _nifti_notes(read_nifti_grid(path), form)
    return _stored_notes(stored_header(path)) if is_stored_image(path) else []


def one_of_forms(name: str) -> str:
    """Check the name of a form.

    Raises:
        UsageError: it is none.
    """
    if name not in FORMS:
        raise UsageError(f"'{name}' is no form of a NIfTI header: give {' or '.join(FORMS)}.")
    return name


def check_form(path: Path, form: str | None) -> None:
    """Refuse a region in mm in an image that has two places, unless the user says which counts.

    Raises:
        UsageError: he does not.
        InputError: the header is damaged.
    """
    if form is None and not path.is_dir() and is_nifti_name(path) and (positions := read_nifti_grid(path).positions()):
        raise UsageError(
            f"{path} has two places in its header ({positions}), so a region in mm is not clear: say which counts with "
            f"--form {' or --form '.join(FORMS)}."
        )


def on_form(path: Path, image: sitk.Image, form: str | None) -> sitk.Image:
    """Put an image on the grid of one form of its NIfTI header; it stays as it is if the header has not both.

    Args:
        path: what it was read from.
        form: "qform" or "sform"; None for the one that Slicer uses.

    Raises:
        InputError: the header is damaged.
    """
    grid = _grid_with_both(path, form)
    return image if grid is None else VoxelGrid(grid.size, *grid.geometry(form)).put_on(sitk.Image(image))


def claim_on_form(path: Path, claim: FileGrid | None, form: str | None) -> FileGrid | None:
    """Return what a header claims, with the grid as in `on_form`.

    Raises:
        InputError: the header is damaged.
    """
    grid = _grid_with_both(path, form)
    return claim if grid is None or claim is None else replace(claim, grid=VoxelGrid(grid.size, *grid.geometry(form)))


def _grid_with_both(path: Path, form: str | None) -> NiftiGrid | None:
    """Read the grid of a file whose header has two forms, if one of them is wanted; else None."""
    if form is None or path.is_dir() or not is_nifti_name(path):
        return None
    grid = read_nifti_grid(path)
    return grid if len(grid.forms) == 2 else None


def differs_from_slicer(path: Path, form: str | None) -> bool:
    """Whether Slicer, which goes by its own rule, would show the file's voxels at another place than `form` does.

    Raises:
        InputError: the header is damaged.
    """
    grid = _grid_with_both(path, form)
    return grid is not None and form != grid.rule and bool(grid.positions())


def _nifti_notes(grid: NiftiGrid, form: str | None) -> list[str]:
    if not grid.forms:
        return [_unknown("neither qform nor sform")]
    if positions := grid.positions():
        used = f"the {form} counts, as asked for" if form else f"the {grid.rule} counts, as in Slicer"
        return [f"The image has two places in its header: {positions}; {used}."]
    return []


def _unknown(why: str, slicer: str = "as in Slicer") -> str:
    return (
        f"The header does not say where the image lies ({why}): its axes are taken to run to the left, to the back and "
        f"up, {slicer}, so check that sides and positions are right."
    )


def _stored_notes(stored: StoredImage) -> list[str]:
    """Sentences about what an NRRD or MetaImage header leaves open."""
    notes = []
    if DIRECTION in stored.unsaid:
        if stored.path.name.lower().endswith(NRRD_SUFFIXES):
            notes.append(_unknown("no space with space directions", "whereas Slicer takes right, front and up"))
        else:
            notes.append(_unknown("no TransformMatrix"))
    elif ORIGIN in stored.unsaid:
        notes.append(
            "The header does not say where the first voxel lies: (0, 0, 0) mm is taken, so check that positions are "
            "right."
        )
    if SPACING in stored.unsaid:
        notes.append(
            "The header does not say how large the voxels are: 1 mm is taken, and volumes hold only if that is right."
        )
    return notes
