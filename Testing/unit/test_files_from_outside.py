"""Files of others: kinds, sizes, JSON and CSV that could do harm are refused or made harmless."""

import csv
import io
import os
import socket
from pathlib import Path

import pytest

from SegWithUCore.util.csv_files import csv_text, read_csv, write_csv
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.folder_entries import EntryKind, check_entries, entry_kind
from SegWithUCore.util.input_files import path_problem, read_bounded, regular_file
from SegWithUCore.util.strict_json import parse_json, read_json, read_json_object, to_json


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    cases = {"pipe": "pipe", "socket": "socket", ".": "folder", "gone": "does not exist", "a\0b": "null"}
    for name, word in cases.items():
        with pytest.raises(InputError, match=word):
            regular_file(tmp_path / name)
    with pytest.raises(InputError, match="device"):
        read_bounded(Path("/dev/zero"), 10)


def test_an_entry_that_cannot_be_opened_is_not_taken_for_absent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to("file")
    (tmp_path / "annexed").symlink_to("../.git/annex/gone")
    (tmp_path / "beneath").symlink_to("file/below")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    wanted = {
        "file": EntryKind.FILE,
        "folder": EntryKind.FOLDER,
        "linked": EntryKind.FILE,
        "annexed": EntryKind.LINK_TO_NOTHING,
        "beneath": EntryKind.LINK_TO_NOTHING,
        "loop": EntryKind.LINK_TO_NOTHING,
        "pipe": EntryKind.SPECIAL,
        "gone": EntryKind.ABSENT,
    }
    assert {name: entry_kind(tmp_path / name) for name in wanted} == wanted
    for name in ("annexed", "loop"):
        with pytest.raises(InputError, match=name) as refusal:
            regular_file(tmp_path / name)
        assert refusal.value.code == "link-to-nothing"
    check_entries([tmp_path / "file", tmp_path / "folder", tmp_path / "linked"], "images")
    with pytest.raises(InputError, match="annexed") as refusal:
        check_entries([tmp_path / name for name in ("file", "annexed", "pipe")], "images")
    assert refusal.value.code == "entries-not-openable"


@pytest.mark.skipif(os.name != "posix", reason="names as POSIX knows them")
def test_what_no_file_can_be_called_is_told(tmp_path: Path) -> None:
    for text in ("a\0b", "\ud800", "n" * 256, "ä" * 128, "a/" * 3000):
        assert path_problem(text), text
    for text in ("ä" * 127, "a/" * 2000, os.fsdecode(b"M\xfcller")):
        assert path_problem(text) is None, text


def test_a_file_above_the_limit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(11))
    assert read_bounded(tmp_path / "large", 11) == bytes(11)
    with pytest.raises(InputError, match="11 bytes, more than the 10"):
        read_bounded(tmp_path / "large", 10)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        "[Infinity]",
        "[-Infinity]",
        "[1e999]",
        "[" * 100_000,
        '{"a":' * 101 + "1" + "}" * 101,
        "{",
        b"\xff",
    ],
)
def test_json_that_is_none_is_refused_by_name(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "model.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"model\.json") as refusal:
        read_json(path)
    assert refusal.value.code


def test_json_is_read_as_written(tmp_path: Path) -> None:
    content = {"a": [1, 2.5, None, "ä"], "b": {"c": True}}
    (tmp_path / "a.json").write_text(to_json(content), encoding="utf-8")
    assert read_json_object(tmp_path / "a.json") == content
    (tmp_path / "a.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="instead of a JSON object"):
        read_json_object(tmp_path / "a.json")
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))
    assert parse_json(b"\xef\xbb\xbf[1]", "a") == [1]


FORMULAS = [
    "=1+1",
    "+1",
    "-1+1|A",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    '"=1"',
    "a\r=HYPERLINK(1)",
    "a\n=1",
    "x;=1+1",
    "x; =1",
    "\u2028=1",
]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_reader_finds_a_formula_in_a_cell(name: str) -> None:
    text = csv_text(["case"], [[name, -1.5]])
    for delimiter in ",;":
        for universal in (text, text.replace("\r", "\n")):
            for row in csv.reader(io.StringIO(universal), delimiter=delimiter):
                texts = [cell for cell in row if not cell.replace(".", "").strip('-",').isdigit()]
                assert not any(cell.strip(' "\t').startswith(("=", "+", "-", "@")) for cell in texts), row


def test_a_table_is_read_back_and_written_again_the_same(tmp_path: Path) -> None:
    rows = [[name, "ä, b", "2"] for name in FORMULAS]
    write_csv(tmp_path / "a.csv", ["case", "b", "c"], rows)
    header, *read = read_csv(tmp_path / "a.csv")
    assert header == ["case", "b", "c"]
    assert len(read) == len(rows)
    write_csv(tmp_path / "b.csv", header, read)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
