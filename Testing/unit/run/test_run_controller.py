"""The state machine of a run, driven with fakes: every way in which a run can end, and what is left behind."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from SegWithUCore.inference.settings import RunSettings
from SegWithUCore.util.errors import InputError, code_of
from SegWithUCore.worker.protocol import Request
from SegWithUSlicerLib.run.controller import Outcome, Phase, RunController, RunRequest, RunStatus, RunTools
from SegWithUSlicerLib.run.install import InstallOutcome, InstallResult

OWN_TO_WORLD = ((1.0, 0.0, 0.0, 5.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class FakeWorker:
    """Keeps what was asked; the test answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[Mapping[str, Any], Callable[[Mapping[str, Any]], None]]] = []
        self.cancelled: list[int] = []
        self.all_cancelled = 0
        self.is_lost = False

    def submit(self, request: Mapping[str, Any], on_event: Callable[[Mapping[str, Any]], None]) -> int:
        self.asked.append((request, on_event))
        return len(self.asked)

    def cancel(self, run_id: int) -> None:
        self.cancelled.append(run_id)

    def cancel_all(self) -> None:
        self.all_cancelled += 1

    def will_answer(self, run_id: int | None) -> bool:
        return not self.is_lost

    def say(self, **event: Any) -> None:
        self.asked[-1][1](event)


class FakeFolder:
    """A folder that knows whether it was removed."""

    def __init__(self) -> None:
        self.path = Path("/private")
        self.removed = 0
        self.sticks = False

    def remove(self) -> bool:
        self.removed += 1
        return not self.sticks


class FakeNodes(str):
    """Nodes of a case that has a light."""

    case = SimpleNamespace(raw={"light": {"level": "look at it", "reason": "Much is wrong."}})


class Bench:
    """A controller with everything around it faked."""

    def __init__(self) -> None:
        self.worker, self.folder = FakeWorker(), FakeFolder()
        self.statuses: list[RunStatus] = []
        self.loaded: list[Any] = []
        self.log: list[str] = []
        self.present = self.unchanged = True
        self.export_error: Exception | None = None
        self.load_error: Exception | None = None
        self.ready: Callable[[InstallResult], None] | None = None
        self.lost = 0
        self.kept: list[tuple[Any, FakeFolder]] = []
        self.keeps = False
        self.controller = RunController(self.worker, self._tools())
        self.controller.on_status, self.controller.on_loaded = self._status, self._shown

    def _tools(self) -> RunTools:
        return RunTools(
            prepare=lambda request, on_result: setattr(self, "ready", on_result),
            new_folder=lambda: self.folder,
            export=self._export,
            in_scene=lambda exported: self.present,
            unchanged=lambda exported: self.unchanged,
            load=self._load,
            engine_lost=lambda: setattr(self, "lost", self.lost + 1),
            keep=self._keep,
        )

    def _keep(self, nodes: Any, folder: FakeFolder) -> bool:
        self.kept.append((nodes, folder))
        return self.keeps

    def _status(self, status: RunStatus) -> None:
        self.statuses.append(status)
        self.log.append(f"{status.phase.value} {status.outcome.value} {len(status.warnings)}")

    def _shown(self, nodes: Any) -> None:
        self.loaded.append(nodes)
        self.log.append("shown")

    def _export(self, volume: Any, path: Path, roi: Any) -> Any:
        if self.export_error is not None:
            raise self.export_error
        return SimpleNamespace(path=path, name=str(volume), roi_ras=roi, own_to_world_ras=OWN_TO_WORLD)

    def fail_at(self, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception) -> None:
        """Let one step of the run raise."""

        def fail(*_arguments: Any) -> Any:
            raise error

        if step in ("on_status", "on_loaded"):
            setattr(self.controller, step, fail)
        elif step == "submit":
            monkeypatch.setattr(self.worker, "submit", fail)
        elif step == "remove":
            monkeypatch.setattr(self.folder, "remove", fail)
        else:
            self.controller._tools = replace(self.controller._tools, **{step: fail})

    def _load(self, folder: Path, request: RunRequest) -> FakeNodes:
        if self.load_error is not None:
            raise self.load_error
        return FakeNodes(f"nodes of {folder}")

    def start(self, ready: bool = True, **request: Any) -> None:
        """Click, and let the engine be ready."""
        self.controller.start(RunRequest(**{"volumes": ["T1"], "model": Path("/model"), **request}))
        if ready:
            assert self.ready is not None
            self.ready(InstallResult(InstallOutcome.READY, ""))

    @property
    def status(self) -> RunStatus:
        return self.controller.status


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_run_from_click_to_nodes(bench: Bench) -> None:
    bench.start(ready=False)
    assert (bench.status.phase, bench.worker.asked) == (Phase.CHECKING, [])
    bench.ready(InstallResult(InstallOutcome.READY, ""))
    request = bench.worker.asked[0][0]
    assert request["request"] == "segment"
    assert (request["files"], request["target"]) == (["/private/channel_0.nrrd"], "/private/case")
    assert (request["model"], RunSettings(**request["settings"])) == ("/model", RunSettings())
    bench.worker.say(event="progress", stage="segmenting", fraction=0.4, seconds_left=3)
    assert (bench.status.stage, bench.status.fraction, bench.status.seconds_left) == ("segmenting", 0.4, 3)
    bench.worker.say(event="result", case="/private/case", warnings=[], seconds=5.0, device="cpu")
    assert (bench.status.phase, bench.status.outcome, bench.loaded) == (
        Phase.IDLE,
        Outcome.DONE,
        ["nodes of /private/case"],
    )
    assert bench.folder.removed == 1
    assert bench.kept == [(bench.loaded[0], bench.folder)]
    assert bench.controller.nodes == bench.loaded[0]
    assert not bench.controller.is_busy


