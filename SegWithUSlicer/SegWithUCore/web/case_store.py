"""The cases that a server shows: stable numbers instead of paths, the worklist of a reviewer, the volumes in use."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..case.case_file import read_description
from ..case.case_folders import case_folders
from ..regions.region import ORDERS
from ..review.columns import WORST_COLUMN, Column, Table, columns_of
from ..review.reviewer import clean_reviewer_name
from ..review.verdicts import Verdict
from ..review.worklist import PACE, WorklistEntry, counts_text, read_for_worklist, worklist_of
from ..review.worklist_files import read_listed
from ..util.errors import InputError
from ..version import __version__
from .case_page import PageCase
from .case_volumes import read_volumes

# Cases in memory: the shown one, the previous one, and one of a second reviewer.
KEPT_CASES = 3
# Limit of all cases in memory but the last one: a large CT takes about 0.8 GB.
KEPT_VOXELS = 1 << 27


class CaseStore:
    """Cases by their numbers.

    Args:
        place: a folder of cases, a case folder, or a `worklist.json`.
        image_folders: where images lie that are neither in their case folders nor where this user segmented them.

    Raises:
        InputError: there are no cases, or the worklist leads out of its folder.
    """

    def __init__(self, place: Path, image_folders: Sequence[Path] = ()) -> None:
        self.place, self.image_folders = place, image_folders
        self._ids: dict[str, str] = {}
        self._folders: dict[str, Path] = {}
        self._pages: dict[str, PageCase] = {}
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self.title = (place.parent if place.is_file() else place).resolve().name
        self.refresh()

    def refresh(self) -> None:
        """Look which cases there are now; those that are known keep their numbers."""
        if self.place.is_file():
            found = [entry.folder for entry in read_listed(self.place)]
        else:
            found = case_folders([self.place])
        with self._lock:
            for folder in found:
                key = os.path.realpath(folder)
                if key not in self._ids:
                    self._ids[key] = str(len(self._ids) + 1)
                    self._folders[self._ids[key]] = folder

    @property
    def folders(self) -> list[Path]:
        """Of all cases."""
        return list(self._folders.values())

    def page(self, id_: str) -> PageCase:
        """Return a case with its volumes, which are read when it is first asked for, or has changed.

        Raises:
            KeyError: no case has this number.
            InputError: it is damaged.
        """
        folder = _no_link(self._folders[id_])
        with self._reading:
            description = read_description(folder)
            page = self._pages.pop(id_, None)
            if page is None or page.volumes.description.raw != description.raw:
                page = PageCase(read_volumes(folder, description, self.image_folders))
            self._pages[id_] = page
            voxels = sum(each.volumes.grid.voxels for each in self._pages.values())
            while len(self._pages) > 1 and (len(self._pages) > KEPT_CASES or voxels > KEPT_VOXELS):
                voxels -= self._pages.pop(next(iter(self._pages))).volumes.grid.voxels
            return page

    def compare(self, ids: Sequence[str]) -> dict[str, Any]:
        """Compare scans of one patient with the first of them by name: a table of texts.

        Raises:
            KeyError: no case has one of these numbers.
            InputError: as `changes.compare`.
        """
        from ..review.changes import HEADER, compare

        found = compare(sorted((_no_link(self._folders[id_]) for id_ in ids), key=lambda folder: folder.name))
        rows = [[each.structure, each.scan, *each.cells()] for each in found.changes]
        title = f"Changes since {found.scans[0]}"
        return {"title": title, "header": HEADER, "rows": rows, "warnings": found.warnings, "basis": found.basis}

    def _entry(self, folder: Path, reviewer: str) -> WorklistEntry:
        try:
            return read_for_worklist(_no_link(folder), reviewer=reviewer)
        except InputError as error:
            return WorklistEntry(folder.name, folder, trouble=str(error))

    def worklist(self, reviewer: str) -> dict[str, Any]:
        """List all cases as the page shows them to a reviewer, worst first.

        Args:
            reviewer: name as entered; "" for nobody yet.
        """
        self.refresh()
        ids = {folder: id_ for id_, folder in self._folders.items()}
        name = clean_reviewer_name(reviewer) if reviewer.strip() else ""
        worklist = worklist_of([self._entry(folder, name) for folder in ids])
        columns = columns_of(Table.PAGE, worklist.entries)
        return {
            **settings_json(),
            "columns": [column.to_json() for column in columns],
            "title": self.title,
            "reviewer": name,
            "warnings": worklist.warnings,
            "order": worklist.order,
            "summary": counts_text(worklist.entries, name),
            "cases": [{"id": ids[entry.folder], **_row(entry, name, columns)} for entry in worklist.entries],
        }


def _no_link(folder: Path) -> Path:
    """Return the folder of a case; a folder from elsewhere must not show another one of this user.

    Raises:
        InputError: it is a link.
    """
    if folder.is_symlink():
        raise InputError(f"{folder} is a link to {os.path.realpath(folder)}: give that folder itself.")
    return folder


def _row(entry: WorklistEntry, reviewer: str, columns: Sequence[Column]) -> dict[str, Any]:
    """Describe a case as the page lists it to a reviewer."""
    return {
        "name": entry.name,
        "cells": [[column.shown(entry, reviewer), column.key(entry, reviewer)] for column in columns],
        "is_flagged": entry.is_flagged,
        "is_open": entry.is_open_for(reviewer),
        "can_open": not entry.trouble,
        "searched": entry.searched,
        "about": entry.about,
    }


def settings_json() -> dict[str, Any]:
    """Return what the page needs to know besides cases."""
    return {
        "version": __version__,
        "pace": PACE,
        "orders": list(ORDERS),
        "verdicts": [verdict.to_json() for verdict in Verdict],
        "columns": [column.to_json() for column in columns_of(Table.PAGE)],
        "sorted_by": WORST_COLUMN,
    }
