"""One target has one writer: its lock, and the moment of renaming, which checks again."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from SegWithUCore.util import atomic_files
from SegWithUCore.util.atomic_files import TEMPORARY_PREFIX, atomic_file, atomic_folder, one_writer
from SegWithUCore.util.errors import OutputError


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "theirs").write_text("theirs")


COMES: dict[str, Callable[[Path], object]] = {
    "folder": _full_folder,
    "empty folder": Path.mkdir,
    "file": lambda path: path.write_text("theirs"),
    "link to nothing": lambda path: path.symlink_to("nowhere"),
}


def _look(path: Path) -> object:
    return path.readlink() if path.is_symlink() else sorted(path.iterdir()) if path.is_dir() else path.read_text()


@pytest.mark.parametrize("writer", [atomic_folder, lambda target: atomic_file(target, overwrite=False)])
@pytest.mark.parametrize("kind", COMES)
def test_what_came_into_being_meanwhile_stays(kind: str, writer: Callable[[Path], object], tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(OutputError) as error, writer(target) as work:  # type: ignore[attr-defined]
        (work / "ours" if work.is_dir() else work).write_text("ours")
        COMES[kind](target)
        there = _look(target)
    assert error.value.code == "exists-already"
    assert str(target) in str(error.value)
    assert _look(target) == there
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("kind", COMES)
def test_what_is_there_is_replaced_only_where_that_was_said(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    COMES[kind](target)
    with pytest.raises(OutputError) as error, atomic_folder(target):
        pytest.fail("it went to work")
    assert error.value.code == "exists-already"
    with atomic_folder(target, overwrite=True) as work:
        (work / "ours").write_text("ours")
    assert [path.name for path in target.iterdir()] == ["ours"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_that_may_not_replace_needs_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with atomic_file(tmp_path / "new", overwrite=False) as work:
        work.write_text("ours")
    assert (tmp_path / "new").read_text() == "ours"
    with pytest.raises(OutputError) as error, atomic_file(tmp_path / "new", overwrite=False) as work:
        work.write_text("other")
    assert error.value.code == "exists-already"
    assert (tmp_path / "new").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def _lock_of(folder: Path) -> Path:
    return next(folder.glob(f"{TEMPORARY_PREFIX}lock-*"))


def test_a_second_process_is_refused_and_another_target_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from SegWithUCore.util.atomic_files import atomic_folder\n"
        "from SegWithUCore.util.errors import OutputError\n"
        "try:\n"
        "    with atomic_folder(pathlib.Path(sys.argv[1]), overwrite=True): pass\n"
        "except OutputError as error: print(error.code)\n"
    )

    def other_process(target: Path) -> str:
        call = [sys.executable, "-c", code, target]
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()

    with one_writer(tmp_path / "target"), atomic_folder(tmp_path / "target"):  # this process may say so again
        assert other_process(tmp_path / "target") == "folder-in-use"
        assert other_process(tmp_path / "x" / ".." / "other") == ""
        (tmp_path / "link").symlink_to(tmp_path)
        assert other_process(tmp_path / "link" / "target") == "folder-in-use"
    assert other_process(tmp_path / "target") == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "other", "target"]


def test_a_second_thread_is_refused_and_the_same_one_may_say_so_again(tmp_path: Path) -> None:
    codes = []

    def other_thread() -> None:
        with pytest.raises(OutputError) as error, one_writer(tmp_path / "target"):
            pytest.fail("it went to work")
        codes.append(error.value.code)

    with one_writer(tmp_path / "target"), one_writer(tmp_path / "target"):
        thread = threading.Thread(target=other_thread)
        thread.start()
        thread.join()
    assert codes == ["folder-in-use"]
    assert not any(tmp_path.iterdir())


def test_the_lock_of_a_dead_process_goes_with_what_it_left(tmp_path: Path) -> None:
    with one_writer(tmp_path / "target"):
        path = _lock_of(tmp_path)
    path.write_text("process 12 on elsewhere\n")
    with atomic_file(tmp_path / "another") as work:
        work.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_a_process_that_ends_at_once_takes_its_lock_along(tmp_path: Path) -> None:
    with one_writer(tmp_path / "target"):
        assert _lock_of(tmp_path)
        atomic_files.remove_unfinished()
        assert not any(tmp_path.iterdir())
