"""The header of a NIfTI-1, NIfTI-2 or Analyze 7.5 file, read strictly: what contradicts itself is refused.

Formats: https://nifti.nimh.nih.gov/nifti-1 (nifti1.h) and https://nifti.nimh.nih.gov/nifti-2 (nifti2.h). The NIfTI
library, through which ITK and Slicer read, puts a default in place of nearly everything that cannot be.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..util.errors import InputError
from .grid import check_scalar_volume
from .header_fields import unreadable

HEADER_BYTES = 540
"""Of the longer header, NIfTI-2."""
TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""Numbers that are read, by their code in the header."""
_COMPLEX = {32: 64, 1792: 128, 2048: 256}
_COLOURS = {128: 3, 2304: 4}
_VECTORS = (1005, 1007)
"""Intents that keep the values of a voxel along the fifth axis: symmetric matrices and vectors."""
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Unknown (usual, taken for mm), metre, mm, micron: as the standard has it, and ITK."""
_NIFTI1 = {
    "dim": (40, "8h"),
    "intent_code": (68, "h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern": (256, "3f"),
    "qoffset": (268, "3f"),
    "srow": (280, "12f"),
}
"""Where the fields of NIfTI-1 and Analyze stand, and what they are (for `struct`)."""
_NIFTI2 = {
    "dim": (16, "8q"),
    "intent_code": (504, "i"),
    "datatype": (12, "h"),
    "bitpix": (14, "h"),
    "pixdim": (104, "8d"),
    "vox_offset": (168, "q"),
    "scl_slope": (176, "d"),
    "scl_inter": (184, "d"),
    "xyzt_units": (500, "i"),
    "qform_code": (344, "i"),
    "sform_code": (348, "i"),
    "quatern": (352, "3d"),
    "qoffset": (376, "3d"),
    "srow": (400, "12d"),
}
_LARGEST_CODE = 5
_SMALLEST_SLOPE = 2.3e-16
"""ITK takes a smaller slope for none, the standard does not."""


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says, lengths as they stand in the file.

    Attributes:
        path: the file that was given.
        version: 1 or 2; 0 for Analyze, which knows neither place nor orientation.
        size: voxels along (i, j, k), and further axes where there are any.
        number: type and byte order of the stored numbers.
        offset: first byte of the voxels in their file.
        slope, intercept: stored numbers times slope plus intercept are the values.
        mm_per_unit: of all lengths in the header.
        pixdim: sign of the third axis of the qform, then edge lengths of a voxel.
        codes: of qform and sform, 0 if there is none.
        quaternion, qoffset: of the qform.
        srow: (3, 4) matrix of the sform.
    """

    path: Path
    version: int
    size: tuple[int, ...]
    number: np.dtype[np.generic]
    offset: int
    slope: float
    intercept: float
    mm_per_unit: float
    pixdim: tuple[float, ...]
    codes: tuple[int, int]
    quaternion: tuple[float, ...]
    qoffset: tuple[float, ...]
    srow: np.ndarray

    @property
    def bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.size) * self.number.itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether slope and intercept change anything."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def contradiction(path: Path, found: str, code: str = "") -> InputError:
    """Make the error about a header that cannot be right.

    Args:
        found: what it says, in words that follow "which".
    """
    remedy = "correct the header, or export or convert the image anew"
    return InputError(f"{path} has a header which {found}: {remedy}.", code)


def parse_header(path: Path, start: bytes, is_pair: bool) -> NiftiHeader:
    """Read and check a header; the forms themselves are checked by `nifti_grid`.

    Args:
        path: for messages.
        start: the first `HEADER_BYTES` of the header's file, fewer where it is shorter.
        is_pair: whether the voxels lie in a file of their own (.hdr with .img).

    Raises:
        InputError: no NIfTI or Analyze file, something that is not read here, or a header that contradicts itself.
    """
    order, version = _kind(path, start, is_pair)
    raw = _Fields(start, order, version)
    size, values = _size(path, raw)
    kind = raw.whole("datatype")
    if kind in _COMPLEX or kind in _COLOURS or values != 1 or len(size) != 3:
        check_scalar_volume(path, size, _COLOURS.get(kind, values), kind in _COMPLEX)
    if kind not in TYPES:
        raise contradiction(path, f"gives voxels of the type {kind}, which is not read here")
    number = np.dtype(order + TYPES[kind])
    if raw.whole("bitpix") not in (0, number.itemsize * 8):
        raise contradiction(path, f"gives voxels of {raw.whole('bitpix')} bits and of type {kind} ({number.name})")
    slope, intercept = _scaling(path, raw) if version else (1.0, 0.0)
    codes = _codes(path, raw) if version else (0, 0)
    return NiftiHeader(
        path,
        version,
        size,
        number,
        _offset(path, raw, is_pair),
        slope,
        intercept,
        _mm_per_unit(path, raw) if version else 1.0,
        raw.reals("pixdim")[:4],
        codes,
        raw.reals("quatern"),
        raw.reals("qoffset"),
        np.reshape(raw.reals("srow"), (3, 4)),
    )


