"""Byte-compiles the copied scripts that a file lists, one a line; a syntax error ends the build."""

import py_compile
import sys
from pathlib import Path

for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    py_compile.compile(line, doraise=True)
