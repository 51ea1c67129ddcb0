"""Merge returned reviews: logs of the same regions are joined, and nothing of either side is lost."""

import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..case.case_file import read_case
from ..case.case_files import regions_of_case
from ..case.case_folders import case_folders, checked_file
from ..util import errors
from ..util.atomic_files import atomic_file, remove_leftovers
from ..util.errors import InputError, OutputError, SegWithUError, UsageError, naming, os_errors_named
from ..util.folder_entries import NOT_OPENABLE
from ..util.input_files import read_bounded
from ..util.strict_json import read_json_object, typed
from .log import take_log_lock
from .log_format import MAXIMUM_BYTES, Event, ParsedLog, read_event, read_lines, read_log, to_line
from .reviewer import clean_reviewer_name, log_path, version_path
from .reviews import LOG_PATTERN, review_of

PAGE_FORMAT = "segwithu-page-review"
PAGE_VERSION = 1
ENDING = ".segwithu.json"
_SAVE_AGAIN = "let the reviewer save the verdicts again"
# A returned segmentation is compressed.
MAXIMUM_VERSION_BYTES = 1 << 30


@dataclass(frozen=True)
class Identity:
    """By what a case's reviews know it."""

    voxels_sha256: tuple[str, ...]
    weights_sha256: str
    regions_sha256: str


@dataclass(frozen=True)
class PageReview:
    """A review that a page saved; `lines` are those of a log."""

    identity: Identity
    reviewer: str
    lines: tuple[Any, ...]


@dataclass(frozen=True)
class Merged:
    """What was done with one returned file.

    Attributes:
        folder: the case that it went into.
        file: its name there.
        change: "new", "longer", "nothing new" or "kept separately".
        message: the same for people.
        note: what to know of the file, a sentence; empty if nothing.
    """

    folder: Path
    file: str
    change: str
    message: str
    note: str = ""


def merge_reviews(sources: Sequence[Path], into: Path) -> tuple[list[Merged], list[str]]:
    """Merge the reviews of `sources` into the cases of `into`.

    Cases are recognised by image, model and regions, not by name, so anonymous ones are found too.

    Args:
        sources: case folders, folders of them, and reviews that pages saved, or folders of these.
        into: your case folder, or a folder of them.

    Returns:
        What was done, and a message for each file that was not merged.

    Raises:
        InputError: a place holds no cases.
    """
    homes: dict[Identity, list[Path]] = {}
    done: list[Merged] = []
    troubles: list[str] = []

    @contextlib.contextmanager
    def noted(path: Path) -> Iterator[None]:
        try:
            with os_errors_named(path):
                yield
        except SegWithUError as error:
            troubles.append(str(error))

    for folder in case_folders([into]):
        with noted(folder):
            remove_leftovers(folder)
            homes.setdefault(_identity(folder), []).append(folder)
    places, saved = _sorted_out(sources)
    for path in saved:
        with noted(path):
            identity, lines = read_page_review(path)
            home = _home(path, homes.get(identity, []))
            _check_fits(path, lines, home)
            done.append(_merge_lines(lines, home))
    for folder in case_folders(places):
        with noted(folder):
            home = _home(folder, homes.get(_identity(folder), []))
            for path in sorted(folder.glob(LOG_PATTERN)):
                with noted(path):
                    done += _merge_log(path, home)
    return done, troubles


