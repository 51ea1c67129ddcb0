"""From stitched logits and responses to maps on the input's own grid, and from the maps to regions."""

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..calibration.error_probability import ErrorProbability, percentiles_of
from ..calibration.local_features import Steps
from ..calibration.per_structure import ProbabilitySums
from ..calibration.second_stage import MAPS, HeadMaps, SecondStage, UncertainVoxels, find_uncertain_voxels, refined
from ..calibration.structure_lines import BLOCK as STRUCTURE_LINES
from ..calibration.structure_lines import StructureLines
from ..case.case_regions import ijk_to_ras, label_table
from ..io.grid import VoxelGrid
from ..models.input_spec import InputSpec, Label
from ..regions.find_regions import Assessed, FoundRegions, find_regions
from ..util.errors import InputError, os_errors_named
from ..util.plane_files import IN_MEMORY_VOXELS, ChangedPlanes, PlaneFile, Planes, plane_pieces, room_for
from ..util.progress import Progress, silent
from ..util.strict_json import typed
from .engines.base import Engine, Voxelwise
from .finer_grid import maps_grid, spread_chance, two_largest, voxel_ratio
from .given_mask import GivenMask
from .grid_blocks import AxisMapping, Block, Cells, Piece, blocks_on_grid, pieces_of_slabs, planes_on_grid
from .sliding_window import finished_slabs, window_plan

COMPETES_ABOVE = 0.05
"""Below this error probability files name no runner-up and no percentile: they would be noise, and large."""
PIECE_VOXELS = 1 << 20
"""Of the planes that the second stage reads together: those around them are read twice."""
ImagePlanes = Callable[[slice], np.ndarray]
"""Gives some planes of the image as the network gets it, (channels, z, y, x) on the grid of the maps."""
AfterBlocks = Callable[[Iterator[tuple[Block, "VoxelMaps"]]], object]
"""Goes through blocks and their maps, as each is made."""
CHUNK_VOXELS = 32768
"""Voxels a step: 32k keep the perturbed softmaxes within the L2 cache (docs/developer/performance.md)."""


NOT_ASSESSED = -1.0
"""Value of calibration map and error probability where nothing was assessed: no real value is negative."""


def _pasted(outside: Callable[[float], float] = lambda lowest: 0.0, is_class: bool = False) -> dict[str, Any]:
    """Say how a map is joined with those of other boxes.

    Args:
        outside: its value where nothing was assessed, from its lowest value.
        is_class: whether it holds class indices, which differ from box to box.
    """
    return {"outside": outside, "is_class": is_class}


_NOT_ASSESSED = _pasted(lambda lowest: NOT_ASSESSED)


@dataclass(frozen=True)
class VoxelMaps:
    """Results on one grid, volumes (z, y, x): arrays, or files where they are large.

    Attributes:
        classes: index of the predicted class, uint8.
        runner_up: index of the second most probable class, uint8.
        calibration: U_cal, float32; None for a model without a network.
        ranking: U_rnk, float32; None without a model, as all that follow.
        error_probability: float32 in 0 to 1, None without fitted calibration.
        model_percentile, data_percentile: by `error_probability.percentiles_of`, uint8, None if not fitted; 0 where no
            error is to be feared (`COMPETES_ABOVE`).
        sums: of the tempered, refitted probabilities, per class.
        share, rival: where a mask is judged, what `GivenMask.shares` says of it.
    """

    classes: Planes = field(metadata=_pasted(is_class=True))
    runner_up: Planes = field(metadata=_pasted(is_class=True))
    calibration: Planes | None = field(metadata=_NOT_ASSESSED)
    ranking: Planes | None = field(metadata=_pasted(lambda lowest: np.floor(lowest) - 1.0))
    error_probability: Planes | None = field(metadata=_NOT_ASSESSED)
    model_percentile: Planes | None = field(metadata=_pasted())
    data_percentile: Planes | None = field(metadata=_pasted())
    sums: ProbabilitySums
    share: Planes | None = field(default=None, metadata=_pasted())
    rival: Planes | None = field(default=None, metadata=_pasted())


def not_assessed_value(name: str, lowest: float) -> float:
    """Return the value of a map where nothing was assessed, below every value, of which `lowest` is the least."""
    return float(VoxelMaps.__dataclass_fields__[name].metadata["outside"](lowest))


