"""The header of an NRRD file, read strictly: whatever is not understood is refused, never guessed.

Format: https://teem.sourceforge.net/nrrd/format.html. pynrrd is not used, because it drops every letter outside
ASCII (names of segments are UTF-8) and sets no bounds. Needs numpy alone.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .header_fields import DETACHED, NO_VOLUME, HeaderFields, excerpt, reals
from .image_file import Body, StoredImage, geometry_notes, unreadable

SUFFIXES = (".nrrd",)
_HEADER_BYTES = 10_000_000
"""At most: segmentations keep a few hundred bytes a segment in their header."""
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_NUMBER_OF_TYPE = {name: code for code, names in _TYPES.items() for name in names}
_KNOWN = {
    *("content", "number", "type", "block size", "dimension", "space", "space dimension", "sizes", "spacings"),
    *("thicknesses", "axis mins", "axis maxs", "space directions", "centers", "kinds", "labels", "units", "min"),
    *("max", "old min", "old max", "endian", "encoding", "line skip", "byte skip", "sample units", "space units"),
    *("space origin", "measurement frame", "data file"),
}
_ALIASES = {name.replace(" ", ""): name for name in _KNOWN if " " in name} | {"centerings": "centers"}
_PLACING = {"spacings", "space directions", "space origin", "space units"}
_DOMAIN_KINDS = {"domain", "space", "time", "???", "none"}
_SPACES = {"right-anterior-superior": "RAS", "left-anterior-superior": "LAS", "left-posterior-superior": "LPS"}


def read_nrrd_header(path: Path) -> StoredImage:
    """Read and check the header of an NRRD file; `fields` are its key/value pairs.

    Raises:
        InputError: it is damaged, or of a kind that is not read; its voxels lie in another file.
    """
    text, end = _header_text(path)
    values, pairs = _parsed(path, text)
    header = HeaderFields(path, values)
    body, (shape, axis) = _body(header, end), _shape(header)
    spatial = [n for n in range(len(shape)) if n != axis]
    for name, axes in (("space units", range(3)), ("units", spatial)):
        units = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|([^\s"]+)', header.get(name))]
        header.check_units(name, [units[axis] for axis in axes if axis < len(units)])
    geometry, component_axis = _geometry(header, spatial), None if axis is None else len(shape) - 1 - axis
    notes = _notes(header, spatial)
    return StoredImage(path, shape[::-1], _number(header), *geometry, body, component_axis, pairs, notes=notes)


def _header_text(path: Path) -> tuple[str, int]:
    """Read the lines of the header, and where the bytes behind it begin."""
    with path.open("rb") as file:
        begin = b""
        while (end := re.search(rb"\r?\n\r?\n", begin)) is None:
            chunk = file.read(1 << 16 if len(begin) < _HEADER_BYTES else 0)
            if not chunk:
                break
            begin += chunk
    if re.match(rb"NRRD00(0[1-5]|\.01)\r?\n", begin) is None:
        raise unreadable(path, "it does not begin as an NRRD file")
    if end is None and len(begin) >= _HEADER_BYTES:
        raise unreadable(path, f"its header does not end within {_HEADER_BYTES} bytes")
    # A header without voxels behind it may do without the empty line.
    text, last = (begin, len(begin)) if end is None else (begin[: end.start()], end.end())
    return text.decode("utf-8", errors="replace"), last


def _parsed(path: Path, text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Fields by their names in the format's description, and key/value pairs."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n")[1:], start=2):
        line = raw.removesuffix("\r")
        if line.startswith("#") or not line:
            continue
        name, mark, value = line.partition(": ")
        field = _ALIASES.get(name.lower(), name.lower())
        if mark and field in _KNOWN:
            if field in fields:
                raise unreadable(path, f"its header contains the field '{field}' twice")
            fields[field] = value.strip()
        elif ":=" in line:
            key, _, value = line.partition(":=")
            if key.strip().lower() in _PLACING:  # a slip: only a field places the image
                raise unreadable(path, f"line {number} of its header gives '{excerpt(key)}' by ':='", "unusable-header")
            pairs[_unescaped(key)] = _unescaped(value)
        else:
            raise unreadable(path, f"line {number} of its header is '{excerpt(line)}'")
    return fields, pairs


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1] if found[1] == "\\" else found[0], text)


def _number(header: HeaderFields) -> np.dtype[np.generic]:
    """Type and byte order of the stored numbers."""
    code = _NUMBER_OF_TYPE.get(header.needed("type").lower())
    if code is None:
        raise header.unsupported("type", "save it with whole or floating-point numbers of 8 to 64 bits")
    if code.endswith("1"):
        return np.dtype(code)
    order = {"little": "<", "big": ">"}.get(header.needed("endian").lower())
    if order is None:
        raise header.wrong("endian")
    return np.dtype(order + code)


def _shape(header: HeaderFields) -> tuple[tuple[int, ...], int | None]:
    """Sizes, fastest axis first, and which of the axes holds the values of one voxel."""
    (dimension,) = header.wholes("dimension", 1)
    if dimension > 16:
        raise header.wrong("dimension")
    sizes = tuple(header.wholes("sizes", dimension))
    kinds = header.get("kinds").lower().split() or ["domain"] * dimension
    if len(kinds) != dimension:
        raise header.wrong("kinds")
    if "complex" in kinds:
        raise header.unsupported("kinds", "give the magnitude image")
    others = [axis for axis, kind in enumerate(kinds) if kind not in _DOMAIN_KINDS]
    if len(others) > 1:
        raise header.unsupported("kinds", "give one scalar volume")
    if dimension - len(others) != 3:
        raise header.unsupported("dimension", "give one volume of three axes", NO_VOLUME)
    return sizes, others[0] if others else None


def _geometry(
    header: HeaderFields, spatial: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Spacing, origin and direction (LPS) along the axes that are no values of a voxel."""
    for name in ("axis mins", "axis maxs"):
        if re.search(r"[0-9]", header.get(name)):
            raise header.unsupported(name, "save it with a space origin and space directions")
    if "space" not in header and "space dimension" not in header:
        if "space directions" in header or "space origin" in header:
            raise unreadable(header.path, "its header has directions or an origin, but no space that they belong to")
        return _spacings(header, spatial), (0.0,) * 3, tuple(np.eye(3).ravel().tolist())
    if "spacings" in header and re.search(r"[0-9]", header.needed("spacings")):
        raise unreadable(header.path, "its header has both spacings and a space, which exclude each other")
    name = header.get("space").lower()
    letters = _SPACES.get(name, name.upper())
    if letters not in _SPACES.values():
        remedy = "it does not say where left and right are; save it in LPS or RAS"
        raise header.unsupported("space" if name else "space dimension", remedy, code="unusable-header")
    flips = np.array([1.0 if letter in "LPS" else -1.0 for letter in letters])
    vectors = _vectors(header, "space directions", spatial, len(header.needed("sizes").split())) * flips
    origin = _vectors(header, "space origin", [0], 1)[0] * flips if "space origin" in header else np.zeros(3)
    spacing = np.sqrt((vectors**2).sum(axis=1))
    if not np.isfinite(spacing).all() or (spacing <= 0).any() or np.linalg.det(direction := vectors.T / spacing) == 0:
        raise header.wrong("space directions")
    return tuple(map(float, spacing)), tuple(map(float, origin)), tuple(map(float, direction.ravel()))