def _sorted_out(sources: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Tell folders of cases from reviews that pages saved.

    Raises:
        InputError: a place does not exist, or holds neither.
    """
    places: list[Path] = []
    saved: list[Path] = []
    for source in sources:
        if source.is_file():
            saved.append(source)
            continue
        inside = sorted(path for path in source.glob(f"*{ENDING}") if not path.is_dir()) if source.is_dir() else []
        saved += inside
        try:
            case_folders([source])
            places.append(source)
        except InputError as error:
            if error.code == NOT_OPENABLE or not (inside or source.is_dir()):
                raise
            if not inside:
                what = f"no case folder and no file that a page saved (*{ENDING})"
                raise InputError(f"{source} holds {what}: give the returned folder.") from error
    return places, saved


def _identity(folder: Path) -> Identity:
    case = read_case(folder)
    problem = "has no regions that a review could belong to"
    with errors.wrong_values_named(folder, "segment it again", problem=problem):
        voxels = tuple(str(channel["voxels_sha256"]) for channel in case["input"]["channels"])
        return Identity(voxels, str(case["model"]["weights_sha256"]), regions_of_case(folder, case)[1])


def _home(source: Path, folders: list[Path]) -> Path:
    """Return the case folder that a source belongs to: of several with its identity, the one of its name.

    Raises:
        InputError: there is none, or there are several.
    """
    named = [folder for folder in folders if source.is_dir() and folder.resolve().name == source.resolve().name]
    found = named if len(named) == 1 else folders
    if len(found) > 1:
        raise InputError(f"{source} fits {len(found)} of the cases equally well: merge into one of them.")
    if not found:
        raise InputError(f"No case has the image, model and regions of {source}: its reviews stay there.")
    return found[0]


def _check_fits(path: Path, lines: ParsedLog, home: Path) -> None:
    """Refuse lines that cannot be a review of these regions.

    Raises:
        InputError: they cannot.
    """
    regions, wanted = regions_of_case(home, read_case(home))
    with naming(path):
        review_of(path, lines, regions, wanted, ())


def _merge_log(path: Path, home: Path) -> list[Merged]:
    """Merge one log, and the version of the segmentation that goes with it."""
    checked_file(path.parent, path.name)
    lines = read_log(path)
    if not lines.events:
        return []
    _check_fits(path, lines, home)
    version = version_path(path.parent, path.name)
    content, note = _checked_version(version, home) if os.path.lexists(version) else (b"", "")
    outcome = _merge_lines(lines, home)
    target = version_path(home, log_path(home, lines.events[0].reviewer).name)
    if not content or (target.is_file() and content == target.read_bytes()):
        return [outcome]
    return [outcome, _put_version(content, target, outcome.change == "longer", note)]


def _merge_lines(lines: ParsedLog, home: Path) -> Merged:
    """Merge the lines of one log."""
    target, content = log_path(home, lines.events[0].reviewer), b"".join(lines.whole)
    merged = partial(Merged, home, target.name, note=_clock_note(target.name, lines))
    lock = take_log_lock(target.with_name(f"{target.name}.lock"))
    try:
        own = read_log(target) if target.exists() else ParsedLog()
        if own.events and own.events[0].reviewer != lines.events[0].reviewer:
            raise OutputError(f"{target} belongs to another reviewer with the same file name: nothing is merged.")
        if own.longer(lines) is None:
            other = _write_copy(target, "from", content)
            message = f"{home.name}: {target.name} differs from the returned log, which is kept as {other}."
            return merged("kept separately", message)
        more = len(lines.whole) - len(own.whole)
        if more <= 0:
            return merged("nothing new", f"{home.name}: {target.name} has nothing new.")
        if own.cut:  # what a crash left of a last line is never thrown away
            _write(target.with_name(f"{target.name}.damaged"), own.cut + b"\n")
        _write(target, content)
    finally:
        lock.release()
    change = "longer" if own.events else "new"
    return merged(change, f"{home.name}: {target.name} is {change}, {more} lines more.")


def _clock_note(name: str, lines: ParsedLog) -> str:
    """Return a sentence on the first line that is older than the one before it; times are in UTC, of one form."""
    times = [event.when for event in lines.events]
    back = next((number for number, (before, when) in enumerate(pairwise(times), 2) if when < before), None)
    reason = "is older than the line before it: a clock was set back, or the file was changed."
    return "" if back is None else f"Line {back} of {name} ({times[back - 1]:.40}) {reason}"


def _put_version(content: bytes, target: Path, is_longer: bool, note: str) -> Merged:
    """Write the reviewer's version; one that differs from ours replaces it only if its log continues ours."""
    merged = partial(Merged, target.parent, target.name, note=note)
    if target.exists() and not is_longer:
        other = _write_copy(target, "from", content)
        return merged("kept separately", f"{target.parent.name}: another {target.name} is kept as {other}.")
    kept = f"; ours is kept as {_write_copy(target, 'before', target.read_bytes())}" if target.exists() else ""
    _write(target, content)
    return merged("longer" if kept else "new", f"{target.parent.name}: {target.name} is new{kept}.")


def _write_copy(target: Path, word: str, content: bytes) -> str:
    """Write content next to a file under a name made of its hash, and return that name."""
    other = target.with_name(f"{target.name}.{word}-{hashlib.sha256(content).hexdigest()[:8]}")
    _write(other, content)
    return other.name


def _write(target: Path, content: bytes) -> None:
    with atomic_file(target) as work, work.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _checked_version(source: Path, home: Path) -> tuple[bytes, str]:
    """Read a returned segmentation that holds all of its voxels itself.

    Returns:
        The content of the file, and a note on it, empty if there is none.

    Raises:
        InputError: it is not an intact segmentation of this case.
    """
    from ..case.segmentation_file import check_reviewed  # SimpleITK takes its time, and most merges bring logs alone
    from ..io.volume import read_labels

    checked_file(source.parent, source.name)
    content = read_bounded(source, MAXIMUM_VERSION_BYTES, "save it again from Slicer")
    read_labels(source)
    return content, check_reviewed(source, home, read_case(home))


def read_page_review(path: Path) -> tuple[Identity, ParsedLog]:
    """Read a review that a page saved: its case, and its lines, each of them checked.

    Raises:
        InputError: it is not such a file, or a line of it does not fit.
    """
    content = read_json_object(path, _SAVE_AGAIN, MAXIMUM_BYTES)
    if content.get("format") != PAGE_FORMAT:
        raise InputError(f"{path} is not a review that a page saved: {_SAVE_AGAIN}.")
    if content.get("format_version") != PAGE_VERSION:
        version = f"{content.get('format_version')!r:.20} instead of {PAGE_VERSION}"
        raise InputError(f"{path} has format version {version}: {_SAVE_AGAIN}.", errors.OTHER_VERSION)
    try:
        found: PageReview = typed(PageReview, content)
        name = clean_reviewer_name(found.reviewer)
        data = b"".join(to_line(_page_event(line, name)) for line in found.lines)
    except (ValueError, UsageError) as error:
        raise InputError(f"{path} is damaged ({error!s:.200}): {_SAVE_AGAIN}.") from error
    return found.identity, read_lines(data, str(path))


def _page_event(line: Any, reviewer: str) -> Event:
    event = read_event(line)
    if datetime.fromisoformat(event.when).tzinfo is None or event.reviewer != reviewer:
        raise ValueError("a line is of another reviewer, or has no time zone")
    return event
