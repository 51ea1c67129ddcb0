"""The list of models: which versions are installed, could be downloaded, are newer, were withdrawn or are damaged."""

import contextlib
from collections.abc import Sequence

from ..util.errors import InputError
from ..util.paths import user_models_folder
from .bundle_files import bundle_paths
from .model_entry import ModelEntry, allows_commercial_use
from .model_name import VersionKey, version_key
from .model_row import AVAILABLE, DAMAGED, INSTALLED, UPDATE, WITHDRAWN, ModelRow
from .quality import model_warnings
from .registry import FoundModel
from .store_registry import KnownRegistries


def overview(found: Sequence[FoundModel], known: KnownRegistries) -> list[ModelRow]:
    """List installed versions, then those that could be downloaded, by name and newest first."""
    rows = [_installed_row(model, known) for model in found]
    there = {(row.name, row.version) for row in rows}
    newest: dict[str, VersionKey] = {}
    for row in rows:
        newest[row.name] = max(newest.get(row.name, version_key(row.version)), version_key(row.version))
    for offer in known.offers():
        entry = offer.entry
        if (entry.name, entry.version) in there:
            continue
        why = known.withdrawn(entry.name, entry.version)
        newer = entry.name in newest and version_key(entry.version) > newest[entry.name]
        state = WITHDRAWN if why else UPDATE if newer else AVAILABLE
        rows.append(_offered_row(entry, state, why or ""))
    rows.sort(key=lambda row: version_key(row.version), reverse=True)
    return sorted(rows, key=lambda row: (row.name.lower(), row.folder is None))


def _installed_row(model: FoundModel, known: KnownRegistries) -> ModelRow:
    own = model.folder.parent == user_models_folder()
    size = None
    with contextlib.suppress(InputError, OSError):
        size = sum((model.folder / path).stat().st_size for path in bundle_paths(model.folder))
    if model.bundle is None:
        why_not = model.problem or ""
        return ModelRow(model.folder.name, "", DAMAGED, model.folder, own, size, "", None, "", "", True, why_not)
    about = model.bundle.about
    why = known.withdrawn(model.bundle.name, about["version"])
    licences = about["licence_weights"], about["licence_data"]
    return ModelRow(
        name=model.bundle.name,
        version=about["version"],
        state=WITHDRAWN if why else INSTALLED,
        folder=model.folder,
        own=own,
        size=size,
        task=about["task"],
        channels=model.bundle.input.channels,
        calibrated=model.bundle.calibration is not None,
        licence_weights=licences[0],
        licence_data=licences[1],
        commercial_use=allows_commercial_use(licences),
        note=why or " ".join(model_warnings(model.bundle)),
    )


def _offered_row(entry: ModelEntry, state: str, why: str) -> ModelRow:
    return ModelRow(
        name=entry.name,
        version=entry.version,
        state=state,
        folder=None,
        own=False,
        size=entry.size,
        task=entry.task,
        channels=entry.channels,
        calibrated=entry.calibrated,
        licence_weights=entry.licence_weights,
        licence_data=entry.licence_data,
        commercial_use=entry.commercial_use,
        note=why,
    )
