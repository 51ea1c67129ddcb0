"""Rules by which reviews are opened in Slicer and in the browser, and who sees whose."""

from pathlib import Path

import pytest
from review_cases import HEADER, a_region, events_of

from SegWithUCore.review.independence import ended, seen_by
from SegWithUCore.review.log_format import BlindRevealed, Event, Opened, ParsedLog, Verdict, VerdictGiven, to_line
from SegWithUCore.review.opening import (
    BLIND,
    SEAL,
    ReviewLocation,
    blind_places_of,
    has_ended,
    parse_location,
    read_location,
    write_location,
)
from SegWithUCore.review.reviews import CaseReviews, Review, review_of
from SegWithUCore.web.open_review import found_in, known_lines, mark_of

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
    assert not has_ended([], False)


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
    assert blind_places_of(events_of(first, later)) == 4
    for odd in (None, "4", 4.5, True, [4]):
        assert blind_places_of(events_of(Opened(**{**HEADER.__dict__, "settings": {BLIND: odd}}))) == 0
    assert blind_places_of([]) == 0


def test_where_a_reviewer_stopped_is_kept_and_damage_costs_a_click_only(tmp_path: Path) -> None:
    place = ReviewLocation(3, "peak", "2026-11-25T10:00:00+00:00")
    write_location(tmp_path, "review.Ana.jsonl", place)
    assert read_location(tmp_path, "review.Ana.jsonl") == place
    assert read_location(tmp_path, "review.Bo.jsonl") is None
    for odd in ("", "{", "[]", '{"region": "x", "order": 1, "when": 2}', "[" * 3000):
        assert parse_location(odd) is None


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
