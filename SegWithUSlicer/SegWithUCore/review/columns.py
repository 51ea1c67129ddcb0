"""The table of worklist columns: a new one is a new row, and files, terminal, panel, page and mailed index have it.

Standard library only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .status import Level
from .worklist import WorklistEntry

_ = str  # marks texts that the panel translates where it shows them


# Where a column may be.
Table = Enum("Table", "JSON CSV TERMINAL PANEL PAGE INDEX")
_ALL, _JSON, _CSV = frozenset(Table), frozenset({Table.JSON}), frozenset({Table.CSV})
_FILES, _TERMINAL = _JSON | _CSV, frozenset({Table.JSON, Table.CSV, Table.TERMINAL})
Value = float | str | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: key in `worklist.json`, header in `worklist.csv`.
        title: header where people read it; with `tip`, what it means.
        value: of a case, None if it has none; if not given, the attribute of this name.
        cell: the value in a spreadsheet, if it differs.
        text: what is shown to a reviewer, "" for nobody, if it is not the value.
        sort: key of the order by this column for a reviewer, if it is not the value.
        digits: shown behind the point of a number; None for a text.
        places: digits behind the point in files.
        largest_first: in the first order by a text column; numbers always are.
        where: tables that have it.
    """

    name: str
    title: str = ""
    tip: str = ""
    value: Callable[[WorklistEntry], Any] | None = None
    cell: Callable[[WorklistEntry], Value] | None = None
    text: Callable[[WorklistEntry, str], str] | None = None
    sort: Callable[[WorklistEntry, str], Value] | None = None
    digits: int | None = None
    places: int = 2
    largest_first: bool = False
    where: frozenset[Table] = _ALL

    def of(self, entry: WorklistEntry) -> Any:
        """Return the value of a case."""
        return getattr(entry, self.name) if self.value is None else self.value(entry)

    def in_json(self, entry: WorklistEntry) -> Any:
        """Return the value as files hold it."""
        value = self.of(entry)
        if not isinstance(value, float):
            return value
        return round(value, self.places) if math.isfinite(value) else None  # JSON knows no infinity

    def in_csv(self, entry: WorklistEntry) -> Any:
        """Return the value as a spreadsheet holds it."""
        return self.in_json(entry) if self.cell is None else self.cell(entry)

    def shown(self, entry: WorklistEntry, reviewer: str = "") -> str:
        """Return what a reviewer reads."""
        if self.text is not None:
            return self.text(entry, reviewer)
        value = self.of(entry)
        return "" if value is None else str(value) if self.digits is None else f"{value:.{self.digits}f}"

    def key(self, entry: WorklistEntry, reviewer: str = "") -> Value:
        """Return by what cases are ordered; None comes last."""
        value = self.of(entry) if self.sort is None else self.sort(entry, reviewer)
        return value.casefold() if isinstance(value, str) else value

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        is_number = self.digits is not None
        order = {"number": is_number, "largest_first": is_number or self.largest_first}
        return {"name": self.name, "title": self.title, "tip": self.tip, **order}


def columns_of(table: Table, entries: Sequence[WorklistEntry] = ()) -> list[Column]:
    """List the columns of a table, in its order; that of `worklist.csv` goes on as version 0.5 began.

    Args:
        entries: what it lists; if all are masks alone, columns that only a model fills are left out.
    """
    found = [column for column in COLUMNS if table in column.where]
    if entries and all(entry.is_mask_alone for entry in entries):
        found = [column for column in found if column.name not in _OF_MODELS]
    if table is Table.CSV:
        found.sort(key=lambda column: _FIRST.index(column.name) if column.name in _FIRST else len(_FIRST))
    return found


def _level(entry: WorklistEntry, _reviewer: str = "") -> str:
    return "" if entry.status is None else entry.status.level.value


