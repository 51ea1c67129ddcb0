"""The platform's place for what the program keeps for a user; standard library only."""

import os
import sys
from pathlib import Path


def user_folder() -> Path:
    """The folder for application data of this user; it need not be there yet."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "SegWithUSlicer"
