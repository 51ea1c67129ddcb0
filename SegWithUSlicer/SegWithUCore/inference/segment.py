"""The whole job: from image files to a case folder (`segment`), or to the same result in memory (`compute_case`)."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..case.case_image import voxel_hash
from ..case.preview import can_draw
from ..errors import InputError, UsageError
from ..imaging.grid import VoxelGrid
from ..imaging.header_peek import check_form, claim_on_form, differs_from_slicer, grid_notes, on_form
from ..imaging.input_reader import IN_THIS_PROCESS, InputReader
from ..imaging.roi import RegionOfInterest, VoxelBox, voxel_box, whole_grid
from ..imaging.volume import apply_transform, check_same_grid
from ..models.bundle import Bundle
from ..progress import Progress, silent
from .case_writer import CaseResult, write_case_folder
from .engines.base import DeviceMemoryError
from .fingerprint import NOTE, REFUSED, WARNING, Deviation, deviations, is_refused
from .gated_slabs import network_answer
from .memory_prediction import READ_BYTES, RunMemory, check_regions_fit, memory_from_headers, peak_memory_mb, run_memory
from .model import Model
from .odd_input import odd_inputs
from .preprocessing import assessed_box, network_input
from .structures import StructureMetrics, structure_deviations, structure_metrics
from .uncertainty_maps import VoxelMaps, maps_on_grid, regions_of_maps


@dataclass(frozen=True)
class Job:
    """One case to be segmented.

    Attributes:
        name: of the case and of its folder.
        files: one image file or folder of a DICOM series per channel, in the model's order.
        target: the case folder to be written.
        region: region of interest, None for the whole image.
        unlike_training: go on although the input is unlike the training cases.
        include_image: also write the image into the case folder.
        own_to_world_ras: linear transform that the image hangs under; only tells the network which way is up.
        series: for each file, the end of the UID of the series to take from a DICOM folder that holds several.
        form: "qform" or "sform", which of them counts in a NIfTI file that has both; None for the one of Slicer's rule.
        insist_option: how the user says `unlike_training`, for messages.
    """

    name: str
    files: Sequence[Path]
    target: Path
    region: RegionOfInterest | None = None
    overwrite: bool = False
    unlike_training: bool = False
    include_image: bool = False
    own_to_world_ras: Sequence[float] | None = None
    series: Sequence[str | None] = ()
    form: str | None = None
    insist_option: str = "--unlike-training"


@dataclass
class StageTimer:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to stage `name`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


def segment(job: Job, model: Model, progress: Progress = silent, reader: InputReader = IN_THIS_PROCESS) -> CaseResult:
    """Segment one case and write its case folder.

    Args:
        reader: what reads the images.

    Raises:
        InputError, UsageError: as `compute_case`.
        OutputError: the case folder exists or cannot be written.
    """
    result = compute_case(job, model, progress, reader)
    if not can_draw():
        sentence = "There is no preview.png, since the package Pillow is missing: pip install pillow."
        result = replace(result, warnings=[*result.warnings, Deviation(NOTE, sentence, "preview")])
    progress("writing", 0.95)
    write_case_folder(result, job.target, job.overwrite)
    progress("done", 1.0)
    return result


def compute_case(
    job: Job, model: Model, progress: Progress = silent, reader: InputReader = IN_THIS_PROCESS
) -> CaseResult:
    """Segment one case in memory: all that its case folder will hold; `job.target` is not looked at.

    Args:
        reader: what reads the images.

    Raises:
        InputError: an image is unusable, has the wrong channels, or is unlike the training cases.
        UsageError: a region in mm for an image with two places, and no form; a region of interest for a model that
            knows sizes by the field of view alone.
        NotEnoughMemoryError: the run needs more memory than is free.
    """
    job = _checked_job(job, model.bundle)
    timer = StageTimer()
    memory = predicted_memory(job, model, reader)
    if memory is not None:
        memory.check(job.files[0])
    progress("reading", 0.0, "" if memory is None else memory.words)
    with timer.stage("reading"):
        given = read_input(job, model.bundle, reader)
    box, parts, warnings = _assessed_parts(job, given, model.bundle)
    stored = READ_BYTES if memory is None else memory.stored_bytes
    memory = run_memory(given.grid, VoxelGrid.of(parts[0]), model, stored, job.region, job.include_image)
    memory.check(job.files[0])
    with timer.stage("segmenting"):
        maps, notes = segment_images(parts, model, progress, memory.words)
    with timer.stage("finding regions"):
        progress("finding regions", 0.92)
        check_regions_fit(maps.error_probability, job.files[0])
        regions = regions_of_maps(maps, model.bundle.labels, box.crop_grid(given.grid))
    structures, structure_warnings = _structures(maps, given.grid, model, is_refused(warnings))
    return CaseResult(
        name=job.name,
        files=job.files,
        voxels_sha256=given.voxels_sha256,
        grid=given.grid,
        bundle=model.bundle,
        head=model.head,
        region=job.region,
        box=box,
        parts=parts,
        maps=maps,
        structures=structures,
        regions=regions,
        warnings=[*warnings, *structure_warnings, *model.notes, *notes],
        device=model.device,
        engine=model.engine.identity(),
        engine_versions=model.engine.versions(),
        network_sha256=model.network_sha256,
        image=given.image,
        timings_s=timer.seconds,
        peak_memory_mb=peak_memory_mb(),
    )


@dataclass(frozen=True)
class ReadInput:
    """The images of a job, read.

    Attributes:
        grid: of the images.
        voxels_sha256: of each channel.
        box: the region of interest.
        parts: the channels inside it.
        image: the whole first channel, where it is to be written.
    """

    grid: VoxelGrid
    voxels_sha256: list[str]
    box: VoxelBox
    parts: list[sitk.Image]
    image: sitk.Image | None


def read_input(job: Job, bundle: Bundle, reader: InputReader = IN_THIS_PROCESS) -> ReadInput:
    """Read the images of a job and keep no more of them than it needs.

    Raises:
        InputError: as `read_channels`, or the region lies outside.
    """
    images = read_channels(job.files, bundle, job.series, reader, form=job.form)
    grid = VoxelGrid.of(images[0])
    box = voxel_box(job.region, grid) if job.region else whole_grid(grid)
    hashes, parts = [voxel_hash(image) for image in images], [box.crop(image) for image in images]
    return ReadInput(grid, hashes, box, parts, images[0] if job.include_image else None)


def read_channels(
    files: Sequence[Path],
    bundle: Bundle,
    series: Sequence[str | None] = (),
    reader: InputReader = IN_THIS_PROCESS,
    *,
    form: str | None = None,
) -> list[sitk.Image]:
    """Read one image per channel and check that they share one grid; `series` and `form` as in `Job`.

    Args:
        reader: what reads them.

    Raises:
        InputError: unreadable, wrong number of channels, or different grids.
    """
    wanted = bundle.input.channels
    if len(files) != len(wanted):
        raise InputError(
            f"The model '{bundle.name}' wants {len(wanted)} channel(s) ({', '.join(wanted)}) but {len(files)} "
            f"file(s) were given for {files[0].name}: name the others with --channel NAME=FILE."
        )
    images = [reader.read(path, uid) for path, uid in zip_longest(files, series)]
    images = [on_form(path, image, form) for path, image in zip(files, images, strict=True)]
    for path, image in zip(files[1:], images[1:], strict=True):
        check_same_grid(path, image, files[0], images[0])
    return images


def position_warnings(job: Job) -> list[Deviation]:
    """Warnings about images whose header gives two places, or none; each sentence once."""
    sentences = dict.fromkeys(note for path in job.files for note in grid_notes(path, job.form))
    return [Deviation(WARNING, sentence, "place") for sentence in sentences]


def checked_against_training(images: Sequence[sitk.Image], bundle: Bundle, job: Job) -> list[Deviation]:
    """Warnings about an input unlike the training cases.

    Args:
        images: the channels, cut to the region of interest.

    Raises:
        InputError: it is so unlike them that the result would be meaningless, and the job does not insist.
    """
    found = [*odd_inputs(images, bundle), *deviations(images, bundle)]
    refused = [deviation for deviation in found if deviation.severity == REFUSED]
    if refused and not job.unlike_training:
        sentence = refused[0].sentence.removesuffix(".")
        raise InputError(f"{job.files[0]}: {sentence}, or insist with {job.insist_option}.")
    if job.region and any(each.kind == "range" for each in bundle.input.channel_normalisations):
        sentence = (
            f"The model '{bundle.name}' scales intensities by the range of the whole image, and a region of interest "
            "has another range: segment the whole image."
        )
        found.append(Deviation(WARNING, sentence, "region of interest"))
    return found


def segment_images(
    images: Sequence[sitk.Image], model: Model, progress: Progress = silent, detail: str = ""
) -> tuple[VoxelMaps, list[Deviation]]:
    """Segmentation and maps of one case in memory, on the grid of its first image.

    Args:
        detail: said when the network begins.

    Returns:
        The maps, and what the user should know about how they were made.
    """
    spec = model.bundle.input
    progress("preparing", 0.02)
    array, working = network_input(images, spec)
    progress("segmenting", 0.05, detail)

    def within(stage: str, fraction: float, detail: str = "") -> None:
        progress(stage, 0.05 + 0.75 * fraction, detail)

    notes: list[Deviation] = []
    engine = model.engine
    try:
        output = network_answer(engine, array, spec, model.fitted.gate, within)
    except DeviceMemoryError:
        sentence = f"The {model.device} device ran out of memory: the CPU was used instead."
        notes.append(Deviation(WARNING, sentence, "memory"))
        progress("segmenting", 0.05, sentence)
        engine.move("cpu")
        output = network_answer(engine, array, spec, model.fitted.gate, within)
    seen = None if model.fitted.stage_two is None else array
    del array  # memory: without stage two the maps follow from the network's answer alone
    progress("computing the maps", 0.8)
    maps = maps_on_grid(engine, output, working, images[0], model.fitted, seen)
    engine.move(model.device)
    return maps, notes


def _assessed_parts(job: Job, given: ReadInput, bundle: Bundle) -> tuple[VoxelBox, list[sitk.Image], list[Deviation]]:
    """Return the box that is segmented, the channels inside it, and warnings about the input.

    Raises:
        InputError: as `checked_against_training`.
    """
    warnings = position_warnings(job)
    parts = [apply_transform(part, job.own_to_world_ras) for part in given.parts]
    warnings += checked_against_training(parts, bundle, job)
    assessed = assessed_box(parts, bundle.input)
    return assessed.within(given.box), [assessed.crop(part) for part in parts], warnings


def _structures(
    maps: VoxelMaps, grid: VoxelGrid, model: Model, refused: bool
) -> tuple[list[StructureMetrics], list[Deviation]]:
    """Measure the structures, and warn of those unlike the training cases; refused inputs get no case-level numbers."""
    labels, voxel_mm3 = model.bundle.labels, float(np.prod(grid.spacing))
    structures = structure_metrics(maps, labels, voxel_mm3, model.case_level, assessed=not refused)
    return structures, [] if refused else structure_deviations(structures, model.bundle, model.case_level)


def _checked_job(job: Job, bundle: Bundle) -> Job:
    """Return the job if its region makes sense for its images and its model.

    Raises:
        UsageError: a region for a model that takes whole slices, or in mm for an image with two places and no form.
    """
    if job.region and bundle.input.slice_edge is not None:
        raise UsageError(
            f"The model {bundle.name} takes whole slices, since it tells sizes by the field of view alone: leave "
            "out the region of interest."
        )
    if job.region:
        for path in job.files:
            check_form(path, job.form)
    if differs_from_slicer(job.files[0], job.form):  # else Slicer would show the file beside the results
        return replace(job, include_image=True)
    return job


def predicted_memory(job: Job, model: Model, reader: InputReader = IN_THIS_PROCESS) -> RunMemory | None:
    """Predict the memory of the run from the headers of its files; None if they do not say."""
    claims = [reader.grid(path, uid) for path, uid in zip_longest(job.files, job.series)]
    claims = [claim_on_form(path, claim, job.form) for path, claim in zip(job.files, claims, strict=True)]
    return memory_from_headers(claims, job.region, model, job.include_image, job.own_to_world_ras)
