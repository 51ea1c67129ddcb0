"""Time of baselines: what is measured is what a job takes."""

from pathlib import Path

import pytest
from baseline_cases import toy_backbone, toy_case
from baselines import benchmark
from baselines.base import Baseline, UncertaintyPrediction
from baselines.benchmark import BARE, measured_costs
from baselines.frozen_backbone import FrozenBackbone, FrozenCase
from segwithu_command import one_thread
from toy_models import registered_toys

from SegWithULab.training.case_reading import AssessedCase
from SegWithULab.training.dataset import Case


class Clock:
    """In place of the module `time`: goes on when it is told to."""

    def __init__(self) -> None:
        self.cpu = 100.0

    def process_time(self) -> float:
        return self.cpu

    def compute(self, seconds: float) -> None:
        """Let time pass on the processor."""
        self.cpu += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the measurement takes for time."""
    found = Clock()
    monkeypatch.setattr(benchmark, "time", found)
    return found


class Busy(Baseline):
    """Computes for a while."""

    def __init__(self, clock: Clock, seconds: float, backbone: FrozenBackbone | None = None) -> None:
        self.clock, self.seconds, self.backbone = clock, seconds, backbone
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
        self.clock.compute(self.seconds)
        return {}


class OwnPass(Busy):
    """The same around a pass of its own."""

    own_pass = True


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
        monkeypatch.setattr(benchmark, "read_assessed", lambda _case, _bundle: AssessedCase(case.images, case.truth))
        baselines = [Busy(clock, 0.1), OwnPass(clock, 0.05, backbone)]
        costs = measured_costs(backbone, baselines, [Case(case.name, (), Path())], repeats=3)
    assert costs[BARE]["cpu_s"] == pytest.approx(0.2)
    assert costs["busy-0.1"]["cpu_s"] == pytest.approx(0.1)
    assert costs["busy-0.05"]["cpu_s"] == pytest.approx(0.05)  # its frozen pass of 0.2 s is left out
    assert costs["busy-0.1"]["cpu_share"] == pytest.approx(0.5)
