"""One run a folder: shares of the cases, signs of life, and a lock that was lost."""

import os
import time
from pathlib import Path

import pytest

from SegWithUCore.util import run_lock
from SegWithUCore.util.errors import UsageError
from SegWithUCore.util.run_lock import LockLostError, Part, RunLock, RunLockedError


def test_shares_hold_every_case_once_and_differ_by_one_at_most() -> None:
    cases = [f"case-{number:03d}" for number in range(25)]
    shares = [Part(number, 4).share(cases) for number in range(1, 5)]
    assert sorted(case for share in shares for case in share) == cases
    assert {len(share) for share in shares} == {6, 7}
    assert Part.parse("4/4").share(cases) == shares[3]
    assert Part(3, 3).share(cases[:2]) == []


@pytest.mark.parametrize(
    ("task", "first", "step", "count", "part"),
    [("0", "0", "1", "8", "1/8"), ("7", "0", "1", "8", "8/8"), ("5", "1", "2", "4", "3/4"), ("9", "9", "", "1", "1/1")],
)
def test_tasks_of_slurm_arrays_are_shares(
    task: str, first: str, step: str, count: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ID", task), ("MIN", first), ("STEP", step), ("COUNT", count)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert str(Part.parse("slurm")) == part
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "99")
    with pytest.raises(UsageError, match="contiguous array"):
        Part.parse("slurm")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    with pytest.raises(UsageError, match="--array"):
        Part.parse("slurm")


def test_a_run_shows_that_it_lives_and_notices_that_it_lost_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "SIGN_OF_LIFE_S", 0.01)
    with RunLock.take(tmp_path / "new") as lock:
        path = Path(lock.identity()[0])
        os.utime(path, (1e9, 1e9))
        deadline = time.monotonic() + 60
        while path.stat().st_mtime < 2e9 and time.time() - path.stat().st_mtime > 1e6:
            assert time.monotonic() < deadline, "no sign of life"
            time.sleep(0.005)
        lock.check()
        with pytest.raises(RunLockedError):
            RunLock.take(tmp_path / "new", resume=True, take_over=True)
        content = path.read_text(encoding="utf-8")
        path.write_text(content.replace('"pid": ', '"pid": 1'), encoding="utf-8")
        with pytest.raises(LockLostError, match="stops before its next case"):
            lock.check()
        os.utime(path, (1e9, 1e9))
        time.sleep(0.1)
        assert path.stat().st_mtime == 1e9, "the new owner's sign of life is its own"
        path.unlink()
        with pytest.raises(LockLostError):
            lock.check()
    assert not (tmp_path / "new").exists(), "an empty folder that the run made is gone with it"


def test_equal_shares_work_at_the_same_time_and_others_do_not(tmp_path: Path) -> None:
    with RunLock.take(tmp_path, Part(1, 2)), RunLock.take(tmp_path, Part(2, 2)):
        for other in (None, Part(1, 2), Part(3, 3)):
            with pytest.raises(RunLockedError, match="worked on"):
                RunLock.take(tmp_path, other)
    assert list(tmp_path.iterdir()) == []
