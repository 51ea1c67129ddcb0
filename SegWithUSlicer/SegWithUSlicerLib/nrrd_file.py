"""Whether an NRRD file is whole, found out before Slicer reads it.

Slicer's segmentation reader ends the whole application on a damaged file (an ITK exception that nobody catches).
"""

import math
import re
import zlib
from pathlib import Path
from typing import BinaryIO

_HEADER_LIMIT = 10_000_000
_CHUNK = 1 << 20
_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "unsigned char", "uchar", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("float",), 4),
    **dict.fromkeys(("double", "longlong", "long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), 8),
}


def is_whole_nrrd(path: Path) -> bool:
    """Whether a file with attached data (gzip or raw) begins as an NRRD and holds all voxels that it promises."""
    try:
        with path.open("rb") as file:
            fields = _header(file.read(_HEADER_LIMIT))
            if fields is None:
                return False
            size, end = fields
            file.seek(end)
            return _data_length(file, size[1]) == size[0]
    except (OSError, zlib.error):
        return False


def _header(begin: bytes) -> tuple[tuple[int, str], int] | None:
    """Bytes of data and encoding, and where the data begin; None for a header that is none."""
    end = re.search(rb"\r?\n\r?\n", begin)
    if not begin.startswith(b"NRRD000") or end is None:
        return None
    lines = begin[: end.start()].decode("utf-8", errors="replace").splitlines()
    fields = {name.strip(): value.strip() for name, mark, value in (line.partition(": ") for line in lines) if mark}
    sizes, one = fields.get("sizes", "").split(), _BYTES.get(fields.get("type", ""))
    if one is None or not sizes or not all(size.isdigit() for size in sizes) or "data file" in fields:
        return None
    return (math.prod(int(size) for size in sizes) * one, fields.get("encoding", "")), end.end()


def _data_length(file: BinaryIO, encoding: str) -> int:
    """How many bytes of voxels the rest of the file holds; -1 for an encoding that Slicer does not write."""
    if encoding not in ("gzip", "gz", "raw"):
        return -1
    unpack, length = None if encoding == "raw" else zlib.decompressobj(31), 0
    while chunk := file.read(_CHUNK):
        length += len(chunk if unpack is None else unpack.decompress(chunk))
    # A stream that was cut exactly between two voxels' bytes still lacks its checksum.
    return length if unpack is None or unpack.eof else -1
