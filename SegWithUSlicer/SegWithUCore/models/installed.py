"""Where model bundles are searched: next to the program, then in the user's own folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..util.errors import InputError, UsageError
from ..util.input_files import is_there, path_problem
from ..util.paths import BUNDLE_FILE, bundle_folders, resources_folder, user_models_folder
from ..util.strict_json import shown
from .bundle import Bundle, read_bundle
from .model_name import split_name, version_key

# Characters of a name or path in a refusal: enough for paths that people have.
_LONGEST_NAME = 240


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


def unreadable_folders() -> list[str]:
    """Why folders of models are passed over, as the rest of a sentence each; none where all can be read."""
    return [problem for folder in model_folders() if (problem := bundle_folders(folder).problem)]


def resolve_model(name_or_folder: str) -> Bundle:
    """Read the bundle in a folder, or of `NAME` or `NAME@VERSION`.

    Without a version the newest installed one counts, and of two with one version that of the first place. A name that
    no model has may be that of a folder.

    Raises:
        UsageError: no such model; the message lists those that exist.
        InputError: the bundle is damaged.
    """
    path = Path(name_or_folder)
    if name_or_folder and path_problem(name_or_folder) is None and is_there(path / BUNDLE_FILE):
        return read_bundle(path)
    found = find_models()
    name, version = split_name(name_or_folder)
    named = [model.bundle for model in found if model.bundle and model.bundle.name == name]
    fitting = [bundle for bundle in named if version in (None, bundle.about["version"])]
    if fitting:
        return max(fitting, key=lambda bundle: version_key(bundle.about["version"]))
    for model in found:
        if model.folder.name in (name_or_folder, f"{name}-{version}"):
            return read_bundle(model.folder)
    passed_over = "".join(f"; {problem}" for problem in unreadable_folders())
    if named:
        versions = ", ".join(bundle.about["version"] for bundle in named)
        raise UsageError(f"There is no version {shown(version)} of {name}: choose one of {versions}{passed_over}.")
    names = ", ".join(dict.fromkeys(model.bundle.name for model in found if model.bundle)) or "none installed"
    wanted = f"There is no model {shown(name_or_folder, _LONGEST_NAME)} and no folder of that name with a {BUNDLE_FILE}"
    raise UsageError(f"{wanted}: choose one of {names}, or give the folder of a bundle{passed_over}.")
