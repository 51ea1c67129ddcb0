"""Where model bundles are looked for: beside the program, then in the user's own folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, UsageError
from .bundle import BUNDLE_FILE, Bundle, read_bundle
from .places import resources_folder, user_models_folder


@dataclass(frozen=True)
class FoundModel:
    """A folder that looks like a bundle: the bundle, or the sentence that says why it cannot be used."""

    folder: Path
    bundle: Bundle | None
    problem: str | None


def model_folders() -> list[Path]:
    """Folders whose subfolders are bundles, in order of precedence."""
    resources = resources_folder()
    return [*([resources / "Models"] if resources else []), user_models_folder()]


def find_models(folders: Sequence[Path] | None = None) -> list[FoundModel]:
    """All bundles, usable or not, sorted by name within each place."""
    found = []
    for place in folders if folders is not None else model_folders():
        for path in sorted(place.glob(f"*/{BUNDLE_FILE}")):
            try:
                found.append(FoundModel(path.parent, read_bundle(path.parent), None))
            except InputError as error:
                found.append(FoundModel(path.parent, None, str(error)))
    return found


def resolve_model(name_or_folder: str) -> Bundle:
    """The bundle in a folder, or the first one of a name.

    Raises:
        UsageError: no such model; the message lists those that exist.
        InputError: the bundle is damaged.
    """
    path = Path(name_or_folder)
    if (path / BUNDLE_FILE).is_file():
        return read_bundle(path)
    for model in find_models():
        if model.folder.name == name_or_folder or (model.bundle and model.bundle.name == name_or_folder):
            return read_bundle(model.folder)
    names = ", ".join(model.bundle.name for model in find_models() if model.bundle) or "none installed"
    hint = f"{path} has no {BUNDLE_FILE}" if path.is_dir() else f"there is no model '{name_or_folder}'"
    raise UsageError(f"{hint[0].upper()}{hint[1:]}: choose one of {names}, or give the folder of a bundle.")
