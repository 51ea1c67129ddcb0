"""Where things lie in this repository."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "SegWithUSlicer"
"""The folder of the packages, for PYTHONPATH."""
TESTING = ROOT / "Testing"
HELPERS = TESTING / "helpers"
BENCHMARKS = TESTING / "Benchmarks"


def left_out_of_slicer(path: Path) -> bool:
    """Whether a file of the packages is not installed into Slicer, as CMake says."""
    text = (PACKAGES / "CMakeLists.txt").read_text(encoding="utf-8")
    (pattern,) = re.findall(r'EXCLUDE REGEX\s+"([^"]+)"', text)
    return re.search(pattern, path.relative_to(PACKAGES).as_posix()) is not None
