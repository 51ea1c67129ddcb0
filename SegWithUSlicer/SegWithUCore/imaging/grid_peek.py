"""The grid and the voxel type that a file or a folder of DICOM files claims, no voxel read.

What a file needs in memory is known before any of it is allocated. Whether the claim is true, reading shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..input_files import regular_file
from .dicom_folder import scan_folder
from .nifti_file import is_nifti_name, read_nifti_header
from .nifti_grid import nifti_grid
from .plain_names import check_plain
from .stored_image import is_stored_image, stored_header
from .stored_voxels import check_size
from .voxel_grid import VoxelGrid

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
        """What `to_json` gave."""
        grid: dict[str, Any] = {
            name: part if name == "placed" else tuple(part) for name, part in fields["grid"].items()
        }
        return cls(VoxelGrid(**grid), fields["voxel_bytes"], fields["components"])


def grid_of(path: Path, series: str | None = None) -> FileGrid | None:
    """What an image file, or the DICOM series of a folder, claims to be; None where only reading can say what is wrong.

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
        stored = stored_header(path)
        check_size(stored)
        numbers = 1 if stored.components_axis is None else stored.shape[stored.components_axis]
        return _claim(stored.size, stored.spacing, stored.origin, stored.direction, stored.number.itemsize, numbers)
    return _nifti_grid(path) if is_nifti_name(path) else None


def _nifti_grid(path: Path) -> FileGrid:
    header = read_nifti_header(path)
    grid = nifti_grid(header)
    bytes_as_read = 4 if header.is_scaled and header.number.kind != "f" else header.number.itemsize
    return FileGrid(VoxelGrid(grid.size, *grid.geometry()), max(header.number.itemsize, bytes_as_read))


def _claim(
    size: Sequence[int],
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[float],
    voxel_bytes: int,
    components: int,
) -> FileGrid | None:
    """The first three axes, where all others have a length of 1."""
    count = len(size)
    if count < 3 or any(n != 1 for n in size[3:]):
        return None
    axes = tuple(float(direction[row * count + column]) for row in range(3) for column in range(3))
    i, j, k = (int(n) for n in size[:3])
    grid = VoxelGrid((i, j, k), tuple(map(float, spacing[:3])), tuple(map(float, origin[:3])), axes)
    return FileGrid(grid, voxel_bytes, components)


def _series_grid(folder: Path, series: str | None) -> FileGrid | None:
    """Slices are read as float32, whatever their type is."""
    slices = scan_folder(folder).chosen(series)
    columns, rows = (slices[0].numbers(keyword) for keyword in ("Columns", "Rows"))
    if not columns or not rows:
        return None
    size = (int(columns[0]), int(rows[0]), len(slices))
    return FileGrid(VoxelGrid(size, (1.0,) * 3, (0.0,) * 3, _AXIS_ALIGNED, placed=False), 4)
