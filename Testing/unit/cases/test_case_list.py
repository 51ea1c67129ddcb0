"""What a row of the list of cases says and which filter it passes; needs no Slicer."""

from pathlib import Path

import pytest

from SegWithUCore.review.flags import Flag, Rule
from SegWithUCore.review.worklist import ReviewProgress, WorklistEntry
from SegWithUCore.util.errors import InputError
from SegWithUSlicerLib.cases.case_list import CaseList, matches

ENTRY = WorklistEntry(
    name="Müller T1",
    folder=Path("/data/case-7"),
    flags=(Flag(Rule.OOD, None, None, None, "The image is noisier than the training cases."),),
    worst_structure="posterior hippocampus",
    expected_wrong_mm3=83.0,
    regions=4,
    open_regions=3,
    reviews=(ReviewProgress("Ana", 4, 4, ""), ReviewProgress("Bo", 1, 4, "")),
)


@pytest.mark.parametrize("text", ["", "  ", "müller", "MÜLLER t1", "case-7", "noisier posterior", "ood", "bo"])
def test_all_words_of_a_filter_must_occur_anywhere(text: str) -> None:
    assert matches(ENTRY, text)


@pytest.mark.parametrize("text", ["müller anterior", "case-8", "left"])
def test_one_word_that_does_not_occur_hides_the_case(text: str) -> None:
    assert not matches(ENTRY, text)


def test_how_far_a_case_is_depends_on_who_asks() -> None:
    for reviewer, decided, text, is_open in (
        ("Ana", 4, "done; Bo: 1 of 4", False),
        ("Bo", 1, "1 of 4; Ana: done", True),
        ("Cy", 0, "not started; Ana: done; Bo: 1 of 4", True),
        ("", 4, "Ana: done; Bo: 1 of 4", False),
    ):
        now = ENTRY.decided_by(reviewer), ENTRY.review_text(reviewer), ENTRY.is_open_for(reviewer)
        assert now == (decided, text, is_open)


def test_what_cannot_be_reviewed_is_not_open() -> None:
    for entry in (WorklistEntry("a", Path("a")), WorklistEntry("a", Path("a"), regions=0)):
        assert not entry.is_open_for("Ana")


def test_a_place_that_holds_no_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=tmp_path.name):
        CaseList(tmp_path)


def test_folders_of_a_worklist_that_are_gone_say_so(tmp_path: Path) -> None:
    (tmp_path / "worklist.json").write_text(
        '{"format": "segwithu-worklist", "cases": [{"case": "a", "folder": "gone/a"}]}', encoding="utf-8"
    )
    found = CaseList(tmp_path / "worklist.json")
    found.read_some(1.0)
    (item,) = found.items
    assert "[not-a-case]" in item.entry.trouble
    assert found.progress == 1.0


def test_a_case_whose_rest_was_taken_without_a_look_is_not_open_for_who_took_it() -> None:
    entry = WorklistEntry("a", Path("a"), regions=4, reviews=(ReviewProgress("Ana", 1, 4, "", unseen=3),))
    for reviewer, is_open in (("Ana", False), ("Bo", True), ("", False)):
        assert entry.is_open_for(reviewer) == is_open
    assert entry.reviews[0].text == "Ana: 1 of 4 regions, 3 not looked at"
