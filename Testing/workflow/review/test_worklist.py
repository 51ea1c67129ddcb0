"""Worklists of real cases: their order, what they tell, how they take damage, and a thousand of them."""

import csv
import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from counting import counted
from exchanged_cases import (
    CASES,
    changed_case,
    changed_regions,
    copied,
    judged,
    limited,
    listed_regions,
    rest_accepted,
    review,
)
from segwithu_command import Command, refused

from SegWithUCore.case import region_files
from SegWithUCore.case.case_folders import case_folders
from SegWithUCore.regions.region import Kind, Region
from SegWithUCore.review.log_format import StructureJudged, Verdict
from SegWithUCore.review.status import Level
from SegWithUCore.review.worklist import (
    SECONDS_PER_REGION,
    SECONDS_TO_OPEN,
    SORTS,
    WORST_FIRST,
    Worklist,
    make_worklist,
)
from SegWithUCore.review.worklist_files import read_listed, read_worklist, write_worklist
from SegWithUCore.util.errors import InputError, code_of

FIRST_COLUMNS = (
    "rank,case,light,reason,wrong_share,predicted_dice,case_wrong_mm3,worst_structure,expected_wrong_mm3,regions,"
    "open_regions,open_wrong_mm3,unseen_regions,unseen_wrong_mm3,minutes,benefit_mm3_per_minute,flags,reasons,reviewed,"
    "trouble"
)
"""Of `worklist.csv` in version 0.5; later ones follow, and the folder is last."""


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "cases"
    shutil.copytree(segmented_cases, folder)
    return folder


def test_cases_are_sorted_by_expected_wrong_volume_per_minute(cases: Path) -> None:
    entries = make_worklist(case_folders([cases]), "benefit").entries
    for entry in entries:
        regions = listed_regions(entry.folder)
        minutes = (SECONDS_TO_OPEN + SECONDS_PER_REGION * len(regions)) / 60
        assert entry.minutes == pytest.approx(minutes)
        assert entry.benefit == pytest.approx(sum(region.expected_wrong_mm3 for region in regions) / minutes)
    assert [entry.benefit for entry in entries] == sorted((entry.benefit for entry in entries), reverse=True)
    assert {entry.name for entry in entries} == set(CASES)


def test_what_somebody_accepted_or_corrected_is_not_waited_for(cases: Path) -> None:
    first = make_worklist(case_folders([cases]), "benefit").entries[0]
    ranks = range(1, len(listed_regions(first.folder)) + 1)
    judged(first.folder, "Ana", dict.fromkeys(ranks, Verdict.ACCEPTED))
    last = make_worklist(case_folders([cases]), "benefit").entries[-1]
    assert (last.name, last.open_regions, last.benefit) == (first.name, 0, 0.0)
    judged(first.folder, "Ben", {1: Verdict.REJECTED})
    entry = make_worklist(case_folders([cases]), "benefit").entries[0]  # now it is to be looked at
    assert (entry.name, entry.open_regions, entry.benefit) == (first.name, 0, 0.0)
    told = [review.text for review in entry.reviews]
    assert told[1].startswith(f"Ben: 1 of {len(ranks)} regions, 2026-01-01T")


