"""Where resources and model bundles lie; no third-party packages, so that Slicer's own process can ask too."""

import os
from dataclasses import dataclass
from pathlib import Path

from ..input_files import is_there
from ..user_folder import user_folder

BUNDLE_FILE = "bundle.json"


def resources_folder() -> Path | None:
    """The `Resources` folder: in the package (wheel), beside it (Slicer) or at the top of a checkout; else None."""
    package = Path(__file__).resolve().parents[1]
    places = [folder / "Resources" for folder in (package, package.parent, package.parent.parent)]
    return next((place for place in places if (place / "Models").is_dir()), None)


def user_models_folder() -> Path:
    """Where a user's own bundles live: SEGWITHU_MODELS, or the platform's place for application data."""
    if os.environ.get("SEGWITHU_MODELS"):
        return Path(os.environ["SEGWITHU_MODELS"])
    return user_folder() / "Models"


def user_networks_file() -> Path:
    """Where users say which file each of their own networks is in: SEGWITHU_NETWORKS, or beside their bundles."""
    return Path(os.environ.get("SEGWITHU_NETWORKS") or user_folder() / "networks.json")


@dataclass(frozen=True)
class BundleFolders:
    """What lies in a folder of models.

    Attributes:
        folders: those that hold a `bundle.json`, or whose content nobody may see, by name.
        problem: why the folder itself cannot be looked into; None where it can, or is not there.
    """

    folders: list[Path]
    problem: str | None = None


def bundle_folders(place: Path) -> BundleFolders:
    """The folders of bundles in a folder of models; one that may not be read is told, and stops nobody."""
    try:
        entries = sorted(place.iterdir())
    except FileNotFoundError:
        return BundleFolders([])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return BundleFolders([], f"the folder of models {place} is passed over, for it cannot be read ({reason})")
    return BundleFolders([entry for entry in entries if is_there(entry / BUNDLE_FILE)])
