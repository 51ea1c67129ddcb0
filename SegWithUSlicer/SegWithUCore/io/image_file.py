"""Voxels as any format of image files stores them, read once with every byte accounted for.

A format is one function from a path to a `StoredImage` (`volume.FORMATS` lists them).
ITK and the libraries below it read damaged files in silence: they fill what is missing with zeros, replace NaN, pass
over checksums, and allocate what a header claims. So the bytes become an array here, and ITK gets the array. Needs
numpy alone.
"""

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..util.errors import InputError

WANTED = "give an image file (NIfTI, NRRD, MHA or MGZ)"
CHUNK_BYTES = 1 << 20
"""Worked on at once, so that it stays in the processor's cache; a multiple of every voxel size."""
_MOST_EXPANSION = 1032
"""Deflate cannot expand more than 1032:1 (zlib's technical details, "Maximum Compression Factor")."""


@dataclass(frozen=True)
class Body:
    """Where the voxels of an image are.

    Attributes:
        offset: where in the file they, or the compressed stream, begin.
        is_packed: whether they are compressed.
        skip: bytes before the voxels, of what is inflated.
        padding: zeros that may follow the voxels.
        is_zlib: whether zlib compressed them rather than gzip.
        has_trailer: whether anything may follow the voxels.
    """

    offset: int
    is_packed: bool = False
    skip: int = 0
    padding: int = 0
    is_zlib: bool = False
    has_trailer: bool = False


@dataclass(frozen=True)
class StoredImage:
    """What the header of an image file says; geometry as ITK has it: LPS, millimetres.

    Attributes:
        path: the file that was asked for.
        shape: of the stored array, slowest axis first.
        number: of the file, with its byte order.
        spacing, origin: along (i, j, k, ...).
        direction: row by row; column n is the direction of axis n.
        body: where the voxels are.
        components_axis: axis of `shape` that holds the values of one voxel; None if there is one value.
        fields: further entries of the header, by key.
        scale: slope and intercept from stored numbers to values.
        notes: what the header leaves open, so that a default is taken, in sentences.
        has_two_places: whether qform and sform of a NIfTI file put the image at two places.
    """

    path: Path
    shape: tuple[int, ...]
    number: np.dtype[Any]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    body: Body
    components_axis: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    scale: tuple[float, float] = (1.0, 0.0)
    notes: tuple[str, ...] = ()
    has_two_places: bool = False

    @property
    def size(self) -> tuple[int, ...]:
        """Number of voxels along (i, j, k, ...)."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.components_axis)[::-1]

    @property
    def components(self) -> int:
        """Numbers a voxel."""
        return 1 if self.components_axis is None else self.shape[self.components_axis]

    @property
    def is_scaled(self) -> bool:
        """Whether slope and intercept change anything."""
        return self.scale != (1.0, 0.0)

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels, inflated."""
        return math.prod(self.shape) * self.number.itemsize


def unreadable(path: Path, reason: str, code: str = "") -> InputError:
    """Make the error about a damaged file, or one that is no image."""
    return InputError(f"{path} cannot be read as an image ({reason}): give a whole NIfTI, NRRD, MHA or MGZ file.", code)


def not_finite(path: Path, bad: int, count: int) -> InputError:
    """Make the error about `bad` of `count` voxels."""
    return InputError(f"{path} has {bad} NaN or infinite voxels of {count}: replace them.", "voxels-not-finite")


def geometry_notes(
    has_axes: bool, has_origin: bool, has_spacing: bool, slicer: str = "as in Slicer"
) -> tuple[str, ...]:
    """Word the notes about geometry that a header leaves open.

    Args:
        slicer: what Slicer takes where there are no axes.
    """
    notes = {
        f"The header has no axes: left, back and up are taken, {slicer}; check sides and positions.": not has_axes,
        "The header has no origin: (0, 0, 0) mm is taken; check positions.": has_axes and not has_origin,
        "The header has no voxel size: 1 mm is taken, and volumes hold only if that is right.": not has_spacing,
    }
    return tuple(words for words, is_so in notes.items() if is_so)


def is_gzip(path: Path, start: int = 0) -> bool:
    """Whether what begins at `start` is a gzip stream."""
    with path.open("rb") as content:
        content.seek(start)
        return content.read(2) == b"\x1f\x8b"


def first_bytes(path: Path, count: int) -> bytes:
    """Read up to `count` bytes from the beginning of a file, inflated where it is compressed by gzip.

    Raises:
        InputError: the stream is damaged there.
    """
    with _opened(path, Body(0, is_gzip(path)), count) as content:
        return content.read(count)


def read_voxels(stored: StoredImage) -> np.ndarray:
    """Read all voxels, in the computer's byte order, with slope and intercept applied.

    Returns:
        Array (k, j, i), or (k, j, i, value) where there are several values a voxel; 2D and 4D likewise.

    Raises:
        InputError: the file is cut, damaged, longer than its header says, or cannot hold what the header claims; or
            voxels are NaN or infinite.
    """
    try:
        array = np.empty(stored.shape, stored.number)
        for _ in voxel_pieces(stored, array.reshape(-1).view(np.uint8).data):
            pass
    except MemoryError:
        held = stored.voxel_bytes
        raise InputError(f"{stored.path} holds {held} bytes of voxels, more than this computer has free.") from None
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    if stored.is_scaled:
        array = _scaled(stored, array)
    if stored.components_axis is not None:
        array = np.moveaxis(array, stored.components_axis, -1)
        array = array.reshape(stored.size[::-1]) if stored.components == 1 else array
    return array


