"""Read inputs, finished cases and models only to check that they are intact; nothing is segmented or written."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..io.input_reader import IN_THIS_PROCESS
from ..io.inputs import FolderOfCases, GivenCase, cases_in, find_input
from ..io.volume import check_same_grid, coarse_notes, grid_facts, read_file
from ..models.bundle_files import check_whole
from ..models.installed import resolve_model
from ..util.errors import InputError, SegWithUError, UsageError
from ..util.folder_entries import EntryKind, entry_kind
from ..util.input_files import is_there
from ..util.paths import BUNDLE_FILE
from .case_file import SEGMENTATION_FILE, naming_case, read_description
from .case_folders import case_folders, checked_file, deeper_cases, holds_cases
from .case_image import (
    ELSEWHERE,
    OTHER_VOXELS,
    OutsideError,
    case_image,
    check_volume_places,
    image_path,
    trusted_path,
    voxel_hash,
)
from .region_files import REGION_LABELS_FILE, check_region_files, read_regions
from .segmentation_file import REVIEWED_PATTERN, check_reviewed


class Outcome(StrEnum):
    """What a check came to."""

    WHOLE = "whole"
    DOUBTFUL = "doubtful"
    """Read, with warnings."""
    REFUSED = "refused"
    CHANGED = "changed"
    """A finished case whose image has other voxels now than were segmented, or another place."""
    UNKNOWN = "image not found"
    """A finished case that is whole itself."""


BAD = (Outcome.REFUSED, Outcome.CHANGED)


@dataclass(frozen=True)
class Checked:
    """One input or finished case that was checked.

    Attributes:
        source: file or folder.
        kind: "image", "DICOM series, 113 slices", "case", ...
        sentences: warnings, or the reason of a refusal.
        facts: for machines, of an input: `grid` (see `grid_facts`) and `voxels_sha256` of its first channel.
    """

    source: Path
    kind: str
    outcome: Outcome
    sentences: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def check_paths(paths: Sequence[Path], images: Sequence[Path] = ()) -> Iterator[Checked]:
    """Check each input, finished case and model at `paths`; one that is damaged does not stop the others.

    Args:
        paths: image files, DICOM series, folders in nnU-Net naming, case folders, or folders of any of these; and
            models by name or folder.
        images: folders in which the images of finished cases lie; others are not opened, because a case that came
            from elsewhere may name any file.
    """
    for path in paths:
        model = _model_folder(path)
        if model is not None:
            yield check_model(model)
            continue
        try:
            cases = case_folders([path]) if holds_cases(path) else []
            found = [] if cases else [*_inputs_at(path)]
        except SegWithUError as error:
            yield Checked(path, "", Outcome.REFUSED, (str(error),))
            continue
        for sentence in deeper_cases([path], paths) if cases else ():
            yield Checked(path, "folder", Outcome.DOUBTFUL, (sentence,))
        for folder in cases:
            yield check_case(folder, images)
        for one in found:
            yield one if isinstance(one, Checked) else check_input(*one)


def _model_folder(path: Path) -> Path | None:
    """Find the folder of a model that is named, or lies there; None for anything else."""
    if not is_there(path / BUNDLE_FILE) and is_there(path):
        return None
    try:
        return resolve_model(str(path)).folder
    except UsageError:
        return None
    except InputError:
        return path


def check_model(folder: Path) -> Checked:
    """Check that a model is whole."""
    try:
        bundle = check_whole(folder)
    except InputError as error:
        return Checked(folder, "model", Outcome.REFUSED, (str(error),))
    facts = {"model": bundle.name, "version": bundle.about["version"]}
    return Checked(folder, "model", Outcome.WHOLE, (), facts)


def _inputs_at(path: Path) -> Iterator[tuple[GivenCase, str] | Checked]:
    """List the inputs at a path, or in the folders inside it; one of these without any is refused alone.

    Raises:
        InputError: there are none.
    """
    try:
        given = find_input(path)
    except InputError:
        found = cases_in(path) if entry_kind(path) is EntryKind.FOLDER else FolderOfCases([])
        inside = [entry for entry in found.paths if entry != path]
        if not inside:
            raise
        if found.left_out:
            yield Checked(path, "folder", Outcome.DOUBTFUL, (f"{path}: left out: {found.left_out}.",))
        for entry in inside:
            try:
                yield from _inputs_at(entry)
            except SegWithUError as error:
                yield Checked(entry, "", Outcome.REFUSED, (str(error),))
        return
    for case in given.cases:
        yield case, given.kind or "image"


def check_input(case: GivenCase, kind: str) -> Checked:
    """Read every channel of an input as `segment` would."""
    paths = [case.numbered[number] for number in sorted(case.numbered)] or [case.source]
    source = case.source / case.name if len(paths) > 1 else paths[0]
    try:
        volumes = [IN_THIS_PROCESS.read(path) for path in paths]
        for path, volume in zip(paths[1:], volumes[1:], strict=True):
            check_same_grid(path, volume.image, paths[0], volumes[0].image)
    except SegWithUError as error:
        return Checked(source, kind, Outcome.REFUSED, (str(error),))
    named = zip(paths, volumes, strict=True)
    found = [
        f"{path}: {note}" for path, one in named for note in (*one.header.notes_by(None), *coarse_notes(one.image))
    ]
    notes = tuple(dict.fromkeys(found))
    facts = {"grid": grid_facts(volumes[0].image), "voxels_sha256": voxel_hash(volumes[0].image)}
    return Checked(source, kind, Outcome.DOUBTFUL if notes else Outcome.WHOLE, notes, facts)


def check_case(folder: Path, images: Sequence[Path] = ()) -> Checked:
    """Read every volume of a finished case, and the image that it was made from where it is found.

    Args:
        images: see `check_paths`.
    """
    try:
        case = read_description(folder).raw
        with naming_case(folder):
            _check_volumes(folder, case)
            versions = [checked_file(folder, path.name) for path in sorted(folder.glob(REVIEWED_PATTERN))]
            notes = tuple(note for path in versions if (note := check_reviewed(path, folder, case)))
            found = _check_image(folder, case, images)
    except SegWithUError as error:
        return Checked(folder, "case", Outcome.REFUSED, (str(error),))
    outcome = Outcome.DOUBTFUL if notes and found.outcome is Outcome.WHOLE else found.outcome
    return replace(found, outcome=outcome, sentences=(*found.sentences, *notes))


def _check_volumes(folder: Path, case: Mapping[str, Any]) -> None:
    """Read the volumes and the table of regions of a case.

    Raises:
        InputError: one is damaged, or lies on another grid than the segmentation or the image that was segmented.
    """
    names = [SEGMENTATION_FILE, *(str(entry["file"]) for entry in case["maps"].values())]
    if case["regions"] is not None:
        check_region_files(folder, case)
        read_regions(folder)
        names.append(REGION_LABELS_FILE)
    first: sitk.Image | None = None
    for name in names:
        path = checked_file(folder, name)
        image = read_file(path)
        first = first or image
        check_same_grid(path, image, folder / SEGMENTATION_FILE, first)
    check_volume_places(folder, case)


def _check_image(folder: Path, case: Mapping[str, Any], images: Sequence[Path]) -> Checked:
    """Read the images that a whole case was made from, as far as they are found: their voxels and place count."""
    version = str(case["versions"]["segwithu"])
    facts = {"version": version}
    for number in range(len(case["input"]["channels"])):
        found = list(_image_paths(folder, case, number, images))
        if not found:
            sentence = f"The image of {folder} was not looked at: name the folder that it lies in with --images."
            return Checked(folder, "case", Outcome.UNKNOWN, (sentence,), facts)
        problems = [_problem(path, folder, case, number) for path in found]
        if problem := min(problems, key=_weight):
            sentence = f"{folder}, made by version {version}, is not to be relied on: {problem}"
            outcome = Outcome.CHANGED if problem.code in (ELSEWHERE, OTHER_VOXELS) else Outcome.REFUSED
            return Checked(folder, "case", outcome, (sentence,), facts)
    return Checked(folder, "case", Outcome.WHOLE, (), facts)


def _problem(path: Path, folder: Path, case: Mapping[str, Any], channel: int) -> SegWithUError | None:
    """Why an image is not the one that a channel was made from; None if it is."""
    try:
        case_image(folder, case, path, channel, check_volumes=False)
    except SegWithUError as error:
        return error
    return None


def _weight(problem: SegWithUError | None) -> int:
    """Rank what was found of files with one name: none is best, and another patient's image says least."""
    if problem is None:
        return 0
    return {ELSEWHERE: 1, OTHER_VOXELS: 3}.get(problem.code, 2)


def _image_paths(folder: Path, case: Mapping[str, Any], channel: int, images: Sequence[Path]) -> Iterator[Path]:
    """Where the image of a channel may lie: where this user had it, or under its name in the folders given."""
    with contextlib.suppress(OutsideError):  # another user wrote where
        path = trusted_path(folder, case, channel)
        if is_there(path):
            yield path
            return
    name = image_path(folder, case, channel).name
    for root in images:
        for parent, folders, files in os.walk(root):
            if name in files or name in folders:
                yield Path(parent) / name
