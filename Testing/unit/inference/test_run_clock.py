"""The share of a run that is done, and so its time left: on a clock that only the test moves."""

from dataclasses import astuple, dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from SegWithUCore.inference import run_clock
from SegWithUCore.inference.grid_blocks import Piece
from SegWithUCore.inference.run_clock import (
    CHECKING,
    CLOSING_S,
    CLOSING_VOXEL_S,
    LABELS,
    REFINED_VOXEL_S,
    REGIONS_VOXEL_S,
    FilesToWrite,
    RunClock,
)

VOXELS = 4_000_000
FIRST_S = 3.0
VOLUMES = ("classes", "error_probability", "ranking", "calibration", "runner_up", "model_percentile")
FILES = FilesToWrite({f"{name}.nii.gz": name for name in VOLUMES}, VOXELS)


@dataclass(frozen=True)
class VoxelSeconds:
    """Seconds that the maps of a voxel take, and compressing it in a map and in a label volume."""

    maps: float
    map_file: float
    label_file: float


class Run:
    """A run of 4 slabs whose parts take fixed times, on a clock of its own."""

    def __init__(self, window_s: float, each: VoxelSeconds, files: float = 1.0, crowding: float = 1.0) -> None:
        self.now, self.seen, self.crowding = 100.0, [], crowding
        self.window_s, self.each, self.files, self.doubtful = window_s, each, files, []
        self.clock = RunClock(self.told, lambda: self.now, lambda: 2 * self.now / self.crowding)

    def told(self, stage: str, fraction: float, detail: str = "") -> None:
        self.seen.append((self.now, stage, fraction))

    def go(self) -> None:
        self.clock("reading", 0.0)
        self.now += 4.0
        self.clock.begin_windows(40, VOXELS, FILES, threads=2)
        self.clock.count_doubt(self.doubtful)
        for piece in self.clock.timed(self.slabs(), 0, 40):
            self.now += self.each.maps * VOXELS * piece.values.shape[1] / 40
            self.doubtful += [None] * (VOXELS // 400)
        self.now += REFINED_VOXEL_S * len(self.doubtful) * self.crowding
        self.clock.follow("finding regions")
        self.now += REGIONS_VOXEL_S * VOXELS * self.crowding
        self.clock.follow("writing")
        for file, name in FILES.volumes.items():
            voxel_s = self.each.label_file if name in LABELS else self.each.map_file
            for _ in range(20):
                self.now += self.files * CHECKING * voxel_s * VOXELS / 20
                self.clock.wrote(file, VOXELS // 20)
        self.now += (CLOSING_VOXEL_S * VOXELS + CLOSING_S) * self.crowding
        self.clock("done", 1.0)

    def slabs(self):  # type: ignore[no-untyped-def]
        for slab in range(4):
            for window in range(10):
                self.now += self.window_s + (FIRST_S if slab == window == 0 else 0.0)
                if slab == window == 0:
                    self.clock.sampled(*(seconds / self.crowding for seconds in astuple(self.each)))
                self.clock.window("segmenting", 0.0, f"window {10 * slab + window + 1} of 40")
            yield Piece(10 * slab, np.zeros((1, 10, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("window_s", "each"),
    [
        (1.0, VoxelSeconds(1e-6, 4e-7, 1e-7)),
        (0.1, VoxelSeconds(4e-6, 4e-7, 1e-8)),
        (0.1, VoxelSeconds(1e-7, 4e-6, 4e-6)),
        (5.0, VoxelSeconds(1e-8, 4e-9, 4e-9)),
    ],
)
@pytest.mark.parametrize("crowding", [1.0, 6.0], ids=["alone", "beside other programs"])
def test_time_left_holds_from_the_second_window_on(window_s: float, each: VoxelSeconds, crowding: float) -> None:
    run = Run(window_s, each, crowding=crowding)
    run.go()
    end, stage, last = run.seen[-1]
    assert (stage, last) == ("done", 1.0)
    fractions = [fraction for *_, fraction in run.seen]
    assert fractions == sorted(fractions)
    from_second = [seen for seen in run.seen if seen[1] == "segmenting"][1:]
    following = [seen for seen in run.seen if seen[1] in ("finding regions", "writing")]
    for now, stage, fraction in [*from_second, *following]:
        left = (now - 100.0) * (1 - fraction) / fraction  # as `progress.seconds_left`
        assert left == pytest.approx(end - now, rel=0.2, abs=0.3), (stage, now)


def test_files_that_take_longer_than_foreseen_set_the_pace() -> None:
    run = Run(0.1, VoxelSeconds(1e-7, 4e-7, 1e-7), files=5.0)
    run.go()
    end = run.seen[-1][0]
    writing = [(now, fraction) for now, stage, fraction in run.seen if stage == "writing"]
    for now, fraction in writing[len(writing) // 2 :]:
        assert (now - 100.0) * (1 - fraction) / fraction == pytest.approx(end - now, rel=0.2, abs=0.6), now


def test_a_run_that_begins_anew_on_another_device_does_not_go_back() -> None:
    run = Run(1.0, VoxelSeconds(1e-6, 4e-7, 1e-7))
    run.clock.begin_windows(40, VOXELS, FILES)
    for _ in range(20):
        run.now += 1.0
        run.clock.window("segmenting", 0.0)
    run.go()
    fractions = [fraction for *_, fraction in run.seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_maps_that_were_made_tell_what_their_files_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that is the same everywhere takes next to nothing; a clock would count it as the others otherwise."""
    monkeypatch.setattr(run_clock, "_seconds_of", lambda work: len(work()) * 1e-7)  # a clock of bytes
    noise = np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)
    flat = np.zeros((4, 64, 64), np.uint8)
    told: list[float] = []
    clock = RunClock(lambda stage, fraction, detail="": told.append(fraction), lambda: 0.0, lambda: 0.0)
    files = FilesToWrite({"ranking.nii.gz": "ranking", "calibration.nii.gz": "calibration"}, VOXELS)
    clock.begin_windows(40, VOXELS, files)
    clock.saw(SimpleNamespace(ranking=noise, calibration=np.zeros_like(noise), model_percentile=flat))
    assert clock.file_voxel_s("ranking.nii.gz") > 20 * clock.file_voxel_s("calibration.nii.gz")
