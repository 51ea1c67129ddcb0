"""Time and memory of rivals: what is measured is what a job takes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from baseline_cases import toy_backbone, toy_case
from repository import PACKAGES
from segwithu_command import one_thread
from toy_models import registered_toys

from SegWithULab.benchmark import cost
from SegWithULab.benchmark.baselines.base import Baseline, UncertaintyPrediction
from SegWithULab.benchmark.cost import BARE, measured_costs, timed
from SegWithULab.evaluation.frozen_backbone import FrozenBackbone, FrozenCase
from SegWithULab.training.case_reading import AssessedCase
from SegWithULab.training.dataset import Case

MB = 1 << 20
PEAKS = """
import sys
import numpy as np
from SegWithULab.benchmark.cost import peak_mb
from SegWithUCore.util.memory import keep_freed_memory

def job(megabytes):
    first = np.ones(megabytes << 20, np.uint8)
    del first
    return np.ones(megabytes // 2 << 20, np.uint8).sum()

if "kept" in sys.argv:
    assert keep_freed_memory()
print(*(peak_mb(lambda: job(megabytes)) for megabytes in (300, 100)))
"""
"""In a process of its own: holes that other tests left between what they still hold would count as well."""


class Clock:
    """In place of the module `time`: goes on when it is told to."""

    def __init__(self) -> None:
        self.wall = self.cpu = 100.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu

    def compute(self, seconds: float) -> None:
        """Let time pass on the clock and on the processor."""
        self.wall += seconds
        self.cpu += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the measurement takes for time."""
    found = Clock()
    monkeypatch.setattr(cost, "time", found)
    return found


class Busy(Baseline):
    """Computes for a while and holds some memory."""

    def __init__(self, clock: Clock, seconds: float, megabytes: int, backbone: FrozenBackbone | None = None) -> None:
        self.clock, self.seconds, self.megabytes, self.backbone = clock, seconds, megabytes, backbone
        self.name = f"busy-{seconds}"

    @property
    def rows(self) -> tuple[str, ...]:
        return ()

    @property
    def how(self) -> str:
        return "busy"

    def answers(self, case: FrozenCase) -> dict[str, UncertaintyPrediction]:
        if self.backbone is not None:
            self.backbone.of_images(case.name, case.group, case.images, case.truth)
        held = np.ones(self.megabytes * MB, np.uint8)
        held[0] = 1
        self.clock.compute(self.seconds)
        return {}


class OwnPass(Busy):
    """The same around a pass of its own."""

    own_pass = True


def test_waiting_takes_time_by_the_clock_and_no_processor(clock: Clock) -> None:
    def wait() -> str:
        clock.wall += 0.2
        return "done"

    spent, result = timed(wait)
    assert result == "done"
    assert (spent.wall, spent.cpu) == (pytest.approx(0.2), 0)


@pytest.mark.slow
@pytest.mark.serial
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a part of a process")
@pytest.mark.parametrize("memory", ["given back", "kept"])
def test_the_peak_is_what_a_job_holds_at_most_also_after_a_larger_one(memory: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, memory],
        env={"PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=True,
    )
    larger, smaller = (float(peak) for peak in done.stdout.split())
    assert larger == pytest.approx(300 * MB / 1e6, rel=0.1)
    assert smaller == pytest.approx(100 * MB / 1e6, rel=0.1)


@pytest.mark.serial
def test_added_time_leaves_out_the_frozen_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    with registered_toys(), one_thread():
        backbone = toy_backbone(tmp_path / "frozen")
        case = toy_case(backbone)
        plain = FrozenBackbone.of_images

        def slower(self: FrozenBackbone, *arguments: object) -> FrozenCase:
            clock.compute(0.2)
            return plain(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(FrozenBackbone, "of_images", slower)
        monkeypatch.setattr(cost, "read_assessed", lambda _case, _bundle: AssessedCase(case.images, case.truth))
        rivals = [Busy(clock, 0.1, 1), OwnPass(clock, 0.05, 30, backbone)]
        costs = measured_costs(backbone, rivals, [Case(case.name, (), Path())], repeats=3)
    assert costs[BARE]["cpu_s"] == pytest.approx(0.2)
    assert costs["busy-0.1"]["cpu_s"] == pytest.approx(0.1)
    assert costs["busy-0.05"]["cpu_s"] == pytest.approx(0.05)  # its frozen pass of 0.2 s is left out
    assert costs["busy-0.1"]["cpu_share"] == pytest.approx(0.5)
    if sys.platform == "linux":
        assert costs["busy-0.05"]["peak_mb"] == pytest.approx(30 * MB / 1e6, rel=0.2)
        assert costs["busy-0.1"]["peak_mb"] < 10
