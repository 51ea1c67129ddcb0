"""Rows of the list of cases: from the open scene, or from case folders. Nothing is loaded or removed."""

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer

from SegWithUCore.case.case_file import CASE_FILE
from SegWithUCore.case.case_folders import case_folders
from SegWithUCore.case.region_files import REGIONS_FILE
from SegWithUCore.review.flags import FlagRules
from SegWithUCore.review.reviews import LOG_PATTERN, CaseReviews, Elsewhere, review_of
from SegWithUCore.review.session import newest_lines
from SegWithUCore.review.worklist import (
    SECONDS_PER_REGION,
    CaseReading,
    WorklistEntry,
    read_for_worklist,
    reading_of,
    unreadable,
)
from SegWithUCore.review.worklist_files import read_listed
from SegWithUCore.util.errors import InputError

from ..i18n import _
from ..review.opening import reviewed_case
from ..review.store import is_same_case, kept_log, kept_log_names, log_nodes, review_folder
from ..scene.case_nodes import CaseNodes, find_cases
from .case_list import CaseItem, Stamp
from .case_switch import holds_logs

if TYPE_CHECKING:
    from ..scene.case_nodes import CaseNodes


class SceneRows:
    """One row per result in the scene, named as in the overlay section.

    A row's reviews are those that the scene carries and those that lie where its review lies on the disk; of two copies
    of a log the longer one counts.

    Args:
        root: the folder of Slicer's user settings.

    Raises:
        InputError: the scene holds no result.
    """

    is_dynamic = True
    is_sorted = False
    rules: FlagRules | None = None
    seconds_per_region = SECONDS_PER_REGION

    def __init__(self, root: Path) -> None:
        self._root = root
        self.title = _("the open scene")
        self.empty_text = _(
            "The open scene holds no result: segment a volume, or load a scene that was saved with one."
        )
        if not find_cases(slicer.mrmlScene):
            raise InputError(self.empty_text)

    def rows(self, known: Sequence[CaseItem]) -> list[CaseItem]:
        """Return the results that the scene holds now."""
        runs = {nodes.hub: nodes for nodes in find_cases(slicer.mrmlScene)}
        old = [item for item in known if item.key in runs]
        listed = {item.key for item in old}
        new = [
            CaseItem(WorklistEntry(nodes.label, None), hub, nodes) for hub, nodes in runs.items() if hub not in listed
        ]
        return [*old, *new]

    def key_of(self, nodes: CaseNodes) -> Hashable:
        """Return the ID of the node that holds the result together."""
        return nodes.hub

    def stamp(self, item: CaseItem) -> Stamp:
        """Return a stamp of the review's files and of the result's nodes."""
        nodes = _nodes(item)
        parts = [nodes.hub, nodes.regions_text, *log_nodes(nodes)]
        parts_stamp = [(part.GetID() or "", 0, part.GetMTime()) for part in parts if part is not None]
        return (*parts_stamp, *files_stamp(item.folder, item.elsewhere))

    def read(self, item: CaseItem, rules: FlagRules | None) -> CaseReading:
        """Read the result from the scene, and its reviews from scene and disk.

        Raises:
            InputError: a part of it was deleted or damaged.
        """
        nodes = _nodes(item)
        item.elsewhere = review_folder(nodes, self._root)
        case = {**nodes.case.raw, "name": nodes.label}
        try:
            return reading_of(_case_folder(nodes), case, _reviews(nodes, item.elsewhere), rules)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = _("{result} is damaged ({error}): segment it again.")
            raise InputError(text.format(result=nodes.label, error=repr(error))) from error

    def unreadable(self, item: CaseItem, error: InputError) -> WorklistEntry:
        """Return the row of a result that cannot be read."""
        return WorklistEntry(_nodes(item).label, None, trouble=str(error))


def _case_folder(nodes: CaseNodes) -> Path | None:
    """Return the folder that holds the whole result with its reviews; None if only the scene does."""
    folder = nodes.case_folder
    is_whole = folder is not None and is_same_case(folder, nodes) and holds_logs(folder, nodes)
    return folder if is_whole else None


