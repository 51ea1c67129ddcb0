"""A long job as a list of stages: done once, gone on with, and never again unasked."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from SegWithUCore.util.errors import CancelledError, InputError, OutputError, SegWithUError, UsageError
from SegWithUCore.util.run_lock import run_lock
from SegWithULab.pipeline import Pipeline, TrainingJob
from SegWithULab.training.plan import PlanOptions
from SegWithULab.training.stages import Stage, StageCall, has_left, noted, run_stages

ROOT = Path(__file__).resolve().parents[3]
RECIPES, HEART = ROOT / "Resources" / "Recipes", ROOT / "Testing" / "Benchmarks" / "acdc" / "recipes" / "heart.json"


class Job:
    """Two stages, the second of which reads what the first one writes; counts their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, bool]] = []
        self.settings: dict[str, Any] = {"epochs": 2}
        self.editable, self.stop_in = False, ""

    def work(self, name: str, text: Callable[[], str]) -> Callable[[StageCall], Mapping[str, Any]]:
        def do(call: StageCall) -> Mapping[str, Any]:
            self.calls.append((name, call.again))
            call.progress("working", 0.5, "half")
            if self.stop_in == name:
                raise KeyboardInterrupt
            (self.folder / name).write_text(text())
            return {"made": name}

        return do

    def run(self, redo: bool = False, **options: Any) -> dict[str, dict[str, Any]]:
        first, second = self.folder / "first", self.folder / "second"
        of_first = self.work("first", lambda: str(self.settings))
        settings = {"settings": self.settings}
        stages = [
            Stage("first", of_first, settings, [first], costly=not self.editable, editable=self.editable),
            Stage("second", self.work("second", lambda: first.read_text() + "!"), {"first": first}, [second]),
        ]
        self.calls = []
        return run_stages(self.folder, stages, redo=redo, **options)

    def refused(self, kind: type[SegWithUError], code: str) -> None:
        with pytest.raises(kind) as error:
            self.run()
        assert error.value.code == code


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "job")


def test_stages_that_are_there_are_passed_over(job: Job) -> None:
    facts = job.run()
    assert job.calls == [("first", False), ("second", False)]
    assert facts == {"first": {"made": "first"}, "second": {"made": "second"}} == noted(job.folder)
    assert job.run() == facts
    assert job.calls == []


def test_a_lost_or_changed_output_is_made_again(job: Job) -> None:
    job.run()
    (job.folder / "second").write_text("by hand")
    job.run()
    assert job.calls == [("second", False)]
    (job.folder / "first").unlink()
    job.run()
    assert job.calls == [("first", False)]


def test_what_lies_at_another_output_is_not_taken_for_the_own(job: Job, tmp_path: Path) -> None:
    """The same run with another MODEL: what lies there is somebody else's."""

    def made(target: Path) -> int:
        count = 0

        def work(_: StageCall) -> None:
            nonlocal count
            count += 1
            target.write_text("ours")

        inputs = {"of": "a", "output": str(target.resolve())}
        run_stages(job.folder, [Stage("model", work, inputs, [target], editable=True)])
        return count

    own, other = tmp_path / "own", tmp_path / "other"
    assert made(own) == 1 and has_left(job.folder, "model", own)
    own.write_text("ours, edited")
    assert made(own) == 0 and has_left(job.folder, "model", own)
    other.write_text("theirs")
    assert not has_left(job.folder, "model", other)
    assert made(other) == 1 and other.read_text() == "ours"  # the caller has asked
    assert not has_left(job.folder, "never", own)


def test_ctrl_c_says_what_is_kept_and_the_same_call_goes_on(job: Job) -> None:
    job.stop_in = "second"
    with pytest.raises(CancelledError, match=r"stage 2 of 2 \('second'\).*run the same command to resume"):
        job.run()
    job.stop_in = ""
    job.run()
    assert job.calls == [("second", True)]


def test_a_costly_stage_is_not_made_again_unasked(job: Job) -> None:
    job.run()
    job.settings = {"epochs": 3}
    job.refused(UsageError, "other-recipe")
    job.run(redo=True)
    assert job.calls == [("first", False), ("second", False)]
    (job.folder / "first").write_text("other weights")
    job.refused(UsageError, "other-recipe")


def test_what_people_edit_is_kept_and_what_reads_it_follows(job: Job) -> None:
    job.editable = True
    job.run()
    (job.folder / "first").write_text("edited")
    job.run()
    assert job.calls == [("second", False)]
    assert (job.folder / "second").read_text() == "edited!"
    job.settings = {"epochs": 9}
    job.refused(UsageError, "other-recipe")


def test_other_processes_missing_inputs_and_damage(job: Job, tmp_path: Path) -> None:
    with run_lock(job.folder):
        job.refused(OutputError, "folder-in-use")
    lost = Stage("a", lambda _: None, {"file": tmp_path / "none"}, [])
    with pytest.raises(InputError, match="none is not there, and the stage 'a' needs it"):
        run_stages(tmp_path, [lost])
    idle = Stage("a", lambda _: None, {}, [tmp_path / "none"])
    with pytest.raises(InputError, match="ended without"):
        run_stages(tmp_path, [idle])
    job.folder.mkdir()
    for damaged in ('{"format": 9}', '{"stages": {"first": 3}}', '{"stages": {"first": {"done": true}}}'):
        (job.folder / "stages.json").write_text(damaged)
        job.refused(InputError, "damaged-file")


def test_one_progress_over_all_stages_does_not_go_back(job: Job) -> None:
    told: list[tuple[str, float, str]] = []
    job.run(progress=lambda stage, fraction, detail="": told.append((stage, fraction, detail)))
    assert [share for _, share, _ in told] == [0.0, 0.25, 0.5, 0.75]
    assert told[-1] == ("stage 2 of 2, second: working", 0.75, "half")


@pytest.mark.parametrize(
    ("recipe", "share"),
    [(HEART, (2 - 1) * 6 / 120), (RECIPES / "acdc.json", 0)],
)
def test_the_progress_gives_cross_validation_models_their_own_number_of_epochs(
    recipe: Path, share: float, tmp_path: Path
) -> None:
    training = Pipeline(TrainingJob(tmp_path, tmp_path / "m", tmp_path, PlanOptions("m")), print, print)
    training.recipe_file.parent.mkdir()
    shutil.copy(recipe, training.recipe_file)
    weights = {each.name: each.weight() for each in training.stages() if callable(each.weight)}
    assert weights["folds"] == pytest.approx(share * weights["backbone"])
