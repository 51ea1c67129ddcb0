"""What a DICOM file says of itself before its voxels: the kind of object it is and how its voxels are packed.

Of a file that it cannot read, GDCM only says so; the file meta group tells why (DICOM PS3.10, section 7.1)."""

import struct
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

_PREAMBLE = 128
_META_BYTES = 4096
"""Far more than a file meta group takes."""
_LONG_KINDS = {b"OB", b"OW", b"OF", b"SQ", b"UN", b"UT"}
"""Value representations whose length takes four bytes after two empty ones (PS3.5, section 7.1.2)."""
_SOP_CLASS, _TRANSFER_SYNTAX = (0x0002, 0x0002), (0x0002, 0x0010)
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_STANDARD_ROOT = "1.2.840.10008."

_NO_IMAGES = {
    "1.2.840.10008.1.3.10": "DICOMDIR index",
    _STORAGE + "4.2": "spectroscopy",
    _STORAGE + "9": "waveform",
    _STORAGE + "11": "presentation state",
    _STORAGE + "30": "parametric map",
    _STORAGE + "66": "raw data",
    _STORAGE + "66.1": "registration",
    _STORAGE + "66.2": "fiducials",
    _STORAGE + "66.3": "registration",
    _STORAGE + "66.4": "segmentation (SEG)",
    _STORAGE + "66.5": "surface segmentation",
    _STORAGE + "67": "real world value mapping",
    _STORAGE + "88": "structured report (SR)",
    _STORAGE + "88.59": "key object selection",
    _STORAGE + "104": "encapsulated document",
    _STORAGE + "481": "radiotherapy object",
    _STORAGE + "481.2": "RT dose",
    _STORAGE + "481.3": "RT structure set",
    _STORAGE + "481.5": "RT plan",
}
"""Objects that are no images, or whose voxels are no intensities, by SOP class or the beginning of one."""
_UNPACKED = {
    *(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2", ".5")),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91)),
}
"""Transfer syntaxes that GDCM reads: plain, deflated, RLE, JPEG, JPEG-LS, JPEG 2000."""
_PACKINGS = {
    **dict.fromkeys((92, 93), "JPEG 2000 part 2"),
    **dict.fromkeys((94, 95, 204, 205), "JPIP"),
    **dict.fromkeys((100, 101), "MPEG-2"),
    **dict.fromkeys((102, 103, 104, 105, 106), "MPEG-4"),
    **dict.fromkeys((107, 108), "HEVC"),
    **dict.fromkeys((110, 111, 112), "JPEG XL"),
    **dict.fromkeys((201, 202, 203), "High-Throughput JPEG 2000"),
}
"""Names of others, by the last number of 1.2.840.10008.1.2.4.N."""


@dataclass(frozen=True)
class DicomKind:
    """UIDs of the file meta group, empty where the file is cut before them."""

    sop_class: str
    transfer_syntax: str

    @property
    def no_image(self) -> str | None:
        """What the object is where it holds no intensities, None where it may be an image."""
        parts = self.sop_class.split(".")
        starts = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        return next((_NO_IMAGES[start] for start in starts if start in _NO_IMAGES), None)

    @property
    def private(self) -> bool:
        """Whether the object is of a vendor's own class, of which nobody else knows what it is."""
        return bool(self.sop_class) and not self.sop_class.startswith(_STANDARD_ROOT)

    @property
    def unreadable(self) -> str:
        """Why a file of this kind cannot be read as an image, and what to do."""
        syntax = self.transfer_syntax
        if not syntax or syntax in _UNPACKED:
            return "its end is missing or damaged: copy it again"
        name = _PACKINGS.get(int(syntax.rpartition(".")[2] or 0), "an unknown scheme")
        return f"its voxels are compressed as {name}, transfer syntax {syntax}: export the series uncompressed"


def dicom_kind(path: Path) -> DicomKind | None:
    """The kind of a DICOM file; None for any other file (also for old DICOM files without a preamble).

    Raises:
        InputError: the file may not be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_PREAMBLE + 4 + _META_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    if start[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        return None
    values = _meta_values(start[_PREAMBLE + 4 :])
    return DicomKind(values.get(_SOP_CLASS, ""), values.get(_TRANSFER_SYNTAX, ""))


def _meta_values(content: bytes) -> dict[tuple[int, int], str]:
    """UIDs of group 2, which every DICOM file stores in the same way: explicit VR, little endian."""
    values: dict[tuple[int, int], str] = {}
    place = 0
    while place + 12 <= len(content):
        group, element, kind, length = struct.unpack_from("<HH2sH", content, place)
        if group != 2:
            break
        place += 8
        if kind in _LONG_KINDS:
            (length,) = struct.unpack_from("<I", content, place)
            place += 4
        if kind == b"UI":
            values[group, element] = content[place : place + length].rstrip(b"\0 ").decode("ascii", "replace")
        place += length
    return values
