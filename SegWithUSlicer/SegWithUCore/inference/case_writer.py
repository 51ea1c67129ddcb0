"""Write the case folder of one result (docs/reference/formats.md, "Case folder"), whole or not at all."""

import math
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..case.case_file import DEFAULT_TITLES, FILES, SEGMENTATION_FILE, SEGMENTATION_NRRD_FILE, read_case, write_case
from ..case.case_files import case_file, file_record, named_files
from ..case.case_folders import case_contents
from ..case.case_image import IMAGE_FILE, case_image, image_path
from ..case.case_regions import DATA_PERCENTILE_FILE, MODEL_PERCENTILE_FILE, RUNNER_UP_FILE, label_table, write_regions
from ..case.pictures import PREVIEW_FILE, Grid, Shown, can_draw, preview, strongest_tint, write_png
from ..case.segmentation_file import write_segmentation_nrrd
from ..case.structures_table import STRUCTURES_FILE, write_structures
from ..io.plane_writer import ESTIMATES, LABELS, View, write_image_planes, write_nifti_planes
from ..io.roi import whole_grid
from ..models.bundle import OPACITY_3D, Bundle
from ..models.input_spec import Label, without_side
from ..regions.find_regions import RegionSettings
from ..regions.region import UNCERTAIN
from ..review.status import with_status
from ..util.atomic_files import atomic_folder
from ..util.errors import InputError, OutputError
from ..util.input_files import plain_name
from ..util.paths import path_mac
from ..util.plane_files import ChangedPlanes, Planes, PlaneVolume
from ..util.progress import Progress, silent
from ..version import __version__
from .case_result import CaseResult
from .model import ModelIdentity
from .structures import ASYMMETRIES, TOTALS, histograms, lowest_and_highest
from .uncertainty_maps import COMPETES_ABOVE, NOT_ASSESSED, VoxelMaps, not_assessed_value


def write_case_folder(result: CaseResult, target: Path, overwrite: bool = False, progress: Progress = silent) -> Path:
    """Write the folder and return it; who else writes it is for callers to know (`run_lock`, `one_writer`).

    Args:
        progress: of writing alone, after each file.

    Raises:
        OutputError: it exists already, or cannot be written.
    """
    with atomic_folder(target, overwrite, lock=False) as work:
        ranges = map_ranges(result)
        try:
            records = _write_volumes(result, ranges, work, progress)
        except (RuntimeError, OutputError) as error:  # SimpleITK's writers raise RuntimeError
            raise OutputError(f"Cannot write {target}: the disk is full or read-only; free some space.") from error
        facts = with_status(case_facts(result, target, ranges))
        write_structures(facts, work / STRUCTURES_FILE)
        if can_draw():
            found, maps, labels = result.assessed, result.maps, dict(enumerate(result.labels))
            grid, tint = Grid.of(found.world), strongest_tint(facts)
            shown = Shown(found.first, maps.classes, maps.error_probability, labels, grid, tint)
            write_png(preview(shown), work / PREVIEW_FILE)
        records |= {path.name: file_record(path) for path in work.iterdir() if path.name not in records}
        images = (IMAGE_FILE, *result.source.further_images)  # whose voxels `input` names
        write_case(work, {**facts, FILES: {name: records[name] for name in sorted(records) if name not in images}})
        _flush(work)
    return target


def save_case(
    made: Path, target: Path, originals: Sequence[Path | None], reviews: Path | None, progress: Progress = silent
) -> None:
    """Write a case that was made for the time being to a folder that stays, named after it, whole or not at all.

    Args:
        made: the case folder; its `case.json` names the images that were segmented.
        originals: of each channel, the file that the case is to refer to; the image is copied where this is None, or
            has other voxels, or has them at another place.
        reviews: folder of logs and versions of reviewers, which come along; None, or one that is not there, for none.

    Raises:
        InputError: a file of the case, or an image, is missing or damaged.
        OutputError: the target exists or cannot be written.
    """
    case, channels = read_case(made), []
    with atomic_folder(target) as work:
        for name, path in case_contents(made).model.items():
            shutil.copyfile(path, work / name)
        for name in named_files(case):
            case_file(work, case, name)
        for path in case_contents(reviews).reviews if reviews is not None and reviews.is_dir() else ():
            shutil.copyfile(path, work / path.name)
        for number, (channel, original) in enumerate(zip(case["input"]["channels"], originals, strict=True)):
            progress("writing", number / len(originals))
            file = original
            try:
                image = None if original is None else case_image(made, case, original, number)
            except InputError:  # it was changed in the scene, or since it was loaded
                image = None
            if file is None or image is None:
                file = target / (f"image_{number:04d}.nii.gz" if number else IMAGE_FILE)
                write_image_planes(work / file.name, case_image(made, case, image_path(made, case, number), number))
            channels.append({**channel, **_file_facts(file, target, channel["voxels_sha256"])})
        facts = {**case, "name": target.name, "input": {**case["input"], "channels": channels}}
        write_structures(facts, work / STRUCTURES_FILE)
        write_case(work, {**facts, FILES: {**case[FILES], STRUCTURES_FILE: file_record(work / STRUCTURES_FILE)}})
        _flush(work)


