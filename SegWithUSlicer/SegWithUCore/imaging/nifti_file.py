"""What the NIfTI library keeps to itself: it fills the missing part of a cut file with zeros and reads NaN and
infinite voxels as zeros, both without a word. So the bytes are looked at before it gets them."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
CHUNK_BYTES = 1 << 24
"""Read at once: bounds memory; a multiple of every voxel size."""
_VOXEL_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 1792: 16}
"""Bytes a voxel of each NIfTI data type that ITK reads."""
_FLOATS = {16: "f4", 32: "f4", 64: "f8", 1792: "f8"}
"""Data types made of floating-point numbers (complex ones are pairs of them)."""


@dataclass(frozen=True)
class _Header:
    """Where the voxels are and what they are.

    Attributes:
        offset: first byte of the voxels.
        size: bytes of all voxels.
        number: numpy type of the floating-point numbers, None for whole numbers.
    """

    offset: int
    size: int
    number: str | None


def check_nifti(path: Path) -> None:
    """Refuse a NIfTI or Analyze file of which voxels are missing, NaN or infinite; others pass untouched.

    Raises:
        InputError: the file ends before its voxels do, its compression is damaged, or voxels are not finite.
    """
    if not path.name.lower().endswith(SUFFIXES):
        return
    head, body = _partner(path, ".img", ".hdr"), _partner(path, ".hdr", ".img")
    if not head.is_file() or not body.is_file():
        return  # the reader says what it thinks of it
    try:
        with _opened(head) as file:
            header = _header(file.read(540))
        if header is None:
            return
        with _opened(body) as file:
            missing, bad, count = _missing_and_bad(file, header)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(_damaged(path, "its end is missing or damaged")) from error
    if missing:
        raise InputError(_damaged(path, f"its end is missing: {missing} of {header.size} bytes"))
    if bad:
        raise InputError(not_finite_message(path, bad, count))


def not_finite_message(path: Path, bad: int, count: int) -> str:
    """The sentence about `bad` of `count` voxels."""
    return f"{path} has {bad} NaN or infinite voxels of {count}: replace them, for example by the background."


def _damaged(path: Path, reason: str) -> str:
    return f"{path} cannot be read as an image ({reason}): give a whole NIfTI, NRRD or MHA file."


def _partner(path: Path, suffix: str, other: str) -> Path:
    """The header of a pair of files whose voxels were given, or the reverse; single files are their own partners."""
    name = path.name.removesuffix(".gz")
    if not name.lower().endswith(suffix):
        return path
    stem = name[: -len(suffix)]
    places = [path.with_name(f"{stem}{other}"), path.with_name(f"{stem}{other}.gz")]
    return next((place for place in places if place.is_file()), places[0])


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked  # type: ignore[misc]  # a GzipFile reads like any binary file


def _header(start: bytes) -> _Header | None:
    """Read the first 540 bytes of a NIfTI-1, NIfTI-2 or Analyze file; None for anything else."""
    for order in "<>":
        if len(start) >= 348 and struct.unpack_from(f"{order}i", start)[0] == 348:
            dimensions = struct.unpack_from(f"{order}8h", start, 40)
            kind = struct.unpack_from(f"{order}h", start, 70)[0]
            offset = struct.unpack_from(f"{order}f", start, 108)[0]
            before = 348 if start[344:346] == b"n+" else 0  # a single file holds the header before the voxels
            break
        if len(start) >= 540 and struct.unpack_from(f"{order}i", start)[0] == 540:
            kind = struct.unpack_from(f"{order}h", start, 12)[0]
            dimensions = struct.unpack_from(f"{order}8q", start, 16)
            offset = struct.unpack_from(f"{order}q", start, 168)[0]
            before = 540 if start[4:6] == b"n+" else 0
            break
    else:
        return None
    if not 1 <= dimensions[0] <= 7 or kind not in _VOXEL_BYTES or not math.isfinite(offset):
        return None
    count = math.prod(max(1, n) for n in dimensions[1 : 1 + dimensions[0]])
    number = f"{order}{_FLOATS[kind]}" if kind in _FLOATS else None
    return _Header(max(int(offset), before), count * _VOXEL_BYTES[kind], number)


def _missing_and_bad(file: BinaryIO, header: _Header) -> tuple[int, int, int]:
    """How many bytes are missing at the end, how many numbers are not finite, and how many numbers there are."""
    file.seek(header.offset)
    left, bad, count = header.size, 0, 0
    while left:
        chunk = file.read(min(left, CHUNK_BYTES))
        if not chunk:
            return left, bad, count
        left -= len(chunk)
        if header.number:
            numbers = np.frombuffer(chunk[: len(chunk) // 8 * 8] if left else chunk, header.number)
            bad += int(numbers.size - np.count_nonzero(np.isfinite(numbers)))
            count += numbers.size
    while file.read(CHUNK_BYTES):  # the checksum of a compressed file stands at its end
        pass
    return 0, bad, count
