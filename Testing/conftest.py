"""Where tests find real data."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SEGWITHU_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent, but never in CI."""
    if not DATA.is_dir():
        message = f"real data not found: set SEGWITHU_DATA or put it at {DATA}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return DATA
