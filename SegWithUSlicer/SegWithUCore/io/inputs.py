"""Find out what the user gave for a case (image file, folder with a DICOM series or in nnU-Net naming), and read it.

Nothing native reads a file of others here: NIfTI, NRRD and MetaImage are read by Python, zlib and numpy, DICOM by
pydicom.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..util.errors import InputError, UsageError, unreadable_named
from ..util.folder_entries import EntryKind, check_entries, entry_kind
from ..util.input_files import plain_name
from .dicom_folder import is_dicom, scan_folder
from .dicom_series import read_series, series_header
from .volume import FORMATS, Header, Volume, read_header, read_volume

SUFFIXES = sorted({end for ends, _ in FORMATS for end in ends}, key=len, reverse=True)
_FINISHED = "case.json"
"""Of a finished case; the package `case` has its format."""
_NUMBERED = re.compile(r"(.+)_([0-9]{4})")
_DATA_SET, _IMAGE_FOLDERS = "dataset.json", ("imagesTr", "imagesTs")
"""What lies in a folder of nnU-Net, and how it calls its folders of images."""
_OTHER = re.compile(r".+\.(?!dcm$|dicom$|ima$)[a-z][a-z0-9]{1,4}", re.IGNORECASE)
"""A name that ends as those of tables and texts do: where it cannot be opened, it was no image and no folder."""
_NAMED = 8
"""Entries that a message names."""
_RESOURCE_FORK = "._"
"""How the names of macOS's resource forks begin."""


