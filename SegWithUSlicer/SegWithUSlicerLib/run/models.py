"""The models that can be chosen in the panel. Neither torch nor jsonschema is needed to list them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from SegWithUCore.models.bundle import Bundle, read_unchecked
from SegWithUCore.models.model_name import version_key
from SegWithUCore.models.quality import model_warnings
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import bundle_folders, resource_path, user_models_folder

_AXES = {"L": 0, "R": 0, "A": 1, "P": 1, "I": 2, "S": 2}


@dataclass(frozen=True)
class ModelInfo:
    """What the panel shows of a model bundle.

    Attributes:
        version: of the bundle.
        channels: names of the input volumes, in the model's order.
        field_of_view_mm: largest training case along R, A, S; None for a model of whole images.
        calibrated: whether there is an error probability.
        heads: names of the uncertainty heads, the default first.
        warnings: which structures it does not draw, or too poorly to be used.
        knows_images: how its training images looked in the first channel, so that an image can be compared with them.
        places_boxes: it finds its structures in a whole head.
    """

    name: str
    folder: Path
    task: str
    channels: tuple[str, ...]
    field_of_view_mm: tuple[float, float, float] | None
    calibrated: bool
    heads: tuple[str, ...]
    knows_images: bool
    version: str = ""
    warnings: tuple[str, ...] = ()
    places_boxes: bool = False


def list_models(folders: Sequence[Path] | None = None) -> list[ModelInfo]:
    """List all readable bundles: the extension's own, then the user's; of one name the newest version counts."""
    folders = [resource_path("Models"), user_models_folder()] if folders is None else folders
    found: dict[str, ModelInfo] = {}
    for parent in folders:
        for folder in bundle_folders(parent).folders:
            model = read_model(folder)
            if model is not None and _is_newer(model, found.get(model.name)):
                found[model.name] = model
    return list(found.values())


def _is_newer(model: ModelInfo, other: ModelInfo | None) -> bool:
    """Check whether a model replaces another in the list; of two with one version the first counts."""
    return other is None or version_key(model.version) > version_key(other.version)


def find_model(name_or_folder: str) -> ModelInfo:
    """Find the model of a name, or in a folder; the first one for an empty text.

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
    """Read what the panel shows of a bundle. Returns None if it cannot be read; the worker reports why."""
    try:
        bundle = read_unchecked(folder)
        heads = sorted(bundle.heads, key=lambda head: not head.default)
        return ModelInfo(
            name=str(bundle.name),
            version=str(bundle.about.get("version") or ""),
            folder=folder,
            task=str(bundle.about.get("task") or bundle.name),
            channels=tuple(str(channel) for channel in bundle.input.channels),
            field_of_view_mm=_field_of_view(bundle),
            calibrated=bundle.calibration is not None,
            heads=tuple(str(head.name) for head in heads),
            knows_images=bool(((bundle.ood_reference or {}).get("channels") or {}).get(str(bundle.input.channels[0]))),
            warnings=tuple(model_warnings(bundle)),
            places_boxes=bundle.placement is not None,
        )
    except (InputError, ValueError, KeyError, TypeError, IndexError, AttributeError):  # nothing was checked
        return None


def _field_of_view(bundle: Bundle) -> tuple[float, float, float] | None:
    """Return the largest training case along R, A, S, from the axes that the bundle's orientation names.

    None if there is no OOD reference, or if the model takes axes as they are stored ("xyz").
    """
    span = ((bundle.ood_reference or {}).get("field_of_view_mm") or {}).get("high")
    orientation = bundle.input.orientation
    if not span or orientation.islower():
        return None
    by_axis = {_AXES[letter]: float(size) for letter, size in zip(orientation, span, strict=True)}
    return by_axis[0], by_axis[1], by_axis[2]
