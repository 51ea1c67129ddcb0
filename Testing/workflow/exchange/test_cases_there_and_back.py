"""Ten real cases: segmented, listed, sent to a colleague without torch, reviewed there, and merged back."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_without_torch import LIGHT, light
from exchanged_cases import VERDICTS_THERE, judged, limited
from hippocampi import write_hippocampi
from segwithu_command import MODEL

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_folders import case_folders
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.cli.__main__ import main
from SegWithUCore.review.log_format import Verdict
from SegWithUCore.review.reviews import read_reviews

pytestmark = pytest.mark.slow

CASES, FLAGGED, REVIEWED = 10, 5, 3
REPORT = (*LIGHT, "jinja2", "markupsafe", "PIL")
"""What a report needs."""
SETTLED = {Verdict.ACCEPTED, Verdict.CORRECTED}


@pytest.fixture(scope="module")
def ours(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten cases as `segment` leaves them, and no copy of their images."""
    output = tmp_path_factory.mktemp("ours") / "cohort"
    images = tmp_path_factory.mktemp("images")
    write_hippocampi(data_folder, images, CASES)
    call = ["segment", str(images / "images"), "--each", "--model", str(MODEL), "--output", str(output), "--resume"]
    assert main(call) == 0
    return output


def wrong_shares(cohort: Path) -> dict[str, float]:
    """The largest share of a structure, or of all with missed tissue, that is expected to be wrong, by case."""
    shares = {}
    for folder in case_folders([cohort]):
        entries = read_case(folder)["structures"]
        inner = [entry for entry in entries if entry["value"] != 0]
        whole = sum(entry["expected_wrong_mm3"] for entry in entries) / sum(entry["volume_mm3"] for entry in inner)
        shares[folder.name] = max(whole, *(entry["expected_wrong_mm3"] / entry["volume_mm3"] for entry in inner))
    return shares


def listed(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of `worklist.json`, by case, in their order."""
    return {row["case"]: row for row in json.loads((folder / "worklist.json").read_text(encoding="utf-8"))["cases"]}


def contents(cohort: Path) -> dict[str, bytes]:
    """All files of a cohort."""
    return {path.relative_to(cohort).as_posix(): path.read_bytes() for path in cohort.rglob("*") if path.is_file()}


def done(*arguments: str | Path, allowed: Sequence[str] = LIGHT) -> str:
    """Run the command with numpy and SimpleITK alone, or with what is allowed; returns what it printed."""
    outcome = light("command", *arguments, allowed=allowed)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_verdicts_of_a_colleague_without_torch_come_home(ours: Path, tmp_path: Path) -> None:
    done("worklist", ours, "--output", tmp_path / "before")
    before = listed(tmp_path / "before")
    assert len(before) == CASES
    shares = wrong_shares(ours)
    flagged = sorted(shares, key=shares.__getitem__)[-FLAGGED:]
    limit = (sorted(shares.values())[-FLAGGED] + sorted(shares.values())[-FLAGGED - 1]) / 2

    for folder in case_folders([ours]):
        limited(folder, wrong_share=limit)
    done("export", ours, "--output", tmp_path / "sent", "--flagged")
    assert sorted(folder.name for folder in case_folders([tmp_path / "sent"])) == sorted(flagged)
    there = tmp_path / "colleague" / "inbox"
    shutil.move(tmp_path / "sent", there)
    first = [row["folder"] for row in listed(there).values()][:REVIEWED]
    for name in first:
        outcome = light("review", there / name, "Ben")
        assert outcome.returncode == 0, outcome.stderr
    done("report", there / first[0], allowed=REPORT)
    page = (there / first[0] / "report.html").read_text(encoding="utf-8")
    assert "Ben" in page
    assert "seen there" in page
    done("worklist", there, "--output", there)
    assert {name for name, row in listed(there).items() if row["reviews"]} == set(first)

    ana = judged(ours / first[0], "Ana", {1: Verdict.ACCEPTED, 5: Verdict.ACCEPTED})
    kept = contents(ours)
    told = done("merge-reviews", there, "--into", ours, "--table", tmp_path / "verdicts.csv")
    assert "Reviewers disagree on 1 region " in told
    assert {name: data for name, data in contents(ours).items() if name in kept} == kept
    new = set(contents(ours)) - set(kept)
    assert new == {f"{name}/review.Ben.jsonl" for name in first}
    assert ana.read_bytes() == kept[f"{first[0]}/review.Ana.jsonl"]
    _assert_verdicts_at_home(ours, first)

    done("worklist", ours, "--output", tmp_path / "after")
    after = listed(tmp_path / "after")
    for name, row in after.items():
        settled = {rank for rank, verdict in VERDICTS_THERE.items() if verdict in SETTLED} if name in first else set()
        settled |= {1, 5} if name == first[0] else set()
        assert row["open_regions"] == before[name]["open_regions"] - len(settled)
        told_by = {review["reviewer"]: review["decided"] for review in row["reviews"]}
        expected = {"Ben": len(VERDICTS_THERE)} if name in first else {}
        assert told_by == expected | ({"Ana": 2} if name == first[0] else {})
    with (tmp_path / "verdicts.csv").open(encoding="utf-8") as file:
        assert {row["case"] for row in csv.DictReader(file)} == set(first)


def _assert_verdicts_at_home(ours: Path, reviewed: list[str]) -> None:
    for name in reviewed:
        folder = ours / name
        regions = read_regions(folder)
        review = next(each for each in read_reviews(folder, read_case(folder)).reviews if each.reviewer == "Ben")
        ranks = {region.id: region.rank for region in regions}
        given = {ranks[region]: verdict for region, verdict in review.verdicts(regions).items()}
        assert given == VERDICTS_THERE


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["segment", "x.nii.gz", "--model", "hippocampus", "--output", "out"], "safetensors"),
        (["regions", "{case}"], "scipy"),
    ],
    ids=["segment", "regions"],
)
def test_what_needs_a_package_names_it_in_one_sentence(arguments: list[str], missing: str, ours: Path) -> None:
    case = next(ours.iterdir())
    outcome = light("command", *(argument.format(case=case) for argument in arguments))
    assert outcome.returncode == 1
    (sentence,) = outcome.stderr.splitlines()
    assert sentence.startswith(f"segwithu: the package {missing} is missing here")


def test_regions_are_made_again_without_torch(ours: Path, tmp_path: Path) -> None:
    unreviewed = next(folder for folder in case_folders([ours]) if not list(folder.glob("review.*")))
    case = shutil.copytree(unreviewed, tmp_path / "case")
    (case / "regions.csv").unlink()
    outcome = light("command", "regions", case, allowed=[*LIGHT, "scipy"])
    assert outcome.returncode == 0, outcome.stderr
    assert (case / "regions.csv").read_bytes() == (unreviewed / "regions.csv").read_bytes()
