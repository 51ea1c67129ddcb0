"""Cases that a calibration adds: those of a table, or reviewed case folders; heads are cut to the model's boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SegWithUCore.case.case_file import read_case as read_case_file
from SegWithUCore.case.case_folders import case_folders, holds_cases
from SegWithUCore.case.case_image import case_image
from SegWithUCore.export.anonymous import write_volume
from SegWithUCore.export.nnunet import drawn_labels
from SegWithUCore.inference.placed_case import LEAST_OVERLAP, all_sides
from SegWithUCore.inference.placement import Template, place
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.roi import VoxelBox, voxel_box
from SegWithUCore.io.volume import image_on_grid
from SegWithUCore.models.bundle import TEMPLATE_FILE, WHOLE, Bundle
from SegWithUCore.models.proposal import needs_placing
from SegWithUCore.review.reviews import lesson_of
from SegWithUCore.review.worklist_files import read_listed
from SegWithUCore.util.errors import InputError, UsageError

from ..training.case_reading import Case, read_case, read_images, read_named
from ..training.dataset import find_cases


def added_cases(source: str, bundle: Bundle, work: Path, labels: Mapping[str, str] | None = None) -> list[Case]:
    """Find the labelled cases that `source` names: reviewed cases of a folder or a `worklist.json`, or as `find_cases`.

    Args:
        work: empty folder that cut images and references are written into.
        labels: what those of the references stand for, as in `Case`; reviewed cases have the model's.

    Raises:
        InputError, UsageError: as `find_cases`; no case has a finished structure; a case is of a model with other
            structures; the boxes are not found in a head.
    """
    place = Path(source)
    is_list = place.name.endswith(".json") and place.is_file()
    if not is_list and not (place.is_dir() and holds_cases(place)):
        given = (replace(case, labels=labels or {}) for case in find_cases(source))
        return [part for case in given for part in _boxed(case, bundle, work)]
    if labels:
        raise UsageError(f"{place} holds reviewed cases, whose labels are the model's: leave --labels out.",
                         "contradicting-options")  # fmt: skip
    folders = [entry.folder for entry in read_listed(place)] if is_list else case_folders([place])
    found = [part for folder in folders for part in _reviewed(folder, bundle, work)]
    if not found:
        wanted = "accept or correct structures of some, each as a whole"
        raise UsageError(f"{place} holds no case with a finished structure: {wanted}.", "no-corrected-case")
    return found


def _reviewed(folder: Path, bundle: Bundle, work: Path) -> list[Case]:
    """Cut a reviewed case to the boxes that hold finished structures, which alone have a label."""
    case = read_case_file(folder)
    lesson = lesson_of(folder, case)
    if lesson is None:
        return []
    images = [case_image(folder, case, channel=number) for number in range(len(case["input"]["channels"]))]
    labels = drawn_labels(folder, case, lesson.version, [])
    values = {str(entry["name"]): int(entry["value"]) for entry in case["structures"]}
    placed = (case.get("placement") or {}).get("boxes")
    patient = str(case["input"]["channels"][0]["voxels_sha256"])  # two cases of one image are of one patient
    parts = []
    for box in placed or [case["assessed"]]:
        side = f"{box['side']} " if placed and box["side"] != WHOLE else ""
        names = {f"{side}{label.name}": label.value for label in bundle.labels[1:]}
        if not names.keys() <= values.keys():
            lacking = ", ".join(sorted(names.keys() - values.keys()))
            raise InputError(f"{folder} has no {lacking}, as '{bundle.name}' has: give cases of it.", "other-model")
        own = {values[name]: value for name, value in names.items() if name in lesson.structures}
        voxels = VoxelBox(tuple(box["index_ijk"]), tuple(box["size_ijk"]))
        if own:
            name = f"{folder.name}_{side.strip() or 'whole'}"
            part = _written(work, name, images, labels, voxels, own, patient)
            known = {str(label.value): label.name for label in bundle.labels if label.value in own.values()}
            parts.append(replace(part, labels=known if len(own) < len(names) else {}, is_review=True))
    return parts


def _boxed(case: Case, bundle: Bundle, work: Path) -> list[Case]:
    """Cut a case that is a whole head to the model's boxes; any other stays as it is.

    In a reference of both sides the values of the second side lie above the model's own, as in `sided_labels`; or both
    sides have the same.
    """
    if bundle.placement is None or not needs_placing(VoxelGrid.of(read_images(case)[0]), bundle):
        return [case]
    assert bundle.folder is not None
    images, spec = read_images(case), bundle.placement
    found = place(spec, Template.read(bundle.folder / TEMPLATE_FILE, spec.sha256), images[0])
    if found.similarity < spec.least_similarity or found.overlap < LEAST_OVERLAP:
        problem = f"'{bundle.name}' does not find its structures in {case.channels[0]}"
        raise InputError(f"{problem}: cut image and reference to a box of them.", "not-placed")
    own, parts = [label.value for label in bundle.labels[1:]], list[Case]()
    step = max(own)
    if case.labels:
        mask = read_named(case, images[0], all_sides(bundle.labels, list(found.rois)))
        labels = mask.indices
    else:
        labels = sitk.GetArrayFromImage(read_case(case).reference)
        other_side = set[int]() if spec.is_whole else {value + step for value in own}
        unknown = set(np.unique(labels).tolist()) - {0, *own} - other_side
        if unknown:
            problem = f"{case.reference} holds the unknown label {min(unknown)}: say with --labels what its labels mean"
            raise InputError(f"{problem}.", "unknown-label")
    for index, (side, roi) in enumerate(found.rois.items()):
        shift, names = index * step if labels.max() > step else 0, dict[str, str]()
        values = {value + shift: value for value in own}
        if case.labels:
            label_of = mask.for_side(index, len(bundle.labels)).label_of.tolist()
            values = {each: each for each in label_of if each}
            pairs = [*zip(label_of, bundle.labels, strict=True)]
            names = {str(each): "+".join(label.name for its, label in pairs if its == each) for each in values}
        part = _written(work, f"{case.name}_{side}", images, labels, voxel_box(roi, images[0]), values, case.group)
        parts += [replace(part, labels=names)] if values else []  # else this side has no label
    return parts


def _written(
    work: Path,
    name: str,
    images: Sequence[sitk.Image],
    labels: np.ndarray,
    box: VoxelBox,
    values: Mapping[int, int],
    patient: str,
) -> Case:
    """Write a box of a case, whose label values become those of the model; all others become background."""
    own = np.zeros(labels.shape, np.int16)
    for given, value in values.items():
        own[labels == given] = value
    paths = [work / f"{name}_{number:04d}.nrrd" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        write_volume(box.crop(image), path)
    reference = work / f"{name}_labels.nrrd"
    write_volume(box.crop(image_on_grid(own, images[0])), reference)
    return Case(name, tuple(paths), reference, patient)
