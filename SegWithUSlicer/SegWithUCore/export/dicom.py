"""Export results of case folders as DICOM files that refer to the series that was segmented."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import SEGMENTATION_FILE, read_case
from ..case.case_files import case_volume
from ..case.case_folders import REVIEWED_PATTERN
from ..case.case_image import OTHER_IMAGE, OutsideError, channel_hash, checked_image, series_with_voxels, trusted_source
from ..case.case_regions import ERROR_PROBABILITY_FILE
from ..case.region_files import REGION_LABELS_FILE
from ..case.segmentation_file import read_segments, reviewed_name
from ..models.input_spec import Label
from ..review.flags import case_flags, rules_of_case, structures_of
from ..review.reviewer import safe_reviewer_name
from ..review.reviews import finished_structures, read_reviews, seen_by
from ..util.atomic_files import atomic_folder
from ..util.errors import NEEDS_PACKAGE, InputError, UsageError, wrong_values_named
from ..util.paths import is_own
from ..util.progress import Progress, in_turn, silent
from . import dicom_objects as objects
from .case_export import exported, free_name
from .formats import Exported

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION_DICOM, PROBABILITY_DICOM = "segmentation.dcm", "error_probability.dcm"
REGIONS_DICOM, REPORT_DICOM = "regions.dcm", "report.dcm"
# The first release of highdicom that writes the window and the sources of parametric maps.
LEAST_RELEASE = "0.28"
REQUIREMENT = f"highdicom>={LEAST_RELEASE}"
# Attributes that every object must have, but which may be empty (type 2).
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_SEXES = ("", "M", "F", "O")
# Attributes that results copy from the series; reading checked that all slices agree.
_SHARED = {"StudyInstanceUID": "study", "FrameOfReferenceUID": "frame of reference"}
_GREY = (128, 128, 128)


def export_dicom(
    folders: Sequence[Path], output: Path, moved_to: Path | None, reviewer: str | None, progress: Progress = silent
) -> Exported:
    """Write one folder of DICOM files per case into `output`, whole or not at all; a failing case stops no other.

    Args:
        moved_to: current folder of the DICOM series of the one case, if it was moved.
        reviewer: whose verdicts and version are exported and no other's; None for all versions and no verdicts.

    Raises:
        UsageError: highdicom is not installed.
        InputError: nothing can be exported.
        OutputError: the folder exists, or cannot be written.
    """
    _check_installed()
    found, named = Exported(), dict[str, Path]()
    for folder in folders:
        named[free_name(folder, named)] = folder
    with atomic_folder(output) as work:
        for name, folder in in_turn(named.items(), "exporting", progress, lambda pair: pair[1].name):
            with exported(folder, work / name, found):
                found.files[name] = _export_case(folder, work / name, moved_to, reviewer, found.notes)
        if not found.files:
            raise InputError(f"Nothing was exported: {found.troubles[0]}")
    return found


def _check_installed() -> None:
    """Raise UsageError where highdicom is missing or too old."""
    try:
        import highdicom
        from packaging.version import Version
    except ImportError as error:
        message = f"DICOM objects need the package {error.name}: pip install '{REQUIREMENT}'."
        raise UsageError(message, NEEDS_PACKAGE) from error
    if Version(highdicom.__version__) < Version(LEAST_RELEASE):
        found = f"instead of {highdicom.__version__}"
        raise UsageError(f"DICOM objects need {REQUIREMENT} {found}: pip install '{REQUIREMENT}'.", NEEDS_PACKAGE)


def _export_case(folder: Path, target: Path, moved_to: Path | None, chosen: str | None, notes: list[str]) -> list[str]:
    """Write the DICOM files of one case into `target`, which is made; returns their names.

    Raises:
        InputError: the case is damaged, its series is not there or not the one that was segmented, or it has no review
            by the reviewer.
        OSError: a file cannot be written.
    """
    case, own = read_case(folder), list[str]()
    with warnings.catch_warnings():  # about values in headers of the series, which are taken over as they are
        warnings.simplefilter("ignore")
        with wrong_values_named(folder, "segment the case again", problem="is damaged, in case.json"):
            source = source_series(folder, case, moved_to, own)
            made = dict(_objects(folder, case, source, chosen, own))
        target.mkdir(parents=True)
        for name, dataset in made.items():
            try:
                dataset.save_as(target / name, enforce_file_format=True)
            except OSError as error:  # pydicom wraps the one that says why
                raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None
    notes += [f"{target.name}: {note}" for note in own]
    return list(made)


def _objects(
    folder: Path, case: Mapping[str, Any], source: objects.SourceSeries, chosen: str | None, notes: list[str]
) -> Iterator[tuple[str, "Dataset"]]:
    """File name and content of each object of a case."""
    from .dicom_report import Report, judged_regions, region_segment

    origin = objects.ModelProvenance.from_case(case)
    prefix = f"SegWithU {case['model']['name']}"
    found = read_reviews(folder, case)
    review = None if chosen is None else next(iter(seen_by(chosen, found).reviews), None)
    if chosen is not None and review is None:
        message = f"{folder} has no review by {chosen}: give the name as in its review logs, or leave --reviewer out."
        raise InputError(message, "no-such-review")
    model = _model_segments(folder, case)
    what = "segmentation made elsewhere" if case.get("judged") else "segmentation"
    title = objects.SeriesTitle("SEGMENTATION", f"{prefix}: {what}", 1)
    drawing, reviewed, judged = (objects.segmentation_object(source, model, origin, title), model), None, None
    yield SEGMENTATION_DICOM, drawing[0]
    reviewers = {safe_reviewer_name(r.reviewer): r.reviewer for r in found.reviews}
    number = 1
    for path in sorted(folder.glob(REVIEWED_PATTERN)):
        reviewer = reviewers.get(reviewed_name(path), reviewed_name(path))
        if review is not None and reviewer != review.reviewer:
            continue
        segments = _reviewed_segments(path, case, source.image, model, notes)
        if not segments.entries:
            notes.append(f"{path.name} contains no segments and was skipped.")
            continue
        number += 1
        title = objects.SeriesTitle("REVIEWED", f"{prefix}: reviewed by {reviewer or 'somebody'}", number, reviewer)
        name = f"{path.name.removesuffix('.seg.nrrd')}.dcm"
        reviewed = objects.segmentation_object(source, segments, origin, title), segments
        yield name, reviewed[0]
    if review is not None and (seen := judged_regions(found.regions, review)):
        ids = sitk.GetArrayFromImage(case_volume(folder, case, REGION_LABELS_FILE, labels=True))
        segments = objects.Segments([ids], [region_segment(region) for region in seen])
        title = objects.SeriesTitle("REGIONS", f"{prefix}: regions judged by {review.reviewer}", 97, review.reviewer)
        judged = objects.segmentation_object(source, segments, origin, title), segments
        yield REGIONS_DICOM, judged[0]
    flags = case_flags(case, rules_of_case(case), [review] if review else [])
    is_done = review is not None and finished_structures(folder, case, review).issuperset(review.state.asked)
    report = Report(source, origin, case, drawing, flags, found.regions, review, is_done, reviewed, judged)
    title = objects.SeriesTitle("REPORT", f"{prefix}: report", 98, review.reviewer if review else "")
    yield REPORT_DICOM, report.made(title)
    if review is None and found.reviews:
        notes.append(f"{REPORT_DICOM} has no verdicts: name one reviewer of {len(found.reviews)} with --reviewer.")
    facts = case["maps"].get("error_probability")
    if facts is None:
        notes.append("no parametric map, because the model is not calibrated.")
        return
    values = sitk.GetArrayFromImage(case_volume(folder, case, ERROR_PROBABILITY_FILE))
    title = objects.SeriesTitle("ERROR_PROB", f"{prefix}: error probability", 99)
    yield PROBABILITY_DICOM, objects.probability_object(source, values, facts["window"], origin, title)


def source_series(
    folder: Path, case: Mapping[str, Any], moved_to: Path | None, notes: list[str]
) -> objects.SourceSeries:
    """Read the series of a case's first channel, on whose grid all results lie.

    Args:
        folder: the case folder.
        case: the content of its `case.json`.
        moved_to: current folder of the series, if it was moved, converted or de-identified in between.
        notes: one is added where that series names another patient.

    Raises:
        InputError: the case was not made from DICOM, the series is gone, holds other voxels, lies elsewhere in space or
            names another patient, as far as this user segmented it, or no study or frame of reference.
    """
    try:
        path = moved_to or trusted_source(folder, case)
    except OutsideError as error:
        message = f"Another user segmented {folder} from the series in {error.path}: give its folder with --source."
        raise InputError(message, "no-source-series") from error
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "is not there"
        message = f"{folder} has no DICOM series ({path} {what}): give the folder of the series with --source."
        raise InputError(message, "no-source-series")
    channel, mac = case["input"]["channels"][0], case["input"].get("patient_mac")
    voxels = channel["voxels_sha256"]
    volume, files = series_with_voxels(path, voxels)
    image = checked_image(path, volume, folder, case)
    is_by_this_user = is_own(channel.get("file_mac"), channel["file"], voxels)  # else nobody knows
    if mac and is_by_this_user and not is_own(mac, *volume.header.patient, voxels):
        what = f"{path} has another PatientID, or issuer of it, than when {folder} was segmented"
        if moved_to is None:
            raise InputError(f"{what}: give it with --source if results shall name that patient.", OTHER_IMAGE)
        notes.append(f"{what}; the results name the patient that it has now.")
    headers = [_header(file) for file in files]
    for keyword, what in _SHARED.items():
        if not headers[0].get(keyword):
            raise InputError(f"{files[0]} names no {what} ({keyword}): DICOM results cannot refer to this series.")
    for header in headers:
        _set_grid(header, headers[0], float(image.GetSpacing()[2]))
    return objects.SourceSeries(path, image, headers)


def _header(file: Path) -> "Dataset":
    """Read the header of a slice; what may be empty and is absent or not allowed is empty."""
    import pydicom

    header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    header.decode()
    header.SpecificCharacterSet = objects.UNICODE
    for keyword in _MAY_BE_EMPTY:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    if header.PatientSex not in _SEXES:
        header.PatientSex = ""
    return header


def _set_grid(header: "Dataset", first: "Dataset", step_mm: float) -> None:
    """One orientation and pixel spacing for all slices, as they were found to agree, and the step between them.

    Headers round these each in their own way, and what they call spacing between slices need not be the step.
    """
    header.ImageOrientationPatient, header.PixelSpacing = first.ImageOrientationPatient, first.PixelSpacing
    header.SpacingBetweenSlices = f"{step_mm:.10g}"
    try:
        thickness = float(header.get("SliceThickness") or 0)
    except ValueError:
        thickness = 0.0
    header.SliceThickness = f"{thickness or step_mm:.10g}"


def _model_segments(folder: Path, case: Mapping[str, Any]) -> objects.Segments:
    """Read the model's own segments, empty ones too; raises as `case_volume`."""
    voxels = sitk.GetArrayFromImage(case_volume(folder, case, SEGMENTATION_FILE, labels=True))
    how, about = objects.SegmentAlgorithm.MODEL, ""
    if case.get("judged"):  # a mask that was made elsewhere, in whatever way
        how, about = objects.SegmentAlgorithm.REVIEWER, f"Made elsewhere: {case['judged']['file']}"
    entries = [objects.Segment(label, 0, label.value, how, about) for label in _structures(case)]
    return objects.Segments([voxels], entries)