def test_region_and_further_channels_reach_the_worker(bench: Bench) -> None:
    bench.start(volumes=["T1", "T2"], roi=(1.0, 2.0, 3.0, 36.0, 50.0, 36.0), settings=RunSettings(device="cpu"))
    request = bench.worker.asked[0][0]
    assert request["files"] == ["/private/channel_0.nrrd", "/private/channel_1.nrrd"]
    roi = (1.0, 2.0, 3.0, 36.0, 50.0, 36.0)
    assert RunSettings(**request["settings"]) == RunSettings(device="cpu", roi=roi)
    assert request["own_to_world_ras"] == [number for row in OWN_TO_WORLD for number in row]


def test_warning_stands_before_anything_is_shown(bench: Bench) -> None:
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[{"severity": "warning", "message": "too large"}])
    assert bench.log.index("running none 1") < bench.log.index("shown")
    assert bench.status.warnings == ("too large",)
    reason = FakeNodes.case.raw["light"]["reason"]
    assert reason in bench.status.message
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[{"severity": "warning", "message": reason}])
    assert bench.status.warnings == (reason,) and reason not in bench.status.message, "twice"


def test_a_mask_goes_with_what_its_segments_stand_for_and_messages_name_it(bench: Bench) -> None:
    def export_mask(mask: Any, _volume: Any, parent: Path) -> dict[Path, str]:
        return {parent / mask: mask, parent / mask / "left.nrrd": f"{mask} (left)"}

    bench.controller._tools = replace(bench.controller._tools, export_mask=export_mask)
    bench.start(mask="Reader A", labels={"left": "left hippocampus", "empty": "right hippocampus"})
    request = bench.worker.asked[-1][0]
    assert Request.of(request).labels == {"left": "left hippocampus"}
    text = f"{request['mask']} and {Path(request['mask']) / 'left.nrrd'} do not fit {request['files'][0]}"
    bench.worker.say(event="error", kind="input", text=text)
    assert bench.status.message == "Reader A and Reader A (left) do not fit T1"
    bench.start(mask="Reader A", labels={"empty": "left hippocampus"})
    assert (bench.status.outcome, code_of(bench.status.message)) == (Outcome.FAILED, "empty-mask")


def test_refusal_keeps_the_request_for_a_user_who_insists(bench: Bench) -> None:
    bench.start()
    bench.worker.say(event="error", kind="input", text="spans 182 mm", refused=True)
    assert (bench.status.outcome, bench.status.warnings) == (Outcome.REFUSED, ("spans 182 mm",))
    assert bench.folder.removed == 1


