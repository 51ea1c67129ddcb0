"""The share of a run that is done, and so its time left: on a clock that only the test moves."""

import numpy as np
import pytest

from SegWithUCore.inference.grid_blocks import Piece
from SegWithUCore.inference.run_clock import CHECKING, CLOSING_SHARE, FOLLOWING_SHARE, RunClock

VOXELS = 4_000_000
MAPS = 3 * 4 * VOXELS


class Run:
    """A run of 4 slabs whose parts take fixed times, on a clock of its own."""

    def __init__(
        self, window_s: float, voxel_s: float, byte_s: float, first_s: float = 3.0, crowding: float = 1.0
    ) -> None:
        self.now, self.seen, self.crowding = 100.0, [], crowding
        self.window_s, self.voxel_s, self.byte_s, self.first_s = window_s, voxel_s, byte_s, first_s
        self.clock = RunClock(self.told, lambda: self.now, lambda: 2 * self.now / self.crowding)

    def told(self, stage: str, fraction: float, detail: str = "") -> None:
        self.seen.append((self.now, stage, fraction))

    def go(self) -> None:
        self.clock("reading", 0.0)
        self.now += 4.0
        self.clock.begin_windows(40, VOXELS, MAPS, threads=2)
        for piece in self.clock.timed(self.slabs(), 0, 40):
            self.now += self.voxel_s * VOXELS * piece.values.shape[1] / 40
        self.clock.follow("finding regions")
        self.now += FOLLOWING_SHARE * 4 * VOXELS * self.byte_s
        self.clock.follow("writing")
        for _ in range(50):
            self.now += CHECKING * self.byte_s * MAPS / 50
            self.clock.wrote(MAPS / 50)
        self.now += CLOSING_SHARE * 4 * VOXELS * self.byte_s
        self.clock("done", 1.0)

    def slabs(self):  # type: ignore[no-untyped-def]
        for slab in range(4):
            for window in range(10):
                self.now += self.window_s + (self.first_s if slab == window == 0 else 0.0)
                if slab == window == 0:
                    self.clock.sampled(self.voxel_s / self.crowding, self.byte_s / self.crowding)
                self.clock.window("segmenting", 0.0, f"window {10 * slab + window + 1} of 40")
            yield Piece(10 * slab, np.zeros((1, 10, 1, 1), np.float32))


@pytest.mark.parametrize(
    ("window_s", "voxel_s", "byte_s"), [(1.0, 1e-6, 1e-7), (0.1, 4e-6, 1e-7), (0.1, 1e-7, 1e-6), (5.0, 1e-8, 1e-9)]
)
@pytest.mark.parametrize("crowding", [1.0, 6.0], ids=["alone", "beside other programs"])
def test_time_left_holds_from_the_second_window_on(
    window_s: float, voxel_s: float, byte_s: float, crowding: float
) -> None:
    run = Run(window_s, voxel_s, byte_s, crowding=crowding)
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


def test_a_run_that_begins_anew_on_another_device_does_not_go_back() -> None:
    run = Run(1.0, 1e-6, 1e-7)
    run.clock.begin_windows(40, VOXELS, MAPS)
    for _ in range(20):
        run.now += 1.0
        run.clock.window("segmenting", 0.0)
    run.go()
    fractions = [fraction for *_, fraction in run.seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
