"""Reading NIfTI and Analyze files: every byte is read, inflated once, and nothing replaces what is wrong.

The NIfTI library, through which ITK reads, fills the missing part of a cut file with zeros, reads NaN and infinite
voxels as zeros and takes headers that contradict themselves, all without a word. Voxels and grid are those that ITK
gives for files that it reads rightly.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from ..util.errors import InputError
from ..util.input_files import regular_file
from .header_fields import unreadable
from .nifti_grid import NiftiGrid, nifti_grid
from .nifti_header import HEADER_BYTES, NiftiHeader, contradiction, parse_header
from .stored_voxels import GZIP, inflated_at_once

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
ASCII_SUFFIX = ".nia"
CHUNK_BYTES = 1 << 20
"""Worked on at once, so that it stays in the processor's cache; a multiple of every voxel size."""
_PADDING_BYTES = 512
"""Fewer zeros than a disk's block may follow the voxels."""
_DEFLATE_RATIO = 1032
"""Deflate makes nothing smaller than this (https://www.zlib.net/zlib_tech.html)."""


def is_nifti_name(path: Path) -> bool:
    """Whether a file is NIfTI or Analyze by its name."""
    return path.name.lower().endswith((*SUFFIXES, ASCII_SUFFIX))


def read_nifti(path: Path) -> sitk.Image:
    """Read a scalar NIfTI-1, NIfTI-2 or Analyze 7.5 volume, on the grid that `nifti_grid` gives by its rule.

    Voxels keep their type; where the header has a slope or an intercept, whole numbers become float32, as in ITK. Of
    a pair (.hdr with .img) either may be given; every file may be compressed by gzip.

    Raises:
        InputError: no such file or another one; a header that contradicts itself or the file's size; damaged or
            missing voxels; NaN or infinite ones; no single volume of real numbers.
    """
    with _opened(path) as (header, body):
        grid = nifti_grid(header)
        array = _voxels(header, body)
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    if header.is_scaled:
        array = _scaled(header, array)
    image = sitk.GetImageFromArray(array)
    spacing, origin, direction = grid.geometry()
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def check_nifti(path: Path) -> None:
    """Refuse a file that `read_nifti` would refuse, in little memory; files with other names pass untouched.

    Raises:
        InputError: as `read_nifti`.
    """
    if not is_nifti_name(path):
        return
    with _opened(path) as (header, body):
        nifti_grid(header)
        _take(header, body, None)


def read_nifti_header(path: Path) -> NiftiHeader:
    """Read and check the header alone.

    Raises:
        InputError: as `read_nifti`, as far as the header and the size of the file tell.
    """
    with _opened(path) as (header, _):
        return header


def read_nifti_grid(path: Path) -> NiftiGrid:
    """Read the grid alone, by both forms.

    Raises:
        InputError: as `read_nifti`, as far as the header and the size of the file tell.
    """
    return nifti_grid(read_nifti_header(path))


def read_nifti_pieces(path: Path, room: Callable[[NiftiHeader], np.ndarray]) -> Iterator[slice]:
    """Read a volume without slope and intercept piece by piece, for those who must not be kept waiting.

    Args:
        room: makes the array (k, j, i) that is filled, of the file's type but in the computer's byte order.

    Yields:
        The planes that were filled since the last time.

    Raises:
        InputError: as `read_nifti`; of missing voxels only at the end.
    """
    with _opened(path) as (header, source):
        nifti_grid(header)
        array, bad = room(header), 0
        source.skip_to(header.offset)
        planes = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
        for start in range(0, len(array), planes):
            part = array[start : start + planes]
            view = part.reshape(-1).view(np.uint8).data
            if source.fill(view) < len(view):
                raise unreadable(path, f"its end is missing: {header.bytes} bytes of voxels are promised")
            if not header.number.isnative:
                part.byteswap(inplace=True)
            if part.dtype.kind == "f":
                bad += int(part.size - np.count_nonzero(np.isfinite(part)))
            yield slice(start, start + len(part))
        _check_rest(header, source)
    if bad:
        raise InputError(not_finite_message(path, bad, array.size))


