"""Where things lie in this repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ROOT / "SegWithUSlicer"
"""The folder of the packages, for PYTHONPATH."""
TESTING = ROOT / "Testing"
HELPERS = TESTING / "helpers"
BENCHMARKS = TESTING / "Benchmarks"