def joined_maps(
    parts: Sequence[VoxelMaps], slices: Sequence[tuple[slice, slice, slice]], shape: Sequence[int], structures: int
) -> VoxelMaps:
    """Paste the maps of boxes into arrays of `shape` (z, y, x); classes of each further box come after those before.

    Args:
        slices: where each box lies.
        structures: classes of a box without the background.

    Returns:
        The maps, with the sums of the first box: how to add up other kinds of fields, nobody has needed yet.
    """
    made: dict[str, Any] = {}
    for each in (each for each in fields(VoxelMaps) if each.metadata):
        planes = [values[:] for maps in parts if (values := getattr(maps, each.name)) is not None]
        if not planes:
            continue
        if each.metadata["is_class"]:
            planes = [
                np.where(part > 0, part + np.uint8(index * structures), part) for index, part in enumerate(planes)
            ]
        outside = each.metadata["outside"](float(min(part.min() for part in planes)))
        made[each.name] = np.full(shape, outside, planes[0].dtype)
        for place, part in zip(slices, planes, strict=True):
            made[each.name][place] = part
    return replace(parts[0], **made)


@dataclass(frozen=True)
class FittedCalibration:
    """The part of the fitted calibration that concerns single voxels; by default nothing.

    Attributes:
        error_probability: from ranking map and classes to error probability.
        tempering_scale: by which tempered logits are divided before the softmax.
        model_quantiles, data_quantiles: by `error_probability.fit_percentiles`.
        second_stage: what sees the image too; None for a bundle that is calibrated without it.
        lines: by structure, of sites, one after the other; they come last.
    """

    error_probability: ErrorProbability | None = None
    tempering_scale: float = 1.0
    model_quantiles: tuple[float, ...] | None = None
    data_quantiles: tuple[float, ...] | None = None
    second_stage: SecondStage | None = None
    lines: tuple[StructureLines, ...] = ()

    def by_structure(self, probability: np.ndarray, classes: np.ndarray, runner_up: np.ndarray) -> np.ndarray:
        """Apply all lines by structure to an error probability; arrays of one shape."""
        for lines in self.lines:
            probability = lines(probability, classes, runner_up)
        return probability

    @property
    def competes_above(self) -> float:
        """Error probability of the table above which percentiles are needed: second stage may still raise it."""
        if self.lines:
            return -1.0
        if self.second_stage is None:
            return COMPETES_ABOVE
        return self.second_stage.looks_above if self.second_stage.line == (1.0, 0.0) else -1.0

    @classmethod
    def from_json(
        cls, calibration: Mapping[str, Any] | None, second_stage: SecondStage | None = None
    ) -> "FittedCalibration":
        """Build from the calibration block of a bundle.

        Raises:
            InputError: the block is of maps that this version does not compute.
        """
        if calibration is None:
            return cls()
        if "gate" in calibration:
            raise InputError("The model was calibrated with a gate: get a later version of it.", "other-format-version")
        sources = calibration.get("sources") or {}
        model, data = (tuple(sources[part]) if sources.get(part) else None for part in ("model", "data"))
        table = ErrorProbability.from_json(calibration["error_probability"])
        lines = typed(tuple[StructureLines, ...], calibration.get(STRUCTURE_LINES) or ())
        return cls(table, float(calibration["tempering_scale"]), model, data, second_stage, lines=lines)


def steps_on_grid(axes: Sequence[bool], working: sitk.Image | VoxelGrid, target: sitk.Image | VoxelGrid) -> Steps:
    """Find the steps to neighbours on the grid of the maps.

    Args:
        axes: of the working grid (z, y, x), along which voxels have neighbours.
    """
    own, goal = VoxelGrid.of(working), VoxelGrid.of(target)
    order, spacing = AxisMapping.between(own, goal).order, own.spacing[::-1]
    return Steps.on_grid([axes[each] for each in order], [spacing[each] for each in order], goal.spacing[::-1])