def test_refusal_keeps_all_warnings_and_their_kinds_without_notes(bench: Bench) -> None:
    found = [
        {"severity": "refused", "message": "spans 182 mm", "kind": "field of view"},
        {"severity": "warning", "message": "voxels are 3 mm", "kind": "spacing"},
        {"severity": "note", "message": "smooth", "kind": "noise"},
    ]
    for warnings, refusal in ((found, {"field of view", "spacing"}), (found[:1], {"field of view"})):
        bench.start()
        bench.worker.say(event="error", kind="input", text="spans 182 mm", refused=True, warnings=warnings)
        assert bench.status.outcome is Outcome.REFUSED
        assert bench.status.warnings == ("spans 182 mm", "voxels are 3 mm")[: len(refusal)]
        assert bench.status.refusal == refusal


def test_cancel_waits_until_no_process_works(bench: Bench) -> None:
    bench.start()
    bench.controller.cancel()
    assert (bench.status.phase, bench.worker.cancelled, bench.folder.removed) == (Phase.CANCELLING, [1], 0)
    bench.worker.say(event="result", case="/c", warnings=[])  # its last words
    assert bench.loaded == []
    bench.controller.cancel()  # a second click changes nothing
    bench.worker.say(event="cancelled")
    assert (bench.status.phase, bench.status.outcome) == (Phase.IDLE, Outcome.CANCELLED)
    assert "press Apply" in bench.status.message
    assert (bench.worker.cancelled, bench.folder.removed, bench.loaded) == ([1], 1, [])


def test_cancel_while_the_engine_is_checked(bench: Bench) -> None:
    bench.start(ready=False)
    bench.controller.cancel()
    assert bench.worker.all_cancelled == 1
    bench.ready(InstallResult(InstallOutcome.DECLINED, "the check was cancelled"))
    assert bench.status.outcome is Outcome.CANCELLED
    assert bench.worker.asked == []


def test_why_a_better_engine_is_not_used_stands_behind_the_result(bench: Bench) -> None:
    bench.start(ready=False)
    assert bench.ready is not None
    bench.ready(InstallResult(InstallOutcome.READY, "ready", remark="openvino cannot be used (it is broken)."))
    bench.worker.say(event="result", case="/c", warnings=[])
    assert bench.status.message.endswith("openvino cannot be used (it is broken).")


def test_removed_input_cancels_and_says_so(bench: Bench) -> None:
    bench.start()
    bench.controller.check_inputs()
    assert bench.status.phase is Phase.RUNNING
    bench.present = False
    bench.controller.check_inputs()
    bench.worker.say(event="cancelled")
    assert "image was removed" in bench.status.message
    assert bench.folder.removed == 1


def test_result_of_a_changed_image_is_not_shown(bench: Bench) -> None:
    bench.start()
    bench.unchanged = False
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.status.outcome, bench.loaded, bench.folder.removed) == (Outcome.OUTDATED, [], 1)
    assert "press Apply again" in bench.status.message


def test_crash_is_told_with_its_reason_and_the_next_run_works(bench: Bench) -> None:
    bench.start()
    bench.worker.say(event="error", kind="crashed", text="ended (signal SIGKILL)", details="last words")
    assert (bench.status.outcome, bench.status.message) == (Outcome.FAILED, "ended (signal SIGKILL)")
    assert bench.status.details == "last words"
    assert bench.folder.removed == 1
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert bench.status.outcome is Outcome.DONE


def test_missing_package_makes_the_next_run_look_again(bench: Bench) -> None:
    bench.start()
    bench.worker.say(event="error", kind="missing", text="monai cannot be imported")
    assert (bench.lost, bench.status.outcome) == (1, Outcome.FAILED)


@pytest.mark.parametrize(
    ("result", "outcome"), [(InstallOutcome.DECLINED, Outcome.DECLINED), (InstallOutcome.FAILED, Outcome.FAILED)]
)
def test_engine_that_is_not_there_ends_the_run(bench: Bench, result: InstallOutcome, outcome: Outcome) -> None:
    bench.start(ready=False)
    bench.ready(InstallResult(result, "press Apply again"))
    assert (bench.status.outcome, bench.status.message) == (outcome, "press Apply again")
    assert (bench.worker.asked, bench.folder.removed) == ([], 0)


