"""Voxels as NRRD and MetaImage files store them: read, or inflated once, with every byte accounted for.

ITK reads such files without looking at checksums, at what is left over, or at what a header claims before it
allocates; so the bytes are turned into an array here, and ITK gets the array. Needs numpy alone.
"""

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ..util.errors import InputError
from ..util.input_files import regular_file
from .header_fields import unreadable

SPACING, ORIGIN, DIRECTION = "spacing", "origin", "direction"
GZIP, ZLIB = 31, 15
"""Window bits that tell zlib which wrapping, and so which checksum, to expect."""
_READ_BYTES, _BLOCK_BYTES = 1 << 17, 1 << 20
_MOST_EXPANSION = 1032
"""Deflate cannot expand more than 1032:1 (zlib's technical details, "Maximum Compression Factor")."""


@dataclass(frozen=True)
class Body:
    """Where the voxels of an image are.

    Attributes:
        file: that holds them.
        offset: where in it they, or the compressed stream, begin.
        packing: `GZIP`, `ZLIB` or None for plain voxels.
        skip: bytes before the voxels, of what is inflated where they are compressed.
        at_end: the voxels are the last bytes of a file of plain voxels, whatever stands before them.
        packed_bytes: length of the compressed stream as the header has it, None if it says nothing.
    """

    file: Path
    offset: int
    packing: int | None = None
    skip: int = 0
    at_end: bool = False
    packed_bytes: int | None = None


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
        unsaid: of `SPACING`, `ORIGIN` and `DIRECTION`, what the header leaves open, so that ITK's default is taken.
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
    unsaid: frozenset[str] = frozenset()

    @property
    def size(self) -> tuple[int, ...]:
        """Number of voxels along (i, j, k, ...)."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.components_axis)[::-1]

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels, inflated."""
        return math.prod(self.shape) * self.number.itemsize


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


def read_voxels(stored: StoredImage) -> np.ndarray:
    """Read all voxels, in the computer's byte order.

    Returns:
        Array (k, j, i), or (k, j, i, value) where there are several values a voxel; 2D and 4D likewise.

    Raises:
        InputError: the file is cut, damaged, longer than its header says, or cannot hold what the header claims.
    """
    start, held = _checked_place(stored)
    length = stored.body.skip + stored.voxel_bytes if stored.body.packing else stored.voxel_bytes
    try:
        with stored.body.file.open("rb") as file:
            file.seek(start)
            data = _plain(stored, file, length) if stored.body.packing is None else _whole(stored, file, held, length)
    except MemoryError:
        raise InputError(f"{stored.path} holds {length} bytes of voxels, more than this computer has free.") from None
    array = data[length - stored.voxel_bytes :].view(stored.number).reshape(stored.shape)
    if not stored.number.isnative:
        array = array.byteswap(inplace=True).view(stored.number.newbyteorder("="))
    if stored.components_axis is not None:
        array = np.moveaxis(array, stored.components_axis, -1)
    return array.reshape(stored.size[::-1]) if array.size == math.prod(stored.size) else array


def check_size(stored: StoredImage) -> None:
    """Check that the file can hold what its header claims, without reading it.

    Raises:
        InputError: it is too short, or longer than its header says.
    """
    _checked_place(stored)


def check_voxels(stored: StoredImage) -> None:
    """Check that all voxels are there and whole, without keeping them.

    Raises:
        InputError: as `read_voxels`.
    """
    start, held = _checked_place(stored)
    with stored.body.file.open("rb") as file:
        file.seek(start)
        for _ in _inflated(stored, file, held, stored.body.skip + stored.voxel_bytes):
            pass


def _checked_place(stored: StoredImage) -> tuple[int, int]:
    """Where the stored bytes begin and how many there are, once they fit to what the header claims."""
    body, claimed = stored.body, stored.voxel_bytes
    held = body.file.stat().st_size - body.offset
    if body.packing is None:
        held -= body.skip
        if held < claimed:
            raise unreadable(stored.path, f"its end is missing: {claimed - max(held, 0)} of {claimed} bytes")
        if held > claimed and not body.at_end:
            raise _left_over(stored.path, held - claimed, claimed)
        return body.offset + body.skip + held - claimed, claimed
    if body.packed_bytes is not None and held != body.packed_bytes:
        if held < body.packed_bytes:
            missing = body.packed_bytes - held
            raise unreadable(stored.path, f"its end is missing: {missing} of {body.packed_bytes} bytes")
        raise _left_over(stored.path, held - body.packed_bytes, body.packed_bytes)
    if body.skip + claimed > held * _MOST_EXPANSION:
        raise unreadable(stored.path, f"its header claims {claimed} bytes of voxels, more than {held} bytes can hold")
    return body.offset, held


def _left_over(path: Path, count: int, claimed: int) -> InputError:
    return unreadable(path, f"{count} bytes are left over behind the {claimed} that its header claims")


def _plain(stored: StoredImage, file: BufferedReader, length: int) -> np.ndarray:
    """Read the next `length` bytes of a file."""
    data = np.empty(length, np.uint8)
    if file.readinto(data.data) != length:
        raise unreadable(stored.path, "it became shorter while it was read")
    return data


def _whole(stored: StoredImage, file: BufferedReader, held: int, wanted: int) -> np.ndarray:
    """Inflate exactly `wanted` bytes from the next `held` of a file."""
    start = file.tell()
    at_once = inflated_at_once(file.read(held), stored.body.packing, wanted)
    if at_once is not None:
        return np.frombuffer(at_once, np.uint8)
    file.seek(start)
    data, at = np.empty(wanted, np.uint8), 0
    for block in _inflated(stored, file, held, wanted):
        data[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
    return data


def inflated_at_once(packed: bytes, packing: int | None, wanted: int) -> bytearray | None:
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


def _inflated(stored: StoredImage, file: BufferedReader, held: int, wanted: int) -> Iterator[bytes]:
    """Inflate exactly `wanted` bytes from the next `held` of a file, piece by piece, or say what is wrong."""
    if stored.body.packing is None:
        return
    stream, came, more = zlib.decompressobj(stored.body.packing), 0, False
    try:
        while chunk := file.read(min(held, _READ_BYTES)):
            held -= len(chunk)
            while chunk or more:
                if stream.eof:
                    if not _another_member(stored, chunk, came == wanted):
                        break
                    stream = zlib.decompressobj(stored.body.packing)
                most = min(_BLOCK_BYTES, wanted - came + 1)
                block = stream.decompress(chunk, most)
                came += len(block)
                if came > wanted:
                    raise unreadable(stored.path, f"it holds more than the {wanted} bytes that its header claims")
                yield block
                chunk = stream.unused_data if stream.eof else stream.unconsumed_tail
                more = len(block) == most and not stream.eof
    except zlib.error as error:
        raise unreadable(stored.path, "its compressed voxels are damaged") from error
    if came < wanted or not stream.eof:
        raise unreadable(stored.path, f"its end is missing or damaged: {came} of {wanted} bytes are there")


def _another_member(stored: StoredImage, rest: bytes, complete: bool) -> bool:
    """Whether a gzip file goes on behind the end of a stream; zeros, which tapes and some tools add, are nothing.

    Raises:
        InputError: something else stands there.
    """
    if stored.body.packing == GZIP and rest.startswith(b"\x1f"):
        return True
    if stored.body.packing == GZIP and complete and not rest.strip(b"\0"):
        return False
    raise unreadable(stored.path, "bytes are left over behind the end of its compressed voxels")
