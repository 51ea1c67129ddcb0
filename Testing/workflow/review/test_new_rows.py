"""A verdict and a column that somebody adds to the tables: every consumer has them, and who forgets one is named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exchanged_cases import CASES
from page_browser import Visit
from repository import HELPERS, PACKAGES, ROOT
from row_consumers import (
    COLUMN_CONSUMERS,
    COLUMN_ROW,
    SIGN,
    SINGLE_KEY,
    TEXT,
    TITLE,
    VALUE,
    VERDICT_CONSUMERS,
    VERDICT_ROW,
)
from segwithu_command import child

from SegWithUCore.review.columns import COLUMNS, Table, columns_of
from SegWithUCore.review.verdicts import GIVEN, SEEN, Verdict


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with one row more in each table."""
    place = tmp_path_factory.mktemp("program")
    packages = shutil.copytree(PACKAGES, place / PACKAGES.name, ignore=shutil.ignore_patterns("__pycache__"))
    (place / "Resources").symlink_to(ROOT / "Resources")
    for name, before, row in (
        ("verdicts.py", "    NOT_LOOKED_AT = ", VERDICT_ROW),
        ("columns.py", '    Column("worst_structure"', COLUMN_ROW),
    ):
        path = packages / "SegWithUCore" / "review" / name
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, path
        path.write_text(text.replace(before, f"{row.strip(chr(10))}\n{before}"), encoding="utf-8")
    return packages


def environment(program: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (program, HELPERS))), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def troubles(program: Path, segmented_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each consumer lacks of the two rows."""
    place = tmp_path_factory.mktemp("consumers")
    call = [sys.executable, str(HELPERS / "row_consumers.py"), str(segmented_cases / CASES[0]), str(place)]
    subprocess.run(call, env=environment(program), check=True, timeout=300)
    return json.loads((place / "troubles.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("consumer", [*VERDICT_CONSUMERS, *COLUMN_CONSUMERS])
def test_a_new_row_reaches(consumer: str, troubles: dict[str, str]) -> None:
    assert not troubles[consumer], f"{consumer} does not take the new row from the table:\n{troubles[consumer]}"


@pytest.fixture
def visit(program: Path, segmented_cases: Path, tmp_path: Path, chromium: Any) -> Iterator[Visit]:
    """A window of the page of the program with more rows."""
    cases = shutil.copytree(segmented_cases, tmp_path / "cases")
    server = child("web", cases, "--port", "0", "--reviewer", "Ana", "--json", env=environment(program))
    try:
        assert server.stdout is not None
        link = next(event["url"] for line in server.stdout if "url" in (event := json.loads(line)))
        window = Visit(chromium, link, bypass_csp=True)
        yield window
        window.close()
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_a_new_row_reaches_the_page(visit: Visit) -> None:
    visit.wait("worklist")
    titles = visit.page.locator("thead th").all_inner_texts()
    cells = visit.page.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[titles.index(TITLE)] == "0"
    visit.open_case(CASES[0])
    button = visit.page.get_by_role("button", name=f"{SIGN} {TEXT.capitalize()}")
    assert button.get_attribute("data-tone") == "ask"
    visit.press(SINGLE_KEY.lower())
    assert VALUE in visit.text(".said") and visit.text(".regions .verdict") == f"{SIGN} {TEXT}"
    assert "1 of" in visit.text(".progress")
    visit.press("d", "d")
    blind = visit.page.locator(".item", has_text="blind sample").count()
    visit.press(*[f"Control+Alt+Digit{len(GIVEN) + 1}"] * blind)
    assert f"{1 + blind} made up here" in visit.text(".progress")
    assert f"{SINGLE_KEY} {TEXT}" in visit.page.locator(".facts-body").text_content()
    assert visit.troubles == []


def test_rows_of_verdicts_are_whole() -> None:
    keys = [verdict.kind.single_key for verdict in GIVEN if verdict.kind.single_key]
    assert len(set(keys)) == len(keys) and not set(keys) & set("UCNPWFBDM"), "another act has this key on the page"
    assert len({verdict.kind.sign for verdict in Verdict}) == len(Verdict)
    for verdict in GIVEN:
        kind = verdict.kind
        assert kind.tip and kind.tone in ("good", "bad", "ask"), verdict
        assert bool(kind.flag) == verdict.wants_attention and kind.flag.count("{}") == verdict.wants_attention, verdict
    assert [verdict for verdict in Verdict if verdict not in GIVEN] == [Verdict.NOT_LOOKED_AT]
    assert GIVEN[0] is Verdict.ACCEPTED and Verdict.ACCEPTED in SEEN, "the page takes the first one for it"
    assert [verdict.key for verdict in GIVEN[:4]] == [f"Ctrl+Alt+{number}" for number in (1, 2, 3, 4)]


def test_rows_of_columns_are_whole() -> None:
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)
    for table in (Table.PANEL, Table.PAGE, Table.INDEX, Table.TERMINAL):
        assert all(column.title for column in columns_of(table)), table
        assert next(column.name for column in columns_of(table)) == "case"
