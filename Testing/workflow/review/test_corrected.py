"""A mask of another editor becomes a reviewer's version, and every number that is shown follows it."""

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, copied, edited, judged, review
from segwithu_command import Command, entries, refused

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.report.case_report import write_cohort_overview
from SegWithUCore.review import reviewed_case
from SegWithUCore.review.log_format import Edited, StructureJudged, Verdict, read_log
from SegWithUCore.review.reviews import read_reviews
from SegWithUCore.review.worklist import read_for_worklist
from SegWithUCore.util.errors import OutputError

ANTERIOR, POSTERIOR, WHOLE = "anterior hippocampus", "posterior hippocampus", "whole hippocampus"
READER = "Zoë Müller"
NAMES = {1: ANTERIOR, 2: POSTERIOR}


@pytest.fixture
def case(segmented_cases: Path, tmp_path: Path) -> Path:
    return copied(segmented_cases / CASES[0], tmp_path / "cases")


def array(path: Path) -> np.ndarray:
    found: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return found


def mask_of(case: Path, path: Path, change: Callable[[np.ndarray], Any]) -> Path:
    """The segmentation of a case as an editor saves it after a change of its voxels, in place."""
    image = sitk.ReadImage(str(case / "segmentation.nii.gz"))
    labels = sitk.GetArrayFromImage(image)
    change(labels)
    drawn = sitk.GetImageFromArray(labels)
    drawn.CopyInformation(image)
    sitk.WriteImage(drawn, str(path))
    return path


def extended(labels: np.ndarray) -> None:
    """More of the front where the model drew the back or nothing, and less of it at one side."""
    labels[:, :, :15][labels[:, :, :15] == 1] = 0
    labels[15:25, 20:30, 10:20][labels[15:25, 20:30, 10:20] == 2] = 1
    labels[5:9, 5:9, 5:9] = 1


def counted(case: Path, mask: Path, finished: int | None = None) -> dict[str, tuple[float, float]]:
    """Volume and expected wrong volume of each structure (voxels of 1 mm3), counted anew from the files."""
    drawn, after, q, rival = (
        array(case / "segmentation.nii.gz"), array(mask),
        array(case / "error_probability.nii.gz"), array(case / "runner_up.nii.gz"),
    )  # fmt: skip
    is_open = (drawn == after) & (q > 0) & (drawn != finished) & ((drawn > 0) | (rival != finished))
    found = {
        NAMES.get(n, "background"): (float((after == n).sum()), float(q[is_open & (drawn == n)].sum(dtype=float)))
        for n in range(3)
    }
    return {**found, WHOLE: (found[ANTERIOR][0] + found[POSTERIOR][0], 0.0)}


def tables(path: Path, delimiter: str = ",") -> dict[str, Mapping[str, str]]:
    with path.open(encoding="utf-8") as file:
        return {row["structure"]: row for row in csv.DictReader(file, delimiter=delimiter)}


