"""The list of models: which versions are installed, could be downloaded, are newer, were withdrawn or are damaged.

No third-party packages at file scope, so that Slicer's own process can ask too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..util.paths import user_models_folder
from .installed import FoundModel
from .model_name import VersionKey, version_key
from .quality import away_lines, model_warnings
from .registry import Registries

INSTALLED, AVAILABLE, UPDATE, WITHDRAWN, DAMAGED = "installed", "available", "update", "withdrawn", "damaged"
_NON_COMMERCIAL = ("-nc", "noncommercial", "non-commercial", "research only")


@dataclass(frozen=True)
class ModelRow:
    """A version of a model in the list.

    Attributes:
        state: "installed", "available", "update" (newer than every installed one), "withdrawn" or "damaged".
        folder: where it is installed; None if it is not.
        own: whether it is the user's, so that it can be deleted.
        size: of all its files, in bytes; None if unknown.
        calibrated: None if unknown.
        note: why it was withdrawn, what is wrong with it, or what its unseen cases warn of.
        channels: of its input.
        offered: whether a registry has it, so that it can be downloaded again.
        away: what it says of images out of distribution, one sentence each.
    """

    name: str
    version: str
    state: str
    folder: Path | None = None
    own: bool = False
    size: int | None = None
    task: str = ""
    calibrated: bool | None = None
    licence_weights: str = ""
    licence_data: str = ""
    commercial_use: bool = True
    note: str = ""
    channels: tuple[str, ...] = ()
    offered: bool = False
    away: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`NAME@VERSION`; of a damaged one its folder's name."""
        return f"{self.name}@{self.version}" if self.version else self.name

    @property
    def is_installed(self) -> bool:
        """Whether it lies on this computer and can be read."""
        return self.folder is not None and self.state != DAMAGED

    def to_json(self) -> dict[str, Any]:
        """For programs that show the list."""
        return {**asdict(self), "folder": None if self.folder is None else str(self.folder)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelRow":
        """Read one entry of the command's answer."""
        found = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        folder, channels = found.get("folder"), found.get("channels") or ()
        return cls(**{**found, "folder": Path(folder) if folder else None, "channels": tuple(channels)})


def allows_commercial_use(licences: Iterable[str]) -> bool:
    """Whether none of the licences says that it does not, by its identifier or in plain words."""
    return not any(word in licence.lower() for licence in licences for word in _NON_COMMERCIAL)


def overview(found: Sequence[FoundModel], known: Registries) -> list[ModelRow]:
    """List installed versions, then those that could be downloaded, by name and newest first."""
    rows = [installed_row(model, known) for model in found]
    there = {(row.name, row.version) for row in rows}
    newest: dict[str, VersionKey] = {}
    for row in rows:
        newest[row.name] = max(newest.get(row.name, version_key(row.version)), version_key(row.version))
    for offer in known.offers():
        if (offer.name, offer.version) in there:
            continue
        why = known.withdrawn(offer.name, offer.version)
        newer = offer.name in newest and version_key(offer.version) > newest[offer.name]
        state = WITHDRAWN if why else UPDATE if newer else AVAILABLE
        fields = {"folder": None, "own": False, "state": state, "size": offer.size, "note": why or "", "offered": True}
        rows.append(ModelRow.from_json({**offer.entry, **fields}))
    rows.sort(key=lambda row: version_key(row.version), reverse=True)
    return sorted(rows, key=lambda row: (row.name.lower(), row.folder is None))


def installed_row(model: FoundModel, known: Registries | None = None) -> ModelRow:
    """Return the row of an installed model; its description may be unchecked, and then whatever is wrong is raised."""
    folder, own = model.folder, model.folder.parent == user_models_folder()
    try:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        size = None
    if model.bundle is None:
        return ModelRow(folder.name, "", DAMAGED, folder, own, size, note=model.problem or "")
    name, about = str(model.bundle.name), {key: str(value) for key, value in model.bundle.about.items()}
    version, licences = about.get("version", ""), [about.get(f"licence_{of}", "") for of in ("weights", "data")]
    why = None if known is None else known.withdrawn(name, version)
    return ModelRow(
        *(name, version, WITHDRAWN if why else INSTALLED, folder, own, size),
        task=about.get("task", ""),
        calibrated=model.bundle.calibration is not None,
        licence_weights=licences[0],
        licence_data=licences[1],
        commercial_use=allows_commercial_use(licences),
        note=why or " ".join(model_warnings(model.bundle)),
        channels=model.bundle.input.channels,
        away=away_lines(model.bundle),
        offered=known is not None and any((offer.name, offer.version) == (name, version) for offer in known.listed),
    )