class SecondStageContext:
    """The second stage of one case, which sees the image, while maps are made plane by plane.

    While the maps are made, uncertain voxels are noted with the head's maps there. Once the table's error probability
    is known on all planes, the image is read some planes at a time, and the noted voxels get their final probability.

    Args:
        steps: on the grid of the maps.
        image: gives its planes.
        folder: on the disk that the notes of large images go to, fifty bytes a voxel, in a file without a name;
            None keeps them in memory.
    """

    def __init__(self, stage: SecondStage, steps: Steps, image: ImagePlanes, folder: Path | None = None) -> None:
        self.stage, self.steps = stage, steps
        self._image, self._folder = image, folder
        self._notes: list[tuple[int, int, int, tuple[int, ...]]] = []
        """First and last plane, where in the file the rows (places, normals, columns) begin, and their shape."""
        self._file = BytesIO() if folder is None else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with this

    @property
    def halo(self) -> int:
        """Planes around others that are read with them while noting."""
        return int(self.steps.unit[0])

    def note(self, logits: np.ndarray, inner: slice, first_plane: int, found: Voxelwise, table: np.ndarray) -> None:
        """Note the uncertain voxels of some planes.

        Args:
            logits: (classes, z, y, x), of these planes and those around them.
            inner: which planes of `logits` they are.
            found: what the head says of these planes.
            table: the table's error probability there.

        Raises:
            OutputError: the disk is full.
        """
        above, pairs = self.stage.looks_above, self.stage.pairs
        uncertain = find_uncertain_voxels(logits, inner, found, table, pairs, self.steps, above)
        z, y, x = uncertain.voxels
        if not len(z):
            return
        places = np.stack([z + first_plane, y, x]).astype(np.int32).view(np.float32)
        rows = np.ascontiguousarray(np.concatenate([places, uncertain.normals, uncertain.columns.T]), np.float32)
        with os_errors_named(self._folder or Path("memory")):
            begin = self._file.seek(0, os.SEEK_END)
            self._file.write(rows.data)
            self._file.flush()
        self._notes.append((int(z.min()) + first_plane, int(z.max()) + first_plane, begin, rows.shape))

    def finish(self, probability: np.ndarray | PlaneFile, classes: Planes, runner_up: Planes) -> None:
        """Replace the table's error probability of all planes by that of the second stage.

        Args:
            classes, runner_up: most and second most probable class of all planes.
        """
        halo, count = self.steps.halo[0], probability.shape[0]
        before: np.ndarray = probability[:0]
        for planes in plane_pieces(probability.shape, PIECE_VOXELS):
            first, last = max(0, planes.start - halo), min(count, planes.stop + halo)
            table = np.concatenate([before[first - planes.start + len(before) :], probability[planes.start : last]])
            noted, image = self._noted(planes, first), self._image(slice(first, last))
            found = refined(self.stage, noted, image, table, self.steps, (classes[first:last], runner_up[first:last]))
            before = table[: planes.stop - first][-halo:] if halo else table[:0]
            probability[planes] = found[planes.start - first : planes.stop - first]

    def _noted(self, planes: slice, first: int) -> UncertainVoxels:
        """Return what was noted of some planes, counted from `first` on."""
        parts, pairs = list[UncertainVoxels](), len(self.stage.pairs)
        for low, high, begin, shape in self._notes:
            if high < planes.start or low >= planes.stop:
                continue
            self._file.seek(begin)
            rows = np.frombuffer(self._file.read(4 * shape[0] * shape[1]), np.float32).reshape(shape)
            z, y, x = rows[:3].view(np.int32).astype(np.intp)
            inside = np.flatnonzero((z >= planes.start) & (z < planes.stop))
            columns = np.ascontiguousarray(rows[6:].T)
            parts.append(UncertainVoxels((z - first, y, x), columns, rows[3:6], pairs).chosen(inside))
        # Planes may come last first.
        parts = sorted((part for part in parts if len(part.voxels[0])), key=lambda part: int(part.voxels[0][0]))
        nothing = np.empty((7 + len(MAPS), 0), np.float32)
        z, y, x = (np.concatenate([nothing[0].astype(np.intp), *(p.voxels[axis] for p in parts)]) for axis in range(3))
        columns = np.concatenate([nothing[6:].T, *(part.columns for part in parts)])
        normals = np.concatenate([nothing[:3], *(part.normals for part in parts)], 1)
        return UncertainVoxels((z, y, x), columns, normals, pairs)


