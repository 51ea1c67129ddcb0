"""Every setting of a run reaches the engine from each front end; a new field fails here until each one hands it on."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from SegWithUCore import api
from SegWithUCore.cli.__main__ import parser
from SegWithUCore.cli.arguments import setting_words, settings_of
from SegWithUCore.cohort import jobs as cohort_jobs
from SegWithUCore.cohort import one_case
from SegWithUCore.cohort.workers import Setup
from SegWithUCore.inference.case_result import Job
from SegWithUCore.inference.model import Model
from SegWithUCore.inference.settings import DEFAULTS, RunSettings
from SegWithUCore.io.inputs import GivenCase, GivenInput
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.errors import UsageError
from SegWithUCore.worker import jobs as worker_jobs
from SegWithUCore.worker.protocol import Request

CHANGED = RunSettings("paper", "torch", "cpu", (1.0, -2.0, 3.0, 36.0, 50.0, 36.0), True, True, ("hippocampus",))
"""Nothing is as by default."""
NOT_IN_THE_PANEL = {
    "roi": "a node, read when the image is written (test_run_controller.py)",
    "structures": "ticked in the list of the review",
    "unlike_training": "asked for by a second click",
    "include_image": "the image is in Slicer",
}


SAME_RESULT = {"device", "unlike_training", "include_image"}
"""These change no voxel; whether the image lies in the case folder is looked at there."""


def test_every_field_is_changed_here() -> None:
    same = [each.name for each in fields(RunSettings) if getattr(CHANGED, each.name) == getattr(DEFAULTS, each.name)]
    assert not same, f"give these another value in CHANGED: {same}"


class Seen(Exception):  # noqa: N818 - no error: it ends a run as soon as its job is known
    def __init__(self, job: Any) -> None:
        super().__init__()
        self.job = job


def stop(job: Any, *_arguments: Any) -> Any:
    raise Seen(job)


def of_command_line(_monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    call = ["segment", "a.nii.gz", "--roi", "1,-2,3,36,50,36", "--head", "paper", "--engine", "torch"]
    options = parser().parse_args([*call, "--device", "cpu", "--unlike-training", "--include-image",
                                   "--structures", "hippocampus"])  # fmt: skip
    return settings_of(options)


def of_many_in_panel(_monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    assert setting_words(DEFAULTS) == []
    return settings_of(parser().parse_args(["segment", "a.nii.gz", *setting_words(CHANGED)]))


def of_python(monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    monkeypatch.setattr(api, "compute_case", stop)
    model: Any = SimpleNamespace(bundle=resolve_model("hippocampus"))
    with pytest.raises(Seen) as seen:
        api.segment_image([Path("a.nii.gz").absolute()] * 1, model, settings=CHANGED)
    return seen.value.job.settings


def of_worker(monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    monkeypatch.setattr(worker_jobs, "segment", stop)
    monkeypatch.setattr(worker_jobs.JobRunner, "_loaded", lambda *_: None)
    request = Request.of({"request": "segment", "name": "a", "files": ["a"], "target": str(Path("a").absolute()),
                          "settings": asdict(CHANGED)})  # fmt: skip
    with pytest.raises(Seen) as seen:
        worker_jobs.JobRunner().answer(request, lambda *_: None)
    return seen.value.job.settings


def of_cohort(monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    image = Path("a.nii.gz").absolute()
    monkeypatch.setattr(cohort_jobs, "find_input", lambda path: GivenInput([GivenCase("a", path)]))
    asked = cohort_jobs.AskedCases([image], settings=CHANGED)
    (job,), _ = cohort_jobs.jobs_of(asked, image.parent, ["MRI"], print)
    job, setup = pickle.loads(pickle.dumps((job, Setup.of(resolve_model("hippocampus"), CHANGED))))
    assert setup.settings == job.settings
    return job.settings


def of_panel(monkeypatch: pytest.MonkeyPatch) -> RunSettings:
    wrapper = SimpleNamespace(Choice=lambda names: names, parameterNodeWrapper=lambda kind: kind)
    monkeypatch.setitem(sys.modules, "slicer", MagicMock())
    monkeypatch.setitem(sys.modules, "slicer.parameterNodeWrapper", wrapper)
    monkeypatch.delitem(sys.modules, "SegWithUSlicerLib.parameters", raising=False)
    parameters = importlib.import_module("SegWithUSlicerLib.parameters")
    del sys.modules["SegWithUSlicerLib.parameters"]  # nobody else gets the made-up one
    names = {each.name for each in fields(RunSettings)} - NOT_IN_THE_PANEL.keys()
    assert not names - parameters.Parameters.__annotations__.keys(), "the scene keeps the choice"
    chosen = {name: value if isinstance(value := getattr(CHANGED, name), bool) else str(value) for name in names}
    found = parameters.run_settings(SimpleNamespace(**chosen))
    return replace(found, **{name: getattr(CHANGED, name) for name in NOT_IN_THE_PANEL})


@pytest.mark.parametrize("front_end", [of_command_line, of_many_in_panel, of_python, of_worker, of_cohort, of_panel])
def test_a_front_end_hands_on_what_was_chosen(
    front_end: Callable[[pytest.MonkeyPatch], RunSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = front_end(monkeypatch)
    lost = {
        each.name: getattr(found, each.name)
        for each in fields(RunSettings)
        if getattr(found, each.name) != getattr(CHANGED, each.name)
    }
    assert not lost, f"{front_end.__name__} forgets {lost}"


@pytest.mark.parametrize("name", sorted({each.name for each in fields(RunSettings)} - SAME_RESULT))
def test_a_resumed_run_notices_another_setting(name: str) -> None:
    """A case made otherwise would stay, and pass for one of this run."""
    if name in ("head", "engine"):
        pytest.importorskip("torch")
    found = []
    for settings in (DEFAULTS, replace(DEFAULTS, **{name: getattr(CHANGED, name)})):
        model = Model.of(resolve_model("hippocampus"), settings)
        found.append(one_case._settings_of_job(Job("a", [Path("a")], Path("a"), settings), model))
    assert found[0] != found[1]


@pytest.mark.parametrize("wrong", [{"roi": (0, 0, 0, 1, 1, -1)}, {"roi": (0, 0, 0)}])
def test_what_no_run_can_have_is_refused_wherever_it_comes_from(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        RunSettings(**wrong)
    assert caught.value.code == "wrong-usage"
