"""A review session, as panel and page use it: opened, resumed, undone, read only; and who sees whose."""

import shutil
from pathlib import Path

import pytest
from exchanged_cases import CASES, copied, judged
from review_cases import Clock, a_region

from SegWithUCore.case.case_file import read_case
from SegWithUCore.review.log import LogInUseError
from SegWithUCore.review.log_format import (
    Asked,
    Edited,
    Event,
    Opened,
    ParsedLog,
    RegionViewed,
    RestAccepted,
    Verdict,
    VerdictGiven,
    to_line,
)
from SegWithUCore.review.reviews import CaseReviews, Review, read_reviews, review_of, seen_by
from SegWithUCore.review.session import ReviewedCase, Session
from SegWithUCore.util.errors import InputError
from SegWithUCore.web.reviews import OpenReview, begins_with

REGIONS = [a_region(1), a_region(2)]


def review(name: str, decided: int) -> Review:
    header = Opened("case", "m", "1", "h", "w" * 64, "c" * 64, "r" * 64)
    facts = [header, *(VerdictGiven(id_, Verdict.REJECTED) for id_ in range(1, decided + 1))]
    events = tuple(Event("2026-01-01T00:00:00Z", name, fact) for fact in facts)
    lines = ParsedLog(tuple(to_line(event) for event in events), events)
    return review_of(Path(f"review.{name}.jsonl"), lines, REGIONS, "r" * 64, ["anterior"])


def test_a_reviewer_sees_the_own_review_alone() -> None:
    reviews = CaseReviews(tuple(REGIONS), (review("B", 2), review("A", 2)), ())
    assert [one.reviewer for one in seen_by("  A ", reviews).reviews] == ["A"]
    assert seen_by("C", reviews).reviews == seen_by("", reviews).reviews == ()


CASE = {"name": "case", "model": {"name": "m"}, "regions": {"settings": {"split": 0.9}},
        "structures": [{"value": 0, "name": "background"}, {"value": 1, "name": "anterior"}]}  # fmt: skip


def a_case() -> ReviewedCase:
    return ReviewedCase(CASE, REGIONS, "r" * 64)


def opened(folder: Path, order: str = "peak", **more: object) -> Session:
    return Session.open(a_case(), folder, "Ana", order, Clock(), **more)


def test_a_session_is_resumed_with_its_verdicts_and_its_place(tmp_path: Path) -> None:
    session = opened(tmp_path)
    assert session.resumed_at is None
    session.append(RegionViewed(1, 2.0))
    session.close()
    session = opened(tmp_path)
    assert session.resumed_at == 1, "not decided"
    session.append(VerdictGiven(2, Verdict.REJECTED))
    session.close()
    again = opened(tmp_path, "position")
    assert (again.state.verdict_of(2), again.resumed_at) == (Verdict.REJECTED, 1)
    assert again.actions[0].settings == {"split": 0.9, "order": "peak"}
    again.append(VerdictGiven(1, Verdict.REJECTED))
    again.close()
    last = opened(tmp_path)
    assert last.resumed_at == 1, "all are decided"
    last.close()


def test_undo_and_rest_are_lines_that_a_copy_follows(tmp_path: Path) -> None:
    kept: list[str] = []
    session = opened(tmp_path, keep=lambda log: kept.append(log.text))
    session.append(VerdictGiven(1, Verdict.ACCEPTED))
    assert session.undo().what == "verdict"
    assert session.undo() is None
    rest = session.accept_rest()
    assert isinstance(rest, RestAccepted)
    assert set(rest.regions) == {1, 2}
    assert not session.is_done and session.accept_rest() is None
    assert session.finish("anterior") is Verdict.ACCEPTED and session.is_done
    assert session.edit(Edited(2, "anterior, posterior", 3, 0, 3.0)) == ["anterior"] and not session.is_done
    assert session.finish("anterior") is Verdict.CORRECTED
    session.ask(["anterior"])
    assert not isinstance(session.actions[-1], Asked), "it is what is asked"
    session.ask(["anterior", "posterior"])
    place = session.add_place("posterior", (1.0, 2.0, 3.0))
    assert [region.id for region in session.listed("peak")] == [1, 2, place] and not session.is_done
    session.close()
    assert kept[-1] == session.log.path.read_text(encoding="utf-8")
    assert len(kept) == len(session.actions)