def maps_of_blocks(
    engine: Engine,
    blocks: Iterable[Block],
    shape: Sequence[int],
    fitted: FittedCalibration,
    folder: Path | None = None,
    second: SecondStageContext | None = None,
    mask: GivenMask | None = None,
    after: AfterBlocks | None = None,
) -> VoxelMaps:
    """Compute segmentation and maps block by block, each as soon as it is there.

    Args:
        blocks: all planes of the input's grid, in any order.
        shape: of that grid, (z, y, x).
        folder: on the disk that large maps go to; None keeps them in memory.
        second: the second stage, whose halo the blocks have; None leaves it out.
        mask: on the grid of the maps, to be judged.
        after: goes through the blocks and what was found in each.

    Raises:
        OutputError: that disk is full or read-only.
    """
    maps, sums = _rooms(engine, shape, fitted, folder, mask), ProbabilitySums.zeros(engine.num_classes)

    def found_in_blocks() -> Iterator[tuple[Block, VoxelMaps]]:
        nonlocal sums
        for block in blocks:
            found = _maps_of_block(engine, block, fitted, second, mask)
            sums += found.sums
            for name, volume in maps.items():
                if volume is not None:
                    volume[block.planes] = getattr(found, name)
            yield block, found

    (after or partial(deque, maxlen=0))(found_in_blocks())
    if second is not None:
        second.finish(*(maps[name] for name in _OF_LINES))
    if after is None:
        _move_by_structure(maps, fitted)
    return VoxelMaps(**maps, sums=sums)


_OF_LINES = ("error_probability", "classes", "runner_up")


def _move_by_structure(maps: Mapping[str, Any], fitted: FittedCalibration) -> None:
    """Apply the lines by structure, which come last."""
    parts = [maps[name] for name in _OF_LINES]
    for planes in plane_pieces(parts[1].shape) if fitted.lines else ():
        parts[0][planes] = fitted.by_structure(*(each[planes] for each in parts))


def _rooms(
    engine: Engine, shape: Sequence[int], fitted: FittedCalibration, folder: Path | None, mask: GivenMask | None
) -> dict[str, Any]:
    """Make room for the maps, None for those that there will not be; arguments as for `maps_of_blocks`."""

    def room(dtype: type[np.generic], wanted: bool = True) -> np.ndarray | PlaneFile | None:
        return room_for(shape, dtype, folder) if wanted else None

    return {
        "classes": room(np.uint8),
        "runner_up": room(np.uint8),
        "calibration": room(np.float32, engine.has_calibration),
        "ranking": room(np.float32),
        "error_probability": room(np.float32, fitted.error_probability is not None),
        "model_percentile": room(np.uint8, bool(fitted.model_quantiles)),
        "data_percentile": room(np.uint8, bool(fitted.data_quantiles) and engine.has_aleatoric),
        "share": room(np.float32, mask is not None),
        "rival": room(np.uint8, mask is not None),
    }


def _maps_of_block(
    engine: Engine, block: Block, fitted: FittedCalibration, second: SecondStageContext | None, mask: GivenMask | None
) -> VoxelMaps:
    """Compute the maps of the planes of one block: the one place where maps are made."""
    found = voxelwise(engine, block.own, fitted.tempering_scale)
    probability = model = data = None
    if fitted.error_probability:
        probability = fitted.error_probability(found.ranking, found.classes, found.runner_up)
        if second is not None:
            second.note(block.values[: engine.num_classes], block.inner, block.planes.start, found, probability)
    shown = None if probability is None else np.flatnonzero(probability > fitted.competes_above)
    if fitted.model_quantiles:
        model = _percentiles(found.epistemic, fitted.model_quantiles, shown)
    if fitted.data_quantiles and found.aleatoric is not None:
        data = _percentiles(found.aleatoric, fitted.data_quantiles, shown)
    share = rival = None
    if mask is not None:
        scale = fitted.tempering_scale * np.maximum(1, np.sqrt(1 + found.calibration))
        share, rival = mask.shares(block.own[: engine.num_classes] / scale, found.classes, block.planes)
    maps = (found.classes, found.runner_up, found.calibration, found.ranking, probability, model, data)
    return VoxelMaps(*maps, found.sums, share, rival)


