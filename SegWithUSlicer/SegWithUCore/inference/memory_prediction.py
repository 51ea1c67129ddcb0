"""How much memory a run will take, predicted from headers and the model before anything large is allocated.

Each stage is counted by what is alive in it: arrays of the whole grid, of the assessed part, of the working grid, and
one window. Measured against what runs really took: Testing/Benchmarks/results/memory_prediction.md.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..imaging.grid import VoxelGrid
from ..imaging.header_peek import FileGrid
from ..imaging.roi import RegionOfInterest, voxel_box
from ..imaging.volume import apply_transform, reorient
from ..memory import check_memory, give_back_freed_memory, in_words, resident_bytes
from ..models.input_spec import PIECE_VOXELS, InputSpec
from ..plane_files import IN_MEMORY_VOXELS, Planes, plane_pieces
from ..regions.find_regions import RegionSettings
from .gated_maps import gated_channels
from .grid_blocks import PIECE_VALUES, Turn
from .model import Model
from .preprocessing import SPACING_TOLERANCE, working_size

REGION_WORDS = "region of interest"
"""As the remedies say it; the command line adds its option."""
READER_BYTES = 125_000_000
"""What the process that reads images holds without an image (measured on Linux)."""
READ_BYTES = 4
"""A voxel of an image as it is read: float32."""
MAP_BYTES = 16
"""An assessed voxel of the maps where they stay in memory: three float maps, class, runner-up, two percentiles."""
PIECE_COPIES = 3
"""Pieces of all outputs at once while they are divided, interpolated and turned."""
UNCERTAIN_SHARE = 0.02
"""Of the assessed voxels, for which room is foreseen while regions are found."""
REGION_LABEL_BYTES = 2
"""An assessed voxel of the volume that names regions."""
UNCERTAIN_VOXEL_BYTES = 310
"""An uncertain voxel while regions are found (measured)."""
FEW_BYTES = 100_000_000
NORMALISING_BYTES = 20
"""A voxel that is being normalised, of at most `PIECE_VOXELS`: float64 copies, of which two to find percentiles."""
MASK_BYTES, HOLES_BYTES, COPIES_BYTES = 1, 4, 8
"""A voxel of nnU-Net's mask of nonzero voxels, while its holes are filled, and of the copies that voxels inside it, or
splines, need."""
CHUNK_BYTES = 64_000_000
"""What the maps of one chunk of voxels take at most, and buffers of writers and regions (measured)."""


@dataclass(frozen=True)
class RunSize:
    """The quantities that the memory of a run depends on.

    Attributes:
        grid_voxels: of one image.
        stored_bytes: of a voxel of the widest channel in its file.
        channels: images.
        assessed_voxels: of the part that is segmented.
        working_zyx: size of the grid that the network works on.
        window_zyx: size of a window.
        outputs: values of the network's answer a voxel of a window: classes and responses, fewer where a gate lets the
            responses stay on a coarser grid.
        passed: values a voxel that go on to the maps.
        window_bytes: activations and answer of a voxel of a window in this computer's own memory.
        resampled: whether the working grid is another one than the image's.
        nnunet_bytes: of a voxel while an image is prepared as nnU-Net does it, beside its copies in float32.
        crops: whether only a part of the grid is segmented.
        keeps_image: whether a whole image stays in memory to be written.
        swept: axis of the working grid along which slabs of windows follow each other.
        on_disk: whether large maps go to the disk.
    """

    grid_voxels: int
    stored_bytes: int
    channels: int
    assessed_voxels: int
    working_zyx: tuple[int, ...]
    window_zyx: tuple[int, ...]
    outputs: float
    window_bytes: float
    passed: int = 0
    resampled: bool = False
    nnunet_bytes: int = 0
    crops: bool = False
    keeps_image: bool = False
    swept: int = 0
    on_disk: bool = True


def predicted_stages(size: RunSize) -> dict[str, float]:
    """Peak memory of each stage in bytes, beyond what the program with its model holds."""
    grid, part, inputs = size.grid_voxels, size.assessed_voxels, size.channels
    working = math.prod(size.working_zyx)
    images = READ_BYTES * inputs * part
    kept = READ_BYTES * grid if size.keeps_image else 0
    # The process that reads holds the voxels as stored, twice or beside float32; this one its own copy, then twice.
    once = max(2 * size.stored_bytes, size.stored_bytes + READ_BYTES, 2 * READ_BYTES)
    reading = grid * (READ_BYTES * (inputs - 1) + once)
    cropping = READ_BYTES * (inputs * grid + inputs * part) if size.crops else 0
    array = READ_BYTES * inputs * working
    turned = READ_BYTES * part + (READ_BYTES * working if size.resampled else 0)
    once_more = READ_BYTES * working if inputs > 1 or working > PIECE_VOXELS else 0
    normalising = NORMALISING_BYTES * min(working, PIECE_VOXELS) + once_more
    nnunet = size.nnunet_bytes * max(part, working)
    in_memory = MAP_BYTES * part if not size.on_disk or part <= IN_MEMORY_VOXELS else 0
    uncertain = UNCERTAIN_SHARE * UNCERTAIN_VOXEL_BYTES * part
    stages = {
        "reading": max(reading, cropping),
        "preparing": (images if size.crops or not kept else 0) + kept + turned + array + normalising + nnunet,
        "segmenting": kept + array + in_memory + _sweeping(size),
        "finding regions": kept + in_memory + uncertain + REGION_LABEL_BYTES * part,
        "writing": kept + in_memory + REGION_LABEL_BYTES * part,
    }
    return {stage: need + CHUNK_BYTES for stage, need in stages.items()}


def _sweeping(size: RunSize) -> float:
    """Memory of the windows, of the sums of the slab that is open, and of the pieces on their way to the maps."""
    padded = [max(n, wanted) for n, wanted in zip(size.working_zyx, size.window_zyx, strict=True)]
    padding = READ_BYTES * size.channels * math.prod(padded) if padded != list(size.working_zyx) else 0
    plane = math.prod(n for axis, n in enumerate(padded) if axis != size.swept)
    sums = READ_BYTES * (size.outputs + 1) * size.window_zyx[size.swept] * plane
    shifted = READ_BYTES * size.window_zyx[size.swept] * plane / 2
    window = math.prod(size.window_zyx) * size.window_bytes
    passed = READ_BYTES * (size.passed or size.outputs)
    piece = max(passed * plane, min(passed * math.prod(size.working_zyx), READ_BYTES * PIECE_VALUES))
    return padding + sums + shifted + window + PIECE_COPIES * piece * (2 if size.resampled else 1)


@dataclass(frozen=True)
class RunMemory:
    """The predicted memory of a run.

    Attributes:
        stages: bytes beyond what the program holds, by stage.
        program: bytes that the program with its model holds.
        what: the run in words, the subject of a sentence.
        region: whether a region of interest was given.
        stored_bytes: of a voxel in the file.
    """

    stages: dict[str, float]
    program: int
    what: str
    region: bool
    stored_bytes: int

    @property
    def needed(self) -> float:
        """Bytes at the peak beyond what the program holds."""
        return max(self.stages.values())

    @property
    def total(self) -> float:
        """Bytes at the peak, the program and the process that reads images included."""
        return self.needed + self.program + READER_BYTES

    @property
    def own(self) -> float:
        """Bytes at the peak of this process alone: what it reads passes through another."""
        return max((need for stage, need in self.stages.items() if stage != "reading"), default=0.0) + self.program

    @property
    def words(self) -> str:
        """Say how much the run needs, as in "needs about 2.5 GB of memory"."""
        return f"needs about {in_words(self.total)} of memory"

    @property
    def remedies(self) -> list[str]:
        """Ways to make the largest stage smaller."""
        largest = max(self.stages, key=self.stages.__getitem__)
        if largest == "reading" or (self.region and largest == "writing"):
            return ["crop the image to what matters and save it as a smaller file"]
        smaller = f"give a smaller {REGION_WORDS}" if self.region else f"give a {REGION_WORDS}"
        return [smaller, "take a model with a smaller window"] if largest == "segmenting" else [smaller]

    def check(self, file: Path | None = None) -> None:
        """Refuse the run where it needs more than is free.

        Args:
            file: the image, named in the sentence.

        Raises:
            NotEnoughMemoryError: with both sizes and what to do.
        """
        # What earlier cases left with this process, and what this one has read already, is not lost to it.
        held = max(0, resident_bytes() - self.program)
        check_memory(self.what, self.needed, self.remedies, held, file)


def memory_from_headers(
    claims: Sequence[FileGrid | None],
    region: RegionOfInterest | None,
    model: Model,
    include_image: bool = False,
    own_to_world_ras: Sequence[float] | None = None,
    on_disk: bool = True,
) -> RunMemory | None:
    """Predict what a run will take from the headers of its files; None if they do not say.

    Where headers do not say which part will be segmented (DICOM with its places not read yet, nnU-Net's box of nonzero
    voxels), only what reading takes is foreseen: nothing is refused that would have worked.
    """
    known = [claim for claim in claims if claim is not None]
    if not known or len(known) < len(claims):
        return None
    whole, stored = known[0].grid, max(claim.voxel_bytes * claim.components for claim in known)
    is_known, part = whole.placed and model.bundle.input.nnunet is None, whole
    if region and is_known:
        try:
            part = voxel_box(region, whole).crop_grid(whole)
        except InputError:  # it lies outside: reading, which knows the place better, says so
            is_known = False
    memory = run_memory(whole, part, model, stored, region, include_image, own_to_world_ras, on_disk)
    if is_known:
        return memory
    return replace(memory, stages={"reading": memory.stages["reading"]})


def run_memory(
    whole: VoxelGrid,
    part: VoxelGrid,
    model: Model,
    stored_bytes: int = READ_BYTES,
    region: RegionOfInterest | None = None,
    include_image: bool = False,
    own_to_world_ras: Sequence[float] | None = None,
    on_disk: bool = True,
) -> RunMemory:
    """Predict what a run of a model will take; arguments as those of `run_size`."""
    world = part.axes_after(lambda image: apply_transform(image, own_to_world_ras))
    size = run_size(whole, world, model.bundle.input, model, stored_bytes, include_image)
    size = replace(size, on_disk=on_disk)
    edges = " x ".join(str(n) for n in whole.size)
    return RunMemory(
        predicted_stages(size), model.program_bytes, f"The image of {edges} voxels", region is not None, stored_bytes
    )


def check_regions_fit(error_probability: Planes | None, file: Path) -> None:
    """Refuse to find regions where far more voxels are uncertain than in any image that a model was made for.

    How many there are is only known once they are segmented.

    Raises:
        NotEnoughMemoryError: their list would need more memory than is free.
    """
    if error_probability is None:
        return
    pieces = (error_probability[planes] for planes in plane_pieces(error_probability.shape))
    uncertain = sum(int(np.count_nonzero(part > RegionSettings().threshold)) for part in pieces)
    if uncertain * UNCERTAIN_VOXEL_BYTES > FEW_BYTES:
        give_back_freed_memory()
        what = f"Finding regions among {uncertain} uncertain voxels"
        check_memory(what, uncertain * UNCERTAIN_VOXEL_BYTES, [f"give a smaller {REGION_WORDS}"], file=file)


def run_size(
    whole: VoxelGrid, part: VoxelGrid, spec: InputSpec, model: Model, stored_bytes: int, keeps_image: bool
) -> RunSize:
    """Collect what the memory of a run depends on.

    Args:
        whole: grid of the images.
        part: grid of what is segmented, as it lies in the world.
        stored_bytes: of a voxel in the file.
    """
    upright = part.axes_after(lambda image: reorient(image, spec.orientation))
    size, spacing = working_size(upright, spec)
    engine, outputs = model.engine, float(model.engine.num_classes + model.engine.response_channels)
    passed = int(outputs)
    if model.fitted.gate is not None and engine.steps is not None:
        outputs = engine.num_classes + engine.detail_channels + engine.response_channels / math.prod(engine.steps)
        passed = gated_channels(engine)
    return RunSize(
        grid_voxels=whole.voxels,
        stored_bytes=stored_bytes,
        channels=len(spec.channels),
        assessed_voxels=part.voxels,
        working_zyx=size[::-1],
        window_zyx=spec.window_zyx,
        outputs=outputs,
        window_bytes=engine.window_memory(READ_BYTES * outputs),
        passed=passed,
        resampled=size != upright.size or not np.allclose(spacing, upright.spacing, rtol=SPACING_TOLERANCE),
        nnunet_bytes=_nnunet_bytes(spec, size != upright.size),
        crops=part.voxels < whole.voxels,
        keeps_image=keeps_image,
        swept=Turn.between(upright, part).swept,
    )


def _nnunet_bytes(spec: InputSpec, splines: bool) -> int:
    if spec.nnunet is None:
        return 0
    copies = splines or any(each.nonzero_only for each in spec.channel_normalisations)
    return MASK_BYTES + (COPIES_BYTES if copies else HOLES_BYTES)


def peak_memory_mb() -> float | None:
    """Largest memory this process has used so far in MB, None if the platform does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