def _flush(work: Path) -> None:
    """Bring files to the disk: that it is full is noticed now, and not after the folder has got its name."""
    for path in work.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def map_planes(maps: VoxelMaps) -> dict[str, Planes]:
    """Return the maps by name; error probability only if there is fitted calibration."""
    return {name: planes for name in DEFAULT_TITLES if (planes := getattr(maps, name)) is not None}


def map_ranges(result: CaseResult) -> dict[str, tuple[float, float]]:
    """Find the lowest and highest value of each map.

    Raises:
        InputError: one is not finite.
    """
    ranges = {}
    for name, planes in map_planes(result.maps).items():
        lows, highs = zip(*map(lowest_and_highest, result.assessed.assessed(planes)), strict=True)
        ranges[name] = (min(lows), max(highs))
    for name, ends in ranges.items():
        if not all(map(math.isfinite, ends)):
            what = f"The model '{result.model.bundle.name}' gives NaN or infinite values in the map '{name}'"
            raise InputError(f"{what} of {result.job.name}: restore it from its source.", "unusable-weights")
    return ranges


def _write_volumes(
    result: CaseResult, ranges: Mapping[str, tuple[float, float]], work: Path, progress: Progress
) -> dict[str, dict[str, str]]:
    """Write and describe all volumes."""
    box, grid, labels, source = result.assessed.box, result.source.grid, result.labels, result.source
    maps, competing = map_planes(result.maps), competition_planes(result.maps, labels)
    images = ({} if source.image is None else {IMAGE_FILE: source.image}) | dict(source.further_images)
    records, count = dict[str, dict[str, str]](), 2 + len(maps) + len(competing) + len(images)

    def check(file: str) -> None:
        try:
            records[file] = file_record(work / file)
        except (InputError, OSError) as error:
            raise OutputError(f"{work / file} did not reach the disk whole.") from error
        progress("writing", len(records) / count)

    def write(file: str, values: Planes, view: View = LABELS, outside: float = 0) -> None:
        write_nifti_planes(work / file, values, box, grid, outside, view=view)
        check(file)

    classes, whole = (result.maps.classes, box) if result.mask is None else (result.mask.indices, whole_grid(grid))
    values = ChangedPlanes(classes, label_table(labels))
    write_nifti_planes(work / SEGMENTATION_FILE, values, whole, grid, 0, view=LABELS)
    check(SEGMENTATION_FILE)
    path, image_hash = work / SEGMENTATION_NRRD_FILE, source.voxels_sha256[0]
    write_segmentation_nrrd(path, values, whole, grid, labels, image_hash)
    check(SEGMENTATION_NRRD_FILE)
    for name, planes in maps.items():
        low, high = _window(result, name, ranges[name])
        write(f"{name}.nii.gz", planes, (ESTIMATES, low, high), not_assessed_value(name, ranges[name][0]))
    for file, planes in competing.items():
        write(file, planes, LABELS if file == RUNNER_UP_FILE else (ESTIMATES, 0.0, 100.0))
    if result.regions is not None:
        write_regions(work, result.regions, box, grid)
    for file, image in images.items():
        write_image_planes(work / file, image)
        check(file)
    return records


