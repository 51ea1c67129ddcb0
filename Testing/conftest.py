"""Where tests find real data."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data")


def pytest_configure() -> None:
    """Answer Ctrl-C: a shell that starts the tests in the background has it ignored, here and in all children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent, but never in CI."""
    if not DATA.is_dir():
        message = f"real data not found: set SEGWITHU_DATA or put it at {DATA}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return DATA


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: everything it needs must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why a run without failures fails."""
    skipped = len(terminalreporter.stats.get("skipped", []))
    if os.environ.get("CI") and skipped:
        terminalreporter.write_line(f"{skipped} tests were skipped, which counts as failure in CI", red=True)
