"""How far a run is, as the share of the time that it takes: so the time left follows from the share that is done.

Windows and maps are timed as they come; what follows (stage two, regions, files) by a sample of the first window and
by constants, until it is under way itself.
"""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..imaging.plane_writer import compression_level
from ..progress import Progress
from .engines.base import Engine
from .gated_maps import doubt
from .grid_blocks import Piece

SAMPLED_FROM = 1 << 20
"""Voxels of the maps: with fewer the sample would take a share of the run, and what was measured once is taken."""
SAMPLES, SAMPLE_VOXELS = 8, 4096
"""Rows of voxels, spread over a window or over maps, that are compressed to see how long that takes."""
SAMPLED_SHARE = 0.03
"""Of maps, at most."""
CHECKING = 1.45
"""Time to write a file and to read it again, in units of compressing it (measured)."""
REGIONS_VOXEL_S = 5e-8
"""Seconds a voxel that regions and metrics take (measured)."""
CLOSING_VOXEL_S, CLOSING_S = 5e-8, 0.2
"""Seconds a voxel that histograms take after the last file, and that hashes and the preview take (measured)."""
REFINED_VOXEL_S = 3e-6
"""Seconds that stage two takes for a voxel in doubt, once all maps are there (measured)."""
LABELS = ("classes", "runner_up", "model_percentile", "data_percentile")
MAP_FILE_S, LABEL_FILE_S = 8e-8, 2e-8
"""Seconds that compressing a voxel of a map and of a label volume takes (measured)."""
OUTSIDE_VOXEL_S = 3e-8
"""Seconds that a voxel of a file takes outside the region of interest, where all are alike (measured)."""
TRUST = 0.1
"""Share of the predicted time for files, by which their pace so far is drawn towards the prediction."""
FIRST_WINDOWS = 0.03
LAST = 0.9999
"""Shares before any window but the first was timed, and before all is done."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class FilesToWrite:
    """The volumes of a case folder.

    Attributes:
        volumes: what is in each file, by the file's name: a volume of `VoxelMaps`, or "image".
        voxels: of each, those outside the region of interest included.
    """

    volumes: Mapping[str, str] = field(default_factory=dict)
    voxels: int = 0


class RunClock:
    """Tells a progress how far a run is; never less than before.

    Args:
        progress: who is told.
        clock: seconds.
        processor: seconds that all threads of this process computed.
    """

    def __init__(self, progress: Progress, clock: Clock = time.monotonic, processor: Clock = time.process_time) -> None:
        self._progress, self._clock, self._begun = progress, clock, clock()
        self._processor, self._threads, self._processor_at = processor, 0, 0.0
        self._shown, self._crowded = 0.0, 1.0
        self._windows, self._voxels, self._to_write = 0, 0, FilesToWrite()
        self._done, self._mapped, self._files_s = 0, 0.0, 0.0
        self._swept_s, self._first_s, self._maps_s = 0.0, 0.0, 0.0
        self._map_s, self._file_s = 0.0, _by_kind(MAP_FILE_S, LABEL_FILE_S)
        self._seen: dict[str, tuple[float, int]] = {}
        self._in_doubt: Sized = ()
        self._sweep_at = self._stage_at = 0.0
        self._stage = ""

    def __call__(self, stage: str, fraction: float, detail: str = "") -> None:
        """Tell of a stage that is not timed."""
        self._tell(stage, fraction, detail)

    def begin_windows(self, windows: int, voxels: int, written: FilesToWrite | None, threads: int = 0) -> None:
        """Begin with the windows.

        Args:
            windows: how many there are.
            voxels: of the maps.
            written: files of the case folder that follows; None where there is none.
            threads: that compute the windows on this computer's processor; 0 where another device does.
        """
        self._threads, self._processor_at = threads, self._processor()
        self._windows, self._voxels, self._to_write = windows, voxels, written or FilesToWrite()
        self._done, self._mapped, self._maps_s = 0, 0.0, 0.0
        self._sweep_at, self._in_doubt = self._clock(), ()

    def count_doubt(self, voxels: Sized) -> None:
        """Take in what holds the voxels in doubt, which stage two looks at once all maps are there."""
        self._in_doubt = voxels

    @property
    def is_sampled(self) -> bool:
        """Whether the run is long enough for a sample of the first window."""
        return self._voxels >= SAMPLED_FROM

    def window(self, stage: str, fraction: float, detail: str = "") -> None:
        """Tell that one more window is done."""
        self._done += 1
        self._swept_s = self._clock() - self._sweep_at - self._maps_s
        if self._done == 1:
            self._first_s = self._swept_s
        self._tell(stage, self._share() if self._done > 1 else FIRST_WINDOWS, detail)

    def timed(self, pieces: Iterable[Piece], axis: int, count: int) -> Iterator[Piece]:
        """Pass pieces on and time what is done with them.

        Args:
            axis: that is swept.
            count: of its planes.
        """
        for piece in pieces:
            begun = self._clock()
            yield piece
            self._maps_s += self._clock() - begun
            self._mapped += piece.values.shape[1 + axis] / count

    def sampled(self, map_s: float, odds_s: float, classes_s: float) -> None:
        """Take in what a voxel of the first window takes: its maps, and compressing its log-odds and its class."""
        self._map_s, self._file_s = map_s, _by_kind(odds_s, classes_s)

    def saw(self, maps: Any) -> None:
        """Take in what compressing the maps of some planes takes (`VoxelMaps`), better known than from one window."""
        if not self.is_sampled:
            return
        for name in set(self._to_write.volumes.values()) - {"image"}:
            if (volume := getattr(maps, name)) is None:
                continue
            rows = _spread(volume[None], SAMPLED_SHARE)[0]
            seconds, voxels = self._seen.get(name, (0.0, 0))
            seconds, voxels = seconds + _compression_s(rows) * rows.size, voxels + rows.size
            self._seen[name], self._file_s[name] = (seconds, voxels), seconds / voxels

    def follow(self, stage: str, detail: str = "") -> None:
        """Tell of a stage after the windows."""
        self._mapped, self._done, self._in_doubt = 1.0, self._windows, ()
        self._stage, self._stage_at = stage, self._clock()
        self._tell(stage, self._share(), detail)

    def wrote(self, file: str, voxels: int) -> None:
        """Tell that so many voxels more of a file are written."""
        if file in self._to_write.volumes:
            self._files_s += self.file_voxel_s(file) * voxels
        self._tell("writing", self._share())

    def _share(self) -> float:
        """Of the time that the run will have taken."""
        passed = self._clock() - self._begun
        window_s = (self._swept_s - self._first_s) / max(1, self._done - 1)
        left = (self._windows - self._done) * window_s + self._maps_left() + self._following_left()
        return passed / max(passed + left, 1e-9)

    def _crowding(self) -> float:
        """How many times as long all takes because other programs compute, too: a short sample does not meet them."""
        used = self._processor() - self._processor_at
        if not self._threads or used <= 0 or self._done < 2:
            return self._crowded
        if self._done < self._windows:
            self._crowded = max(1.0, (self._clock() - self._sweep_at) * self._threads / used)
        return self._crowded

    def _maps_left(self) -> float:
        if self._mapped > 0:
            refined_s = REFINED_VOXEL_S * len(self._in_doubt) * self._crowding()
            return self._maps_s / self._mapped * max(0.0, 1 - self._mapped) + refined_s / min(1.0, self._mapped)
        return self._map_s * self._voxels * self._crowding()

    def _following_left(self) -> float:
        """Of regions, files and what closes a case folder; nothing where none is written."""
        crowding, to_write = self._crowding(), self._to_write
        regions_s = REGIONS_VOXEL_S * self._voxels * crowding
        if not to_write.volumes:
            return regions_s if not self._stage else 0.0
        files_s = to_write.voxels * sum(self.file_voxel_s(file) for file in to_write.volumes)
        closing_s = (CLOSING_VOXEL_S * self._voxels + CLOSING_S) * crowding
        passed = self._clock() - self._stage_at
        if self._stage != "writing":
            return files_s + closing_s + (max(0.0, regions_s - passed) if self._stage else regions_s)
        slower = (passed + TRUST * files_s) / (self._files_s + TRUST * files_s)
        return max(0.0, files_s - self._files_s) * slower + closing_s

    def file_voxel_s(self, file: str) -> float:
        """Seconds to write, and read again, a voxel of a file, on the average over all of it."""
        inside = min(1.0, self._voxels / max(1, self._to_write.voxels))
        own_s = self._file_s[self._to_write.volumes[file]]
        return CHECKING * self._crowding() * (inside * own_s + (1 - inside) * OUTSIDE_VOXEL_S)

    def _tell(self, stage: str, fraction: float, detail: str = "") -> None:
        self._shown = max(self._shown, min(fraction, 1.0 if stage == "done" else LAST))
        self._progress(stage, self._shown, detail)


def _by_kind(map_s: float, label_s: float) -> dict[str, float]:
    """Seconds by volume."""
    maps = ("error_probability", "ranking", "calibration", "image")
    return {**dict.fromkeys(maps, map_s), **dict.fromkeys(LABELS, label_s)}


class SampledEngine:
    """An engine that times, with the first window, the maps of some voxels and compressing what is no smoother."""

    def __init__(self, engine: Engine, clock: RunClock) -> None:
        self._engine, self._clock, self._is_first = engine, clock, True

    def __getattr__(self, name: str) -> Any:
        """Anything else is the engine's own."""
        return getattr(self._engine, name)

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        """As `Engine.window`."""
        parts = self._engine.window(image)
        if self._is_to_sample():
            chunk = np.concatenate([_spread(part) for part in parts])
            self._clock.sampled(self._maps_s(chunk), *_file_s(chunk[: self._engine.num_classes]))
        return parts

    def window_parts(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Engine.window_parts`; maps are made of several windows, so they are timed with the first slab."""
        parts = self._engine.window_parts(image)
        if self._is_to_sample():
            self._clock.sampled(0.0, *_file_s(_spread(parts[0])))
        return parts

    def _is_to_sample(self) -> bool:
        is_first, self._is_first = self._is_first, False
        return is_first and self._clock.is_sampled

    def _maps_s(self, chunk: np.ndarray) -> float:
        """Seconds that the maps of one voxel take."""
        self._engine.maps(chunk)  # what is set up once is not counted
        return _seconds_of(lambda: self._engine.maps(chunk)) / chunk.shape[1]


def _file_s(logits: np.ndarray) -> tuple[float, float]:
    """Seconds that a voxel takes to compress in a map, for which its log-odds stand in, and in a label volume."""
    found = doubt(logits)
    return _compression_s(found.odds), _compression_s(found.classes)


def _compression_s(values: np.ndarray) -> float:
    data, level = values.tobytes(), compression_level(values.dtype)
    return _seconds_of(lambda: zlib.compress(data, level)) / values.size


def _seconds_of(work: Callable[[], object]) -> float:
    """Time that a sample takes, other programs aside where this computer counts finely enough."""
    is_fine = time.get_clock_info("thread_time").resolution < 1e-4
    clock = time.thread_time if is_fine else time.perf_counter
    begun = clock()
    work()
    return clock() - begun


def _spread(part: np.ndarray, share: float = 1.0) -> np.ndarray:
    """Take some rows of voxels all over an array (channels, *any), a share of it at most: (channels, voxels)."""
    flat = part.reshape(len(part), -1)
    length = min(SAMPLE_VOXELS, int(np.ceil(share * flat.shape[1] / SAMPLES)))
    firsts = np.linspace(0, flat.shape[1] - length, SAMPLES).astype(int)
    return np.concatenate([flat[:, first : first + length] for first in firsts], axis=1)
