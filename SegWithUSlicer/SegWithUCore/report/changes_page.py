"""The changes between scans of a patient as one HTML page, from `templates/changes.html`, with a figure a structure."""

from dataclasses import dataclass
from pathlib import Path

from ..review.changes import Change, Comparison
from ..util.atomic_files import write_text
from .render import render

WIDTH, HEIGHT, MARGIN = 300, 130, 26
"""Of a figure, in pixels."""
CHANGES_PAGE = "changes.html"


@dataclass(frozen=True)
class Figure:
    """A structure over the scans: percent of the first one, by the height of the figure.

    Attributes:
        points: x, y, and the ends of the interval, in pixels; the ends are those of y where none is known.
        zero: height of no change.
        top, bottom: percent at the ends of the axis.
    """

    name: str
    points: tuple[tuple[float, float, float, float], ...]
    zero: float
    top: float
    bottom: float


def write_changes_page(found: Comparison, folder: Path) -> Path:
    """Write the page of a comparison and return its path.

    Raises:
        OutputError: it cannot be written.
    """
    by_name: dict[str, list[Change]] = {}
    for each in found.changes:
        by_name.setdefault(each.structure, []).append(each)
    figures = [_figure(name, rows, len(found.scans)) for name, rows in by_name.items() if rows[0].percent is not None]
    title = f"Changes since {found.scans[0]}"
    lead = (f"{', '.join(found.scans[1:])} compared with {found.scans[0]}. {found.basis}",)
    page = render("changes.html", title=title, heading=title, lead=lead, alerts=found.warnings, changes=found.changes,
                  figures=figures, scans=found.scans, size=(WIDTH, HEIGHT, MARGIN))  # fmt: skip
    write_text(folder / CHANGES_PAGE, page)
    return folder / CHANGES_PAGE


def _figure(name: str, changes: list[Change], scans: int) -> Figure:
    ends = [0.0, *(end for each in changes for end in each.interval_percent or (each.percent or 0.0,))]
    top, bottom = max(*ends, 1.0), min(*ends, -1.0)
    step = (WIDTH - 3 * MARGIN) / max(1, scans - 1)

    def height(percent: float) -> float:
        return round(MARGIN / 2 + (HEIGHT - 1.5 * MARGIN) * (top - percent) / (top - bottom), 1)

    points = [(2.0 * MARGIN, height(0.0), height(0.0), height(0.0))]
    for number, each in enumerate(changes, 1):
        percent = each.percent or 0.0
        low, high = each.interval_percent or (percent, percent)
        points.append((round(2 * MARGIN + number * step, 1), height(percent), height(high), height(low)))
    return Figure(name, tuple(points), height(0.0), top, bottom)
