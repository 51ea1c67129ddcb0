"""The whole job: from image files to a case folder (`segment`), or to the same result in memory (`compute_case`)."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..case.case_image import voxel_hash
from ..case.pictures import can_draw
from ..io.grid import VoxelGrid
from ..io.inputs import channel_header, read_channel
from ..io.roi import RegionOfInterest, VoxelBox, voxel_box, whole_grid
from ..io.volume import Header, Volume, apply_transform, check_same_grid, coarse_notes
from ..models.bundle import Bundle
from ..models.input_spec import Label
from ..util.errors import InputError, UsageError
from ..util.memory import check_memory, give_back_freed_memory
from ..util.plane_files import IN_MEMORY_VOXELS, kept_planes
from ..util.progress import Progress, part_of, silent
from . import memory_prediction
from .case_writer import CaseResult, write_case_folder
from .deviation import NOTE, REFUSED, WARNING, Deviation, RefusedInputError, by_importance, is_refused
from .engines.base import DeviceMemoryError
from .given_mask import GivenMask, MaskedImage, MaskFile, read_mask
from .judged_mask import judged
from .lost_calibration import result_deviations
from .memory_prediction import memory_from_headers, run_memory
from .model import Model
from .ood_check import input_deviations, needs_placing
from .passes import Look, further_looks, look_again
from .placed_case import NotPlacedError, all_sides, segment_placed
from .preprocessing import assessed_box, network_input
from .structures import empty_structures, structure_deviations, structure_metrics
from .uncertainty_maps import VoxelMaps, maps_by_slabs, regions_of_maps

WINDOWS = (0.02, 0.8)
"""Of a whole run, the part of windows and their maps: 0.4 to 0.7 of the time with small networks, more with large ones
(Testing/Benchmarks/results/large_volumes.json). Regions and files follow."""
FILES_FROM, FILES_TO = 0.83, 0.99
"""Of a whole run, the part that writing the volumes of the case folder takes."""


@dataclass(frozen=True)
class Job:
    """One case to be segmented.

    Attributes:
        name: of the case and of its folder.
        files: one image file or folder of a DICOM series per channel, in the model's order.
        target: the case folder to be written.
        roi: region of interest, None for the whole image.
        unlike_training: continue although the input is too far from the training cases.
        include_image: also write the image into the case folder.
        own_to_world_ras: linear transform that the image hangs under; only tells the network which way is up.
        series: for each file, the end of the UID of the series to take from a DICOM folder that holds several.
        insist_option: how the user says `unlike_training`, for messages.
        mask: a segmentation made elsewhere, which takes the place of the model's and is judged by it.
        passes: looks at the image, for its error probability; see `passes`.
    """

    name: str
    files: Sequence[Path]
    target: Path
    roi: RegionOfInterest | None = None
    overwrite: bool = False
    unlike_training: bool = False
    include_image: bool = False
    own_to_world_ras: Sequence[float] | None = None
    series: Sequence[str | None] = ()
    insist_option: str = "--unlike-training"
    mask: MaskFile | None = None
    passes: int = 1


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how many seconds the block takes."""
    begun = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - begun


def segment(job: Job, model: Model, progress: Progress = silent) -> CaseResult:
    """Segment one case and write its case folder.

    Raises:
        InputError, UsageError: as `compute_case`. Where the boxes of a model are not found, a picture of where they
            would lie is drawn (`NAME_not_placed.png`, next to the case folder).
        OutputError: the case folder exists or cannot be written.
    """
    # Nothing is made before there is a result, so large maps go to the nearest folder that is there.
    scratch = next(folder for folder in job.target.absolute().parents if folder.is_dir())
    try:
        result = compute_case(job, model, progress, scratch=scratch)
    except NotPlacedError as error:
        error.draw(job.target.with_name(f"{job.name}_not_placed.png"))
        raise
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
    if job.mask is not None and model.bundle.calibration is None:
        message = f"The model '{model.bundle.name}' is not calibrated, so it cannot judge a mask: calibrate it"
        raise InputError(f"{message}, or choose another.", "not-calibrated")
    images = images or {}
    headers = _checked_headers(job, model.bundle, images)
    if job.roi is None and model.bundle.placement is not None:
        volumes = read_channels(job, model.bundle, headers, images)
        if needs_placing(VoxelGrid.of(volumes[0].image), model.bundle):
            return replace(_placed_case(job, model, volumes, headers[0], progress), patient=headers[0].patient)
    return replace(_whole_case(job, model, headers, images, progress, scratch), patient=headers[0].patient)


