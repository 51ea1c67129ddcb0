"""The grid and the voxel type that a file or a folder of DICOM files claims, no voxel read.

What a file needs in memory is known before any of it is allocated. Whether the claim is true, reading shows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..errors import InputError
from .dicom_folder import COLUMNS, PIXEL_SPACING, ROWS, scan_folder
from .volume import itk_messages_kept_off_the_terminal
from .voxel_grid import VoxelGrid

_BYTES = {
    sitk.sitkUInt8: 1,
    sitk.sitkInt8: 1,
    sitk.sitkUInt16: 2,
    sitk.sitkInt16: 2,
    sitk.sitkUInt32: 4,
    sitk.sitkInt32: 4,
    sitk.sitkFloat32: 4,
}
"""Bytes of a stored number; 8 for all other types."""


@dataclass(frozen=True)
class FileGrid:
    """What a header claims.

    Attributes:
        grid: of one volume; of a DICOM series only size and pixel spacing are known.
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
        """What `to_json` gave."""
        grid: dict[str, Any] = {
            name: part if name == "placed" else tuple(part) for name, part in fields["grid"].items()
        }
        return cls(VoxelGrid(**grid), fields["voxel_bytes"], fields["components"])


def grid_of(path: Path, series: str | None = None) -> FileGrid | None:
    """What an image file, or the DICOM series of a folder, claims to be; None where only reading can say what is wrong.

    Args:
        series: end of the UID of the series to take from a folder with several.
    """
    if path.is_dir():
        return _series_grid(path, series)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with itk_messages_kept_off_the_terminal():
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            return None
    size = [int(n) for n in reader.GetSize()]
    if len(size) < 3 or any(n != 1 for n in size[3:]):
        return None
    flat = [reader.GetSpacing()[:3], reader.GetOrigin()[:3], _first_three(reader.GetDirection(), len(size))]
    grid = VoxelGrid((size[0], size[1], size[2]), *flat)
    return FileGrid(grid, _BYTES.get(reader.GetPixelID(), 8), reader.GetNumberOfComponents())


def _first_three(direction: tuple[float, ...], dimensions: int) -> tuple[float, ...]:
    """The directions of the first three axes of an image that may have more."""
    return tuple(direction[row * dimensions + column] for row in range(3) for column in range(3))


def _series_grid(folder: Path, series: str | None) -> FileGrid | None:
    """Slices are read as float32, whatever their type is."""
    try:
        slices = scan_folder(folder).chosen(series)
    except InputError:
        return None
    columns, rows = (slices[0].numbers(tag) for tag in (COLUMNS, ROWS))
    if not columns or not rows:
        return None
    y, x = slices[0].numbers(PIXEL_SPACING) or (1.0, 1.0)
    size = (int(columns[0]), int(rows[0]), sum(one.frames for one in slices))
    return FileGrid(VoxelGrid(size, (x, y, 1.0), (0.0,) * 3, (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), placed=False), 4)
