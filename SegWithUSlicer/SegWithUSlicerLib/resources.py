"""Where the extension's files are: beside the module when installed, in the top-level folder in a source checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resources_folder() -> Path:
    """The folder `Resources`.

    Raises:
        FileNotFoundError: neither tree has one: the extension is not whole.
    """
    for place in (_PACKAGE.parent / "Resources", _PACKAGE.parent.parent / "Resources"):
        if (place / "UI").is_dir():
            return place
    raise FileNotFoundError(f"there is no folder Resources beside {_PACKAGE.parent}: install the extension again")


def resource_path(name: str) -> str:
    """The path of a resource such as "UI/SegWithUSlicer.ui", as Slicer's functions take it."""
    return str(resources_folder() / name)
