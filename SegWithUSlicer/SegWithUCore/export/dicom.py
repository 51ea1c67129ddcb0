"""Export results of case folders as DICOM files: Segmentations and a Parametric Map of the error probability."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import read_case
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.segmentation_file import REVIEWED_PATTERN, reviewed_name
from ..io.volume import read_file, same_grid
from ..review.reviewer import safe_reviewer_name
from ..review.reviews import read_reviews
from ..util.atomic_files import atomic_folder
from ..util.errors import InputError
from ..util.progress import Progress
from .dicom_objects import ModelProvenance, SeriesTitle, SourceSeries, check_installed, source_series
from .dicom_parametric_map import probability_object
from .dicom_seg import Segments, model_segments, reviewed_segments, segmentation_object
from .each_case import EachCase, each_outcome, exported, free_name, here

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from ..cluster.on_worker import Context

SEGMENTATION_DICOM, PROBABILITY_DICOM = "segmentation.dcm", "error_probability.dcm"


@dataclass
class DicomExported:
    """What was written.

    Attributes:
        files: of each case, by the case's name in the export.
        notes: what a case has none of, one sentence each.
        troubles: why other cases were not exported, one sentence each.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


def export_dicom(
    folders: Sequence[Path],
    output: Path,
    moved_to: Path | None = None,
    report: Progress | None = None,
    each: EachCase = here,
) -> DicomExported:
    """Write one folder of DICOM files per case into `output`, whole or not at all; a failing case stops no other.

    Args:
        moved_to: where the DICOM series of the one case lies now, if it was moved.
        each: does the cases, in this process or on workers that see the folder of `output`.

    Raises:
        UsageError: highdicom is not installed.
        InputError: nothing can be exported.
        OutputError: the folder exists, or cannot be written.
    """
    check_installed()
    found, named = DicomExported(), dict[str, Path]()
    for folder in folders:
        named[free_name(folder, named)] = folder
    with atomic_folder(output) as work:
        place = work.absolute()
        arguments = {
            name: (folder.absolute(), place / name, moved_to and moved_to.absolute()) for name, folder in named.items()
        }
        for name, (value, why) in each_outcome(each, arguments, exported_case, named, "exporting", report).items():
            if value is None:
                found.troubles.append(why)
            else:
                found.files[name] = value["files"]
                found.notes.extend(f"{name}: {note}" for note in value["notes"])
        if not found.files:
            raise InputError(f"Nothing was exported: {found.troubles[0]}")
    return found


def exported_case(_context: "Context", folder: Path, target: Path, moved_to: Path | None) -> dict[str, Any]:
    """Export one case, here or on a worker.

    Raises:
        InputError: it cannot be exported.
    """

    def write() -> dict[str, Any]:
        with warnings.catch_warnings():  # about values in headers of the series, which are taken over as they are
            warnings.simplefilter("ignore")
            files, notes = write_case_dicom(folder, target, moved_to)
        return {"files": files, "notes": notes}

    return exported(write, folder, {})


def write_case_dicom(folder: Path, target: Path, moved_to: Path | None = None) -> tuple[list[str], list[str]]:
    """Write the DICOM files of one case into `target`, which is made; returns their names, and notes.

    Raises:
        InputError: the case is damaged, or its series is not there or not the one that was segmented.
        OSError: a file cannot be written.
    """
    case = read_case(folder)
    try:
        source = source_series(folder, case, moved_to)
        notes = list(source.notes)
        made = dict(_objects(folder, case, source, notes))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder} is damaged (case.json: {error!r}): segment the case again.") from error
    target.mkdir(parents=True)
    for name, dataset in made.items():
        try:
            dataset.save_as(target / name, enforce_file_format=True)
        except OSError as error:  # pydicom wraps the one that says why
            raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None
    return list(made), notes


def _objects(
    folder: Path, case: Mapping[str, Any], source: SourceSeries, notes: list[str]
) -> Iterator[tuple[str, "Dataset"]]:
    """File name and content of each object of a case."""
    origin = ModelProvenance.from_case(case)
    prefix = f"SegWithU {case['model']['name']}"
    model = model_segments(folder, case, source.image)
    title = SeriesTitle("SEGMENTATION", f"{prefix}: segmentation", 1)
    yield SEGMENTATION_DICOM, segmentation_object(source, model, origin, title)
    for number, (reviewer, file, segments) in enumerate(_reviewed(folder, case, source, model, notes), start=2):
        title = SeriesTitle("REVIEWED", f"{prefix}: reviewed by {reviewer or 'somebody'}", number, reviewer)
        yield file, segmentation_object(source, segments, origin, title)
    facts = case["maps"].get("error_probability")
    if facts is None:
        notes.append("no parametric map, because the model is not calibrated.")
        return
    values = _probability(folder / ERROR_PROBABILITY_FILE, source)
    title = SeriesTitle("ERROR_PROB", f"{prefix}: error probability", 99)
    yield PROBABILITY_DICOM, probability_object(source, values, facts["window"], origin, title)


def _probability(path: Path, source: SourceSeries) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} is missing: segment the case again.")
    image = read_file(path)
    if not same_grid(image, source.image):
        raise InputError(f"{path} is not on the grid of the image: segment the case again.")
    values: np.ndarray = sitk.GetArrayFromImage(image)
    return values


def _reviewed(
    folder: Path, case: Mapping[str, Any], source: SourceSeries, model: Segments, notes: list[str]
) -> Iterator[tuple[str, str, Segments]]:
    """Reviewer, file name and segments of each reviewed version that holds any."""
    reviewers = [review.reviewer for review in read_reviews(folder, dict(case)).reviews]
    names = {safe_reviewer_name(reviewer): reviewer for reviewer in reviewers}
    for path in sorted(folder.glob(REVIEWED_PATTERN)):
        part = reviewed_name(path)
        segments = reviewed_segments(path, case, source.image, model, notes)
        if segments.entries:
            yield names.get(part, part), f"{path.name.removesuffix('.seg.nrrd')}.dcm", segments
        else:
            notes.append(f"{path.name} holds no segments and was left out.")
