"""The header of a DICOM file: the values that reading a series needs, and where in the file its voxels lie.

pydicom parses; values stay text, so that what is no number can be named as it stands in the file.
"""

import contextlib
import functools
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..util.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


EXPLICIT_LITTLE, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_DEFERRED_BYTES = 4096
"""Longer values are passed over: nothing of these is needed, and a damaged length asks for no memory."""
_UID_LENGTH = 64

_KEYWORDS = (
    *("ImageType", "SOPClassUID", "SOPInstanceUID", "AccessionNumber", "Modality", "SeriesDescription"),
    *("ComplexImageComponent", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientAge", "ContrastBolusAgent", "SliceThickness", "KVP", "EchoTime", "InversionTime"),
    *("SpacingBetweenSlices", "TriggerTime", "ConvolutionKernel", "DiffusionBValue", "StudyInstanceUID"),
    *("SeriesInstanceUID", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"),
    *("FrameOfReferenceUID", "TemporalPositionIdentifier", "ImagesInAcquisition", "NumberOfSeriesRelatedInstances"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept", "RescaleSlope"),
    *("RescaleType", "NumberOfSlices", "Units"),
)
"""What is read."""
_PRIVATE = {"SiemensCreator": 0x00190010, "NumberOfImagesInMosaic": 0x0019100A}
"""Siemens' own, of its first block of group 0019."""
_SERIES_UID = 0x0020000E
_MODALITY_TABLE = 0x00283000
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
"""Value representations that are no text, with their code in `struct` (PS3.5, section 6.2)."""
_UNSIGNED_SHORT = {"SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
                   "PixelRepresentation", "NumberOfSlices", "NumberOfImagesInMosaic"}  # fmt: skip
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
NATIVE = {IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, GE_BIG}
"""Transfer syntaxes whose voxels lie in the file as they are (PS3.5, annex A)."""
JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70)}
JPEG_LS = {f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)}
JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)}
_READ = NATIVE | {RLE} | JPEG | JPEG_LS | JPEG_2000


@dataclass(frozen=True)
class PixelElement:
    """Where the voxels lie: element (7FE0,0010).

    Attributes:
        offset: of its value, in bytes from the start of the file.
        length: of its value in bytes; None if it is undefined, as that of compressed voxels is.
        little_endian: byte order of the data set.
    """

    offset: int
    length: int | None
    little_endian: bool


@dataclass(frozen=True)
class DicomHeader:
    """Values by DICOM keyword, blanks stripped, of several values joined by a backslash.

    Attributes:
        values: what is there and not empty.
        transfer_syntax: UID; empty for a file without a file meta group.
        voxels: None if the file holds none.
        modality_table: whether a table stands in place of rescale slope and intercept.
    """

    values: Mapping[str, str]
    transfer_syntax: str
    voxels: PixelElement | None
    modality_table: bool = False


class DamagedHeaderError(Exception):
    """The file ends early, or is no DICOM data set throughout."""


def read_header(path: Path, transfer_syntax: str = "", last: int | None = None) -> DicomHeader:
    """Read the header of a DICOM file, with or without a file meta group.

    Args:
        transfer_syntax: as the file meta group has it.
        last: tag after which no more is read; None reads all.

    Raises:
        DamagedHeaderError: it cannot be parsed, or an element reaches beyond the end of the file.
        InputError: the file may not be read.
    """
    if transfer_syntax == DEFLATED:  # it is not read, and inflating it has no bounds
        raise DamagedHeaderError("deflated")
    with _opened(path) as file:
        dataset = _parsed(file, last=last)
        voxels = _pixel_element(dataset, path.stat().st_size)
    elements = {key: dataset.get_item(tag, keep_deferred=True) for key, tag in _tags().items() if tag in dataset}
    values = {keyword: _text(keyword, element) for keyword, element in elements.items()}
    found = {keyword: value for keyword, value in values.items() if value}
    return DicomHeader(found, transfer_syntax, voxels, _MODALITY_TABLE in dataset)


def identifiers(path: Path) -> tuple[str, str] | None:
    """Series UID and instance UID of a DICOM file, read no farther than to these; None for any other file.

    Raises:
        InputError: the file may not be read.
    """
    kind = dicom_kind(path)
    if kind is None:
        return None
    try:
        values = read_header(path, kind.transfer_syntax, _SERIES_UID).values
    except DamagedHeaderError:
        return None
    return values.get("SeriesInstanceUID", ""), values.get("SOPInstanceUID", "")


