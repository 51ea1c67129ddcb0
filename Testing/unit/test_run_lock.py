"""One run a folder: shares of the cases, signs of life, and a lock that was lost."""

from pathlib import Path

import pytest

from SegWithUCore.util.errors import OutputError
from SegWithUCore.util.run_lock import Part, run_lock


def test_shares_hold_every_case_once_and_differ_by_one_at_most() -> None:
    cases = [f"case-{number:03d}" for number in range(25)]
    shares = [Part(number, 4).share(cases) for number in range(1, 5)]
    assert sorted(case for share in shares for case in share) == cases
    assert {len(share) for share in shares} == {6, 7}
    assert Part.parse("4/4").share(cases) == shares[3]
    assert Part(3, 3).share(cases[:2]) == []


def test_equal_shares_work_at_the_same_time_and_others_do_not(tmp_path: Path) -> None:
    with run_lock(tmp_path, Part(1, 2)), run_lock(tmp_path, Part(2, 2)):
        with pytest.raises(OutputError) as error, run_lock(tmp_path, Part(1, 2)):
            pytest.fail("it went to work")
        assert error.value.code == "folder-in-use"
    assert list(tmp_path.iterdir()) == []


def test_locks_of_dead_runs_hold_nobody_up_and_a_folder_made_for_nothing_goes(tmp_path: Path) -> None:
    (tmp_path / ".run.lock").write_text("process 12 on elsewhere\n")
    with run_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".run.lock"]
    with run_lock(tmp_path / "new"):
        assert (tmp_path / "new" / ".run.lock").is_file()
    assert list(tmp_path.iterdir()) == []