def _reviews(nodes: CaseNodes, folder: Path) -> CaseReviews:
    """Return all reviews of a result.

    Args:
        folder: where its review is on disk.
    """
    if nodes.case.raw.get("regions") is None:
        return CaseReviews((), (), ())
    if nodes.regions_text is None:
        raise InputError(_("The regions of {result} were deleted: segment it again.").format(result=nodes.label))
    reviewed = reviewed_case(nodes)
    regions, wanted = tuple(reviewed.regions), reviewed.regions_sha256
    reviews, notes = [], []
    for name in sorted({*kept_log_names(nodes), *(path.name for path in folder.glob(LOG_PATTERN))}):
        lines = newest_lines(folder / name, wanted, kept_log(nodes, name))
        if lines is None:
            text = _("{file} is damaged or about other regions of this case: its verdicts are not counted.")
            notes.append(text.format(file=name))
        else:
            reviews.append(review_of(folder / name, lines, regions, wanted, reviewed.expected_wrong_mm3))
    return CaseReviews(regions, tuple(reviews), tuple(notes))


def _nodes(item: CaseItem) -> CaseNodes:
    assert item.nodes is not None  # every row of this source has them
    return item.nodes


class FolderRows:
    """One row per case folder.

    Args:
        path: a `worklist.json`, a folder of case folders, or a case folder.
        also: returns another folder that may hold reviews of a case.

    Raises:
        InputError: the folder holds no cases, or the file is no worklist.
    """

    empty_text = ""
    is_dynamic = False

    def __init__(self, path: Path, also: Elsewhere | None = None) -> None:
        self.title = str(path)
        self.rules: FlagRules | None = None
        self.seconds_per_region = SECONDS_PER_REGION
        self.is_sorted = path.is_file()
        self._also = also
        if self.is_sorted:
            listed = read_listed(path)
            entries: Sequence[WorklistEntry] = listed.entries
            self.rules, self.seconds_per_region = listed.rules, listed.seconds_per_region
        else:
            entries = [WorklistEntry(folder.resolve().name, folder) for folder in case_folders([path])]
        self._entries = entries

    def rows(self, known: Sequence[CaseItem]) -> list[CaseItem]:
        """Return the rows as they were found when the list was opened."""
        return list(known) or [CaseItem(entry, _key(_folder(entry))) for entry in self._entries]

    def key_of(self, nodes: "CaseNodes") -> Hashable:
        """Return the folder that a run in the scene was loaded from."""
        return None if nodes.case_folder is None else _key(nodes.case_folder)

    def stamp(self, item: CaseItem) -> Stamp:
        """Return a stamp of the row's files."""
        return files_stamp(item.folder, item.elsewhere)

    def read(self, item: CaseItem, rules: FlagRules | None) -> CaseReading:
        """Read the case folder.

        Raises:
            InputError: it is none, or damaged.
        """

        def also(folder: Path, case: Mapping[str, Any], regions_sha256: str) -> Path | None:
            item.elsewhere = self._also(folder, case, regions_sha256) if self._also is not None else None
            return item.elsewhere

        return read_for_worklist(_folder(item.entry), rules, also)

    def unreadable(self, item: CaseItem, error: InputError) -> WorklistEntry:
        """Return the row of a folder that cannot be read."""
        return unreadable(_folder(item.entry), error)


def files_stamp(*folders: Path | None) -> Stamp:
    """List the files that a row depends on, in case and review folders, with size and time of change."""
    found = []
    for folder in folders:
        try:
            entries = [] if folder is None else list(os.scandir(folder))
        except OSError:  # reported when the case is read
            continue
        for entry in entries:
            if entry.name in (CASE_FILE, REGIONS_FILE) or Path(entry.name).match(LOG_PATTERN):
                status = entry.stat()
                found.append((entry.path, status.st_size, status.st_mtime_ns))
    return tuple(sorted(found))


def _key(folder: Path) -> str:
    return os.path.realpath(folder)


def _folder(entry: WorklistEntry) -> Path:
    assert entry.folder is not None  # every row of this source has one
    return entry.folder
