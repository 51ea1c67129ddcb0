"""Run the compiled graphs of a bundle with OpenVINO on the CPU, without torch, telemetry or cache files."""

import functools
import operator
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from ...calibration.per_structure import ProbabilitySums
from ...calibration.second_stage import HeadMaps
from ...models.bundle import MAPS_FILE, WINDOW_FILE, Bundle
from ...models.bundle_files import weights_path
from ...models.graphs import COMPILE, MAPS, graphs_lacking, read_graphs
from ...util.errors import InputError
from ...util.memory import check_memory, size_text
from ...util.processor import threads_in_use
from . import OPENVINO
from .base import Engine, Voxelwise
from .openvino_import import GraphRunError, import_openvino, openvino_version

LOADING_COPIES = 3
"""Of the weights while graphs are compiled: the file's, the constants, and OpenVINO's own."""
FLOAT32 = "f32"
MANY, FEW = 32768, 4096
"""Voxels that maps are computed of at once, filled up: OpenVINO prepares itself for every new number, for 10 ms."""


def settings(threads: int) -> dict[str, Any]:
    """Return how graphs are compiled: in float32, which OpenVINO leaves by itself on new processors; unpinned."""
    return {
        "INFERENCE_PRECISION_HINT": FLOAT32,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # bound to a core, a thread would wait there for other programs
    }


