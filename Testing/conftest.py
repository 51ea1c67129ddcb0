"""What all tests share: where real data lies, surroundings of their own, cases made once, and the rule of CI."""

import gc
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is loaded, here or in a child: several processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from repository import ROOT, TESTING

from SegWithUCore.util import memory

IN_SLICER = getattr(sys.modules.get("slicer"), "app", None) is not None
if not IN_SLICER:
    import stand_in  # prepares the process for Qt and VTK, before anything loads them
collect_ignore = [] if IN_SLICER else ["in_slicer"]

if TYPE_CHECKING:
    from segwithu_command import Command

FULL_DATA = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data")
OF_THE_USER = {"HOME": "", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share", "XDG_CACHE_HOME": ".cache"}
"""Folders of the user that tests get anew, by the variables that name them."""
NEED_SLICER_CORE = ("module", "scene")
"""Folders of tests that need slicer-core and PySide6."""
OF_TRAIN = ("torch", "monai")


def pytest_configure(config: pytest.Config) -> None:
    """Answer Ctrl-C (a shell that starts tests in the background has it ignored), and leave the user's files alone."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Fonts are searched once for all.
    user = os.getuid() if hasattr(os, "getuid") else 0
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"segwithu-tests-matplotlib-{user}"))
    home = tempfile.TemporaryDirectory(prefix="segwithu-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    for variable, part in OF_THE_USER.items():
        folder = Path(home.name, part)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(folder)
    # A command in this process would let it keep what all later tests free. Commands in child processes do keep it.
    memory.keep_freed_memory = lambda: False


class _WithoutSlicerCore(pytest.Module):
    """A test file that is skipped as a whole, and counted as skipped."""

    def collect(self) -> Iterator[pytest.Item]:
        pytest.skip(stand_in.missing_reason(), allow_module_level=True)


class _WithoutTorch(pytest.Module):
    """A test file that is skipped as a whole if it imports torch, or what comes with it in the extra `train`."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            if any(f"No module named '{name}" in str(error) for name in OF_TRAIN):
                pytest.skip("torch is not installed", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip what needs slicer-core or torch, where that is missing; a skip is seen, and a failure in CI."""
    if module_path.is_relative_to(TESTING) and module_path.relative_to(TESTING).parts[0] in NEED_SLICER_CORE:
        return _WithoutSlicerCore.from_parent(parent, path=module_path) if stand_in.missing_reason() else None
    return None if importlib.util.find_spec("torch") else _WithoutTorch.from_parent(parent, path=module_path)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that need more than the data of the checkout."""
    if "full_data_folder" in getattr(item, "fixturenames", ()):
        item.add_marker("full_data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, and those with few tests last.

    Processes side by side take whole files, and then end at the same time.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, item.path not in slow and -tests[item.path]))


def pytest_collection_finish() -> None:
    """Keep what was imported out of garbage collections: they took 5 % of a process's time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: everything it needs must be there. With xdist the first process counts."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a run without failures fails."""
    skipped = len(terminalreporter.stats.get("skipped", []))
    if os.environ.get("CI") and skipped:
        terminalreporter.write_line(f"{skipped} tests were skipped, which counts as failure in CI", red=True)


@pytest.fixture(scope="module", autouse=True)
def _memory_goes_back() -> Iterator[None]:
    """What the tests of a file freed goes back to the system."""
    yield
    memory.give_back_freed_memory()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real data of the checkout: `hippocampus` with six cases, laid out as in the folder of full data."""
    return TESTING / "data"


@pytest.fixture(scope="session")
def full_data_folder() -> Path:
    """The folder of full data. Tests that use it are marked `full_data`; without the folder they fail."""
    if not FULL_DATA.is_dir():
        pytest.fail(
            f"{FULL_DATA} does not exist: fetch the data with Testing/fetch_data.py and set SEGWITHU_DATA, "
            "or leave these tests out: -m 'not full_data'",
            pytrace=False,
        )
    return FULL_DATA


@pytest.fixture(scope="session")
def reference_head(full_data_folder: Path) -> Path:
    """What the authors' head gives for given inputs: published nowhere, so that `fetch_data.py` does not fetch it."""
    folder = full_data_folder / "reference_head"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist, and is published nowhere")
    return folder


@pytest.fixture
def segwithu(capfd: pytest.CaptureFixture[str]) -> "Command":
    """The command, run in this process."""
    from segwithu_command import Command

    return Command(capfd)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of `DISK_KB`."""
    from small_disks import DISK_KB

    folder = tmp_path / "disk"
    folder.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(call, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def segmented_cases(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hippocampi segmented by the shipped model, with their images; tests copy what they change."""
    from exchanged_cases import CASES
    from segwithu_command import MODEL

    from SegWithUCore.cli.__main__ import main

    output = tmp_path_factory.mktemp("segmented")
    images = [str(data_folder / "hippocampus" / "images" / f"{name}.nii.gz") for name in CASES]
    options = ["--model", str(MODEL), "--output", str(output), "--include-image"]
    assert main(["segment", *images, *options]) == 0
    return output


@pytest.fixture(scope="session")
def dicom_cases(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `series` and `cases`: one hippocampus in three geometries; tests copy what they change."""
    from dicom_cases import make_dicom_cases

    return make_dicom_cases(data_folder, tmp_path_factory.mktemp("dicom"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Playwright's `Browser`, started once a session. From then on nothing in this process can call `asyncio.run`."""
    from page_browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def modules(chromium: Any) -> Iterator[Any]:
    """A page of this browser on which a test imports the modules of the review page."""
    from page_browser import opened_modules

    with opened_modules(chromium) as page:
        yield page
