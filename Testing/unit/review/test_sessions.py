"""A review session, as panel and page use it: opened, resumed, undone, revealed, read only; and who sees whose."""

from pathlib import Path

import numpy as np
import pytest
from review_cases import HEADER, Clock, a_region, events_of

from SegWithUCore.review.blind import SamplingInput
from SegWithUCore.review.log import LogInUseError
from SegWithUCore.review.log_format import (
    BLIND,
    SEAL,
    BlindRevealed,
    Closed,
    Event,
    Opened,
    ParsedLog,
    RestAccepted,
    Verdict,
    VerdictGiven,
    to_line,
)
from SegWithUCore.review.reviews import CaseReviews, Review, ended, review_of, seen_by
from SegWithUCore.review.session import (
    ReviewedCase,
    ReviewLocation,
    ReviewOptions,
    Session,
    parse_location,
    read_location,
    write_location,
)
from SegWithUCore.util.errors import InputError
from SegWithUCore.web.reviews import found_in, known_lines, mark_of

REGIONS = [a_region(1), a_region(2)]


def review(name: str, decided: int, settings: dict[str, object] | None = None, *more: object) -> Review:
    header = Opened("case", "m", "1", "h", "w" * 64, "c" * 64, "r" * 64, settings or {})
    facts = [header, *(VerdictGiven(id_, Verdict.REJECTED) for id_ in range(1, decided + 1)), *more]
    events = tuple(Event("2026-01-01T00:00:00Z", name, fact) for fact in facts)
    lines = ParsedLog(tuple(to_line(event) for event in events), events)
    return review_of(Path(f"review.{name}.jsonl"), lines, REGIONS, "r" * 64, 15.0)


def test_a_review_has_ended_when_all_is_decided_and_blind_places_are_told() -> None:
    hidden = {BLIND: 1, SEAL: "s"}
    blind = VerdictGiven(9, Verdict.ACCEPTED), BlindRevealed(9, Verdict.ACCEPTED)
    assert [ended(review("A", n), REGIONS) for n in (0, 1, 2)] == [False, False, True]
    assert not ended(review("A", 2, hidden, blind[0]), REGIONS)
    assert ended(review("A", 2, hidden, *blind), REGIONS)
    assert ended(review("A", 2, {BLIND: 3}), REGIONS), "no room for blind places was found"


@pytest.mark.parametrize(
    ("own", "other", "seen"),
    [(0, 2, ["A"]), (2, 0, ["A"]), (2, 2, ["A", "B"]), (1, 1, ["A"]), (None, 2, [])],
)
def test_others_are_seen_when_both_have_ended(own: int | None, other: int, seen: list[str]) -> None:
    reviews = [review("B", other), *([] if own is None else [review("A", own)])]
    found = seen_by("  A ", CaseReviews(tuple(REGIONS), tuple(reviews), ()))
    assert [one.reviewer for one in found.reviews] == seen
    assert seen_by("", CaseReviews(tuple(REGIONS), tuple(reviews), ())).reviews == ()


def test_blind_places_are_those_that_the_first_line_says() -> None:
    first = Opened(**{**HEADER.__dict__, "settings": {BLIND: 4}})
    later = Opened(**{**HEADER.__dict__, "settings": {BLIND: 9}})
    assert ParsedLog((), tuple(events_of(first, later))).blind_places == 4
    for odd in (None, "4", 4.5, True, [4]):
        first = Opened(**{**HEADER.__dict__, "settings": {BLIND: odd}})
        assert ParsedLog((), tuple(events_of(first))).blind_places == 0
    assert ParsedLog((), ()).blind_places == 0


def test_where_a_reviewer_stopped_is_kept_and_damage_costs_a_click_only(tmp_path: Path) -> None:
    place = ReviewLocation(3, "peak", "2026-11-25T10:00:00+00:00")
    write_location(tmp_path, "review.Ana.jsonl", place)
    assert read_location(tmp_path, "review.Ana.jsonl") == place
    assert read_location(tmp_path, "review.Bo.jsonl") is None
    for odd in ("", "{", "[]", '{"region": "x", "order": 1, "when": 2}', "[" * 3000):
        assert parse_location(odd) is None


CASE = {"name": "case", "model": {"name": "m"}, "regions": {"expected_wrong_mm3": 15.0, "settings": {"split": 0.9}}}


