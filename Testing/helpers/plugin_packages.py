"""Packages of somebody else: `Testing/data/plugin` as pip installs it, and small ones written by hand."""

import importlib
import subprocess
import sys
from pathlib import Path

from repository import ROOT

PLUGIN = ROOT / "Testing" / "data" / "plugin"


def install_plugin(target: Path) -> Path:
    """Install the package as its users do, without the network; returns the folder to put on `sys.path`."""
    options = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check"]
    call = [sys.executable, "-m", "pip", "install", *options, "--target", target, PLUGIN]
    done = subprocess.run([*map(str, call)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def write_package(folder: Path, name: str, version: str = "2.0", *, code: str = "", **points: str) -> None:
    """Write an installed package by hand.

    Args:
        folder: to put on `sys.path`.
        code: of its only module, which is called as the package, with `_` for `-`.
        points: group ("heads" or "exports") to lines of entry points.
    """
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    groups = [f"[segwithu.{group}]\n{lines}\n" for group, lines in points.items()]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    (folder / f"{name.replace('-', '_')}.py").write_text(code, encoding="utf-8")
    importlib.invalidate_caches()
