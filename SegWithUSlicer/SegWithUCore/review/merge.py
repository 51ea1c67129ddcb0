"""Merge reviews that come back: logs of the same regions are joined, and nothing of either side is lost."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..case.case_file import DAMAGED, read_case
from ..case.case_folders import case_folders, checked_file
from ..case.region_files import REGIONS_FILE, check_region_files, parse_regions, regions_hash, regions_text
from ..util.atomic_files import atomic_file, sweep_leftovers
from ..util.errors import OTHER_VERSION, InputError, OutputError, SegWithUError, naming
from ..util.folder_entries import NOT_OPENABLE
from ..util.input_files import read_bounded
from ..util.strict_json import read_json_object
from .log import take_log_lock
from .log_format import MAXIMUM_BYTES, Event, Opened, ParsedLog, merged, read_action, read_lines, read_log, to_line
from .reviewer import clean_reviewer_name, log_path, parsed_time, unchanged_copy, version_path
from .reviews import LOG_PATTERN, review_of

PAGE_FORMAT = "segwithu-page-review"
PAGE_VERSION = 1
ENDING = ".segwithu.json"
MAXIMUM_LINES = 100_000
LONGEST_NAME = 200
_SAVE_AGAIN = "let the reviewer save the verdicts again"
Identity = tuple[tuple[str, ...], str, str]
"""Of a case, by which its reviews know it: hashes of voxels, weights and regions."""
MAXIMUM_VERSION_BYTES = 1 << 30
"""Of a segmentation that came back, which is compressed."""


@dataclass(frozen=True)
class Merged:
    """What became of one file that came back.

    Attributes:
        folder: the case that it went into.
        file: its name.
        change: "new", "longer", "nothing new", "kept beside" or "own copy".
        sentence: the same for people.
        note: what to know of the file, a sentence; empty if nothing.
    """

    folder: Path
    file: str
    change: str
    sentence: str
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
    folders = [into] if isinstance(into, Path) else list(into)
    named = str(folders[0]) if len(folders) == 1 else f"any of the {len(folders)} places"
    homes: dict[Identity, list[Path]] = {}
    done: list[Merged] = []
    troubles: list[str] = []
    for folder in case_folders(folders):
        sweep_leftovers(folder)
        try:
            homes.setdefault(_identity(folder), []).append(folder)
        except InputError as error:
            troubles.append(str(error))

    def attempt(path: Path, merge: Callable[[], list[Merged]]) -> None:
        try:
            done.extend(merge())
        except SegWithUError as error:
            troubles.append(str(error))
        except OSError as error:
            reason = error.strerror or str(error)
            troubles.append(f"Cannot merge {path}: {reason}; make the case folder writable, or free space.")

    places, saved = _sorted_out(sources)
    for path in saved:
        attempt(path, partial(_merge_page_review, path, homes, named))
    for folder in case_folders(places):
        try:
            home = _home(folder, homes.get(_identity(folder), []), named)
        except InputError as error:
            troubles.append(str(error))
            continue
        for path in sorted(folder.glob(LOG_PATTERN)):
            attempt(path, partial(_merge_log, path, home))
    return done, troubles


def _sorted_out(sources: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Tell folders of cases from reviews that pages saved.

    Raises:
        InputError: a place does not exist.
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
        except InputError as error:
            if error.code == NOT_OPENABLE:
                raise
            if not inside and source.is_dir():
                what = f"no case folder and no file that a page saved (*{ENDING})"
                raise InputError(f"{source} holds {what}: give the folder that came back.") from error
            if not inside:
                raise
        else:
            places.append(source)
    return places, saved


def _identity(folder: Path) -> Identity:
    """Return what a review belongs to: voxels, weights and regions."""
    case = read_case(folder)
    checked_file(folder, REGIONS_FILE)
    try:
        check_region_files(folder, case, labels=False)
        voxels = tuple(str(channel["voxels_sha256"]) for channel in case["input"]["channels"])
        return voxels, str(case["model"]["weights_sha256"]), regions_hash(regions_text(folder))
    except DAMAGED as error:
        raise InputError(f"{folder} has no regions that a review could belong to ({error!r}).") from error


def _home(source: Path, folders: list[Path], into: str) -> Path:
    """Return the case folder that a source belongs to: of several with its identity, the one of its name.

    Raises:
        InputError: there is none, or no single one.
    """
    named = [folder for folder in folders if source.is_dir() and folder.resolve().name == source.resolve().name]
    found = named if len(named) == 1 else folders
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{source} fits {len(found)} cases of {into} equally well: merge into one of them.")
    raise InputError(f"{into} has no case with the image, model and regions of {source}: its reviews are left there.")


def _check_fits(path: Path, lines: ParsedLog, home: Path) -> None:
    """Refuse lines that no reviewer of these regions can have said, as somebody may write into a file.

    Raises:
        InputError: they are such.
    """
    text = regions_text(home)
    with naming(path):
        review_of(path, lines, parse_regions(text, str(home / REGIONS_FILE)), regions_hash(text), 0.0)


def _merge_page_review(path: Path, homes: Mapping[Identity, list[Path]], into: str) -> list[Merged]:
    """Merge a review that a page saved."""
    identity, lines = read_page_review(path)
    home = _home(path, homes.get(identity, []), into)
    _check_fits(path, lines, home)
    return [_merge_lines(path.name, lines, home)]


def _merge_log(path: Path, home: Path) -> list[Merged]:
    """Merge one log, and the version of the segmentation that goes with it."""
    checked_file(path.parent, path.name)
    lines = read_log(path)
    if not lines.events:
        return []
    _check_fits(path, lines, home)
    version = version_path(path.parent, path.name)
    content, note = b"", ""
    if os.path.lexists(version) and not unchanged_copy(lines.events):
        content, note = _checked_version(version, home)
    outcome = _merge_lines(path.name, lines, home)
    if not content:
        return [outcome]
    target = version_path(home, log_path(home, lines.events[0].reviewer).name)
    versions = _put_version(content, target, outcome)
    return [outcome, *(replace(one, note=note) for one in versions)]


def _merge_lines(name: str, lines: ParsedLog, home: Path) -> Merged:
    """Merge the lines of one log; `name` is that of the file in which they came."""
    if unchanged_copy(lines.events):
        return Merged(home, name, "own copy", f"{name} is the anonymous copy that was sent: left out.")
    target = log_path(home, lines.events[0].reviewer)
    lock = take_log_lock(target.with_name(f"{target.name}.lock"))
    try:
        merged_log = _put_log(lines, target)
    finally:
        lock.release()
    return replace(merged_log, note=_clock_note(name, lines))


def _clock_note(name: str, lines: ParsedLog) -> str:
    """Return a sentence on the first line that is older than the one before it; empty if there is none."""
    times = [parsed_time(event.when) for event in lines.events]
    back = next((number for number, (before, when) in enumerate(pairwise(times), 2) if when < before), None)
    words = "is older than the line before it: a clock was set back, or the file was changed."
    return "" if back is None else f"Line {back} of {name} ({lines.events[back - 1].when:.40}) {words}"


def _put_log(lines: ParsedLog, target: Path) -> Merged:
    content, home = b"".join(lines.whole), target.parent
    if not target.exists():
        _write(target, content)
        return Merged(home, target.name, "new", f"{home.name}: {target.name} is new, {len(lines.whole)} lines.")
    own = read_log(target)
    if own.events and own.events[0].reviewer != lines.events[0].reviewer:
        raise OutputError(f"{target} is the review of another person with the same file name: nothing is merged.")
    merge = merged(own, content)
    if merge.other:
        beside = target.with_name(f"{target.name}.from-{hashlib.sha256(content).hexdigest()[:8]}")
        if not beside.exists():
            _write(beside, content)
        words = f"{home.name}: {target.name} went different ways: what came back is kept as {beside.name}."
        return Merged(home, target.name, "kept beside", words)
    more = len(merge.kept.whole) - len(own.whole)
    if more <= 0:
        return Merged(home, target.name, "nothing new", f"{home.name}: {target.name} brings nothing new.")
    if own.cut:  # what a crash left of a last line is never thrown away
        _write(target.with_name(f"{target.name}.damaged"), own.cut + b"\n")
    _write(target, content)
    return Merged(home, target.name, "longer", f"{home.name}: {target.name} goes on, {more} lines more.")


def _put_version(content: bytes, target: Path, log: Merged) -> list[Merged]:
    """Put the reviewer's version beside its log; one that differs from ours replaces it only if its log goes on."""
    home = target.parent
    if target.is_file() and content == target.read_bytes():
        return []
    mark = hashlib.sha256(content).hexdigest()[:8]
    if not target.exists():
        _write(target, content)
        return [Merged(home, target.name, "new", f"{home.name}: {target.name} is new.")]
    if log.change != "longer":
        beside = target.with_name(f"{target.name}.from-{mark}")
        _write(beside, content)
        return [
            Merged(home, target.name, "kept beside", f"{home.name}: another {target.name} is kept as {beside.name}.")
        ]
    older = target.with_name(f"{target.name}.before-{mark}")
    _write(older, target.read_bytes())
    _write(target, content)
    return [Merged(home, target.name, "longer", f"{home.name}: {target.name} is newer; ours is kept as {older.name}.")]


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
        version = content.get("format_version")
        words = f"{path} has format version {version!r:.20}, this version reads {PAGE_VERSION}: {_SAVE_AGAIN}."
        raise InputError(words, OTHER_VERSION)
    try:
        given, reviewer, lines = content["identity"], content["reviewer"], content["lines"]
        voxels, weights, regions = (given[name] for name in ("voxels_sha256", "weights_sha256", "regions_sha256"))
        if not isinstance(voxels, list) or not all(isinstance(one, str) for one in (*voxels, weights, regions)):
            raise ValueError("no hashes of a case")
        if not isinstance(reviewer, str) or not 0 < len(reviewer.strip()) <= LONGEST_NAME:
            raise ValueError("it names no reviewer")
        if not isinstance(lines, list):
            raise ValueError("it has no lines")
        if len(lines) > MAXIMUM_LINES:
            raise ValueError(f"{len(lines)} lines, more than {MAXIMUM_LINES}")
        name = clean_reviewer_name(reviewer)
        data = b"".join(to_line(_event_of(number, line, name)) for number, line in enumerate(lines, 1))
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error!s:.200}): {_SAVE_AGAIN}.") from error
    parsed = read_lines(data, str(path))
    if not parsed.events or not isinstance(parsed.events[0].action, Opened):
        raise InputError(f"{path} does not begin with the opening of a review: {_SAVE_AGAIN}.")
    if parsed.regions_sha256 != regions:
        raise InputError(f"{path} is about other regions than it says: {_SAVE_AGAIN}.")
    return (tuple(voxels), weights, regions), parsed


def _event_of(number: int, line: Any, reviewer: str) -> Event:
    if not isinstance(line, dict):
        raise ValueError(f"line {number} is no object")
    try:
        when, action = str(line["when"]), read_action(line)
        time = datetime.fromisoformat(when)
    except (LookupError, ValueError) as error:
        raise ValueError(f"line {number}: {error!s:.150}") from error
    if time.tzinfo is None or line.get("reviewer") != reviewer:
        raise ValueError(f"line {number} is of another reviewer, or has no time zone")
    return Event(when, reviewer, action)