def _reviewed_segments(
    path: Path, case: Mapping[str, Any], grid: sitk.Image, model: objects.Segments, notes: list[str]
) -> objects.Segments:
    """Read a reviewer's segments: the structures of the case and those that the reviewer added.

    Args:
        path: of the reviewed segmentation.
        model: the model's segments; those that are as they were stay the model's.
        notes: one on the file is added where there is any.

    Raises:
        InputError: the file cannot be read, lies elsewhere or was made on another image.
    """
    layers, segments, note = read_segments(path, grid, channel_hash(path.parent, case))
    notes += [note] if note else []
    structures = {label.name: label for label in _structures(case)}
    own = {segment.label.name: model.mask(segment) for segment in model.entries}
    free = max([label.value for label in structures.values()], default=0) + 1
    found: list[objects.Segment] = []
    for number, fields in enumerate(segments):
        codes = dict(objects.terminology(fields.tags))
        label = structures.get(fields.name)
        if label is None:
            red, green, blue = fields.color or _GREY
            kinds = (codes.get("category"), codes.get("type"), codes.get("modifier"))
            label = Label(free, fields.name or f"segment {number + 1}", (red, green, blue), *kinds)
            free += 1
        found.append(objects.Segment(label, fields.layer, fields.value))
    if not found:  # a plain label volume
        found = [objects.Segment(label, 0, label.value) for label in structures.values()]
    reviewed = objects.Segments(layers, sorted(found, key=lambda segment: segment.label.value))
    for segment in reviewed.entries:
        before = own.get(segment.label.name)
        if before is None or case.get("judged"):
            segment.made_by = objects.SegmentAlgorithm.REVIEWER
            segment.about = "" if before is None else "Made elsewhere and reviewed"
        elif not np.array_equal(reviewed.mask(segment), before):
            segment.made_by = objects.SegmentAlgorithm.MODEL_AND_REVIEWER
    return reviewed


def _structures(case: Mapping[str, Any]) -> list[Label]:
    """Return the labels of the case without the background."""
    return [Label.from_json(entry) for entry in structures_of(case)]
