"""What lies in a folder of DICOM files: the image series, and what is left out of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from .dicom_file import DicomKind, dicom_kind
from .plain_names import check_plain
from .volume import itk_messages_kept_off_the_terminal

UID_TAIL = 12
"""Characters at the end of a series UID that a list shows."""
MAXIMUM_LISTED = 12
SERIES_UID, DESCRIPTION = "0020|000e", "0008|103e"
ROWS, COLUMNS, FRAMES, SAMPLES = "0028|0010", "0028|0011", "0028|0008", "0028|0002"
POSITION, ORIENTATION, PIXEL_SPACING = "0020|0032", "0020|0037", "0028|0030"


@dataclass(frozen=True)
class DicomSlice:
    """One image file and its header values by tag ("0020|0032"), blanks stripped."""

    file: Path
    header: Mapping[str, str]

    def numbers(self, tag: str) -> tuple[float, ...]:
        """The numbers of a header entry; empty where it is absent or holds something else."""
        try:
            return tuple(float(part) for part in self.header.get(tag, "").split("\\") if part.strip())
        except ValueError:
            return ()

    @property
    def frames(self) -> int:
        """Slices in the file: more than one in enhanced multi-frame DICOM."""
        return int(next(iter(self.numbers(FRAMES)), 1))

    @property
    def is_picture(self) -> bool:
        """In colour, or of no known place in space: a screenshot, a dose report."""
        return self.header.get(SAMPLES, "1") != "1" or (self.frames == 1 and not self.numbers(POSITION))


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
        """ "not DICOM 2, structured report (SR) 1"."""
        return ", ".join(f"{what} {count}" for what, count in sorted(self.left_out.items()))

    def chosen(self, wanted: str | None = None) -> Sequence[DicomSlice]:
        """The slices of the only series, or of the one whose UID ends with `wanted`.

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
    name = slices[0].header.get(DESCRIPTION) or "without description"
    return f"'{name}', {len(slices)} slices, UID ...{uid[-UID_TAIL:]}"


def scan_folder(folder: Path) -> DicomFolder:
    """Sort the files of a folder, without its subfolders, into series and what is left out.

    Raises:
        InputError: a DICOM image that is damaged or packed in a way that GDCM does not know; a name that is not UTF-8.
    """
    series: dict[str, list[DicomSlice]] = {}
    left_out: Counter[str] = Counter()
    with itk_messages_kept_off_the_terminal():
        for file in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
            check_plain(file)
            kind = dicom_kind(file)
            if kind is not None and kind.no_image:
                left_out[kind.no_image] += 1
                continue
            header = _header(file)
            if header is not None:
                series.setdefault(header.get(SERIES_UID, ""), []).append(DicomSlice(file, header))
            elif kind is None or kind.private:
                left_out["private object" if kind else "not DICOM"] += 1
            else:
                raise InputError(unreadable(file, kind))
    for uid in [uid for uid, slices in series.items() if all(one.is_picture for one in slices)]:
        left_out["picture"] += len(series.pop(uid))
    return DicomFolder(folder, series, left_out)


def unreadable(file: Path, kind: DicomKind | None = None) -> str:
    """The sentence about a DICOM image that cannot be read."""
    kind = kind or dicom_kind(file) or DicomKind("", "")
    return f"{file} cannot be read as an image: {kind.unreadable}."


def _header(file: Path) -> dict[str, str] | None:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    return {key: _text(reader.GetMetaData(key)) for key in reader.GetMetaDataKeys()}


def _text(value: str) -> str:
    """A header value; what is no UTF-8 reaches Python as surrogates and is taken for Latin-1."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(" \0")