def _whole_case(
    job: Job,
    model: Model,
    headers: Sequence[Header],
    images: Mapping[Path, sitk.Image],
    progress: Progress,
    scratch: Path | None,
    mask: GivenMask | None = None,
) -> CaseResult:
    """Segment the image, or its region of interest, in one piece; see `compute_case`.

    Args:
        mask: that of the job, of which this is a part that is judged with others later.
    """
    seconds: dict[str, float] = {}
    on_disk, again, held = scratch is not None, job.passes > 1, job.include_image or bool(images)
    memory = memory_from_headers(headers, job.roi, model, held, job.own_to_world_ras, on_disk, again)
    if memory is not None:
        memory.check(job.files[0])
    progress("reading", 0.0, "" if memory is None else memory.words)
    with _timed(seconds, "reading"):
        given = read_input(job, model.bundle, headers, images)
    parts, placement = given.parts, VoxelGrid.of(given.parts[0])
    stored = memory_prediction.READ_BYTES if memory is None else memory_prediction.stored_bytes(headers)
    memory = run_memory(given.grid, placement, model, stored, held, on_disk, again)
    memory.check(job.files[0])
    first = kept_planes(sitk.GetArrayViewFromImage(parts[0]), scratch)
    whole, labels = mask, model.bundle.labels
    if job.mask is not None and whole is None:
        whole = _read_mask(job, headers[0], given.grid, given.voxels_sha256[0], labels)
    part = None if whole is None else whole.part(given.box)
    with _timed(seconds, "segmenting"):
        maps, notes = segment_images(parts, model, progress, memory.words, scratch, part, job.passes)
    with _timed(seconds, "finding regions"):
        progress("finding regions", WINDOWS[1])
        memory_prediction.check_regions_fit(maps.error_probability, job.files[0], model.bundle)
        regions = regions_of_maps(maps, labels, given.box.crop_grid(given.grid))
    if regions is not None and regions.left_out:
        notes = [*notes, Deviation(WARNING, regions.left_out_sentence, "regions")]
    refused, voxel_mm3 = is_refused(given.warnings), float(np.prod(given.grid.spacing))
    structures = structure_metrics(maps, labels, voxel_mm3, model.case_level, assessed=not refused)
    further = empty_structures(structures, model.bundle)
    further += [] if refused else structure_deviations(structures, model.bundle, model.case_level)
    further += [] if refused else result_deviations(maps, structures, model.bundle)
    result = CaseResult(
        name=job.name,
        files=job.files,
        voxels_sha256=given.voxels_sha256,
        grid=given.grid,
        bundle=model.bundle,
        head=model.head,
        roi=job.roi,
        box=given.box,
        first=first,
        placement=placement,
        maps=maps,
        structures=structures,
        regions=regions,
        warnings=by_importance([*model.notes, *further, *given.warnings, *notes]),
        device=model.device,
        passes=1 if maps.error_probability is None else job.passes,
        engine=model.engine.identity(),
        engine_versions=model.engine.versions(),
        network_sha256=model.network_sha256,
        image=given.image,
        timings_s=seconds,
        peak_memory_mb=memory_prediction.peak_memory_mb(),
    )
    return result if whole is mask or whole is None else judged(result, whole)


def _read_mask(job: Job, header: Header, grid: VoxelGrid, voxels_sha256: str, labels: Sequence[Label]) -> GivenMask:
    """Read the mask of a job; header, grid and hash are those of its first channel, labels those of the model."""
    assert job.mask is not None
    slice_file = header.source[1][0].file if isinstance(header.source, tuple) else None  # of a DICOM series
    return read_mask(job.mask, MaskedImage(job.files[0], grid, voxels_sha256, slice_file), labels)


def _placed_case(job: Job, model: Model, volumes: Sequence[Volume], header: Header, progress: Progress) -> CaseResult:
    """Segment the boxes of a model that lie somewhere in a large image; see `placed_case`.

    Args:
        header: of the first channel, as read before its voxels.
    """
    images = {path: volume.image for path, volume in zip(job.files, volumes, strict=True)}
    image, labels, headers = volumes[0].image, model.bundle.labels, [Header(None)] * len(volumes)
    assert model.bundle.placement is not None
    mask, sides = None, [box.side for box in model.bundle.placement.boxes]
    if job.mask is not None:
        mask = _read_mask(job, header, VoxelGrid.of(image), voxel_hash(image), all_sides(labels, sides))

    def run(side: str, roi: RegionOfInterest, progress: Progress) -> CaseResult:
        own = None if mask is None else mask.for_side(sides.index(side), len(labels))
        part = replace(job, roi=roi, include_image=False)
        return _whole_case(part, model, headers, images, progress, None, own)

    needed = 8.0 * math.prod(image.GetSize())  # two more copies of the image, as float32
    remedy = memory_prediction.smaller_input(model.bundle)
    check_memory("Finding the structures in the image", needed, [remedy], file=job.files[0])
    world = apply_transform(image, job.own_to_world_ras)
    result = segment_placed(image, world, str(job.files[0]), model.bundle, run, progress)
    notes = dict.fromkeys(note for volume in volumes for note in volume.header.notes)
    warnings = [*(Deviation(WARNING, note, "place") for note in notes), *result.warnings]
    kept, warnings = image if job.include_image else None, by_importance(warnings)
    result = replace(result, image=kept, warnings=warnings)
    return result if mask is None else judged(result, mask)


