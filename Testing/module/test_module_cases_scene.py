"""The results of one scene through the list of cases: listed, filtered, shown one after the other, nothing loaded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import slicer
from listed_cases import CASES, Listing, judged

A, B, C = CASES


def _put(listing: Listing, name: str, lasting: bool = False) -> Any:
    """A result in the scene as a run in Slicer leaves it; `lasting` as one that was loaded from its case folder."""
    from SegWithUSlicerLib.scene.load_case import load_case

    image = listing.home / "images" / f"{name}.nii.gz"
    volume = slicer.util.loadVolume(str(image), {"name": name, "show": False})
    nodes = load_case(listing.cases / name, volume, lasting=lasting)
    listing.opened.panel.show_run(nodes)
    return nodes


@pytest.fixture
def two(listing: Listing) -> dict[str, Any]:
    """Two results of one scene that lie in no case folder, listed."""
    shutil.rmtree(listing.reviewing.folder(), ignore_errors=True)
    found = {name: _put(listing, name) for name in (A, B)}
    _list(listing)
    return found


def _list(listing: Listing) -> None:
    listing.ui.listSceneButton.click()
    listing.settled()


def _nodes_now() -> set[str]:
    """The nodes of the scene, but for those that a review hides in it and that legends and views add."""
    kinds = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLTableNode", "vtkMRMLScriptedModuleNode")
    return {node.GetID() for kind in kinds for node in slicer.util.getNodesByClass(kind)}


def _no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would read a case folder or an image, or take a case out of the scene, fails the test."""
    from SegWithUSlicerLib.panels import case_opener

    def forbidden(*_arguments: Any, **_more: Any) -> None:
        raise AssertionError("a case was loaded or removed")

    for name in ("put_case", "find_images", "read_description", "remove_case"):
        monkeypatch.setattr(case_opener, name, forbidden)


def test_results_of_the_scene_are_listed_as_their_folders_would_be(
    listing: Listing,
    two: dict[str, Any],
) -> None:
    from SegWithUCore.review.worklist import make_worklist

    entries = make_worklist([listing.cases / name for name in two]).entries
    assert listing.shown == [entry.name for entry in entries]
    for entry in entries:
        told = tuple(listing.cell(entry.name, column) for column in range(1, 7))
        wrong = f"{entry.expected_wrong_mm3:.0f} mm³"
        assert told == ("not begun", "", wrong, str(entry.regions), f"{entry.minutes:.1f}", entry.worst_structure)
    assert listing.ui.casesLabel.text == "2 cases, 0 flagged, 2 open for you; the open scene"
    assert listing.open_case == B


