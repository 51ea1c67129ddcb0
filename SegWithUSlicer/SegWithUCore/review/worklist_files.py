"""Write and read `worklist.csv` and `worklist.json`, which name case folders relative to themselves."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..case.case_file import DAMAGED
from ..util.atomic_files import atomic_file
from ..util.csv_files import csv_text
from ..util.errors import InputError
from ..util.paths import has_links, is_inside, is_own, path_mac, stored_path
from ..util.strict_json import read_json, to_json
from .flag import Flag, Rule
from .flags import FlagRules
from .triage import Rank, Triage
from .worklist import SECONDS_PER_REGION, SORTS, ReviewStatus, Worklist, WorklistEntry

WORKLIST_CSV, WORKLIST_JSON = "worklist.csv", "worklist.json"
FORMAT = "segwithu-worklist"
COLUMNS = (
    *("rank", "case", "flags", "reasons", "worst_structure", "expected_wrong_mm3", "regions", "open_regions"),
    *("open_wrong_mm3", "unseen_regions", "unseen_wrong_mm3", "minutes", "benefit_mm3_per_minute"),
    *("wrong_share", "case_wrong_mm3", "predicted_dice", "share_larger_than", "dice_lower_than"),
    *("reviewed", "trouble", "folder"),
)


def write_worklist(worklist: Worklist, folder: Path, anonymous: bool = False) -> None:
    """Write both files, each whole or not at all.

    Args:
        anonymous: leave out when it was made.

    Raises:
        InputError: a row has no case folder.
        OutputError: the folder cannot be written to.
    """
    rows = [_row(rank, entry, folder) for rank, entry in enumerate(worklist.entries, 1)]
    content = {
        "format": FORMAT,
        "format_version": 1,
        **({} if anonymous else {"created": datetime.now(UTC).isoformat(timespec="seconds")}),
        "sort": worklist.sort,
        "sorted_by": SORTS[worklist.sort],
        "pace": worklist.pace,
        "warnings": worklist.warnings,
        "seconds_per_region": worklist.seconds_per_region,
        "rules": None if worklist.rules is None else worklist.rules.to_json(),
        "cases": rows,
    }
    with atomic_file(folder / WORKLIST_JSON) as work:
        work.write_text(to_json(content) + "\n", encoding="utf-8")
    with atomic_file(folder / WORKLIST_CSV) as work:
        work.write_text(worklist_csv(rows), encoding="utf-8", newline="")


def worklist_csv(rows: list[dict[str, Any]]) -> str:
    """Write the table for spreadsheets: one row a case, lists joined with semicolons."""
    return csv_text(COLUMNS, map(_cells, rows))


def _cells(row: dict[str, Any]) -> list[Any]:
    ranks = _triage(row).ranks
    joined = {
        **row,
        "flags": "; ".join(dict.fromkeys(flag["rule"] for flag in row["flags"])),
        "reasons": " ".join(flag["sentence"] for flag in row["flags"]),
        "share_larger_than": ranks["wrong_share"].text if "wrong_share" in ranks else "",
        "dice_lower_than": ranks["predicted_dice"].text if "predicted_dice" in ranks else "",
        "reviewed": "; ".join(review["text"] for review in row["reviews"]),
    }
    return [joined[name] for name in COLUMNS]


@dataclass(frozen=True)
class Listed:
    """A worklist as it was written; reviews may have gone on since.

    Attributes:
        entries: in the order of the file, with the folders where they lie now.
        seconds_per_region: behind the minutes.
        rules: that the user gave; None if each case's own were used.
    """

    entries: tuple[WorklistEntry, ...]
    seconds_per_region: float
    rules: FlagRules | None


def read_worklist(path: Path) -> list[tuple[Mapping[str, Any], Path]]:
    """Read the cases of a `worklist.json`, each with its folder, without looking at where they lie.

    Raises:
        InputError: it is no worklist.
    """
    return [(row, stored_path(path.parent, row["folder"])) for row in _rows(path)]


def path_outside(path: Path, row: Mapping[str, Any]) -> Path | None:
    """Where a row leads out of the folder of its list although this user did not write so; None if it does not.

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


def read_listed(path: Path) -> Listed:
    """Read a `worklist.json` as rows.

    Raises:
        InputError: it is no worklist, damaged, or another user's that leads out of its folder.
    """
    content, rows = _content(path), read_worklist(path)
    if outside := [target for row, _ in rows if (target := path_outside(path, row)) is not None]:
        raise InputError(
            f"{path} says that a case lies at {outside[0]}, outside the folder of the list, and this user did not "
            "write so: open the folder of the cases itself."
        )
    try:
        rules = content.get("rules")
        seconds = float(content.get("seconds_per_region") or SECONDS_PER_REGION)
        entries = tuple(_entry(row, folder) for row, folder in rows)
        return Listed(entries, seconds, None if rules is None else FlagRules.from_json(rules, str(path)))
    except DAMAGED as error:
        raise InputError(f"{path} is damaged ({error!r}): make it again with segwithu worklist.") from error