@dataclass(frozen=True)
class ReadInput:
    """The images of a job, read.

    Attributes:
        grid: of the images.
        voxels_sha256: of each channel.
        box: the part that is segmented.
        parts: the channels inside it, as they lie in the world.
        image: the whole first channel, where it is to be written.
        warnings: of the headers, each once, and of the OOD check.
    """

    grid: VoxelGrid
    voxels_sha256: list[str]
    box: VoxelBox
    parts: list[sitk.Image]
    image: sitk.Image | None
    warnings: list[Deviation]


def read_input(job: Job, bundle: Bundle, headers: Sequence[Header], in_memory: Mapping[Path, sitk.Image]) -> ReadInput:
    """Read the images of a job and keep no more of them than it needs.

    Raises:
        InputError: as `read_channels` and `checked_against_training`, or the region lies outside.
    """
    volumes = read_channels(job, bundle, headers, in_memory)
    images = [volume.image for volume in volumes]
    grid = VoxelGrid.of(images[0])
    box = voxel_box(job.roi, grid) if job.roi else whole_grid(grid)
    hashes, parts = [voxel_hash(image) for image in images], [box.crop(image) for image in images]
    notes = dict.fromkeys(note for volume in volumes for note in volume.header.notes)
    warnings = [Deviation(WARNING, note, "place") for note in notes]
    warnings += [Deviation(WARNING, note, "grey values") for part in parts for note in coarse_notes(part)]
    parts = [apply_transform(part, job.own_to_world_ras) for part in parts]
    warnings += checked_against_training(parts, bundle, job)
    assessed = assessed_box(parts, bundle.input)
    image = images[0] if job.include_image else None
    return ReadInput(grid, hashes, assessed.within(box), [assessed.crop(part) for part in parts], image, warnings)


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
    if refused and not job.unlike_training:
        message = f"{job.files[0]}: {refused[0].message.removesuffix('.')}, or insist with {job.insist_option}."
        raise RefusedInputError(message, refused[0].message)
    by_user = job.roi is not None and not job.roi.along_voxels  # the network was trained on boxes that were placed
    if by_user and any(each.kind == "range" for each in bundle.input.channel_normalisations):
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
    passes: int = 1,
) -> tuple[VoxelMaps, list[Deviation]]:
    """Segmentation and maps of one case, slab by slab, on the grid of its first image.

    Args:
        images: the channels; the list is emptied, since the network's input is enough then.
        progress: of the run, of which windows and maps are the part `WINDOWS`.
        detail: shown when the network begins.
        scratch: as for `compute_case`.
        mask: on the grid of the images, to be judged.
        passes: as in `Job`; a model without error probability needs one.

    Returns:
        The maps, and what the user should know about how they were made.
    """
    target, notes = VoxelGrid.of(images[0]), list[Deviation]()
    progress("preparing", 0.01)
    _make_room(target)
    spec = model.bundle.input
    seen = [network_input(images, spec)]
    images.clear()
    _make_room(target)
    progress("segmenting", WINDOWS[0], detail)
    order = [Look(), *(further_looks(model.bundle, passes) if model.fitted.error_probability else ())]
    fitted = replace(model.fitted, competes_everywhere=len(order) > 1)

    def run(look: Look) -> VoxelMaps:
        low, high = (np.interp((order.index(look) + add) / len(order), (0, 1), WINDOWS) for add in (0, 1))
        (array, working), steps = seen[0], part_of(progress, low, high)
        view = look.moved(array, VoxelGrid.of(working), spec.orientation, spec.window_zyx)
        arguments = (model.engine, fitted, spec, *view, target, steps, scratch, mask if look == order[0] else None)
        try:
            return maps_by_slabs(*arguments)
        except DeviceMemoryError:
            message = f"The {model.device} device ran out of memory: the CPU was used instead."
            notes.append(Deviation(WARNING, message, "memory"))
            progress("segmenting", low, message)
            model.engine.move("cpu")
            return maps_by_slabs(*arguments)

    maps = run(order[0])
    if len(order) > 1:
        look_again(maps, order[1:], run, model.bundle, scratch)
    model.engine.move(model.device)
    seen.clear()
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
