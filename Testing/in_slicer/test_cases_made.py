"""Cases made in the panel: a result saved as a case, a folder and a scene segmented, and what was finished taught."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import slicer
from listed_cases import CASES, Listing, judged, segwithu
from opened_module import Opened, alive, hold, sample_volume, segment_crop

A, B, _C = CASES


def _save(listing: Listing, place: Path) -> str:
    """Press the button and choose a folder; what the panel says when the case is saved, or refused."""
    place.mkdir(exist_ok=True)
    listing.app.dialogs.answer(str(place))
    listing.ui.saveCaseButton.click()
    listing.app.wait(lambda: listing.opened.panel.save._saving is None, timeout=120)
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
    assert "Ana rejected" in listing.cell("T1 brain", 3)
    assert ui.startExportButton.text == "Export flagged cases (1)..."
    app.dialogs.answer(str(tmp_path))
    ui.startExportButton.click()
    app.wait(lambda: not listing.panel.exports.process.is_busy, timeout=120)
    (row,) = json.loads((tmp_path / "segwithu-export" / "worklist.json").read_text(encoding="utf-8"))["cases"]
    assert row["case"] == "T1 brain" and "Ana rejected" in row["light"]["reason"]