def maps_by_slabs(
    engine: Engine,
    fitted: FittedCalibration,
    spec: InputSpec,
    image: np.ndarray,
    working: VoxelGrid,
    target: VoxelGrid,
    progress: Progress = silent,
    folder: Path | None = None,
    mask: GivenMask | None = None,
) -> VoxelMaps:
    """Run the network over a case and compute its maps, slab by slab, so that memory does not grow with the image.

    Slabs follow each other along the slowest axis of the images, so that planes are finished as files hold them.

    Args:
        image: as the network gets it, float32 (channels, z, y, x) on the grid `working`.
        target: grid of the maps.
        folder, mask: as for `maps_of_blocks`.
    """
    plan, grid = window_plan(image.shape[1:], spec), maps_grid(working, target)
    axis = AxisMapping.between(working, target).slab_axis
    slabs = finished_slabs(engine, image, plan, progress, axis)
    second = second_stage_of(fitted, image[: len(spec.channels)], working, grid, folder)
    halo = 0 if second is None else second.halo
    blocks = blocks_on_grid(pieces_of_slabs(slabs, axis), working, grid, AxisMapping.between(working, grid), halo)
    if grid is target:
        return maps_of_blocks(engine, blocks, target.shape_zyx, fitted, folder, second, mask)
    return _finer_maps(engine, blocks, fitted, grid, target, folder, second, mask)


def _finer_maps(
    engine: Engine,
    blocks: Iterable[Block],
    fitted: FittedCalibration,
    working: VoxelGrid,
    target: VoxelGrid,
    folder: Path | None,
    second: SecondStageContext | None,
    mask: GivenMask | None,
) -> VoxelMaps:
    """Make maps on the working grid and bring them to the grid of a finer image (`finer_grid`).

    Args:
        blocks: of the working grid, whose axes have the order of the target's.
        folder, second, mask: as for `maps_of_blocks`; the mask is on the target.
    """
    maps, classes = _rooms(engine, target.shape_zyx, fitted, folder, mask), engine.num_classes

    def draw(found_in_blocks: Iterator[tuple[Block, VoxelMaps]]) -> None:
        pieces = (
            Piece(
                block.planes.start,
                np.stack([*block.own[:classes], np.asarray(found.calibration), np.asarray(found.ranking)]),
            )
            for block, found in found_in_blocks
        )
        for block in blocks_on_grid(pieces, working, target, AxisMapping.between(working, target)):
            logits, (calibration, ranking) = block.values[:classes], block.values[classes:]
            first, other = two_largest(logits)
            found = {"classes": first, "runner_up": other, "calibration": calibration, "ranking": ranking}
            if mask is not None:
                tempered = logits / (fitted.tempering_scale * np.maximum(1, np.sqrt(1 + calibration)))
                found["share"], found["rival"] = mask.shares(tempered, first, block.planes)
            for name, values in found.items():
                maps[name][block.planes] = values

    found = maps_of_blocks(engine, blocks, working.shape_zyx, fitted, folder, second, after=draw)
    if found.error_probability is not None:
        of_network = (found.error_probability, found.classes, found.runner_up)
        spread_chance(maps["error_probability"], of_network, maps["classes"], working, target)
        _move_by_structure(maps, fitted)
    for name in ("model_percentile", "data_percentile"):
        for planes in plane_pieces(target.shape_zyx, PIECE_VOXELS) if maps[name] is not None else ():
            cells = Cells(working, target, planes)
            maps[name][planes] = cells.nearest(getattr(found, name)[cells.around])
    sums = (voxel_ratio(working, target) * each for each in astuple(found.sums))
    return VoxelMaps(**maps, sums=ProbabilitySums(*sums))


def second_stage_of(
    fitted: FittedCalibration,
    image: np.ndarray | None,
    working: VoxelGrid,
    target: VoxelGrid,
    folder: Path | None = None,
) -> SecondStageContext | None:
    """Prepare the second stage for a case; None for a model that is calibrated without the image.

    Args:
        image: as the network got it, float32 (channels, z, y, x) on the grid `working`.
        target: grid of the maps.
        folder: as for `maps_of_blocks`.
    """
    stage = fitted.second_stage
    if stage is None or image is None or fitted.error_probability is None:
        return None
    notes = folder if target.voxels > IN_MEMORY_VOXELS else None
    planes = partial(planes_on_grid, image, working, target)
    return SecondStageContext(stage, steps_on_grid(stage.axes, working, target), planes, notes)