@pytest.mark.parametrize("lasting", [False, True])
def test_a_click_shows_a_result_and_loads_and_removes_nothing(
    listing: Listing,
    monkeypatch: pytest.MonkeyPatch,
    lasting: bool,
) -> None:
    two = {name: _put(listing, name, lasting) for name in (A, B)}
    _list(listing)
    _no_loading(monkeypatch)
    before = _nodes_now()
    for name in (A, B, A):
        listing.click(name)
        image = two[name].inputs[0]
        assert (listing.open_case, listing.opened.nodes.hub) == (name, two[name].hub)
        assert listing.ui.resultBox.currentText.startswith(f"{name} (")
        bounds = [0.0] * 6
        image.GetRASBounds(bounds)
        middle = [(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]
        for view in listing.host.slice_views.values():
            assert view.composite.GetBackgroundVolumeID() == image.GetID()
            assert view.composite.GetForegroundVolumeID() == two[name].maps["error_probability"].GetID()
            matrix = view.node.GetSliceToRAS()
            normal = [matrix.GetElement(row, 2) for row in range(3)]
            off = [(matrix.GetElement(row, 3) - middle[row]) * (1 - abs(normal[row])) for row in range(3)]
            assert max(map(abs, off)) < 1.5
        assert listing.opened.coloured() > 10
    assert _nodes_now() == before


def test_filters_limits_and_headings_hold_for_the_scene_too(listing: Listing, two: dict[str, Any]) -> None:
    ui = listing.ui
    ui.caseFilterEdit.text = "003"
    listing.settled()
    assert (listing.shown, ui.casesLabel.text.startswith("1 of 2 cases")) == ([B], True)
    ui.caseFilterEdit.text = ""
    ui.flagShareBox.value = 1.0
    listing.settled()
    assert {listing.cell(name, 2) for name in two} == {"wrong share"}
    listing.select(A)
    assert "above the limit of 1 %" in ui.caseLabel.text
    ui.casesTable.horizontalHeader().sectionClicked.emit(0)
    assert listing.shown == [A, B]
    ui.casesTable.horizontalHeader().sectionClicked.emit(0)
    assert listing.shown == [B, A]
    ui.casesTable.horizontalHeader().sectionClicked.emit(0)
    ui.flagShareBox.value = 0.0
    listing.settled()
    ui.onlyFlaggedBox.checked = True
    assert listing.shown == []


def test_a_review_goes_on_where_it_stopped_and_the_one_before_is_closed(
    listing: Listing,
    two: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _no_loading(monkeypatch)
    reviewing = listing.reviewing
    listing.click(A)
    reviewing.start("Ana")
    reviewing.judge("accepted")
    reviewing.judge("rejected")
    at, count = reviewing.session.current.id, len(reviewing.ids)
    listing.settled()
    assert listing.status(A) == f"2 of {count}"
    assert listing.cell(A, 2) == "reviewer"
    listing.click(B)
    assert reviewing.session.nodes.hub is two[B].hub
    reviewing.judge("accepted")
    listing.click(A)
    assert (reviewing.session.nodes.hub, reviewing.session.current.id) == (two[A].hub, at)
    assert listing.status(B).startswith("1 of ")
    logs = list(reviewing.folder().glob("*/review.Ana.jsonl"))
    closed = [path.read_text(encoding="utf-8").count('"event": "closed"') for path in logs]
    assert closed == [1, 1]
    while reviewing.session.current is not None and not reviewing.session.is_done:
        reviewing.judge("accepted")
    listing.settled()
    assert listing.status(A) == "done"
    listing.ui.onlyOpenBox.checked = True
    assert listing.shown == [B]


def test_steps_and_the_key_for_the_next_open_one_go_through_the_scene(
    listing: Listing,
    two: dict[str, Any],
) -> None:
    order = listing.shown
    listing.click(order[0])
    assert (listing.ui.previousCaseButton.enabled, listing.ui.nextCaseButton.enabled) == (False, True)
    listing.ui.nextCaseButton.click()
    listing.settled()
    assert listing.open_case == order[1]
    listing.ui.previousCaseButton.click()
    listing.settled()
    assert listing.open_case == order[0]
    listing.select(order[1])
    listing.ui.openCaseButton.click()
    listing.settled()
    assert listing.open_case == order[1]
    listing.reviewing.start("Ana")
    listing.reviewing.press("Ctrl+Alt+N", listing.ui.regionsTable)
    listing.settled()
    assert (listing.open_case, listing.reviewing.session.nodes.hub) == (order[0], two[order[0]].hub)


def test_the_verdicts_that_a_saved_scene_carries_count_without_the_disk(
    listing: Listing,
    two: dict[str, Any],
) -> None:
    listing.click(A)
    listing.reviewing.start("Ana")
    listing.reviewing.judge("accepted")
    at = listing.reviewing.session.current.id
    listing.ui.endReviewButton.click()
    saved = listing.host.save_scene(listing.host.folder / "two.mrb")
    listing.host.close_scene()
    listing.settled()
    assert listing.shown == []
    assert listing.ui.casesLabel.text.startswith("The open scene holds no result")
    shutil.rmtree(listing.reviewing.folder())
    listing.host.load_scene(saved)
    listing.settled()
    assert sorted(listing.shown) == [A, B]
    assert listing.status(A).startswith("1 of ")
    listing.click(B)
    listing.click(A)
    assert listing.reviewing.session.current.id == at
    assert not any(nodes.hub.GetScene() for nodes in two.values())


def test_results_that_come_and_go_are_followed(listing: Listing, two: dict[str, Any]) -> None:
    own = listing.shown
    _put(listing, C)
    listing.settled()
    assert listing.shown == [*own, C]
    assert (listing.open_case, listing.status(C)) == (C, "not begun")
    slicer.mrmlScene.RemoveNode(two[A].hub)
    listing.settled()
    assert sorted(listing.shown) == [B, C]


def test_an_empty_scene_says_so_and_the_list_stays(listing: Listing) -> None:
    listing.list_folder()
    _list(listing)
    assert listing.ui.casesLabel.text.startswith("The open scene holds no result: segment a volume, or load a scene")
    assert len(listing.shown) == 3


def test_deleted_regions_are_told_in_the_row(listing: Listing, two: dict[str, Any]) -> None:
    slicer.mrmlScene.RemoveNode(two[A].regions_text)
    listing.ui.refreshCasesButton.click()
    listing.settled()
    assert listing.status(A) == "cannot be read"
    listing.select(A)
    assert f"The regions of {A} were deleted" in listing.ui.caseLabel.text


def test_only_results_with_a_case_folder_are_exported_and_the_others_are_told(
    listing: Listing,
    two: dict[str, Any],
    tmp_path: Path,
) -> None:
    ui = listing.ui
    ui.exportScopeBox.currentIndex = 0
    listing.select(A)
    assert ui.exportLabel.text.startswith("One of these results is whole only in the scene")
    ui.exportScopeBox.currentIndex = 2
    listing.select(A)
    assert (ui.startExportButton.enabled, ui.reportButton.enabled) == (False, False)
    assert ui.exportLabel.text.startswith("2 of these results are whole only in the scene")
    ui.mergeButton.click()
    assert "none of the listed results lies in a case folder" in ui.differencesLabel.text
    _put(listing, C, lasting=True)
    listing.settled()
    assert (ui.startExportButton.text, ui.startExportButton.enabled) == ("Export one case...", True)
    listing.select(C)
    assert ui.reportButton.enabled
    listing.host.popups.answer(str(tmp_path))
    ui.startExportButton.click()
    listing.host.wait(lambda: not listing.panel.exports.process.is_busy, timeout=120)
    assert ui.exportLabel.text.startswith("1 of 1 cases are in ")
    assert "2 of these results are whole only in the scene" in ui.exportLabel.text
    assert (tmp_path / "segwithu-export" / C / "case.json").is_file()
    ui.exportScopeBox.currentIndex = 0


def test_reviews_in_the_case_folder_and_in_the_scene_are_one(listing: Listing) -> None:
    from SegWithUCore.review.log_format import Verdict

    _put(listing, A, lasting=True)
    nodes = _put(listing, B, lasting=True)
    judged(listing.cases / A, "Bo", {1: Verdict.ACCEPTED})
    _list(listing)
    listing.click(A)
    listing.reviewing.start("Ana")
    listing.reviewing.judge("rejected")
    listing.settled()
    count = len(listing.reviewing.ids)
    assert listing.status(A) == f"1 of {count}; Bo: 1 of {count}"
    assert [line["event"] for line in listing.log(A)][:2] == ["opened", "verdict"]
    assert listing.ui.differencesLabel.text == "Reviewers disagree on one region."
    listing.click(B)
    listing.click_difference(0)
    assert (listing.open_case, nodes.hub.GetScene() is not None) == (A, True)
    assert listing.reviewing.session.current.rank == 1
    listing.ui.endReviewButton.click()
    (listing.cases / A / "review.Ana.jsonl").unlink()
    listing.ui.refreshCasesButton.click()
    listing.settled()
    assert listing.status(A) == f"1 of {count}; Bo: 1 of {count}"
    listing.select(A)
    assert not listing.ui.reportButton.enabled


@pytest.fixture
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Treat every case as large; what is put into the list is called once, in a turn of the event loop."""
    from SegWithUSlicerLib.panels import case_opener, waiting
    from SegWithUSlicerLib.scene import read_case

    for module in (case_opener, read_case):
        monkeypatch.setattr(module, "LATER_ABOVE_VOXELS", 1000)
    monkeypatch.setattr(waiting, "SLICE_S", 0.0)
    acts: list[Any] = []
    turn, steps = waiting.Waiting._turn, waiting.Waiting.for_steps
    loading: list[bool] = []

    def turned(self: Any) -> None:
        if acts and loading:
            acts.pop()()
        turn(self)

    def with_steps(self: Any, *arguments: Any) -> Any:
        loading.append(True)
        try:
            return steps(self, *arguments)
        finally:
            loading.pop()

    monkeypatch.setattr(waiting.Waiting, "_turn", turned)
    monkeypatch.setattr(waiting.Waiting, "for_steps", with_steps)
    return acts


def test_a_large_case_is_opened_in_steps_and_another_click_in_the_middle_wins(
    listing: Listing, all_are_large: list[Any]
) -> None:
    opener, said = listing.panel.opener, []
    all_are_large.append(lambda: said.append(listing.ui.caseLabel.text))
    assert opener.open(listing.cases / A)
    assert (list(listing.opened.nodes.maps), said[0].split(":")[0]) == (["error_probability"], f"Opening {A}")
    all_are_large.append(lambda: said.append(opener.open(listing.cases / C)))
    assert not opener.open(listing.cases / B)
    assert (said[1], listing.opened.nodes.label) == (True, C)
    names = {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
    assert not any(name.startswith((A, B)) for name in names), "nothing of the case that was given up stays"


def test_a_closed_scene_ends_the_opening_of_a_large_case(listing: Listing, all_are_large: list[Any]) -> None:
    all_are_large.append(listing.host.close_scene)
    assert not listing.panel.opener.open(listing.cases / A)
    assert slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") == []
    assert listing.opened.nodes is None
