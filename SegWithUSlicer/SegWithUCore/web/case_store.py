"""The cases that a server shows: stable numbers instead of paths, the worklist of a reviewer, the volumes in use."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..case.case_file import read_description
from ..case.case_folders import case_folders
from ..regions.region import ORDERS
from ..review.flags import FlagRules, no_flag_sentence
from ..review.log_format import SPOKEN
from ..review.reviewer import clean_reviewer_name
from ..review.worklist import Worklist, WorklistEntry, read_for_worklist, worklist_of
from ..review.worklist_files import read_listed, row_json
from ..util.errors import InputError
from ..version import __version__
from .case_page import PageCase
from .case_volumes import read_volumes

KEPT_CASES = 3
"""Whose volumes stay in memory: the one on view, the one before, and one of a second reviewer."""
KEPT_VOXELS = 1 << 27
"""Of all cases in memory but the last one: a large CT takes about 0.8 GB here."""
KEYS = ("Ctrl+Alt+1", "Ctrl+Alt+2", "Ctrl+Alt+3", "Ctrl+Alt+4")
"""Of the verdicts, as in Slicer."""


class CaseStore:
    """Cases by their numbers.

    Args:
        place: a folder of cases, a case folder, or a `worklist.json`.
        rules: of flags; None for those of each case's model.
        image_folders: where images lie that are neither in their case folders nor where this user segmented them.

    Raises:
        InputError: there are no cases, or the worklist leads out of its folder.
    """

    def __init__(self, place: Path, rules: FlagRules | None = None, image_folders: Sequence[Path] = ()) -> None:
        self.place, self.rules, self.image_folders = place, rules, image_folders
        self._ids: dict[Path, str] = {}
        self._folders: dict[str, Path] = {}
        self._pages: OrderedDict[str, PageCase] = OrderedDict()
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}
        self.title = (place.parent if place.is_file() else place).resolve().name
        self.refresh()

    def refresh(self) -> None:
        """Look which cases there are now; those that are known keep their numbers."""
        if self.place.is_file():
            listed = read_listed(self.place)
            self.rules = self.rules or listed.rules
            found = [entry.folder for entry in listed.entries]
        else:
            found = case_folders([self.place])
        with self._lock:
            for folder in found:
                key = folder.resolve()
                if key not in self._ids:
                    self._ids[key] = str(len(self._ids) + 1)
                    self._folders[self._ids[key]] = folder
                    self._reading[self._ids[key]] = threading.Lock()

    @property
    def folders(self) -> list[Path]:
        """Of all cases."""
        return list(self._folders.values())

    @property
    def ids(self) -> dict[str, str]:
        """The number of each case by its folder."""
        return {str(folder): id_ for folder, id_ in self._ids.items()}

    def folder(self, id_: str) -> Path:
        """Return the folder of a case.

        Raises:
            KeyError: no case has this number.
        """
        return self._folders[id_]

    def page(self, id_: str) -> PageCase:
        """Return a case with its volumes, which are read when it is first asked for, or has changed.

        Raises:
            KeyError: no case has this number.
            InputError: it is damaged.
        """
        folder = _no_link(self._folders[id_])
        with self._reading[id_]:
            description = read_description(folder)
            with self._lock:
                kept = self._pages.get(id_)
                if kept is not None and kept.volumes.description.raw == description.raw:
                    self._pages.move_to_end(id_)
                    return kept
            page = PageCase(read_volumes(folder, description, self.image_folders), self.rules)
            with self._lock:
                self._pages[id_] = page
                self._pages.move_to_end(id_)
                while len(self._pages) > 1 and (len(self._pages) > KEPT_CASES or self._voxels > KEPT_VOXELS):
                    self._pages.popitem(last=False)
            return page

    @property
    def _voxels(self) -> int:
        return sum(page.volumes.grid.voxels for page in self._pages.values())

    def _entry(self, folder: Path, reviewer: str) -> WorklistEntry:
        try:
            return read_for_worklist(_no_link(folder), self.rules, reviewer=reviewer)
        except InputError as error:
            return WorklistEntry(folder.name, folder, trouble=str(error))

    def worklist(self, reviewer: str) -> dict[str, Any]:
        """List all cases as the page shows them to a reviewer, best benefit first.

        Args:
            reviewer: name as entered; "" for nobody yet.
        """
        self.refresh()
        ids = {folder: id_ for id_, folder in self._folders.items()}
        name = clean_reviewer_name(reviewer) if reviewer.strip() else ""
        worklist = worklist_of([self._entry(folder, name) for folder in ids])
        return {
            **settings_json(worklist),
            "title": self.title,
            "reviewer": name,
            "warnings": worklist.warnings,
            "cases": [
                {
                    **row_json(entry),
                    "id": ids[entry.folder],
                    "name": entry.name,
                    "reviews": [{**asdict(one), "own": one.reviewer == name} for one in entry.reviews],
                    "no_flag": no_flag_sentence(entry.triage.rules_active),
                    "sentences": entry.triage.sentences,
                }
                for entry in worklist.entries
            ],
        }


def _no_link(folder: Path) -> Path:
    """Return the folder of a case; a folder from elsewhere must not show another one of this user.

    Raises:
        InputError: it is a link.
    """
    if folder.is_symlink():
        raise InputError(f"{folder} is a link to {folder.resolve()}: give that folder itself.")
    return folder


def settings_json(worklist: Worklist) -> dict[str, Any]:
    """Return what the page needs to know besides cases."""
    titles = [f"{verdict.value[:1].upper()}{verdict.value[1:]}" for verdict in SPOKEN]
    return {
        "version": __version__,
        "pace": worklist.pace,
        "orders": list(ORDERS),
        "verdicts": [
            {"value": verdict.value, "title": title, "key": key}
            for verdict, title, key in zip(SPOKEN, titles, KEYS, strict=True)
        ],
    }