def test_the_structures_asked_for_are_waited_for_until_somebody_has_finished_them(cases: Path, tmp_path: Path) -> None:
    folder, name = cases / CASES[0], "posterior hippocampus"
    own = [each for each in listed_regions(folder) if each.is_about([name])]
    others = [each for each in listed_regions(folder) if each not in own]
    assert own and others

    def listed() -> tuple[int | None, float | None, bool]:
        (entry,) = make_worklist([folder]).entries
        return entry.open_regions, entry.open_wrong_mm3, entry.is_open_for("Ana")

    def wrong(regions: list[Region]) -> float:
        return pytest.approx(sum(each.expected_wrong_mm3 for each in regions))  # type: ignore[return-value]

    assert listed() == (len(own) + len(others), wrong([*own, *others]), True)
    changed_case(folder, lambda case: case.update(asked=[name]))
    assert listed() == (len(own), wrong(own), True)
    judged(folder, "Ana", {each.rank: Verdict.REJECTED for each in others})
    assert listed() == (len(own), wrong(own), True), "others are not what is waited for"
    (entry,) = make_worklist([folder]).entries
    assert not [flag for flag in entry.flags if flag.structure == "anterior hippocampus"]
    review(folder, "Ana", StructureJudged(name, Verdict.ACCEPTED))
    assert listed()[:2] == (0, 0)
    judged(folder, "Ana", {each.rank: Verdict.ACCEPTED for each in region_files.read_regions(folder)
                           if each.kind is Kind.BLIND and each.structure == name})  # fmt: skip
    assert listed() == (0, 0, False)
    write_worklist(make_worklist([folder]), tmp_path / "out")
    ((row, _),) = read_worklist(tmp_path / "out" / "worklist.json")
    assert (row["asked"], row["minutes"], row["reviews"][0]["is_done"]) == ([name], 0, True)
    with (tmp_path / "out" / "worklist.csv").open(encoding="utf-8") as file:
        (cells,) = csv.DictReader(file)
    assert (cells["asked"], cells["regions"]) == (name, str(len(own)))


