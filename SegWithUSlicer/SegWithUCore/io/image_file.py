"""Voxels as any format of image files stores them, read once with every byte accounted for.

A format is one function from a path to a `StoredImage` (`nifti`, `nrrd`, `metaimage`; `volume.FORMATS` lists them). ITK
and the libraries below it read damaged files in silence: they fill what is missing with zeros, replace NaN, pass over
checksums, and allocate what a header claims. So the bytes become an array here, and ITK gets the array. Needs numpy
alone.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..util.errors import InputError
from ..util.input_files import regular_file

if TYPE_CHECKING:
    from .grid import Placements

WANTED = "give an image file (NIfTI, NRRD or MHA)"
GZIP, ZLIB = 31, 15
"""Window bits that tell zlib which wrapping, and so which checksum, to expect."""
CHUNK_BYTES = 1 << 20
"""Worked on at once, so that it stays in the processor's cache; a multiple of every voxel size."""
_MOST_EXPANSION = 1032
"""Deflate cannot expand more than 1032:1 (zlib's technical details, "Maximum Compression Factor")."""


@dataclass(frozen=True)
class Body:
    """Where the voxels of an image are.

    Attributes:
        file: that holds them.
        offset: where in it they, or the compressed stream, begin.
        packing: `GZIP`, `ZLIB` or None for plain voxels.
        skip: bytes before the voxels, of what is inflated.
        at_end: the voxels are the last bytes of a file of plain voxels, whatever stands before them.
        packed_bytes: length of the compressed stream as the header has it, None if it says nothing.
        padding: zeros that may follow the voxels.
    """

    file: Path
    offset: int
    packing: int | None = None
    skip: int = 0
    at_end: bool = False
    packed_bytes: int | None = None
    padding: int = 0


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
        placements: of a NIfTI file, by each form of its header.
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
    placements: "Placements | None" = None

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
    return InputError(f"{path} cannot be read as an image ({reason}): give a whole NIfTI, NRRD or MHA file.", code)


def _truncated(path: Path, missing: int, claimed: int) -> InputError:
    reason = f"the file is truncated: {missing} of {claimed} bytes of voxels are missing"
    return unreadable(path, reason, code="truncated-file")


def _damaged(path: Path) -> InputError:
    return unreadable(path, "the compressed data are truncated or damaged", code="damaged-file")


def not_finite(path: Path, bad: int, count: int) -> InputError:
    """Make the error about `bad` of `count` voxels."""
    sentence = f"{path} has {bad} NaN or infinite voxels of {count}: replace them, for example by the background."
    return InputError(sentence, code="voxels-not-finite")


def unknown_place(why: str, slicer: str = "as in Slicer") -> str:
    """Word the note about an image whose header does not say where it lies.

    Args:
        why: what is missing.
        slicer: what Slicer takes then.
    """
    return (
        f"The header does not say where the image lies ({why}): its axes are taken to run to the left, to the back and "
        f"up, {slicer}, so check that sides and positions are right."
    )


def geometry_notes(unknown: str, has_origin: bool, has_spacing: bool) -> tuple[str, ...]:
    """Word the notes about geometry that a header leaves open.

    Args:
        unknown: note on missing directions, empty if they are there.
    """
    notes = [unknown] if unknown else []
    if not unknown and not has_origin:
        notes.append(
            "The header does not say where the first voxel lies: (0, 0, 0) mm is taken, so check that positions are "
            "right."
        )
    if not has_spacing:
        notes.append(
            "The header does not say how large the voxels are: 1 mm is taken, and volumes hold only if that is right."
        )
    return tuple(notes)


def sibling_file(header: Path, name: str) -> Path:
    """Find the voxel file that a header names; only files inside the header's own folder are taken.

    A header may come from anybody, and its voxels may end in an export: it must not reach for other files.

    Raises:
        InputError: the name leads outside (absolute, "..", through a link), or to no regular file.
    """
    windows = PureWindowsPath(name)  # its rules cover those of POSIX: either slash, drives, servers
    outside = windows.anchor or PurePosixPath(name).anchor or ".." in windows.parts or not name.isprintable()
    folder, file = os.path.realpath(header.parent), "" if outside else os.path.realpath(header.parent / name)
    if outside or not name or os.path.commonpath([folder, file]) != folder:
        raise InputError(
            f"{header} takes its voxels from {name!r}, outside its own folder: put both files into one folder, "
            "or save the image as one file."
        )
    try:
        regular_file(Path(file), "give the file of voxels that the header names")
    except InputError as error:
        raise InputError(f"{header} has no voxels: {error}") from None
    return Path(file)


