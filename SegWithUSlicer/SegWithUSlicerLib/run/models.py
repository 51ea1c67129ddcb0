"""The models that can be chosen, read with plain JSON: Slicer's process has neither torch nor jsonschema.

Only what the panel shows is read, and leniently; the worker validates the bundle before it uses it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SegWithUCore.errors import InputError
from SegWithUCore.paths import bundle_folders, user_models_folder
from SegWithUCore.strict_json import read_json_object

from ..resources import resources_folder

BUNDLE_FILE = "bundle.json"
MAXIMUM_BYTES = 16 << 20
"""Of it, as for the worker."""


@dataclass(frozen=True)
class ModelInfo:
    """What the panel shows of a model bundle.

    Attributes:
        channels: names of the input volumes, in the model's order.
        field_of_view_mm: largest training case along R, A, S; None for a model that takes whole images.
        calibrated: whether there is an error probability.
        heads: names of the uncertainty heads, the default first.
    """

    name: str
    folder: Path
    task: str
    channels: tuple[str, ...]
    modality: str
    field_of_view_mm: tuple[float, float, float] | None
    calibrated: bool
    heads: tuple[str, ...]


def list_models(places: Sequence[Path] | None = None) -> list[ModelInfo]:
    """All readable bundles: the extension's own, then the user's; the first of a name counts."""
    places = [resources_folder() / "Models", user_models_folder()] if places is None else places
    found: dict[str, ModelInfo] = {}
    for place in places:
        for folder in bundle_folders(place).folders:
            model = read_model(folder)
            if model is not None:
                found.setdefault(model.name, model)
    return list(found.values())


def find_model(name_or_folder: str) -> ModelInfo:
    """The model of a name, or in a folder; for an empty text the first one.

    Raises:
        ValueError: there is none.
    """
    known = {model.name: model for model in list_models()}
    found = known.get(name_or_folder) if name_or_folder else next(iter(known.values()), None)
    found = found or (read_model(Path(name_or_folder)) if name_or_folder else None)
    if found is None:
        raise ValueError(f"there is no model '{name_or_folder}': choose one of {', '.join(known) or 'none installed'}")
    return found


def read_model(folder: Path) -> ModelInfo | None:
    """What a bundle says about itself; None where it cannot be read (the worker says why, if it is asked for)."""
    try:
        raw = read_json_object(folder / BUNDLE_FILE, maximum_bytes=MAXIMUM_BYTES)
        about, spec = raw["about"], raw["input"]
        return ModelInfo(
            name=str(about["name"]),
            folder=folder,
            task=str(about.get("task") or about["name"]),
            channels=tuple(str(channel) for channel in spec["channels"]),
            modality=str(spec.get("modality") or ""),
            field_of_view_mm=_field_of_view(raw),
            calibrated=raw.get("calibration") is not None,
            heads=_heads(raw),
        )
    except (InputError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _heads(raw: Mapping[str, Any]) -> tuple[str, ...]:
    heads = sorted(raw["heads"], key=lambda head: not head.get("default", True))
    return tuple(str(head["name"]) for head in heads)


def _field_of_view(raw: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Largest training case along R, A, S, from the axes that the bundle's orientation names.

    None where there is no fingerprint, or where the model takes axes as they are stored ("xyz").
    """
    fingerprint = raw.get("fingerprint") or {}
    span = (fingerprint.get("field_of_view_mm") or {}).get("high")
    if not span or raw["input"]["orientation"].islower():
        return None
    axes = {"L": 0, "R": 0, "A": 1, "P": 1, "I": 2, "S": 2}
    by_axis = {axes[letter]: float(size) for letter, size in zip(raw["input"]["orientation"], span, strict=True)}
    return by_axis[0], by_axis[1], by_axis[2]
