"""Merge reviews that come back: logs of the same regions are joined, and nothing of either side is lost."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..case.case_file import DAMAGED, read_case
from ..case.case_folders import case_folders, checked_file
from ..case.region_files import REGIONS_FILE, check_region_files, parse_regions, regions_hash, regions_text
from ..util.atomic_files import atomic_file, sweep_leftovers
from ..util.errors import OTHER_VERSION, InputError, OutputError, SegWithUError, UsageError, naming
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
MAXIMUM_LINES = 100_000
LONGEST_NAME = 200
_SAVE_AGAIN = "let the reviewer save the verdicts again"
MAXIMUM_VERSION_BYTES = 1 << 30
"""Of a segmentation that came back, which is compressed."""


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
    """What became of one file that came back.

    Attributes:
        folder: the case that it went into.
        file: its name there.
        change: "new", "longer", "nothing new" or "kept beside".
        message: the same for people.
        note: what to know of the file, a sentence; empty if nothing.
    """

    folder: Path
    file: str
    change: str
    message: str
    note: str = ""


def merge_reviews(sources: Sequence[Path], into: Path | Sequence[Path]) -> tuple[list[Merged], list[str]]:
    """Merge the reviews of `sources` into the cases of `into`.

    Cases are known by image, model and regions, not by name: so anonymous ones find home.

    Args:
        sources: case folders, folders of them, and reviews that pages saved, or folders of these.
        into: your case folders, or folders of them.

    Returns:
        What was done, and why the rest was not, one sentence each.

    Raises:
        InputError: a place holds no cases.
    """
    homes: dict[Identity, list[Path]] = {}
    done: list[Merged] = []
    troubles: list[str] = []

    def attempt(path: Path, merge: Callable[[], list[Merged]]) -> None:
        try:
            done.extend(merge())
        except SegWithUError as error:
            troubles.append(str(error))
        except OSError as error:
            reason = error.strerror or str(error)
            troubles.append(f"Cannot merge {path}: {reason}; make the case folder writable, or free space.")

    def known(folder: Path) -> list[Merged]:
        sweep_leftovers(folder)
        homes.setdefault(_identity(folder), []).append(folder)
        return []

    def came_back(folder: Path) -> list[Merged]:
        home = _home(folder, homes.get(_identity(folder), []))
        for path in sorted(folder.glob(LOG_PATTERN)):
            attempt(path, partial(_merge_log, path, home))
        return []

    for folder in case_folders([into] if isinstance(into, Path) else list(into)):
        attempt(folder, partial(known, folder))
    places, saved = _sorted_out(sources)
    for path in saved:
        attempt(path, partial(_merge_page_review, path, homes))
    for folder in case_folders(places):
        attempt(folder, partial(came_back, folder))
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
                raise InputError(f"{source} holds {what}: give the folder that came back.") from error
    return places, saved


def _identity(folder: Path) -> Identity:
    case = read_case(folder)
    checked_file(folder, REGIONS_FILE)
    try:
        check_region_files(folder, case, labels=False)
        voxels = tuple(str(channel["voxels_sha256"]) for channel in case["input"]["channels"])
        return Identity(voxels, str(case["model"]["weights_sha256"]), regions_hash(regions_text(folder)))
    except DAMAGED as error:
        raise InputError(f"{folder} has no regions that a review could belong to ({error!r}).") from error


def _home(source: Path, folders: list[Path]) -> Path:
    """Return the case folder that a source belongs to: of several with its identity, the one of its name.

    Raises:
        InputError: there is none, or no single one.
    """
    named = [folder for folder in folders if source.is_dir() and folder.resolve().name == source.resolve().name]
    found = named if len(named) == 1 else folders
    if len(found) > 1:
        raise InputError(f"{source} fits {len(found)} of the cases equally well: merge into one of them.")
    if not found:
        raise InputError(f"No case has the image, model and regions of {source}: its reviews are left there.")
    return found[0]


def _check_fits(path: Path, lines: ParsedLog, home: Path) -> None:
    """Refuse lines that no reviewer of these regions can have said, as somebody may write into a file.

    Raises:
        InputError: they are such.
    """
    text = regions_text(home)
    with naming(path):
        review_of(path, lines, parse_regions(text, str(home / REGIONS_FILE)), regions_hash(text), 0.0)


def _merge_page_review(path: Path, homes: Mapping[Identity, list[Path]]) -> list[Merged]:
    """Merge a review that a page saved."""
    identity, lines = read_page_review(path)
    home = _home(path, homes.get(identity, []))
    _check_fits(path, lines, home)
    return [_merge_lines(lines, home)]


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
            raise OutputError(f"{target} is the review of another person with the same file name: nothing is merged.")
        if own.longer(lines) is None:
            beside = _write_beside(target, "from", content)
            words = f"{home.name}: {target.name} went different ways: what came back is kept as {beside}."
            return merged("kept beside", words)
        more = len(lines.whole) - len(own.whole)
        if more <= 0:
            return merged("nothing new", f"{home.name}: {target.name} brings nothing new.")
        if own.cut:  # what a crash left of a last line is never thrown away
            _write(target.with_name(f"{target.name}.damaged"), own.cut + b"\n")
        _write(target, content)
    finally:
        lock.release()
    change = "longer" if own.events else "new"
    return merged(change, f"{home.name}: {target.name} is {change}, {more} lines more.")


def _clock_note(name: str, lines: ParsedLog) -> str:
    """Return a sentence on the first line that is older than the one before it; empty if there is none."""
    times = [_time(event.when) for event in lines.events]
    back = next((number for number, (before, when) in enumerate(pairwise(times), 2) if when < before), None)
    words = "is older than the line before it: a clock was set back, or the file was changed."
    return "" if back is None else f"Line {back} of {name} ({lines.events[back - 1].when:.40}) {words}"


def _time(text: str) -> datetime:
    """Parse a time of a log; the first of all where it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = datetime.min
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _put_version(content: bytes, target: Path, goes_on: bool, note: str) -> Merged:
    """Put the reviewer's version beside its log; one that differs from ours replaces it only if its log goes on."""
    merged = partial(Merged, target.parent, target.name, note=note)
    if target.exists() and not goes_on:
        beside = _write_beside(target, "from", content)
        words = f"{target.parent.name}: another {target.name} is kept as {beside}."
        return merged("kept beside", words)
    kept = f"; ours is kept as {_write_beside(target, 'before', target.read_bytes())}" if target.exists() else ""
    _write(target, content)
    return merged("longer" if kept else "new", f"{target.parent.name}: {target.name} is new{kept}.")