@dataclass(frozen=True)
class GivenCase:
    """One case before it is read.

    Attributes:
        name: of the case folder, unless another is given.
        source: the image file or the folder that was given.
        numbered: file of each channel number, for a case in nnU-Net naming; else empty.
    """

    name: str
    source: Path
    numbered: Mapping[int, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ChannelInput:
    """An image file, or a DICOM folder and (where it holds several) the end of the UID of the series to take."""

    path: Path
    series: str | None = None


@dataclass(frozen=True)
class GivenInput:
    """What one argument turned out to be.

    Attributes:
        cases: in the order of their names.
        kind: of a folder, in words ("DICOM series, 113 slices"); empty for a file.
    """

    cases: Sequence[GivenCase]
    kind: str = ""


def find_input(path: Path) -> GivenInput:
    """Look at an argument; what kind a folder is, its contents decide.

    Raises:
        InputError: a folder that holds neither a DICOM series nor images in nnU-Net naming, or both.
    """
    if entry_kind(path) is not EntryKind.FOLDER:  # reading it as a file says what is wrong
        return GivenInput([GivenCase(case_name(path), path)])
    found = folder_entries(path)
    numbered = {file: channel for file in found.images if (channel := channel_of(file))}
    if any(is_dicom(file) for file in found.files):
        mixed = next((file.name for file in numbered if file in found.closed or not is_dicom(file)), None)
        if mixed:
            raise InputError(f"{path} holds DICOM files and nnU-Net images ({mixed}): separate them.", "mixed-folder")
        return GivenInput([GivenCase(plain_name(path.resolve().name), path)], scan_folder(path).description)
    if not numbered:
        raise _no_input(path, found)
    cases = channels_by_case(numbered)
    counts = sorted({len(channels) for channels in cases.values()})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    kind = f"{_several(len(cases), 'case')} of {_several(each, 'channel')} in nnU-Net naming"
    alone = [file for file in found.images if file not in numbered and _NUMBERED.fullmatch(stem_of(file) or "")]
    kind += f"; {len(alone)} without a channel 0000, each a case of its whole name ({_names(alone)})" if alone else ""
    further = [file for file in found.images if not _NUMBERED.fullmatch(stem_of(file) or "")]
    further += [folder for folder in found.folders if holds_input(folder)]
    if left_out := found.left_out([*found.images, *further], further):
        kind += f"; left out: {left_out}"
    given = [GivenCase(name, path, channels) for name, channels in cases.items()]
    given += [GivenCase(case_name(file), file) for file in alone]
    return GivenInput(sorted(given, key=lambda case: case.name), kind)


@dataclass(frozen=True)
class FolderOfCases:
    """What lies in a folder of cases.

    Attributes:
        paths: image files and folders, also those that cannot be opened: each to be given to `find_input`.
        left_out: what else might have been a case, in words; empty if nothing was.
    """

    paths: Sequence[Path]
    left_out: str = ""


def cases_in(folder: Path) -> FolderOfCases:
    """List the image files and folders in a folder of cases.

    A folder that is a DICOM series or in nnU-Net naming itself is its own only input, and so is one without anything.

    Raises:
        InputError: the folder cannot be read.
    """
    found = folder_entries(folder)
    if any(channel_of(file) for file in found.images) or any(is_dicom(file) for file in found.files):
        return FolderOfCases([folder])
    closed = [path for path in found.closed if stem_of(path) is None and not _OTHER.fullmatch(path.name)]
    return FolderOfCases(sorted([*found.images, *found.folders, *closed]) or [folder], found.left_out(closed))


@dataclass(frozen=True)
class FolderEntries:
    """Sort the entries of a folder by kind, with hidden ones separate."""

    files: Sequence[Path]
    folders: Sequence[Path]
    closed: Sequence[Path]
    hidden: Sequence[Path]

    @property
    def images(self) -> list[Path]:
        """What has the name of an image, whether it can be opened or not."""
        return sorted(path for path in (*self.files, *self.closed) if stem_of(path) is not None)

    def unseen(self, taken: Collection[Path]) -> list[Path]:
        """List what may be an input and is not taken because it is hidden or cannot be opened."""
        hidden = [path for path in self.hidden if not path.name.startswith(_RESOURCE_FORK)]
        inputs = [path for path in hidden if stem_of(path) is not None or _is_input_folder(path)]
        return [*(path for path in self.closed if path not in taken and stem_of(path) is None), *inputs]

    def left_out(self, taken: Collection[Path], further: Sequence[Path] = ()) -> str:
        """Name what may be an input and is not taken: hidden, not to be opened, or `further`; empty for nothing."""
        unseen = self.unseen(taken)
        words = [f"{len(further)} without a channel number or in subfolders ({_names(further)})"] if further else []
        words += [f"{len(unseen)} hidden or not to be opened ({_names(unseen)})"] if unseen else []
        return "; ".join(words)


def folder_entries(folder: Path) -> FolderEntries:
    """List a folder.

    Raises:
        InputError: it cannot be read.
    """
    with unreadable_named(folder):
        entries = sorted(folder.iterdir())
    kinds = {path: entry_kind(path) for path in entries if not path.name.startswith(".")}
    return FolderEntries(
        [path for path, kind in kinds.items() if kind is EntryKind.FILE],
        [path for path, kind in kinds.items() if kind is EntryKind.FOLDER],
        [path for path, kind in kinds.items() if not kind.opens],
        [path for path in entries if path not in kinds],
    )


def _no_input(folder: Path, found: FolderEntries) -> InputError:
    what, advice = "no DICOM series and no images in nnU-Net naming (case_0000.nii.gz)", "give an image or a series"
    if (folder / _FINISHED).is_file():
        what, advice = "the results of a finished case", "give the image that was segmented"
    elif cases := found.images or [entry for entry in found.folders if holds_input(entry)]:
        advice = f"give one of its entries, or pass --each if each is a case ({_names(cases)})"
    else:
        check_entries(found.closed, "entries")
    return InputError(f"{folder} holds {what}: {advice}.", code="no-image")


def holds_input(folder: Path) -> bool:
    """Whether there is an image or a DICOM file in a folder."""
    found = folder_entries(folder)
    return bool(found.images) or any(is_dicom(file) for file in found.files)


def _is_input_folder(path: Path) -> bool:
    return entry_kind(path) is EntryKind.FOLDER and holds_input(path)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths[:_NAMED])


def _several(count: int | str, noun: str) -> str:
    return f"{count} {noun}{'' if str(count) == '1' else 's'}"


def stem_of(path: Path) -> str | None:
    """Return the name of an image file without its suffix; None for other files and for the voxels of a pair."""
    stem, suffix = _split(path.name)
    return stem if suffix else None