def _notes(header: HeaderFields, spatial: Sequence[int]) -> tuple[str, ...]:
    """Say which parts of the geometry are defaults; a header that has a space has directions, too."""
    words = header.get("spacings").lower().split()
    has_spacing = bool(words) and all(words[axis] != "nan" for axis in spatial)
    has_axes = "space directions" in header
    return geometry_notes(
        has_axes, "space origin" in header, has_axes or has_spacing, "whereas Slicer takes right, front and up"
    )


def _spacings(header: HeaderFields, spatial: Sequence[int]) -> tuple[float, ...]:
    """Spacings of a file that says nothing about directions; 1 if it does not say them either, as in ITK."""
    if "spacings" not in header:
        return (1.0,) * len(spatial)
    words = ["1" if word.lower() == "nan" else word for word in header.needed("spacings").split()]
    found = reals(words[axis] for axis in spatial if axis < len(words))
    if len(words) != len(header.needed("sizes").split()) or found is None or min(found) <= 0:
        raise header.wrong("spacings")
    return found


def _vectors(header: HeaderFields, name: str, axes: Sequence[int], dimension: int) -> np.ndarray:
    """Parse the vectors of the given axes, one a row; the field holds `dimension` of them."""
    parts = re.findall(r"\([^()]*\)|[^\s()]+", header.needed(name))
    if len(parts) != dimension:
        raise header.wrong(name)
    rows = []
    for axis in axes:
        values = reals(parts[axis].strip("()").split(","))
        if values is None or len(values) != 3:
            raise header.wrong(name)
        rows.append(values)
    return np.array(rows, float)


def _body(header: HeaderFields, end: int) -> Body:
    """Where the voxels are."""
    encoding = header.needed("encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise header.unsupported("encoding", "save it with 'raw' or 'gzip'")
    for name in ("data file", "line skip", "byte skip"):
        if header.get(name, "0") != "0":
            raise header.unsupported(name, "save header and voxels as one file", DETACHED)
    return Body(end, encoding != "raw")
