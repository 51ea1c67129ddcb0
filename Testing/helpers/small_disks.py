"""Disks that fill up."""

import os
from pathlib import Path

DISK_KB = 2048


def leave(disk: Path, kilobytes: int) -> None:
    """Fill the disk until `kilobytes` are free."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    state = os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - kilobytes * 1024)))