class OpenVINOEngine(Engine):
    """The default head's graphs of a bundle.

    Args:
        bundle: read from a folder.

    Attributes:
        precision: in which OpenVINO says that it computes.
        runtime: its version.

    Raises:
        OpenVINOImportError: no OpenVINO that works.
        InputError: no graphs for this head, or damaged ones.
        NotEnoughMemoryError: they need more than is free.
    """

    name = OPENVINO
    device = "cpu"
    keeps_window = True

    def __init__(self, bundle: Bundle) -> None:
        openvino = import_openvino()
        lacking = graphs_lacking(bundle)
        if lacking is not None or bundle.graphs is None:
            raise InputError(f"The engine openvino cannot be used, for {lacking}: {COMPILE}.")
        self._source = str(bundle.folder)
        self.window_bytes = bundle.graphs.window_bytes
        self.runtime, self._graphs = openvino_version(openvino), bundle.graphs.sha256
        weights = weights_path(bundle)
        if weights.is_file():
            size = weights.stat().st_size
            what = f"The network of {self._source} ({size_text(size)} of weights)"
            check_memory(what, LOADING_COPIES * size, ["take a smaller model"])
        content = read_graphs(bundle)
        core = openvino.Core()
        # OpenVINO reads constants where they lie: they stay as long as what was made of them.
        self._constants = openvino.Tensor(content.constants, shared_memory=True)
        self._kept = content
        window = self._compiled(core, content.window, WINDOW_FILE)
        maps = self._compiled(core, content.maps, MAPS_FILE)
        self._check_shapes(window, maps, bundle)
        names = {str(each.get_property("INFERENCE_PRECISION_HINT").get_type_name()) for each in (window, maps)}
        if names != {FLOAT32}:  # it was asked for, and nothing else will do
            found = f"{self._source}: openvino {self.runtime} computes in {', '.join(sorted(names))}"
            raise GraphRunError(f"{found}, not in float32: choose the engine torch.")
        self._window, self._maps = window.create_infer_request(), maps.create_infer_request()

    def _compiled(self, core: Any, document: bytes, name: str) -> Any:
        try:
            model = core.read_model(document.decode("utf-8"), self._constants)
            return core.compile_model(model, "CPU", settings(threads_in_use()))
        except (RuntimeError, UnicodeDecodeError) as error:
            words = " ".join(str(error).split())[:300]
            what = f"{self._source}: openvino {self.runtime} cannot use {name} ({words})"
            raise GraphRunError(f"{what}: update openvino, or {COMPILE}.") from error

    def _check_shapes(self, window: Any, maps: Any, bundle: Bundle) -> None:
        """Find what the graphs give, and refuse those that do not fit each other and the model."""
        wanted = [1, len(bundle.input.channels), *bundle.input.window_zyx]
        ports = [*window.inputs, *window.outputs]
        shapes = [list(port.partial_shape.to_shape()) for port in ports if port.partial_shape.is_static]
        outputs = shapes[1:]
        fits = len(window.inputs) == 1 and len(shapes) == len(ports) >= 2 and shapes[0] == wanted
        fits = fits and all(len(shape) == 5 and shape[0] == 1 and shape[2:] == wanted[2:] for shape in outputs)
        if fits:
            self.num_classes, self.response_channels = outputs[0][1], sum(shape[1] for shape in outputs[1:])
            self.has_aleatoric = len(maps.outputs) == len(MAPS)
            self.has_calibration = self.response_channels > 0
            channels = str(self.num_classes + self.response_channels)
            fits = self.num_classes == len(bundle.labels) and len(maps.inputs) == 2
            fits = fits and str(maps.inputs[0].partial_shape[0]) == channels
            fits = fits and len(maps.outputs) in (len(MAPS) - 1, len(MAPS))
        if not fits:
            what = f"{self._source}: the graphs do not fit the model or each other (shapes {shapes})"
            raise InputError(f"{what}: {COMPILE}.", "unusable-graphs")

    def window(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """As `Engine.window`, in parts."""
        parts = self._ran(self._window, [np.ascontiguousarray(image, np.float32)[None]])
        found = tuple(part[0] for part in parts)
        if not all(_is_finite(part) for part in found):
            raise InputError("The network gives NaN or infinite values: restore the model.", "unusable-weights")
        return found

    def window_memory(self, answer_bytes: float) -> float:
        """As `Engine.window_memory`: a request keeps its activations beside its answer."""
        return self.window_bytes + answer_bytes

    def maps(self, chunk: np.ndarray, tempering_scale: float = 1.0) -> Voxelwise:
        """As `Engine.maps`."""
        scale = np.asarray([tempering_scale], np.float32)
        return _joined([self._maps_of(chunk[:, part], scale) for part in _parts(chunk.shape[1])])

    def _maps_of(self, chunk: np.ndarray, scale: np.ndarray) -> Voxelwise:
        """Run the graph on at most `MANY` voxels; arrays of their own."""
        count = chunk.shape[1]
        size = FEW if count <= FEW else MANY
        if count < size:
            chunk = np.pad(chunk, [(0, 0), (0, size - count)])
        outputs = self._ran(self._maps, [np.ascontiguousarray(chunk, np.float32), scale])
        found: dict[str, Any] = {name: np.array(each[..., :count]) for name, each in zip(MAPS, outputs, strict=False)}
        sums = _sums(found.pop("probabilities"), found["classes"])
        return Voxelwise(**{"aleatoric": None, **found}, sums=sums)

    def _ran(self, request: Any, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Run a graph; its outputs are views that hold until its next run."""
        try:
            results = request.infer(inputs, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            words = " ".join(str(error).split())[:300]
            raise InputError(f"{self._source}: openvino {self.runtime} cannot run its graph ({words}).") from error
        return [results[number] for number in range(len(results))]

    def versions(self) -> dict[str, str]:
        """Of OpenVINO."""
        return {OPENVINO: self.runtime}

    def identity(self) -> dict[str, str | None]:
        """As `Engine.identity`."""
        return {"name": OPENVINO, "version": self.runtime, "precision": "float32", "graphs_sha256": self._graphs}


def _is_finite(values: np.ndarray) -> bool:
    """Whether there is no NaN and nothing infinite; both survive a sum, which may overflow, and the extremes."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()
    return bool(np.isfinite(total) or (np.isfinite(values.min()) and np.isfinite(values.max())))


def _parts(count: int) -> Iterator[slice]:
    """Cut voxels into as many as maps are computed of at once."""
    start = 0
    while start < count:
        size = MANY if count - start > 3 * FEW else FEW
        yield slice(start, min(start + size, count))
        start += size


def _joined(parts: list[Voxelwise]) -> Voxelwise:
    """Join what was computed of parts that follow each other."""
    if len(parts) == 1:
        return parts[0]
    arrays = {each.name: [getattr(part, each.name) for part in parts] for each in fields(HeadMaps)}
    joined: dict[str, Any] = {name: None if each[0] is None else np.concatenate(each) for name, each in arrays.items()}
    return Voxelwise(**joined, sums=functools.reduce(operator.add, (part.sums for part in parts)))


def _sums(probabilities: np.ndarray, classes: np.ndarray) -> ProbabilitySums:
    """Sum over one chunk; probabilities (classes, voxels), predicted classes (voxels,)."""
    inside = [row[classes == number].sum(dtype=np.float64) for number, row in enumerate(probabilities)]
    ambiguous = probabilities * (1 - probabilities)
    return ProbabilitySums(
        probabilities.sum(1, dtype=np.float64), np.asarray(inside, np.float64), ambiguous.sum(1, dtype=np.float64)
    )
