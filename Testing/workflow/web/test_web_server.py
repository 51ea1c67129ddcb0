"""The server behind the page, asked as its page asks it, on real cases: volumes and reviews."""

import base64
import csv
import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, changed_case, review
from repository import PACKAGES, TESTING
from web_client import WebClient, WebReview, lines_of, served

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_image import voxel_hash
from SegWithUCore.review import log as log_module
from SegWithUCore.review.log import AuditLog
from SegWithUCore.review.log_format import Opened, StructureJudged, Verdict, VerdictGiven
from SegWithUCore.review.reviewed_case import reviewed_case
from SegWithUCore.review.reviews import read_reviews
from SegWithUCore.review.signing import signature, valid_signature
from SegWithUCore.review.worklist import SECONDS_PER_REGION, SECONDS_TO_OPEN, make_worklist, read_for_worklist
from SegWithUCore.review.worklist_files import write_worklist
from SegWithUCore.web import case_store
from SegWithUCore.web.reviews import MOST_EVENTS

NAME = CASES[0]


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    """Three cases of the test's own."""
    return Path(shutil.copytree(segmented_cases, tmp_path / "cases"))


def array_of(folder: Path, name: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz")))


def volume(client: WebClient, case: str, facts: dict) -> np.ndarray:
    """A volume of the page on its box, (k, j, i)."""
    data = client.bytes(f"/api/cases/{case}/{facts['url']}")
    return np.frombuffer(data, np.dtype(facts["dtype"]).newbyteorder("<")).reshape(facts["box"]["size"][::-1])


def on_grid(part: np.ndarray, box: dict, shape: tuple[int, ...], outside: float) -> np.ndarray:
    whole = np.full(shape, outside, part.dtype)
    i, j, k = (slice(at, at + size) for at, size in zip(box["index"], box["size"], strict=True))
    whole[k, j, i] = part
    return whole


def test_every_voxel_reaches_the_page_as_it_is_in_the_case_folder(cases):
    folder = cases / NAME
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        case = client.get(f"/api/cases/{id_}")
        image, labels = (array_of(folder, name) for name in ("image", "segmentation"))
        shown = volume(client, id_, case["image"]) * case["image"]["scale"] + case["image"]["offset"]
        assert np.array_equal(shown, image)
        found = on_grid(volume(client, id_, case["labels"]), case["labels"]["box"], labels.shape, 0)
        assert np.array_equal(found, labels)
        for name in ("error_probability", "ranking", "calibration"):
            facts, exact = case["maps"][name], array_of(folder, name)
            steps = on_grid(volume(client, id_, facts), facts["box"], exact.shape, 0)
            low, high = facts["window"]
            for step in (0, 1, 50, 125, 249, 250):
                threshold = low + step / facts["steps"] * (high - low)
                assert np.array_equal(steps >= 2 + step, exact >= threshold), (name, step)
        regions = array_of(folder, "regions")
        masks = np.frombuffer(client.bytes(f"/api/cases/{id_}/volumes/masks"), np.uint8)
        for region in case["regions"]:
            size = region["box"]["size"]
            mask = masks[region["mask_start"] :][: np.prod(size)].reshape(size[::-1])
            assert np.array_equal(on_grid(mask, region["box"], regions.shape, 0) > 0, regions == region["id"])


def test_an_image_of_fractions_is_shown_in_fine_steps(cases, monkeypatch):
    monkeypatch.setattr(case_store, "KEPT_VOXELS", 1)
    folder = cases / NAME
    image = sitk.ReadImage(str(folder / "image.nii.gz"), sitk.sitkFloat32) * 1e-3 + 0.1
    sitk.WriteImage(image, str(folder / "image.nii.gz"))
    stored = sitk.ReadImage(str(folder / "image.nii.gz"))
    changed_case(folder, lambda case: case["input"]["channels"][0].update(voxels_sha256=voxel_hash(stored)))
    array = sitk.GetArrayFromImage(stored)
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_, other = client.case_id(NAME), client.case_id(CASES[1])
        case = client.get(f"/api/cases/{id_}")
        facts = case["image"]
        shown = volume(client, id_, facts) * facts["scale"] + facts["offset"]
        assert np.abs(shown - array).max() < np.ptp(array) / 1e4
        assert client.get(f"/api/cases/{other}")["id"] == other  # the first one is let go of
        assert list(server.routes.store._pages) == [other]
        assert np.array_equal(volume(client, id_, facts) * facts["scale"] + facts["offset"], shown)


def test_a_verdict_is_on_disk_before_the_answer_and_slicer_reads_the_same(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review = client.open(client.case_id(NAME), "Ana")
        one, two, three, four = review.ids[:4]
        for region, verdict in ((one, "accepted"), (two, "rejected"), (three, "needs second reader")):
            answer = review.judge(region, verdict, f"ä {region}")
            assert lines_of(cases / NAME, "Ana")[-1] == answer["lines"][-1]
        review.say({"event": "comment", "region": four, "comment": "</script>\u2028 later"})
        undone = review.say({"event": "undo", "line": 5, "what": "comment", "region": four})
        assert undone[0] == 200
        structure = review.client.get(f"/api/cases/{review.case}")["structures"][0]["name"]
        review.say({"event": "structure", "structure": structure, "verdict": "rejected", "comment": ""})
        review.say({"event": "looked", "region": four, "seconds": 3.0})
        review.say({"event": "rest"})
        review.close()
        assert lines_of(cases / NAME, "Ana")[-1]["event"] == "closed"
        (found,) = read_reviews(cases / NAME, read_case(cases / NAME)).reviews
    state = found.state
    assert [state.verdict_of(id_) for id_ in (one, two, three)] == ["accepted", "rejected", "needs second reader"]
    assert state.verdict_of(four) == "not looked at"
    assert state.comment_of(two) == f"ä {two}"
    assert state.comment_of(four) == ""
    assert state.structure(structure).verdict == "rejected"
    assert [event.action.seconds for event in found.events if isinstance(event.action, VerdictGiven)] == [1.5] * 3


NEXT = -1
"""Stands for the number of the next place that is added."""
NOT_A_LINE = [
    {"event": "verdict", "region": 999, "verdict": "accepted", "comment": None, "seconds": 1.0},
    {"event": "verdict", "region": 1, "verdict": "not looked at", "comment": None, "seconds": 1.0},
    {"event": "verdict", "region": 1, "verdict": "fine", "comment": None, "seconds": 1.0},
    {"event": "verdict", "region": 1, "verdict": "accepted", "comment": None, "seconds": -1.0},
    {"event": "verdict", "region": True, "verdict": "accepted", "comment": None, "seconds": 1.0},
    {"event": "verdict", "region": 1, "seconds": 1.0},
    {"event": "undo", "line": 1, "what": "opened", "region": None},
    {"event": "structure", "structure": "../liver", "verdict": "accepted", "comment": ""},
    {"event": "looked", "region": 1, "seconds": 0.1},
    {"event": "asked", "structures": []},
    {"event": "asked", "structures": ["liver"]},
    {"event": "asked", "structures": ["anterior hippocampus", "anterior hippocampus"]},
    {"event": "asked", "structures": "anterior hippocampus"},
    {"event": "added", "region": 1, "structure": "anterior hippocampus", "ras_mm": [0.0, 0.0, 0.0]},
    {"event": "added", "region": 999, "structure": "anterior hippocampus", "ras_mm": [0.0, 0.0, 0.0]},
    {"event": "added", "region": NEXT, "structure": "liver", "ras_mm": [0.0, 0.0, 0.0]},
    {"event": "added", "region": NEXT, "structure": "anterior hippocampus", "ras_mm": [0.0, 0.0]},
    {"event": "added", "region": NEXT, "structure": "anterior hippocampus", "ras_mm": [0.0, 1e308, 0.0]},
    {"event": "opened", "case": "x"},
    {"event": "closed"},
    {"event": "blind", "place": 1, "answer": None},
    {"event": "edited", "region": 1, "structure": "a", "voxels_inside": 1, "voxels_outside": 1, "changed_mm3": 1.0},
    {"event": "verdict", "region": 1, "verdict": "accepted", "comment": None, "seconds": 1e308},
    {"event": "looked", "region": 1, "seconds": 1e308},
    {},
]


def test_what_does_not_fit_is_refused_and_nothing_of_the_act_is_stored(cases):
    good = {"event": "verdict", "region": 1, "verdict": "accepted", "comment": None, "seconds": 1.0}
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review = client.open(client.case_id(NAME), "Ana")
        before = lines_of(cases / NAME, "Ana")
        for event in NOT_A_LINE:
            event = {**event, "region": max(review.ids) + 1} if event.get("region") == NEXT else event
            status, answer = review.say(good, event)
            assert (status, set(answer)) == (400, {"kind", "error"}), event
        assert review.say()[0] == 400
        many = review.say(*[good] * (MOST_EVENTS + 1))
        assert (many[0], set(many[1])) == (400, {"kind", "error"})
        assert lines_of(cases / NAME, "Ana") == before
        assert review.say(good)[0] == 200


def test_a_session_counts_at_the_address_of_its_case_only(cases):
    good = {"event": "verdict", "region": 1, "verdict": "accepted", "comment": None, "seconds": 1.0}
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review = client.open(client.case_id(NAME), "Ana")
        before, other = lines_of(cases / NAME, "Ana"), client.case_id(CASES[1])
        body = {"session": review.session, "last": review.last, "events": [good]}
        for path in ("events", "alive"):
            assert client.post(f"/api/cases/{other}/{path}", body)[0] == 409
        assert client.ask("GET", f"/api/cases/{other}/lines?session={review.session}")[0] == 409
        assert lines_of(cases / NAME, "Ana") == before
        assert review.say(good)[0] == 200


def test_two_windows_write_one_review_and_the_one_that_is_behind_is_told(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        first, second = client.open(id_, "Ana"), client.open(id_, "Ana")
        first.judge(first.ids[0])
        event = {"event": "verdict", "region": first.ids[0], "verdict": "rejected", "comment": None, "seconds": 1.0}
        status, answer = second.say(event)
        assert (status, answer["kind"]) == (409, "stale")
        assert answer["lines"] == lines_of(cases / NAME, "Ana")
        assert [line["event"] for line in answer["lines"]] == ["opened", "verdict"]
        assert second.alive()[1]["last"] == answer["last"] == first.last
        second.last = answer["last"]
        assert second.say(event)[0] == 200
        first.close()
        assert second.alive()[0] == 200  # the other window keeps it open
        second.close()
        assert second.alive()[0] == 409
        assert not (cases / NAME / "review.Ana.jsonl.lock").exists()


def test_an_answer_that_was_lost_is_given_again_and_nothing_is_written_twice(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        review = client.open(id_, "Ana")
        event = {"event": "verdict", "region": review.ids[0], "verdict": "accepted", "comment": None, "seconds": 1.0}
        before = review.last
        first = review.say(event)
        assert review.say(event, last=before) == first
        assert [line["event"] for line in lines_of(cases / NAME, "Ana")] == ["opened", "verdict"]
        review.close()
        again = client.open(id_, "Ana", last=before, pending=[event]).opened
        assert (again["pending_stored"], again["changed"]) == (True, False)
        other = {**event, "verdict": "rejected"}
        again = client.open(id_, "Ana", last=before, pending=[other]).opened
        assert (again["pending_stored"], again["changed"]) == (False, True)


def other_process(folder: Path, reviewer: str) -> subprocess.Popen[str]:
    """Slicer, as far as the log knows: opens the review and says a line now and then."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (PACKAGES, TESTING / "helpers")))}
    script = TESTING / "helpers" / "web_rival.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), reviewer],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_review_goes_to_another_program_and_back_without_ending_the_server(cases):
    folder = cases / NAME
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        review = client.open(id_, "Ana")
        review.judge(review.ids[0])
        with other_process(folder, "Ana") as refused:
            assert refused.communicate()[0].startswith("refused")
        review.close()
        with other_process(folder, "Ana") as rival:
            assert rival.stdout is not None and rival.stdin is not None
            assert rival.stdout.readline() == "open\n"
            opened = [line["when"] for line in lines_of(folder, "Ana") if line["event"] == "opened"]
            status, answer = client.post(f"/api/cases/{id_}/open", {"reviewer": "Ana", "last": review.last})
            assert (status, answer["kind"], answer["read_only"]) == (423, "in_use", True)
            assert answer["who"] == f"process {rival.pid} on {socket.gethostname()}"
            assert answer["since"] == opened[-1]
            assert answer["lines"] == lines_of(folder, "Ana")
            rival.communicate("judge\n")
        assert client.post(f"/api/cases/{id_}/events", {"session": review.session, "last": review.last,
                           "events": []})[1]["kind"] == "closed"  # fmt: skip
        again = client.open(id_, "Ana", last=review.last).opened
        assert again["changed"]
        assert again["lines"] == lines_of(folder, "Ana")
        assert [line["event"] for line in again["lines"]].count("verdict") == 2


def test_lines_of_another_program_are_never_mixed_with_those_of_a_window_that_slept(cases):
    folder = cases / NAME
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        review = client.open(id_, "Ana")
        review.judge(review.ids[0])
        (folder / "review.Ana.jsonl.lock").unlink()  # as after a day of sleep, seen from another computer
        other = AuditLog.open(folder, "Ana", header_of(folder))
        other.append(VerdictGiven(review.ids[1], Verdict.REJECTED))
        other.close()
        there = (folder / "review.Ana.jsonl").read_bytes()
        event = {"event": "verdict", "region": review.ids[1], "verdict": "accepted", "comment": None, "seconds": 1.0}
        assert review.say(event)[1]["kind"] == "closed"
        assert (folder / "review.Ana.jsonl").read_bytes() == there
        again = client.open(id_, "Ana", last=review.last, pending=[event]).opened
        assert (again["changed"], again["pending_stored"]) == (True, False)


def header_of(folder: Path) -> Opened:
    (first,) = (line for line in lines_of(folder, "Ana")[:1])
    return Opened(**{key: value for key, value in first.items() if key not in ("when", "reviewer", "event")})


def test_a_window_that_falls_silent_gives_its_review_back(cases):
    now = [0.0]
    with served(cases, monotonic=lambda: now[0]) as server:
        client = WebClient(server.gate.link)
        review = client.open(client.case_id(NAME), "Ana")
        now[0] += 25
        assert review.alive()[0] == 200
        now[0] += 25
        server.routes.reviews.close_silent()
        assert len(server.routes.reviews._open) == 1
        now[0] += 31
        server.routes.reviews.close_silent()
        assert len(server.routes.reviews._open) == 0
        assert not list((cases / NAME).glob("*.lock"))
        assert lines_of(cases / NAME, "Ana")[-1]["event"] == "closed"
        client.open(review.case, "Ana", order="peak")
        assert lines_of(cases / NAME, "Ana")[-1]["settings"]["order"] == "peak"


def test_reviewers_do_not_see_each_other_before_both_have_ended(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        bob = client.open(id_, "Bob")
        for region in bob.ids:
            bob.judge(region, "rejected", "secret of Bob")
        case = client.get(f"/api/cases/{id_}")
        for name in case["asked"]:
            assert bob.say({"event": "structure", "structure": name, "verdict": "accepted", "comment": ""})[0] == 200
        listed = sum(region["kind"] != "blind sample" for region in case["regions"])
        ana = client.open(id_, "Ana")
        everything = json.dumps([ana.opened, client.worklist("Ana"), client.get(f"/api/cases/{id_}")])
        assert "secret of Bob" not in everything
        assert "rejected" not in json.dumps(client.worklist("Ana")["cases"])
        worklist = client.worklist("Ana")
        (entry,) = (case for case in worklist["cases"] if case["id"] == id_)
        names = [column["name"] for column in worklist["columns"]]
        cells = {name: text for name, (text, _) in zip(names, entry["cells"], strict=True)}
        assert cells["minutes"] == f"{(SECONDS_TO_OPEN + SECONDS_PER_REGION * listed) / 60:.1f}", "all are open"
        assert cells["reviewed"] == f"0 of {listed}; Bob: done"
        for region in ana.ids:
            assert "secret of Bob" not in json.dumps(ana.judge(region))


def test_on_a_full_disk_the_page_is_told_and_nothing_is_lost(cases, monkeypatch):
    write_all = log_module._write_all

    def full(handle, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with served(cases) as server:
        client = WebClient(server.gate.link)
        review = client.open(client.case_id(NAME), "Ana")
        monkeypatch.setattr(log_module, "_write_all", full)
        answer = review.judge(review.ids[0])
        assert not answer["stored"]
        assert "lines not stored yet: 1" in answer["trouble"]
        assert not review.judge(review.ids[1])["stored"]
        review.close()
        server.routes.reviews.close_silent()
        assert len(server.routes.reviews._open) == 1  # kept, for its lines are nowhere else
        again = client.open(review.case, "Ana")
        assert (again.opened["stored"], again.opened["changed"], again.last) == (False, False, again.opened["last"])
        monkeypatch.setattr(log_module, "_write_all", write_all)
        assert again.alive()[1]["stored"]
        assert [line["event"] for line in lines_of(cases / NAME, "Ana")][:3] == ["opened", "verdict", "verdict"]
        monkeypatch.setattr(log_module, "_write_all", full)
        again.judge(again.ids[2])
        (left,) = server.routes.reviews.close_all()
        assert "lines not stored yet" in left
        monkeypatch.setattr(log_module, "_write_all", write_all)
    kinds = [line["event"] for line in lines_of(cases / NAME, "Ana")]
    assert (kinds.count("verdict"), kinds[-1]) == (3, "closed")


def test_a_case_that_cannot_be_written_to_is_shown_and_takes_no_verdicts(cases):
    (cases / NAME / "review.Ana.jsonl.lock").mkdir()  # whoever runs the tests may write anywhere
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        status, answer = client.post(f"/api/cases/{id_}/open", {"reviewer": "Ana"})
        assert (status, answer["kind"], answer["read_only"], answer["lines"]) == (423, "not_writable", True, [])
        assert str(cases / NAME / "review.Ana.jsonl") in answer["error"]
        assert "memory" not in answer["error"], "nothing is kept"
        assert client.open(id_, "Bob").opened["lines"]


def test_a_case_without_regions_or_image_is_shown_and_says_why(cases):
    changed_case(cases / NAME, lambda case: case.update(regions=None))
    (cases / CASES[1] / "segmentation.nii.gz").write_bytes(b"no volume")
    with served(cases) as server:
        client = WebClient(server.gate.link)
        id_ = client.case_id(NAME)
        case = client.get(f"/api/cases/{id_}")
        assert (case["regions"], case["regions_trouble"]) == ([], "This case has no regions: run segwithu regions.")
        assert client.post(f"/api/cases/{id_}/open", {"reviewer": "Ana"})[1]["kind"] == "no_regions"
        status, _, content = client.ask("GET", f"/api/cases/{client.case_id(CASES[1])}")
        assert (status, json.loads(content)["kind"]) == (409, "damaged")
        assert str(cases / CASES[1]) in json.loads(content)["error"]


def test_the_review_of_slicer_shows_the_version_that_was_edited_there(cases):
    folder = cases / NAME
    labels = sitk.ReadImage(str(folder / "segmentation.nii.gz"))
    edited = sitk.GetArrayFromImage(labels)
    edited[edited == 1] = 0
    image = sitk.GetImageFromArray(edited)
    image.CopyInformation(labels)
    sitk.WriteImage(image, str(folder / "segmentation_reviewed.Ana.seg.nrrd"))
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review: WebReview = client.open(client.case_id(NAME), "Ana")
        assert review.opened["has_edits"]
        facts = review.opened["labels"]
        shown = on_grid(volume(client, review.case, facts), facts["box"], edited.shape, 0)
        assert np.array_equal(shown, edited)
        bob = client.open(review.case, "Bob").opened
        assert (bob["has_edits"], bob["labels"]) == (False, None)


def test_a_mask_becomes_the_reviewers_version_and_a_bad_one_changes_nothing(cases):
    folder = cases / NAME
    image = sitk.ReadImage(str(folder / "segmentation.nii.gz"))
    drawn = sitk.GetArrayFromImage(image)
    drawn[drawn == 1] = 0
    edited = sitk.GetImageFromArray(drawn)
    edited.CopyInformation(image)
    sitk.WriteImage(edited, str(cases.parent / "mask.nii.gz"))
    content = (cases.parent / "mask.nii.gz").read_bytes()
    before = sorted(path.name for path in folder.iterdir())
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review: WebReview = client.open(client.case_id(NAME), "Ana")
        address = f"/api/cases/{review.case}/mask"
        sent = {"session": review.opened["session"], "name": "mask.nii.gz"}
        for wrong in ({"content": base64.b64encode(content[:-40]).decode()}, {"content": "?"}, {"name": "mask.png"}):
            status, answer = client.post(address, {**sent, "content": base64.b64encode(content).decode(), **wrong})
            assert status in (400, 409, 422) and answer["error"]
            assert str(cases) not in answer["error"]
            assert sorted(path.name for path in folder.iterdir() if not path.name.startswith("review.")) == before
        assert client.post(address, {**sent, "session": "other", "content": ""})[0] != 200
        status, answer = client.post(address, {**sent, "content": base64.b64encode(content).decode()})
        assert (status, answer["volumes_mm3"]["anterior hippocampus"][1]) == (200, 0.0)
        again: WebReview = client.open(review.case, "Ana")
        facts = again.opened["labels"]
        assert np.array_equal(on_grid(volume(client, again.case, facts), facts["box"], drawn.shape, 0), drawn)
        assert [line["event"] for line in again.opened["lines"]].count("edited") == 1


def test_a_scrolled_contour_is_drawn_logged_and_taken_back(cases):
    folder = cases / NAME
    drawn = array_of(folder, "segmentation")
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review: WebReview = client.open(client.case_id(NAME), "Ana")
        address, session = f"/api/cases/{review.case}", review.opened["session"]
        asked = {"session": session, "structure": "anterior hippocampus", "region": None}
        status, found = client.post(f"{address}/scroll", asked)
        assert status == 200 and found["positions"][found["start"]] == {"voxels": 0, "runs": []}
        chosen = found["positions"][-8]
        assert chosen["voxels"] > 0
        for wrong in ({"structure": "liver"}, {"region": 10**6}, {"region": "1"}, {"session": "other"}):
            assert client.post(f"{address}/scroll", {**asked, **wrong})[0] != 200

        def say(last: str, *events: dict) -> tuple[int, dict]:
            return client.post(f"{address}/events", {"session": session, "last": last, "events": [*events]})

        event = {"event": "drawn", "gesture": "scroll", "region": None, "runs": chosen["runs"]}
        last, far = review.opened["last"], [[drawn.size - 1, 5, 0, 1]]
        for wrong in (
            {"runs": far},
            {"runs": [[0, 1, 1, 2]]},
            {"runs": [[0, 1, 0, 99]]},
            {"runs": []},
            {"gesture": "?"},
        ):
            assert say(last, {**event, **wrong})[0] == 400, wrong
        assert not list(folder.glob("segmentation_reviewed*"))
        status, answer = say(last, event)
        assert status == 200 and answer["lines"][0]["gesture"] == "scroll"
        assert say(last, event)[1]["last"] == answer["last"], "an answer that was lost"
        version = folder / "segmentation_reviewed.Ana.seg.nrrd"
        after = sitk.GetArrayFromImage(sitk.ReadImage(str(version)))
        changed = (after != drawn).ravel()
        assert np.flatnonzero(changed).size == sum(count for _, count, _, _ in chosen["runs"])
        assert int((after == 1).sum()) - int((drawn == 1).sum()) == chosen["voxels"]
        figures = answer["figures"]["anterior hippocampus"]
        assert figures["volume_mm3"] == pytest.approx(float((after == 1).sum()), rel=1e-6)
        status, answer = say(answer["last"], {"event": "undo", "line": 2, "what": "edited", "region": None})
        assert status == 200
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(version))), drawn)
        assert [line["event"] for line in lines_of(folder, "Ana")] == ["opened", "edited", "undo"]


def test_a_finished_structure_is_not_drawn_on_until_it_is_reopened(cases):
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review: WebReview = client.open(client.case_id(NAME), "Ana")
        address, session, last = f"/api/cases/{review.case}", review.opened["session"], review.opened["last"]
        asked = {"session": session, "structure": "anterior hippocampus", "region": None}
        runs = client.post(f"{address}/scroll", asked)[1]["positions"][-8]["runs"]
        drawn = {"event": "drawn", "gesture": "scroll", "region": None, "runs": runs}

        def say(*events: dict) -> tuple[int, dict]:
            return client.post(f"{address}/events", {"session": session, "last": last, "events": [*events]})

        judged = {"event": "structure", "structure": "anterior hippocampus", "verdict": "accepted", "comment": ""}
        last = say(judged)[1]["last"]
        for status, answer in (client.post(f"{address}/scroll", asked), say(drawn)):
            assert status in (400, 409) and "reopen" in answer["error"]
        last = say({**judged, "verdict": None})[1]["last"]
        assert client.post(f"{address}/scroll", asked)[0] == say(drawn)[0] == 200


def test_what_is_finished_is_signed_until_it_changes_and_stands_in_volumes_csv(cases, tmp_path):
    folder = cases / NAME
    names = ["anterior hippocampus", "posterior hippocampus"]
    changed_case(folder, lambda content: content["structures"][1].update(held=1, held_of=5))
    with served(cases) as server:
        client = WebClient(server.gate.link)
        opened: WebReview = client.open(client.case_id(NAME), "Ana")

        def say(last: str, *events: dict) -> tuple[int, dict]:
            said = {"session": opened.opened["session"], "last": last, "events": [*events]}
            return client.post(f"/api/cases/{opened.case}/events", said)

        def rows() -> dict[str, dict[str, str]]:
            write_worklist(make_worklist([folder]), tmp_path)
            with (tmp_path / "volumes.csv").open(encoding="utf-8-sig", newline="") as table:
                return {row["structure"]: row for row in csv.DictReader(table)}

        finish = {"event": "structure", "structure": names[0], "verdict": "accepted", "comment": ""}
        assert [text for text in opened.opened["to_sign"] if names[0] in text] == [], "its interval held too rarely"
        last = say(opened.opened["last"], finish)[1]["last"]
        assert say(last, {"event": "signed"}, {"event": "comment", "region": 1, "comment": "x"})[0] == 400
        assert say(last, {"event": "signed", "volumes": [], "segmentation_sha256": ""})[0] == 200, "it measures itself"
        (line,) = [line for line in lines_of(folder, "Ana") if line["event"] == "signed"]
        assert line["segmentation_sha256"] == hashlib.sha256((folder / "segmentation.nii.gz").read_bytes()).hexdigest()
        (signed,) = [each for each in line["volumes"] if each["structure"] == names[0]]
        voxels = int((array_of(folder, "segmentation") == 1).sum())
        assert (signed["basis"], signed["volume_mm3"]) == ("finished", pytest.approx(voxels, rel=1e-6))
        row = rows()[names[0]]
        assert (row["basis"], row["reader"], row["signed"]) == ("finished", "Ana", line["when"])
        assert float(row["volume_mm3"]) == pytest.approx(voxels, rel=1e-6)
        assert read_for_worklist(folder).review_text("Ana") == "signed"
        again: WebReview = client.open(opened.case, "Ana")
        assert again.opened["signed"] == line["when"]
        status, answer = say(again.opened["last"], {**finish, "verdict": None})
        assert (status, answer["signed"]) == (200, "")
        assert (rows()[names[0]]["basis"], rows()[names[0]]["reader"]) == ("", "")
        assert read_for_worklist(folder).review_text("Ana") != "signed"


def test_a_signature_ends_with_the_segmentation_that_it_was_given_for(cases, tmp_path):
    folder = cases / NAME
    review(folder, "Ana", StructureJudged("anterior hippocampus", Verdict.ACCEPTED))
    version = folder / "segmentation_reviewed.Ana.seg.nrrd"
    shutil.copy(folder / "segmentation.seg.nrrd", version)
    (found,) = read_reviews(folder, read_case(folder)).reviews
    review(folder, "Ana", signature(reviewed_case(folder, read_case(folder), found), found))
    (found,) = read_reviews(folder, read_case(folder)).reviews
    assert valid_signature(read_case(folder), found) is not None
    version.unlink()
    assert valid_signature(read_case(folder), found) is None


def test_a_version_with_segments_of_the_readers_own_is_not_drawn_on(cases):
    folder = cases / NAME
    image = sitk.ReadImage(str(folder / "segmentation.seg.nrrd"))
    image.SetMetaData("Segment0_Name", "cyst")
    sitk.WriteImage(image, str(folder / "segmentation_reviewed.Ana.seg.nrrd"))
    before = (folder / "segmentation_reviewed.Ana.seg.nrrd").read_bytes()
    with served(cases) as server:
        client = WebClient(server.gate.link)
        review: WebReview = client.open(client.case_id(NAME), "Ana")
        event = {"event": "drawn", "gesture": "brush", "region": None, "runs": [[0, 2, 0, 2]]}
        said = {"session": review.opened["session"], "last": review.opened["last"], "events": [event]}
        status, answer = client.post(f"/api/cases/{review.case}/events", said)
        assert status == 400 and "cyst" in answer["error"]
    assert (folder / "segmentation_reviewed.Ana.seg.nrrd").read_bytes() == before
