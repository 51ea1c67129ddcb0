"""How far a run is, as the share of the time that it takes: so the time left follows from the share that is done.

Windows and maps are timed as they come; what only follows (regions, files) by a sample of the first window.
"""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..imaging.plane_writer import FLOAT_LEVEL
from ..progress import Progress
from .engines.base import Engine
from .grid_blocks import Piece

SAMPLED_FROM = 1 << 20
"""Voxels of the maps: with fewer the sample would take a share of the run, and `BYTE_S` is taken."""
BYTE_S = 2e-8
"""Seconds that compressing a byte of a map takes (measured)."""
SAMPLE_VOXELS = 32768
"""Of the first window, whose maps are made and compressed to see how long that takes."""
FOLLOWING_SHARE = 0.5
"""What regions and metrics take, of the time in which one map is compressed (measured)."""
CLOSING_SHARE = 1.5
"""What histograms, hashes and the preview take after the last file, in the same unit (measured)."""
CHECKING = 1.4
"""Time to write files and to read them again, in units of compressing them (measured)."""
FIRST_WINDOWS = 0.03
LAST = 0.9999
"""Shares before any window but the first was timed, and before all is done."""

Clock = Callable[[], float]


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
        self._shown = 0.0
        self._windows, self._voxels, self._bytes = 0, 0, 0.0
        self._done, self._mapped, self._written = 0, 0.0, 0.0
        self._swept_s, self._first_s, self._maps_s = 0.0, 0.0, 0.0
        self._map_s, self._byte_s = 0.0, BYTE_S
        self._sweep_at = self._write_at = 0.0
        self._crowded = 1.0

    def __call__(self, stage: str, fraction: float, detail: str = "") -> None:
        """Tell of a stage that is not timed."""
        self._tell(stage, fraction, detail)

    def begin_windows(self, windows: int, voxels: int, written_bytes: float, threads: int = 0) -> None:
        """Begin with the windows.

        Args:
            windows: how many there are.
            voxels: of the maps.
            written_bytes: of the files that follow; as `wrote` is told.
            threads: that compute the windows on this computer's processor; 0 where another device does.
        """
        self._threads, self._processor_at = threads, self._processor()
        self._windows, self._voxels, self._bytes = windows, voxels, written_bytes
        self._done, self._mapped, self._maps_s = 0, 0.0, 0.0
        self._sweep_at = self._clock()

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

    def sampled(self, map_s: float, byte_s: float) -> None:
        """Take in what the maps of a voxel take, and compressing a byte of them."""
        self._map_s, self._byte_s = map_s, byte_s

    def follow(self, stage: str, detail: str = "") -> None:
        """Tell of a stage after the windows."""
        self._mapped, self._done = 1.0, self._windows
        self._write_at = self._clock()
        self._tell(stage, self._share(), detail)

    def wrote(self, size: float) -> None:
        """Tell that so many bytes more are written."""
        self._written += size
        self._tell("writing", self._share())

    def _share(self) -> float:
        """Of the time that the run will have taken."""
        passed = self._clock() - self._begun
        window_s = (self._swept_s - self._first_s) / max(1, self._done - 1)
        left = (self._windows - self._done) * window_s + self._maps_left()
        left += self._writing_left()
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
            return self._maps_s / self._mapped * max(0.0, 1 - self._mapped)
        return self._map_s * self._voxels * self._crowding()

    def _writing_left(self) -> float:
        map_s = 4 * self._byte_s * self._voxels * self._crowding()
        closing = CLOSING_SHARE * map_s if self._bytes else 0.0
        if self._written > 0.02 * self._bytes:
            pace = (self._clock() - self._write_at) / self._written
            return pace * max(0.0, self._bytes - self._written) + closing
        following = 0.0 if self._written else FOLLOWING_SHARE * map_s
        files = CHECKING * self._byte_s * (self._bytes - self._written) * self._crowding()
        return files + following + closing

    def _tell(self, stage: str, fraction: float, detail: str = "") -> None:
        self._shown = max(self._shown, min(fraction, 1.0 if stage == "done" else LAST))
        self._progress(stage, self._shown, detail)


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
            self._clock.sampled(self._map_s(parts), self._byte_s(parts[0]))
        return parts

    def window_parts(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Engine.window_parts`; maps are made of several windows, so they are timed with the first slab."""
        parts = self._engine.window_parts(image)
        if self._is_to_sample():
            self._clock.sampled(0.0, self._byte_s(parts[0]))
        return parts

    def _is_to_sample(self) -> bool:
        is_first, self._is_first = self._is_first, False
        return is_first and self._clock.is_sampled

    def _map_s(self, parts: Sequence[np.ndarray]) -> float:
        """Seconds that the maps of one voxel take."""
        chunk = np.concatenate([_middle(part) for part in parts])
        self._engine.maps(chunk)  # what is set up once is not counted
        return _seconds_of(lambda: self._engine.maps(chunk)) / chunk.shape[1]

    def _byte_s(self, logits: np.ndarray) -> float:
        """Seconds that compressing one byte of a map takes."""
        data = np.ascontiguousarray(_middle(logits)[0]).tobytes()
        return _seconds_of(lambda: zlib.compress(data, FLOAT_LEVEL)) / len(data)


def _seconds_of(work: Callable[[], object]) -> float:
    """Time that a sample takes, other programs aside where this computer counts finely enough."""
    is_fine = time.get_clock_info("thread_time").resolution < 1e-4
    clock = time.thread_time if is_fine else time.perf_counter
    begun = clock()
    work()
    return clock() - begun


def _middle(part: np.ndarray) -> np.ndarray:
    """Take some voxels of a window, (channels, voxels)."""
    flat = part.reshape(len(part), -1)
    first = max(0, flat.shape[1] // 2 - SAMPLE_VOXELS // 2)
    return flat[:, first : first + SAMPLE_VOXELS]
