"""The whole job: from image files to a case folder (`segment`), or to the same result in memory (`compute_case`)."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..case.case_image import voxel_hash
from ..case.pictures import can_draw
from ..io.grid import VoxelGrid
from ..io.inputs import channel_header, read_channel
from ..io.roi import RegionOfInterest, voxel_box, whole_grid
from ..io.volume import Header, Volume, apply_transform, check_same_grid, coarse_notes
from ..models.bundle import Bundle
from ..models.input_spec import Label, asked_labels
from ..models.proposal import needs_placing
from ..network.specs import MASK_ALONE
from ..util.errors import InputError, UsageError
from ..util.memory import check_memory, give_back_freed_memory
from ..util.plane_files import IN_MEMORY_VOXELS, kept_planes
from ..util.progress import Progress, part_of, silent
from . import memory_prediction
from .case_result import AssessedBox, CaseInput, CaseResult, Job
from .case_writer import write_case_folder
from .deviation import NOTE, REFUSED, WARNING, Deviation, RefusedInputError, by_importance, is_refused
from .engines.base import DeviceMemoryError
from .given_mask import NO_MODEL, GivenMask, MaskedImage, MaskFile, read_mask
from .judged_mask import judged
from .lost_calibration import result_deviations
from .memory_prediction import memory_from_headers, run_memory
from .model import Model
from .ood_check import input_deviations
from .placed_case import PlacedBoxes, all_sides, all_totals
from .preprocessing import assessed_box, box_around_mask, engine_input
from .structures import empty_structures, structure_deviations, structure_metrics, whole_metrics
from .uncertainty_maps import VoxelMaps, maps_by_slabs, regions_of_maps

WINDOWS = (0.02, 0.8)
"""Of a whole run, the part of windows and their maps: 0.4 to 0.7 of the time with small networks, more with large ones
(Testing/Benchmarks/results/large_volumes.md). Regions and files follow."""
FILES_FROM, FILES_TO = 0.83, 0.99
"""Of a whole run, the part that writing the volumes of the case folder takes."""


def segment(job: Job, model: Model, progress: Progress = silent) -> CaseResult:
    """Segment one case and write its case folder.

    Raises:
        InputError, UsageError: as `compute_case`.
        OutputError: the case folder exists or cannot be written.
    """
    # Nothing is made before there is a result, so large maps go to the nearest folder that is there.
    scratch = next(folder for folder in job.target.absolute().parents if folder.is_dir())
    result = compute_case(job, model, progress, scratch=scratch)
    if not can_draw():
        note = Deviation(NOTE, "There is no preview.png without the package Pillow: pip install pillow.", "preview")
        result = replace(result, warnings=[*result.warnings, note])
    progress("writing", FILES_FROM)
    write_case_folder(result, job.target, job.overwrite, part_of(progress, FILES_FROM, FILES_TO))
    progress("done", 1.0)
    return result


def compute_case(
    job: Job,
    model: Model,
    progress: Progress = silent,
    images: Mapping[Path, sitk.Image] | None = None,
    scratch: Path | None = None,
) -> CaseResult:
    """Segment one case: all that its case folder will hold; `job.target` is not used.

    Args:
        images: in memory, in place of files of those names.
        scratch: folder on the disk that the maps of large images go to; None keeps them in memory.

    Raises:
        InputError: an image is unusable, has the wrong channels, or is too far from the training cases.
        UsageError: a region of interest that the image or the model cannot have.
        NotEnoughMemoryError: the run needs more memory than is free.
        OutputError: there is no room for large maps.
    """
    is_model = model.bundle.name != NO_MODEL
    if job.mask is not None and model.bundle.calibration is None and is_model:
        message = f"The model '{model.bundle.name}' is not calibrated, so it cannot judge a mask: calibrate it"
        raise InputError(f"{message}, or choose another.", "not-calibrated")
    given = _read(job, model, images or {}, scratch is not None, progress)
    if job.mask is not None and not is_model:
        two = list(filter(None, (job.mask, job.mask.other)))
        from .mask_review import reviewed_mask  # needs scipy, which a network is started without

        both = [given.read_mask(each, job.files[0], model.bundle.labels, len(two) > 1) for each in two]
        found = reviewed_mask(job, model, given.source, given.images[0], both, progress)
        asked_labels(found.labels, job.settings.structures)
        return replace(found, warnings=by_importance([*given.notes, *found.warnings]))
    boxes, placement = _place(job, model.bundle, given, progress), None
    sides, labels = [], model.bundle.labels
    if boxes is not None:
        sides, scratch = list(boxes.found.rois), None
        labels = all_sides(labels, sides)
        given = replace(given, stored_bytes=memory_prediction.READ_BYTES, is_held=True, is_cut_once=False)
    asked_labels(labels, job.settings.structures)
    mask = None if job.mask is None else given.read_mask(job.mask, job.files[0], labels)

    def run(side: str, roi: RegionOfInterest | None, progress: Progress) -> AssessedBox:
        own = mask.for_side(sides.index(side), len(model.bundle.labels)) if mask is not None and sides else mask
        return _assess(_predict(job, model, given, roi, own, scratch, progress), model)

    if boxes is None:
        box = run("", job.roi, progress)
    else:
        box, placement = boxes.assessed(run, model.bundle.labels, progress)
    totals = all_totals(model.bundle.totals, model.bundle.labels, sides)
    voxel_mm3 = float(np.prod(box.world.spacing))
    wholes = whole_metrics(box.structures, box.maps.sums, totals, voxel_mm3, model.case_level)
    result = CaseResult(job, model.identity, given.source, labels, box, None, *wholes, placement=placement, mask=mask)
    return _assemble(result, given, progress)


@dataclass(frozen=True)
class _Given:
    """The images of a job, read.

    Attributes:
        source: what the result says of them.
        header: of the first channel.
        images: the channels; emptied when they are cut for the last time.
        notes: of the headers, each once.
        stored_bytes: of a voxel in the file.
        is_held: whether a whole image stays in memory.
        seconds: that reading took.
        is_cut_once: whether the images are not needed once a box was cut out of them.
    """

    source: CaseInput
    header: Header
    images: list[sitk.Image]
    notes: list[Deviation]
    stored_bytes: int
    is_held: bool
    seconds: float
    is_cut_once: bool = True

    def read_mask(self, mask: MaskFile, file: Path, labels: Sequence[Label], may_be_empty: bool = False) -> GivenMask:
        """Read the mask of a job; `file` is its first channel, `labels` those that its own are matched with."""
        series = self.header.source
        slice_file = series[1][0].file if isinstance(series, tuple) else None
        image = MaskedImage(file, self.source.grid, self.source.voxels_sha256[0], slice_file)
        return read_mask(mask, image, labels, may_be_empty)


def _read(job: Job, model: Model, in_memory: Mapping[Path, sitk.Image], on_disk: bool, progress: Progress) -> _Given:
    """Read the images of a job; without boxes to be placed, only where the run that follows fits into memory.

    Raises:
        InputError, UsageError: as `_checked_headers` and `read_channels`.
        NotEnoughMemoryError: see above.
    """
    bundle, began = model.bundle, time.perf_counter()
    headers, is_held = _checked_headers(job, bundle, in_memory), job.settings.include_image or bool(in_memory)
    given = (headers, job.roi, model, is_held, job.own_to_world_ras, on_disk)
    memory = None if bundle.name == NO_MODEL else memory_from_headers(*given)  # a mask alone takes little
    may_be_placed = job.roi is None and bundle.placement is not None
    if memory is not None and not may_be_placed:
        memory.check(job.files[0])
    progress("reading", 0.0, "" if memory is None else memory.words)
    volumes = read_channels(job, bundle, headers, in_memory)
    images = [volume.image for volume in volumes]
    notes = dict.fromkeys(note for volume in volumes for note in volume.header.notes)
    source = CaseInput(
        VoxelGrid.of(images[0]),
        [voxel_hash(image) for image in images],
        headers[0].patient,
        images[0] if job.settings.include_image else None,
    )
    stored = memory_prediction.READ_BYTES if memory is None else memory_prediction.stored_bytes(headers)
    place_notes = [Deviation(WARNING, note, "place") for note in notes]
    return _Given(source, headers[0], images, place_notes, stored, is_held, time.perf_counter() - began)


def _place(job: Job, bundle: Bundle, given: _Given, progress: Progress) -> PlacedBoxes | None:
    """Place the boxes of a model in an image that is larger than they are; None without such boxes."""
    if job.roi is not None or not needs_placing(given.source.grid, bundle):
        return None
    progress("finding the structures", 0.0)
    image = given.images[0]
    needed = 8.0 * math.prod(image.GetSize())  # two more copies of the image, as float32
    remedy = memory_prediction.smaller_input(bundle)
    check_memory("Finding the structures in the image", needed, [remedy], file=job.files[0])
    return PlacedBoxes.find(image, apply_transform(image, job.own_to_world_ras), str(job.files[0]), bundle)


def _predict(
    job: Job,
    model: Model,
    given: _Given,
    roi: RegionOfInterest | None,
    mask: GivenMask | None,
    scratch: Path | None,
    progress: Progress,
) -> AssessedBox:
    """Cut a box out of the images, compare it with the training cases, and segment it; without metrics yet.

    Args:
        mask: of the whole image.

    Raises:
        InputError: the region lies outside, or as `checked_against_training`.
        NotEnoughMemoryError: segmenting needs more than is free.
    """
    began, grid = time.perf_counter(), given.source.grid
    box = voxel_box(roi, grid) if roi else whole_grid(grid)
    parts = [box.crop(image) for image in given.images]
    if given.is_cut_once:
        given.images.clear()
    warnings = [Deviation(WARNING, note, "grey values") for part in parts for note in coarse_notes(part)]
    parts = [apply_transform(part, job.own_to_world_ras) for part in parts]
    warnings += checked_against_training(parts, model.bundle, job)
    assessed = assessed_box(parts, model.bundle.input)
    if mask is not None and model.bundle.backbone.kind == MASK_ALONE:
        assessed = box_around_mask(mask.part(box).indices)
    box, parts = assessed.within(box), [assessed.crop(part) for part in parts]
    world = VoxelGrid.of(parts[0])
    memory = run_memory(grid, world, model, given.stored_bytes, given.is_held, scratch is not None)
    memory.check(job.files[0])
    first = kept_planes(sitk.GetArrayViewFromImage(parts[0]), scratch)
    part, cut = None if mask is None else mask.part(box), time.perf_counter()
    maps, notes = segment_images(parts, model, progress, memory.words, scratch, part)
    seconds = {"reading": given.seconds + cut - began, "segmenting": time.perf_counter() - cut}
    return AssessedBox(box, first, world, maps, (), [*warnings, *notes], seconds, roi=roi)


def _assess(box: AssessedBox, model: Model) -> AssessedBox:
    """Add the metrics of each structure, and what is odd about them."""
    bundle, maps, refused = model.bundle, box.maps, is_refused(box.warnings)
    voxel_mm3 = float(np.prod(box.world.spacing))
    structures = structure_metrics(maps, bundle.labels, voxel_mm3, model.case_level, assessed=not refused)
    found = empty_structures(structures, bundle)
    if not refused:
        found += structure_deviations(structures, bundle, model.case_level)
        found += result_deviations(maps, structures, bundle)
    return replace(box, structures=structures, warnings=by_importance([*model.notes, *found, *box.warnings]))


def _assemble(result: CaseResult, given: _Given, progress: Progress) -> CaseResult:
    """Put a mask that is judged in the place of the segmentation, find the regions to review, and collect the notes.

    Raises:
        InputError: the mask lies elsewhere.
        NotEnoughMemoryError: there are too many uncertain voxels.
    """
    box, labels, bundle, grid = result.assessed, result.labels, result.model.bundle, given.source.grid
    if result.mask is not None:
        box = judged(box, result.mask, replace(bundle, labels=labels), grid, result.totals)
        labels, result = result.mask.labels, replace(result, totals=(), asymmetries=())
    began = time.perf_counter()
    progress("finding regions", WINDOWS[1])
    memory_prediction.check_regions_fit(box.maps.error_probability, result.job.files[0], bundle)
    asked = [label.value for label in replace(result, labels=labels).asked]
    regions = regions_of_maps(box.maps, labels, box.box.crop_grid(grid), asked)
    seconds = {**box.seconds, "finding regions": time.perf_counter() - began}
    warnings = [*given.notes, *box.warnings]
    if regions is not None and regions.left_out:
        warnings.append(Deviation(WARNING, regions.left_out_sentence, "regions"))
    return replace(
        result,
        assessed=box,
        labels=labels,
        regions=regions,
        warnings=by_importance(warnings),
        timings_s=seconds,
        peak_memory_mb=memory_prediction.peak_memory_mb(),
    )


def read_channels(
    job: Job, bundle: Bundle, headers: Sequence[Header] = (), in_memory: Mapping[Path, sitk.Image] | None = None
) -> list[Volume]:
    """Read one image per channel and check that they share one grid.

    Args:
        headers: of the files, where they were read before.
        in_memory: images in place of files of those names.

    Raises:
        InputError: unreadable, wrong number of channels, or different grids.
    """
    files, wanted, held = job.files, bundle.input.channels, in_memory or {}
    if len(files) != len(wanted):
        found = f"{len(files)} file(s) were given for {files[0].name}, but '{bundle.name}' wants {', '.join(wanted)}"
        raise InputError(f"{found}: name the others with --channel NAME=FILE.", "other-channels")
    volumes = [
        Volume(held[path], Header(None)) if path in held else read_channel(path, series, header)
        for path, series, header in zip_longest(files, job.series, headers)
    ]
    for path, volume in zip(files[1:], volumes[1:], strict=True):
        check_same_grid(path, volume.image, files[0], volumes[0].image)
    return volumes


def checked_against_training(images: Sequence[sitk.Image], bundle: Bundle, job: Job) -> list[Deviation]:
    """Return the OOD warnings about an input.

    Args:
        images: the channels, cut to the region of interest.

    Raises:
        InputError: it is so far from them that the result would be meaningless, and the job does not insist.
    """
    found = input_deviations(images, bundle)
    refused = [deviation for deviation in found if deviation.severity == REFUSED]
    if refused and not job.settings.unlike_training:
        message = f"{job.files[0]}: {refused[0].message.removesuffix('.')}, or insist with {job.insist_option}."
        raise RefusedInputError(message, refused[0].message, found)
    # The network was trained on boxes that were placed, and those are no choice of the user's.
    if job.roi is not None and any(each.kind == "range" for each in bundle.input.channel_normalisations):
        note = f"Intensities are scaled by the range of the region, but '{bundle.name}' was trained on whole images: "
        note += "leave out the region."
        found.append(Deviation(WARNING, note, "region of interest"))
    return found


def segment_images(
    images: list[sitk.Image],
    model: Model,
    progress: Progress = silent,
    detail: str = "",
    scratch: Path | None = None,
    mask: GivenMask | None = None,
) -> tuple[VoxelMaps, list[Deviation]]:
    """Segmentation and maps of one case, slab by slab, on the grid of its first image.

    Args:
        images: the channels; the list is emptied, since the network's input is enough then.
        progress: of the run, of which windows and maps are the part `WINDOWS`.
        detail: shown when the network begins.
        scratch: as for `compute_case`.
        mask: on the grid of the images, to be judged.

    Returns:
        The maps, and what the user should know about how they were made.
    """
    target, notes = VoxelGrid.of(images[0]), list[Deviation]()
    progress("preparing", 0.01)
    _make_room(target)
    spec = model.bundle.input
    is_judge = model.bundle.backbone.kind == MASK_ALONE
    array, working = engine_input(images, model.bundle, mask.classes if mask is not None and is_judge else None)
    images.clear()
    _make_room(target)
    progress("segmenting", WINDOWS[0], detail)
    grid, steps = VoxelGrid.of(working), part_of(progress, *WINDOWS)
    arguments = (model.engine, model.fitted, spec, array, grid, target, steps, scratch, mask)
    try:
        maps = maps_by_slabs(*arguments)
    except DeviceMemoryError:
        message = f"The {model.device} device ran out of memory: the CPU was used instead."
        notes.append(Deviation(WARNING, message, "memory"))
        progress("segmenting", WINDOWS[0], message)
        model.engine.move("cpu")
        maps = maps_by_slabs(*arguments)
        model.engine.move(model.device)
    del array, working, arguments
    _make_room(target)
    return maps, notes


def _make_room(grid: VoxelGrid) -> None:
    """Give back what the stage before needed, where the gaps that it left would add up to gigabytes."""
    if grid.voxels > IN_MEMORY_VOXELS:
        give_back_freed_memory()


def _checked_headers(job: Job, bundle: Bundle, in_memory: Mapping[Path, sitk.Image]) -> list[Header]:
    """Return the headers of a job's files, if its region of interest makes sense for model and images.

    Raises:
        UsageError: the model takes whole slices, or the region is in mm and an image has two places.
        InputError: a header is damaged.
    """
    if job.roi and bundle.input.slice_edge is not None:
        raise UsageError(f"The model {bundle.name} takes whole slices: leave out the region of interest.", "no-roi")
    pairs = zip_longest(job.files, job.series)
    headers = [Header(None) if path in in_memory else channel_header(path, series) for path, series in pairs]
    for path, header in zip(job.files, headers, strict=True):
        if job.roi and header.has_two_places:
            what = f"{path} has two places in its header (qform and sform), so a region in mm is not clear"
            raise UsageError(f"{what}: make them alike (fslorient, nibabel).", "two-places")
    return headers
