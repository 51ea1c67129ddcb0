"""What a model says of images that are not from home: the site that its calibration rests on, and its table `away`.

No third-party packages, so that Slicer's own process can ask too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Bundle

COLUMNS = ("images", "patients", "Dice", "expected over true errors", "within 20 %", "AUPRC")
NOT_MEASURED = "Not measured away from home."


def site_message(calibration: Mapping[str, Any] | None) -> str:
    """Say in one sentence on what a recalibrated model rests, and for what it holds; "" for any other."""
    site = (calibration or {}).get("site")
    if site is None:
        return ""
    factor, added, words = site.get("factor"), site.get("added"), []
    if added is not None:
        words.append(f"its error probability rests on {added['cases']} corrected cases alone")
    if factor is not None:
        words.append("factor {factor:.2g} ({low:.2g} to {high:.2g})".format(**factor))
    what = f": {', '.join(words)}" if words else ""
    return f"Calibrated on {site['patients']} patients of one site{what}; it holds for images of that site."


def site_command(name: str, cases: Path | None = None) -> str:
    """Return the command that calibrates a model for a site on cases."""
    place = "MY_CASES" if cases is None else f'"{cases}"' if " " in str(cases) else str(cases)
    return f"segwithu calibrate --model {name} --add {place} --output {name}_here"


def away_rows(away: Mapping[str, Any] | None) -> list[list[str]]:
    """Return the cells of the table `away` of a bundle, one row for each kind of images; none if not measured."""
    return [
        [
            str(row["images"]),
            str(row["patients"]),
            f"{row['dice']:.3f}",
            f"{row['expected_over_true']:.2f}",
            f"{100 * row['within_20_percent']:.0f} %",
            f"{row['auprc']:.3f}",
        ]
        for row in (away or {}).get("rows", ())
    ]


def away_lines(bundle: "Bundle") -> tuple[str, ...]:
    """Return the site of a model and the table as sentences, for places without tables."""
    site, others = site_message(bundle.calibration), COLUMNS[1:]
    rows = [
        f"{cells[0]}: {', '.join(f'{name}: {cell}' for name, cell in zip(others, cells[1:], strict=True))}."
        for cells in away_rows(bundle.away)
    ]
    return (*([site] if site else []), *(rows or [NOT_MEASURED]))


def away_markdown(away: Mapping[str, Any] | None) -> str:
    """Return the table as Markdown, or that it was not measured."""
    rows = away_rows(away)
    if not rows:
        return NOT_MEASURED
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [COLUMNS, ["---"] * len(COLUMNS), *rows])
