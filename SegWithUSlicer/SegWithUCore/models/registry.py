"""Where model bundles are looked for: beside the program, then in the user's own folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, UsageError
from ..input_files import is_there, path_problem
from ..paths import BUNDLE_FILE, bundle_folders, resources_folder, user_models_folder
from ..strict_json import shown
from .bundle import Bundle, read_bundle


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
        for folder in bundle_folders(place).folders:
            try:
                found.append(FoundModel(folder, read_bundle(folder), None))
            except InputError as error:
                found.append(FoundModel(folder, None, str(error)))
    return found


def unreadable_folders(folders: Sequence[Path] | None = None) -> list[str]:
    """Why folders of models are passed over, as the rest of a sentence each; none where all can be read."""
    searched = folders if folders is not None else model_folders()
    return [problem for folder in searched if (problem := bundle_folders(folder).problem)]


def resolve_model(name_or_folder: str) -> Bundle:
    """Read the bundle in a folder, or the first one of a name.

    Raises:
        UsageError: no such model; the message lists those that exist.
        InputError: the bundle is damaged.
    """
    path = Path(name_or_folder)
    if _may_be_a_path(name_or_folder) and is_there(path / BUNDLE_FILE):
        return read_bundle(path)
    for model in find_models():
        if model.folder.name == name_or_folder or (model.bundle and model.bundle.name == name_or_folder):
            return read_bundle(model.folder)
    names = ", ".join(model.bundle.name for model in find_models() if model.bundle) or "none installed"
    folder = _may_be_a_path(name_or_folder) and path.is_dir()
    hint = f"{path} has no {BUNDLE_FILE}" if folder else f"There is no model '{shown(name_or_folder)[1:-1]}'"
    passed_over = "".join(f"; {problem}" for problem in unreadable_folders())
    raise UsageError(f"{hint}: choose one of {names}, or give the folder of a bundle{passed_over}.")


def _may_be_a_path(text: str) -> bool:
    """Whether the file system can be asked for it at all."""
    return bool(text) and path_problem(text) is None
