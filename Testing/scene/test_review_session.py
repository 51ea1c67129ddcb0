"""A review session without the panel: time, order and edits, on a real case in the scene."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from loaded_case import LoadedCase, loaded_case, paint
from written_case import change_case

from SegWithUCore.case.case_files import file_record
from SegWithUCore.review.log_format import Verdict, VerdictGiven
from SegWithUSlicerLib.review.opening import earlier_state, obstacle
from SegWithUSlicerLib.review.session import ReviewSession, ViewTimer
from SegWithUSlicerLib.scene.load_case import load_case
from SegWithUSlicerLib.scene.review_nodes import region_mask
from SegWithUSlicerLib.scene.segmentation import was_touched


class Seconds:
    """A clock that tests put forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _session(case: LoadedCase, root: Path, reviewer: str = "Ana", **options) -> tuple[ReviewSession, Seconds]:
    seconds = Seconds()
    clock = lambda: datetime(2026, 11, 25, 10, tzinfo=UTC)  # noqa: E731
    session = ReviewSession(case.nodes, reviewer, root, **options, clock=clock, monotonic=seconds, on_edit=lambda: None)
    return session, seconds


@pytest.fixture
def case(tmp_path, data_folder):
    return loaded_case(tmp_path, data_folder, regions=True)


def test_a_look_counts_only_while_it_is_visible():
    seconds = Seconds()
    clock = ViewTimer(seconds)
    clock.take()
    seconds.now += 3
    clock.set_running(False)
    seconds.now += 60
    clock.set_running(True)
    seconds.now += 2
    assert clock.take() == 5
    clock.set_running(False)
    clock.take()
    seconds.now += 60
    assert clock.take() == 0


def test_time_counts_until_a_minute_after_the_last_input_and_in_the_active_window(case, tmp_path):
    session, seconds = _session(case, tmp_path)
    session.show(session.regions[0].id)
    session.notice("mouse at 1")
    seconds.now += 50
    session.notice("mouse at 2")
    for _second in range(1060):  # a tab left open
        seconds.now += 1
        session.notice("mouse at 2")
    session.notice("mouse at 3")
    seconds.now += 5
    session.notice(None)
    seconds.now += 600
    session.notice("mouse at 3")
    seconds.now += 2
    session.judge(Verdict.ACCEPTED)
    session.close()
    assert [action.seconds for action in session.core.actions if isinstance(action, VerdictGiven)] == [117.0]


def test_minutes_are_of_the_open_regions_at_the_reviewers_own_pace(case, tmp_path):
    session, seconds = _session(case, tmp_path)
    count = len(session.ids)
    assert session.core.minutes_left == pytest.approx(20 * count / 60)
    session.show(session.ids[0])
    for spent in (2, 4, 6, 8, 50):
        assert session.core.minutes_left == pytest.approx(20 * (count - (spent > 2)) / 60)
        seconds.now += spent
        session.judge(Verdict.ACCEPTED)
    assert session.core.minutes_left == pytest.approx(6 * (count - 1) / 60)
    session.finish()
    left = [region for region in session.regions if session.state.is_open(region)]
    assert 0 < len(left) < count - 1
    assert session.core.minutes_left == pytest.approx(6 * len(left) / 60)
    session.close()


def test_an_edited_structure_is_not_finished_any_more(case, tmp_path):
    session, _seconds = _session(case, tmp_path)
    first, second = session.state.asked
    for name in (first, second):
        session.show_structure(name)
        session.finish()
    paint(case, 1, (0, 0, 0))  # background before
    assert session.check_for_edits()
    assert session.state.finished == {second}
    assert session.reopened == {first}
    assert not session.state.is_done
    session.show_structure(first)
    session.finish()
    session.close()
    assert earlier_state(case.nodes, "Ana", tmp_path).finished == {first, second}
    assert session.state.structure(first).verdict is Verdict.CORRECTED


def test_time_on_a_region_goes_into_its_verdict_or_look(case, tmp_path):
    session, seconds = _session(case, tmp_path)
    first, second, third = [region.id for region in session.regions[:3]]
    session.show(first)
    seconds.now += 4
    session.set_visible(False)
    seconds.now += 600
    session.set_visible(True)
    session.judge(Verdict.ACCEPTED)
    session.show(second)
    seconds.now += 0.3
    session.show(third)
    seconds.now += 7
    session.close()
    lines = [json.loads(line) for line in (session.folder / "review.Ana.jsonl").read_text().splitlines()]
    spent = {"looked": [7.0], "verdict": [4.0]}
    assert {kind: [line["seconds"] for line in lines if line["event"] == kind] for kind in spent} == spent


def test_opening_a_review_keeps_the_run_from_being_replaced(case, tmp_path):
    assert not was_touched(case.nodes.segmentation)
    session, _seconds = _session(case, tmp_path)
    assert was_touched(case.nodes.segmentation)
    session.close()


