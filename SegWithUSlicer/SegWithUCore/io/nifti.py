"""The header of a NIfTI-1 or NIfTI-2 file, read strictly: what contradicts itself is refused.

Formats: https://nifti.nimh.nih.gov/nifti-1 (nifti1.h) and https://nifti.nimh.nih.gov/nifti-2 (nifti2.h). The NIfTI
library, through which ITK and Slicer read, puts a default in place of nearly everything that cannot be. For files that
it reads rightly, grids are those of ITK 5.4 (NiftiImageIO) to the last bit: without a form the place is unknown; of two
forms the sform counts if its code is 1 (scanner) or if it nearly equals the qform, else the qform.
"""

import math
import struct
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..util.errors import InputError
from .grid import ORTHONORMAL, VoxelGrid, check_geometry, check_scalar_volume, skew, times
from .image_file import Body, StoredImage, first_bytes, geometry_notes, is_gzip, unreadable

SUFFIXES = (".nii", ".nii.gz")
QFORM, SFORM = "qform", "sform"
_HEADER_BYTES = {1: 348, 2: 540}
"""By version."""
_PADDING_BYTES = 511
"""Fewer zeros than a disk's block may follow the voxels."""
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""Numbers that are read, by their code in the header."""
_OTHER_TYPES = {32: 0, 1792: 0, 2048: 0, 128: 3, 2304: 4}
"""Of several numbers a voxel, which are refused; 0 stands for complex ones."""
_VECTORS = (1005, 1007)
"""Intents that keep the values of a voxel along the fifth axis: symmetric matrices and vectors."""
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Unknown (usual, taken for mm), metre, mm, micron: as the standard has it, and ITK."""
_LAYOUT = {
    "dim": ((40, "8h"), (16, "8q")),
    "intent_code": ((68, "h"), (504, "i")),
    "datatype": ((70, "h"), (12, "h")),
    "bitpix": ((72, "h"), (14, "h")),
    "pixdim": ((76, "8f"), (104, "8d")),
    "vox_offset": ((108, "f"), (168, "q")),
    "scl_slope": ((112, "f"), (176, "d")),
    "scl_inter": ((116, "f"), (184, "d")),
    "xyzt_units": ((123, "B"), (500, "i")),
    "qform_code": ((252, "h"), (344, "i")),
    "sform_code": ((254, "h"), (348, "i")),
    "quatern": ((256, "3f"), (352, "3d")),
    "qoffset": ((268, "3f"), (376, "3d")),
    "srow": ((280, "12f"), (400, "12d")),
}
"""Where fields stand in NIfTI-1 and in NIfTI-2, and what they are (for `struct`)."""
_LARGEST_CODE = 5
_SMALLEST_SLOPE = 2.3e-16
"""ITK takes a smaller slope for none, the standard does not."""
_SAME_SIZE = 1e-3
"""Relative difference of voxel sizes that rounding to four digits explains."""
_NEARLY_EQUAL = 1e-4
"""Within which ITK takes two forms for one: elements of the rotation, and mm of the offset."""
_SCANNER = 1
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_CORRECTION = "(fslorient and nibabel can make them alike)"
_REMEDY = "correct the header, or export or convert the image again"


def read_nifti_header(path: Path) -> StoredImage:
    """Read and check the header of a scalar volume, compressed by gzip or not, whatever its name says.

    Raises:
        InputError: another file; a header that contradicts itself; no volume of one real number a voxel.
    """
    header = _Header.parsed(path, first_bytes(path, max(_HEADER_BYTES.values())))
    header.check()
    size, number = header.size(), np.dtype(header.order + _TYPES[header.fields["datatype"][0]])
    packed, offset = is_gzip(path), int(header.fields["vox_offset"][0])
    slope, intercept = header.fields["scl_slope"][0], header.fields["scl_inter"][0]
    scale = (slope, intercept) if slope else (1.0, 0.0)  # by the standard 0 means that there is none of both
    grid, difference = _place(header, size)
    if grid:
        geometry = grid.spacing, grid.origin, grid.direction
    else:
        geometry = header.spacing, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist())
        check_geometry(path, size, geometry[0], geometry[1], np.eye(3))
    notes = geometry_notes(grid is not None, True, True)
    if difference:
        notes += (f"The image has two places in its header: {difference}.",)
    start, skip = (0, offset) if packed else (offset, 0)
    body = Body(start, packed, skip, _PADDING_BYTES)
    two = bool(difference)
    return StoredImage(path, size[::-1], number, *geometry, body, scale=scale, notes=notes, has_two_places=two)


