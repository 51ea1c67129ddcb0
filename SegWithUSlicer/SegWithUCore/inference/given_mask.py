"""A segmentation that was made elsewhere: read, its labels matched with a model's structures.

It is a label map (any image file), a `.seg.nrrd` of Slicer, a DICOM SEG, or a folder with one file per structure,
named by it, as TotalSegmentator writes. A label may stand for several structures of the model ("hippocampus" for its
two parts), and several labels for the same structures (gyri for the cortex).
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..case.case_image import ELSEWHERE, OTHER_IMAGE
from ..case.segmentation_file import SegmentFields, read_segments
from ..io.dicom_folder import is_dicom
from ..io.grid import VoxelGrid
from ..io.image_file import WANTED
from ..io.inputs import folder_entries, holds_input, stem_of
from ..io.mgh import SUFFIXES as OF_FREESURFER
from ..io.roi import VoxelBox
from ..io.volume import read_file, whole_labels
from ..models.input_spec import Label, named_classes, plain_words, side_first, without_side
from ..util.csv_files import read_user_table
from ..util.errors import InputError, UsageError
from ..util.folder_entries import check_entries
from ..util.input_files import regular_file
from ..util.paths import resource_path

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ALL = "*"
"""The key that names the program in whose numbers all labels are, such as "freesurfer" (`label_table`)."""
FREESURFER = "freesurfer"
NO_MODEL = "no model"
"""The name in the place of a model's, where a mask is reviewed without one."""
_NAMED = 8
_CHUNK_VOXELS = 32768


@dataclass(frozen=True)
class MaskFile:
    """A mask before it is read.

    Attributes:
        path: a file, or a folder with one file per structure.
        names: by label value, or name of a segment or file, the structures that it stands for, "" where its voxels are
            not judged; or `ALL` and a program; by default labels have the model's values or names, those of
            FreeSurfer's own files its numbers.
        other: the mask of another reader: the regions are where both differ.
    """

    path: Path
    names: Mapping[str, str] = field(default_factory=dict)
    other: "MaskFile | None" = None

    def facts(self) -> dict[str, Any]:
        """Return what a result depends on: the hash of the files, and the names."""
        digest = hashlib.sha256()
        for path in _files(self.path):
            digest.update(path.name.encode() + path.read_bytes() if self.path.is_dir() else path.read_bytes())
        if self.other is not None:
            digest.update(self.other.facts()["sha256"].encode())
        return {"sha256": digest.hexdigest(), "labels": dict(self.names)}


@dataclass(frozen=True)
class MaskedImage:
    """The image that a mask is given for.

    Attributes:
        path: the file, or the folder of the DICOM series.
        voxels_sha256: hash of its voxels, as in `case.json`; "" where it is itself a mask.
        slice_file: of its DICOM series; None for an image file.
    """

    path: Path
    grid: VoxelGrid
    voxels_sha256: str
    slice_file: Path | None = None


