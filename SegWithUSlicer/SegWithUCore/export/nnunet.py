"""Export corrected cases as a data set of nnU-Net, with a worklist of those that are still to be corrected."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, naming_case, read_case
from ..case.case_files import case_volume
from ..case.case_image import case_grid, case_image
from ..case.case_regions import assessed_part
from ..case.segmentation_file import read_reviewed
from ..review.reviewer import version_path
from ..review.reviews import read_reviews, seen_by
from ..review.worklist import make_worklist
from ..review.worklist_files import write_worklist
from ..util.errors import InputError, UsageError
from ..util.strict_json import to_json
from .anonymous import strip_metadata, write_volume
from .case_export import image_file_of
from .formats import Exported, ExportSettings, ExportWriter

_FOLDER = re.compile(r"Dataset[0-9]{3}_[A-Za-z0-9_-]+")


class NnunetExport(ExportWriter):
    """Images and labels of finished reviews, cut to what was segmented."""

    def __init__(self, work: Path, output: Path, settings: ExportSettings, found: Exported) -> None:
        """Begin a data set.

        Raises:
            UsageError: the folder's name is not one of nnU-Net.
        """
        super().__init__(work, output, settings, found)
        if not _FOLDER.fullmatch(output.name):
            wanted = "give one such as Dataset101_Hippocampus"
            raise UsageError(f"--output {output.name} is not a name of nnU-Net: {wanted}.")
        self._shared, self._waiting = dict[str, Any](), dict[str, Path]()
        for part in ("imagesTr", "labelsTr"):
            (work / part).mkdir()

    def add(self, name: str, folder: Path) -> None:
        """Write a case whose review is finished, and note any other.

        Raises:
            InputError: its structures or channels are not those of cases before it, or a file cannot be used.
        """
        with naming_case(folder):
            case = read_case(folder)
            drawn = finished_labels(folder, case, self.settings.options.get("reviewer"), self.found.notes)
            if drawn is None:
                self._waiting[name] = folder
            else:
                self._write(name, folder, case, drawn)

    def _write(self, name: str, folder: Path, case: Mapping[str, Any], drawn: np.ndarray) -> None:
        labels, channels, grid = _labels(case), case["input"]["channels"], case_grid(folder, case)
        names = {str(number): channel["name"] for number, channel in enumerate(channels)}
        own = {"channel_names": names, "labels": {label: number for number, label in enumerate(labels)}}
        if self._shared not in ({}, own):
            message = f"{folder} has other structures or channels than cases before it: export it apart."
            raise InputError(message, "other-structures")
        moved = image_file_of(folder, self.settings)
        images = [case_image(folder, case, None if n else moved, n) for n in range(len(channels))]
        self._shared, target = own, np.zeros(drawn.shape, np.uint8)
        for number, value in enumerate(labels.values()):
            target[drawn == value] = number
        box = assessed_part(case, grid)  # nobody looked outside of it, so that is not background
        if np.count_nonzero(target[box.slices_zyx]) < np.count_nonzero(target):
            self.found.notes.append(f"{folder}: labels outside of the part that was segmented were left out.")
        write_volume(box.crop(grid.image(target)), self.work / "labelsTr" / f"{name}.nii.gz")
        for number, image in enumerate(images):
            path = self.work / "imagesTr" / f"{name}_{number:04d}.nii.gz"
            write_volume(box.crop(grid.put_on(strip_metadata(image))), path)

    def finish(self) -> None:
        """Describe the data set, and list the cases that are still to be reviewed.

        Raises:
            InputError: no review is finished.
        """
        found, waiting = self.found, self._waiting
        for name in waiting:
            del found.names[name]
        if waiting and not found.names and not found.troubles:
            message = f"The review of none of {len(waiting)} cases is finished: accept or correct every region of some."
            raise InputError(message, "unfinished-review")
        content = {**self._shared, "numTraining": len(found.names), "file_ending": ".nii.gz"}
        (self.work / "dataset.json").write_text(to_json(content) + "\n", encoding="utf-8")
        if waiting:
            found.notes.append(f"{len(waiting)} cases are still to be reviewed, in the order of segwithu worklist.")
            if not self.settings.anonymous:
                write_worklist(make_worklist(list(waiting.values())), self.work)


def _labels(case: Mapping[str, Any]) -> dict[str, int]:
    """Return label values by name in the order in which nnU-Net numbers them, from 0."""
    labels = sorted((int(entry["value"]), str(entry["name"])) for entry in case["structures"])
    return {name if value else "background": value for value, name in labels}


def finished_labels(folder: Path, case: Mapping[str, Any], reviewer: str | None, notes: list[str]) -> np.ndarray | None:
    """Read the label values (z, y, x) of a finished review: the reviewer's version, or the model's segmentation.

    Args:
        reviewer: whose review; None for the only one.
        notes: one on the reviewer's file is added where there is any.

    Returns:
        None where not all regions and structures are accepted or corrected.

    Raises:
        InputError: there are several reviews and none is named; the version is missing though something was corrected,
            or is not of this case.
    """
    found = read_reviews(folder, case)
    reviews = found.reviews if reviewer is None else seen_by(reviewer, found).reviews
    if len(reviews) > 1:
        raise InputError(f"{folder} has {len(reviews)} reviews: name one with --reviewer.", "no-such-review")
    if not reviews or not reviews[0].is_finished(found.regions, list(_labels(case))[1:]):
        return None
    (review,) = reviews
    path = version_path(folder, review.path.name)
    if path.is_file():
        labels, note = read_reviewed(path, case_grid(folder, case), case)
        notes += [note] if note else []
        return labels
    if review.state.edits or any(verdict.kind.needs_edit for verdict in review.verdicts(found.regions).values()):
        raise InputError(f"{path} is missing, though the segmentation was corrected: put it back.", "missing-file")
    return sitk.GetArrayFromImage(case_volume(folder, case, SEGMENTATION_FILE, labels=True))
