"""Where resources and model bundles lie; standard library only, so that Slicer's own process can ask too."""

import os
import sys
from pathlib import Path


def resources_folder() -> Path | None:
    """The `Resources` folder: beside the module when installed, at the top of a source checkout; None without one."""
    package = Path(__file__).resolve().parents[1]
    places = [package.parent / "Resources", package.parent.parent / "Resources"]
    return next((place for place in places if (place / "Models").is_dir()), None)


def user_models_folder() -> Path:
    """Where a user's own bundles live: SEGWITHU_MODELS, or the platform's place for application data."""
    if os.environ.get("SEGWITHU_MODELS"):
        return Path(os.environ["SEGWITHU_MODELS"])
    return _user_folder() / "Models"


def user_networks_file() -> Path:
    """Where users say which file each of their own networks is in: SEGWITHU_NETWORKS, or beside their bundles."""
    return Path(os.environ.get("SEGWITHU_NETWORKS") or _user_folder() / "networks.json")


def _user_folder() -> Path:
    """The platform's place for application data."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "SegWithUSlicer"