@dataclass(frozen=True)
class _Header:
    """The fields of a header, lengths as they stand in the file.

    Attributes:
        path: the file that was given.
        version: 1 or 2.
        order: of its bytes, for `struct`.
        fields: numbers by their names in the standard.
    """

    path: Path
    version: int
    order: str
    fields: dict[str, tuple[Any, ...]]

    @classmethod
    def parsed(cls, path: Path, start: bytes) -> "_Header":
        """Read the fields from the beginning of a file.

        Raises:
            InputError: it is no NIfTI file.
        """
        order, version = _kind(path, start)
        places = {name: layout[version - 1] for name, layout in _LAYOUT.items()}
        fields = {name: struct.unpack_from(order + form, start, at) for name, (at, form) in places.items()}
        return cls(path, version, order, fields)

    def check(self) -> None:
        """Check each field by itself.

        Raises:
            InputError: one contradicts another, or cannot be.
        """
        (kind,), (bits,), (offset,) = (self.fields[name] for name in ("datatype", "bitpix", "vox_offset"))
        (count, *sizes), (sign, i, j, k, *_) = self.fields["dim"], self.fields["pixdim"]
        (slope,), (intercept,), (units,) = (self.fields[name] for name in ("scl_slope", "scl_inter", "xyzt_units"))
        codes, least = self.codes, _HEADER_BYTES[self.version] + 4
        is_known = kind in _TYPES
        is_sized = 1 <= count <= 7 and min(sizes[:count]) >= 1
        is_scaled = math.isfinite(slope) and math.isfinite(intercept) and not 0 < abs(slope) < _SMALLEST_SLOPE
        is_scaled &= slope != 0 or intercept == 0  # the standard adds nothing, ITK and Slicer add the intercept
        is_voxel = bool(np.isfinite([sign, i, j, k]).all()) and min(i, j, k) > 0
        is_code = 0 <= min(codes) <= max(codes) <= _LARGEST_CODE
        problems = {
            f"gives the size {times(sizes[: max(1, min(count, 7))])} ({count}D)": not is_sized,
            f"gives voxels of the type {kind}, which is not read here": not is_known and kind not in _OTHER_TYPES,
            f"gives {bits} bits for the type {kind}": is_known and bits not in (0, np.dtype(_TYPES[kind]).itemsize * 8),
            f"has an invalid vox_offset ({offset:g})": not offset >= least or offset % 1 != 0,
            f"has an invalid scl_slope or scl_inter ({slope:g}, {intercept:g})": not is_scaled,
            f"has invalid qform or sform codes ({codes[0]}, {codes[1]})": not is_code,
            f"has an invalid pixdim ({times((i, j, k))})": not is_voxel,
            f"has an unknown unit of length (xyzt_units {units})": units & 7 not in _MM_PER_UNIT,
        }
        if problem := next((words for words, is_so in problems.items() if is_so), None):
            raise _contradiction(self.path, problem)

    def size(self) -> tuple[int, int, int]:
        """Voxels along i, j and k; trailing axes of one are dropped.

        Raises:
            InputError: no volume of one real number a voxel.
        """
        (count, *sizes), (kind,) = self.fields["dim"], self.fields["datatype"]
        size, values = sizes[:count], _OTHER_TYPES.get(kind, 1)
        if self.fields["intent_code"][0] in _VECTORS and count == 5:
            values = size.pop()
        while len(size) > 3 and size[-1] == 1:
            size.pop()
        check_scalar_volume(self.path, size, values, values == 0)
        i, j, k = size
        return i, j, k

    @property
    def codes(self) -> tuple[int, int]:
        """Codes of qform and sform, 0 where there is none."""
        return self.fields["qform_code"][0], self.fields["sform_code"][0]

    @property
    def mm_per_unit(self) -> float:
        """Millimetres of each unit of length in the header."""
        return _MM_PER_UNIT[self.fields["xyzt_units"][0] & 7]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in mm."""
        i, j, k = self.fields["pixdim"][1:4]
        return i * self.mm_per_unit, j * self.mm_per_unit, k * self.mm_per_unit


def _kind(path: Path, start: bytes) -> tuple[str, int]:
    """Byte order and version."""
    for order in "<>" if len(start) >= 4 else "":
        (length,) = struct.unpack_from(f"{order}i", start)
        if length == 540 <= len(start) and start[4:12] == b"n+2\0\r\n\x1a\n":
            return order, 2
        if length == 348 <= len(start) and start[344:348] == b"n+1\0":
            return order, 1
    if start[344:347] not in (b"n+1", b"ni1") and start[4:7] not in (b"n+2", b"ni2"):
        raise unreadable(path, "the format is unknown")
    if len(start) < 348:
        raise unreadable(path, "the file is truncated", code="truncated-file")
    raise _contradiction(path, "gives a length of itself or a magic that are not those of a NIfTI file in one piece")


def _contradiction(path: Path, found: str) -> InputError:
    """Make the error about a header that cannot be right: `found` follows "which"."""
    return InputError(f"{path} has a header which {found}: {_REMEDY}.", "unusable-header")


@dataclass(frozen=True)
class _Form:
    """One of a header's two forms: axes (one a column, orthonormal) and offset of the first voxel in mm, both RAS."""

    code: int
    direction: np.ndarray
    offset: np.ndarray


