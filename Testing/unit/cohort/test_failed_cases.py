"""`failed.csv` stays readable whatever the names, and a cohort never stops for it."""

import os
from pathlib import Path

import pytest

from SegWithUCore.cohort.failed_cases import COLUMNS, FailedCases
from SegWithUCore.util.csv_files import read_csv

NAMES = ["a\r=HYPERLINK(1).nii", "a\nb", 'a"b', "=1+1", "a;=1", "M\udcfcller.nii", "ä,b", "-5", "\x1b[31m", "'x"]


def test_any_names_are_written_and_found_again(tmp_path: Path) -> None:
    first = FailedCases(tmp_path)
    for name in NAMES:
        first.failed(name, tmp_path / name, f"{name} is broken.")
    rows = read_csv(tmp_path / "failed.csv")
    assert rows[0] == COLUMNS
    assert len(rows) == 1 + len(NAMES)
    assert b"\r" not in (tmp_path / "failed.csv").read_bytes()
    later = FailedCases(tmp_path)
    assert later.notes == []
    for name in NAMES[:-1]:
        later.settled(name)
    later.write()
    assert [row[0] for row in read_csv(tmp_path / "failed.csv")[1:]] == [NAMES[-1]]
    last = FailedCases(tmp_path)
    last.settled(NAMES[-1])
    last.write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["foreign", "not text", "cut", "folder", "pipe", "link"])
def test_what_is_no_list_is_set_aside_and_kept(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "failed.csv"
    contents = {"foreign": b"my,own\n1,2\n", "not text": b"\xff\xfe", "cut": b'case,input,reason\n"a'}
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "gone")
    (tmp_path / "failed.csv.unread-1").write_text("earlier")
    failed = FailedCases(tmp_path)
    aside = tmp_path / "failed.csv.unread-2"
    assert len(failed.notes) == 1
    assert str(path) in failed.notes[0]
    assert aside.name in failed.notes[0]
    assert os.path.lexists(aside)
    if kind in contents:
        assert aside.read_bytes() == contents[kind]
    failed.failed("a", tmp_path / "a.nii", "It is broken.")
    assert read_csv(path)[1:] == [["a", str(tmp_path / "a.nii"), "It is broken."]]
    assert (tmp_path / "failed.csv.unread-1").read_text() == "earlier"