def a_case() -> ReviewedCase:
    """Two regions and room for blind places, on a cube with one structure."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[10:30, 10:30, 10:30] = 1
    risk = np.full(labels.shape, 0.01, np.float32)
    names = {0: "background", 1: "anterior"}
    source = SamplingInput(risk, labels, np.zeros_like(labels), (1.0, 1.0, 1.0), np.eye(4), names)
    return ReviewedCase(CASE, REGIONS, "r" * 64, lambda: source)


def opened(folder: Path, blind: int = 0, **more: object) -> Session:
    return Session.open(a_case(), folder, "Ana", ReviewOptions("peak", blind), Clock(), **more)


def test_a_session_is_resumed_with_its_verdicts_order_place_and_blind_places(tmp_path: Path) -> None:
    session = opened(tmp_path, blind=3)
    assert len(session.regions) == 5
    session.append(VerdictGiven(2, Verdict.REJECTED))
    session.remember(1, "position", Clock()())
    session.close()
    again = opened(tmp_path, blind=0)
    assert again.ids == session.ids
    assert (again.state.verdict_of(2), again.order, again.resumed_at) == (Verdict.REJECTED, "position", 1)
    assert [type(action) for action in again.actions] == [Opened, VerdictGiven, Closed, Opened]
    assert again.actions[0].settings == {"split": 0.9, "order": "peak", BLIND: 3, SEAL: again.blind.sha256}
    again.close()


def test_without_a_remembered_place_the_last_region_counts_and_of_two_places_the_later(tmp_path: Path) -> None:
    session = opened(tmp_path)
    assert session.resumed_at is None
    session.append(VerdictGiven(2, Verdict.REJECTED))
    session.close()
    assert _closed(opened(tmp_path)).resumed_at == 2
    later = ReviewLocation(1, "structure", "2026-11-25T11:00:00+00:00")
    write_location(tmp_path, session.log.path.name, ReviewLocation(2, "peak", "2026-11-25T10:00:00+00:00"))
    found = _closed(opened(tmp_path, scene_location=later))
    assert (found.resumed_at, found.order) == (1, "structure")
    write_location(tmp_path, session.log.path.name, ReviewLocation(9, "by colour", "2026-11-25T12:00:00+00:00"))
    found = _closed(opened(tmp_path, scene_location=later))
    assert (found.resumed_at, found.order) == (None, "peak")


def test_undo_rest_and_reveal_are_lines_that_a_copy_follows(tmp_path: Path) -> None:
    kept: list[str] = []
    session = opened(tmp_path, blind=2, keep=lambda log: kept.append(log.text))
    session.append(VerdictGiven(1, Verdict.ACCEPTED))
    assert session.undo().what == "verdict"
    assert session.undo() is None
    rest = session.accept_rest()
    assert isinstance(rest, RestAccepted)
    assert set(rest.regions) == set(session.ids)
    assert session.is_done
    assert session.accept_rest() is None
    assert session.revealed is None
    assert "the 2 blind places" in session.reveal()
    assert session.revealed == sorted(session.blind.ids)
    count = len(session.actions)
    assert session.reveal() is not None
    assert len(session.actions) == count, "what is revealed is not logged twice"
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
    session = opened(tmp_path, blind=2)
    session.append(VerdictGiven(1, Verdict.ACCEPTED))
    with pytest.raises(LogInUseError):
        opened(tmp_path)
    looked = Session.read_only(a_case(), session.log.path)
    assert looked.ids == session.ids
    assert looked.state.verdict_of(1) is Verdict.ACCEPTED
    session.close()
    lines = session.log.path.read_bytes()
    session.log.path.write_bytes(lines.replace(b'"region": 1', b'"region": 9'))
    assert Session.read_only(a_case(), session.log.path).actions == []
    session.log.path.write_bytes(b"damaged\n" + lines)
    assert Session.read_only(a_case(), session.log.path).actions == []


def _closed(session: Session) -> Session:
    session.close()
    return session


def test_the_mark_of_a_log_says_how_much_of_it_was_seen() -> None:
    lines = [b"one\n", b"two\n", b"two\n"]
    assert [known_lines(lines, mark_of(lines[:n])) for n in range(4)] == [0, 1, 2, 3]
    assert known_lines(lines, mark_of([b"other\n"])) is None
    assert known_lines(lines, "") is None


def test_an_act_whose_answer_was_lost_is_found_in_the_log_or_not() -> None:
    one = {"event": "verdict", "region": 1, "verdict": "accepted", "comment": None, "seconds": 1.0}
    line = {"when": "x", "reviewer": "A", **one}
    blind = {"when": "x", "reviewer": "A", "event": "blind", "place": 3, "answer": None}
    assert found_in([line], [one]) == 1
    assert found_in([line, line], [one]) == 1
    assert found_in([line], [one, one]) is None
    assert found_in([], [one]) is None
    assert found_in([{**line, "seconds": 2.0}], [one]) is None
    assert found_in([blind, blind, line], [{"event": "reveal"}]) == 2
    assert found_in([line], [{"event": "reveal"}]) is None
    rest = {"when": "x", "reviewer": "A", "event": "rest", "regions": [1, 2], "expected_wrong_mm3": 3.0}
    assert found_in([rest, line], [{"event": "rest", "regions": [2, 1]}]) == 1