def case_facts(result: CaseResult, target: Path, ranges: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    """Make the content of `case.json`, but for flags and status; `ranges` are those of `map_ranges`."""
    job, source, model = result.job, result.source, result.model
    box, is_alone = result.assessed.box.to_json(), result.maps.error_probability is None
    # Limits are those of the model's own segmentations.
    flags = None if result.mask else (model.bundle.calibration or {}).get("flags")
    channels = zip(model.bundle.input.channels, job.files, source.voxels_sha256, strict=True)
    return {
        "format": "segwithu-case",
        "format_version": 1,
        "name": job.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {
            "channels": [{"name": name, **_file_facts(file, target, voxels)} for name, file, voxels in channels],
            "grid": source.grid.facts(),
            "patient_mac": path_mac(*source.patient, source.voxels_sha256[0]) if source.patient else None,
        },
        "roi": None if job.roi is None else {**job.roi.to_json(), **box},
        "assessed": box,
        "placement": result.placement,
        **({} if result.mask is None else {"judged": {"file": result.mask.file.path.name, **result.mask.facts}}),
        "not_assessed_value": NOT_ASSESSED,
        "model": {
            **model_facts(model),
            "flags": {name: value for name, value in flags.items() if name != "metrics"} if flags else None,
        },
        "versions": {  # asked of the modules: what Slicer brings need not have package metadata
            "segwithu": __version__,
            "python": platform.python_version(),
            "platform": sys.platform,
            **model.engine_versions,
            "numpy": np.__version__,
            "SimpleITK": sitk.Version.VersionString(),
        },
        "device": model.device,
        "engine": dict(model.engine),
        "ood": {"warnings": [warning.to_json() for warning in result.warnings]},
        "asked": [label.name for label in result.asked],
        "asked_as": list(job.settings.structures),
        "structures": [each.to_json() | _look_in_3d(model.bundle, each.label) for each in result.assessed.structures],
        TOTALS: list(result.totals),
        ASYMMETRIES: list(result.asymmetries),
        "maps": {name: _map_facts(result, name, ranges[name]) for name in map_planes(result.maps)},
        "regions": None if result.regions is None else result.regions.summary(None if is_alone else RegionSettings()),
        "timings_s": {stage: round(seconds, 3) for stage, seconds in result.timings_s.items()},
        "peak_memory_mb": result.peak_memory_mb,
    }


def _look_in_3d(bundle: Bundle, label: Label) -> dict[str, float]:
    opacity = (bundle.display or {}).get(OPACITY_3D, {}).get(without_side(label.name))
    return {} if opacity is None else {OPACITY_3D: opacity}


def model_facts(model: ModelIdentity) -> dict[str, Any]:
    """Return what a case says of its model."""
    bundle, calibration, plugin = model.bundle, model.bundle.calibration or {}, model.head.plugin
    return {
        "name": bundle.name,
        "version": bundle.about["version"],
        "task": bundle.about["task"],
        "head": model.head.name,
        "head_trained": model.head.trained,
        **({} if plugin is None else {"plugin": {"name": plugin.name, "version": plugin.version}}),
        "network_sha256": model.network_sha256,
        "weights_sha256": bundle.weights_sha256,
        "calibration_sha256": bundle.calibration_sha256,
        "calibrated": bundle.calibration is not None,
        "calibration_cases": calibration.get("cases"),
        "calibrated_with_image": "second_stage" in calibration,
    }


def _window(result: CaseResult, name: str, ends: tuple[float, float]) -> list[float]:
    """Return the lowest and highest value of a map that is shown."""
    usual = [0.0, 0.5] if name == "error_probability" else list(ends)
    return (result.model.bundle.display or {}).get(name, usual)


def _map_facts(result: CaseResult, name: str, ends: tuple[float, float]) -> dict[str, Any]:
    window = _window(result, name, ends)
    return {
        "file": f"{name}.nii.gz",
        "title": DEFAULT_TITLES[name],
        "unit": "1",
        "window": window,
        "lower_threshold": UNCERTAIN if name == "error_probability" else window[0],
        "not_assessed": not_assessed_value(name, ends[0]),
        "histograms": histograms(
            result.assessed.assessed(map_planes(result.maps)[name]),
            result.assessed.assessed(result.maps.classes),
            result.labels,
            ends,
        ),
    }


def _file_facts(file: Path, target: Path, voxels_sha256: str) -> dict[str, str]:
    """Describe where a channel lies, signed so that this user is led there again (`paths.path_mac`)."""
    try:
        stored = plain_name(Path(os.path.relpath(file.resolve(), target.resolve())).as_posix())
    except ValueError:  # another drive on Windows
        stored = plain_name(file.resolve().as_posix())
    mac = path_mac(stored, voxels_sha256)
    return {"file": stored, **({} if mac is None else {"file_mac": mac}), "voxels_sha256": voxels_sha256}


class CompetitionPlanes(PlaneVolume):
    """Runner-up or percentile as the files hold it: the value of `below` where nothing competes.

    Args:
        maps: with error probability.
        found: what holds where something competes.
        below: what holds elsewhere, below the threshold; None for 0.
    """

    def __init__(self, maps: VoxelMaps, found: Planes, below: Planes | None = None) -> None:
        assert maps.error_probability is not None
        self._probability, self._found, self._below = maps.error_probability, found, below
        self.shape, self.dtype = tuple(found.shape), found.dtype

    def __getitem__(self, planes: slice) -> np.ndarray:
        """Read some planes, one after the other."""
        is_below = self._probability[planes] <= COMPETES_ABOVE
        below = 0 if self._below is None else self._below[planes]
        return np.where(is_below, below, self._found[planes]).astype(self.dtype, copy=False)


def competition_planes(maps: VoxelMaps, labels: Sequence[Label]) -> dict[str, Planes]:
    """Return what regions need besides the segmentation, by file name; where nothing competes, its own classes."""
    if maps.error_probability is None:
        return {}
    table = label_table(labels)
    classes, runner_up = ChangedPlanes(maps.classes, table), ChangedPlanes(maps.runner_up, table)
    found: dict[str, Planes] = {RUNNER_UP_FILE: CompetitionPlanes(maps, runner_up, classes)}
    for file, part in ((MODEL_PERCENTILE_FILE, maps.model_percentile), (DATA_PERCENTILE_FILE, maps.data_percentile)):
        if part is not None:
            found[file] = CompetitionPlanes(maps, part)
    return found
