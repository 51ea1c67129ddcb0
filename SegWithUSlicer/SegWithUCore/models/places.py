"""Where resources and model bundles lie; standard library only, so that Slicer's own process can ask too."""

import os
from pathlib import Path

from ..user_folder import user_folder


def resources_folder() -> Path | None:
    """The `Resources` folder: beside the module when installed, at the top of a source checkout; None without one."""
    package = Path(__file__).resolve().parents[1]
    places = [package.parent / "Resources", package.parent.parent / "Resources"]
    return next((place for place in places if (place / "Models").is_dir()), None)


def user_models_folder() -> Path:
    """Where a user's own bundles live: SEGWITHU_MODELS, or the platform's place for application data."""
    if os.environ.get("SEGWITHU_MODELS"):
        return Path(os.environ["SEGWITHU_MODELS"])
    return user_folder() / "Models"


def user_networks_file() -> Path:
    """Where users say which file each of their own networks is in: SEGWITHU_NETWORKS, or beside their bundles."""
    return Path(os.environ.get("SEGWITHU_NETWORKS") or user_folder() / "networks.json")