def test_a_mask_of_another_editor_is_what_every_table_shows(case: Path, tmp_path: Path, segwithu: Command) -> None:
    before, mask = (case / "segmentation.nii.gz").read_bytes(), mask_of(case, tmp_path / "mask.nii.gz", extended)
    model = {str(each["name"]): each for each in read_case(case)["structures"]}
    outcome = segwithu("correct", case, mask, "--reviewer", READER, "--json")
    assert outcome.code == 0, outcome.err
    wanted = counted(case, mask)
    (result,) = [line for line in map(json.loads, outcome.out.splitlines()) if line["event"] == "result"]
    changed = {name: [model[name]["volume_mm3"], wanted[name][0]] for name in (ANTERIOR, POSTERIOR)}
    assert result["volumes_mm3"] == changed
    assert all(pair[0] != pair[1] for pair in changed.values())
    version = case / f"segmentation_reviewed.{READER}.seg.nrrd"
    np.testing.assert_array_equal(array(version), array(mask))
    assert (case / "segmentation.nii.gz").read_bytes() == before
    (edit,) = [e.action for e in read_log(case / f"review.{READER}.jsonl").events if isinstance(e.action, Edited)]
    assert edit.structure == f"{ANTERIOR}, {POSTERIOR}"
    # Worklist, table of all cases and BIDS; nothing that was fitted on the model's segmentation is left.
    entry = read_for_worklist(case)
    assert entry.metrics["wrong_mm3"] == pytest.approx(sum(wrong for _, wrong in wanted.values()))
    assert entry.expected_wrong_mm3 == pytest.approx(max(wanted[name][1] for name in NAMES.values()))
    assert segwithu("worklist", case, "--output", tmp_path / "worklist").code == 0
    (listed,) = json.loads((tmp_path / "worklist" / "worklist.json").read_text(encoding="utf-8"))["cases"]
    assert listed["expected_wrong_mm3"] == pytest.approx(entry.expected_wrong_mm3, rel=1e-4)
    assert segwithu("export", case.parent, "--bids", "--output", tmp_path / "bids").code == 0
    (table,) = (tmp_path / "bids").glob("**/*_desc-reviewed_volumes.tsv")
    np.testing.assert_array_equal(array(table.with_name(table.name.replace("volumes.tsv", "dseg.nii.gz"))), array(mask))
    assert write_cohort_overview(case.parent) == []
    for rows in (tables(table, "\t"), tables(case.parent / "structures.csv")):
        for name in (ANTERIOR, POSTERIOR, WHOLE):
            assert float(rows[name]["volume_mm3"]) == wanted[name][0]
            assert {rows[name][key] for key in ("expected_volume_mm3", "expected_low_mm3", "predicted_dice")} <= {
                "",
                "n/a",
            }
        assert float(rows[ANTERIOR]["expected_wrong_mm3"]) == pytest.approx(wanted[ANTERIOR][1], abs=1e-3)
    assert segwithu("report", case).code == 0
    report = (case / "report.html").read_text(encoding="utf-8")
    for name in NAMES.values():
        volume, wrong = wanted[name]
        assert f">{volume:.0f}<" in report and f">{wrong:.0f} ({wrong / volume * 100:.0f} %)<" in report


def test_a_finished_structure_has_the_volume_of_its_reader(case: Path, tmp_path: Path, segwithu: Command) -> None:
    mask = mask_of(case, tmp_path / "mask.nii.gz", extended)
    assert segwithu("correct", case, mask, "--reviewer", READER).code == 0
    review(case, READER, StructureJudged(ANTERIOR, Verdict.CORRECTED))
    wanted = counted(case, mask, finished=1)
    found = reviewed_case.read_shown_case(case)
    entries_by_name = {each["name"]: each for each in [*found["structures"], *found["totals"]]}
    assert (wanted[ANTERIOR][1], entries_by_name[ANTERIOR]["read_by"]) == (0, READER)
    assert "read_by" not in entries_by_name[POSTERIOR] and "read_by" not in entries_by_name[WHOLE]
    for name in ("background", *NAMES.values()):
        assert entries_by_name[name]["expected_wrong_mm3"] == pytest.approx(wanted[name][1], abs=1e-6), name
    assert entries_by_name[WHOLE]["volume_mm3"] == wanted[WHOLE][0]
    review(case, READER, StructureJudged(POSTERIOR, Verdict.ACCEPTED))
    found = reviewed_case.read_shown_case(case)
    assert [each.get("read_by") for each in [*found["structures"][1:], *found["totals"]]] == [READER] * 3
    assert sum(each["expected_wrong_mm3"] for each in found["structures"]) == 0
    assert segwithu("report", case).code == 0
    assert READER in (case / "report.html").read_text(encoding="utf-8")