@dataclass(frozen=True)
class GivenMask:
    """A mask on the grid of its image, or a part of it.

    Attributes:
        file: what it was read from.
        indices: of `labels`, uint8 (z, y, x).
        labels: background first; values as in the file.
        label_of: index of the label that stands for each class of the model, (classes,).
        facts: `MaskFile.facts`, of when it was read.
        left_out: labels, or entries of the folder, that count as background.
        unclear: labels that may be a structure of the model, and are not judged.
        unjudged: their voxels, (z, y, x); None where there are none.
    """

    file: MaskFile
    indices: np.ndarray
    labels: tuple[Label, ...]
    label_of: np.ndarray
    facts: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    unclear: tuple[str, ...] = ()
    unjudged: np.ndarray | None = None

    def part(self, box: VoxelBox) -> "GivenMask":
        """Cut out a box."""
        unjudged = None if self.unjudged is None else self.unjudged[box.slices_zyx]
        return replace(self, indices=self.indices[box.slices_zyx], unjudged=unjudged)

    @cached_property
    def classes(self) -> np.ndarray:
        """Class of the model at each voxel, uint8 (z, y, x).

        Raises:
            InputError: a label stands for several.
        """
        several = np.flatnonzero(np.bincount(self.label_of)[1:] > 1) + 1
        if len(several):
            found = f"{self.file.path}: '{self.labels[several[0]].name}' stands for several structures of the model"
            raise InputError(f"{found}, which has no network: give each a label of its own.", "double-structure")
        class_of = np.zeros(len(self.labels), np.uint8)
        class_of[self.label_of[1:]] = np.arange(1, len(self.label_of))
        class_of[0] = 0
        return class_of[self.indices]

    def for_side(self, side: int, classes: int) -> "GivenMask":
        """Return the mask for the box of one side, where the model has `classes` of all sides' classes."""
        first = 1 + side * (classes - 1)
        return replace(self, label_of=np.append(self.label_of[:1], self.label_of[first : first + classes - 1]))

    def shares(self, logits: np.ndarray, classes: np.ndarray, planes: slice) -> tuple[np.ndarray, np.ndarray]:
        """Compare some planes with the model's probabilities.

        Args:
            logits: tempered, (classes, z, y, x).
            classes: index of the predicted class, (z, y, x).

        Returns:
            Of all classes but the predicted one, the share of those that the mask's label stands for, float32; and
            the label that competes with the mask's: that of the predicted class, or where this is the mask's, the most
            probable other one, uint8.
        """
        own, first = self.indices[planes].ravel(), classes.ravel()
        flat = logits.reshape(len(logits), -1)
        members = (self.label_of == np.arange(len(self.labels))[:, None]).astype(np.float32)
        share, rival = np.empty(own.size, np.float32), np.empty(own.size, np.uint8)
        for start in range(0, own.size, _CHUNK_VOXELS):
            part = slice(start, start + _CHUNK_VOXELS)
            values, here = np.array(flat[:, part], np.float32), np.arange(own[part].size)
            values[first[part], here] = -np.inf
            others = np.exp(values - values.max(0))
            by_label = members @ (others / others.sum(0))
            share[part] = by_label[own[part], here]
            by_label[self.label_of[first[part]], here] = 2
            by_label[own[part], here] = -1
            rival[part] = by_label.argmax(0)
        return share.reshape(classes.shape), rival.reshape(classes.shape)


class _Entry(NamedTuple):
    """What a mask holds under one label value (None where it has none) or name, and how to get its voxels."""

    key: str
    value: int | None
    inside: Callable[[], np.ndarray]


def read_mask(file: MaskFile, image: MaskedImage, structures: Sequence[Label], may_be_empty: bool = False) -> GivenMask:
    """Read a mask and match its labels with a model's structures.

    Args:
        structures: of the model, in the order of its classes, background first.

    Raises:
        InputError: it is no mask, lies on another grid, is of another image or patient, is empty, has labels that are
            not the model's, or two that overlap or share a part of their structures.
    """
    path, facts = file.path, file.facts()
    entries, by_value = _entries(path, image)
    named, program = _names(file, [entry.key for entry in entries], by_value, structures)
    wanted = {key: text for key, text in named.items() if text}
    by_key = {plain_words(entry.key): entry for entry in entries}
    plain = [plain_words(entry.key) for entry in entries]
    if twice := [key for key in wanted if plain.count(plain_words(key)) > 1]:
        message = f"{path} has more than one mask named {twice[0]}: rename or remove the others."
        raise InputError(message, "double-structure")
    labels, label_of = [structures[0]], np.zeros(len(structures), np.uint8)
    indices = np.zeros(image.grid.shape_zyx, np.uint8)
    for key, text in wanted.items():
        members, entry = named_classes(text, [each.name for each in structures]), by_key.get(plain_words(key))
        if not members or (entry is None and not (by_value and key.isdecimal() and int(key))):
            what = "the model has no" if not members else f"{path} has no"
            known = ", ".join(label.name for label in structures[1:]) if not members else listed(by_key)
            problem = f"{path}: {key}={text}: {what} '{text if not members else key}', but {known}."
            raise InputError(problem, "unknown-label")
        own = int(label_of[members[0]])
        if label_of[members].any() and np.flatnonzero(label_of == own).tolist() != sorted(members):
            problem = f"{path}: two labels stand for a part of {text}: give both the same structures, or each others"
            raise InputError(f"{problem}.", "double-structure")
        value = int(key) if by_value else None if entry is None else entry.value
        label_of[members] = own or len(labels)
        if entry is not None:
            inside = entry.inside()
            if indices[inside].any():
                other = labels[indices[inside].max()].name
                problem = f"{path}: {text} overlaps with {other}: give each voxel one label."
                raise InputError(problem, "overlapping-masks")
            indices[inside] = own or len(labels)
        if not own:
            labels.append(_label([structures[member] for member in members], text, value))
    if not (may_be_empty or indices.any()):
        raise InputError(f"{path} is empty: no voxel has a label that is judged.", "empty-mask")
    passed = [entry for entry in entries if plain_words(entry.key) not in {plain_words(key) for key in wanted}]
    doubted = {plain_words(key) for key, text in named.items() if not text}
    unclear = [entry for entry in passed if plain_words(entry.key) in doubted]
    left_out = [entry.key for entry in passed if entry not in unclear]
    if path.is_dir():
        found = folder_entries(path)
        left_out += [each.name for each in (*found.unseen(found.images), *filter(holds_input, found.folders))]
    unjudged = np.any([entry.inside() for entry in unclear], axis=0) & (indices == 0) if unclear else None
    file = replace(file, names={ALL: program}) if program else file
    keys = tuple(entry.key for entry in unclear)
    return GivenMask(file, indices, tuple(labels), label_of, facts, tuple(left_out), keys, unjudged)


