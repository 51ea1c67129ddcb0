"""Scan a folder of DICOM files: its image series, and what is left out of them.

pydicom parses headers; their values stay text, so that what is no number can be named as it stands in the file.
"""

import contextlib
import functools
import os
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..util.errors import InputError, unreadable_named
from ..util.folder_entries import EntryKind, check_entries, entry_kind
from ..util.input_files import plain_name
from .header_fields import strict_number

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MOST_FILES = 2000
"""Files in subfolders that are read at most: about a second's work, and more than a disc of one study has besides a
series."""
EXPLICIT_BIG, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
NATIVE = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", EXPLICIT_BIG}
"""Transfer syntaxes whose voxels lie in the file as they are (PS3.5, annex A), and none at all."""
JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)}
_READ = NATIVE | {RLE} | JPEG_2000 | {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81)}
_DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Is not read: there is no bound on what it inflates to."""
_STANDARD_ROOT, _STORAGE = "1.2.840.10008.", "1.2.840.10008.5.1.4.1.1."
_NO_IMAGES = ("1.2.840.10008.1.3.10", *(_STORAGE + n for n in ("4.2", "9", "11", "30", "66", "67", "88", "104", "481")))
"""Classes of objects that are no images, or whose voxels are no intensities, or the beginnings of such classes."""
DISTINGUISHING = ("TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber", "ImageType")
"""What distinguishes the volumes of one contrast in a series that holds several."""
COUNTS = ("ImagesInAcquisition", "NumberOfSlices", "NumberOfSeriesRelatedInstances")
"""How many images there are; not every scanner writes one of them, and it may count several volumes."""
SHARED_SHOWN = (
    "Modality", "SOPClassUID", "EchoTime", "InversionTime", "DiffusionBValue", "KVP", "ImageType",
    "SequenceName", "ScanningSequence", "SequenceVariant", "MRAcquisitionType",
    "TemporalPositionIdentifier", "ComplexImageComponent", "ContrastBolusAgent", "ConvolutionKernel", "Units",
    "RescaleType", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation",
)  # fmt: skip
SHARED_HIDDEN = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID", "RescaleSlope", "RescaleIntercept",
)  # fmt: skip
"""Attributes that all slices of a series must share: those whose values a message shows, and the others.

De-identified exports and archives put several patients or contrasts under one series UID. Where their slices lie one
after the other, only these values tell. A value that only some slices have is a difference: a scanner writes the same
attributes into all slices of a volume, and a slice without `InversionTime` or `ContrastBolusAgent` says that it was
made without. `RescaleType` alone may be left out (None) where it is the usual one. `AcquisitionNumber` differs within
the volumes of many CT scanners, and the later values of `ImageType` differ with filters.
"""
TIMED = ("RepetitionTime", "FlipAngle", "SliceThickness", "NumberOfAverages", "EchoTrainLength", "PixelBandwidth")
WARNED = (
    *TIMED, "BodyPartExamined", "PatientPosition", "SeriesNumber", "SeriesDescription", "ProtocolName", "ScanOptions",
    "ManufacturerModelName", "DeviceSerialNumber", "MagneticFieldStrength",
)  # fmt: skip
"""Attributes that one acquisition shares but for rare exceptions: a gated one has the repetition time of each heart
beat, heating limits the flip angle of some slices, and archives correct descriptions. A message shows only the values
of numbers."""
_KEYWORDS = (
    *SHARED_SHOWN, *SHARED_HIDDEN, *WARNED, *COUNTS, *DISTINGUISHING, "SOPInstanceUID", "SeriesInstanceUID",
    "AccessionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows",
    "Columns", "NumberOfFrames", "SpacingBetweenSlices", "ModalityLUTSequence",
)  # fmt: skip
"""All that is read of a header."""
_UNSIGNED_SHORT = {"SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
                   "PixelRepresentation", "NumberOfSlices", "NumberOfImagesInMosaic"}  # fmt: skip
_META = {"MediaStorageSOPClassUID": 0x00020002, "TransferSyntaxUID": 0x00020010}
_PRIVATE = {"SiemensCreator": 0x00190010, "NumberOfImagesInMosaic": 0x0019100A}
"""Siemens' own, of its first block of group 0019."""
_SERIES_UID, _PIXEL_DATA = 0x0020000E, 0x7FE00010
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
"""Value representations that are no text, with their code in `struct` (PS3.5, section 6.2)."""
_UNDEFINED_LENGTH = 0xFFFFFFFF
_DEFERRED_BYTES = 4096
"""Longer values are passed over: nothing of these is needed, and a damaged length asks for no memory."""
_PREAMBLE, _START_BYTES = 128, 4096
"""What almost every file meta group lies within."""
_LEAST_BYTES = 132
"""Of a DICOM file. Files of the system that block have a size of 0."""
_SUFFIXES = {".dcm", ".dicom", ".ima"}
_UNFINISHED = {".gz", ".bz2", ".xz", ".zip", ".part", ".partial", ".crdownload", ".tmp"}
"""Behind the suffix of a slice: packed, or not copied to its end."""
_SHOWN, _LISTED, _NAMED = 120, 12, 3
_AGAIN = "copy or export it again"