def test_what_was_taken_without_a_look_is_not_waited_for_and_counted_apart(cases: Path, tmp_path: Path) -> None:
    folder = make_worklist(case_folders([cases])).entries[0].folder
    assert folder is not None
    rest = rest_accepted(folder, "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED})
    regions = [region for region in listed_regions(folder) if region.id in rest.regions]  # without the blind sample
    worklist = make_worklist(case_folders([cases]))
    (entry,) = [one for one in worklist.entries if one.folder == folder]
    assert (entry.open_regions, entry.unseen_regions) == (1, len(regions)), "what was rejected stays open"
    assert entry.unseen_wrong_mm3 == pytest.approx(sum(region.expected_wrong_mm3 for region in regions), abs=0.01)
    assert (entry.reviews[0].decided, entry.reviews[0].unseen) == (2, len(regions))
    assert f"2 of {entry.regions} regions, {len(regions)} not looked at" in entry.reviews[0].text
    write_worklist(worklist, tmp_path / "out")
    (row,) = [row for row, _ in read_worklist(tmp_path / "out" / "worklist.json") if row["case"] == entry.name]
    assert row["unseen_regions"] == entry.unseen_regions
    judged(folder, "Ben", {3: Verdict.CORRECTED})
    (entry,) = make_worklist([folder]).entries
    assert entry.unseen_regions == len(regions) - 1, "Ben has looked at one of them"


def test_a_review_of_other_regions_is_told_and_not_counted(cases: Path) -> None:
    judged(cases / CASES[0], "Ana", {1: Verdict.ACCEPTED})
    path = cases / CASES[0] / "regions.csv"
    changed_regions(path.parent, "".join(path.read_text().splitlines(keepends=True)[:-1]))
    (entry,) = make_worklist([cases / CASES[0]]).entries
    assert entry.reviews == ()
    assert [code_of(note) for note in entry.notes] == ["other-regions"]


def test_the_files_tell_the_same_and_name_cases_relative_to_themselves(
    cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    output = tmp_path / "lists" / "monday"
    for folder in case_folders([cases]):
        limited(folder, wrong_share=0.01)
    outcome = segwithu("worklist", cases, "--output", output)
    assert outcome.code == 0, outcome.err
    assert "3 look at it" in outcome.out
    with (output / "worklist.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    listed = read_worklist(output / "worklist.json")
    assert ",".join(rows[0]).startswith(f"{FIRST_COLUMNS},") and list(rows[0])[-1] == "folder"
    assert [row["case"] for row in rows] == [row["case"] for row, _ in listed]
    for row, (entry, folder) in zip(rows, listed, strict=True):
        assert not Path(row["folder"]).is_absolute()
        assert (folder / "case.json").samefile(output / row["folder"] / "case.json")
        assert row["flags"] == "expected wrong share"
        assert {"level": row["light"], "reason": row["reason"]} == entry["light"]
        assert row["light"] == Level.LOOK and row["reason"] == entry["flags"][0]["message"]
        assert all(flag["message"] in row["reasons"] for flag in entry["flags"])
        assert float(row["benefit_mm3_per_minute"]) == entry["benefit_mm3_per_minute"] > 0
    content = json.loads((output / "worklist.json").read_text(encoding="utf-8"))
    assert content["sorted_by"] == SORTS[WORST_FIRST]


def test_what_was_written_is_read_again(cases: Path, tmp_path: Path) -> None:
    judged(cases / CASES[0], "Ana", {1: Verdict.ACCEPTED, 2: Verdict.REJECTED})
    (cases / CASES[1] / "case.json").write_text("{", encoding="utf-8")
    worklist = make_worklist(case_folders([cases]))
    write_worklist(worklist, tmp_path / "out")
    listed = read_listed(tmp_path / "out" / "worklist.json")
    for now, before in zip(listed, worklist.entries, strict=True):
        assert now.folder.resolve() == before.folder.resolve()
        assert now.name == before.name
    path = tmp_path / "out" / "worklist.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"folder": ', '"place": '), encoding="utf-8")
    with pytest.raises(InputError, match=r"worklist\.json"):
        read_listed(path)


def test_damaged_cases_are_listed_last_with_a_sentence(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    (cases / CASES[0] / "case.json").unlink()
    (cases / CASES[1] / "regions.csv").write_text("rank\n1\n")
    changed_case(copied(cases / CASES[2], cases, "emptied"), lambda content: content.pop("structures"))
    outcome = segwithu("worklist", cases, "--output", tmp_path / "out")
    assert outcome.code == 1
    assert len(outcome.messages) == 3
    listed = [row for row, _ in read_worklist(tmp_path / "out" / "worklist.json")]
    assert [bool(row["trouble"]) for row in listed] == [False, True, True, True]
    assert {row["case"] for row in listed if row["trouble"]} == {CASES[0], CASES[1], "emptied"}
    assert CASES[2] in outcome.out


def test_a_place_without_cases_is_named(tmp_path: Path, segwithu: Command) -> None:
    refused(segwithu("worklist", tmp_path, "--output", tmp_path / "out"), "not-a-case", tmp_path)
    assert not (tmp_path / "out").exists()


def test_names_are_no_formulas_in_a_spreadsheet(segmented_cases: Path, tmp_path: Path, segwithu: Command) -> None:
    folder = copied(segmented_cases / CASES[0], tmp_path)
    changed_case(folder, lambda content: content.update(name="=HYPERLINK(0)"))
    assert segwithu("worklist", folder, "--output", tmp_path / "out").code == 0
    assert ",'=HYPERLINK(0)," in (tmp_path / "out" / "worklist.csv").read_text(encoding="utf-8")


def test_a_case_without_calibration_is_listed_without_figures(cases: Path) -> None:
    def uncalibrated(content: dict) -> None:
        content["regions"] = None
        for entry in content["structures"]:
            entry["expected_wrong_mm3"] = None

    changed_case(cases / CASES[0], uncalibrated)
    entry = make_worklist(case_folders([cases])).entries[0]  # to be looked at, for nobody knows how much is wrong
    assert (entry.name, entry.regions, entry.worst_structure, entry.trouble) == (CASES[0], None, None, "")


def listed(folder: Path) -> Worklist:
    return make_worklist(case_folders([folder]))


def test_a_list_reads_every_case_once_however_many_there_are(segmented_cases: Path, tmp_path: Path) -> None:
    judged(copied(segmented_cases / CASES[0], tmp_path), "Ana", dict.fromkeys(range(1, 8), Verdict.ACCEPTED))
    files = list((tmp_path / CASES[0]).iterdir())
    calls = {}
    for count in (20, 200):
        for number in range(count):
            folder = tmp_path / f"list{count}" / f"case{number:04d}"
            folder.mkdir(parents=True)
            for file in files:
                os.link(file, folder / file.name)
        calls[count], made = counted(partial(listed, tmp_path / f"list{count}"))
        assert len(made.entries) == count
        assert not any(entry.trouble or entry.notes for entry in made.entries)
    assert calls[200] < 12 * calls[20], calls
