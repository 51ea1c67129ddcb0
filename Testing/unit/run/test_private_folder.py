"""Patient data in a private folder: nobody else reads it, and it is gone in every outcome."""

import gc
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import PACKAGES

from SegWithUCore.util import processes
from SegWithUSlicerLib.run import private_folder
from SegWithUSlicerLib.run.private_folder import PrivateFolder, sweep

ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
NOBODY = 65534


def fill(folder: Path) -> None:
    (folder / "case").mkdir()
    (folder / "case" / "image.nrrd").write_text("patient", encoding="utf-8")


def folder_of(root: Path, pid: int, name: str = "abcd1234") -> Path:
    path = root / f"segwithu-{pid}-{name}"
    path.mkdir(parents=True)
    fill(path)
    return path


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@ON_POSIX
def test_only_the_user_can_enter(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        folder = PrivateFolder(tmp_path / "new" / "root")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert folder.path.name.startswith(f"segwithu-{os.getpid()}-")
    assert folder.remove()


def test_removed_at_the_end_of_a_block_whatever_happened(tmp_path: Path) -> None:
    with PrivateFolder(tmp_path) as path:
        fill(path)
    assert not path.exists()
    with pytest.raises(ValueError, match="broken"), PrivateFolder(tmp_path) as path:
        fill(path)
        raise ValueError("broken")
    assert not any(tmp_path.iterdir())


def test_removed_explicitly_twice_and_when_forgotten(tmp_path: Path) -> None:
    folder = PrivateFolder(tmp_path)
    fill(folder.path)
    assert folder.remove()
    assert folder.remove()
    forgotten = PrivateFolder(tmp_path)
    fill(forgotten.path)
    del forgotten
    gc.collect()
    assert not any(tmp_path.iterdir())


def test_removed_when_python_ends_with_an_error(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from SegWithUSlicerLib.run.private_folder import PrivateFolder\n"
        "folder = PrivateFolder(Path(sys.argv[1])); (folder.path / 'x').write_text('y'); raise SystemExit(3)"
    )
    call = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(call, env={**os.environ, "PYTHONPATH": str(PACKAGES)}, check=False).returncode == 3
    assert not any(tmp_path.iterdir())


@ON_POSIX
def test_read_only_content_is_removed() -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own folder is closed to other users

        def work() -> bool:
            with PrivateFolder(Path(root)) as path:
                fill(path)
                (path / "case" / "image.nrrd").chmod(0o400)
                (path / "case").chmod(0o500)
            return not path.exists()

        assert as_ordinary_user(work, Path(root))


def as_ordinary_user(work: Callable[[], bool], folder: Path) -> bool:
    """Whether `work` says True in a child without root's rights; root may remove everything, so it proves nothing."""
    if os.geteuid() != 0:
        return work()
    os.chown(folder, NOBODY, NOBODY)
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_sweep_takes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        left = [folder_of(tmp_path, dead_pid()), folder_of(tmp_path, os.getpid(), "earlier1")]
        mine = PrivateFolder(tmp_path)
        kept = [mine.path, folder_of(tmp_path, other.pid)]
        kept += [tmp_path / name for name in ("segwithu-constraints-abc", "segwithu-x-abc", "other")]
        for path in kept[2:]:
            path.mkdir()
        (tmp_path / f"segwithu-{dead_pid()}-file").write_text("not a folder", encoding="utf-8")
        assert sorted(sweep(tmp_path)) == sorted(left)
        assert all(path.is_dir() for path in kept)
        assert not any(path.exists() for path in left)
        mine.remove()
    finally:
        other.kill()
        other.wait()


@ON_POSIX
def test_sweep_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    fill(precious)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / f"segwithu-{dead_pid()}-link").symlink_to(precious, target_is_directory=True)
    assert sweep(tmp_path / "root") == []
    assert (precious / "case" / "image.nrrd").is_file()


@ON_POSIX
def test_sweep_leaves_other_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, dead_pid())
    monkeypatch.setattr(private_folder.os, "getuid", lambda: os.geteuid() + 1)
    assert sweep(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux tells when a process began")
def test_number_that_went_to_a_younger_process_does_not_protect(tmp_path: Path) -> None:
    path = folder_of(tmp_path, os.getppid())
    an_age_ago = time.time() - 10 * 365 * 86400
    os.utime(path, (an_age_ago, an_age_ago))
    assert sweep(tmp_path) == [path]


def test_windows_is_never_asked_with_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone, alive = folder_of(tmp_path, 1001), folder_of(tmp_path, 1002)

    def no_signal(*_: int) -> None:
        raise AssertionError("os.kill(pid, 0) ends processes on Windows")

    monkeypatch.setattr(private_folder.sys, "platform", "win32")
    monkeypatch.setattr(private_folder.os, "kill", no_signal)
    monkeypatch.setattr(processes, "_is_alive_on_windows", lambda pid: pid == 1002)
    assert sweep(tmp_path) == [gone]
    assert alive.is_dir()


def test_sweep_of_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert sweep(tmp_path / "nowhere") == []
