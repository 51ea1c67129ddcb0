"""The panel's size, order and words: narrow beside the views, a review in sight at once, and what is read first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from listed_cases import Listing
from opened_module import Opened, segment_crop
from PySide6 import QtCore, QtWidgets
from reviewing import Reviewing

AT_START_PX, LATER_PX, NARROW_PX = 360, 420, 360
REVIEW_PX = 760
SECTIONS = (
    "inputsButton",
    "outputsButton",
    "advancedButton",
    "logButton",
    "overlayButton",
    "structuresButton",
    "plotsButton",
    "casesButton",
)
INNER = ("editButton", "reviewMoreButton", "budgetButton", "exportButton", "differencesButton")


@pytest.fixture(autouse=True)
def folded_as_before(opened: Opened) -> Iterator[None]:
    """Fold sections as they were: other tests begin with them, and with the window as it was."""
    ui, window = opened.ui, slicer.util.mainWindow()
    size = QtWidgets.QWidget.size(window)
    before = {name: getattr(ui, name).collapsed for name in (*SECTIONS, *INNER)}
    yield
    for name, collapsed in before.items():
        getattr(ui, name).collapsed = collapsed
    QtWidgets.QWidget.resize(window, size)


def _root(opened: Opened) -> Any:
    return opened.ui.runButton.parent()


def _least_width(opened: Opened) -> int:
    """How narrow the panel may become; no scroll bar makes it narrower in Slicer."""
    opened.host.process_events()
    return QtWidgets.QWidget.minimumSizeHint(_root(opened)).width()


def _make_wide(opened: Opened, width: int) -> None:
    """Give the contents of the panel this width."""
    window, root, native = slicer.util.mainWindow(), _root(opened), QtWidgets.QWidget
    for _attempt in range(3):
        native.resize(window, native.width(window) + width - native.width(root), 1400)
        opened.wait(lambda: opened.host.process_events() is None)
    assert native.width(root) == width


def _unfold(opened: Opened) -> None:
    for name in (*SECTIONS, *INNER):
        getattr(opened.ui, name).collapsed = False
    opened.host.wait(0.1)


def _clipped(opened: Opened) -> list[str]:
    """Labels and buttons that are seen in part only; tables scroll and boxes elide."""
    found, root = [], _root(opened)
    for kind in (QtWidgets.QLabel, QtWidgets.QPushButton, QtWidgets.QCheckBox):
        for widget in QtCore.QObject.findChildren(root, kind):
            if not QtWidgets.QWidget.isVisible(widget):
                continue
            width = QtWidgets.QWidget.width(widget)
            right = QtWidgets.QWidget.mapTo(widget, root, QtCore.QPoint(width, 0)).x()
            needs = kind.minimumSizeHint(widget).width()
            if kind is QtWidgets.QLabel and QtWidgets.QLabel.wordWrap(widget):
                metrics = QtWidgets.QWidget.fontMetrics(widget)
                words = re.split(r"[\s/]+", re.sub("<[^>]*>", "", QtWidgets.QLabel.text(widget)))
                needs = max(metrics.horizontalAdvance(word) for word in words)
            if needs > width or right > QtWidgets.QWidget.width(root):
                found.append(f"{QtCore.QObject.objectName(widget)}: {needs} of {width}, to {right}")
    return found


def test_the_panel_may_be_narrow_at_the_start(opened: Opened) -> None:
    assert _least_width(opened) <= AT_START_PX
    opened.ui.advancedButton.collapsed = False
    assert _least_width(opened) <= AT_START_PX


def test_the_panel_may_be_narrow_after_a_run_in_a_review_and_with_everything_open(reviewing: Reviewing) -> None:
    opened = reviewing.opened
    opened.ui.tryItButton.click()
    opened.wait(lambda: opened.ui.costLabel.text.startswith("About"))
    widths = {"run": _least_width(opened)}
    reviewing.start()
    widths["review"] = _least_width(opened)
    _unfold(opened)
    widths["everything"] = _least_width(opened)
    reviewing.judge()
    reviewing.ui.endReviewButton.click()
    widths["end"] = _least_width(opened)
    opened.ui.listSceneButton.click()
    _unfold(opened)
    widths["cases"] = _least_width(opened)
    assert max(widths.values()) <= LATER_PX, widths


def test_nothing_is_cut_off_in_a_narrow_panel(reviewing: Reviewing) -> None:
    opened = reviewing.opened
    opened.ui.tryItButton.click()
    opened.wait(lambda: opened.ui.costLabel.text.startswith("About"))
    _make_wide(opened, NARROW_PX)
    assert _clipped(opened) == []
    reviewing.start()
    opened.ui.reviewMoreButton.collapsed = False
    _make_wide(opened, NARROW_PX)
    assert _clipped(opened) == []
    table = opened.ui.regionsTable
    seen = sum(table.columnWidth(column) for column in range(table.columnCount))
    assert seen <= QtWidgets.QWidget.width(table.viewport()), "the verdict is in sight"
    reviewing.ui.endReviewButton.click()
    opened.ui.listSceneButton.click()
    opened.ui.exportButton.collapsed = opened.ui.differencesButton.collapsed = False
    _make_wide(opened, NARROW_PX)
    assert _clipped(opened) == []


def test_flag_and_dice_of_a_structure_are_in_sight_in_a_narrow_panel(reviewing: Reviewing) -> None:
    _make_wide(reviewing.opened, NARROW_PX)
    table = reviewing.ui.structuresTable
    titles = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    assert titles == ["Structure", "Flag", "Pred. Dice", "Volume", "Expected", "Likely wrong"]
    seen = sum(table.columnWidth(column) for column in range(3))
    assert seen <= QtWidgets.QWidget.width(table.viewport())


def test_a_review_with_its_editor_is_in_sight_at_once(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.ui.editButton.collapsed = False
    native, section, opened = QtWidgets.QWidget, reviewing.ui.reviewButton, reviewing.opened
    _make_wide(opened, 400)
    # A window as low as a laptop's: what is longer scrolls.
    native.resize(slicer.util.mainWindow(), native.width(slicer.util.mainWindow()), REVIEW_PX)
    opened.host.wait(0.1)
    editor = reviewing.panel.edit.editor
    needed = (reviewing.ui.regionsTable, reviewing.ui.thumbnailLabel, reviewing.ui.secondReaderButton)
    ends = {}
    for region in reviewing.session.regions:
        reviewing.panel.go_to(region.id)
        opened.host.wait(0.05)
        end = native.mapTo(editor, section, QtCore.QPoint(0, native.height(editor))).y()
        ends[region.kind.value, end] = region.id
        places = [native.mapTo(widget, section, QtCore.QPoint(0, 0)).y() for widget in needed]
        assert [0 < place < end for place in places] == [True] * 3
        assert all(native.isVisible(widget) for widget in needed)
    assert max(end for _kind, end in ends) <= REVIEW_PX, ends


def test_a_long_name_of_a_structure_is_cut_in_the_middle_and_whole_in_the_tool_tip(reviewing: Reviewing) -> None:
    opened, ui, native = reviewing.opened, reviewing.ui, QtWidgets.QWidget
    name, tip = reviewing.panel.edit._names[0], str(ui.allFirstButton.toolTip)
    reviewing.start()
    ui.confusionFrame.visible = True
    text = "All left superior frontal gyrus, orbital & opercular part of the inferior frontal gyrus here"
    name.show(text)
    shown = []
    for width in (360, 420, 900):
        _make_wide(opened, width)
        button = ui.allFirstButton
        shown.append(str(button.text))
        assert native.fontMetrics(button).horizontalAdvance(shown[-1].replace("&&", "&")) <= native.width(button) - 8
        if "…" in shown[-1]:
            assert (shown[-1].startswith("All left"), shown[-1].endswith(" here")) == (True, True)
            assert button.toolTip == f"{text}\n{tip}"
    assert len(shown[0]) < len(shown[1]) < len(shown[2])
    assert (shown[2].replace("&&", "&"), ui.allFirstButton.toolTip) == (text, tip)


def test_what_a_region_is_about_is_short_and_its_buttons_stay_where_they_are(reviewing: Reviewing) -> None:
    ui, native = reviewing.ui, QtWidgets.QWidget
    reviewing.start()
    _make_wide(reviewing.opened, 400)
    places = set()
    for region in reviewing.session.regions:
        reviewing.panel.go_to(region.id)
        reviewing.opened.host.wait(0.02)
        assert "percentile" not in ui.whyLabel.text
        assert ui.whyLabel.toolTip.count("percentile") == 2
        assert ("Touches the edge" in ui.whyLabel.text) == region.touches_border
        if region.kind.value != "confusion":
            places.add(native.mapTo(ui.acceptButton, _root(reviewing.opened), QtCore.QPoint(0, 0)).y())
    assert len(places) == 1, "the mouse may stay on its button"


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
    ui.logButton.collapsed, ui.inputsButton.collapsed = True, False
    ui.overlayButton.collapsed = ui.structuresButton.collapsed = False
    before = {name: getattr(ui, name).collapsed for name in SECTIONS}
    reviewing.start()
    assert all(getattr(ui, name).collapsed for name in SECTIONS)
    assert not ui.reviewButton.collapsed
    ui.endReviewButton.click()
    assert {name: getattr(ui, name).collapsed for name in SECTIONS} == before
    reviewing.start()
    ui.logButton.collapsed = False
    ui.endReviewButton.click()
    assert not ui.logButton.collapsed, "what the user opens stays open"
    ui.logButton.collapsed = True


def test_sections_come_in_the_order_of_slicers_modules(opened: Opened) -> None:
    order = ("inputsButton", "outputsButton", "advancedButton", "runButton", "progressBar", "statusLabel")
    results = ("overlayButton", "structuresButton", "plotsButton", "reviewButton", "casesButton", "modelsButton")
    layout = _root(opened).layout()
    placed = [layout.itemAt(index).widget() for index in range(layout.count())]
    names = [QtCore.QObject.objectName(widget) for widget in placed if widget is not None]
    assert [name for name in names if name in (*order, *results)] == [*order, *results]
    assert names[-1] == "modelsButton"


def test_sections_and_buttons_have_the_words_of_slicers_modules(opened: Opened) -> None:
    ui = opened.ui
    titles = [str(getattr(ui, name).text) for name in ("inputsButton", "outputsButton", "advancedButton", "runButton")]
    assert titles == ["Inputs", "Outputs", "Advanced", "Apply"]
    assert (ui.advancedButton.collapsed, ui.inputsButton.collapsed, ui.outputsButton.collapsed) == (True, False, False)
    opened.ui.tryItButton.click()
    ui.runButton.click()
    opened.until_computing()
    assert (str(ui.runButton.text), ui.progressBar.visible, ui.stageLabel.visible) == ("Cancel", True, True)
    ui.runButton.click()
    opened.finish()
    assert (str(ui.runButton.text), ui.progressBar.visible) == ("Apply", False)


@pytest.mark.parametrize(("name", "kind"), [("wheelsEdit", "Directory"), ("pythonEdit", "OpenFileName")])
def test_browse_asks_for_what_is_wanted(opened: Opened, name: str, kind: str) -> None:
    opened.host.popups.answer("")
    getattr(opened.ui, name).browse()
    assert kind in opened.host.popups.shown[-1].kind


@pytest.mark.parametrize("name", ["error_probability", "ranking", "calibration"])
def test_each_step_of_the_threshold_is_shown_as_it_is(reviewing: Reviewing, name: str) -> None:
    ui, overlay = reviewing.ui, reviewing.opened.overlay
    overlay.show(name)
    reviewing.opened.panel.overlay.refresh()
    slider, (low, high) = ui.thresholdSlider, overlay.window
    assert slider.minimum <= low < high <= slider.maximum
    slider.value = (low + high) / 2
    for way in (1, -1, -1, -1):
        before = slider.value
        slider.value = before + way * slider.singleStep
        assert (slider.value - before) * way == pytest.approx(slider.singleStep, rel=0.1)
        assert overlay.threshold == pytest.approx(slider.value, abs=1e-9)
        assert overlay.threshold == pytest.approx(round(slider.value, slider.decimals), abs=1e-9)


def test_keys_are_told_as_the_platform_writes_them(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    from SegWithUSlicerLib.panels import review_widgets

    class MacKey:
        NativeText = 0

        def __init__(self, key: str) -> None:
            self.key = key

        def toString(self, _form: int) -> str:
            return self.key.replace("Ctrl+", "⌘").replace("Alt+", "⌥").replace("Shift+", "⇧")

    monkeypatch.setattr(review_widgets.qt, "QKeySequence", MacKey)
    text = review_widgets.keys_text()
    assert "⌥⌘1" in text.replace("⌘⌥", "⌥⌘") and "⇧N" in text
    assert "Ctrl" not in text


def test_what_is_unusual_about_an_image_is_one_line_and_the_rest_on_demand(opened: Opened) -> None:
    from SegWithUSlicerLib.run.preview import PreflightResult

    ui, show = opened.ui, opened.panel.inputs.show_preflight
    show(PreflightResult("About 3 s", notes=("It is bright.", "It is 12 % larger.")))
    assert (ui.costLabel.text, ui.likenessLabel.text) == ("About 3 s", "No warning; 2 notes on the image.")
    assert ui.likenessLabel.toolTip == "It is bright.\nIt is 12 % larger."
    assert (ui.likenessButton.visible, ui.likenessDetailsLabel.visible) == (True, False)
    ui.likenessButton.click()
    assert ui.likenessDetailsLabel.visible
    assert ui.likenessDetailsLabel.text == "• It is bright.\n• It is 12 % larger."
    show(PreflightResult("About 3 s", notes=("It is bright.",)))
    assert ui.likenessLabel.text == "No warning; one note on the image."
    show(PreflightResult("About 3 s", is_like=True))
    assert (ui.likenessLabel.text, ui.likenessLabel.toolTip) == ("Looks like the training images.", "")
    assert (ui.likenessButton.visible, ui.likenessDetailsLabel.visible) == (False, False)
    show(PreflightResult("About 3 s"))
    assert ui.likenessLabel.visible is False, "a model that does not know its training images claims nothing"


FAR = "The part spans 197 x 233 x 189 mm, but the training cases span 32 x 45 x 29 mm."


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ({}, "Check the result with care: one point is unusual."),
        ({"warnings": (FAR, "Turned.")}, "Check the result with care: 2 points are unusual."),
        (
            {"refused": True, "kinds": frozenset({"field of view"}), "others": ()},
            "Not assessed. This is far more than the training images show: press Propose for a region of their size.",
        ),
        (
            {"refused": True, "kinds": frozenset({"field of view"}), "others": ("heart",)},
            "Not assessed. This image does not fit the model 'hippocampus': choose the model 'heart', which it fits.",
        ),
        (
            {"kinds": frozenset({"picture"}), "others": ()},
            "No installed model fits this image: choose another image or region, or add a model.",
        ),
        ({"kinds": frozenset({"picture"}), "others": None}, "Check the result with care: one point is unusual."),
        (
            {"refused": True, "kinds": frozenset({"empty"}), "others": ()},
            "Not assessed. The part to be segmented is empty: check the image and the region.",
        ),
    ],
    ids=["care", "care for two", "too large", "another model", "no model", "being asked", "empty"],
)
def test_a_banner_is_one_line_with_the_next_click(opened: Opened, result: dict[str, Any], line: str) -> None:
    from SegWithUSlicerLib.panels.run_panel import Choice
    from SegWithUSlicerLib.run.controller import RunStatus
    from SegWithUSlicerLib.run.preview import PreflightResult

    ui, warned = opened.ui, PreflightResult(**{"warnings": (FAR,), **result})
    opened.panel.run.show(RunStatus(), Choice("hippocampus", "", True), warned, False)
    assert re.sub("<[^>]*>", "", ui.bannerLabel.text) == line
    assert ui.bannerLabel.toolTip.startswith(FAR)
    assert ui.bannerDetailsLabel.visible is False
    ui.bannerButton.click()
    assert (ui.bannerDetailsLabel.visible, ui.bannerDetailsLabel.text.startswith(f"• {FAR}")) == (True, True)
    ui.bannerButton.click()
    opened.panel.run.show(RunStatus(), Choice("hippocampus", "", True), PreflightResult(), False)
    assert ui.bannerFrame.visible is False
    if line.startswith("No installed model"):
        opened.panel.run.show(RunStatus(), Choice("hippocampus", "", True, has_region=True), warned, False)
        said = "No installed model fits this region: move it onto the structure, or choose another image."
        assert ui.bannerLabel.text == said


def test_an_export_of_no_case_says_why(listing: Listing) -> None:
    ui = listing.ui
    listing.list_folder()
    ui.exportButton.collapsed = False
    ui.exportScopeBox.currentIndex = 0
    assert (ui.startExportButton.enabled, ui.exportLabel.text) == (
        False,
        "No case in the list is flagged: choose All cases shown.",
    )
    ui.casesTable.clearSelection()
    ui.exportScopeBox.currentIndex = 1
    assert ui.exportLabel.text.startswith("No case is selected: ")
    ui.exportScopeBox.currentIndex = 2
    assert (ui.startExportButton.enabled, ui.exportLabel.text) == (True, "")
    ui.exportScopeBox.currentIndex = 0


def test_one_case_is_told_as_one(reviewing: Reviewing) -> None:
    reviewing.ui.listSceneButton.click()
    reviewing.host.wait(lambda: reviewing.ui.casesLabel.text.startswith("One case, "))
    reviewing.opened.panel.cases.list = None


def test_paths_in_labels_hold_nothing_that_is_not_in_them(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.ui.endReviewButton.click()
    assert f"kept in {reviewing.folder()}" in reviewing.ui.reviewNoteLabel.text
    selectable = QtWidgets.QLabel.textInteractionFlags(reviewing.ui.reviewNoteLabel)
    assert selectable & QtCore.Qt.TextInteractionFlag.TextSelectableByMouse


def test_the_box_of_a_region_is_shown_until_its_run_is_done_and_on_demand(opened: Opened) -> None:
    def seen() -> np.ndarray:
        return opened.host.render_slice("Red").astype(int)

    opened.segment_sample()
    roi, box = opened.ui.roiSelector.currentNode(), opened.ui.handlesBox
    assert opened.controller.status.outcome.value == "done", "hiding it is no change of the region"
    assert (box.checked, bool(roi.GetDisplayNode().GetVisibility())) == (False, False)
    bare = seen()
    box.checked = True
    assert (np.abs(seen() - bare).max(axis=2) > 40).sum() > 50
    box.checked = False
    assert np.array_equal(seen(), bare)
    opened.ui.tryItButton.click()
    assert box.checked


def test_maps_are_named_by_what_they_say(reviewing: Reviewing) -> None:
    box = reviewing.ui.mapBox
    assert [box.itemText(index) for index in range(box.count)] == [
        "Error probability",
        "Uncertainty, unscaled (ranking map)",
        "Softened probabilities (calibration map)",
        "None",
    ]


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
