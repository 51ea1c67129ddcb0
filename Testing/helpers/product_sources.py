"""The product's own source files, for tests that read them."""

import ast
from pathlib import Path

from repository import PACKAGES, ROOT

CORE = PACKAGES / "SegWithUCore"
SOURCES = sorted(path for path in PACKAGES.rglob("*.py") if not any(part.startswith(".") for part in path.parts))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