class _Fields:
    """Numbers of a header by their names in the standard."""

    def __init__(self, start: bytes, order: str, version: int) -> None:
        self.version = version
        self.header_bytes = HEADER_BYTES if version == 2 else 348
        layout = _NIFTI2 if version == 2 else _NIFTI1
        self._values = {name: struct.unpack_from(order + form, start, at) for name, (at, form) in layout.items()}

    def whole(self, name: str) -> int:
        return int(self._values[name][0])

    def wholes(self, name: str) -> tuple[int, ...]:
        return self._values[name]

    def real(self, name: str) -> float:
        return float(self._values[name][0])

    def reals(self, name: str) -> tuple[float, ...]:
        return tuple(float(value) for value in self._values[name])


def _kind(path: Path, start: bytes, is_pair: bool) -> tuple[str, int]:
    """Byte order and version."""
    lengths = {order: struct.unpack_from(f"{order}i", start)[0] for order in "<>" if len(start) >= 4}
    for order, length in lengths.items():
        if length == 540 and len(start) >= 540:
            magic, wanted = start[4:12], b"ni2\0\r\n\x1a\n" if is_pair else b"n+2\0\r\n\x1a\n"
            if magic != wanted:
                raise contradiction(path, f"names its kind {magic!r} instead of {wanted!r}")
            return order, 2
        if length == 348 and len(start) >= 348:
            magic, wanted = start[344:348], b"ni1\0" if is_pair else b"n+1\0"
            if magic == wanted:
                return order, 1
            if is_pair and not magic.startswith((b"n+", b"ni")):
                return order, 0
            raise contradiction(path, f"names its kind {magic!r} instead of {wanted!r}")
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:7] in (b"n+2", b"ni2"):
        if len(start) < 348:
            raise unreadable(path, "its end is missing or damaged")
        raise contradiction(path, f"gives {lengths['<']} as its own length (sizeof_hdr) instead of 348 or 540")
    raise unreadable(path, "the format is unknown")


def _size(path: Path, raw: _Fields) -> tuple[tuple[int, ...], int]:
    """Voxels along each axis, without trailing ones behind the third, and values a voxel."""
    count, *sizes = raw.wholes("dim")
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        raise contradiction(path, f"gives the size {' x '.join(map(str, sizes[: max(1, min(count, 7))]))} ({count}D)")
    size, values = sizes[:count], 1
    if raw.version and raw.whole("intent_code") in _VECTORS and count == 5:
        values = size.pop()
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    return tuple(size), values


def _scaling(path: Path, raw: _Fields) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means by the standard that there is none of both."""
    slope, intercept = raw.real("scl_slope"), raw.real("scl_inter")
    words = f"scales intensities by {slope:g} and adds {intercept:g} (scl_slope, scl_inter)"
    if not (math.isfinite(slope) and math.isfinite(intercept)) or 0 < abs(slope) < _SMALLEST_SLOPE:
        raise contradiction(path, words)
    if slope == 0 and intercept != 0:  # the standard adds nothing, ITK and Slicer add the intercept
        raise contradiction(path, f"{words}, which programs read differently")
    return (slope, intercept) if slope else (1.0, 0.0)


def _codes(path: Path, raw: _Fields) -> tuple[int, int]:
    codes = raw.whole("qform_code"), raw.whole("sform_code")
    if not all(0 <= code <= _LARGEST_CODE for code in codes):
        raise contradiction(path, f"gives the codes {codes[0]} and {codes[1]} of qform and sform, not 0 to 5")
    return codes


def _mm_per_unit(path: Path, raw: _Fields) -> float:
    unit = raw.whole("xyzt_units") & 7
    if unit not in _MM_PER_UNIT:
        raise contradiction(path, f"gives lengths in an unknown unit (xyzt_units {raw.whole('xyzt_units')})")
    return _MM_PER_UNIT[unit]


def _offset(path: Path, raw: _Fields, is_pair: bool) -> int:
    """First byte of the voxels; behind the header and its four bytes of flags where they share a file."""
    least = 0 if is_pair else raw.header_bytes + 4
    offset = raw.real("vox_offset")
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        raise contradiction(path, f"lets the voxels begin at byte {offset:g} (vox_offset), not at {least} or later")
    return int(offset)