def test_regions_that_an_edit_removes_leave_the_list(case: Path) -> None:
    before, region = read_for_worklist(case), read_regions(case)[0]
    inside = array(case / "regions.nii.gz") == region.id

    def redrawn(labels: np.ndarray) -> None:
        labels[inside] = (labels[inside] + 1) % 3

    judged(case, "Ana", {2: Verdict.ACCEPTED})
    image = sitk.ReadImage(str(mask_of(case, case.parent / "mask.nii.gz", redrawn)))
    sitk.WriteImage(image, str(case / "segmentation_reviewed.Ana.seg.nrrd"))
    after = read_for_worklist(case)
    assert reviewed_case.read_shown_case(case)["regions"]["removed"] == [region.id]
    assert after.regions == before.regions and after.open_regions == (before.open_regions or 0) - 2
    gone = sum(each.expected_wrong_mm3 for each in read_regions(case)[:2])
    assert after.open_wrong_mm3 == pytest.approx((before.open_wrong_mm3 or 0) - gone, rel=1e-4)


def test_figures_are_stored_and_never_those_of_another_state(
    case: Path, tmp_path: Path, segwithu: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> list[float]:
        return [each["expected_wrong_mm3"] for each in reviewed_case.read_shown_case(case)["structures"]]

    mask, store = mask_of(case, tmp_path / "mask.nii.gz", extended), case / f"reviewed.{READER}.json"
    assert segwithu("correct", case, mask, "--reviewer", READER).code == 0
    assert read_for_worklist(case, heavy=False).notes != ()  # nothing was measured, and Slicer's window may not
    first = found()
    assert store.is_file() and read_for_worklist(case, heavy=False).notes == ()
    with monkeypatch.context() as patch:
        patch.setattr(reviewed_case, "edited_figures", lambda *_: pytest.fail("measured again"))
        assert found() == first
    states = [first]
    mask_of(case, mask, lambda labels: labels[:, :24].fill(0))
    assert segwithu("correct", case, mask, "--reviewer", READER, "--overwrite").code == 0
    states.append(found())
    judged(case, READER, {1: Verdict.ACCEPTED})
    states.append(found())
    review(case, READER, StructureJudged(POSTERIOR, Verdict.ACCEPTED))
    states.append(found())
    assert len({tuple(state) for state in states}) == 4
    store.write_text("{", encoding="utf-8")
    assert found() == states[-1]
    store.unlink()

    def refusing(*_: object) -> None:
        raise OutputError("read-only")

    monkeypatch.setattr(reviewed_case, "write_text", refusing)
    assert found() == states[-1] and not store.exists()


def test_of_two_reviewers_nobody_is_preferred(case: Path) -> None:
    model = read_for_worklist(case)
    for reviewer in ("Ana", "Ben"):
        judged(case, reviewer, {1: Verdict.ACCEPTED})
    edited(case, "Ben")
    one = read_for_worklist(case)
    assert one.metrics["wrong_mm3"] < (model.metrics["wrong_mm3"] or 0) and one.notes == ()  # Ana has drawn nothing
    review(case, "Ana", StructureJudged(POSTERIOR, Verdict.ACCEPTED))
    both = read_for_worklist(case)
    assert both.metrics == model.metrics and "Ana" in both.notes[0] and "Ben" in both.notes[0]
    own = read_for_worklist(case, reviewer="Ana")  # who does not see the work of Ben
    assert own.metrics["wrong_mm3"] < (model.metrics["wrong_mm3"] or 0) and own.notes == ()


def test_an_anonymous_export_names_no_reader(case: Path, tmp_path: Path, segwithu: Command) -> None:
    mask = mask_of(case, tmp_path / "mask.nii.gz", extended)
    assert segwithu("correct", case, mask, "--reviewer", READER).code == 0
    review(case, READER, StructureJudged(ANTERIOR, Verdict.CORRECTED))
    assert segwithu("worklist", case, "--output", tmp_path / "worklist").code == 0
    for way in ([], ["--bids"], ["--page", "--without-image"]):
        out = tmp_path / "_".join(["out", *way])
        assert segwithu("export", case, "--anonymous", *way, "--output", out).code == 0
        files = [out / name for name in entries(out) if (out / name).is_file()]
        assert files and not [path for path in files if READER.encode() in path.read_bytes() or READER in path.name]
    named = tmp_path / "named"
    assert segwithu("export", case, "--output", named).code == 0
    assert READER in (named / case.name / "report.html").read_text(encoding="utf-8")


def test_what_does_not_belong_to_the_case_is_refused(
    segmented_cases: Path, case: Path, tmp_path: Path, segwithu: Command
) -> None:
    mask = mask_of(case, tmp_path / "mask.nii.gz", extended)
    moved = sitk.ReadImage(str(mask))
    moved.SetOrigin((3.3, 0.0, 0.0))
    sitk.WriteImage(moved, str(tmp_path / "moved.nii.gz"))
    other = edited(copied(segmented_cases / CASES[0], tmp_path / "other"), "Eve", {"SegWithU_ImageSHA256": "0" * 64})
    unknown = mask_of(case, tmp_path / "unknown.nii.gz", lambda labels: labels[:2].fill(7))
    same = mask_of(case, tmp_path / "same.nii.gz", lambda labels: None)
    before = entries(case)
    for wrong, code in (
        (tmp_path / "moved.nii.gz", "another-place"), (other, "other-image"), (unknown, "unknown-label"),
        (same, "unusable-input"), (tmp_path / "absent.nii.gz", "missing-file"),
    ):  # fmt: skip
        refused(segwithu("correct", case, wrong, "--reviewer", READER), code, wrong)
        assert entries(case) == before
    assert segwithu("correct", case, mask, "--reviewer", READER).code == 0
    version = case / f"segmentation_reviewed.{READER}.seg.nrrd"
    first, log = version.read_bytes(), (case / f"review.{READER}.jsonl").read_bytes()
    smaller = mask_of(case, tmp_path / "smaller.nii.gz", lambda labels: labels[:, :24].fill(0))
    refused(segwithu("correct", case, smaller, "--reviewer", READER), "exists-already", version)
    assert (version.read_bytes(), (case / f"review.{READER}.jsonl").read_bytes()) == (first, log)
    assert segwithu("correct", case, smaller, "--reviewer", READER, "--overwrite").code == 0
    np.testing.assert_array_equal(array(version), array(smaller))


def test_a_structure_that_a_later_correction_changes_is_finished_no_more(
    case: Path, tmp_path: Path, segwithu: Command
) -> None:
    """That it goes back to what the model drew is a change, too."""

    def without(*values: int) -> Path:
        def erase(labels: np.ndarray) -> None:
            for value in values:
                labels.flat[np.flatnonzero(labels == value)[-9:]] = 0

        return mask_of(case, tmp_path / f"without{values}.nii.gz", erase)

    assert segwithu("correct", case, without(1, 2), "--reviewer", READER).code == 0
    review(case, READER, *(StructureJudged(name, Verdict.CORRECTED) for name in (ANTERIOR, POSTERIOR)))
    assert segwithu("correct", case, without(2), "--reviewer", READER, "--overwrite").code == 0
    (now,) = read_reviews(case, read_case(case)).reviews
    assert now.state.finished == {POSTERIOR}


def test_a_corrected_segmentation_is_judged_again(
    case: Path, data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    mask = mask_of(case, tmp_path / "mask.nii.gz", extended)
    assert segwithu("correct", case, mask, "--reviewer", READER).code == 0
    image = data_folder / "hippocampus" / "images" / f"{CASES[0]}.nii.gz"
    version = case / f"segmentation_reviewed.{READER}.seg.nrrd"
    call = ["judge", image, version, "--model", "hippocampus", "--output", tmp_path / "judged"]
    assert segwithu(*call).code == 0
    found = {each["name"]: each["volume_mm3"] for each in read_case(tmp_path / "judged" / CASES[0])["structures"]}
    assert {name: found[name] for name in NAMES.values()} == {
        name: counted(case, mask)[name][0] for name in NAMES.values()
    }
