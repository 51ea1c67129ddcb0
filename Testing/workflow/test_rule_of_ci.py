"""What CI and make promise: a skipped test is a failure, all parts run, and all name the same versions of Python."""

import os
import re
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


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(("surroundings", "code"), [({"CI": "true"}, 1), ({}, 0)], ids=["CI", "elsewhere"])
def test_a_skip_fails_in_ci_alone(processes: str, surroundings: dict[str, str], code: int, tmp_path: Path) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    call = ["-m", "pytest", "-p", "conftest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    paths = {"PYTHONPATH": os.pathsep.join(map(str, [TESTING, HELPERS]))}
    done = subprocess.run(
        [sys.executable, *call, "-p", "no:cacheprovider", "-n", processes, str(tmp_path / "test_skips.py")],
        env={**kept, **paths, **surroundings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "2 passed, 1 skipped" in done.stdout
    assert ("counts as failure in CI" in done.stdout) == bool(code)


def test_make_test_runs_its_second_part_after_a_failure_and_fails(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path / "calls"}\ncase "$*" in *" -n "*) exit 7;; esac\n')
    python.chmod(0o755)
    (tmp_path / ".test").touch()  # as if installed
    call = ["make", "-C", str(ROOT), "test", f"VENV={tmp_path}", "-o", "system-libraries"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [("not serial" in call, "-m serial and" in call) for call in calls] == [(True, False), (False, True)]
    assert done.returncode == 2 and "Error 7" in done.stderr


def test_all_files_name_the_same_versions_of_python() -> None:
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in (
            "pyproject.toml",
            "Makefile",
            "README.md",
            "CONTRIBUTING.md",
            "RELEASING.md",
            "docs/user/install.md",
        )
    }
    minors = [int(found) for found in re.findall(r"Python :: 3\.(\d+)\"", texts["pyproject.toml"])]
    oldest, newest = minors[0], minors[-1]
    assert minors == list(range(oldest, newest + 1))
    assert f'requires-python = ">=3.{oldest}"' in texts["pyproject.toml"]
    assert f'target-version = "py3{oldest}"' in texts["pyproject.toml"]
    for name in ("README.md", "CONTRIBUTING.md", "docs/user/install.md"):
        assert re.findall(r"Python (3\.\d+ (?:to|or) 3\.\d+)", texts[name]) == [f"3.{oldest} to 3.{newest}"], name
    assert f"PYTHON=python3.{newest}" in texts["RELEASING.md"]
    # make also takes the next, which has not been tried.
    assert f"(3, {oldest}) <= sys.version_info < (3, {newest + 2})" in texts["Makefile"]
    assert f"Python 3.{oldest} to 3.{newest + 1} is needed" in texts["Makefile"]
    named = [f"python3.{minor}" for minor in range(oldest, newest + 2)]
    assert f"for p in {' '.join(named)} python3;" in texts["Makefile"]
    assert f"for p in {' '.join(named[:0:-1])};" in texts["Makefile"]
    matrices = 0
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        for matrix in re.findall(r"^ +python: (.*)$", text, re.MULTILINE):
            assert matrix == str([f"3.{minor}" for minor in minors]).replace("'", '"'), path
            matrices += 1
        for single in re.findall(r'python-version: "3\.(\d+)"', text):
            assert int(single) in minors, path
    assert matrices == 3