@pytest.mark.parametrize("error", [InputError("the region lies outside"), OSError(28, "No space left on device")])
def test_image_that_cannot_be_written_ends_the_run(bench: Bench, error: Exception) -> None:
    bench.export_error = error
    bench.start()
    assert bench.status.outcome is Outcome.FAILED
    assert ("outside" in bench.status.message) or ("No space left" in bench.status.message)
    assert (bench.folder.removed, bench.controller.is_busy) == (1, False)


def test_damaged_result_ends_the_run(bench: Bench) -> None:
    bench.load_error = InputError("the case folder is damaged")
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.status.outcome, bench.loaded, bench.folder.removed) == (Outcome.FAILED, [], 1)


def test_a_folder_that_is_kept_is_not_removed_by_the_run_and_a_bad_result_is_not_kept(bench: Bench) -> None:
    bench.keeps = True
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.status.outcome, len(bench.kept), bench.folder.removed) == (Outcome.DONE, 1, 0)
    bench.unchanged = False
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.status.outcome, len(bench.kept), bench.folder.removed) == (Outcome.OUTDATED, 1, 1)


def test_folder_that_cannot_be_removed_is_told(bench: Bench) -> None:
    bench.folder.sticks = True
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert "next start removes it" in bench.status.details


def test_second_run_while_one_is_going_on_is_refused(bench: Bench) -> None:
    bench.start()
    with pytest.raises(RuntimeError, match="going on"):
        bench.start()


def test_quitting_removes_the_folder_and_says_nothing(bench: Bench) -> None:
    bench.start()
    said = len(bench.statuses)
    bench.controller.drop_run()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.folder.removed, len(bench.statuses), bench.loaded) == (1, said, [])


STEPS = ("prepare", "new_folder", "export", "submit", "unchanged", "load", "on_loaded")


@pytest.mark.parametrize("error", [RuntimeError("no colour node"), MemoryError(), AttributeError("SetX")], ids=repr)
@pytest.mark.parametrize("step", STEPS)
def test_any_exception_at_any_step_ends_the_run_and_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    tools = bench.controller._tools
    bench.fail_at(monkeypatch, step, error)
    bench.start(ready=step != "prepare")
    if bench.worker.asked:
        bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.controller.is_busy, bench.status.phase) == (False, Phase.IDLE)
    assert bench.status.outcome is Outcome.FAILED
    assert type(error).__name__ in bench.status.message
    assert "Copy diagnostics" in bench.status.message
    assert "test_run_controller.py" in bench.status.details
    assert bench.folder.removed == (0 if step in ("prepare", "new_folder") else 1)
    monkeypatch.undo()
    bench.controller._tools, bench.controller.on_loaded = tools, bench._shown
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert bench.status.outcome is Outcome.DONE


def test_panel_that_cannot_be_drawn_does_not_stop_a_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fail_at(monkeypatch, "on_status", RuntimeError("no label"))
    bench.start()
    bench.worker.say(event="progress", stage="segmenting", fraction=0.4)
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.status.outcome, len(bench.loaded)) == (Outcome.DONE, 1)


def test_folder_whose_removal_raises_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fail_at(monkeypatch, "remove", OSError(5, "Input/output error"))
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert (bench.controller.is_busy, bench.status.outcome) == (False, Outcome.DONE)
    assert "next start removes it" in bench.status.details


@pytest.mark.parametrize("ready", [True, False])
def test_cancel_ends_a_run_that_nobody_works_on(bench: Bench, ready: bool) -> None:
    bench.start(ready=ready)
    bench.worker.is_lost = True
    bench.controller.cancel()
    assert (bench.controller.is_busy, bench.status.outcome) == (False, Outcome.CANCELLED)


def test_details_name_no_file_of_the_user(bench: Bench) -> None:
    bench.load_error = OSError(13, "Permission denied", "/home/someone/Meier, Anna.nrrd")
    bench.start()
    bench.worker.say(event="result", case="/c", warnings=[])
    assert "Permission denied" in bench.status.message
    assert "Anna" not in bench.status.message + bench.status.details
