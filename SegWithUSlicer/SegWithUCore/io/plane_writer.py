"""Write volumes of a case folder plane by plane: as SimpleITK writes them, without a whole one in memory.

Headers are SimpleITK's own, of an image of a few voxels on the same grid, with the right size put in. Between any two
pieces a run may be cancelled.
"""

import contextlib
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import SimpleITK as sitk

from ..util.plane_files import Planes, plane_pieces
from .grid import VoxelGrid
from .roi import VoxelBox, whole_grid

PIECE_VOXELS = 1 << 20
"""Compressed at once, a fraction of a second."""
LEVEL = 3
"""Of compression: maps are noise, and labels get 6 % smaller at three times the time."""
_SIZE_AT = 42
"""Where the sizes stand in a NIfTI-1 header."""
# Where the intent code and the highest and lowest value to be shown stand.
_INTENT_AT, _WINDOW_AT = 68, 124
# Intent code (nifti1.h), lowest and highest value to be shown; zeros leave it to the viewer.
View = tuple[int, float, float]
AUTO, LABELS, ESTIMATES = (0, 0.0, 0.0), (1002, 0.0, 0.0), 1001
Fields = Mapping[str, str] | None
_HEADER_BYTES = 352
_LONGEST = 32767
"""Voxels along an axis that this header can hold."""


def write_image_planes(path: Path, image: sitk.Image) -> None:
    """Write a whole image as `.nii.gz`; what is raised is as for `write_nifti_planes`."""
    array, grid = sitk.GetArrayViewFromImage(image), VoxelGrid.of(image)
    fields = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    write_nifti_planes(path, array, whole_grid(grid), grid, 0, fields)


def write_nifti_planes(
    path: Path, volume: Planes, box: VoxelBox, grid: VoxelGrid, outside: float, fields: Fields = None, view: View = AUTO
) -> None:
    """Write a volume as `.nii.gz`.

    Args:
        volume: (z, y, x) inside `box`.
        grid: of the whole.
        outside: value of all other voxels.
        fields: key/value pairs that SimpleITK may put into the header.
        view: tells viewers what the values are.

    Raises:
        OSError: the disk is full or read-only.
        RuntimeError: the grid has more voxels along an axis than the format can hold.
    """
    if max(grid.size) > _LONGEST:
        raise RuntimeError(f"NIfTI-1 holds at most {_LONGEST} voxels along an axis")
    with path.open("wb") as file:
        stream = _gzip()
        header = bytearray(_header(grid.put_on(_few_voxels(volume.dtype, fields or {})), ".nii")[:_HEADER_BYTES])
        struct.pack_into("<3h", header, _SIZE_AT, *grid.size)
        struct.pack_into("<h", header, _INTENT_AT, view[0])
        struct.pack_into("<2f", header, _WINDOW_AT, view[2], view[1])
        file.write(stream.compress(header))
        _write_voxels(file, stream, volume, box, grid, outside)


def write_nrrd_planes(path: Path, volume: Planes, box: VoxelBox, grid: VoxelGrid, fields: Mapping[str, str]) -> None:
    """Write a label volume as NRRD; 0 outside the box.

    Args:
        fields: key/value pairs of its header.

    Raises:
        OSError: as `write_nifti_planes`.
    """
    lines = _header(grid.put_on(_few_voxels(volume.dtype, fields)), ".nrrd").split(b"\n\n", 1)[0].split(b"\n")
    size = " ".join(str(n) for n in grid.size).encode()
    with path.open("wb") as file:
        file.write(b"\n".join(b"sizes: " + size if line.startswith(b"sizes:") else line for line in lines) + b"\n\n")
        _write_voxels(file, _gzip(), volume, box, grid, 0)


def _gzip() -> Any:
    """Make a gzip stream, the same for the same bytes: zlib-ng's, in half the time, where it is installed."""
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return zlib_ng.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def _write_voxels(file: BinaryIO, stream: Any, volume: Planes, box: VoxelBox, grid: VoxelGrid, outside: float) -> None:
    for piece in _whole_planes(volume, box, grid, outside):
        file.write(stream.compress(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data))
    file.write(stream.flush())


def _whole_planes(volume: Planes, box: VoxelBox, grid: VoxelGrid, outside: float) -> Iterator[np.ndarray]:
    """Planes of the whole grid, some at a time, filled with `outside` around the box."""
    inside, *across = box.slices_zyx
    shape, little = grid.shape_zyx, volume.dtype.newbyteorder("<")
    for planes in plane_pieces(shape, PIECE_VOXELS):
        first, last = max(planes.start, inside.start), min(planes.stop, inside.stop)
        found = volume[slice(first - inside.start, last - inside.start)] if first < last else None
        if found is not None and found.shape == (planes.stop - planes.start, *shape[1:]):
            yield found.astype(little, copy=False)
            continue
        whole = np.full((planes.stop - planes.start, *shape[1:]), outside, little)
        if found is not None:
            whole[(slice(first - planes.start, last - planes.start), *across)] = found
        yield whole


def _few_voxels(dtype: np.dtype, fields: Mapping[str, str]) -> sitk.Image:
    few = sitk.GetImageFromArray(np.zeros((2, 2, 2), dtype))
    for key, value in fields.items():
        with contextlib.suppress(TypeError):  # a text that is no UTF-8 can be got but not set
            few.SetMetaData(key, value)
    return few


def _header(image: sitk.Image, suffix: str) -> bytes:
    """Return what SimpleITK writes for a small image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"header{suffix}"
        sitk.WriteImage(image, str(path), useCompression=suffix == ".nrrd")
        return path.read_bytes()
