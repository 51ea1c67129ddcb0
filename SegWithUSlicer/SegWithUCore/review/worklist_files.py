"""Write and read `worklist.csv` and `worklist.json`, which name case folders relative to themselves; `volumes.csv`."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..util.atomic_files import write_text
from ..util.csv_files import csv_text
from ..util.errors import InputError, wrong_values_named
from ..util.paths import has_links, is_inside, is_own, path_mac, stored_path
from ..util.strict_json import read_json_object, to_json
from .columns import Table, columns_of
from .signing import COLUMNS
from .worklist import PACE, SORTS, Worklist, WorklistEntry

WORKLIST_CSV, WORKLIST_JSON, VOLUMES_CSV = "worklist.csv", "worklist.json", "volumes.csv"
FORMAT = "segwithu-worklist"
_WANTED = "give one that segwithu worklist wrote"


def write_worklist(worklist: Worklist, folder: Path, anonymous: bool = False) -> None:
    """Write the three files, each whole or not at all.

    Args:
        anonymous: leave out when it was made.

    Raises:
        OutputError: the folder cannot be written to.
    """
    rows = [
        {
            "rank": rank,
            **{column.name: column.in_json(entry) for column in columns_of(Table.JSON)},
            **_folder_entry(entry.folder, folder),
        }
        for rank, entry in enumerate(worklist.entries, 1)
    ]
    content = {
        "format": FORMAT,
        "format_version": 1,
        **({} if anonymous else {"created": datetime.now(UTC).isoformat(timespec="seconds")}),
        "sort": worklist.sort,
        "sorted_by": SORTS[worklist.sort],
        "pace": PACE,
        "warnings": worklist.warnings,
        "cases": rows,
    }
    columns = columns_of(Table.CSV)
    cells = [
        [row["rank"], *(column.in_csv(entry) for column in columns), row["folder"]]
        for row, entry in zip(rows, worklist.entries, strict=True)
    ]
    write_text(folder / WORKLIST_JSON, to_json(content) + "\n")
    write_text(folder / WORKLIST_CSV, csv_text(["rank", *(column.name for column in columns), "folder"], cells))
    volumes = [row for entry in worklist.entries for row in entry.volumes]
    write_text(folder / VOLUMES_CSV, csv_text(COLUMNS, volumes))


def _folder_entry(folder: Path, base: Path) -> dict[str, str]:
    """Return where a case lies, with this user's code for a place outside `base` (`paths.is_own`)."""
    target = Path(os.path.realpath(folder))
    try:
        given = Path(os.path.relpath(target, base.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        given = target.as_posix()
    mac = None if is_inside(base, target) else path_mac("folder", str(target))
    return {"folder": given} if mac is None else {"folder": given, "folder_mac": mac}


def read_worklist(path: Path) -> list[tuple[Mapping[str, Any], Path]]:
    """Read the cases of a `worklist.json`, each with its folder, without looking at where they lie.

    Raises:
        InputError: it is not a worklist.
    """
    content = read_json_object(path, _WANTED)
    with wrong_values_named(path, _WANTED, "not-a-worklist", "is not a worklist"):
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r:.40}")
        for row in content["cases"]:
            stored_path(path.parent, row.get("image") or ".")
        return [(row, stored_path(path.parent, row["folder"])) for row in content["cases"]]


def path_outside(path: Path, row: Mapping[str, Any]) -> Path | None:
    """Return where another user's row leads out of the folder of its list; None if it does not.

    Args:
        path: of the list.
        row: from `read_worklist`.
    """
    for name in ("folder", "image"):
        if row.get(name):
            target = stored_path(path.parent, row[name])
            own = is_own(row.get(f"{name}_mac"), name, str(target)) and not has_links(target)
            if not own and not is_inside(path.parent, target):
                return target
    return None


def read_listed(path: Path) -> tuple[WorklistEntry, ...]:
    """Read the cases of a `worklist.json` by name and folder, in its order.

    Raises:
        InputError: it is not a worklist, damaged, or another user's that leads out of its folder.
    """
    rows = read_worklist(path)
    if outside := [target for row, _ in rows if (target := path_outside(path, row)) is not None]:
        message = f"{path} is another user's and leads out of its folder to {outside[0]}: open the folder of the cases."
        raise InputError(message, "leads-outside")
    return tuple(WorklistEntry(str(row.get("case") or folder.name), folder) for row, folder in rows)
