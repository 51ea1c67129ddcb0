"""The header of a MetaImage file (`.mha`, `.mhd`), read strictly: whatever is not understood is refused.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation, and what MetaIO does where that is silent. Needs numpy alone.
"""

import re
from pathlib import Path

import numpy as np

from .header_fields import HeaderFields, excerpt
from .image_file import ZLIB, Body, StoredImage, geometry_notes, packing_of, sibling_file, unknown_place, unreadable

SUFFIXES = (".mha", ".mhd")
_HEADER_BYTES = 1 << 20
_TYPES = {
    "CHAR": "i1",
    "UCHAR": "u1",
    "SHORT": "i2",
    "USHORT": "u2",
    "INT": "i4",
    "UINT": "u4",
    "LONG": "i4",  # of four bytes whatever the computer
    "ULONG": "u4",
    "LONG_LONG": "i8",
    "ULONG_LONG": "u8",
    "FLOAT": "f4",
    "DOUBLE": "f8",
}
_ORIGINS = ("ImagePosition", "Origin", "Position", "Offset")
_DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
_SPACINGS = ("ElementSpacing", "ElementSize")
"""Names of one thing in versions of the format, the one that counts first."""
_HEEDED = {
    *(*_ORIGINS, *_DIRECTIONS, *_SPACINGS, "ObjectType", "NDims", "DimSize", "ElementNumberOfChannels", "ElementType"),
    *("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize"),
    *("HeaderSize", "ElementDataFile", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"),
    "DistanceUnits",
}
_AS_WRITTEN = {re.sub("[^a-z]", "", name.lower()): name for name in _HEEDED}


def read_metaimage_header(path: Path) -> StoredImage:
    """Read and check the header of a MetaImage file.

    Raises:
        InputError: it is damaged, or of a kind that is not read, or its voxels lie outside its folder.
    """
    values, end = _parsed(path)
    header = HeaderFields(path, values, " = ")
    (dimension,) = header.wholes("NDims", 1, 1)
    if not 2 <= dimension <= 4:
        raise header.unsupported("NDims", "give a volume of three axes")
    size = header.wholes("DimSize", dimension, 1)
    channels = header.whole("ElementNumberOfChannels", 1, 1)
    shape = (*size[::-1], channels) if channels > 1 else tuple(size[::-1])
    given = [any(name in header for name in names) for names in (_DIRECTIONS, _ORIGINS, _SPACINGS)]
    return StoredImage(
        path,
        shape,
        _number(header),
        *_geometry(header, dimension),
        _body(header, end),
        dimension if channels > 1 else None,
        notes=geometry_notes("" if given[0] else unknown_place("no TransformMatrix"), *given[1:]),
    )


def _parsed(path: Path) -> tuple[dict[str, str], int]:
    """Parse the entries, and where the bytes behind the last of them begin; ElementDataFile ends the header."""
    with path.open("rb") as file:
        begin = file.read(_HEADER_BYTES)
    found = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*(\n|\Z)", begin, re.MULTILINE)
    if found is None:
        raise unreadable(path, "it has no whole MetaImage header")
    fields: dict[str, str] = {}
    for number, raw in enumerate(begin[: found.end()].decode("utf-8", errors="replace").split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        name, mark, value = (part.strip() for part in line.partition("="))
        if not mark or not name:
            raise unreadable(path, f"line {number} of its header is '{excerpt(line)}'")
        if name in fields:
            raise unreadable(path, f"its header has the field {excerpt(name)} twice")
        right = _AS_WRITTEN.get(re.sub("[^a-z]", "", name.lower()), name)
        if right != name:  # MetaIO passes over such a field, whatever was meant by it
            reason = f"line {number} of its header has '{excerpt(name)}' for {right}"
            raise unreadable(path, reason, "misspelt-field")
        fields[name] = value
    return fields, found.end()


def _number(header: HeaderFields) -> np.dtype[np.generic]:
    """Type and byte order of the stored numbers."""
    code = _TYPES.get(header.needed("ElementType").removeprefix("MET_"))
    if code is None:
        raise header.unsupported("ElementType", "save it with whole or floating-point numbers of 8 to 64 bits")
    msb = [name for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB") if name in header]
    orders = {header.truth(name, False) for name in msb} or {False}
    if len(orders) > 1:
        raise unreadable(header.path, f"its header gives two byte orders ({' and '.join(msb)})")
    return np.dtype((">" if True in orders else "<") + code)


def _geometry(header: HeaderFields, count: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, origin and direction; MetaImage is LPS as ITK is, and keeps the direction of each axis in a row."""
    header.check_units("DistanceUnits", [header.get("DistanceUnits")])
    spacing = (1.0,) * count
    for name in _SPACINGS:
        if name in header:
            spacing = header.reals(name, count)
            if min(spacing) <= 0:
                raise header.wrong(name)
            break
    origin_name, axes = _only(header, _ORIGINS), _only(header, _DIRECTIONS)
    origin = header.reals(origin_name, count) if origin_name else (0.0,) * count
    matrix = np.reshape(header.reals(axes, count * count), (count, count)) if axes else np.eye(count)
    if axes and np.linalg.det(matrix) == 0:
        raise header.wrong(axes)
    return spacing, origin, tuple(float(value) for value in matrix.T.ravel())


def _only(header: HeaderFields, names: tuple[str, ...]) -> str | None:
    """Choose the one of several names for the same thing that the header uses."""
    found = [name for name in names if name in header]
    if len({tuple(header.needed(name).split()) for name in found}) > 1:
        raise unreadable(header.path, f"its header contradicts itself ({' and '.join(found)})")
    return found[0] if found else None


def _body(header: HeaderFields, end: int) -> Body:
    """Where the voxels are."""
    if header.get("ObjectType", "Image") != "Image":
        raise header.unsupported("ObjectType", "give an image")
    if not header.truth("BinaryData", True):
        raise header.unsupported("BinaryData", "save it with binary voxels")
    for name, plain in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if name in header and header.reals(name, 1) != (plain,):
            raise header.unsupported(name, "save it with its real intensities")
    packed = header.truth("CompressedData", False)
    name = header.needed("ElementDataFile")
    if name.upper() == "LOCAL":
        file, start = header.path, end
    else:
        file, start = _detached(header, name), 0
    skip = header.whole("HeaderSize", 0, -1)
    if not packed:
        return Body(file, skip if skip > 0 else start, at_end=skip < 0)
    if skip:
        raise header.unsupported("HeaderSize", "save its voxels without compression")
    length = header.whole("CompressedDataSize", 0, 0)
    return Body(file, start, packing_of(file, ZLIB, start), packed_bytes=length or None)


def _detached(header: HeaderFields, name: str) -> Path:
    if re.match(r"LIST\b", name, re.IGNORECASE) or "%" in name:
        raise header.unsupported("ElementDataFile", "save its voxels as one file")
    return sibling_file(header.path, name)
