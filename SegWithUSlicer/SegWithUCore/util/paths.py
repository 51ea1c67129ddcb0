"""Where resources, model bundles and the user's own files lie, and which paths in files of others may be followed.

No third-party packages, so that Slicer's own process can ask too.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .input_files import is_there, path_problem

BUNDLE_FILE = "bundle.json"
WEIGHTS_FILE = "weights.safetensors"


def resources_folder() -> Path | None:
    """Find the `Resources` folder: in the package (wheel), next to it (Slicer) or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    candidates = [folder / "Resources" for folder in (package, package.parent, package.parent.parent)]
    return next((candidate for candidate in candidates if (candidate / "Models").is_dir()), None)


def resource_path(name: str) -> Path:
    """Return the path of a resource such as "UI/SegWithUSlicer.ui".

    Raises:
        FileNotFoundError: there is no folder `Resources`: the installation is not complete.
    """
    folder = resources_folder()
    if folder is None:
        package = Path(__file__).resolve().parents[1]
        raise FileNotFoundError(f"there is no folder Resources near {package}: install the extension again")
    return folder / name


def user_models_folder() -> Path:
    """Return the folder of a user's own bundles: SEGWITHU_MODELS, or in the folder for application data."""
    return Path(os.environ.get("SEGWITHU_MODELS") or user_folder() / "Models")


def user_networks_file() -> Path:
    """Return the file in which users list the files of their networks: SEGWITHU_NETWORKS, or next to their bundles."""
    return Path(os.environ.get("SEGWITHU_NETWORKS") or user_folder() / "networks.json")


@dataclass(frozen=True)
class BundleFolders:
    """The bundles in a folder of models.

    Attributes:
        folders: those that hold a `bundle.json`, or whose content is not readable, by name.
        problem: why the folder itself cannot be looked into; None if it can, or is not there.
    """

    folders: list[Path]
    problem: str | None = None


def bundle_folders(place: Path) -> BundleFolders:
    """List the folders of bundles in a folder of models; one that cannot be read is a problem, not an error.

    Hidden folders hold what is unfinished (`atomic_files`, `models.store`), a whole description perhaps among it.
    """
    try:
        entries = sorted(place.iterdir())
    except FileNotFoundError:
        return BundleFolders([])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return BundleFolders([], f"the folder of models {place} is passed over, for it cannot be read ({reason})")
    return BundleFolders([each for each in entries if not each.name.startswith(".") and is_there(each / BUNDLE_FILE)])


def user_folder() -> Path:
    """Return the folder for application data of this user; it need not be there yet."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "SegWithUSlicer"


KEY_FILE = "paths.key"
_KEY_BYTES = 32
_ATTEMPTS, _BETWEEN_S = 10, 0.02


def stored_path(folder: Path, text: object) -> Path:
    """Return the absolute path that a text in a file of `folder` means, without looking at the disk.

    Raises:
        ValueError: it is not a path.
    """
    problem = path_problem(text) if isinstance(text, str) and text else "is not a path"
    if not isinstance(text, str) or problem:
        raise ValueError(f"{text!r:.80} {problem}")
    # Not Path.resolve(), which would look at the disk, or at a server.
    return Path(os.path.abspath(Path(folder).resolve() / text))  # noqa: PTH100


def is_inside(folder: Path, path: Path) -> bool:
    """Whether a path stays in `folder`, also after its links are followed.

    Args:
        path: from `stored_path`, or a name within `folder`.
    """
    root = Path(os.path.realpath(folder))  # unlike Path.resolve, no error for a link to itself
    path = Path(os.path.abspath(root / path))  # noqa: PTH100 - as above
    if not path.is_relative_to(root):
        return False
    if os.name == "nt" and path.is_symlink():  # to look where it leads could mean to log in there
        return False
    return Path(os.path.realpath(path)).is_relative_to(root)


def has_links(path: Path) -> bool:
    """Whether an absolute path that this user wrote leads elsewhere by now, through links that others may have made."""
    return os.name == "posix" and path.resolve() != path


def path_mac(*parts: str) -> str | None:
    """Sign what this user writes, a path and what it belongs to; None if no key can be kept."""
    key = _key()
    if key is None:
        return None
    return hmac.new(key, "\0".join(parts).encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def is_own(mac: object, *parts: str) -> bool:
    """Whether `mac`, as found in a file, is the code of `parts` by this user."""
    own = path_mac(*parts) if isinstance(mac, str) else None
    return own is not None and hmac.compare_digest(own, str(mac).encode("ascii", "replace").decode())


def _key() -> bytes | None:
    """Return this user's key, made when it is first wanted."""
    place = user_folder() / KEY_FILE
    with contextlib.suppress(OSError):  # a home that cannot be written to, or a key that is there already
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(handle, secrets.token_bytes(_KEY_BYTES))
        finally:
            os.close(handle)
    for _attempt in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            if not place.is_file():
                return None
            key = place.read_bytes()
            if len(key) == _KEY_BYTES:
                return key
        time.sleep(_BETWEEN_S)  # another process is writing it
    return None