DAMAGED = "it is truncated or damaged: copy it again"


class DamagedError(Exception):
    """The file ends early, or is no DICOM data set throughout."""


@dataclass(frozen=True)
class DicomSlice:
    """One image file and what its header says.

    Attributes:
        file: the place.
        values: by DICOM keyword, blanks stripped, of several values joined by a backslash; what is empty is not there.
        syntax: UID of the transfer syntax; empty for a file without a file meta group.
        offset: of the voxels, in bytes from the start of the file; None if it holds none.
        length: of the voxels in bytes; None if it is undefined, as that of compressed voxels is.
    """

    file: Path
    values: Mapping[str, str]
    syntax: str
    offset: int | None
    length: int | None

    def text(self, keyword: str) -> str:
        """Return a header value as it stands there; empty if it is absent."""
        return self.values.get(keyword, "")

    def shown(self, keyword: str) -> str:
        """Shorten a header value for a message."""
        text = self.text(keyword)
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Parse the numbers of a header entry; empty if it is absent or holds something else."""
        try:
            return tuple(strict_number(part) for part in self.text(keyword).split("\\") if part.strip())
        except ValueError:
            return ()

    def refused(self, why: str, code: str = "unusable-slice") -> InputError:
        """Make the error about this file."""
        return InputError(f"{self.file} cannot be read as an image: {why}.", code)

    @property
    def patient(self) -> tuple[str, str]:
        """PatientID and its issuer."""
        return self.text("PatientID"), self.text("IssuerOfPatientID")

    @property
    def is_picture(self) -> bool:
        """In colour, or of no known place in space: a screenshot, a dose report."""
        several = self.text("NumberOfFrames") not in ("", "0", "1") or self.is_mosaic
        in_colour = self.text("SamplesPerPixel") not in ("", "1")
        palette = self.text("PhotometricInterpretation").startswith("PALETTE")
        return in_colour or palette or not (several or self.text("ImagePositionPatient"))

    @property
    def is_mosaic(self) -> bool:
        """Whether the slices of a volume are tiles of one picture, as old scanners of Siemens write functional MR."""
        counted = self.text("SiemensCreator").startswith("SIEMENS MR HEADER") and self.text("NumberOfImagesInMosaic")
        return "MOSAIC" in self.text("ImageType").split("\\") or bool(counted)


@dataclass(frozen=True)
class DicomFolder:
    """What a folder holds.

    Attributes:
        folder: the place.
        series: slices by series UID.
        left_out: number of files of each kind that are no slices ("Comprehensive SR Storage": 1).
    """

    folder: Path
    series: Mapping[str, Sequence[DicomSlice]]
    left_out: Mapping[str, int]

    @property
    def description(self) -> str:
        """Kind of the folder in words: "DICOM series, 113 slices; left out: folder 1"."""
        counts = [len(slices) for slices in self.series.values()]
        words = f"DICOM series, {counts[0]} slices" if len(counts) == 1 else f"DICOM, {len(counts)} series"
        left_out = ", ".join(f"{what} {count}" for what, count in sorted(self.left_out.items()))
        return f"{words}; left out: {left_out}" if left_out else words

    def chosen(self, wanted: str | None = None) -> Sequence[DicomSlice]:
        """Choose the slices of the only series, or of the one whose UID ends with `wanted`.

        Raises:
            InputError: there is none, or there are several.
        """
        uids = [uid for uid in self.series if wanted is None or uid.endswith(wanted)]
        if len(uids) == 1:
            return self.series[uids[0]]
        if not self.series:
            raise InputError(f"{self.folder} holds no DICOM slices ({self.description}): give another.", "no-series")
        listed = [
            f"'{slices[0].text('SeriesDescription')}', {len(slices)} slices, UID ...{uid[-_LISTED:]}"
            for uid, slices in self.series.items()
            if uid in uids or not uids
        ]
        wish = "" if wanted is None else f", {len(uids) or 'none'} with a UID that ends with '{wanted}'"
        found = f"{len(self.series)} series{wish} ({'; '.join(listed[:_LISTED])})"
        raise InputError(f"{self.folder} holds {found}: choose one with --series UID.", "several-series")

    def check_all_here(self, slices: Sequence[DicomSlice]) -> list[str]:
        """Check that no further slice of a series is hidden or lies in a subfolder, as far as `MOST_FILES` goes.

        Copies of slices that are read, by their SOPInstanceUID, do not count: backups, and the files behind links.

        Returns:
            Sentences about what could not be read, without the name of a file.

        Raises:
            InputError: there are some; names the first few, and counts them.
        """
        series = slices[0].text("SeriesInstanceUID")
        known = {one.text("SOPInstanceUID") for one in slices} - {""}
        known = known if len(known) == len(slices) else set()  # else they do not distinguish slices
        missed: list[Path] = []
        closed = seen = 0
        for entry, opens in _entries_not_read(self.folder):
            seen, closed = seen + opens, closed + (not opens)
            if seen > MOST_FILES:
                break
            one = _parsed(entry, _start(entry), _SERIES_UID) if opens else None
            if one and one.text("SeriesInstanceUID") == series != "" and one.text("SOPInstanceUID") not in known:
                missed.append(entry)
        if missed:
            named = ", ".join(plain_name(str(file.relative_to(self.folder))) for file in missed[:_NAMED])
            elsewhere = f"{len(missed)} slices of its series are hidden or in subfolders (such as {named})"
            raise InputError(f"{self.folder}: {elsewhere}: put all slices into one folder.", "slices-elsewhere")
        notes = []
        if closed:
            notes.append(f"{closed} entries of subfolders cannot be opened: check that they are no slices of it.")
        if seen > MOST_FILES:
            notes.append(f"Only {MOST_FILES} files in subfolders were read: check that the others are no slices of it.")
        return notes


def _entries_not_read(top: Path) -> Iterator[tuple[Path, bool]]:
    """Hidden files of a folder, then all in its subfolders; hidden folders hold what a program keeps for itself.

    Yields:
        An entry, and whether it can be opened.
    """
    known, closed = set(), []
    for place, folders, files in os.walk(top, followlinks=True, onerror=lambda error: closed.append(error)):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in known:  # a link to a folder above
            folders.clear()
            continue
        known.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for entry in (Path(place) / name for name in sorted(files)):
            kind, hidden = entry_kind(entry), entry.name.startswith(".")
            if kind is EntryKind.FILE and (hidden or place != str(top)) and entry.stat().st_size >= _LEAST_BYTES:
                yield entry, True
            elif not kind.opens and not hidden:
                yield entry, False
    yield from ((Path(str(error.filename)), False) for error in closed)


def scan_folder(folder: Path) -> DicomFolder:
    """Sort the files of a folder, without its subfolders and hidden files, into series and what is left out.

    Raises:
        InputError: a DICOM image that is damaged or packed in a way that cannot be read; a
            link to nothing, a pipe, or another entry that cannot be opened: it may be a slice.
    """
    series: dict[str, list[DicomSlice]] = {}
    left_out: Counter[str] = Counter()
    files, others = [], []
    with unreadable_named(folder):
        for entry in sorted(folder.iterdir()):
            hidden, inside = entry.name.startswith("."), entry.is_dir()
            if hidden or inside:
                left_out[("hidden " if hidden else "") + ("folder" if inside else "file")] += 1
            else:
                files.append(entry)
    check_entries(files, "files")
    for file in files:
        found = _looked_at(file)
        if found is None:
            others.append(file)
        elif isinstance(found, str):
            left_out[found] += 1
        else:
            series.setdefault(found.text("SeriesInstanceUID"), []).append(found)
    _check_others(others, {one.file.suffix for slices in series.values() for one in slices})
    left_out["not DICOM"] = len(others)
    for uid in [uid for uid, slices in series.items() if all(one.is_picture for one in slices)]:
        left_out["picture"] += len(series.pop(uid))
    return DicomFolder(folder, series, +left_out)


def _check_others(files: Sequence[Path], suffixes: set[str]) -> None:
    """Refuse files that are no DICOM but were: slices whose beginning was lost would be left out unseen."""
    for file in files if suffixes else ():
        start = _start(file)
        name = Path(file.stem) if file.suffix.lower() in _UNFINISHED else file
        empty = not start.strip(b"\0") and file.suffix in suffixes
        if empty or name.suffix.lower() in _SUFFIXES or (b"\0" in start and b"1.2.840.10008.1.2" in start):
            raise InputError(f"{file} lies among DICOM slices but is damaged or packed: copy it again.", "not-a-slice")


def is_dicom(file: Path) -> bool:
    """Whether a file is DICOM, with or without a preamble.

    Raises:
        InputError: the file may not be read.
    """
    start = _start(file)
    return start[_PREAMBLE : _PREAMBLE + 4] == b"DICM" or _parsed(file, start) is not None


def _looked_at(file: Path) -> DicomSlice | str | None:
    """Read a slice with its header, or say in words what else the file is; None for one that is no DICOM.

    Raises:
        InputError: an image that cannot be read, or a file that says of itself to be of two classes.
    """
    start = _start(file)
    if not is_dicom(file):
        return None
    meta = _meta(start)
    one = _parsed(file, start) or DicomSlice(file, {}, meta.get("TransferSyntaxUID", ""), None, None)
    inside, outside = one.text("SOPClassUID"), meta.get("MediaStorageSOPClassUID", "")
    if inside and outside not in ("", inside):
        raise one.refused(f"it is of class {outside} in its file meta group, but {inside} in SOPClassUID: {_AGAIN}")
    kind = inside or outside
    if any(kind == each or kind.startswith(f"{each}.") for each in _NO_IMAGES):
        return _name(kind).removesuffix(" Storage")
    if inside and not kind.startswith(_STANDARD_ROOT):
        return "private object"
    if one.syntax not in _READ:
        how = f"its voxels are compressed as {_name(one.syntax)} ({one.syntax}), which is not read"
        raise one.refused(f"{how}: export the series uncompressed", "compressed-voxels")
    is_stored = not kind or kind.startswith(_STORAGE)
    if one.offset is None or not is_stored or not {"Rows", "Columns"} <= one.values.keys():
        raise one.refused(DAMAGED)
    return one


def _name(uid: str) -> str:
    """Return the name of a UID in the standard."""
    import pydicom

    name = str(pydicom.uid.UID(uid, pydicom.config.IGNORE).name)
    return "an unknown scheme" if name == uid else name


def _start(file: Path) -> bytes:
    with unreadable_named(file), file.open("rb") as content:
        return content.read(_PREAMBLE + 4 + _START_BYTES)


def _meta(start: bytes) -> Mapping[str, str]:
    """UIDs of the file meta group; empty where there is none, or it is damaged."""
    from pydicom.filereader import read_dataset

    content = BytesIO(start[_PREAMBLE + 4 :] if start[_PREAMBLE : _PREAMBLE + 4] == b"DICM" else start)
    try:
        with damage_named():
            return _values(read_dataset(content, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2), _META)
    except DamagedError:
        return {}


def _parsed(file: Path, start: bytes, last: int | None = None) -> DicomSlice | None:
    """Read a header; None for a file that is no DICOM, or is damaged.

    Without a preamble it must begin with group 2 or, as old files do, with group 8, and name its class by a UID.

    Args:
        last: tag after which no more is read; None reads all.
    """
    with_preamble = start[_PREAMBLE : _PREAMBLE + 4] == b"DICM"
    if (not with_preamble and start[:2] not in (b"\2\0", b"\x08\0")) or _DEFLATED in start:
        return None
    from pydicom.filereader import read_partial

    ends = None if last is None else lambda tag, vr, length: tag > last
    tags = _tags()
    try:
        with damage_named(), file.open("rb") as content:
            dataset = read_partial(content, ends, defer_size=_DEFERRED_BYTES, force=True,
                                   specific_tags=[*tags.values(), _PIXEL_DATA])  # fmt: skip
            values, meta = _values(dataset, tags), _meta(start)
            offset, length = _voxels(dataset, file.stat().st_size)
    except DamagedError:
        return None
    known = with_preamble or re.fullmatch(r"[0-9]+(\.[0-9]+)+", values.get("SOPClassUID", ""))
    return DicomSlice(file, values, meta.get("TransferSyntaxUID", ""), offset, length) if known else None


def _voxels(dataset: "Dataset", size: int) -> tuple[int | None, int | None]:
    """Where the voxels lie in a file of this size: offset and length."""
    if _PIXEL_DATA not in dataset:
        return None, None
    element = dataset.get_item(_PIXEL_DATA, keep_deferred=True)
    if element.length == _UNDEFINED_LENGTH:
        return element.value_tell, None
    if element.value_tell + element.length > size:
        raise DamagedError("the voxels reach beyond the end of the file")
    return element.value_tell, element.length


@contextlib.contextmanager
def damage_named() -> Iterator[None]:
    """Let pydicom, which trusts lengths and value representations as they stand, raise one error, and never warn.

    Raises:
        DamagedError: for whatever it raises.
    """
    import pydicom

    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DamagedError, InputError, MemoryError):
        raise
    except Exception as error:
        raise DamagedError(str(error)) from error


@functools.cache
def _tags() -> dict[str, int]:
    from pydicom.datadict import tag_for_keyword

    return {keyword: int(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS} | _PRIVATE


def _values(dataset: "Dataset", tags: Mapping[str, int]) -> dict[str, str]:
    """Values as text, those that are there and not empty."""
    elements = {key: dataset.get_item(tag, keep_deferred=True) for key, tag in tags.items() if tag in dataset}
    values = {keyword: _text(keyword, element) for keyword, element in elements.items()}
    return {keyword: value for keyword, value in values.items() if value}


def _text(keyword: str, element: Any) -> str:
    """Decode a value as text; what is no UTF-8 is taken for Latin-1."""
    value = element.value
    if keyword == "ModalityLUTSequence":
        return "given"
    if not isinstance(value, bytes):  # empty, or far too long
        return ""
    if element.length not in (len(value), _UNDEFINED_LENGTH):
        raise DamagedError(f"{keyword} reaches beyond the end of the file")
    kind = "FD" if keyword == "DiffusionBValue" else "US" if keyword in _UNSIGNED_SHORT else ""
    if kind:
        code = ("<" if element.is_little_endian else ">") + _BINARY.get(element.VR, _BINARY[kind])
        whole = len(value) - len(value) % struct.calcsize(code)
        return "\\".join(str(number) for (number,) in struct.iter_unpack(code, value[:whole]))
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return "".join(letter if letter.isprintable() else "?" for letter in text.strip(" \0"))
