"""The command where torch and its kin are missing: `python command_without_torch.py ALLOWED command ARGUMENTS...`.

ALLOWED are the third-party packages that are there, joined by commas. `review FOLDER REVIEWER` instead of `command`
gives verdicts on the first regions of a case, as a reviewer on such a computer would.
"""

import importlib.abc
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from repository import HELPERS, PACKAGES

OURS = {path.stem for path in HELPERS.glob("*.py")} | {"SegWithUCore", "SegWithULab"}
LIGHT = ("numpy", "SimpleITK")


class NothingElse(importlib.abc.MetaPathFinder):
    """Finds nothing third-party but what is allowed."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = {*allowed, *OURS, *sys.stdlib_module_names}

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Refuse; None lets the others look."""
        if not name.startswith("_") and name.partition(".")[0] not in self._allowed:  # _sysconfigdata... is Python's
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None


def light(*arguments: str | Path, allowed: Sequence[str] = LIGHT) -> "subprocess.CompletedProcess[str]":
    """Run this file in a process of its own, where only `allowed` can be imported."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"}
    call = [sys.executable, __file__, ",".join(allowed), *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, env=environment, check=False)


def main(allowed: str, what: str, *arguments: str) -> int:
    """Do it."""
    sys.meta_path.insert(0, NothingElse(allowed.split(",")))
    if what == "command":
        from SegWithUCore.cli.__main__ import main as command

        return command(arguments)
    from exchanged_cases import VERDICTS_THERE, judged

    folder, reviewer = arguments
    judged(Path(folder), reviewer, VERDICTS_THERE, comment="seen there")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