def channel_of(path: Path) -> tuple[str, int] | None:
    """Return the case and the channel number of an image file in nnU-Net naming, None for any other file.

    "NAME_0001.nii.gz" is channel 1 of NAME if NAME_0000 lies next to it, or in a folder of an nnU-Net data set.
    Anywhere else four digits belong to the name: "scan_2019.nii.gz".
    """
    stem, suffix = _split(path.name)
    if not suffix or (match := _NUMBERED.fullmatch(stem)) is None:
        return None
    folder = path.absolute().parent
    name, number, as_written = match[1], int(match[2]), path.name.removeprefix(stem)
    marks = (*(f"{name}_0000{each}" for each in (as_written, *SUFFIXES)), _DATA_SET)
    is_channel = folder.name in _IMAGE_FOLDERS or any(os.path.lexists(folder / mark) for mark in marks)
    return (name, number) if number == 0 or is_channel else None


def channels_by_case(files: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Group image files in nnU-Net naming by the name of their case and by channel number; other files are left out.

    Raises:
        InputError: two files are the same channel.
    """
    cases: dict[str, dict[int, Path]] = {}
    for file in sorted(files):
        if (found := channel_of(file)) is not None:
            channels, number = cases.setdefault(case_name(file), {}), found[1]
            if number in channels:
                raise InputError(f"{channels[number]} and {file.name} are the same channel of one case: keep one.")
            channels[number] = file
    return cases


def case_name(path: Path) -> str:
    """File name without its suffix and without nnU-Net's channel number ("liver_0000.nii.gz" is "liver").

    Bytes that are no UTF-8 are written as in URLs: results must have names that every program takes.
    """
    channel = channel_of(path)
    return plain_name(channel[0] if channel else _split(path.name)[0])


def _split(name: str) -> tuple[str, str]:
    """Split a file name into its stem and the suffix that makes it an image, empty if none does."""
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)], suffix


def channel_inputs(
    case: GivenCase, further: Sequence[str], series: Sequence[str], channels: Sequence[str]
) -> list[ChannelInput]:
    """Find what to read for each channel, in the model's order.

    In nnU-Net naming channel 0000 is the model's first. Else the case is the first channel that no entry of
    `further` names.

    Args:
        further: "NAME=FILE" for the other channels.
        series: "UID" for the case, "NAME=UID" for another channel.

    Raises:
        UsageError: a name that the model does not know, given twice, or without a file; no channel left for the case.
        InputError: a case in nnU-Net naming has other channels than the model.
    """
    if case.numbered:
        if sorted(case.numbered) != list(range(len(channels))):
            found = ", ".join(f"{number:04d}" for number in sorted(case.numbered))
            wanted = ", ".join(f"{number:04d} {name}" for number, name in enumerate(channels))
            what = f"Case '{case.name}' in {case.source} has the channel(s) {found}"
            raise InputError(f"{what}, but the model wants {wanted}: complete or rename its files.", "other-channels")
        return [ChannelInput(case.numbered[number]) for number in range(len(channels))]
    files = _by_channel("--channel", "NAME=FILE", further, channels)
    rest = [name for name in channels if name not in files]
    if not rest:
        raise UsageError(f"{case.source} has no channel left: it is one of {', '.join(channels)} itself.")
    named = [entry if "=" in entry else f"{rest[0]}={entry}" for entry in series]
    uids = _by_channel("--series", "NAME=UID", named, channels)
    sources = {**{name: Path(file) for name, file in files.items()}, rest[0]: case.source}
    for name in uids:
        if name not in sources or not sources[name].is_dir():
            raise UsageError(f"--series {uids[name]}: {sources.get(name, name)} is not a folder of DICOM files.")
    return [ChannelInput(sources[name], uids.get(name)) for name in channels if name in sources]


def _by_channel(option: str, form: str, entries: Sequence[str], channels: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        if name not in channels or not value or name in given:
            raise UsageError(f"{option} {entry}: give {form} once for each of {', '.join(channels)}.")
        given[name] = value
    return given


def channel_header(path: Path, series: str | None = None) -> Header:
    """Read the header of an image file, or of the DICOM series of a folder; no voxel is read.

    Args:
        series: as in `read_channel`.

    Raises:
        InputError: as `read_channel`, as far as headers show.
    """
    return series_header(path, series) if path.is_dir() else read_header(path)


def read_channel(path: Path, series: str | None = None, header: Header | None = None) -> Volume:
    """Read one channel: an image file, or the DICOM series of a folder.

    Args:
        series: end of the UID of the series to take from a folder with several.
        header: what `channel_header` gave for it, so that it is not read again.

    Raises:
        InputError: as `read_volume` and `read_series`.
    """
    return read_series(path, series, header) if path.is_dir() else read_volume(path, header)
