"""Rows and jobs of the section *Models*, without Qt."""

import json
import shutil
from pathlib import Path

import pytest

from SegWithUCore.models.installed import find_models
from SegWithUCore.models.model_row import ModelRow
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.paths import resource_path
from SegWithUSlicerLib.run import model_store
from SegWithUSlicerLib.run.model_store import about_lines, cells, installed_rows, list_models, merged_rows


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def tiny_description(folder: Path, **about: str) -> Path:
    """A folder with the description of the shipped model alone, changed."""
    folder.mkdir()
    data = json.loads((resource_path("Models/hippocampus") / "bundle.json").read_text(encoding="utf-8"))
    data["about"] |= about
    (folder / "bundle.json").write_text(json.dumps(data), encoding="utf-8")
    return folder


def a_row(**changes: object) -> ModelRow:
    data = {
        "name": "liver", "version": "1.2.0", "state": "available", "folder": None, "own": False, "size": 40_000_000,
        "task": "Liver.", "calibrated": True, "licence_weights": "CC-BY-NC-4.0", "licence_data": "CC-BY-4.0",
        "commercial_use": False, "note": "", "channels": ["CT"], "offered": True,
    }  # fmt: skip
    return ModelRow.from_json({**data, **changes})


def test_installed_models_are_listed_and_described(models: Path) -> None:
    (models / "broken").mkdir()
    (models / "broken" / "bundle.json").write_text("{", encoding="utf-8")
    rows = {row.name: row for row in installed_rows([resource_path("Models"), models])}
    assert cells(rows["hippocampus"])[1:] == ("installed", cells(rows["hippocampus"])[2], "yes", "CC-BY-SA-4.0")
    assert any("MODEL_CARD.md" in line for line in about_lines(rows["hippocampus"]))
    named = tiny_description(models / "nc", licence_weights="CC-BY-NC-4.0")
    assert cells(next(row for row in installed_rows([models]) if row.folder == named))[-1].endswith("non-commercial")
    assert rows["broken"].state == "damaged" and "broken" in about_lines(rows["broken"])[0]
    assert not rows["broken"].is_installed and rows["broken"].own


def test_a_licence_is_shown_as_it_is_written() -> None:
    assert cells(a_row(licence_weights="Own {terms}"))[-1] == "Own {terms}, non-commercial"
    assert cells(a_row(licence_weights="Own {terms}", commercial_use=True))[-1] == "Own {terms}"


def test_a_model_that_is_being_written_is_not_listed(models: Path) -> None:
    with atomic_folder(models / "liver-1.2.0") as work:
        shutil.copytree(resource_path("Models/hippocampus"), work, dirs_exist_ok=True)
        assert installed_rows([models]) == find_models([models]) == list_models([models]) == []
    assert [row.folder for row in installed_rows([models])] == [models / "liver-1.2.0"]


def test_what_was_not_agreed_to_is_not_agreed_to_in_advance(models: Path) -> None:
    assert "--yes" in model_store.download(a_row()).arguments
    assert model_store.download(a_row(commercial_use=True, state="withdrawn")).arguments[3:] == ("--withdrawn",)
    assert "--yes" not in model_store.download(a_row(commercial_use=True)).arguments


def test_offered_models_are_listed_after_those_that_are_installed(models: Path) -> None:
    old, new = a_row(state="installed", folder="/m"), a_row(version="1.3.0")
    withdrawn = a_row(state="withdrawn", note="Sides are swapped.")
    assert merged_rows([old], [new]) == [old, new]
    (deleted,) = merged_rows([], [a_row(state="installed", folder="/m", own=True)])
    assert (deleted.state, deleted.folder, deleted.own) == ("available", None, False)
    assert merged_rows([], [a_row(state="installed", folder="/m", own=True, offered=False)]) == []
    (marked,) = merged_rows([old], [withdrawn])
    assert (marked.state, marked.note, marked.folder) == ("withdrawn", "Sides are swapped.", old.folder)
    assert "/docs/models/train.md#" in about_lines(old)[-1]
    assert not any(line.startswith("segwithu ") for row in (old, None) for line in about_lines(row))


def test_questions_tell_size_licences_and_what_restricts(models: Path) -> None:
    asked = model_store.download_question(a_row(state="withdrawn", note="Sides are swapped."))
    for words in ("40.0 MB", "CC-BY-NC-4.0", "CC-BY-4.0", "forbid commercial use", "Sides are swapped."):
        assert words in asked
    assert "forbid" not in model_store.download_question(a_row(commercial_use=True))
