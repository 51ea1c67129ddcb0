"""How much memory a run takes at its peak: one formula of headers and model, before anything large is allocated.

An image has G voxels, each of s bytes in its file; P of them are segmented; the network works on W voxels in each of C
channels. All arrays are float32. These bytes are alive at once, beyond the program with its model:

    reading           G (4 (C - 1) + max(2 s, s + 4, 8)), at least 4 C (G + P) where a part is cut out
    preparing         4 (C + 1) (P + W) + 20 min(W, 2^24), and 4 W where the image is resampled
    segmenting        4 C W + M + N + one slab of windows with three pieces of it and one window
    finding regions   M + 8.2 P

Where the maps stay in memory, M is 16 P, N is 16 P for what the second stage notes of uncertain voxels, and 4 P come on
top of all but reading for the part of the image that the result keeps; else these are 0. A slab of a single
window needs no sums. 4 G come on top of all but
reading where the whole image is copied to the result, or stays with the caller, as where boxes are placed in a head.
What a window takes stays where the engine keeps it for the next (OpenVINO); else slab and pieces take its place. A run
needs the largest of the four, and 64 MB for buffers. Measured: memory_prediction.md and large_volumes.md in
Testing/Benchmarks/results.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..io.grid import VoxelGrid
from ..io.roi import RegionOfInterest, part_grid
from ..io.volume import Header, reorient
from ..models.bundle import Bundle
from ..models.input_spec import PIECE_VOXELS
from ..regions.region import UNCERTAIN
from ..util.errors import InputError
from ..util.memory import check_memory, give_back_freed_memory, resident_bytes, size_text
from ..util.plane_files import IN_MEMORY_VOXELS, Planes, plane_pieces
from .grid_blocks import PIECE_VALUES, AxisMapping
from .model import Model
from .preprocessing import SPACING_TOLERANCE, working_size

READ_BYTES = 4
"""A voxel of an image as it is read, and of all arrays: float32."""
NORMALISING_BYTES = 20
"""A voxel that is being normalised, of at most `PIECE_VOXELS`: float64 copies, and one to find percentiles."""
MAP_BYTES = 16
"""A voxel of the maps: three float maps, class, runner-up, two percentiles."""
NOTED_BYTES = 16
"""A voxel while a second stage waits for all planes: 52 bytes of each that it will judge, 3 in 10 (measured)."""
UNCERTAIN_VOXEL_BYTES = 310
"""An uncertain voxel while regions are found (measured)."""
REGIONS_BYTES = 0.02 * UNCERTAIN_VOXEL_BYTES + 2
"""A voxel while regions are found, of which 2 in 100 are uncertain, and of the volume that names regions."""
FEW_BYTES = 100_000_000
BUFFERS_BYTES = 64_000_000
"""What the maps of one chunk of voxels take at most, and buffers of writers and regions (measured)."""


@dataclass(frozen=True)
class RunMemory:
    """The predicted memory of a run.

    Attributes:
        stages: bytes beyond what the program holds, by stage.
        program: bytes that the program with its model holds.
        what: the run in words, the subject of a sentence.
        smaller: how to give the model less to segment.
    """

    stages: dict[str, float]
    program: int
    what: str
    smaller: str

    @property
    def needed(self) -> float:
        """Bytes at the peak beyond what the program holds."""
        return max(self.stages.values())

    @property
    def words(self) -> str:
        """Say how much the process will hold at its peak, to be compared with a limit that the system sets to it."""
        return f"needs about {size_text(self.needed + self.program)} of memory, the program included"

    @property
    def remedies(self) -> list[str]:
        """Ways to make the largest stage smaller."""
        if max(self.stages, key=self.stages.__getitem__) == "reading":
            return ["crop the image to the relevant part and save it"]
        return [self.smaller, "take a model with a smaller window"]

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
    headers: Sequence[Header],
    roi: RegionOfInterest | None,
    model: Model,
    include_image: bool = False,
    own_to_world_ras: Sequence[float] | None = None,
    on_disk: bool = True,
) -> RunMemory | None:
    """Predict what a run will take from the headers of its files; None if they do not say.

    Where headers do not say which part will be segmented (DICOM with its places not read yet, nnU-Net's box of nonzero
    voxels), only what reading takes is foreseen: nothing is refused that would have worked.
    """
    whole = headers[0].grid if headers else None
    if whole is None or any(header.grid is None for header in headers):
        return None
    is_known = whole.placed and model.bundle.input.nnunet is None
    try:
        part = part_grid(whole, roi if is_known else None, own_to_world_ras)
    except InputError:  # it lies outside, which reading reports with the exact place
        is_known, part = False, whole
    memory = run_memory(whole, part, model, stored_bytes(headers), include_image, on_disk)
    return memory if is_known else replace(memory, stages={"reading": memory.stages["reading"]})


def stored_bytes(headers: Sequence[Header]) -> int:
    """Bytes of a voxel of the widest channel in its file."""
    return max(header.voxel_bytes * header.components for header in headers)


def run_memory(
    whole: VoxelGrid,
    part: VoxelGrid,
    model: Model,
    stored_bytes: int = READ_BYTES,
    include_image: bool = False,
    on_disk: bool = True,
) -> RunMemory:
    """Predict what a run of a model will take: the formula at the head of this file.

    Args:
        whole: grid of the images.
        part: grid of what is segmented, as it lies in the world.
        stored_bytes: as the function of that name returns.
        include_image: whether a whole image stays in memory, to be written or with the caller.
        on_disk: whether large maps go to the disk.
    """
    spec = model.bundle.input
    upright = part.axes_after(lambda image: reorient(image, spec.orientation))
    size, spacing = working_size(upright, spec)
    resampled = size != upright.size or not np.allclose(spacing, upright.spacing, rtol=SPACING_TOLERANCE)
    channels, working = len(spec.channels), math.prod(size)
    images, array = READ_BYTES * channels * part.voxels, READ_BYTES * channels * working
    in_memory = not on_disk or part.voxels <= IN_MEMORY_VOXELS
    crops, kept = part.voxels < whole.voxels, READ_BYTES * whole.voxels if include_image else 0
    first = READ_BYTES * part.voxels if in_memory else 0
    once = max(2 * stored_bytes, stored_bytes + READ_BYTES, 2 * READ_BYTES)
    reading = whole.voxels * (READ_BYTES * (channels - 1) + once)
    copies = READ_BYTES * (part.voxels + (2 if resampled else 1) * working)
    copies += NORMALISING_BYTES * min(working, PIECE_VOXELS)
    if spec.nnunet is not None:  # its mask, and while its holes are filled or voxels inside it are copied
        masked = size != upright.size or any(each.nonzero_only for each in spec.channel_normalisations)
        copies += (9 if masked else 5) * max(part.voxels, working)
    maps = MAP_BYTES * part.voxels if in_memory else 0
    noted = NOTED_BYTES * part.voxels if in_memory and model.fitted.second_stage is not None else 0
    slab = _slab_bytes(size[::-1], AxisMapping.between(upright, part).slab_axis, model, resampled)
    stages = {
        "reading": max(reading, READ_BYTES * channels * whole.voxels + images if crops else 0),
        "preparing": kept + first + (images if crops or not kept else 0) + array + copies,
        "segmenting": kept + first + array + maps + noted + slab,
        "finding regions": kept + first + maps + REGIONS_BYTES * part.voxels,
    }
    what = f"The image of {' x '.join(map(str, whole.size))} voxels"
    needs = {stage: need + BUFFERS_BYTES for stage, need in stages.items()}
    return RunMemory(needs, model.program_bytes, what, smaller_input(model.bundle))


def smaller_input(bundle: Bundle) -> str:
    """Return how to give a model less to segment: a model of a whole head takes no part of it."""
    is_whole = bundle.placement is not None and bundle.placement.is_whole
    return "give the image with larger voxels" if is_whole else "give a region of interest or a smaller one"


def _slab_bytes(working_zyx: Sequence[int], slab_axis: int, model: Model, resampled: bool) -> float:
    """Predict the bytes of one window, the sums of the slab that is open, and the pieces on their way to the maps.

    Args:
        slab_axis: axis of the working grid along which slabs of windows follow each other.
    """
    engine, window = model.engine, model.bundle.input.window_zyx
    outputs = engine.num_classes + engine.response_channels
    padded = [max(n, wanted) for n, wanted in zip(working_zyx, window, strict=True)]
    plane = math.prod(n for axis, n in enumerate(padded) if axis != slab_axis)
    is_one = all(size <= side for size, side in zip(working_zyx, window, strict=True))  # its answer is the sums
    # With weights, and half a plane being shifted.
    sums = READ_BYTES * ((0 if is_one else outputs) + 1.5) * window[slab_axis] * plane
    piece = READ_BYTES * max(outputs * plane, min(outputs * math.prod(working_zyx), PIECE_VALUES))
    pieces = 3 * piece * (2 if resampled else 1)  # divided, interpolated and turned
    in_window = math.prod(window) * engine.window_memory(READ_BYTES * outputs)
    return sums + (in_window + pieces if engine.keeps_window else max(in_window, pieces))


def check_regions_fit(error_probability: Planes | None, file: Path, bundle: Bundle) -> None:
    """Refuse to find regions where far more voxels are uncertain than in any image that a model was made for.

    How many there are is only known once they are segmented.

    Raises:
        NotEnoughMemoryError: their list would need more memory than is free.
    """
    if error_probability is None:
        return
    pieces = (error_probability[planes] for planes in plane_pieces(error_probability.shape))
    uncertain = sum(int(np.count_nonzero(part > UNCERTAIN)) for part in pieces)
    if uncertain * UNCERTAIN_VOXEL_BYTES > FEW_BYTES:
        give_back_freed_memory()
        what = f"Finding regions among {uncertain} uncertain voxels"
        check_memory(what, uncertain * UNCERTAIN_VOXEL_BYTES, [smaller_input(bundle)], file=file)


def peak_memory_mb() -> float | None:
    """Largest memory this process has used so far in MB, None if the platform does not tell (Windows)."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
