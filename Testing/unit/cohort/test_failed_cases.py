"""`failed.csv` stays readable whatever the names, and replaces no file of the user."""

from pathlib import Path

import pytest

from SegWithUCore.cohort.jobs import COLUMNS, check_failed_file, write_failed
from SegWithUCore.util.csv_files import read_csv
from SegWithUCore.util.errors import OutputError

NAMES = ["a\r=HYPERLINK(1).nii", "a\nb", 'a"b', "=1+1", "a;=1", "M\udcfcller.nii", "ä,b", "-5", "\x1b[31m", "'x"]


def test_any_names_are_written_and_a_run_without_failures_removes_the_list(tmp_path: Path) -> None:
    path = tmp_path / "failed.csv"
    write_failed(path, [(name, tmp_path / name, f"{name} is broken.") for name in NAMES])
    rows = read_csv(path)
    assert rows[0] == COLUMNS
    assert len(rows) == 1 + len(NAMES)
    assert b"\r" not in path.read_bytes()
    check_failed_file(path)
    write_failed(path, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"my,own\n1,2\n", b"\xff\xfe", b'case,input,reason\n"a'])
def test_a_file_that_is_no_list_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "failed.csv"
    path.write_bytes(content)
    with pytest.raises(OutputError) as error:
        check_failed_file(path)
    assert error.value.code == "exists-already" and str(path) in str(error.value)
    assert path.read_bytes() == content
