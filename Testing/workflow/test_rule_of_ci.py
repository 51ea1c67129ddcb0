"""What CI promises: a skipped test is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import HELPERS, ROOT, TESTING

SKIPS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_skips(number):
    if number == 1:
        pytest.skip("what it needs is missing")
"""


@pytest.mark.parametrize(("surroundings", "code"), [({"CI": "true"}, 1), ({}, 0)], ids=["CI", "elsewhere"])
def test_a_skip_fails_in_ci_alone(surroundings: dict[str, str], code: int, tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    call = ["-m", "pytest", "-p", "conftest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    paths = {"PYTHONPATH": os.pathsep.join(map(str, [TESTING, HELPERS]))}
    done = subprocess.run(
        [sys.executable, *call, "-p", "no:cacheprovider", "-n", "2", str(tmp_path / "test_skips.py")],
        env={**kept, **paths, **surroundings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "2 passed, 1 skipped" in done.stdout
    assert ("counts as failure in CI" in done.stdout) == bool(code)