def packing_of(file: Path, otherwise: int | None, start: int = 0) -> int | None:
    """Return `GZIP` if what begins at `start` is such a stream."""
    with file.open("rb") as content:
        content.seek(start)
        return GZIP if content.read(2) == b"\x1f\x8b" else otherwise


def first_bytes(path: Path, file: Path, count: int) -> bytes:
    """Read up to `count` bytes from the beginning of a file, inflated where it is compressed by gzip.

    Args:
        path: for messages.

    Raises:
        InputError: the stream is damaged there.
    """
    start = bytearray(count)
    try:
        with file.open("rb") as content:
            return bytes(start[: _Stream(content, packing_of(file, None)).fill(memoryview(start))])
    except (EOFError, zlib.error) as error:
        raise _damaged(path) from error


def read_voxels(stored: StoredImage) -> np.ndarray:
    """Read all voxels, in the computer's byte order, with slope and intercept applied.

    Returns:
        Array (k, j, i), or (k, j, i, value) where there are several values a voxel; 2D and 4D likewise.

    Raises:
        InputError: the file is cut, damaged, longer than its header says, or cannot hold what the header claims; or
            voxels are NaN or infinite.
    """
    try:
        array = _read_at_once(stored)
        if array is None:
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


def voxel_pieces(stored: StoredImage, room: memoryview | None) -> Iterator[int]:
    """Read all voxels piece by piece, for those who must not be kept waiting.

    Args:
        room: takes the bytes, in the file's byte order and without slope and intercept; None only checks them.

    Yields:
        How many bytes were read so far.

    Raises:
        InputError: as `read_voxels`; what follows the voxels is looked at last.
    """
    start, total, done, bad = checked_place(stored), stored.voxel_bytes, 0, 0
    own = memoryview(bytearray(min(CHUNK_BYTES, total))) if room is None else room
    try:
        with stored.body.file.open("rb") as file:
            file.seek(start)
            stream = _Stream(file, stored.body.packing)
            stream.skip(stored.body.skip)
            while done < total:
                count = min(CHUNK_BYTES, total - done)
                piece = own[:count] if room is None else own[done : done + count]
                done += (found := stream.fill(piece))
                if found < count:
                    raise _truncated(stored.path, total - done, total)
                bad += _not_finite_in(np.frombuffer(piece, stored.number))
                yield done
            stream.check_rest(stored)
    except (EOFError, zlib.error) as error:
        raise _damaged(stored.path) from error
    if bad:
        raise not_finite(stored.path, bad, math.prod(stored.shape))


def checked_place(stored: StoredImage) -> int:
    """Return where the stored bytes begin, once the file can hold what its header claims; nothing is read.

    Raises:
        InputError: it is too short, or longer than its header says.
    """
    body, claimed = stored.body, stored.voxel_bytes
    held = body.file.stat().st_size - body.offset
    if body.packing is None:
        if held < claimed:
            raise _truncated(stored.path, claimed - max(held, 0), claimed)
        if held > claimed + body.padding and not body.at_end:
            raise left_over(stored)
        return body.offset + (held - claimed if body.at_end else 0)
    if body.packed_bytes is not None and held < body.packed_bytes:
        raise _truncated(stored.path, body.packed_bytes - held, body.packed_bytes)
    if body.packed_bytes is not None and held > body.packed_bytes:
        raise left_over(stored)
    if body.skip + claimed > held * _MOST_EXPANSION:
        reason = f"its header claims {claimed} bytes of voxels, more than {held} bytes can hold"
        raise unreadable(stored.path, reason, code="truncated-file")
    return body.offset


def left_over(stored: StoredImage) -> InputError:
    """Make the error about bytes of which the header says nothing."""
    sizes = f"{' x '.join(map(str, stored.size))} of {stored.number.name}"
    reason = f"more bytes follow the {stored.voxel_bytes} of voxels ({sizes}) that its header claims"
    return unreadable(stored.path, reason, code="bytes-left-over")