def check_voxels(stored: StoredImage) -> None:
    """Check that all voxels are there and whole, without keeping them.

    Raises:
        InputError: as `read_voxels`.
    """
    for _ in voxel_pieces(stored, None):
        pass


def voxel_pieces(stored: StoredImage, room: memoryview | None) -> Iterator[memoryview]:
    """Read all voxels piece by piece, for those who must not be kept waiting.

    Args:
        room: takes the bytes, in the file's byte order and without slope and intercept; None only checks them.

    Yields:
        Each piece, of whole numbers; without `room` the next one replaces it.

    Raises:
        InputError: as `read_voxels`; what follows the voxels is checked last.
    """
    checked_place(stored)
    body, total, done, bad = stored.body, stored.voxel_bytes, 0, 0
    own = memoryview(bytearray(CHUNK_BYTES))
    with _opened(stored.path, body, body.skip + total + body.padding + 1) as stream:
        stream.read(body.skip)
        while done < total:
            count = min(CHUNK_BYTES, total - done)
            piece = own[:count] if room is None else room[done : done + count]
            done += (found := stream.readinto(piece))  # type: ignore[attr-defined]  # every binary file has it
            if found < count:
                reason = f"the file is truncated: {total - done} of {total} bytes of voxels are missing"
                raise unreadable(stored.path, reason, "truncated-file")
            bad += _not_finite_in(np.frombuffer(piece, stored.number))
            yield piece
        left = 0
        while found := stream.readinto(own):  # type: ignore[attr-defined]  # to the end, where the checksum stands
            left += found
            if not body.has_trailer and (left > body.padding or bytes(own[:found]).strip(b"\0")):
                raise _left_over(stored)
    if bad:
        raise not_finite(stored.path, bad, math.prod(stored.shape))


def checked_place(stored: StoredImage) -> None:
    """Check that a file can hold what its header claims; nothing is read.

    Raises:
        InputError: it is too short, or longer than its header says.
    """
    body, claimed = stored.body, stored.voxel_bytes
    held = max(0, stored.path.stat().st_size - body.offset)
    if not (body.is_packed or body.has_trailer) and held > claimed + body.padding:
        raise _left_over(stored)
    if body.skip + claimed > held * (_MOST_EXPANSION if body.is_packed else 1):
        reason = f"its header claims {claimed} bytes of voxels, more than {held} bytes of the file can hold"
        raise unreadable(stored.path, reason, code="truncated-file")


def _left_over(stored: StoredImage) -> InputError:
    """Make the error about bytes of which the header says nothing."""
    sizes = f"{' x '.join(map(str, stored.size))} of {stored.number.name}"
    reason = f"more bytes follow the {stored.voxel_bytes} of voxels ({sizes}) that its header claims"
    return unreadable(stored.path, reason, code="damaged-file")


@contextlib.contextmanager
def _opened(path: Path, body: Body, most: int) -> Iterator[BinaryIO]:
    """Open the voxels of a file, inflated where they are compressed; all checksums are compared.

    Args:
        most: how many bytes are inflated from a zlib stream at most; gzip streams are inflated as they are read.

    Raises:
        InputError: a stream ends early, is damaged, or is followed by anything but zeros.
    """
    reader, damage = _gzip_reader()
    try:
        with path.open("rb") as file:
            file.seek(body.offset)
            if not body.is_packed:
                yield file
            elif not body.is_zlib:
                yield reader(fileobj=file)
            else:
                inflate = zlib.decompressobj()
                found = inflate.decompress(file.read(), most)
                if inflate.unused_data or not (inflate.eof or len(found) == most):
                    raise EOFError
                yield io.BytesIO(found)
    except (EOFError, zlib.error, damage, gzip.BadGzipFile) as error:
        raise unreadable(path, "the compressed data are truncated or damaged", code="damaged-file") from error


def _gzip_reader() -> tuple[Any, type[Exception]]:
    """Return what reads gzip and its error: zlib-ng, twice as fast; the standard library where nothing is installed."""
    try:
        from zlib_ng import gzip_ng, zlib_ng
    except ImportError:  # Slicer's window before the first run
        return gzip.GzipFile, zlib.error
    return gzip_ng.GzipFile, zlib_ng.error  # type: ignore[return-value]  # its stub calls the class an instance


def _not_finite_in(flat: np.ndarray) -> int:
    return 0 if flat.dtype.kind != "f" else int(flat.size - np.count_nonzero(np.isfinite(flat)))


def _scaled(stored: StoredImage, array: np.ndarray) -> np.ndarray:
    """Slope and intercept applied as ITK does: integers become float32, then each is computed in double."""
    slope, intercept = stored.scale
    values = array.astype(np.float32) if array.dtype.kind != "f" else array
    flat, step, bad = values.reshape(-1), CHUNK_BYTES // 8, 0
    for begin in range(0, flat.size, step):
        piece = flat[begin : begin + step]
        with np.errstate(over="ignore"):
            piece[:] = piece.astype(float) * slope + intercept
        bad += _not_finite_in(piece)
    if bad:
        raise not_finite(stored.path, bad, flat.size)
    return values
