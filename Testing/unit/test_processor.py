"""How many cores this process may use, and that threads sleep while they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import PACKAGES

from SegWithUCore.util import processor
from SegWithUCore.util.processor import SLURM_CORES, WAITING, usable_cores, use_threads


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, no scheduler, nothing set by the user."""
    for name in [SLURM_CORES, *WAITING, "OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def linux(folder: Path, version: int, **files: str) -> Path:
    """A /proc of a process in the control group /job, whose parent has no limit."""
    mount, proc = folder / "groups", folder / "proc" / "self"
    (mount / "job").mkdir(parents=True)
    proc.mkdir(parents=True)
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,cpuacct"
    (proc / "mountinfo").write_text(f"32 31 0:29 / {mount} rw,nosuid - {kind}\n")
    (proc / "cgroup").write_text("0::/job\n" if version == 2 else "4:cpu,cpuacct:/job\n")
    for name, text in files.items():
        (mount / "job" / name.replace("__", ".")).write_text(text)
    return proc.parent


class TestUsableCores:
    def test_affinity_counts_where_nothing_else_limits(self, tmp_path: Path) -> None:
        assert usable_cores(tmp_path) == 8
        assert usable_cores(linux(tmp_path, 2, cpu__max="max 100000\n")) == 8

    @pytest.mark.parametrize(
        ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("2000000 100000", 8)]
    )
    def test_quota_of_version_2_rounds_up(self, tmp_path: Path, quota: str, cores: int) -> None:
        assert usable_cores(linux(tmp_path, 2, cpu__max=f"{quota}\n")) == cores

    @pytest.mark.parametrize(("quota", "cores"), [("300000", 3), ("-1", 8)])
    def test_quota_of_version_1(self, tmp_path: Path, quota: str, cores: int) -> None:
        files = {"cpu__cfs_quota_us": f"{quota}\n", "cpu__cfs_period_us": "100000\n"}
        assert usable_cores(linux(tmp_path, 1, **files)) == cores

    @pytest.mark.parametrize(("said", "cores"), [("4", 4), ("0", 8), ("many", 8), ("16", 8)])
    def test_scheduler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, cores: int) -> None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", said)
        assert usable_cores(tmp_path) == cores


class TestThreads:
    def test_what_the_user_set_is_kept_unless_a_number_is_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        monkeypatch.delitem(sys.modules, "SimpleITK", raising=False)
        assert use_threads() == 3
        assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
        assert use_threads(2) == 2
        assert os.environ["OMP_NUM_THREADS"] == os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "2"

    @pytest.mark.slow
    @pytest.mark.parametrize("count", [1, 2])
    def test_command_sets_threads_before_torch_is_loaded(self, tmp_path: Path, count: int) -> None:
        code = (
            "import os, sys\nfrom SegWithUCore.cli.__main__ import main\n"
            "assert main(sys.argv[1:]) == 1\n"
            "import SimpleITK, torch\n"
            "itk = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()\n"
            "print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads(), itk)"
        )
        call = ["segment", tmp_path / "missing.nii.gz", "--model", "hippocampus", "--output", tmp_path]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, call), "--threads", str(count)],
            env={**os.environ, "PYTHONPATH": str(PACKAGES)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["PASSIVE", str(count), str(count)], done.stderr
