"""Scan a folder of DICOM files: its image series, and what is left out of them."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from ..util.errors import InputError
from ..util.folder_entries import EntryKind, check_entries, entry_kind
from ..util.input_files import plain_name
from .dicom_header import DamagedHeaderError, DicomHeader, DicomKind, dicom_kind, identifiers, read_header
from .header_fields import strict_number

UID_TAIL = 12
"""Characters at the end of a series UID that a list shows."""
MAXIMUM_LISTED, MAXIMUM_SHOWN = 12, 120
_DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
_UNFINISHED = {".gz", ".bz2", ".xz", ".zip", ".part", ".partial", ".crdownload", ".tmp"}
"""Behind the suffix of a slice: packed, or not copied to its end."""
_START_BYTES, _TRANSFER_SYNTAXES = 4096, b"1.2.840.10008.1.2"
"""Where almost every DICOM file names its transfer syntax, and how all these names begin."""
_SIEMENS = "SIEMENS MR HEADER"
MOST_FILES = 2000
"""How many files in folders inside are looked at: about a second's work, and more than a disc of one study has beside
a series."""
_LEAST_BYTES = 132
"""Of a DICOM file. Files of the system that block have a size of 0."""
_NAMED = 3


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

    @cached_property
    def _elsewhere(self) -> "tuple[list[tuple[Path, tuple[str, str]]], int, bool]":
        """DICOM files that are not read with their UIDs, how many entries cannot be opened, and whether that is all.

        These are hidden files and those in folders inside, up to `MOST_FILES`.
        """
        entries = list(islice(_not_read(self.folder), MOST_FILES + 1))
        seen = [file for file, opens in entries[:MOST_FILES] if opens]
        identified = [(file, uids) for file in seen if (uids := identifiers(file)) is not None]
        return identified, sum(not opens for _, opens in entries), len(entries) <= MOST_FILES

    def check_all_here(self, slices: Sequence[DicomSlice]) -> None:
        """Check that no further slice of a series is hidden or lies in a folder inside, as far as `MOST_FILES` goes.

        Copies of slices that are read, by their SOPInstanceUID, are no matter: backups, and the files behind links.

        Raises:
            InputError: there are some; names the first few, and counts them.
        """
        series = slices[0].text("SeriesInstanceUID")
        known = {one.text("SOPInstanceUID") for one in slices} - {""}
        known = known if len(known) == len(slices) else set()  # else they do not tell slices apart
        files = self._elsewhere[0] if series else []
        missed = [file for file, (uid, instance) in files if uid == series and instance not in known]
        if missed:
            named = ", ".join(plain_name(str(file.relative_to(self.folder))) for file in missed[:_NAMED])
            more = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
            raise InputError(
                f"{self.folder} holds {len(slices)} slices of a series of which {len(missed)} others are hidden or in "
                f"folders inside ({named}{more}): put all slices of the series into one folder, or take those out.",
                code="slices-elsewhere",
            )

    @property
    def unseen(self) -> list[str]:
        """Sentences about what `check_all_here` could not look at; they hold no name of a file."""
        _, closed, all_seen = self._elsewhere
        found = []
        if closed:
            found.append(
                f"{closed} entries of the folders inside cannot be opened (links to nothing, no permission): check "
                "that they are no slices of this series."
            )
        if not all_seen:
            found.append(
                f"Of the files in folders inside only the first {MOST_FILES} were looked at: check that the others "
                "hold no slices of this series."
            )
        return found


def _not_read(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Hidden files of a folder, then all in the folders inside, the nearest first; hidden folders are not opened.

    These hold what a program keeps for itself: git's objects, snapshots, the bin.

    Yields:
        An entry, and whether it can be opened.
    """
    waiting, known = deque([folder]), set()
    while waiting:
        place = waiting.popleft()
        try:
            status, entries = place.stat(), sorted(place.iterdir())
        except OSError:
            yield place, False
            continue
        if (status.st_dev, status.st_ino) in known:  # a link to a folder above
            continue
        known.add((status.st_dev, status.st_ino))
        for entry in entries:
            kind, hidden = entry_kind(entry), entry.name.startswith(".")
            if kind is EntryKind.FOLDER and not hidden:
                waiting.append(entry)
            elif kind is EntryKind.FILE and (hidden or place != folder) and entry.stat().st_size >= _LEAST_BYTES:
                yield entry, True
            elif not kind.opens and not hidden:
                yield entry, False


def _series_words(uid: str, slices: Sequence[DicomSlice]) -> str:
    name = slices[0].text("SeriesDescription") or "without description"
    return f"'{name}', {len(slices)} slices, UID ...{uid[-UID_TAIL:]}"


def scan_folder(folder: Path) -> DicomFolder:
    """Sort the files of a folder, without its subfolders and hidden files, into series and what is left out.

    Raises:
        InputError: a DICOM image that is damaged or packed in a way that cannot be read; a
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