class _Stream:
    """The bytes of a file from where it stands, inflated where they are compressed; all checksums are compared."""

    def __init__(self, file: BinaryIO, packing: int | None) -> None:
        self._file, self._packing, self._packed = file, packing, b""
        self._inflate = None if packing is None else zlib.decompressobj(packing)

    def fill(self, view: memoryview) -> int:
        """Fill a piece of memory; returns how many bytes there were.

        Raises:
            EOFError: the file ends within a stream.
            zlib.error: it is damaged.
        """
        if self._inflate is None:
            return int(self._file.readinto(view))  # type: ignore[attr-defined]  # every binary file has it
        done = 0
        while done < len(view) and (found := self._inflated(len(view) - done)):
            view[done : done + len(found)] = found
            done += len(found)
        return done

    def skip(self, count: int) -> None:
        """Pass over bytes, at most to the end."""
        while count > 0 and (passed := self.fill(memoryview(bytearray(min(count, CHUNK_BYTES))))):
            count -= passed

    def check_rest(self, stored: StoredImage) -> None:
        """Read to the end, where the checksum stands; no more than `padding` zeros may come."""
        left, room = 0, memoryview(bytearray(CHUNK_BYTES))
        while found := self.fill(room):
            left += found
            if left > stored.body.padding or bytes(room[:found]).strip(b"\0"):
                raise left_over(stored)

    def _inflated(self, most: int) -> bytes:
        assert self._inflate is not None
        while True:
            if self._inflate.eof and not self._next_stream():
                return b""
            self._packed = self._packed or self._file.read(CHUNK_BYTES // 4)
            if not self._packed:
                raise EOFError
            found = self._inflate.decompress(self._packed, most)
            self._packed = self._inflate.unconsumed_tail
            if found:
                return found

    def _next_stream(self) -> bool:
        """Begin the next stream of a gzip file, which zeros may pad; nothing else may follow a stream."""
        assert self._inflate is not None
        rest = self._inflate.unused_data or self._packed or self._file.read(CHUNK_BYTES)
        if rest and self._packing != GZIP:
            raise zlib.error("bytes behind the end of the stream")
        while rest and not (rest := rest.lstrip(b"\0")):
            rest = self._file.read(CHUNK_BYTES)
        self._packed = rest
        if rest:
            self._inflate = zlib.decompressobj(GZIP)
        return bool(rest)


def _read_at_once(stored: StoredImage) -> np.ndarray | None:
    """Inflate all voxels by libdeflate; None where they are plain, or reading piece by piece must tell."""
    body, start = stored.body, checked_place(stored)
    if body.packing is None:
        return None
    with body.file.open("rb") as file:
        file.seek(start)
        data = inflated_at_once(file.read(), body.packing, body.skip + stored.voxel_bytes)
    if data is None:
        return None
    flat = np.frombuffer(data, stored.number, offset=body.skip)
    _check_finite(stored.path, flat)
    return flat.reshape(stored.shape)


def inflated_at_once(packed: bytes, packing: int, wanted: int) -> bytearray | None:
    """Inflate by libdeflate, as fast as ITK and three times as fast as zlib, which decides where this gives None.

    libdeflate checks the checksum and never gives more than `wanted` bytes, but is content with fewer, and does not
    see what stands behind the end: so the checksum of all bytes must be the last that the file holds.

    Args:
        packed: all bytes of the stream.
        packing: `GZIP` or `ZLIB`.
        wanted: how many bytes it must hold.
    """
    try:
        import deflate
    except ImportError:  # Slicer, before it has installed the engine's packages
        return None
    inflate = deflate.gzip_decompress if packing == GZIP else deflate.zlib_decompress
    try:
        data: bytearray = inflate(packed, wanted)
    except deflate.DeflateError:
        return None
    if packing == GZIP:
        end = struct.pack("<II", deflate.crc32(data), wanted % 2**32)
    else:
        end = struct.pack(">I", deflate.adler32(data))
    # Where the checksum stands earlier, too, a copy of the stream may follow: zlib tells.
    return data if len(data) == wanted and packed.find(end) == len(packed) - len(end) else None


def _not_finite_in(flat: np.ndarray) -> int:
    return 0 if flat.dtype.kind != "f" else int(flat.size - np.count_nonzero(np.isfinite(flat)))


def _check_finite(path: Path, flat: np.ndarray) -> None:
    """Refuse voxels that are NaN or infinite."""
    step = CHUNK_BYTES // flat.itemsize
    pieces = range(0, flat.size, step) if flat.dtype.kind == "f" else ()
    if bad := sum(_not_finite_in(flat[at : at + step]) for at in pieces):
        raise not_finite(path, bad, flat.size)


def _scaled(stored: StoredImage, array: np.ndarray) -> np.ndarray:
    """Slope and intercept applied as ITK does: whole numbers become float32, then each is computed in double."""
    slope, intercept = stored.scale
    values = array.astype(np.float32) if array.dtype.kind != "f" else array
    flat, step = values.reshape(-1), CHUNK_BYTES // 8
    for begin in range(0, flat.size, step):
        piece = flat[begin : begin + step]
        with np.errstate(over="ignore"):
            piece[:] = piece.astype(float) * slope + intercept
    _check_finite(stored.path, flat)
    return values
