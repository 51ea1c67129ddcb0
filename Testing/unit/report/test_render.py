"""Pages from templates: whatever a value holds is shown as text, and templates are complete."""

import math
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser

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
    title: str, lead: Sequence[str], tables: Sequence[Table], reliability: Mapping[str, Sequence[Mapping[str, float]]]
) -> str:
    """What `evaluate --report` renders."""
    texts = {"title": title, "heading": title, "alerts": [], "lead": [text for text in lead if text]}
    return render("evaluation.html", **texts, tables_shown=tables, reliability=reliability, log10=math.log10)


def test_hostile_text_stays_text_wherever_it_stands() -> None:
    table = Table(HOSTILE, HOSTILE, [HOSTILE, "n"], [[HOSTILE, HOSTILE]])
    page = tables_page(HOSTILE, [HOSTILE, HOSTILE], [table], {})
    seen = Seen(page)
    assert "script" not in seen.tags
    # title, heading, 2 paragraphs, title, note, header and 2 cells of the table
    assert seen.text.count(HOSTILE) == 9


def test_a_reliability_diagram_shows_shares_of_enough_voxels_and_counts_of_all() -> None:
    bars = [
        {"low": 0.0, "high": 0.05, "voxels": 1000, "predicted": 0.02, "observed": 0.04},
        {"low": 0.5, "high": 0.55, "voxels": 10, "predicted": 0.5, "observed": 1.0},
    ]
    page = tables_page("t", [], [], {"whole": bars})
    assert Seen(page).tags.count("svg") == 2  # the band has no bars
    points = re.findall(r'<circle cx="([0-9.]+)" cy="([0-9.]+)"', page)
    assert [(float(x), float(y)) for x, y in points] == [pytest.approx((50 + 330 * 0.02, 350 - 330 * 0.04))]
    heights = re.findall(r'<rect [^>]*height="([0-9.]+)"', page)
    assert [float(height) for height in heights] == pytest.approx([30, 10])  # ten for each power of ten


def test_a_value_that_a_template_lacks_is_an_error_and_no_gap() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("page.html", heading="name", lead=[])


def test_every_template_can_be_parsed() -> None:
    environment = jinja2.Environment()
    for path in TEMPLATES.glob("*.html"):
        environment.parse(path.read_text(encoding="utf-8"))
