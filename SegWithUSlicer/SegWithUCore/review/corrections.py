"""A segmentation that was corrected in another program becomes a reviewer's version; the case's own is restored."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case import segmentation_file
from ..case.case_file import CHANGED_FILE, SEGMENTATION_FILE, naming_case, read_case
from ..case.case_files import SEGMENTATIONS, case_volume, regions_of_case
from ..case.case_image import case_grid, channel_hash
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.region_files import REGION_LABELS_FILE
from ..io.grid import VoxelGrid
from ..io.plane_writer import LABELS, write_nifti_planes
from ..io.roi import whole_grid
from ..io.volume import check_file
from ..util.atomic_files import atomic_file
from ..util.errors import InputError, OutputError
from .gestures import edit_of
from .reviewed_case import measured_volumes
from .reviewer import log_path, version_path
from .session import ReviewedCase, Session


def take_as_edit(
    folder: Path, reviewer: str, mask: Path | None = None, overwrite: bool = False, review: Session | None = None
) -> tuple[Path, dict[str, list[float]]]:
    """Keep a segmentation as a reviewer's version of that of a case, with a line in the review.

    A structure that it changes is not finished any more.

    Args:
        mask: label volume with the values of the case, or `.seg.nrrd`, on the grid of the case; None for what another
            program has saved over the segmentation of the case, which stays so (`restore_segmentation`).
        overwrite: also if the reviewer has a version, which is lost.
        review: the reviewer's, where it is open; else it is opened for the line.

    Returns:
        The version, and the volume in mm3 of each structure that it changes, by name: before and after.

    Raises:
        InputError: it cannot be read, lies elsewhere, is of another image, has a label that the case does not name, or
            changes nothing; or the case is damaged.
        OutputError: the reviewer has a version already, or the folder cannot be written to.
        UsageError, LogInUseError: as `Session.open`.
    """
    case, target = read_case(folder), version_path(folder, log_path(folder, reviewer).name)
    if os.path.lexists(target) and not overwrite:
        ways = "give another name, or replace it by segwithu correct with --overwrite"
        raise OutputError(f"{target} is there already: {ways}.", "exists-already")
    with naming_case(folder):
        drawn, changed = _drawn(folder, case)
        mask, grid = mask or folder / (changed or SEGMENTATIONS)[0], case_grid(folder, case)
        names = {int(entry["value"]): str(entry["name"]) for entry in case["structures"]}
        _, segments, unmarked = segmentation_file.read_segments(mask, grid, channel_hash(folder, case))
        before, after = sitk.GetArrayFromImage(drawn), segmentation_file.read_reviewed(mask, grid, case)[0]
        if (before == after).all():
            raise InputError(f"{mask} has the labels of {folder}: there is no edit to be taken.")
        former = before  # the reviewer's version that is replaced: what goes back to the model's changes, too
        if target.is_file():
            try:
                former = segmentation_file.read_reviewed(target, grid, case)[0]
            except InputError:  # damaged: any structure may change
                former = np.zeros_like(before)
        values, edited = (
            sorted({*was[was != after].tolist(), *after[was != after].tolist()} - {0}) for was in (before, former)
        )
        voxel_mm3 = float(np.prod(grid.spacing))
        with atomic_file(target, overwrite=overwrite) as work:
            if segments:  # with all that its program knows, such as segments of the reviewer's own
                shutil.copyfile(mask, work)
                if unmarked:
                    segmentation_file.mark_image(work, channel_hash(folder, case))
            else:
                segmentation_file.write_drawn_nrrd(work, grid.image(after), case)
            check_file(work)
            if case.get("regions") is not None:  # else there is no review
                volumes = measured_volumes(folder, case, (ERROR_PROBABILITY_FILE, REGION_LABELS_FILE))
                error, marked = volumes[ERROR_PROBABILITY_FILE], volumes[REGION_LABELS_FILE]
                edit = edit_of(before, after, error, marked, voxel_mm3, (names[value] for value in edited), None)
                if review is not None:
                    review.edit(edit)
                else:
                    reviewed = ReviewedCase(case, *regions_of_case(folder, case))
                    with contextlib.closing(Session.open(reviewed, folder, reviewer)) as session:
                        session.edit(edit)
    return target, {names[each]: [float(np.sum(one == each)) * voxel_mm3 for one in (before, after)] for each in values}


def restore_segmentation(folder: Path) -> list[Path]:
    """Write the segmentation of a case again where it was saved over, and return the files.

    Raises:
        InputError: both of its files were, or the case is damaged.
        OutputError: the folder cannot be written to.
    """
    case = read_case(folder)
    with naming_case(folder):
        drawn, changed = _drawn(folder, case)
        voxels, grid = sitk.GetArrayViewFromImage(drawn), VoxelGrid.of(drawn)
        for name in changed:
            with atomic_file(folder / name) as work:
                if name == SEGMENTATION_FILE:
                    write_nifti_planes(work, voxels, whole_grid(grid), grid, 0, view=LABELS)
                else:
                    segmentation_file.write_drawn_nrrd(work, drawn, case)
    return [folder / name for name in changed]


def _drawn(folder: Path, case: Mapping[str, Any]) -> tuple[sitk.Image, list[str]]:
    """Read the segmentation that was written, and name the files that do not hold it any more.

    Raises:
        InputError: none does.
    """
    found, changed = list[sitk.Image](), list[str]()
    for name in SEGMENTATIONS:
        try:
            found.append(case_volume(folder, case, name))
        except InputError:
            changed.append(name)
    if not found:
        both = " and ".join(SEGMENTATIONS)
        raise InputError(f"{folder} has lost {both}: segment the case again with --overwrite.", CHANGED_FILE)
    return found[0], changed
