"""`failed.csv` stays readable whatever the names, and a cohort never stops for it."""

from pathlib import Path

import pytest

from SegWithUCore.cohort.jobs import COLUMNS, FailedCases
from SegWithUCore.util.csv_files import read_csv
from SegWithUCore.util.errors import OutputError

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
    for name in NAMES[:-1]:
        later.settled(name)
    later.write()
    assert [row[0] for row in read_csv(tmp_path / "failed.csv")[1:]] == [NAMES[-1]]
    last = FailedCases(tmp_path)
    last.settled(NAMES[-1])
    last.write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"my,own\n1,2\n", b"\xff\xfe", b'case,input,reason\n"a'])
def test_a_file_that_is_no_list_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "failed.csv"
    path.write_bytes(content)
    with pytest.raises(OutputError) as error:
        FailedCases(tmp_path)
    assert error.value.code == "foreign-failed-csv" and str(path) in str(error.value)
    assert path.read_bytes() == content
