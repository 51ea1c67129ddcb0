"""The state of a review against a naive model, by hand, and with thousands of regions."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from counting import calls_of
from review_cases import HEADER, a_region, events_of

from SegWithUCore.regions.region import Competition, Kind, Region
from SegWithUCore.review.log_format import (
    Action,
    Asked,
    Closed,
    Commented,
    Edited,
    PlaceAdded,
    RegionViewed,
    RestAccepted,
    StructureJudged,
    Undone,
    VerdictGiven,
)
from SegWithUCore.review.state import ReviewState, Verdict
from SegWithUCore.util.errors import InputError

REGIONS = [a_region(1), a_region(2), a_region(3, structure="posterior"), a_region(4, structure="posterior")]
ASKED = ("anterior", "posterior")


def replayed(*facts: Action, regions: Sequence[Region] = REGIONS, asked: Sequence[str] = ASKED) -> ReviewState:
    return ReviewState.replayed(events_of(*facts), regions, asked)


def does_the_undo(state: ReviewState) -> None:
    undo = state.next_undo()
    assert undo is not None
    state.apply(events_of(undo)[0])


class Naive:
    """The review as a list of what was said; nothing is remembered but that."""

    def __init__(self) -> None:
        self.said: list[Action] = []

    def apply(self, fact: Action) -> None:
        if isinstance(fact, Undone):
            self.said.pop()
        elif isinstance(fact, VerdictGiven | Commented | StructureJudged):
            self.said.append(fact)

    def last(self, wanted: Callable[[Any], bool], what: str, otherwise: Any) -> Any:
        found = [getattr(fact, what) for fact in self.said if wanted(fact)]
        return found[-1] if found else otherwise

    def verdict(self, region: int) -> Verdict | None:
        return self.last(lambda f: isinstance(f, VerdictGiven) and f.region == region, "verdict", None)

    def comment(self, region: int) -> str:
        def speaks(fact: Any) -> bool:
            said = isinstance(fact, VerdictGiven | Commented) and fact.region == region
            return said and fact.comment is not None

        return self.last(speaks, "comment", "")

    def structure(self, name: str) -> Verdict | None:
        return self.last(lambda f: isinstance(f, StructureJudged) and f.structure == name, "verdict", None)


def random_fact(dice: random.Random, state: ReviewState) -> Action:
    region = dice.choice(REGIONS)
    verdict = dice.choice(list(Verdict))
    fact = dice.choice(
        [
            VerdictGiven(region.id, verdict, dice.choice([None, "", "wörd"]), dice.random()),
            VerdictGiven(region.id, verdict),
            Commented(region.id, dice.choice(["", "a", "b"])),
            StructureJudged(region.structure, dice.choice([None, verdict])),
            RegionViewed(region.id, dice.random()),
            Edited(None, "anterior", 3, 4, 7.0),
            HEADER,
            Closed(),
            None,
            None,
        ]
    )
    return fact or state.next_undo() or Closed()


@pytest.mark.parametrize("seed", range(40))
def test_random_reviews_equal_a_naive_model_and_their_own_replay(seed: int) -> None:
    dice, naive, facts = random.Random(seed), Naive(), []
    state = ReviewState(REGIONS, ASKED)
    for _ in range(120):
        facts.append(random_fact(dice, state))
        trial, before = state.copied(), copy.deepcopy(vars(state))
        trial.apply(events_of(facts[-1])[0])
        assert vars(state) == before, "a copy changes apart"
        state.apply(events_of(facts[-1])[0])
        naive.apply(facts[-1])
        for region in REGIONS:
            assert state.verdict_of(region.id) == naive.verdict(region.id)
            assert state.comment_of(region.id) == naive.comment(region.id)
            assert state.decided(region.id) == (naive.verdict(region.id) is not None)
        for name in ("anterior", "posterior"):
            assert state.structure(name).explicit == (naive.structure(name) is not None)
            if naive.structure(name):
                assert state.structure(name).verdict == naive.structure(name)
    again = replayed(*facts)
    assert vars(again) == vars(state)
    assert state.lines == len(facts)
    assert any(isinstance(fact, Undone) for fact in facts)


def test_a_chain_of_undos_goes_back_to_the_start_and_names_each_line() -> None:
    state = replayed(
        HEADER,
        VerdictGiven(1, Verdict.REJECTED, "no", 3.0),
        Commented(1, "well"),
        VerdictGiven(1, Verdict.ACCEPTED),
        StructureJudged("anterior", Verdict.CORRECTED, "by hand"),
    )
    seen = []
    while undo := state.next_undo():
        seen.append((undo.line, undo.what, undo.region))
        state.apply(events_of(undo)[0])
    assert seen == [(5, "structure", None), (4, "verdict", 1), (3, "comment", 1), (2, "verdict", 1)]
    assert (state.verdict_of(1), state.comment_of(1), state.structure("anterior").verdict) == (None, "", None)


@pytest.mark.parametrize(("region", "goes_on_at"), [(2, 2), (None, 3)])
def test_a_review_goes_on_at_the_region_that_was_edited_last(region: int | None, goes_on_at: int) -> None:
    """In whatever order: after region 1 comes region 3 here."""
    state = replayed(VerdictGiven(1, Verdict.ACCEPTED), Edited(region, "anterior", 5, 0, 5.0))
    assert state.stopped_at([1, 3, 2]) == goes_on_at


def test_undo_takes_back_the_newest_verdict() -> None:
    state = replayed(VerdictGiven(1, Verdict.ACCEPTED), VerdictGiven(2, Verdict.ACCEPTED))
    does_the_undo(state)
    state.apply(events_of(VerdictGiven(3, Verdict.REJECTED))[0])
    assert state.last_region == 3
    does_the_undo(state)
    assert [state.verdict_of(r) for r in (1, 2, 3)] == [Verdict.ACCEPTED, None, None]
    does_the_undo(state)
    assert state.verdict_of(1) is None
    assert state.last_region == 1
    assert state.next_undo() is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([Undone(1, "verdict", 1)], "there is nothing to undo"),
        ([VerdictGiven(1, Verdict.ACCEPTED), Commented(1, "a"), Undone(1, "verdict", 1)], "only line 2 can be undone"),
        ([VerdictGiven(1, Verdict.ACCEPTED), Undone(1, "verdict", 2)], "only line 1 can be undone"),
        ([VerdictGiven(9, Verdict.ACCEPTED)], "region 9"),
        ([RegionViewed(9, 1.0)], "region 9"),
    ],
)
def test_a_log_that_does_not_fit_is_named_by_its_line(facts: list[Action], words: str) -> None:
    with pytest.raises(InputError, match=f"^Line {len(facts)} of the review .*{words}"):
        replayed(*facts)


def test_progress_by_hand() -> None:
    state = replayed()
    total, said = sum(10 / region for region in (1, 2, 3, 4)), "0 of 2 structures finished; "
    assert state.progress().text == said + "0 of 4 regions, 0 % of their expected error decided"
    state.apply(events_of(VerdictGiven(1, Verdict.ACCEPTED, None, 90.0))[0])
    assert state.progress().text == said + "1 of 4 regions, 48 % of their expected error decided"
    state.apply(events_of(VerdictGiven(2, Verdict.CORRECTED, None, 30.0))[0])
    assert state.progress().seen_share == pytest.approx(15 / total)
    assert state.progress().text == said + "2 of 4 regions, 72 % of their expected error decided"
    state.apply(events_of(VerdictGiven(3, Verdict.REJECTED, None, 10.0))[0])
    assert state.progress().seen_share == pytest.approx(15 / total), "a rejected region is known to be wrong"
    assert state.progress().text == said + "3 of 4 regions, 72 % of their expected error decided"
    state.apply(events_of(VerdictGiven(4, Verdict.SECOND_READER, None, 9000.0))[0])
    assert state.progress().text == said + "4 of 4 regions, 72 % of their expected error decided"
    assert state.seen_ids == {1, 2}


BLIND = [a_region(10 + n, structure=ASKED[n % 2], kind=Kind.BLIND, competing=()) for n in range(4)]


def test_list_next_rest_and_end_mean_the_structures_that_are_asked() -> None:
    between = a_region(5, structure="cortex", competing=(Competition("posterior", "cortex", 0.3),))
    scarcely = a_region(6, structure="cortex", competing=(Competition("posterior", "cortex", 0.1),))
    state = replayed(Asked(("posterior",)), regions=[*REGIONS, between, scarcely, *BLIND])
    assert [region.id for region in state.listed()] == [3, 4, 5]
    assert (state.progress().regions, state.progress().structures, state.rest().regions) == (3, 1, (3, 4, 5))
    state.apply(events_of(StructureJudged("posterior", Verdict.ACCEPTED))[0])
    assert [region.id for region in state.listed()] == [3, 4, 5, 11, 13], "the blind sample is due, of what is asked"
    assert (state.next_undecided([3, 4, 5, 11, 13]), state.rest().regions) == (11, ()), "a finished structure is done"
    assert (state.is_done, state.progress().sample) == (False, 2)
    for place in (11, 13):
        state.apply(events_of(VerdictGiven(place, Verdict.REJECTED))[0])
    assert (state.is_done, state.progress().sampled) == (True, 2)
    state.apply(events_of(Asked(ASKED))[0])
    assert (state.is_done, state.finished, len(state.listed())) == (False, {"posterior"}, 5)


def test_regions_that_an_edit_removed_leave_the_list_until_the_next_one_brings_them_back() -> None:
    state = replayed(Edited(None, "anterior", 9, 0, 9.0, (1, 3)))
    assert ([region.id for region in state.listed()], state.progress().regions) == ([2, 4], 2)
    state.apply(events_of(RegionViewed(3, 1.0))[0])
    assert [region.id for region in state.listed()] == [2, 3, 4], "it is at hand"
    state.apply(events_of(VerdictGiven(3, Verdict.CORRECTED))[0])
    state.apply(events_of(RegionViewed(2, 1.0))[0])
    assert [region.id for region in state.listed()] == [2, 3, 4], "it has a verdict"
    state = replayed(Edited(None, "anterior", 9, 0, 9.0, (1, 3)))
    state.apply(events_of(Edited(None, "anterior", 3, 0, 3.0, (1,)))[0])
    assert [region.id for region in state.listed()] == [2, 3, 4]


def test_the_blind_sample_is_as_large_whatever_is_asked() -> None:
    state = replayed(regions=[*REGIONS, *BLIND])
    assert [place.id for place in state.blind_sample()] == [10, 11]


def test_a_structure_in_doubt_is_not_finished_and_regions_finish_none() -> None:
    every = [VerdictGiven(region.id, Verdict.ACCEPTED) for region in REGIONS]
    state = replayed(*every, StructureJudged("anterior", Verdict.SECOND_READER))
    assert (state.finished, state.is_done) == (frozenset(), False)
    state.apply(events_of(Edited(None, "anterior, posterior", 1, 1, 1.0))[0])
    assert state.edited == {"anterior", "posterior"}


def test_a_place_of_the_reviewer_is_listed_judged_and_taken_back() -> None:
    place = PlaceAdded(5, "posterior", (1.0, -2.0, 3.0))
    state = replayed(place)
    added = state.listed()[-1]
    assert (added.kind, added.peak_ras_mm, state.next_place()) == (Kind.ADDED, place.ras_mm, 6)
    state.apply(events_of(VerdictGiven(5, Verdict.CORRECTED))[0])
    does_the_undo(state)
    does_the_undo(state)
    assert (len(state.listed()), state.verdict_of(5), state.next_undo()) == (4, None, None)
    with pytest.raises(InputError, match="region 4"):
        state.apply(events_of(PlaceAdded(4, "posterior", (0.0, 0.0, 0.0)))[0])


def test_a_share_is_never_rounded_up_to_all() -> None:
    small = a_region(2, expected_wrong_mm3=0.01)
    state = replayed(VerdictGiven(1, Verdict.ACCEPTED), regions=[a_region(1), small])
    assert "99 % of" in state.progress().text
    assert "100 % of" in replayed(VerdictGiven(1, Verdict.ACCEPTED), regions=[a_region(1)]).progress().text


def test_a_structure_is_accepted_when_all_its_regions_are_right_now() -> None:
    state = replayed(VerdictGiven(3, Verdict.ACCEPTED), VerdictGiven(1, Verdict.REJECTED))
    assert state.structure("posterior").verdict is None
    state.apply(events_of(VerdictGiven(4, Verdict.CORRECTED))[0])
    posterior = state.structure("posterior")
    assert (posterior.verdict, posterior.explicit, posterior.decided, posterior.regions) == ("accepted", False, 2, 2)
    assert (state.structure("anterior").verdict, state.structure("anterior").flagged) == (None, 1)
    state.apply(events_of(StructureJudged("posterior", Verdict.SECOND_READER))[0])
    assert (state.structure("posterior").verdict, state.structure("posterior").explicit) == (
        "needs second reader",
        True,
    )
    state.apply(events_of(StructureJudged("posterior", None))[0])
    assert state.structure("posterior").verdict == "accepted"


def test_a_case_without_regions_is_finished_by_its_structures() -> None:
    state = ReviewState([], ["anterior"])
    said = "0 of 1 structures finished; 0 of 0 regions, 100 % of their expected error decided"
    assert (state.progress().text, state.is_done) == (said, False)
    assert state.next_undecided([]) is None
    assert state.next_undecided([], 3) is None
    assert state.previous([], 3) is None
    assert state.structure("anterior").verdict is None
    state.apply(events_of(StructureJudged("anterior", Verdict.ACCEPTED))[0])
    assert (state.structure("anterior").verdict, state.is_done) == ("accepted", True)


def test_next_undecided_goes_round_and_previous_does_not() -> None:
    state = replayed(VerdictGiven(2, Verdict.ACCEPTED))
    order = [3, 2, 1, 4]
    assert state.next_undecided(order) == 3
    assert state.next_undecided(order, 3) == 1
    assert state.next_undecided(order, 4) == 3
    assert state.next_undecided(order, 77) == 3
    assert [state.previous(order, r) for r in (3, 2, 1, 4, 77)] == [None, 3, 2, 1, None]
    for region in (1, 4):
        state.apply(events_of(VerdictGiven(region, Verdict.ACCEPTED))[0])
    assert state.next_undecided(order, 3) == 3, "it is the only one left"
    state.apply(events_of(VerdictGiven(3, Verdict.SECOND_READER))[0])
    assert state.next_undecided(order, 3) is None


def test_steps_with_ten_thousand_regions_touch_few_of_them() -> None:
    regions = [a_region(n, structure=f"structure {n % 3}") for n in range(1, 10_001)]
    order = [region.id for region in regions]
    state = ReviewState(regions, [f"structure {n}" for n in range(3)])
    steps: dict[str, tuple[int, Callable[[], Any]]] = {
        "verdict": (100, lambda: state.apply(events_of(VerdictGiven(9_999, Verdict.ACCEPTED, "x", 1.0))[0])),
        "next": (100, lambda: state.next_undecided(order, 9_999)),
        "previous": (100, lambda: state.previous(order, 10_000)),
        "undo": (100, lambda: does_the_undo(state)),
        # What sums over all regions looks at each a few times; a case has at most 20 of a structure.
        "progress": (70_000, state.progress),
        "structure": (50_000, lambda: state.structure("structure 0")),
        "seen": (50_000, lambda: state.seen_ids),
    }
    for region in order[:-2]:
        state.apply(events_of(VerdictGiven(region, Verdict.ACCEPTED, None, 2.0))[0])
    calls = {name: (calls_of(step), most) for name, (most, step) in steps.items()}
    assert {name: found for name, found in calls.items() if found[0] > found[1]} == {}


def test_an_accepted_rest_counts_apart_and_is_undone_at_once() -> None:
    said = (VerdictGiven(1, Verdict.ACCEPTED, None, 4.0), VerdictGiven(3, Verdict.REJECTED, None, 6.0))
    state = replayed(*said, Commented(2, "thin"))
    before, rest = state.progress(), state.rest()
    assert rest == RestAccepted((2, 4), 7.5)
    state.apply(events_of(rest)[0])
    now = state.progress()
    assert (now.decided, now.unseen, now.regions, now.seen_share) == (2, 2, 4, before.seen_share)
    assert (
        now.text == "0 of 2 structures finished; 2 of 4 regions, 2 not looked at, 48 % of their expected error decided"
    )
    assert [state.verdict_of(region) for region in (2, 4)] == [Verdict.NOT_LOOKED_AT] * 2
    assert (state.seen_ids, state.unseen_ids) == ({1}, {2, 4})
    assert state.next_undecided([1, 2, 3, 4]) is None
    assert state.rest().regions == ()
    undo = state.next_undo()
    assert undo == Undone(4, "rest")
    does_the_undo(state)
    assert state.progress() == before
    assert (state.comment_of(2), state.next_undo()) == ("thin", Undone(3, "comment", 2))


def test_no_structure_is_accepted_by_regions_that_nobody_looked_at() -> None:
    state = replayed(VerdictGiven(1, Verdict.ACCEPTED), RestAccepted((2, 3, 4), 1.0))
    anterior, posterior = state.structure("anterior"), state.structure("posterior")
    assert (anterior.verdict, anterior.decided, anterior.flagged, anterior.unseen) == (None, 1, 0, 1)
    assert (posterior.verdict, posterior.decided, posterior.flagged, posterior.unseen) == (None, 0, 0, 2)


def test_one_who_looks_after_all_says_more_and_undo_goes_back_step_by_step() -> None:
    state = replayed(RestAccepted((1, 2, 3, 4), 20.8), VerdictGiven(2, Verdict.CORRECTED))
    assert (state.progress().decided, state.progress().unseen) == (1, 3)
    does_the_undo(state)
    assert state.verdict_of(2) == Verdict.NOT_LOOKED_AT
    does_the_undo(state)
    assert state.progress().unseen == 0


@pytest.mark.parametrize(
    ("regions", "words"),
    [((2, 9), "region 9, which"), ((1, 2), "region 1, which has a verdict"), ((2, 2), "a region twice")],
)
def test_a_rest_that_does_not_fit_is_refused_and_changes_nothing(regions: tuple[int, ...], words: str) -> None:
    state = replayed(VerdictGiven(1, Verdict.ACCEPTED))
    with pytest.raises(InputError, match=words):
        state.apply(events_of(RestAccepted(regions, 1.0))[0])
    assert (state.lines, state.unseen_ids) == (1, frozenset())
