"""Every table goes through one writer, and the tables that hold names of others are harmless."""

import ast
import csv
import io
from pathlib import Path

from exchanged_cases import CASES, changed_case, copied, judged
from product_sources import CORE, SOURCES, name_of, tree_of

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import parse_regions, read_regions, regions_csv
from SegWithUCore.review.log_format import Verdict
from SegWithUCore.review.reviews import agreement_csv, read_reviews
from SegWithUCore.review.worklist import make_worklist
from SegWithUCore.review.worklist_files import write_worklist
from SegWithUCore.util.csv_files import csv_text, harmless_cell, records, table_of

HOSTILE = "a\r=cmd|' /C calc'!A0"


def csv_uses(tree: ast.AST) -> list[str]:
    """What a file takes from the module `csv` of Python."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    found = [ast.unparse(node) for node in attributes if ast.unparse(node.value) == "csv"]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "csv"]
    return found + [ast.unparse(node) for node in imports]


def test_no_other_module_reads_or_writes_csv() -> None:
    uses = {name_of(path): csv_uses(tree_of(path)) for path in SOURCES}
    assert {name for name, found in uses.items() if found} == {name_of(CORE / "util" / "csv_files.py")}
    assert "csv.writer" in uses[name_of(CORE / "util" / "csv_files.py")]
    assert csv_uses(ast.parse("import csv\ncsv.DictWriter(f, [])\nfrom csv import writer")) == [
        "csv.DictWriter",
        "from csv import writer",
    ]


def assert_harmless(text: str) -> None:
    """No reader, also one that ends lines at CR or parts columns at semicolons, finds a formula."""
    for universal in (text, text.replace("\r", "\n")):
        for delimiter in ",;":
            for row in csv.reader(io.StringIO(universal), delimiter=delimiter):
                for cell in row:
                    is_number = cell.replace(".", "", 1).replace("-", "", 1).isdigit()
                    assert is_number or not cell.strip().startswith(("=", "+", "-", "@")), cell


def test_numbers_as_texts_stay_numbers_and_half_characters_are_escaped() -> None:
    same = ["-12.345", "-5", "1e-05", "-1.5E+10", "0.100", "", "anterior", "a-b", "'x"]
    assert [harmless_cell(text) for text in same] == same
    assert [harmless_cell(text) for text in ("-5x", "+5", "-", "--5", "a;-x")] == ["'-5x", "'+5", "'-", "'--5", "a;'-x"]
    for unseen in ("\uff1d1+1", "\u200b=1", "\ufeff@x", "\u200b\uff0b1x", "\u00a0=1"):
        assert harmless_cell(f"a;{unseen}") == f"a;'{unseen}"
    assert harmless_cell("M\udcfcller \ud800") == r"M\xfcller \ud800"
    csv_text(["a"], [["\udcfc"]]).encode()


def test_records_and_tables_are_each_other_s_reverse() -> None:
    assert table_of([{"a": 1}, {"b": 2}]) == (["a", "b"], [[1, ""], ["", 2]])
    assert records([["a", "b"], ["1"], [], ["1", "2", "3"]]) == [{"a": "1", "b": ""}, {"a": "1", "b": "2"}]
    assert records([]) == []


def test_tables_with_names_of_others_are_harmless(segmented_cases: Path, tmp_path: Path) -> None:
    case = copied(segmented_cases / CASES[0], tmp_path / "cases")
    judged(case, "=Ana", {1: Verdict.REJECTED}, comment=HOSTILE)
    changed_case(case, lambda content: content.update(name=HOSTILE))
    write_worklist(make_worklist([case]), tmp_path)
    assert_harmless((tmp_path / "worklist.csv").read_bytes().decode())
    found = read_reviews(case, read_case(case))
    assert_harmless(agreement_csv([(HOSTILE, found.regions, found.reviews)]))


def test_regions_of_a_hostile_model_are_harmless_and_read_again(segmented_cases: Path) -> None:
    from dataclasses import replace

    regions = read_regions(segmented_cases / CASES[0])
    text = regions_csv(regions)
    assert text == (segmented_cases / CASES[0] / "regions.csv").read_text(encoding="utf-8")
    assert "'" not in text
    ways = tuple(replace(way, truth=HOSTILE) for way in regions[0].competing)
    hostile = regions_csv([replace(regions[0], structure=HOSTILE, competing=ways)])
    assert_harmless(hostile)
    assert regions_csv(parse_regions(hostile)) == hostile