def _meta_values(content: bytes) -> dict[int, str]:
    """UIDs of the file meta group by tag; empty where `content` does not begin with that group."""
    with _no_warnings():
        from pydicom.filereader import read_dataset

        try:
            group = read_dataset(BytesIO(content), False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
        except not_parsed() as error:
            raise DamagedHeaderError(str(error)) from error
    elements = {int(tag): group.get_item(tag, keep_deferred=True) for tag in group.keys()}  # noqa: SIM118
    whole = {tag: one for tag, one in elements.items() if isinstance(one.value, bytes) and one.length == len(one.value)}
    uids = {tag: one.value for tag, one in whole.items()}
    return {tag: printable(value.rstrip(b"\0 ").decode("latin-1"))[:_UID_LENGTH] for tag, value in uids.items()}


def printable(text: str) -> str:
    """Text for messages: what would move the cursor, or colour a terminal, is a question mark."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


def voxel_bytes(path: Path, voxels: PixelElement) -> bytes:
    """Read the bytes of a value of known length; fewer if the file has become shorter.

    Raises:
        InputError: the file may not be read.
    """
    with _opened(path) as file:
        file.seek(voxels.offset)
        return file.read(-1 if voxels.length is None else voxels.length)


def encapsulated_bytes(path: Path) -> bytes:
    """Read the items of compressed voxels, as they lie in the file (PS3.5, section A.4).

    Raises:
        DamagedHeaderError: their end is missing.
        InputError: the file may not be read.
    """
    with _opened(path) as file:
        element = _parsed(file, tags=[_PIXEL_DATA], defer=None).get_item(_PIXEL_DATA)
    if not isinstance(element.value, bytes):
        raise DamagedHeaderError
    return element.value


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk.") from error


@functools.cache
def _tags() -> dict[str, int]:
    """Tags of what is read, by DICOM's keywords."""
    from pydicom.datadict import tag_for_keyword

    return {keyword: int(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS} | _PRIVATE


def _parsed(
    file: BinaryIO, tags: list[int] | None = None, defer: int | None = _DEFERRED_BYTES, last: int | None = None
) -> "Dataset":
    from pydicom.filereader import read_partial

    tags = tags or [*_tags().values(), _MODALITY_TABLE, _PIXEL_DATA]
    ends = None if last is None else lambda tag, vr, length: tag > last
    with _no_warnings():
        try:
            return read_partial(file, ends, defer_size=defer, force=True, specific_tags=tags)
        except not_parsed() as error:
            raise DamagedHeaderError(str(error)) from error


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep pydicom from warning: of values that are not read here, or that are checked again where they are used."""
    import pydicom

    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def not_parsed() -> tuple[type[Exception], ...]:
    """List what pydicom raises for damaged data sets: it trusts lengths and value representations as they stand."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    library = (BytesLengthException, InvalidDicomError)
    values = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError, struct.error)
    return (*library, *values, EOFError, OSError, RecursionError, zlib.error)


def _pixel_element(dataset: "Dataset", size: int) -> PixelElement | None:
    if _PIXEL_DATA not in dataset:
        return None
    element = dataset.get_item(_PIXEL_DATA, keep_deferred=True)
    if element.length == _UNDEFINED_LENGTH:
        return PixelElement(element.value_tell, None, element.is_little_endian)
    if element.value_tell + element.length > size:
        raise DamagedHeaderError("the voxels reach beyond the end of the file")
    return PixelElement(element.value_tell, element.length, element.is_little_endian)


def _text(keyword: str, element: Any) -> str:
    """Decode a value as text; what is no UTF-8 is taken for Latin-1."""
    value = element.value
    if not isinstance(value, bytes):  # empty, or far too long
        return ""
    if element.length not in (len(value), _UNDEFINED_LENGTH):
        raise DamagedHeaderError(f"{keyword} reaches beyond the end of the file")
    kind = "FD" if keyword == "DiffusionBValue" else "US" if keyword in _UNSIGNED_SHORT else ""
    kind = kind and (element.VR if element.VR in _BINARY else kind)
    if kind:
        code = ("<" if element.is_little_endian else ">") + _BINARY[kind]
        whole = len(value) - len(value) % struct.calcsize(code)
        return "\\".join(str(number) for (number,) in struct.iter_unpack(code, value[:whole]))
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return printable(text.strip(" \0"))


@dataclass(frozen=True)
class DicomKind:
    """UIDs of the file meta group, empty if the file is cut before them."""

    sop_class: str
    transfer_syntax: str

    @property
    def no_image(self) -> str | None:
        """What the object is where it holds no intensities, None if it may be an image."""
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
    """Find the kind of a DICOM file, with or without a preamble; None for any other file.

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
        values = _meta_values(content)
    except DamagedHeaderError:
        return DicomKind("", "")
    return DicomKind(values.get(_SOP_CLASS, ""), values.get(_TRANSFER_SYNTAX, ""))


def _kind_without_meta(path: Path) -> DicomKind | None:
    """Find the kind of a file that begins with group 8, as old DICOM files do, and as anything else may."""
    try:
        sop_class = read_header(path).values.get("SOPClassUID", "")
    except DamagedHeaderError:
        return None
    return DicomKind(sop_class, "") if _UID.fullmatch(sop_class) else None
