"""Byte-compiles one copied script; a syntax error ends the build."""

import py_compile
import sys

py_compile.compile(sys.argv[1], doraise=True)