def test_what_was_decided_is_told_before_a_review_is_opened_again(case, tmp_path):
    assert earlier_state(case.nodes, "Ana", tmp_path) is None
    session, _seconds = _session(case, tmp_path)
    for region in session.regions[:2]:
        session.show(region.id)
        session.judge(Verdict.REJECTED)
    session.undo()
    count = len(session.regions)
    session.close()
    progress = earlier_state(case.nodes, "Ana", tmp_path).progress()
    assert (progress.decided, progress.regions) == (1, count)
    assert earlier_state(case.nodes, "Bo", tmp_path) is None


def test_the_log_tells_where_the_review_stopped(case, tmp_path):
    session, seconds = _session(case, tmp_path)
    at = session.regions[1].id
    session.show(at)
    seconds.now += 9
    session.close()
    again, _seconds = _session(case, tmp_path)
    assert again.resumed_at == at
    again.close()


def test_a_verdict_on_a_structure_is_undone(case, tmp_path):
    session, _seconds = _session(case, tmp_path)
    name = session.regions[0].structure
    session.judge_structure(name, Verdict.ACCEPTED)
    assert session.state.structure(name).explicit
    undone = session.undo()
    assert (undone.what, undone.region) == ("structure", None)
    session.close()
    assert not session.state.structure(name).explicit


def test_an_edit_says_how_the_segmentation_differs_from_the_models(case, tmp_path):
    session, _seconds = _session(case, tmp_path)
    session.show(session.regions[0].id)
    for place in ((2, 2, 2), (2, 2, 3)):
        paint(case, 1, place)
        assert session.check_for_edits()
    edits = session.state.edits
    assert [(edit.voxels_inside, edit.voxels_outside) for edit in edits] == [(0, 1), (0, 2)]
    session.close()


def test_a_run_that_lost_its_segmentation_is_closed_without_inventing_an_edit(case, tmp_path):
    session, _seconds = _session(case, tmp_path)
    session.show(session.regions[0].id)
    case.scene.RemoveNode(case.nodes.segmentation)
    assert not session.check_for_edits()
    assert "deleted" in obstacle(case.nodes)
    session.judge(Verdict.ACCEPTED)
    session.close()
    assert session.state.edits == []


def test_regions_damaged_by_hand_are_an_obstacle_and_no_fault(case):
    case.nodes.regions_text.SetText("id,rank\n1,one\n")
    assert obstacle(case.nodes)


def test_a_review_goes_on_in_the_browser_and_comes_back(case, tmp_path):
    from SegWithUCore.case.case_file import read_description
    from SegWithUCore.web.case_page import PageCase
    from SegWithUCore.web.case_volumes import read_volumes
    from SegWithUCore.web.reviews import OpenReviews

    files = {name: file_record(case.disk.folder / name) for name in ("regions.csv", "regions.nii.gz")}
    regions = {"settings": {"threshold": 0.25}, "expected_wrong_mm3": 200.0}
    change_case(case.disk.folder, regions=regions, files=files)
    case.nodes = load_case(case.disk.folder, case.volume, lasting=True)
    session, _seconds = _session(case, tmp_path)
    mine = {region.id: region for region in session.regions}
    voxels = {region.id: region_mask(case.nodes, region.id) for region in session.regions}
    session.show(session.regions[2].id)
    session.judge(Verdict.REJECTED)
    session.close()
    page = PageCase(read_volumes(session.folder, read_description(session.folder)))
    reviews = OpenReviews()
    window = reviews.open("1", page, "Ana", "structure")["session"]
    review, core = reviews.review("1", window), reviews.review("1", window).session
    theirs = {region.id: region for region in core.listed()}
    assert theirs.keys() == mine.keys()
    for id_, region in mine.items():
        assert theirs[id_].peak_ras_mm == pytest.approx(region.peak_ras_mm, abs=1e-3)
        box = page.masks.boxes[id_]
        assert (box.index, box.size) == (voxels[id_].offset_ijk, voxels[id_].mask.shape[::-1])
        start = page.masks.starts[id_]
        assert page.masks.data[start : start + voxels[id_].mask.size] == voxels[id_].mask.tobytes()
    headers = [json.loads(line) for line in core.log.lines if json.loads(line)["event"] == "opened"]
    assert headers[0]["settings"] == headers[1]["settings"]
    assert {**headers[0], "when": ""} == {**headers[1], "when": ""}
    assert core.state.last_region == session.regions[2].id
    assert core.state.verdict_of(core.state.last_region) == Verdict.REJECTED
    verdict = {"event": "verdict", "region": session.regions[0].id, "verdict": "accepted", "comment": None}
    review.add([{**verdict, "seconds": 1.0}])
    reviews.close(window)
    again, _seconds = _session(case, tmp_path)
    assert again.state.verdict_of(session.regions[0].id) == Verdict.ACCEPTED
    again.close()
