"""Pages from templates: whatever a value holds is shown as text, and templates are complete."""

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

from SegWithUCore.report.render import TEMPLATES, render
from SegWithULab.evaluation.report import Table

HOSTILE = "<script>alert(\"1\")</script> & 'tail' {{ 7 + 7 }} {% raw %} \ud800"


class Seen(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.attributes: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def tables_page(
    title: str, lead: Sequence[str], tables: Sequence[Table], plots: Sequence[tuple[str, Path]] = ()
) -> str:
    """What `evaluate --report` renders."""
    texts = {"title": title, "heading": title, "alerts": [], "lead": [text for text in lead if text]}
    return render("evaluation.html", **texts, tables_shown=tables, plots=plots)


def test_hostile_text_stays_text_wherever_it_stands(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    table = Table(HOSTILE, HOSTILE, [HOSTILE, "n"], [[HOSTILE, HOSTILE]])
    page = tables_page(HOSTILE, [HOSTILE, HOSTILE], [table], [(HOSTILE, picture)])
    seen = Seen(page)
    assert "script" not in seen.tags
    # title, heading, 2 paragraphs, words, title, note, header and 2 cells of the table
    assert seen.text.count(HOSTILE) == 10
    assert seen.attributes.count(HOSTILE) == 1


def test_a_value_that_a_template_lacks_is_an_error_and_no_gap() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("page.html", heading="name", lead=[])


def test_every_template_can_be_parsed() -> None:
    environment = jinja2.Environment()
    for path in TEMPLATES.glob("*.html"):
        environment.parse(path.read_text(encoding="utf-8"))
