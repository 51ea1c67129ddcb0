"""A review goes on exactly where it stopped: after a crash, from a saved scene, in a run made again, by two people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import another_slicer
import pytest
import slicer
from another_slicer import labels_checksum
from listed_cases import CASES
from mrml_headless import observers_on
from opened_module import alive, segment_crop
from reviewing import Reviewing


def _voxel_count(reviewing: Reviewing) -> int:
    from SegWithUSlicerLib.review.edits import read_labels

    return int((read_labels(reviewing.nodes) > 0).sum())


def test_a_slicer_that_dies_loses_nothing(reviewing: Reviewing, tmp_path: Path) -> None:
    whole = labels_checksum(reviewing)
    code, seen = another_slicer.work("die", tmp_path, scene=str(reviewing.app.folder / "segmented.mrb"))
    assert code == another_slicer.DEAD
    shutil.copytree(seen["reviews"], reviewing.folder(), dirs_exist_ok=True)
    reviewing.name("")
    reviewing.name("Ana")
    assert reviewing.ui.startReviewButton.text.startswith("Resume the review (regions: 3 of ")
    reviewing.start()
    assert reviewing.session.current.id == seen["at"]
    first, second, third = reviewing.ids[:3]
    words = ("✓ accepted", "✗ rejected", "? second reader")
    assert tuple(map(reviewing.cell, (first, second, third))) == words
    assert "Your edits of the earlier session are back." in reviewing.ui.reviewNoteLabel.text
    assert labels_checksum(reviewing) == seen["labels"] != whole
    events = [line["event"] for line in reviewing.log() if line["event"] != "looked"]
    assert events == ["opened", *["verdict"] * 3, "edited", "opened"]


def test_quitting_in_mid_work_closes_the_log_and_leaves_no_process_and_no_file(
    reviewing: Reviewing, segmented: Path, tmp_path: Path
) -> None:
    """A run, a review and an export at once; both processes are held, so that Slicer has to end them."""
    many = tmp_path / "many"
    for number in range(30):
        shutil.copytree(segmented / "cases" / CASES[0], many / f"case{number:03d}")
    scene = str(reviewing.app.folder / "segmented.mrb")
    code, seen = another_slicer.work("quit", tmp_path, scene=scene, cases=str(many))
    assert code == 0
    assert [pid for pid in seen["pids"] if alive(pid)] == []
    assert len(seen["private"]) == 2 and [path for path in seen["private"] if Path(path).exists()] == []
    assert list((tmp_path / "out").iterdir()) == []
    (log,) = Path(seen["reviews"]).glob("*/review.Ana.jsonl")
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [line["comment"] for line in lines if line["event"] == "comment"] == ["last words"]
    assert lines[-1]["event"] == "closed"


def test_a_saved_scene_goes_on_where_it_stopped_without_any_file(reviewing: Reviewing) -> None:
    reviewing.start()
    ids = reviewing.ids
    reviewing.ui.orderBox.currentIndex = 1
    for _region in range(2):
        reviewing.judge("rejected")
    commented = reviewing.session.current.id
    reviewing.ui.commentEdit.text = "look again, please"
    reviewing.press("N", reviewing.ui.regionsTable)
    order = reviewing.ids
    saved = reviewing.app.save_scene(reviewing.app.folder / "mid.mrb")
    reviewing.app.close_scene()
    shutil.rmtree(reviewing.folder())
    reviewing.app.load_scene(saved)
    assert reviewing.ui.startReviewButton.text == f"Resume the review (regions: 2 of {len(ids)})"
    reviewing.start()
    assert (reviewing.session.current.id, reviewing.ids) == (commented, order)
    assert reviewing.state.comment_of(commented) == "look again, please"
    reviewing.judge()
    assert len(reviewing.told("verdict")) == 3


def test_what_was_drawn_after_the_scene_was_saved_is_not_hidden_by_it(reviewing: Reviewing) -> None:
    reviewing.start()
    reviewing.judge()
    saved = reviewing.app.save_scene(reviewing.app.folder / "early.mrb")
    segment = reviewing.nodes.segmentation.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(reviewing.nodes.segmentation, segment)
    array[: array.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, reviewing.nodes.segmentation, segment)
    after = _voxel_count(reviewing)
    reviewing.app.close_scene()
    reviewing.app.load_scene(saved)
    assert _voxel_count(reviewing) != after
    reviewing.start()
    assert _voxel_count(reviewing) == after


def test_two_reviewers_of_one_case_do_not_see_each_other(reviewing: Reviewing) -> None:
    whole = _voxel_count(reviewing)
    reviewing.start("Ana")
    reviewing.judge("rejected")
    segment = reviewing.nodes.segmentation.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(reviewing.nodes.segmentation, segment)
    array[: array.shape[0] // 2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, reviewing.nodes.segmentation, segment)
    hers = _voxel_count(reviewing)
    reviewing.ui.endReviewButton.click()
    reviewing.name("Bo")
    assert reviewing.ui.startReviewButton.text == "Start review"
    reviewing.start("Bo")
    assert ({reviewing.cell(i) for i in reviewing.ids}, _voxel_count(reviewing)) == ({"-"}, whole)
    reviewing.judge("accepted")
    reviewing.ui.endReviewButton.click()
    reviewing.start("Ana")
    assert (reviewing.cell(reviewing.ids[0]), _voxel_count(reviewing)) == ("✗ rejected", hers)
    assert [len(reviewing.told("verdict", name)) for name in ("Ana", "Bo")] == [1, 1]


def test_a_rerun_during_a_review_keeps_the_reviewed_one(
    reviewing: Reviewing,
) -> None:
    first = reviewing.nodes
    reviewing.start()
    reviewing.judge()
    segment_crop(reviewing.opened, first.inputs[0])
    assert reviewing.nodes.hub is not first.hub
    assert reviewing.session is None
    assert reviewing.ui.startReviewButton.text.startswith("Resume the review (regions: 1 of ")
    reviewing.start()
    assert reviewing.cell(reviewing.ids[0]) == "✓ accepted"
    reviewing.ui.resultBox.currentIndex = 0
    assert (reviewing.session, reviewing.nodes.hub is first.hub) == (None, True)


@pytest.mark.parametrize("part", ["segmentation", "hub", "regions", "error map", "input"])
def test_deleting_a_part_of_the_run_in_mid_review(
    reviewing: Reviewing,
    part: str,
) -> None:
    nodes = reviewing.nodes
    reviewing.start()
    reviewing.judge()
    parts = {
        "segmentation": nodes.segmentation,
        "hub": nodes.hub,
        "regions": nodes.regions,
        "error map": nodes.maps["error_probability"],
        "input": nodes.inputs[0],
    }
    slicer.mrmlScene.RemoveNode(parts[part])
    if part == "input":
        reviewing.judge()
        assert len(reviewing.told("verdict")) == 2
    else:
        assert reviewing.session is None
        assert reviewing.log()[-1]["event"] == "closed"
        assert not reviewing.panel.keys.is_installed
    reviewing.press("N")


def test_the_end_leaves_no_observer_and_no_node_behind(reviewing: Reviewing) -> None:
    nodes = reviewing.nodes

    def count() -> tuple[int, int, int]:
        return observers_on(nodes.segmentation), observers_on(nodes.inputs[0]), observers_on(slicer.mrmlScene)

    reviewing.start()
    reviewing.ui.endReviewButton.click()
    before = count()
    names = sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode"))
    reviewing.start()
    reviewing.judge()
    reviewing.ui.endReviewButton.click()
    assert count() == before
    assert sorted(node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")) == names


def test_a_full_disk_is_told_and_nothing_is_lost(reviewing: Reviewing) -> None:
    reviewing.start()
    (folder,) = reviewing.folder().iterdir()
    moved = folder.with_name("elsewhere")
    folder.rename(moved)
    folder.write_text("no folder can be made here")
    reviewing.judge("rejected")
    assert "Cannot write" in reviewing.ui.reviewProgressLabel.text
    folder.unlink()
    moved.rename(folder)
    reviewing.judge("accepted")
    assert "Cannot write" not in reviewing.ui.reviewProgressLabel.text
    assert [line["verdict"] for line in reviewing.told("verdict")] == ["rejected", "accepted"]


def test_a_review_that_is_open_elsewhere_is_refused_in_one_sentence(reviewing: Reviewing) -> None:
    from SegWithUSlicerLib.review.session import ReviewSession

    other = ReviewSession(reviewing.nodes, "Ana", reviewing.folder().parents[1])
    reviewing.name("Ana")
    reviewing.ui.startReviewButton.click()
    assert reviewing.session is None
    assert "Ana" in reviewing.ui.reviewNoteLabel.text
    other.close()
