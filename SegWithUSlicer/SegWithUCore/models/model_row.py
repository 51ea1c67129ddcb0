"""A line of the list of models: what `segwithu models list` says of a version. Standard library only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INSTALLED, AVAILABLE, UPDATE, WITHDRAWN, DAMAGED = "installed", "available", "update", "withdrawn", "damaged"


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
    """

    name: str
    version: str
    state: str
    folder: Path | None
    own: bool
    size: int | None
    task: str
    calibrated: bool | None
    licence_weights: str
    licence_data: str
    commercial_use: bool
    note: str = ""
    channels: tuple[str, ...] = ()

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
        folder, converted = data.get("folder"), ("folder", "note", "channels")
        plain = {name: data[name] for name in cls.__dataclass_fields__ if name not in converted}
        channels = tuple(data.get("channels") or ())
        note = str(data.get("note") or "")
        return cls(**plain, folder=Path(folder) if folder else None, note=note, channels=channels)