def _write_beside(target: Path, word: str, content: bytes) -> str:
    """Write content beside a file under a name made of its hash, and return that name."""
    beside = target.with_name(f"{target.name}.{word}-{hashlib.sha256(content).hexdigest()[:8]}")
    _write(beside, content)
    return beside.name


def _write(target: Path, content: bytes) -> None:
    with atomic_file(target) as work, work.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _checked_version(source: Path, home: Path) -> tuple[bytes, str]:
    """Read a segmentation that came back, if it holds all of its voxels: none of them lies in another file.

    Returns:
        The content of the file, and a note on it, empty if there is nothing to know.

    Raises:
        InputError: it is no whole segmentation, or not of this case.
    """
    from ..case.segmentation_file import check_reviewed  # SimpleITK takes its time, and most merges bring logs alone
    from ..io.volume import read_labels

    checked_file(source.parent, source.name)
    content = read_bounded(source, MAXIMUM_VERSION_BYTES, "save it again from Slicer")
    read_labels(source)
    return content, check_reviewed(source, home, read_case(home))


def read_page_review(path: Path) -> tuple[Identity, ParsedLog]:
    """Read a review that a page saved, with care, since anybody may have written it: its case, and its lines.

    Raises:
        InputError: it is none, or a line of it does not fit.
    """
    content = read_json_object(path, _SAVE_AGAIN, MAXIMUM_BYTES)
    if content.get("format") != PAGE_FORMAT:
        raise InputError(f"{path} is no review that a page saved: {_SAVE_AGAIN}.")
    if content.get("format_version") != PAGE_VERSION:
        words = f"{path} has format version {content.get('format_version')!r:.20}, this version reads {PAGE_VERSION}"
        raise InputError(f"{words}: {_SAVE_AGAIN}.", OTHER_VERSION)
    try:
        found: PageReview = typed(PageReview, content)
        name = clean_reviewer_name(found.reviewer)
        if len(name) > LONGEST_NAME or len(found.lines) > MAXIMUM_LINES:
            raise ValueError("the reviewer's name is too long, or there are too many lines")
        data = b"".join(to_line(_page_event(line, name)) for line in found.lines)
    except (ValueError, UsageError) as error:
        raise InputError(f"{path} is damaged ({error!s:.200}): {_SAVE_AGAIN}.") from error
    return found.identity, read_lines(data, str(path))


def _page_event(line: Any, reviewer: str) -> Event:
    event = read_event(line)
    if datetime.fromisoformat(event.when).tzinfo is None or event.reviewer != reviewer:
        raise ValueError("a line is of another reviewer, or has no time zone")
    return event
