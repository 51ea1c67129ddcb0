"""What the panel shows and hides: sections in a review, details on demand, boxes, and the threshold of each map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import qt
import slicer
from opened_module import Opened, segment_crop
from real_slicer import WINDOW_PX
from reviewing import Reviewing

SECTIONS = ("inputsButton", "overlayButton", "advancedButton", "casesButton", "modelsButton")
INNER = ("editButton", "reviewMoreButton", "exportButton")


@pytest.fixture(autouse=True)
def folded_as_before(opened: Opened) -> Iterator[None]:
    """Fold sections as they were: other tests begin with them, and with the window as it was."""
    ui = opened.ui
    before = {name: getattr(ui, name).collapsed for name in (*SECTIONS, *INNER)}
    yield
    for name, collapsed in before.items():
        getattr(ui, name).collapsed = collapsed


def test_what_to_do_after_a_run_is_not_said_while_the_review_does_it(reviewing: Reviewing) -> None:
    opened, label = reviewing.opened, reviewing.ui.statusLabel
    segment_crop(opened)
    assert label.visible and label.text.startswith("Done")
    reviewing.start()
    assert label.visible is False
    reviewing.ui.endReviewButton.click()
    assert label.visible


def test_other_sections_fold_when_a_review_starts_and_come_back_after_it(reviewing: Reviewing) -> None:
    ui = reviewing.ui
    ui.advancedButton.collapsed, ui.inputsButton.collapsed, ui.overlayButton.collapsed = True, False, False
    before = {name: getattr(ui, name).collapsed for name in SECTIONS}
    reviewing.start()
    folded = {name for name in SECTIONS if getattr(ui, name).collapsed}
    assert folded == {*SECTIONS} - {"overlayButton"}, "the ticks and the figures of the structures"
    assert not ui.reviewButton.collapsed
    ui.endReviewButton.click()
    assert {name: getattr(ui, name).collapsed for name in SECTIONS} == before
    reviewing.start()
    ui.advancedButton.collapsed = False
    ui.endReviewButton.click()
    assert not ui.advancedButton.collapsed, "what the user opens stays open"


def test_a_review_is_whole_in_sight_down_to_finish_in_a_window_of_1024_by_640(reviewing: Reviewing) -> None:
    ui, window = reviewing.ui, slicer.util.mainWindow()
    (dock,) = slicer.util.findChildren(window, name="PanelDockWidget")
    area = ui.reviewButton.parent()
    while not area.inherits("QScrollArea"):
        area = area.parent()
    try:
        window.resize(1024, 640)
        window.resizeDocks([dock], [346], qt.Qt.Horizontal)
        reviewing.app.wait(0.3)
        reviewing.app.leave_module()
        reviewing.app.enter_module()
        reviewing.opened.unfold("inputsButton", "advancedButton", "casesButton", "modelsButton")  # at their height
        reviewing.app.wait(0.3)
        reviewing.start()
        ui.whyLabel.text = (
            "Left lateral ventricle and left cerebral white matter may be confused here. " * 3
        )  # of a brain

        def out_of_sight() -> list[str]:
            shown = (ui.reviewProgressLabel, ui.regionsTable, ui.finishButton)
            tops = [(widget, widget.mapTo(area.viewport(), qt.QPoint(0, 0)).y()) for widget in shown]
            height = area.viewport().height
            return [each.objectName for each, top in tops if top < 0 or top + each.height > height]

        # The layout settles over several events, which take long on a loaded computer.
        reviewing.app.wait(lambda: out_of_sight() == [])
    finally:
        window.resize(*WINDOW_PX)


@pytest.mark.parametrize("name", ["error_probability", "ranking", "calibration"])
def test_each_step_of_the_threshold_is_shown_as_it_is(reviewing: Reviewing, name: str) -> None:
    ui, overlay = reviewing.ui, reviewing.opened.overlay
    overlay.show(name)
    reviewing.opened.panel.overlay.refresh()
    slider, (low, high) = ui.thresholdSlider, overlay.window
    assert slider.minimum <= low < high <= slider.maximum
    slider.value = round((low + high) / 2, slider.decimals)
    for way in (1, -1, -1, -1):
        before = slider.value
        slider.value = before + way * slider.singleStep
        assert (slider.value - before) * way == pytest.approx(slider.singleStep, rel=0.1)
        assert overlay.threshold == pytest.approx(slider.value, abs=1e-9)


FAR = "The part spans 197 x 233 x 189 mm, but the training cases span 32 x 45 x 29 mm."


def test_a_banner_is_one_line_with_details_on_demand(opened: Opened) -> None:
    from SegWithUSlicerLib.run.controller import RunStatus

    ui, warned = opened.ui, RunStatus(warnings=(FAR,), refusal=frozenset({"field of view"}))
    opened.panel.run.show(warned, True, "", True, False)
    assert ui.bannerFrame.visible and "\n" not in ui.bannerLabel.text
    assert FAR in ui.bannerLabel.toolTip
    assert ui.bannerDetailsLabel.visible is False
    ui.bannerButton.click()
    assert (ui.bannerDetailsLabel.visible, ui.bannerDetailsLabel.text.startswith(f"• {FAR}")) == (True, True)
    ui.bannerButton.click()
    opened.panel.run.show(RunStatus(message="Done: 3 mm3."), True, "", True, False)
    assert (ui.bannerFrame.visible, ui.statusLabel.text) == (False, "Done: 3 mm³.")


def test_the_box_of_a_region_is_shown_until_its_run_is_done_and_on_demand(opened: Opened) -> None:
    def seen() -> np.ndarray:
        return opened.app.render_slice("Red").astype(int)

    opened.segment_sample()
    roi, box = opened.ui.roiSelector.currentNode(), opened.ui.handlesBox
    assert opened.controller.status.outcome.value == "done", "hiding it is no change of the region"
    assert (box.checked, bool(roi.GetDisplayNode().GetVisibility())) == (False, False)
    bare = seen()
    box.checked = True
    assert (np.abs(seen() - bare).max(axis=2) > 40).sum() > 50
    box.checked = False
    assert np.array_equal(seen(), bare)
    opened.choose_sample()
    assert box.checked


@pytest.mark.parametrize("name", ["ranking", "calibration"])
def test_a_map_without_a_threshold_does_not_colour_everything_when_chosen_first(opened: Opened, name: str) -> None:
    from SegWithUSlicerLib.scene.readout import share_above

    segment_crop(opened)
    overlay, box = opened.overlay, opened.ui.mapBox
    index = list(overlay.available).index(name)
    box.currentIndex = index
    rows = share_above(opened.nodes.case, name, overlay.threshold)
    assert 0.02 < sum(row.share for row in rows) / len(rows) < 0.35
    opened.ui.thresholdSlider.value = opened.ui.thresholdSlider.minimum
    box.currentIndex = 0
    box.currentIndex = index
    assert overlay.threshold == pytest.approx(overlay.window[0], abs=0.01), "the user's own stays"


def test_the_kind_of_a_region_is_in_sight_in_a_narrow_panel(reviewing: Reviewing) -> None:
    reviewing.start()
    table = reviewing.ui.regionsTable
    table.item(0, 2).setText("right ventral diencephalon")  # a long name of a brain
    table.resizeColumnsToContents()
    reviewing.app.wait(lambda: sum(map(table.columnWidth, range(5))) <= table.viewport().width)


def test_inputs_stand_in_one_column_and_only_they_are_disabled_in_a_run(opened: Opened) -> None:
    ui, inputs = opened.ui, opened.panel.inputs
    for model in ("brain", "hippocampus", "brain"):
        inputs.choose(None, None, model)
        opened.app.wait(0.1)
        (selector,) = inputs._selectors
        layout = ui.inputsButton.layout()
        at = [widget.mapTo(ui.inputsButton, qt.QPoint(0, 0)).x() for widget in (ui.modelBox, selector, ui.roiSelector)]
        assert len(set(at)) == 1, "another column"
    inputs.set_enabled(False)
    try:
        assert layout.labelForField(selector).enabled and not selector.enabled
    finally:
        inputs.set_enabled(True)
    assert selector.enabled


def test_texts_are_whole_in_another_font_and_swatches_have_a_frame(reviewing: Reviewing) -> None:
    table, font = reviewing.ui.structuresTable, slicer.app.font()
    larger = qt.QFont(font)
    larger.setPointSize(font.pointSize() + 5)
    before = [table.columnWidth(column) for column in range(4)]
    try:
        slicer.app.setFont(larger)
        reviewing.app.wait(lambda: table.columnWidth(3) > before[3])
        header = table.horizontalHeader()
        for column in range(4):
            wanted = max(table.sizeHintForColumn(column), header.sectionSizeHint(column))
            assert table.columnWidth(column) >= min(wanted, header.maximumSectionSize), column
    finally:
        slicer.app.setFont(font)
    swatch = table.item(0, 0).icon().pixmap(14, 14).toImage()
    assert swatch.pixel(0, 0) != swatch.pixel(7, 7)
