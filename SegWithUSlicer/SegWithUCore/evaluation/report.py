"""The report of an evaluation as one HTML page: nothing is loaded from elsewhere, and it prints on A4."""

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..report.page import NOT_FOR_CLINICAL_USE
from ..report.tables import rows_table
from ..review.report_style import STYLE
from .report_tables import Table, number

BOLD_CELL = re.compile(r"(<td[^>]*>)\*\*([^<]*)\*\*</td>")
WIDE = """
main{max-width:76rem}
.scroll{overflow-x:auto}
figure img{width:100%;height:auto}
figure{margin:.6rem 0 1.4rem;break-inside:avoid}
figcaption{text-align:left}
.scroll table{font-size:.84rem}
@page{size:A4 landscape}
"""


def evaluation_page(
    name: str,
    about: str,
    result: Mapping[str, Any],
    tables: Sequence[Table],
    plots: Mapping[str, Path],
    pictures: Mapping[str, Sequence[tuple[str, Path]]],
) -> str:
    """The whole page.

    Args:
        name: of the model.
        about: sentences on model and cases.
        plots: files by the words under them.
        pictures: of the worst cases by kind: words and files.
    """
    parts = [
        f"<section><h2>Curves</h2>{''.join(figure(words, path) for words, path in plots.items())}</section>",
        *(section(table) for table in tables),
        *(
            f"<section><h2>{escape(kind)}</h2>{''.join(figure(words, path) for words, path in shown)}</section>"
            for kind, shown in pictures.items()
            if shown
        ),
    ]
    return page(f"{name}: evaluation", _lead(result), about, parts)


def page(title: str, lead: str, about: str, sections: Sequence[str]) -> str:
    """One HTML page of plain text on top and finished sections below."""
    told = "".join(f"<p{kind}>{escape(text)}</p>" for kind, text in ((" class=lead", lead), ("", about)) if text)
    header = f"<header><h1>{escape(title)}</h1>{told}<p class=note>{NOT_FOR_CLINICAL_USE}</p></header>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{WIDE}</style></head>"
        f"<body><main>{header}{''.join(sections)}</main></body></html>\n"
    )


def _lead(result: Mapping[str, Any]) -> str:
    rows = {row["title"]: row for row in result["table"]}
    dice = [f"{title[5:]} {number(row['mean'])}" for title, row in rows.items() if title.startswith("dice ")]
    said = [f"{cases_in_words(result)}. Mean Dice: {', '.join(dice)}."]
    score = "error probability" if "auroc whole error probability" in rows else "ranking"
    whole, band = (rows.get(f"auroc {region} {score}") for region in ("whole", "band"))
    if whole and band and whole["mean"] is not None and band["mean"] is not None:
        said.append(
            f"The {score} finds wrong voxels with an AUROC of {number(whole['mean'])} in the whole image and "
            f"{number(band['mean'])} within {result['band']} of the predicted surface."
        )
    return " ".join(said)


def cases_in_words(result: Mapping[str, Any]) -> str:
    """How many cases of how many patients."""
    cases, patients = result["cases"], result["patients"]
    words = "1 case" if cases == 1 else f"{cases} cases"
    return words if cases == patients else f"{words} of {patients} patients"


def section(table: Table) -> str:
    """A table with its title and note; cells between double stars, as in Markdown, are bold."""
    numbers = range(table.words, len(table.header))
    body = BOLD_CELL.sub(r"\1<b>\2</b></td>", rows_table(table.header, table.rows, numbers=numbers))
    return f"<section><h2>{escape(table.title)}</h2><p>{escape(table.note)}</p><div class=scroll>{body}</div></section>"


def figure(words: str, path: Path) -> str:
    """A picture with words below."""
    data = base64.b64encode(path.read_bytes()).decode()
    said = escape(words)
    return f'<figure><img src="data:image/png;base64,{data}" alt="{said}"><figcaption>{said}</figcaption></figure>'
