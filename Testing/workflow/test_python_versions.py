"""All files name the same versions of Python."""

import re

from repository import ROOT


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
