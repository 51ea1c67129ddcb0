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

from SegWithUSlicerLib.run import private_folder
from SegWithUSlicerLib.run.private_folder import PrivateFolder, remove_leftovers

ON_POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
NOBODY = 65534


def fill(folder: Path) -> None:
    (folder / "case").mkdir()
    (folder / "case" / "image.nrrd").write_text("patient", encoding="utf-8")


def folder_of(root: Path, pid: int, name: str = "abcd1234") -> Path:
    path = root / f"segwithu-{pid}-{name}"
    path.mkdir(parents=True)
    (path / ".lock").write_text(f"process {pid} on here\n", encoding="utf-8")
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
            private = PrivateFolder(Path(root))
            fill(private.path)
            (private.path / "case" / "image.nrrd").chmod(0o400)
            (private.path / "case").chmod(0o500)
            return private.remove()

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
    code = (
        "import sys; from pathlib import Path; from SegWithUSlicerLib.run.private_folder import PrivateFolder\n"
        "folder = PrivateFolder(Path(sys.argv[1])); print(folder.path, flush=True); sys.stdin.read()"
    )
    call = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    with subprocess.Popen(call, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        living = Path(other.stdout.readline().strip())
        left = [folder_of(tmp_path, dead_pid()), folder_of(tmp_path, os.getpid(), "earlier1")]
        mine, new, old = PrivateFolder(tmp_path), tmp_path / "segwithu-1-new", tmp_path / "segwithu-1-old"
        kept = [mine.path, living, new]
        kept += [tmp_path / name for name in ("segwithu-constraints-abc", "segwithu-x-abc", "other")]
        for path in [*kept[2:], old]:
            path.mkdir()
        an_age_ago = time.time() - 10 * 86400
        os.utime(old, (an_age_ago, an_age_ago))
        (tmp_path / f"segwithu-{dead_pid()}-file").write_text("not a folder", encoding="utf-8")
        assert sorted(remove_leftovers(tmp_path)) == sorted([*left, old])
        assert all(path.is_dir() for path in kept)
        mine.remove()
        other.kill()
        other.wait()
        assert remove_leftovers(tmp_path) == [living]


@ON_POSIX
def test_sweep_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    fill(precious)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / f"segwithu-{dead_pid()}-link").symlink_to(precious, target_is_directory=True)
    assert remove_leftovers(tmp_path / "root") == []
    assert (precious / "case" / "image.nrrd").is_file()


@ON_POSIX
def test_sweep_leaves_other_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, dead_pid())
    monkeypatch.setattr(private_folder.os, "getuid", lambda: os.geteuid() + 1)
    assert remove_leftovers(tmp_path) == []


def test_sweep_of_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path / "nowhere") == []
