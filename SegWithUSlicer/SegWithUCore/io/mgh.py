"""The header of a FreeSurfer volume (`.mgz`, `.mgh`), read strictly.

Format: https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat. Big-endian; scan parameters and tags of
any length follow the voxels, and an intent may stand above the version; nothing here needs them.
"""

import struct
from pathlib import Path

import numpy as np

from .grid import check_scalar_volume
from .image_file import Body, StoredImage, first_bytes, is_gzip, unreadable

SUFFIXES = (".mgz", ".mgh")
_FIELDS = struct.Struct(">7i h 3f 9f 3f")
_VOXELS_AT = 284
_TYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2", 10: "u2"}


def read_mgh_header(path: Path) -> StoredImage:
    """Read and check the header of a FreeSurfer volume.

    Raises:
        InputError: it is damaged, of a kind that is not read, or says nothing about where the image lies.
    """
    begin = first_bytes(path, _FIELDS.size)
    if len(begin) < _FIELDS.size:
        raise unreadable(path, "the file is truncated", "truncated-file")
    version, i, j, k, frames, kind, _, has_place, *rest = _FIELDS.unpack(begin)
    size = (i, j, k)
    if version & 0xFF != 1 or kind not in _TYPES or min(*size, frames) < 1:
        raise unreadable(path, f"its header has version {version}, type {kind}, size {size} and {frames} frames")
    check_scalar_volume(path, size if frames == 1 else (*size, frames))
    if has_place != 1:
        raise unreadable(path, "its header does not say where the image lies (goodRASFlag)", "unusable-header")
    spacing, axes, centre = np.array(rest[:3]), np.reshape(rest[3:12], (3, 3)), np.array(rest[12:])  # axes in rows, RAS
    flips = np.array([-1.0, -1.0, 1.0])
    origin = flips * (centre - (spacing * size / 2) @ axes)
    packed = is_gzip(path)
    start, skip = (0, _VOXELS_AT) if packed else (_VOXELS_AT, 0)
    return StoredImage(
        path,
        (k, j, i),
        np.dtype(f">{_TYPES[kind]}"),
        tuple(spacing.tolist()),
        tuple(origin.tolist()),
        tuple((axes * flips).T.ravel().tolist()),
        Body(start, packed, skip, has_trailer=True),
    )