def not_finite_message(path: Path, bad: int, count: int) -> str:
    """Word the message about `bad` of `count` voxels."""
    return f"{path} has {bad} NaN or infinite voxels of {count}: replace them, for example by the background."


class _Bytes:
    """The bytes of a file one after the other, inflated where it is compressed by gzip.

    All streams of such a file are read, and their checksums and lengths compared.
    """

    def __init__(self, file: BinaryIO) -> None:
        packed = file.read(2) == b"\x1f\x8b"
        self.file_bytes = file.seek(0, 2)
        file.seek(0)
        self._file, self._stream = file, _stream() if packed else None
        self._packed = b""
        self.position = 0

    @property
    def most(self) -> int:
        """How many bytes there can be at most."""
        return self.file_bytes * (1 if self._stream is None else _DEFLATE_RATIO)

    def read(self, count: int) -> bytes:
        """At most `count` bytes, none at the end.

        Raises:
            EOFError: the file ends within a stream.
            zlib.error: it is damaged.
        """
        found = self._file.read(count) if self._stream is None else self._inflated(count)
        self.position += len(found)
        return found

    def fill(self, view: memoryview) -> int:
        """Fill a piece of memory; returns how many bytes there were."""
        done = 0
        while done < len(view):
            found = self.read(len(view) - done)
            if not found:
                break
            view[done : done + len(found)] = found
            done += len(found)
        return done

    def at_once(self, count: int) -> bytearray | None:
        """All bytes of the file, inflated, if they are `count`; None where reading piece by piece must tell."""
        if self._stream is None:
            return None
        at = self._file.tell()
        self._file.seek(0)
        data = inflated_at_once(self._file.read(), GZIP, count)
        self._file.seek(at)
        return data

    def skip_to(self, position: int) -> None:
        """Pass over bytes, at most to the end."""
        while self.position < position and self.read(min(CHUNK_BYTES, position - self.position)):
            pass

    def _inflated(self, count: int) -> bytes:
        assert self._stream is not None
        while True:
            if self._stream.eof:  # zeros may pad the file, and another stream may follow
                self._packed = (self._stream.unused_data or self._packed).lstrip(b"\0")
                while not self._packed and (more := self._file.read(CHUNK_BYTES)):
                    self._packed = more.lstrip(b"\0")
                if not self._packed:
                    return b""
                self._stream = _stream()
            self._packed = self._packed or self._file.read(CHUNK_BYTES // 4)
            if not self._packed:
                raise EOFError
            found = self._stream.decompress(self._packed, count)
            self._packed = self._stream.unconsumed_tail
            if found:
                return found


def _stream() -> "zlib._Decompress":
    return zlib.decompressobj(16 + zlib.MAX_WBITS)  # with gzip's own header, checksum and length


@contextmanager
def _opened(path: Path) -> Iterator[tuple[NiftiHeader, _Bytes]]:
    """Open a file: its header, and its voxels' bytes from wherever reading stands; damage becomes an `InputError`."""
    if path.name.lower().endswith(ASCII_SUFFIX):
        raise InputError(f"{path} is a NIfTI file in ASCII (.nia), which is not read here: save it as .nii.gz.")
    regular_file(path, "give an image file (NIfTI, NRRD or MHA)")
    head, body = _partner(path, ".img", ".hdr"), _partner(path, ".hdr", ".img")
    for each in (head, body):
        if not each.is_file():
            raise InputError(f"{path} belongs to a pair of files, of which {each.name} is missing: give both.")
    try:
        with head.open("rb") as file:
            source = _Bytes(file)
            header = parse_header(path, _first_bytes(source), head != body)
            if head == body:
                _check_claim(header, source)
                yield header, source
                return
        with body.open("rb") as file:
            source = _Bytes(file)
            _check_claim(header, source)
            yield header, source
    except (EOFError, zlib.error) as error:
        raise unreadable(path, "its end is missing or damaged") from error


def _partner(path: Path, suffix: str, other: str) -> Path:
    """Find the header of a pair whose voxels were given, or the reverse; single files are their own partners."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    if not name.lower().endswith(suffix):
        return path
    stem = name[: -len(suffix)]
    candidates = [path.with_name(f"{stem}{end}") for end in (other, f"{other}.gz", other.upper())]
    return next((each for each in candidates if each.is_file()), candidates[0])


def _first_bytes(source: _Bytes) -> bytes:
    """Read the header: the voxels may begin right behind it."""
    start = bytearray(348)
    del start[source.fill(memoryview(start)) :]
    if bytes(start[:4]) in (b"\x1c\x02\0\0", b"\0\0\x02\x1c"):  # 540: NIfTI-2
        more = bytearray(HEADER_BYTES - len(start))
        start += more[: source.fill(memoryview(more))]
    return bytes(start)


def _check_claim(header: NiftiHeader, source: _Bytes) -> None:
    """Refuse a header that promises more than the file can hold, before there is memory for it."""
    missing = header.offset + header.bytes - source.most
    if missing > 0:
        reason = f"its end is missing: {missing} of {header.bytes} bytes"
        raise unreadable(header.path, f"{reason} of voxels that the header promises from byte {header.offset:g} on")


def _voxels(header: NiftiHeader, source: _Bytes) -> np.ndarray:
    """All voxels (k, j, i), in the byte order of the file."""
    data = source.at_once(header.offset + header.bytes)
    if data is None:
        array = np.empty(header.size[::-1], header.number)
        _take(header, source, array.reshape(-1).view(np.uint8).data)
        return array
    flat = np.frombuffer(data, header.number, offset=header.offset)
    _check_finite(header.path, flat)
    return flat.reshape(header.size[::-1])


def _check_finite(path: Path, flat: np.ndarray) -> None:
    """Refuse voxels that are NaN or infinite."""
    if flat.dtype.kind != "f":
        return
    step = CHUNK_BYTES // flat.itemsize
    finite = sum(int(np.count_nonzero(np.isfinite(flat[at : at + step]))) for at in range(0, flat.size, step))
    if finite < flat.size:
        raise InputError(not_finite_message(path, flat.size - finite, flat.size))


def _take(header: NiftiHeader, source: _Bytes, view: memoryview | None) -> None:
    """Read all voxels and what follows them.

    Args:
        view: takes their bytes; None to only check them.
    """
    source.skip_to(header.offset)
    room = memoryview(bytearray(min(CHUNK_BYTES, header.bytes)))
    bad, done = 0, 0
    while done < header.bytes:
        count = min(CHUNK_BYTES, header.bytes - done)
        piece = room[:count] if view is None else view[done : done + count]
        found = source.fill(piece)
        done += found
        if found < count:
            raise unreadable(header.path, f"its end is missing: {header.bytes - done} of {header.bytes} bytes")
        if header.number.kind == "f":
            numbers = np.frombuffer(piece, header.number)
            bad += int(numbers.size - np.count_nonzero(np.isfinite(numbers)))
    _check_rest(header, source)
    if bad:
        raise InputError(not_finite_message(header.path, bad, header.bytes // header.number.itemsize))


def _check_rest(header: NiftiHeader, source: _Bytes) -> None:
    """Read to the end, where the checksum of a compressed file stands.

    Voxels of which the header says nothing are not passed over.
    """
    left, blank = 0, True
    while found := source.read(CHUNK_BYTES):
        left += len(found)
        blank = blank and not found.strip(b"\0")
    if left >= _PADDING_BYTES or not blank:
        raise contradiction(
            header.path,
            f"promises {header.bytes} bytes of voxels ({' x '.join(map(str, header.size))} of {header.number.name}, "
            f"from byte {header.offset} on), though {left} more bytes follow",
        )


def _scaled(header: NiftiHeader, array: np.ndarray) -> np.ndarray:
    """Slope and intercept applied as ITK does: whole numbers become float32, then each is computed in double."""
    values = array.astype(np.float32) if array.dtype.kind != "f" else array
    flat = values.reshape(-1)
    for begin in range(0, flat.size, CHUNK_BYTES // 8):
        piece = flat[begin : begin + CHUNK_BYTES // 8]
        with np.errstate(over="ignore"):
            piece[:] = piece.astype(float) * header.slope + header.intercept
    _check_finite(header.path, flat)
    return values
