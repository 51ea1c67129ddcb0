"""One version of a model as a registry lists it: files with sizes and hashes, licences, whether it was withdrawn."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..util.errors import InputError
from .model_name import RESERVED, folder_name

REMEDY = "ask whoever keeps that registry"
_NON_COMMERCIAL = ("-nc", "noncommercial", "non-commercial", "research only")
_NEEDED = ("bundle.json", "weights.safetensors")


@dataclass(frozen=True)
class ModelFile:
    """One file of a model; `path` is within the model's folder, with forward slashes."""

    path: str
    size: int
    sha256: str
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `files`."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256} | ({"url": self.url} if self.url else {})


@dataclass(frozen=True)
class ModelEntry:
    """One version of a model in a registry.

    Attributes:
        calibrated: whether it tells an error probability; None if the registry does not say.
        needs: versions of this program that can run it, as pip has them; empty for all.
        withdrawn: why nobody should use it any more; None for a good one.
        folder: where its files lie beside the registry.
    """

    name: str
    version: str
    task: str
    licence_weights: str
    licence_data: str
    commercial_use: bool
    citation: str
    files: tuple[ModelFile, ...]
    modality: str = ""
    channels: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    calibrated: bool | None = None
    needs: str = ""
    withdrawn: str | None = None
    folder: str = ""

    @property
    def key(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.name}@{self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ModelEntry":
        """From a checked entry of `models`; fields that are unknown here are passed over."""
        files = tuple(ModelFile(f["path"], f["size"], f["sha256"], f.get("url", "")) for f in data["files"])
        plain = ("name", "version", "task", "licence_weights", "licence_data", "commercial_use", "citation")
        return cls(
            **{key: data[key] for key in plain},
            files=files,
            modality=data.get("modality", ""),
            channels=tuple(data.get("channels", ())),
            structures=tuple(data.get("structures", ())),
            calibrated=data.get("calibrated"),
            needs=(data.get("needs") or {}).get("segwithu", ""),
            withdrawn=data.get("withdrawn"),
            folder=data.get("folder") or folder_name(data["name"], data["version"]),
        )

    def to_json(self) -> dict[str, Any]:
        """One entry of `models`."""
        plain = ("name", "version", "task", "modality", "licence_weights", "licence_data", "commercial_use", "citation")
        entry: dict[str, Any] = {key: getattr(self, key) for key in plain}
        entry |= {"channels": list(self.channels), "structures": list(self.structures)}
        entry |= {} if self.calibrated is None else {"calibrated": self.calibrated}
        entry |= {"needs": {"segwithu": self.needs}} if self.needs else {}
        return entry | {
            "withdrawn": self.withdrawn,
            "folder": self.folder,
            "files": [file.to_json() for file in self.files],
        }


def check_files(entry: ModelEntry, source: str) -> None:
    """Refuse names of files that some computer cannot have, or would take for one file.

    Raises:
        InputError: names the model and the file.
    """
    folder_name(entry.name, entry.version)
    paths = [file.path for file in entry.files]
    for path in (*paths, entry.folder):
        if any(RESERVED.fullmatch(part) or part.endswith(".") for part in path.split("/")):
            raise InputError(f"{source} names '{path}' for {entry.key}, which Windows cannot have: {REMEDY}.")
    lower = [path.lower() for path in paths]
    twice = next((path for path in lower if lower.count(path) > 1), None)
    inside = next((path for path in lower if any(other.startswith(f"{path}/") for other in lower)), None)
    if twice or inside:
        raise InputError(f"{source} names '{twice or inside}' for {entry.key} twice: {REMEDY}.")
    missing = [name for name in _NEEDED if name not in paths]
    if missing:
        raise InputError(f"{source} names no {missing[0]} for {entry.key}: {REMEDY}.")


def allows_commercial_use(licences: Iterable[str]) -> bool:
    """Whether none of the licences says that it does not, by its identifier or in plain words."""
    return not any(word in licence.lower() for licence in licences for word in _NON_COMMERCIAL)
