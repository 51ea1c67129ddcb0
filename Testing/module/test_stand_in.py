"""The panel without Slicer: opened, Apply, the threshold, an export. `in_slicer` tests the rest in Slicer itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import slicer
from mrml_headless import load_volume
from repository import ROOT, TESTING
from stand_in.application import StandIn, opened_module

from SegWithUCore.case.structures_table import table_entries

MODULE = ROOT / "SegWithUSlicer" / "SegWithUSlicer.py"
IMAGE = TESTING / "data" / "hippocampus" / "images" / "hippocampus_075.nii.gz"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The module, opened once."""
    with opened_module(MODULE, tmp_path_factory.mktemp("slicer")) as found:
        yield found


@pytest.fixture(scope="module")
def segmented(opened: StandIn) -> StandIn:
    """The module with a result."""
    volume = load_volume(slicer.mrmlScene, IMAGE, "Hippocampus")
    slicer.util.setSliceViewerLayers(background=volume)
    opened.widget.panel.inputs.choose(volume, None, "hippocampus")
    slicer.app.settings().setValue("SegWithU/Licences", "hippocampus CC-BY-SA-4.0")
    opened.ui.runButton.click()
    opened.wait(lambda: not opened.widget.panel.session.controller.is_busy)
    return opened


def test_the_module_opens_with_every_section_of_its_panel(opened: StandIn) -> None:
    assert opened.widget.described.title
    for name in ("inputsButton", "overlayButton", "reviewButton", "casesButton", "modelsButton", "advancedButton"):
        assert opened.ui.__dict__[name].inherits("ctkCollapsibleButton"), name
    assert opened.ui.modelBox.count >= 1
    assert not opened.ui.runButton.enabled


def test_apply_shows_a_result(segmented: StandIn) -> None:
    panel = segmented.widget.panel
    assert panel.session.controller.status.outcome.value == "done", panel.session.controller.status.message
    assert segmented.ui.structuresTable.rowCount == len(table_entries(panel.overlay.nodes.case.raw)) > 0
    shown = {view.composite.GetForegroundVolumeID() for view in segmented.views.values()}
    assert shown == {panel.overlay.nodes.maps["error_probability"].GetID()}


def test_the_threshold_cuts_the_shown_map(segmented: StandIn) -> None:
    slider, text = segmented.ui.thresholdSlider, segmented.ui.readoutLabel.text
    slider.value = slider.minimum + 0.8 * (slider.maximum - slider.minimum)
    display = segmented.widget.panel.overlay.nodes.maps["error_probability"].GetDisplayNode()
    assert np.isclose(display.GetLowerThreshold(), slider.value, atol=1e-6)
    assert segmented.ui.readoutLabel.text != text


def test_cases_are_exported(opened: StandIn, segmented_cases: Path, tmp_path: Path) -> None:
    cases, exports = opened.widget.panel.cases, opened.widget.panel.cases.exports
    cases.open_list(segmented_cases)
    opened.wait(lambda: not cases._stop_reading)
    opened.ui.exportScopeBox.currentIndex = 1  # not the flagged ones only
    opened.answer(str(tmp_path))
    opened.ui.startExportButton.click()
    opened.wait(lambda: not exports.process.is_busy)
    (sent,) = tmp_path.iterdir()
    listed = json.loads((sent / "worklist.json").read_text(encoding="utf-8"))["cases"]
    assert len(listed) == opened.ui.casesTable.rowCount == 3