def _content(path: Path) -> dict[str, Any]:
    content = read_json(path, "give one that segwithu worklist wrote")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no worklist: give one that segwithu worklist wrote.")
    return content


def _rows(path: Path) -> list[Mapping[str, Any]]:
    try:
        rows = list(_content(path)["cases"])
        for row in rows:
            for given in (row["folder"], row.get("image") or "."):
                stored_path(path.parent, given)
        return rows
    except DAMAGED as error:
        raise InputError(f"{path} is no worklist ({error!r}): give one that segwithu worklist wrote.") from error


def _entry(row: Mapping[str, Any], folder: Path) -> WorklistEntry:
    flags = [Flag(**{**flag, "rule": Rule(flag["rule"])}) for flag in row.get("flags") or []]
    given = row.get("reviews") or []
    reviews = [
        ReviewStatus(
            r["reviewer"], int(r["decided"]), int(r["regions"]), r.get("when") or "", int(r.get("unseen") or 0)
        )
        for r in given
    ]
    wrong, regions = row.get("expected_wrong_mm3"), row.get("regions")
    return WorklistEntry(
        name=str(row.get("case") or folder.name),
        folder=folder,
        flags=tuple(flags),
        worst_structure=row.get("worst_structure"),
        expected_wrong_mm3=None if wrong is None else float(wrong),
        regions=None if regions is None else int(regions),
        open_regions=int(row.get("open_regions") or 0),
        open_wrong_mm3=float(row.get("open_wrong_mm3") or 0.0),
        minutes=float(row.get("minutes") or 0.0),
        reviews=tuple(reviews),
        notes=tuple(row.get("notes") or ()),
        trouble=str(row.get("trouble") or ""),
        unseen_regions=int(row.get("unseen_regions") or 0),
        unseen_wrong_mm3=float(row.get("unseen_wrong_mm3") or 0.0),
        triage=_triage(row),
    )


def _row(rank: int, entry: WorklistEntry, base: Path) -> dict[str, Any]:
    known = entry.regions is not None
    if entry.folder is None:
        raise InputError(f"{entry.name} lies in no case folder: a worklist can only list cases that do.")
    return {
        "rank": rank,
        "case": entry.name,
        "flags": [flag.to_json() for flag in entry.flags],
        "worst_structure": entry.worst_structure,
        "expected_wrong_mm3": _rounded(entry.expected_wrong_mm3),
        "regions": entry.regions,
        "open_regions": entry.open_regions if known else None,
        "open_wrong_mm3": _rounded(entry.open_wrong_mm3) if known else None,
        "unseen_regions": entry.unseen_regions if known else None,
        "unseen_wrong_mm3": _rounded(entry.unseen_wrong_mm3) if known else None,
        "minutes": _rounded(entry.minutes) if known else None,
        "benefit_mm3_per_minute": _rounded(entry.benefit) if known else None,
        "reviews": [{**asdict(review), "text": review.text} for review in entry.reviews],
        **_triage_json(entry.triage),
        "notes": list(entry.notes),
        "trouble": entry.trouble,
        **_folder_entry(entry.folder, base),
    }


def _triage_json(triage: Triage) -> dict[str, Any]:
    return {
        "wrong_share": _rounded(triage.wrong_share, 4),
        "case_wrong_mm3": _rounded(triage.wrong_mm3),
        "predicted_dice": _rounded(triage.predicted_dice, 4),
        "ranks": {name: asdict(rank) for name, rank in triage.ranks.items()},
        "rules_active": triage.rules_active,
    }


def _triage(row: Mapping[str, Any]) -> Triage:
    ranks = {name: Rank(int(rank["better"]), int(rank["cases"])) for name, rank in (row.get("ranks") or {}).items()}
    share, wrong, dice = (
        None if row.get(name) is None else float(row[name])
        for name in ("wrong_share", "case_wrong_mm3", "predicted_dice")
    )
    return Triage(share, wrong, dice, ranks, bool(row.get("rules_active", True)))


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None  # JSON knows no infinity


def _folder_entry(folder: Path, base: Path) -> dict[str, str]:
    """Where a case lies, with the code by which this user may be led there again (`paths.is_own`)."""
    given = _relative(folder, base)
    mac = None if is_inside(base, folder.resolve()) else path_mac("folder", str(folder.resolve()))
    return {"folder": given} if mac is None else {"folder": given, "folder_mac": mac}


def _relative(folder: Path, base: Path) -> str:
    try:
        return Path(os.path.relpath(folder.resolve(), base.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        return folder.resolve().as_posix()
