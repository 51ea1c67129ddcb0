"""Read inputs and finished cases only to check that they are intact; nothing is segmented or written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..case.case_file import CASE_FILE, CHANGED_FILE, DAMAGED_CASE, SEGMENTATION_FILE, naming_case, read_description
from ..case.case_files import CASE_SCHEMA, check_files, derived_notes, file_records
from ..case.case_folders import REVIEWED_PATTERN, case_folders, checked_file, deeper_cases, holds_cases
from ..case.case_image import ELSEWHERE, OTHER_IMAGE, find_image, voxel_hash
from ..case.segmentation_file import check_reviewed
from ..io.inputs import FolderOfCases, GivenCase, cases_in, find_input, read_channel
from ..io.volume import check_same_grid, coarse_notes, grid_facts
from ..util.errors import InputError, SegWithUError
from ..util.folder_entries import EntryKind, entry_kind
from ..util.strict_json import check_schema, parse_json, schema
from .log_format import WANTED, read_log
from .reviews import LOG_PATTERN, read_reviews

_LINE_SCHEMA = Path(__file__).with_name("log_line.schema.json")


class Outcome(StrEnum):
    """The result of a check."""

    WHOLE = "whole"
    # Read, with warnings.
    WARNING = "warning"
    REFUSED = "refused"
    # A finished case one of whose files, or whose image, is another one now, or at another place.
    CHANGED = "changed"
    # A finished case that is intact itself.
    UNKNOWN = "image not found"


BAD = (Outcome.REFUSED, Outcome.CHANGED)


@dataclass(frozen=True)
class Checked:
    """One input or finished case that was checked.

    Attributes:
        source: file or folder.
        kind: "image", "DICOM series, 113 slices", "case", ...
        messages: warnings, or the reason of a refusal.
        metadata: for machines, of an input: `grid` (see `grid_facts`) and `voxels_sha256` of its first channel.
    """

    source: Path
    kind: str
    outcome: Outcome
    messages: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def check_paths(paths: Sequence[Path], images: Sequence[Path] = ()) -> Iterator[Checked]:
    """Check each input and finished case at `paths`; one that is damaged does not stop the others.

    Args:
        paths: image files, DICOM series, folders in nnU-Net naming, case folders, or folders of any of these.
        images: folders that hold the images of finished cases; other images are not opened, because a case that came
            from elsewhere may name any file.
    """
    for path in paths:
        try:
            if not holds_cases(path):
                for one in _inputs_at(path):
                    yield one if isinstance(one, Checked) else check_input(*one)
                continue
            cases = case_folders([path])
        except SegWithUError as error:
            yield Checked(path, "", Outcome.REFUSED, (str(error),))
            continue
        for message in deeper_cases([path], paths):
            yield Checked(path, "folder", Outcome.WARNING, (message,))
        for folder in cases:
            yield check_case(folder, images)


def _inputs_at(path: Path) -> Iterator[tuple[GivenCase, str] | Checked]:
    """List the inputs at a path, or in the folders inside it; one of these without any is refused alone.

    Raises:
        InputError: there are none.
    """
    try:
        given = find_input(path)
    except InputError:
        found = cases_in(path) if entry_kind(path) is EntryKind.FOLDER else FolderOfCases([])
        inside = [entry for entry in found.paths if entry != path]
        if not inside:
            raise
        if found.left_out:
            yield Checked(path, "folder", Outcome.WARNING, (f"{path}: left out: {found.left_out}.",))
        for entry in inside:
            try:
                yield from _inputs_at(entry)
            except SegWithUError as error:
                yield Checked(entry, "", Outcome.REFUSED, (str(error),))
        return
    for case in given.cases:
        yield case, given.kind or "image"


def check_input(case: GivenCase, kind: str) -> Checked:
    """Read every channel of an input as `segment` would."""
    paths = [case.numbered[number] for number in sorted(case.numbered)] or [case.source]
    source = case.source / case.name if len(paths) > 1 else paths[0]
    try:
        volumes = [read_channel(path) for path in paths]
        for path, volume in zip(paths[1:], volumes[1:], strict=True):
            check_same_grid(path, volume.image, paths[0], volumes[0].image)
    except SegWithUError as error:
        return Checked(source, kind, Outcome.REFUSED, (str(error),))
    named = zip(paths, volumes, strict=True)
    found = [f"{path}: {note}" for path, one in named for note in (*one.header.notes, *coarse_notes(one.image))]
    notes = tuple(dict.fromkeys(found))
    metadata = {"grid": grid_facts(volumes[0].image), "voxels_sha256": voxel_hash(volumes[0].image)}
    return Checked(source, kind, Outcome.WARNING if notes else Outcome.WHOLE, notes, metadata)


def check_case(folder: Path, images: Sequence[Path] = ()) -> Checked:
    """Read every file of a finished case and its reviews, and the image that it was made from where it is found.

    Args:
        images: see `check_paths`.
    """
    try:
        case = read_description(folder).raw
        source, again = str(folder / CASE_FILE), "segment the case again"
        check_schema(case, schema(CASE_SCHEMA), source, again, "the format of cases", code=DAMAGED_CASE)
        with naming_case(folder):
            check_files(folder, case)
            versions = [checked_file(folder, path.name) for path in sorted(folder.glob(REVIEWED_PATTERN))]
            notes = tuple(note for path in versions if (note := check_reviewed(path, folder, case)))
            notes += tuple(derived_notes(folder, case).values())
            for path in sorted(folder.glob(LOG_PATTERN)):
                _check_log(checked_file(folder, path.name))
            notes += read_reviews(folder, case).notes
            version, channels = str(case["versions"]["segwithu"]), len(case["input"]["channels"])
    except SegWithUError as error:
        outcome = Outcome.CHANGED if error.code == CHANGED_FILE else Outcome.REFUSED
        return Checked(folder, "case", outcome, (str(error),))
    outcome = Outcome.WARNING if notes else Outcome.WHOLE
    if SEGMENTATION_FILE not in file_records(case):
        notes = (f"{folder} was made by version {version}, which kept no hashes: its files were not compared.", *notes)
    try:
        if any(find_image(folder, case, images, number) is None for number in range(channels)):
            message = f"The image of {folder} was not checked: name the folder that holds it with --images."
            outcome, notes = Outcome.UNKNOWN, (message, *notes)
    except SegWithUError as error:
        outcome = Outcome.CHANGED if error.code in (ELSEWHERE, OTHER_IMAGE) else Outcome.REFUSED
        notes = (f"{folder}, made by version {version}, is not reliable: {error}", *notes)
    return Checked(folder, "case", outcome, notes, {"version": version})


def _check_log(path: Path) -> None:
    """Hold every line of a review log against the schema.

    Raises:
        InputError: the log is damaged.
    """
    lines = read_log(path).whole
    for number, line in enumerate(lines, 1):
        source, wanted = f"{path}, line {number}", f"repair that line, or {WANTED}"
        content, kind = parse_json(line, source), "the format of review logs"
        check_schema(content, schema(_LINE_SCHEMA), source, wanted, kind, code="damaged-log")