def named_volumes(file: MaskFile, image: MaskedImage) -> tuple[dict[str, str], dict[str, float]]:
    """Return what the labels of a mask stand for without any model, and the volumes of these structures, mm3.

    Raises:
        InputError: as `read_mask`.
    """
    entries, by_value = _entries(file.path, image)
    names, program = file.names, file.names.get(ALL, "")
    if by_value and not names and file.path.name.lower().endswith(OF_FREESURFER):
        program = FREESURFER
    if program:
        names = names_of_program(program)
    elif not names:
        names = {entry.key: f"label {entry.key}" if by_value else side_first(entry.key) for entry in entries}
    own = () if by_value else ((text, text) for text in names.values())
    plain = {plain_words(key): text for key, text in (*own, *names.items())}
    found = {entry.key: name for entry in entries if (name := plain.get(plain_words(entry.key)))}
    volumes, voxel_mm3 = dict.fromkeys(found.values(), 0.0), float(np.prod(image.grid.spacing))
    for entry in entries:
        if entry.key in found:
            volumes[found[entry.key]] += np.count_nonzero(entry.inside()) * voxel_mm3
    return found, volumes


def _names(
    file: MaskFile, keys: Sequence[str], by_value: bool, structures: Sequence[Label]
) -> tuple[dict[str, str], str]:
    """Return the structures by label, and the program whose numbers the labels are; "" for none.

    Raises:
        InputError: the labels are not what was said, or mean nothing to the model.
    """
    program = file.names.get(ALL, "")
    if program and not by_value:
        message = f"{file.path} has names, not the numbers of {program}: give --labels NAME=STRUCTURE."
        raise InputError(message, "unknown-label")
    if program:
        return _names_of_program(file.path, keys, program, structures, leave_out=True), program
    if by_value and not file.names and file.path.name.lower().endswith(OF_FREESURFER):
        own, table = {str(label.value): label.name for label in structures[1:]}, names_of_program(FREESURFER)
        if set(keys) <= set(own) and (other := [key for key in keys if table.get(key) != own[key]]):
            message = f"{file.path} has values that mean other things to the model than to FreeSurfer ({listed(other)})"
            raise InputError(f"{message}: give --labels freesurfer, or LABEL=STRUCTURE.", "unknown-label")
        return _names_of_program(file.path, keys, FREESURFER, structures, leave_out=False), FREESURFER
    return dict(file.names) or _own_names(file.path, keys, by_value, structures), ""


