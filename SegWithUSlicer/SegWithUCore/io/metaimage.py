"""The header of a MetaImage file (`.mha`), read strictly: whatever is not understood is refused.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation, and what MetaIO does where that is silent. Needs numpy alone.
"""

import re
from pathlib import Path

import numpy as np

from .header_fields import DETACHED, NO_VOLUME, HeaderFields, excerpt
from .image_file import Body, StoredImage, geometry_notes, is_gzip, unreadable

SUFFIXES = (".mha",)
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
_ORIGIN, _AXES, _SPACING = "Offset", "TransformMatrix", "ElementSpacing"
_CHANNELS = "ElementNumberOfChannels"
_OTHER_NAMES = ("ImagePosition", "Origin", "Position", "Rotation", "Orientation", "ElementSize")
"""Names of these fields in old versions of the format."""
_KNOWN = {
    *(_ORIGIN, _AXES, _SPACING, *_OTHER_NAMES, "ObjectType", "NDims", "DimSize", _CHANNELS),
    *("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize"),
    *("HeaderSize", "ElementDataFile", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"),
    *("DistanceUnits", "ElementType"),
}
_AS_WRITTEN = {re.sub("[^a-z]", "", name.lower()): name for name in _KNOWN}


def read_metaimage_header(path: Path) -> StoredImage:
    """Read and check the header of a MetaImage file.

    Raises:
        InputError: it is damaged, or of a kind that is not read, or its voxels lie in another file.
    """
    values, end = _parsed(path)
    header = HeaderFields(path, values)
    if header.wholes("NDims", 1) != [3]:
        raise header.unsupported("NDims", "give one volume of three axes", NO_VOLUME)
    size = header.wholes("DimSize", 3)
    channels = header.wholes(_CHANNELS, 1)[0] if _CHANNELS in header else 1
    shape = (*size[::-1], channels) if channels > 1 else tuple(size[::-1])
    return StoredImage(
        path,
        shape,
        _number(header),
        *_geometry(header),
        _body(header, end),
        3 if channels > 1 else None,
        notes=geometry_notes(_AXES in header, _ORIGIN in header, _SPACING in header),
    )


def _parsed(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields by name, and where the bytes behind the last of them, ElementDataFile, begin."""
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
        if right != name:  # MetaIO ignores such a field
            raise unreadable(path, f"line {number} of its header has '{excerpt(name)}' for {right}", "unusable-header")
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


def _geometry(header: HeaderFields) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, origin and direction; MetaImage is LPS as ITK is, and keeps the direction of each axis in a row."""
    header.check_units("DistanceUnits", [header.get("DistanceUnits")])
    for name in _OTHER_NAMES:
        if name in header and (name != "ElementSize" or _SPACING not in header):
            raise header.unsupported(name, f"save it with {_ORIGIN}, {_AXES} and {_SPACING}")
    spacing = header.reals(_SPACING, 3) if _SPACING in header else (1.0,) * 3
    origin = header.reals(_ORIGIN, 3) if _ORIGIN in header else (0.0,) * 3
    matrix = np.reshape(header.reals(_AXES, 9) if _AXES in header else np.eye(3), (3, 3))
    if min(spacing) <= 0 or np.linalg.det(matrix) == 0:
        raise header.wrong(_SPACING if min(spacing) <= 0 else _AXES)
    return spacing, origin, tuple(float(value) for value in matrix.T.ravel())


def _body(header: HeaderFields, end: int) -> Body:
    """Where the voxels are."""
    if header.get("ObjectType", "Image") != "Image":
        raise header.unsupported("ObjectType", "give an image")
    if not header.truth("BinaryData", True):
        raise header.unsupported("BinaryData", "save it with binary voxels")
    for name, plain in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if name in header and header.reals(name, 1) != (plain,):
            raise header.unsupported(name, "save it with its real intensities")
    if header.needed("ElementDataFile").upper() != "LOCAL" or header.get("HeaderSize", "0") != "0":
        raise header.unsupported("ElementDataFile", "save header and voxels as one file", DETACHED)
    if not header.truth("CompressedData", False):
        return Body(end)
    if header.get("CompressedDataSize", "0") not in ("0", str(header.path.stat().st_size - end)):
        raise header.wrong("CompressedDataSize")
    return Body(end, is_packed=True, is_zlib=not is_gzip(header.path, end))
