"""How much memory is free: the system, control groups of both versions, limits; on stand-ins of /proc and for real."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import PACKAGES

from SegWithUCore.util import memory
from SegWithUCore.util.memory import (
    IGNORE_VARIABLE,
    NotEnoughMemoryError,
    available_bytes,
    check_memory,
    resident_bytes,
    size_text,
)
from SegWithUCore.util.processor import control_groups

GB = 1 << 30
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="how Linux shows its memory")


class FakeLinux:
    """A /proc with 8 GB available, and the control groups that tests put beside it."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroups"
        self.write(self.proc / "self" / "statm", "1000 500 0 0 0 0 0\n")
        self.meminfo(available=8 * GB)
        self.mounts: list[str] = []

    def meminfo(self, available: int, swap: int = 0) -> None:
        lines = ["MemTotal: 99999999 kB", f"MemAvailable: {available // 1024} kB", f"SwapFree:  {swap // 1024} kB"]
        self.write(self.proc / "meminfo", "\n".join(lines) + "\n")

    def group(self, version: int, path: str, root: str = "/", **files: object) -> None:
        """A group of this process at `path`; the part of its hierarchy below `root` is mounted."""
        mount = self.cgroups / f"v{version}"
        kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,memory"
        line = f"32 31 0:29 {root} {mount} rw,nosuid - {kind}\n"
        self.mounts += [] if line in self.mounts else [line]
        self.write(self.proc / "self" / "mountinfo", "".join(self.mounts))
        self.write(self.proc / "self" / "cgroup", f"0::{path}\n" if version == 2 else f"4:cpu,memory:{path}\n0::/\n")
        self.files(mount / path.strip("/"), **files)

    def files(self, folder: Path, **files: object) -> None:
        for name, content in files.items():
            self.write(folder / name.replace("__", "."), f"{content}\n")

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLinux:
    monkeypatch.delenv(IGNORE_VARIABLE, raising=False)
    return FakeLinux(tmp_path)


@ON_LINUX
def test_without_limits_memory_and_swap_are_free(linux: FakeLinux) -> None:
    assert available_bytes(linux.proc) == 8 * GB
    linux.meminfo(available=8 * GB, swap=2 * GB)
    assert available_bytes(linux.proc) == 10 * GB
    (linux.proc / "meminfo").unlink()
    assert available_bytes(linux.proc) is None


@ON_LINUX
def test_version_2_group_and_its_parents_limit_what_is_free(linux: FakeLinux) -> None:
    linux.group(2, "/user/run", memory__max="max", memory__current=3 * GB)
    assert available_bytes(linux.proc) == 8 * GB
    linux.files(linux.cgroups / "v2" / "user", memory__max=5 * GB, memory__current=4 * GB)
    assert available_bytes(linux.proc) == 1 * GB
    stat = f"anon 5\nfile 9\ninactive_file {GB}\nactive_file {GB // 2}"
    linux.files(linux.cgroups / "v2" / "user", memory__stat=stat)
    assert available_bytes(linux.proc) == 5 * GB // 2  # files kept in memory are given up
    linux.files(linux.cgroups / "v2" / "user" / "run", memory__max=3 * GB)
    assert available_bytes(linux.proc) == 0


@ON_LINUX
def test_version_1_group_limits_what_is_free(linux: FakeLinux) -> None:
    none, limit = 9223372036854771712, 3 * GB
    linux.group(1, "/job", memory__limit_in_bytes=none, memory__usage_in_bytes=GB)
    assert available_bytes(linux.proc) == 8 * GB
    linux.files(linux.cgroups / "v1" / "job", memory__limit_in_bytes=limit)
    linux.files(linux.cgroups / "v1" / "job", memory__stat=f"inactive_file 7\ntotal_inactive_file {GB // 2}")
    assert available_bytes(linux.proc) == 5 * GB // 2


@ON_LINUX
@pytest.mark.parametrize("root", ["/docker/4711", "/"])
def test_in_a_container_the_mount_is_the_group_itself(linux: FakeLinux, root: str) -> None:
    linux.group(1, "/docker/4711", root)
    linux.files(linux.cgroups / "v1", memory__limit_in_bytes=2 * GB, memory__usage_in_bytes=GB)
    assert available_bytes(linux.proc) == GB


@ON_LINUX
def test_a_group_outside_of_what_is_mounted_is_not_looked_for(linux: FakeLinux, tmp_path: Path) -> None:
    linux.group(2, "/../../elsewhere")
    linux.files(tmp_path / "elsewhere", memory__max=1, memory__current=0)
    assert available_bytes(linux.proc) == 8 * GB


def test_nothing_is_known_to_be_free_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_bytes() is not None
    monkeypatch.setenv(IGNORE_VARIABLE, "1")
    assert available_bytes() is None
    check_memory("This", 1e30)


@pytest.mark.serial
@ON_LINUX
def test_this_process_is_known_by_what_it_holds() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(bytes(64 << 20))
        assert resident_bytes() - before >= 60 << 20
    assert resident_bytes(Path("/nowhere")) == memory.PROGRAM_BYTES


@pytest.mark.serial
@ON_LINUX
def test_real_limits_count(tmp_path: Path) -> None:
    """Of a control group, where this computer lets tests make one (mostly root)."""
    groups = list(control_groups("memory"))
    own, version = groups[0] if groups else (tmp_path / "none", 2)
    folder = own / f"segwithu-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        return
    try:
        limit = folder / ("memory.limit_in_bytes" if version == 1 else "memory.max")
        if limit.exists():
            limit.write_text(str(GB))
            free = _seen_free(f"open({str(folder / 'cgroup.procs')!r}, 'w').write('0')")
            assert 0.8 * GB < free <= GB
    finally:
        folder.rmdir()


def _seen_free(before: str) -> int:
    """What another process sees free once it has run the line `before`."""
    code = f"{before}\nfrom SegWithUCore.util.memory import available_bytes; print(available_bytes())"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    call = [sys.executable, "-c", code]
    return int(subprocess.run(call, check=True, capture_output=True, text=True, env=environment).stdout)


def test_the_refusal_names_both_figures_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 3_100_000_000)
    check_memory("The image", 3_000_000_000)
    check_memory("The image", 4_000_000_000, reusable=1_000_000_000)
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_memory("The image", 5_260_000_000, ["crop it"], file=tmp_path / "a.nrrd")
    assert caught.value.code == "unusable-input"
    assert str(caught.value).startswith(f"{tmp_path / 'a.nrrd'}: ")
    for told in (str(caught.value), caught.value.message):
        for words in ("5.3 GB", "3.1 GB", "crop it"):
            assert words in told
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 MB"), (85.4e6, "85 MB"), (999.6e6, "1.0 GB"), (12.3e9, "12 GB"), (4e12, "4.0 TB")]
)
def test_bytes_in_words(size: float, words: str) -> None:
    assert size_text(size) == words