def _own_names(path: Path, keys: Sequence[str], by_value: bool, structures: Sequence[Label]) -> dict[str, str]:
    """Return what the labels of a mask stand for that nobody names: they have the model's values or names.

    Raises:
        InputError: they have not.
    """
    if by_value:
        unknown = [key for key in keys if key not in {str(label.value) for label in structures}]
        if unknown:
            known = ", ".join(f"{label.value} {label.name}" for label in structures[1:])
            message = f"{path} has the label(s) {listed(unknown)}, but the model has {known}: say what they mean"
            problem = f"{message} with --labels, such as {unknown[0]}={plain_words(structures[-1].name)} or freesurfer."
            raise InputError(problem, "unknown-label")
        held = {without_side(label.name) for label in structures if str(label.value) in keys}
        return {str(label.value): label.name for label in structures[1:] if without_side(label.name) in held}
    wanted = {key: key for key in keys if named_classes(key, [each.name for each in structures])}
    if not wanted:
        names, known = listed(keys), ", ".join(label.name for label in structures[1:])
        message = f"{path} has {names or 'no segment'}, but the model has {known}: name them so, or give --labels"
        raise InputError(f"{message}.", "unknown-label")
    return wanted


def label_table(program: str) -> Path:
    """Return the table of what a program's label values stand for: `Resources/LabelNames/PROGRAM.csv`."""
    return resource_path(f"LabelNames/{program}.csv")


def names_of_program(program: str) -> dict[str, str]:
    """Return the structures by the label values of a program."""
    rows = read_user_table(label_table(program), ("label", "structure"), "install the program again")
    return {row["label"]: row["structure"] for row in rows}


def _names_of_program(
    path: Path, keys: Sequence[str], program: str, structures: Sequence[Label], leave_out: bool
) -> dict[str, str]:
    """Return what label values of a program stand for in a model; of what it has on one side both sides.

    A vessel or the corpus callosum may be white matter to the model: such labels, and unknown ones, are not judged.

    Args:
        leave_out: whether values that the program's table lacks are left out.

    Raises:
        InputError: the values are not the program's, or none is of a structure of the model.
    """
    table, names = names_of_program(program), [each.name for each in structures]
    if not leave_out and (unknown := [key for key in keys if key not in table]):
        message = f"{path} has the label(s) {listed(unknown)}, which are not known of {program}"
        raise InputError(f"{message}: give --labels {program} to leave them out.", "unknown-label")
    known = {key: wanted for key, text in table.items() if (wanted := _in_model(text, names))}
    held = {without_side(known[key]) for key in keys if key in known}
    if not held:
        message = f"{path} has the label(s) {listed(keys)}, none of a structure of the model"
        raise InputError(f"{message}: choose another model, or give --labels.", "unknown-label")
    unclear = {key: "" for key in keys if not table.get(key)}
    return unclear | {key: text for key, text in known.items() if without_side(text) in held}


def _in_model(text: str, names: Sequence[str]) -> str:
    """Return a structure as a model names it, which may have both sides as one; "" for none."""
    bare = without_side(text)
    is_one = {without_side(names[index]) == names[index] for index in named_classes(bare, names)} == {True}
    return text if named_classes(text, names) else bare if is_one else ""


def _entries(path: Path, image: MaskedImage) -> tuple[list[_Entry], bool]:
    """List what a mask holds, and whether labels are known by their values."""
    if path.is_dir():
        return [_Entry(stem_of(file) or "", None, partial(_inside, file, image)) for file in _files(path)], False
    if path.is_file() and is_dicom(path):
        return _dicom_segments(path, image), False
    layers, segments = _layers(path, image)
    if segments:
        found = [
            _Entry(one.name, one.value if len(layers) == 1 else None, partial(np.equal, layers[one.layer], one.value))
            for one in segments
        ]
        return found, False
    values = whole_labels(path, layers[0])
    return [_Entry(str(value), value, partial(np.equal, values, value)) for value in np.unique(values) if value], True


