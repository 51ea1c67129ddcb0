"""The warm worker knows a model's description again, and notices when it changed."""

import shutil
from pathlib import Path

import pytest
from repository import ROOT

from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.installed import resolve_model
from SegWithUCore.util.errors import InputError
from SegWithUCore.worker import jobs


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models whose description was read and checked."""
    names: list[str] = []

    def resolve(name: str) -> Bundle:
        names.append(name)
        return resolve_model(name)

    monkeypatch.setattr(jobs, "resolve_model", resolve)
    return names


@pytest.fixture
def runner() -> jobs.JobRunner:
    found = object.__new__(jobs.JobRunner)  # without its reading process
    found._described = None
    return found


def test_a_description_is_checked_once_and_again_when_it_changed(
    runner: jobs.JobRunner, checked: list[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(ROOT / "Resources" / "Models" / "hippocampus", tmp_path / "model")
    first = runner._bundle(str(folder))
    assert runner._bundle(str(folder)) is first
    assert len(checked) == 1
    file = folder / "bundle.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"name": "hippocampus"', '"name": "other"', 1), "utf-8")
    assert runner._bundle(str(folder)).name == "other"
    file.write_text("{}", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(InputError):
            runner._bundle(str(folder))
    assert len(checked) == 4


def test_a_model_that_is_named_is_looked_for_each_time(runner: jobs.JobRunner, checked: list[str]) -> None:
    """Another one of that name may have been installed meanwhile."""
    assert [runner._bundle("hippocampus").name for _ in range(2)] == ["hippocampus"] * 2
    assert len(checked) == 2
