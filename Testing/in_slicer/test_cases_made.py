"""Cases made in the panel: a result saved as a case, a folder and a scene segmented, and what was finished taught."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
import slicer
from exchanged_cases import review
from listed_cases import CASES, Listing, segwithu
from opened_module import alive, hold, sample_crop, sample_volume, segment_crop

A, _B, _C = CASES
STRUCTURES = ("anterior hippocampus", "posterior hippocampus")


def _save(listing: Listing, place: Path) -> str:
    """Press the button and choose a folder; what the panel says when the case is saved, or refused."""
    place.mkdir(exist_ok=True)
    listing.app.dialogs.answer(str(place))
    listing.ui.saveCaseButton.click()
    listing.app.wait(lambda: listing.panel.new.saving is None, timeout=120)
    listing.settled()
    return str(listing.ui.saveLabel.text)


def test_from_the_sample_to_the_flagged_export_without_leaving_the_panel(listing: Listing, tmp_path: Path) -> None:
    opened, ui, app = listing.opened, listing.ui, listing.app
    opened.unfold("inputsButton", "overlayButton", "reviewButton")
    opened.segment_sample()
    ui.thresholdSlider.value = 0.3
    listing.reviewing.start("Ana")
    listing.reviewing.judge("rejected")
    places = {str(path) for path in opened.private_folders()}
    assert len(places) == 1, "the files of the result are there to be saved"
    said = _save(listing, tmp_path / "cases")
    case = tmp_path / "cases" / "T1 brain"
    assert said == f"Saved as {case}."
    assert opened.private_folders() == []
    assert (opened.nodes.case_folder, listing.open_case) == (case, "T1 brain")
    assert not (case / "image.nii.gz").exists(), "the file of the sample is referred to"
    assert segwithu("check", case)
    assert not ui.casesButton.collapsed
    assert listing.reviewing.session is not None and listing.reviewing.session.folder == case
    listing.reviewing.judge("accepted")
    lines = (case / "review.Ana.jsonl").read_text(encoding="utf-8")
    assert '"rejected"' in lines and '"accepted"' in lines
    listing.reviewing.panel.end()
    ui.refreshCasesButton.click()
    listing.settled()
    ui.onlyFlaggedBox.checked, ui.exportScopeBox.currentIndex = True, 0
    assert (listing.shown, listing.cell("T1 brain", 2)) == (["T1 brain"], "look at it")
    listing.select("T1 brain")
    assert "Ana rejected" in ui.caseLabel.text
    assert ui.startExportButton.text == "Export flagged cases (1)..."
    app.dialogs.answer(str(tmp_path))
    ui.startExportButton.click()
    app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=120)
    (row,) = json.loads((tmp_path / "segwithu-export" / "worklist.json").read_text(encoding="utf-8"))["cases"]
    assert listing.cell("T1 brain", 3) == row["light"]["reason"] != ""
    assert any("Ana rejected" in flag["message"] for flag in row["flags"])


def test_a_result_is_saved_once_under_a_free_name_and_not_after_its_scene_was_saved(
    listing: Listing, tmp_path: Path
) -> None:
    opened, ui, app = listing.opened, listing.ui, listing.app
    assert not ui.saveCaseButton.enabled
    volume = segment_crop(opened).inputs[0]
    (tmp_path / "cases" / "Crop").mkdir(parents=True)
    volume.SetName("Crop/1")
    assert "Crop/1" in _save(listing, tmp_path / "cases") and ui.saveCaseButton.enabled
    volume.SetName("Crop")
    _save(listing, tmp_path / "cases")
    case = tmp_path / "cases" / "Crop-2"
    assert (opened.nodes.case_folder, ui.saveCaseButton.enabled) == (case, False)
    assert (case / "image.nii.gz").is_file(), "a volume without a file is copied"
    assert str(case) in ui.saveCaseButton.toolTip
    segment_crop(opened, volume)
    assert ui.saveCaseButton.enabled and len(opened.private_folders()) == 1
    app.load_scene(app.save_scene(tmp_path / "saved.mrb"))
    assert opened.private_folders() == []
    assert opened.nodes is not None and not ui.saveCaseButton.enabled
    assert "Apply again" in ui.saveCaseButton.toolTip


def _segment(listing: Listing, button: str, *places: Path) -> None:
    listing.ui.casesButton.collapsed = False
    listing.opened.panel.inputs.choose(None, None, "hippocampus")
    listing.app.dialogs.answer(*map(str, places))
    getattr(listing.ui, button).click()


def _ended(listing: Listing) -> str:
    listing.app.wait(lambda: not listing.panel.new.process.is_busy, timeout=240)
    listing.settled()
    return str(listing.ui.newCasesLabel.text)


@pytest.mark.skipif(not hasattr(shutil.os, "fork"), reason="Windows cannot hold a process")
def test_a_folder_is_segmented_past_a_bad_file_and_goes_on_after_a_cancel(listing: Listing, tmp_path: Path) -> None:
    images, ui, process = tmp_path / "images", listing.ui, listing.panel.new.process
    images.mkdir()
    names = [f"case_{number}" for number in range(8)]  # so many that no computer is done before it is told to stop
    for name in names:
        shutil.copy(listing.home / "images" / f"{A}.nii.gz", images / f"{name}.nii.gz")
    (images / "bad.nii.gz").write_bytes(b"cut")
    _segment(listing, "segmentFolderButton", images, tmp_path / "out")
    pid = hold(process, lambda: re.search(r"[3-9] of 9", ui.newCasesLabel.text) is not None)
    assert (ui.cancelNewCasesButton.visible, ui.segmentFolderButton.enabled) == (True, False)
    ui.cancelNewCasesButton.click()
    assert "goes on" in _ended(listing)
    assert not alive(pid) and not list((tmp_path / "out").glob(".segwithu-*"))
    there = len(listing.shown)
    assert 1 <= there < 8
    _segment(listing, "segmentFolderButton", images, tmp_path / "out")
    said = _ended(listing)
    assert f"Segmented: {8 - there}; there already: {there}; failed: 1." in said and "bad.nii.gz" in said
    assert set(listing.shown) == set(names)
    assert (ui.cancelNewCasesButton.visible, ui.segmentFolderButton.enabled, ui.newCasesBar.visible) == (
        False,
        True,
        False,
    )


def test_the_volumes_of_the_scene_are_segmented_from_their_files_or_copies(listing: Listing, tmp_path: Path) -> None:
    loaded = slicer.util.loadVolume(str(listing.home / "images" / f"{A}.nii.gz"), {"show": False})
    sample_crop("Mine")
    moved = sample_crop("Moved")
    moved.SetAndObserveTransformNodeID(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    slicer.mrmlScene.RemoveNode(sample_volume())
    _segment(listing, "segmentSceneButton", tmp_path / "out")
    said = _ended(listing)
    assert "Moved" in said and "Segmented: 2;" in said
    assert set(listing.shown) == {A, "Mine"} and loaded.GetName() == A
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["Mine.nrrd"]
    listing.click("Mine")
    assert listing.open_case == "Mine"


def test_finished_cases_teach_a_model_which_is_offered(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from SegWithUCore.review.log_format import StructureJudged, Verdict

    models = tmp_path / "models"
    monkeypatch.setenv("SEGWITHU_MODELS", str(models))
    ui, process, cases = listing.ui, listing.panel.new.process, tmp_path / "out"
    for path in sorted((listing.home / "images").iterdir()):  # the model has seen the voxels as they are
        sitk.WriteImage(sitk.ReadImage(str(path), sitk.sitkFloat32) * 3 + 1, str(path))
    _segment(listing, "segmentFolderButton", listing.home / "images", cases)
    _ended(listing)
    assert not ui.teachButton.enabled and ui.teachButton.toolTip
    for name in CASES:
        review(cases / name, "Ana", *(StructureJudged(one, Verdict.ACCEPTED) for one in STRUCTURES))
    ui.refreshCasesButton.click()
    listing.settled()
    assert (ui.teachButton.enabled, ui.teachButton.text) == (True, "Teach with the finished cases (3)")
    ui.teachButton.click()
    hold(process)
    ui.cancelNewCasesButton.click()
    assert "Cancelled" in _ended(listing) and not list(models.iterdir())
    version = listing.opened.panel.inputs.model.version
    ui.teachButton.click()
    said = _ended(listing)
    (made,) = models.iterdir()
    model = listing.opened.panel.inputs.model
    assert (model.name, model.folder) == ("hippocampus", made) and model.version != version
    assert model.version in said
    listing.opened.panel.models_changed()