def _dicom_segments(path: Path, image: MaskedImage) -> list[_Entry]:
    """List the segments of a DICOM SEG by their names."""
    try:
        from highdicom import VolumeGeometry
        from highdicom.seg import segread
    except ImportError as error:
        message = f"Reading the DICOM SEG {path} needs highdicom: pip install highdicom."
        raise UsageError(message, "needs-package") from error
    affine, grid = np.eye(4), image.grid
    affine[:3, :3] = (np.reshape(grid.direction, (3, 3)) * grid.spacing)[:, ::-1]
    affine[:3, 3] = grid.origin
    wanted = VolumeGeometry(affine, grid.shape_zyx, "PATIENT")
    try:
        stored = segread(path)
        _check_series(path, stored, image)
        numbers = list(stored.segment_numbers)
        volumes = [stored.get_volume(segment_numbers=[number]) for number in numbers]
        arrays = [volume.match_geometry(wanted, tol=1e-3).array[..., 0] >= 0.5 for volume in volumes]
    except (RuntimeError, ValueError, AttributeError) as error:
        message = f"{path} is no DICOM SEG on the grid of {image.path} ({error}): export it for this series"
        raise InputError(f"{message}.", "other-grid") from error
    if any(np.count_nonzero(volume.array >= 0.5) != found.sum() for volume, found in zip(volumes, arrays, strict=True)):
        raise InputError(f"{path} has voxels outside of {image.path}: export it for this series.", "other-grid")
    names = [str(stored.get_segment_description(number).SegmentLabel) for number in numbers]
    return [_Entry(name, None, partial(np.copy, found)) for name, found in zip(names, arrays, strict=True)]


def _check_series(path: Path, stored: "Dataset", image: MaskedImage) -> None:
    """Check that a DICOM SEG is of the series that it is given for; what either does not say is not compared.

    Raises:
        InputError: it is of another patient or series, or in another frame of reference.
    """
    from pydicom import dcmread

    if image.slice_file is None:
        return
    series = dcmread(image.slice_file, stop_before_pixels=True, force=True)
    uids = {each.get("SeriesInstanceUID") for each in stored.get("ReferencedSeriesSequence") or ()}
    has_ids = all(_text(each, "PatientID") for each in (stored, series))  # else the name must do, often misspelt
    same = ("PatientID" if has_ids else "PatientName", "FrameOfReferenceUID")
    other = [keyword for keyword in same if len({_text(stored, keyword), _text(series, keyword), ""}) > 2]
    other += ["referenced series"] if uids and _text(series, "SeriesInstanceUID") not in {*uids, ""} else []
    if other:
        found = f"{path} has another {' and '.join(other)} than the series in {image.path}"
        raise InputError(f"{found}: give the DICOM SEG of this series.", OTHER_IMAGE)


def _text(dataset: "Dataset", keyword: str) -> str:
    """Return a value without blanks and, of names, in small letters and without what other spellings follow."""
    text = str(dataset.get(keyword) or "").partition("=")[0].strip("^ ")
    return text.casefold() if keyword == "PatientName" else text


def _inside(path: Path, image: MaskedImage) -> np.ndarray:
    """Read the mask of one structure."""
    return np.any([whole_labels(path, layer) != 0 for layer in _layers(path, image)[0]], axis=0)


def _files(path: Path) -> list[Path]:
    """Return the file, or those of a folder that are images."""
    if not path.is_dir():
        regular_file(path, WANTED)
        return [path]
    found = folder_entries(path).images
    check_entries(found, "masks")
    if not found:
        raise InputError(f"{path} holds no mask: give a file, or a folder with one file per structure.", "no-image")
    return found


def _layers(path: Path, image: MaskedImage) -> tuple[list[np.ndarray], list[SegmentFields]]:
    """Read a file of labels on the grid of its image.

    Raises:
        InputError: it lies on another, or was made on another image.
    """
    try:
        return read_segments(path, image.grid, image.voxels_sha256, any_axes=True)[:2]
    except InputError as error:
        if error.code != ELSEWHERE:
            raise
        places = f"{VoxelGrid.of(read_file(path)).place} instead of {image.grid.place}"
        message = f"{path} is not on the grid of {image.path} ({places}): resample the mask to it"
        raise InputError(f"{message}.", "other-grid") from error


def _label(members: Sequence[Label], text: str, value: int | None) -> Label:
    """Make the label of a mask that stands for some structures; codes are those that they share."""
    first = members[0]
    if len(members) == 1:
        return replace(first, value=first.value if value is None else value)
    shared = {name: getattr(first, name) for name in ("category", "type", "modifier", "laterality")
              if all(getattr(each, name) == getattr(first, name) for each in members)}  # fmt: skip
    return Label(first.value if value is None else value, plain_words(text), first.color, **shared)


def listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    """Name the first of them, and how many more there are."""
    shown = list(names)
    return ", ".join(shown[:_NAMED]) + (f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else "")