def test_a_line_that_does_not_fit_is_not_written_and_a_trial_writes_nothing(tmp_path: Path) -> None:
    session = opened(tmp_path)
    before = session.log.path.read_bytes()
    trial = session.trial()
    trial.append(VerdictGiven(1, Verdict.ACCEPTED))
    assert trial.undo() is not None
    trial.accept_rest()
    for review in (session, trial):
        with pytest.raises(InputError):
            review.append(VerdictGiven(9, Verdict.ACCEPTED))
    assert session.log.path.read_bytes() == before
    assert (session.state.lines, trial.state.lines) == (1, 4)
    session.close()


def test_a_session_locks_its_log_and_others_may_look(tmp_path: Path) -> None:
    session = opened(tmp_path)
    session.append(VerdictGiven(1, Verdict.ACCEPTED))
    with pytest.raises(LogInUseError):
        opened(tmp_path)
    looked = Session.read_only(a_case(), session.log.path)
    assert looked.state.verdict_of(1) is Verdict.ACCEPTED
    session.close()
    lines = session.log.path.read_bytes()
    session.log.path.write_bytes(lines.replace(b'"region": 1', b'"region": 9'))
    assert Session.read_only(a_case(), session.log.path).actions == []
    session.log.path.write_bytes(b"damaged\n" + lines)
    assert Session.read_only(a_case(), session.log.path).actions == []


def test_the_mark_of_a_log_says_how_much_of_it_was_seen(tmp_path: Path) -> None:
    review = OpenReview(None, opened(tmp_path))
    marks = [review.mark]
    for verdict in (Verdict.ACCEPTED, Verdict.REJECTED):
        review.session.append(VerdictGiven(1, verdict))
        marks.append(review.mark)
    assert [review.known_lines(mark) for mark in marks] == [1, 2, 3]
    assert review.known_lines("") is None
    review.session.close()


def test_an_act_whose_answer_was_lost_is_found_in_the_log_or_not() -> None:
    one = {"event": "verdict", "region": 1, "verdict": "accepted", "comment": None, "seconds": 1.0}
    line = {"when": "x", "reviewer": "A", **one}
    assert begins_with([line], [one])
    assert begins_with([line, line], [one])
    assert not begins_with([line], [one, one])
    assert not begins_with([], [one])
    assert not begins_with([{**line, "seconds": 2.0}], [one])
    rest = {"when": "x", "reviewer": "A", "event": "rest", "regions": [1, 2], "expected_wrong_mm3": 3.0}
    assert begins_with([rest, line], [{"event": "rest", "regions": [2, 1]}])


def test_copies_of_a_log_do_not_count_and_a_cut_one_is_named(segmented_cases: Path, tmp_path: Path) -> None:
    case = copied(segmented_cases / CASES[0], tmp_path / "cases")
    judged(case, "eve", {1: Verdict.REJECTED})
    log = case / "review.eve.jsonl"
    judged(case, "Bob", {1: Verdict.ACCEPTED})
    whole = read_reviews(case, read_case(case))
    assert ([one.path.name for one in whole.reviews], whole.notes) == (["review.Bob.jsonl", log.name], ())
    copies = ["review.eve (1).jsonl", "review.eve.sync-conflict-20260101-120000-ABCDEFG.jsonl"]
    for name in copies:
        shutil.copy(log, case / name)
    found = read_reviews(case, read_case(case))
    assert [one.path.name for one in found.reviews] == ["review.Bob.jsonl", log.name]
    assert len(found.notes) == 2 and all(any(name in note for note in found.notes) for name in copies)
    (whole_log := case / copies[0]).write_bytes(log.read_bytes() + log.read_bytes().splitlines(True)[-1])
    (gone := tmp_path / log.name).write_bytes(log.read_bytes())
    log.unlink()  # of copies alone the longest counts
    found = read_reviews(case, read_case(case))
    assert [one.path for one in found.reviews] == [case / "review.Bob.jsonl", whole_log]
    (note,) = found.notes
    assert copies[1] in note
    gone.rename(log)
    for name in copies:
        (case / name).unlink()
    log.write_bytes(log.read_bytes()[:-9])
    found = read_reviews(case, read_case(case))
    (note,) = found.notes
    assert log.name in note and [one.reviewer for one in found.reviews] == ["Bob", "eve"]
