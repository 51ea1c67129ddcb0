"""What a computation frees stays with its process, and goes back when it is done."""

import platform
import subprocess
import sys

import pytest
from repository import PACKAGES

pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory"),
]

PROGRAM = """
import resource, sys
import numpy as np
from SegWithUCore.util.memory import give_back_freed_memory, keep_freed_memory

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

def work():
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults

kept = "keep" in sys.argv and keep_freed_memory()
work()
before = resident_mb()
faults = work()
give_back_freed_memory()
print(kept, faults, before - resident_mb())
"""


def _run(*arguments: str, **environment: str) -> tuple[bool, int, float]:
    core = PACKAGES
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={"PYTHONPATH": str(core), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults, given_back = done.stdout.split()
    return kept == "True", int(faults), float(given_back)


def test_a_process_that_keeps_its_memory_fetches_no_page_twice() -> None:
    kept, faults, _ = _run("keep")
    kept_not, faults_without, _ = _run()
    assert kept and not kept_not
    assert faults < 0.01 * faults_without


def test_what_was_kept_goes_back_at_once() -> None:
    assert _run("keep")[2] > 70


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_who_has_set_glibc_himself_keeps_his_settings(name: str) -> None:
    value = "glibc.malloc.arena_max=2" if name == "GLIBC_TUNABLES" else "2"
    assert not _run("keep", **{name: value})[0]