def voxelwise(engine: Engine, stitched: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
    """Classes, maps and their parts, voxel by voxel, in chunks.

    Args:
        stitched: (channels, *any) float32.
        tempering_scale: by which tempered logits are divided before the softmax; fitted on calibration cases.
    """
    shape = stitched.shape[1:]
    voxels = math.prod(shape)
    kinds = {"classes": np.uint8, "runner_up": np.uint8}  # the others are float32
    names = [each.name for each in fields(HeadMaps) if engine.has_aleatoric or each.name != "aleatoric"]
    maps: dict[str, Any] = {name: np.empty(voxels, kinds.get(name, np.float32)) for name in names}
    sums = ProbabilitySums.zeros(engine.num_classes)
    for start in range(0, voxels, CHUNK_VOXELS):
        part = slice(start, min(start + CHUNK_VOXELS, voxels))
        found = engine.maps(_flat_part(stitched, part), tempering_scale)
        for name, values in maps.items():
            values[part] = getattr(found, name)
        sums += found.sums
    whole = {name: values.reshape(shape) for name, values in maps.items()}
    return Voxelwise(**{"aleatoric": None, **whole}, sums=sums)


def resample_to_grid(
    stitched: np.ndarray, working: sitk.Image | VoxelGrid, target: sitk.Image | VoxelGrid
) -> np.ndarray:
    """All channels of `stitched` (channels, z, y, x) at the voxels of `target`, at once."""
    own, goal = VoxelGrid.of(working), VoxelGrid.of(target)
    return np.ascontiguousarray(planes_on_grid(stitched, own, goal, slice(0, goal.shape_zyx[0])))


def regions_of_maps(
    maps: VoxelMaps, labels: Sequence[Label], image: sitk.Image | VoxelGrid, asked: Collection[int] = ()
) -> FoundRegions | None:
    """Regions of one prediction; None without fitted calibration.

    Args:
        image: on the grid of the maps, or that grid.
        asked: label values of the structures to be measured.
    """
    if maps.error_probability is None:
        return None
    table = label_table(labels)
    assessed = Assessed(
        maps.error_probability,
        ChangedPlanes(maps.classes, table),
        ChangedPlanes(maps.runner_up, table),
        {label.value: label.name for label in labels},
        ijk_to_ras(image),
        maps.model_percentile,
        maps.data_percentile,
        asked,
    )
    return find_regions(assessed)


def _percentiles(values: np.ndarray, quantiles: tuple[float, ...], chosen: np.ndarray | None) -> np.ndarray:
    """As `percentiles_of` for the chosen voxels, and 0 elsewhere; None chooses all."""
    found = np.zeros(values.size, np.uint8)
    flat = values.reshape(-1)
    if chosen is None:
        chosen = np.arange(values.size)
    for start in range(0, chosen.size, CHUNK_VOXELS):  # copies in float64 stay small
        part = chosen[start : start + CHUNK_VOXELS]
        found[part] = percentiles_of(flat[part], quantiles)
    return found.reshape(values.shape)


def _flat_part(stitched: np.ndarray, part: slice) -> np.ndarray:
    """Return some voxels of (channels, *any), in scan order: (channels, voxels).

    Of an array whose axes are turned only the slices around them are copied: a copy of all doubled a run's memory.
    """
    if stitched.flags.c_contiguous:
        return stitched.reshape(len(stitched), -1)[:, part]
    if stitched.ndim < 3:
        return np.ascontiguousarray(stitched.reshape(len(stitched), -1)[:, part])
    in_slice = math.prod(stitched.shape[2:])
    first, last = part.start // in_slice, (part.stop - 1) // in_slice
    if first == last:
        return _flat_part(stitched[:, first], slice(part.start - first * in_slice, part.stop - first * in_slice))
    around = stitched[:, first : last + 1].reshape(len(stitched), -1)
    return np.ascontiguousarray(around[:, part.start - first * in_slice : part.stop - first * in_slice])
