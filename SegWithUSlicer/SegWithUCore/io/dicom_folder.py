"""Scan a folder of DICOM files: its image series, and what is left out of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..util.errors import InputError
from ..util.folder_entries import check_entries
from .dicom_header import DamagedHeaderError, DicomHeader, DicomKind, dicom_kind, read_header
from .header_fields import strict_number
from .plain_names import check_plain

UID_TAIL = 12
"""Characters at the end of a series UID that a list shows."""
MAXIMUM_LISTED, MAXIMUM_SHOWN = 12, 120
_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
_UNFINISHED = {".gz", ".bz2", ".xz", ".zip", ".part", ".partial", ".crdownload", ".tmp"}
"""Behind the suffix of a slice: packed, or not copied to its end."""
_START_BYTES, _TRANSFER_SYNTAXES = 4096, b"1.2.840.10008.1.2"
"""Where almost every DICOM file names its transfer syntax, and how all these names begin."""
_SIEMENS = "SIEMENS MR HEADER"


@dataclass(frozen=True)
class DicomSlice:
    """One image file and what its header says."""

    file: Path
    header: DicomHeader

    def text(self, keyword: str) -> str:
        """Return a header value as it stands there; empty if it is absent."""
        return self.header.values.get(keyword, "")

    def shown(self, keyword: str) -> str:
        """Shorten a header value for a message."""
        text = self.text(keyword)
        return text if len(text) <= MAXIMUM_SHOWN else f"{text[:MAXIMUM_SHOWN]}..."

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """Parse the numbers of a header entry; empty if it is absent or holds something else."""
        try:
            return tuple(strict_number(part) for part in self.text(keyword).split("\\") if part.strip())
        except ValueError:
            return ()

    @property
    def is_picture(self) -> bool:
        """In colour, or of no known place in space: a screenshot, a dose report."""
        several = self.text("NumberOfFrames") not in ("", "0", "1") or self.is_mosaic
        return self.in_colour or not (several or self.text("ImagePositionPatient"))

    @property
    def is_mosaic(self) -> bool:
        """Whether the slices of a volume are tiles of one picture, as old scanners of Siemens write functional MR."""
        counted = self.text("SiemensCreator").startswith(_SIEMENS) and self.text("NumberOfImagesInMosaic")
        return "MOSAIC" in self.text("ImageType").split("\\") or bool(counted)

    @property
    def in_colour(self) -> bool:
        """Whether each pixel is a colour, or the number of one in a palette."""
        return self.text("SamplesPerPixel") not in ("", "1") or self.text("PhotometricInterpretation").startswith(
            "PALETTE"
        )


@dataclass(frozen=True)
class DicomFolder:
    """What a folder holds.

    Attributes:
        folder: the place.
        series: slices by series UID.
        left_out: number of files of each kind that are no slices ("structured report (SR)": 1).
    """

    folder: Path
    series: Mapping[str, Sequence[DicomSlice]]
    left_out: Mapping[str, int]

    @property
    def description(self) -> str:
        """Kind of the folder in words: "DICOM series, 113 slices"."""
        counts = [len(slices) for slices in self.series.values()]
        words = f"DICOM series, {counts[0]} slices" if len(counts) == 1 else f"DICOM, {len(counts)} series"
        return f"{words}; left out: {self.left_out_words}" if self.left_out else words

    @property
    def left_out_words(self) -> str:
        """What was left out in words: "not DICOM 2, structured report (SR) 1"."""
        return ", ".join(f"{what} {count}" for what, count in sorted(self.left_out.items()))

    def chosen(self, wanted: str | None = None) -> Sequence[DicomSlice]:
        """Choose the slices of the only series, or of the one whose UID ends with `wanted`.

        Raises:
            InputError: there is none, or there are several.
        """
        uids = [uid for uid in self.series if wanted is None or uid.endswith(wanted)]
        if len(uids) == 1:
            return self.series[uids[0]]
        if not self.series:
            left = f" (left out: {self.left_out_words})" if self.left_out else ""
            raise InputError(f"{self.folder} holds no DICOM slices{left}: give the folder of an image series.")
        shown = uids or list(self.series)
        of_these = "" if wanted is None else f" with a UID that ends with '{wanted}'" if uids else ""
        none = f", none with a UID that ends with '{wanted}'" if not uids else ""
        listed = "; ".join(_series_words(uid, self.series[uid]) for uid in shown[:MAXIMUM_LISTED])
        more = f"; and {len(shown) - MAXIMUM_LISTED} more" if len(shown) > MAXIMUM_LISTED else ""
        raise InputError(
            f"{self.folder} holds {len(shown)} series{of_these} ({listed}{more}){none}: choose one with --series UID, "
            "of which the end is enough, or give a folder that holds one."
        )


def _series_words(uid: str, slices: Sequence[DicomSlice]) -> str:
    name = slices[0].text("SeriesDescription") or "without description"
    return f"'{name}', {len(slices)} slices, UID ...{uid[-UID_TAIL:]}"


def scan_folder(folder: Path) -> DicomFolder:
    """Sort the files of a folder, without its subfolders and hidden files, into series and what is left out.

    Raises:
        InputError: a DICOM image that is damaged or packed in a way that cannot be read; a name that is not UTF-8; a
            link to nothing, a pipe, or another entry that cannot be opened: it may be a slice.
    """
    series: dict[str, list[DicomSlice]] = {}
    files, left_out = _files(folder)
    no_dicom: list[Path] = []
    for file in files:
        kind = dicom_kind(file)
        if kind is None:
            no_dicom.append(file)
        elif isinstance(found := _slice_or_kind(file, kind), DicomSlice):
            series.setdefault(found.text("SeriesInstanceUID"), []).append(found)
        else:
            left_out[found] += 1
    _check_others(no_dicom, {one.file.suffix for slices in series.values() for one in slices})
    left_out["not DICOM"] = len(no_dicom)
    for uid in [uid for uid, slices in series.items() if all(one.is_picture for one in slices)]:
        left_out["picture"] += len(series.pop(uid))
    return DicomFolder(folder, series, +left_out)


def _files(folder: Path) -> tuple[list[Path], Counter[str]]:
    """List the files of a folder that may be slices, and count the other entries by their kind."""
    left_out: Counter[str] = Counter()
    files = []
    try:
        for entry in sorted(folder.iterdir()):
            kind = "folder" if entry.is_dir() else "file"
            if entry.name.startswith("."):
                left_out[f"hidden {kind}"] += 1
            elif kind == "folder":
                left_out[kind] += 1
            else:
                files.append(entry)
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}): check its permissions and the disk.") from error
    for file in files:
        check_plain(file)
    check_entries(files, "files")
    return files, left_out


def _slice_or_kind(file: Path, kind: DicomKind) -> DicomSlice | str:
    """Read a slice with its header, or say in words what else the file is.

    Raises:
        InputError: an image that cannot be read, or a file that says of itself to be of two classes.
    """
    try:
        header = read_header(file, kind.transfer_syntax)
    except DamagedHeaderError:
        header = DicomHeader({}, kind.transfer_syntax, None)
    inside = header.values.get("SOPClassUID", "")
    if kind.private and not inside:  # by damage, as likely as not
        raise InputError(unreadable(file, kind))
    inside = inside or kind.sop_class
    if kind.sop_class and inside != kind.sop_class:
        raise InputError(
            f"{file} is of the class {kind.sop_class} by its file meta group, but {inside} by its SOPClassUID: copy or "
            "export it again."
        )
    kind = DicomKind(inside, kind.transfer_syntax)
    if kind.no_image or kind.private:
        return kind.no_image or "private object"
    if header.voxels is not None and kind.readable and kind.stored and {"Rows", "Columns"} <= header.values.keys():
        return DicomSlice(file, header)
    raise InputError(unreadable(file, kind))


def _check_others(files: Sequence[Path], suffixes: set[str]) -> None:
    """Refuse files that are no DICOM but were: slices whose beginning was lost would be left out unseen."""
    for file in files if suffixes else ():
        with file.open("rb") as content:
            start = content.read(_START_BYTES)
        name = Path(file.stem) if file.suffix.lower() in _UNFINISHED else file
        empty = not start.strip(b"\0") and file.suffix in suffixes
        if empty or name.suffix.lower() in _DICOM_SUFFIXES or (b"\0" in start and _TRANSFER_SYNTAXES in start):
            raise InputError(
                f"{file} lies among DICOM slices and looks like one, but is none (its beginning is missing or "
                "damaged, or it is packed): copy or unpack it again, or take it out.",
                code="no-slice-inside",
            )


def unreadable(file: Path, kind: DicomKind | None = None) -> str:
    """Word the error about a DICOM image that cannot be read."""
    kind = kind or dicom_kind(file) or DicomKind("", "")
    return f"{file} cannot be read as an image: {kind.unreadable}."