def _place(header: _Header, size: tuple[int, int, int]) -> tuple[VoxelGrid | None, str]:
    """Return the grid by the form that counts, None for no form, and where two forms put the image if they differ.

    Raises:
        InputError: a form or voxel size cannot be, the axes are sheared, or the forms differ in voxel size or
            handedness.
    """
    spacing, codes, unit = header.spacing, header.codes, header.mm_per_unit
    forms: dict[str, _Form] = {}
    if codes[0]:
        forms[QFORM] = _qform(header, codes[0], unit)
    if codes[1]:
        forms[SFORM] = _sform(header, codes[1], unit, spacing)
    grids = {}
    for name, form in forms.items():
        origin, direction = _TO_LPS @ form.offset, _TO_LPS @ form.direction
        check_geometry(header.path, size, spacing, origin.tolist(), direction)
        grids[name] = VoxelGrid(size, spacing, tuple(origin.tolist()), tuple(direction.ravel().tolist()))
    if len(forms) < 2:
        return next(iter(grids.values()), None), ""
    qform, sform = forms.values()
    if np.linalg.det(qform.direction) * np.linalg.det(sform.direction) < 0:
        axes = " and ".join(f"{grid.orientation} ({name})" for name, grid in grids.items())
        raise _contradiction(header.path, f"has axes towards {axes}, mirror images of each other {_CORRECTION}")
    rotation, shift = np.abs(qform.direction - sform.direction).max(), np.abs(qform.offset - sform.offset).max()
    alike = rotation <= _NEARLY_EQUAL and shift <= _NEARLY_EQUAL
    rule = SFORM if sform.code == _SCANNER or alike else QFORM
    # A qform in single precision is off by up to 6e-4 rad near half turns, where the root of a difference counts.
    steps = (np.asarray(list(product(*((0, n - 1) for n in size)))) * spacing).T
    between = (qform.direction - sform.direction) @ steps + (qform.offset - sform.offset)[:, None]
    apart = float(np.linalg.norm(between, axis=0).max())
    if apart <= max(0.5 * min(spacing), 1e-3 * float(np.linalg.norm(np.multiply(size, spacing)))):
        return grids[rule], ""
    places = " and ".join(f"{grid.place} ({name})" for name, grid in grids.items())
    return grids[rule], f"{places}, up to {apart:.3g} mm apart; the {rule} counts, as in Slicer"


def _qform(header: _Header, code: int, unit: float) -> _Form:
    """Compute the rotation of a quaternion, whose first number the header leaves out (nifti1.h, method 2)."""
    b, c, d = header.fields["quatern"]
    qoffset = header.fields["qoffset"]
    norm = b * b + c * c + d * d
    if not np.isfinite([b, c, d, *qoffset]).all() or norm > 1 + ORTHONORMAL:
        numbers = ", ".join(f"{value:g}" for value in (b, c, d, *qoffset))
        raise _contradiction(header.path, f"gives a qform that is no rotation and place ({numbers})")
    a = np.sqrt(max(0.0, 1 - norm))
    if 1 - norm < 1e-7:  # as the NIfTI library: half a turn
        a = 0.0
        b, c, d = np.array([b, c, d]) / np.sqrt(norm)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    sign, *pixdim = header.fields["pixdim"][:4]
    rotation[:, 2] *= -1 if sign < 0 else 1
    matrix = rotation * np.asarray(pixdim)
    if header.version == 1:  # as ITK keeps it: in single precision, of files that it can read
        matrix = matrix.astype(np.float32).astype(float)
    return _Form(code, matrix / np.linalg.norm(matrix, axis=0), np.asarray(qoffset) * unit)


def _sform(header: _Header, code: int, unit: float, spacing: tuple[float, float, float]) -> _Form:
    srow, pixdim = np.reshape(header.fields["srow"], (3, 4)), header.fields["pixdim"][1:4]
    if not np.isfinite(srow).all():
        raise _contradiction(header.path, "gives an sform with NaN or infinite numbers")
    matrix, offset = srow[:, :3], srow[:, 3] * unit
    lengths = np.linalg.norm(matrix, axis=0)
    if np.abs(lengths / pixdim - 1).max() > _SAME_SIZE:
        # ITK, and so Slicer, takes pixdim; nibabel and FSL take the sform: volumes and places would be two.
        sizes = f"{times(spacing)} mm (pixdim) and {times((lengths * unit).tolist())} mm (sform)"
        raise _contradiction(header.path, f"gives voxels of {sizes} {_CORRECTION}")
    direction = matrix / lengths
    if problem := skew(direction):
        raise _contradiction(header.path, f"{problem} by its sform")
    if np.abs(direction @ direction.T - np.eye(3)).max() > _NEARLY_EQUAL:  # ITK refuses these, or turns them like this
        left, _, right = np.linalg.svd(direction)
        direction = left @ right
    return _Form(code, direction, offset)
