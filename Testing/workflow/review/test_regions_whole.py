"""`segwithu regions` leaves regions whole, or files that no reader takes for one: killed between any two renames."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, accepted, changed_case, copied
from segwithu_command import Command, one_sentence

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_files import file_record
from SegWithUCore.review.worklist import make_worklist

RENAMES = 3


class KilledError(BaseException):
    """Ends a run as a signal does, as far as the disk can tell."""


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    return copied(segmented_cases / CASES[0], tmp_path / "cases")


def region_file_hashes(case: Path) -> dict[str, dict[str, str]]:
    return {name: file_record(case / name) for name in ("regions.csv", "regions.nii.gz")}


def interrupted(case: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make other regions, and end after so many renames."""
    rename, left = Path.replace, iter(range(after))

    def replace(self: Path, target: Path) -> Path:
        if next(left, None) is None:
            raise KilledError
        return rename(self, target)

    from SegWithUCore.case.case_regions import make_regions_again
    from SegWithUCore.regions.find_regions import RegionSettings

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KilledError):
            make_regions_again(case, RegionSettings(threshold=0.45))


def readers(case: Path, segwithu: Command) -> Iterator[str]:
    """What each reader of regions says; "" where it takes them."""
    for command in (["report", case], ["export", case, "--output", case.parent / "sent"]):
        outcome = segwithu(*command)
        yield outcome.err if outcome.code else ""


@pytest.mark.parametrize("after", range(RENAMES))
def test_regions_of_two_runs_are_never_taken_for_one(
    case: Path, after: int, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = region_file_hashes(case)
    interrupted(case, after, monkeypatch)
    changed = region_file_hashes(case) != before
    assert changed == (after > 0)
    for said in readers(case, segwithu):
        assert bool(said) == changed
        assert not changed or "run segwithu regions again" in said
    (entry,) = make_worklist([case]).entries
    assert bool(entry.trouble) == (after == RENAMES - 1)  # it reads the table alone
    assert segwithu("regions", case, "--threshold", "0.45").code == 0
    assert list(readers(copied(case, case.parent / "again"), segwithu)) == [""] * 2


def test_the_files_of_a_case_are_those_that_it_speaks_of(case: Path, segwithu: Command) -> None:
    files = read_case(case)["files"]
    assert files == {**files, **region_file_hashes(case)}
    changed_case(case, lambda content: content["files"].pop("regions.csv"))
    one_sentence(segwithu("report", case), "regions.csv", "run segwithu regions again")
    changed_case(case, lambda content: content.pop("files"))
    for odd in (None, [], {}, 5, {"regions.csv": "0"}):  # as versions kept them that hashed nothing else
        changed_case(case, lambda content, odd=odd: content["regions"].update(files_sha256=odd))
        one_sentence(segwithu("report", case), "regions.csv", "run segwithu regions again")


def test_an_anonymous_copy_tells_the_hashes_of_its_own_files(case: Path, tmp_path: Path, segwithu: Command) -> None:
    labels = sitk.ReadImage(str(case / "regions.nii.gz"))
    labels.SetMetaData("ITK_FileNotes", "written again")
    sitk.WriteImage(labels, str(case / "regions.nii.gz"), useCompression=True)
    hashes = region_file_hashes(case)
    accepted(case, "regions.nii.gz")
    assert segwithu("export", case, "--output", tmp_path / "sent", "--anonymous").code == 0
    sent = tmp_path / "sent" / "case-001"
    content = json.loads((sent / "case.json").read_text(encoding="utf-8"))
    assert content["files"] == {**content["files"], **region_file_hashes(sent)}
    assert region_file_hashes(sent) != hashes
