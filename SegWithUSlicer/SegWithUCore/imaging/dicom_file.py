"""What a DICOM file says of itself before its voxels: the kind of object it is and how its voxels are packed.

Of a file that it cannot read, GDCM only says so; the file meta group tells why (DICOM PS3.10, section 7.1)."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .dicom_header import DEFLATED, EXPLICIT_LITTLE, DamagedHeaderError, meta_values, read_header

_PREAMBLE = 128
_META_BYTES = 4096
"""Far more than a file meta group takes."""
_SOP_CLASS, _TRANSFER_SYNTAX = 0x00020002, 0x00020010
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_STANDARD_ROOT = "1.2.840.10008."
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")

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
IMPLICIT_LITTLE, EXPLICIT_BIG, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
GE_BIG = "1.2.840.113619.5.2"
"""Old scanners of General Electric: a little-endian data set with big-endian voxels."""
NATIVE = {IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG, GE_BIG}
"""Transfer syntaxes whose voxels lie in the file as they are (PS3.5, annex A)."""
JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)}
JPEG_LS = {f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)}
JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)}
_READ = NATIVE | {RLE} | JPEG | JPEG_LS | JPEG_2000


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
    def stored(self) -> bool:
        """Whether objects of this class are stored as files, as images are."""
        return not self.sop_class or self.sop_class.startswith(_STORAGE)

    @property
    def readable(self) -> bool:
        """Whether voxels of this transfer syntax can be read; a file that names none is taken for uncompressed."""
        return not self.transfer_syntax or self.transfer_syntax in _READ

    @property
    def unreadable(self) -> str:
        """Why a file of this kind cannot be read as an image, and what to do."""
        if self.readable:
            return "its end is missing or damaged: copy it again"
        syntax = self.transfer_syntax
        return (
            f"its voxels are compressed as {_packing(syntax)}, transfer syntax {syntax}: export the series uncompressed"
        )


def _packing(transfer_syntax: str) -> str:
    import pydicom

    name = str(pydicom.uid.UID(transfer_syntax, pydicom.config.IGNORE).name)
    return "an unknown scheme" if name == transfer_syntax else name


def dicom_kind(path: Path) -> DicomKind | None:
    """The kind of a DICOM file, with or without a preamble; None for any other file.

    Raises:
        InputError: the file may not be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_PREAMBLE + 4 + _META_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    if start[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return _meta_kind(start[_PREAMBLE + 4 :])
    if start[:2] == b"\2\0":
        kind = _meta_kind(start)
        return kind if kind.transfer_syntax else None
    return _kind_without_meta(path) if start[:2] == b"\x08\0" else None


def _meta_kind(content: bytes) -> DicomKind:
    try:
        values = meta_values(content)
    except DamagedHeaderError:
        return DicomKind("", "")
    return DicomKind(values.get(_SOP_CLASS, ""), values.get(_TRANSFER_SYNTAX, ""))


def _kind_without_meta(path: Path) -> DicomKind | None:
    """A file that begins with group 8, as old DICOM files do, and as anything else may."""
    try:
        sop_class = read_header(path).values.get("SOPClassUID", "")
    except DamagedHeaderError:
        return None
    return DicomKind(sop_class, "") if _UID.fullmatch(sop_class) else None