# That of the worklist's own order, the most important first.
WORST_COLUMN = "light"
# In the order in which they are shown.
COLUMNS = (
    Column("case", _("Case"), _("The name of the case."), lambda entry: entry.name),
    Column(
        "reviewed",
        _("Review"),
        _("How many regions you have decided, then how many others have."),
        cell=lambda entry: "; ".join(review.text for review in entry.reviews),
        text=lambda entry, reviewer: entry.review_text(reviewer),
        sort=lambda entry, reviewer: entry.decided_by(reviewer) / entry.regions if entry.regions else None,
        largest_first=True,
        where=_ALL - {Table.JSON, Table.INDEX},
    ),
    Column(
        "light",
        _("What to do"),
        _("Whether to look at the case; why is below the table."),
        lambda entry: entry.status and entry.status.to_json(),
        cell=_level,
        text=_level,
        sort=lambda entry, _reviewer: None if entry.status is None else list(Level).index(entry.status.level),
    ),
    Column(
        "reason",
        _("Why"),
        _("Why the case is flagged; all reasons are below the table."),
        lambda entry: entry.status and entry.status.reason,
        text=lambda entry, _reviewer: entry.status.reason if entry.status and entry.is_flagged else "",
        where=_CSV | {Table.PANEL},
    ),
    Column(
        "wrong_share",
        _("Likely wrong"),
        _("The expected wrong volume, missed tissue included, as a share of the segmented volume."),
        lambda entry: entry.metrics.get("wrong_share"),
        text=lambda entry, _reviewer: entry.share_text,
        digits=0,
        places=4,
    ),
    Column(
        "predicted_dice",
        "Pred. Dice",
        "",
        lambda entry: entry.metrics.get("predicted_dice"),
        digits=2,
        places=4,
        where=_TERMINAL,
    ),
    Column("regions", _("Regions"), _("Number of regions."), digits=0, where=_ALL - {Table.TERMINAL}),
    Column("open_regions", "Open", text=lambda entry, _reviewer: entry.open_text, digits=0, where=_TERMINAL),
    Column(
        "minutes", _("Min"), _("Minutes needed to review the regions that nobody has accepted or corrected."), digits=1
    ),
    Column("benefit_mm3_per_minute", "mm3/min", "", lambda entry: entry.benefit, digits=0, where=_TERMINAL),
    Column("worst_structure", _("Worst structure"), _("The structure with the largest expected wrong volume.")),
    Column("reviews", value=lambda entry: [review.to_json() for review in entry.reviews], where=_JSON),
    Column(
        "flags",
        value=lambda entry: [flag.to_json() for flag in entry.flags],
        cell=lambda entry: "; ".join(dict.fromkeys(flag.rule.value for flag in entry.flags)),
        where=_FILES,
    ),
    Column("reasons", value=lambda entry: " ".join(flag.message for flag in entry.flags), where=_CSV),
    Column("share_text", where=_JSON),
    Column("case_wrong_mm3", value=lambda entry: entry.metrics.get("wrong_mm3"), where=_FILES),
    Column("open_wrong_mm3", where=_FILES),
    Column("unseen_regions", where=_FILES),
    Column("unseen_wrong_mm3", where=_FILES),
    Column("expected_wrong_mm3", where=_FILES),
    Column("asked", value=lambda entry: list(entry.asked), cell=lambda entry: "; ".join(entry.asked), where=_FILES),
    Column("notes", value=lambda entry: list(entry.notes), where=_JSON),
    Column("trouble", where=_FILES),
)
_OF_MODELS = ("wrong_share", "predicted_dice", "benefit_mm3_per_minute", "worst_structure")
# Order in `worklist.csv` of version 0.5; what came later follows.
_FIRST = (
    *("case", "light", "reason", "wrong_share", "predicted_dice", "case_wrong_mm3", "worst_structure"),
    *("expected_wrong_mm3", "regions", "open_regions", "open_wrong_mm3", "unseen_regions", "unseen_wrong_mm3"),
    *("minutes", "benefit_mm3_per_minute", "flags", "reasons", "reviewed", "trouble", "asked"),
)
