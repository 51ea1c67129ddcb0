"""The store of models as the panel shows it: rows of its table, questions, and jobs, each one call of `segwithu`.

The models that can be chosen in the panel. Neither torch nor jsonschema is needed to list them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from SegWithUCore.models.bundle import CARD_FILE, WHOLE, Bundle, read_unchecked
from SegWithUCore.models.installed import FoundModel, model_folders
from SegWithUCore.models.model_name import folder_name, version_key
from SegWithUCore.models.model_row import AVAILABLE, DAMAGED, INSTALLED, UPDATE, WITHDRAWN, ModelRow, installed_row
from SegWithUCore.models.quality import model_warnings
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import bundle_folders, user_models_folder

from ..i18n import _

PERMISSIVE = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "")
"""Licences that ask for no more than to be named; a model of the user's own may have none."""
_DOCS = "https://github.com/SegWithUSlicer/SlicerSegWithU/blob/main/docs/models"
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
        places_boxes: it finds its structures in a whole head.
        structures: names of what it draws.
        licence: of its weights.
        sides: of the boxes that it places, which the names of structures then begin with; none for whole heads.
    """

    name: str
    folder: Path
    task: str
    channels: tuple[str, ...]
    field_of_view_mm: tuple[float, float, float] | None
    calibrated: bool
    heads: tuple[str, ...]
    version: str = ""
    warnings: tuple[str, ...] = ()
    places_boxes: bool = False
    structures: tuple[str, ...] = ()
    licence: str = ""
    sides: tuple[str, ...] = ()


def list_models(folders: Sequence[Path] | None = None) -> list[ModelInfo]:
    """List all readable bundles: the extension's own, then the user's; of one name the newest version counts."""
    found: dict[str, ModelInfo] = {}
    for folder in _bundle_folders(folders):
        model = read_model(folder)
        if model is not None:
            known = found.setdefault(model.name, model)  # of two with one version the first counts
            if version_key(model.version) > version_key(known.version):
                found[model.name] = model
    return list(found.values())


def _bundle_folders(places: Sequence[Path] | None) -> list[Path]:
    places = model_folders() if places is None else places
    return [folder for place in places for folder in bundle_folders(place).folders]


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
            warnings=tuple(model_warnings(bundle)),
            places_boxes=bundle.placement is not None,
            structures=tuple(str(label.name) for label in bundle.labels if label.value != 0),
            licence=str(bundle.about.get("licence_weights") or ""),
            sides=tuple(box.side for box in bundle.placement.boxes if box.side != WHOLE) if bundle.placement else (),
        )
    except (InputError, ValueError, KeyError, TypeError, IndexError, AttributeError):  # nothing was checked
        return None


def _field_of_view(bundle: Bundle) -> tuple[float, float, float] | None:
    """Return the largest training case along R, A, S, from the axes that the bundle's orientation names.

    None if there is no OOD reference, if it takes whole heads, or if it takes axes as they are stored ("xyz").
    """
    span = ((bundle.ood_reference or {}).get("field_of_view_mm") or {}).get("high")
    orientation = bundle.input.orientation
    takes_heads = bundle.placement is not None and bundle.placement.is_whole
    if not span or takes_heads or orientation.islower():
        return None
    by_axis = {_AXES[letter]: float(size) for letter, size in zip(orientation, span, strict=True)}
    return by_axis[0], by_axis[1], by_axis[2]


STATES = {
    INSTALLED: _("installed"),
    AVAILABLE: _("available"),
    UPDATE: _("update"),
    WITHDRAWN: _("withdrawn"),
    DAMAGED: _("damaged"),
}


def installed_rows(folders: Sequence[Path] | None = None) -> list[ModelRow]:
    """List what is installed, by name and newest first: at once, and without any package."""
    rows = [_installed_row(folder) for folder in _bundle_folders(folders)]
    rows.sort(key=lambda row: version_key(row.version), reverse=True)
    return sorted(rows, key=lambda row: row.name.lower())


def merged_rows(installed: Sequence[ModelRow], offered: Sequence[ModelRow]) -> list[ModelRow]:
    """List what is installed and what registries offered when they were last asked, and mark what they withdrew."""
    withdrawn = {row.key: row.note for row in offered if row.state == WITHDRAWN}
    rows = [
        replace(row, state=WITHDRAWN, note=withdrawn[row.key]) if row.key in withdrawn else row for row in installed
    ]
    keys = {row.key for row in rows}
    for row in offered:
        if row.offered and row.key not in keys:  # what was deleted since then can be downloaded again
            rows.append(replace(row, folder=None, own=False, state=AVAILABLE if row.state == INSTALLED else row.state))
    return sorted(rows, key=lambda row: (row.name.lower(), row.folder is None))


def _installed_row(folder: Path) -> ModelRow:
    try:
        return installed_row(FoundModel(folder, read_unchecked(folder), None))
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        why = str(error) if isinstance(error, InputError) else _("its description is damaged")
        return installed_row(FoundModel(folder, None, why))


def cells(row: ModelRow) -> tuple[str, ...]:
    """Return the texts of a row: model, state, size, calibrated, licence."""
    state = STATES[row.state]
    if row.state == WITHDRAWN and row.folder is not None:
        state = _("installed, withdrawn")
    calibrated = {True: _("yes"), False: _("no"), None: ""}[row.calibrated]
    licence = row.licence_weights if row.commercial_use else f"{row.licence_weights}, {_('non-commercial')}"
    return f"{row.name} {row.version}".strip(), state, size_text(row.size), calibrated, licence


def size_text(size: int | None) -> str:
    """Return a size in megabytes."""
    return "" if size is None else _("{size:.1f} MB").format(size=size / 1e6)


def about_lines(row: ModelRow | None) -> list[str]:
    """Describe the selected model; without one, where models are and how to make one."""
    if row is None:
        return [
            _("Click a model to read what it is for. Your models are in {folder}.").format(folder=user_models_folder()),
            _("How to make a calibrated model of an nnU-Net training: {page}").format(page=f"{_DOCS}/adopt.md"),
        ]
    if row.state == DAMAGED:
        return [row.note]
    lines = [*([row.note] if row.note else []), row.task]
    if row.calibrated is False:
        lines.append(_("Not calibrated: the model has no error probability."))
    text = _("Licences: weights {weights}, training data {data}.")
    lines.append(text.format(weights=row.licence_weights, data=row.licence_data))
    if row.is_installed and row.folder is not None:
        lines.append(_("How good it is: {card}").format(card=row.folder / CARD_FILE))
        lines += row.away
        text = _("How to calibrate it on labelled cases of your scanner (3 patients or more): {page}")
        lines.append(text.format(page=f"{_DOCS}/train.md#5-check-the-calibration-on-your-cases"))
    return lines


@dataclass(frozen=True)
class ModelTask:
    """One job.

    Attributes:
        title: for the user, such as "Download liver@1.2.0".
        arguments: of the command line.
        output: what it makes; half-written files next to it are removed if it is ended.
        done: the message after success.
    """

    title: str
    arguments: tuple[str, ...]
    output: Path
    done: str


def refresh() -> ModelTask:
    """List what the registries offer."""
    title, done = _("Refresh the list"), _("it is up to date.")
    return ModelTask(title, ("models", "list", "--available"), user_models_folder() / ".", done)


def download(row: ModelRow) -> ModelTask:
    """Install a version from a registry; its licences were shown, and what is restricted or withdrawn was agreed to."""
    target = user_models_folder() / folder_name(row.name, row.version)
    agreed = (*(() if row.commercial_use else ("--yes",)), *(("--withdrawn",) if row.state == WITHDRAWN else ()))
    title = _("Download {model}").format(model=row.key)
    return ModelTask(title, ("models", "download", row.key, *agreed), target, _("it is installed."))


def import_model(source: Path) -> ModelTask:
    """Install a model from a folder or a file."""
    title, target = _("Import {name}").format(name=source.name), user_models_folder() / source.name
    done = _("found {found}; {model} {version} is installed.")
    return ModelTask(title, ("models", "import", str(source)), target, done)


def delete(row: ModelRow) -> ModelTask:
    """Delete a model of the user's, after a question."""
    title = _("Delete {model}").format(model=row.key)
    return ModelTask(title, ("models", "delete", row.key, "--yes"), Path(str(row.folder)), _("it is deleted."))


def licence_question(model: ModelInfo) -> str:
    """Ask before a model is used first; "" if its licence is permissive."""
    if model.licence in PERMISSIVE:
        return ""
    text = _(
        "The weights of the model {model} have the licence {licence}: it binds who shares or changes them, and may "
        "forbid some uses. The model card has its text.\n\nUse the model? You are asked once."
    )
    return text.format(model=model.name, licence=model.licence)


def download_question(row: ModelRow) -> str:
    """Ask with size and licences of a version; restrictions of its use are named separately."""
    text = _(
        "Download {model}, {size}?\n\n{task}\n\nLicence of the weights: {weights}. Licence of the training data: "
        "{data}."
    ).format(
        model=row.key,
        size=size_text(row.size) or _("size unknown"),
        task=row.task,
        weights=row.licence_weights,
        data=row.licence_data,
    )
    lines = [text]
    if not row.commercial_use:
        lines.append(_("These licences forbid commercial use. OK accepts them."))
    if row.state == WITHDRAWN:
        lines.append(_("This version was withdrawn: {why} OK installs it all the same.").format(why=row.note))
    return "\n\n".join(lines)
