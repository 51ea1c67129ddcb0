"""`calibrate --add` with reviewed case folders, and with heads: references are cut to the boxes of the model."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import changed_case, changed_regions, copied, edited, judged, listed_regions, rest_accepted, review
from segwithu_command import MODEL
from web_client import WebClient, served

from SegWithUCore.case.case_file import read_case as read_case_file
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.inference.placement import Placed
from SegWithUCore.io.roi import RegionOfInterest
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.regions.region import Kind
from SegWithUCore.review.log_format import Edited, StructureJudged, Verdict
from SegWithUCore.review.reviews import corrected_cases_text
from SegWithUCore.review.worklist import make_worklist, read_for_worklist
from SegWithUCore.review.worklist_files import write_worklist
from SegWithUCore.util.errors import InputError, UsageError
from SegWithULab.calibration import corrected
from SegWithULab.calibration.cases import labelled_classes
from SegWithULab.calibration.corrected import added_cases
from SegWithULab.training.case_reading import read_assessed, read_case


def folder(name: str, tmp_path: Path) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


def finished(case: Path, reviewer: str) -> None:
    names = [str(entry["name"]) for entry in read_case_file(case)["structures"] if entry["value"]]
    review(case, reviewer, *(StructureJudged(name, Verdict.CORRECTED) for name in names))


def test_only_corrections_of_finished_reviews_are_references(segmented_cases: Path, tmp_path: Path) -> None:
    cases, work = folder("cases", tmp_path), folder("work", tmp_path)
    done, open_, plain = (
        copied(segmented_cases / "hippocampus_075", cases, name) for name in ("done", "open", "plain")
    )
    finished(done, "Ana")
    reviewed = edited(done, "Ana")
    judged(open_, "Ana", {1: Verdict.CORRECTED})
    edited(open_, "Ana")
    rest_accepted(plain, "Ana", {1: Verdict.ACCEPTED})
    (found,) = added_cases(str(cases), read_bundle(MODEL), work)
    assert found.patient == read_case_file(done)["input"]["channels"][0]["voxels_sha256"]
    write_worklist(make_worklist([done]), tmp_path)
    (listed,) = added_cases(str(tmp_path / "worklist.json"), read_bundle(MODEL), folder("listed", tmp_path))
    assert listed.patient == found.patient
    assert [read_for_worklist(case).has_finished for case in (done, open_, plain)] == [True, False, False]
    hint = corrected_cases_text(plain, "hippocampus")
    assert hint.startswith("1 case ") and f"--add {cases}" in hint
    assert corrected_cases_text(plain, "liver") == ""
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(reviewed)))
    assert np.array_equal(sitk.GetArrayFromImage(read_case(found).reference), wanted)
    with pytest.raises(UsageError) as refused:
        added_cases(str(open_), read_bundle(MODEL), work)
    assert refused.value.code == "no-corrected-case"
    finished(done, "Ben")
    edited(done, "Ben")
    with pytest.raises(InputError) as twice:
        added_cases(str(done), read_bundle(MODEL), work)
    assert twice.value.code == "two-references"


def test_a_review_of_a_version_without_blind_sample_teaches_when_all_regions_have_a_verdict(
    segmented_cases: Path, tmp_path: Path
) -> None:
    case = copied(segmented_cases / "hippocampus_075", tmp_path)
    rows = (case / "regions.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    changed_regions(case, "".join(row for row in rows if "blind sample" not in row))
    judged(case, "Ana", {1: Verdict.CORRECTED})
    edited(case, "Ana")
    with pytest.raises(UsageError):
        added_cases(str(case), read_bundle(MODEL), folder("work", tmp_path))
    shutil.rmtree(tmp_path / "work")
    judged(case, "Ana", dict.fromkeys(range(1, len(listed_regions(case)) + 1), Verdict.ACCEPTED))
    assert len(added_cases(str(case), read_bundle(MODEL), folder("work", tmp_path))) == 1


@pytest.mark.parametrize("is_edited", [True, False])
def test_a_finished_structure_teaches_whatever_regions_say(
    is_edited: bool, segmented_cases: Path, tmp_path: Path
) -> None:
    cases, work, model = folder("cases", tmp_path), folder("work", tmp_path), read_bundle(MODEL)
    case, plain = (copied(segmented_cases / f"hippocampus_{number}", cases) for number in ("075", "319"))
    judged(case, "Ana", {1: Verdict.REJECTED})
    given = [
        StructureJudged("anterior hippocampus", Verdict.REJECTED),
        StructureJudged("posterior hippocampus", Verdict.ACCEPTED),
    ]
    review(case, "Ana", *given, *([Edited(1, "posterior hippocampus", 8, 0, 8.0)] if is_edited else []))
    review(plain, "Ana", StructureJudged("posterior hippocampus", Verdict.SECOND_READER))
    if is_edited:
        with pytest.raises(InputError) as lost:
            added_cases(str(cases), model, folder("lost", tmp_path))
        assert lost.value.code == "missing-file" and "segmentation_reviewed.Ana" in str(lost.value)
    version = edited(case, "Ana") if is_edited else case / "segmentation.nii.gz"
    (found,) = added_cases(str(cases), model, work)
    assert corrected_cases_text(plain, "hippocampus").startswith("1 case ")
    read, values = read_assessed(found, model), sitk.GetArrayFromImage(sitk.ReadImage(str(version)))
    assert np.array_equal(read.truth, np.where(values == 2, 2, 0)) and (values == 1).any()
    assert read.judged_as is not None and read.judged_as.tolist() == [0, 0, 2]
    assert labelled_classes([found], model).all(), "each class is told from the finished one"
    review(case, "Ana", StructureJudged("anterior hippocampus", Verdict.ACCEPTED))
    (whole,) = added_cases(str(cases), model, folder("again", tmp_path))
    assert np.array_equal(read_assessed(whole, model).truth, values) and not whole.labels
    review(case, "Ben", StructureJudged("anterior hippocampus", Verdict.ACCEPTED))
    with pytest.raises(InputError) as twice:
        added_cases(str(cases), model, folder("twice", tmp_path))
    assert twice.value.code == "two-references" and str(case) in str(twice.value)


def test_a_case_of_a_model_with_other_structures_is_refused(segmented_cases: Path, tmp_path: Path) -> None:
    case = copied(segmented_cases / "hippocampus_075", tmp_path)
    finished(case, "Ana")
    edited(case, "Ana")
    changed_case(case, lambda content: content["structures"][2].update(name="tail"))
    with pytest.raises(InputError) as refused:
        added_cases(str(case), read_bundle(MODEL), folder("work", tmp_path))
    assert refused.value.code == "other-model"


@pytest.mark.parametrize("doubt", [Verdict.REJECTED, Verdict.SECOND_READER])
def test_what_a_reviewer_doubts_is_no_reference(doubt: Verdict, segmented_cases: Path, tmp_path: Path) -> None:
    case = copied(segmented_cases / "hippocampus_075", tmp_path)
    finished(case, "Ana")
    review(case, "Ana", *(StructureJudged(f"{end} hippocampus", doubt) for end in ("anterior", "posterior")))
    edited(case, "Ana")
    with pytest.raises(UsageError) as refused:
        added_cases(str(case), read_bundle(MODEL), folder("work", tmp_path))
    assert refused.value.code == "no-corrected-case"


@pytest.mark.parametrize("sided", [True, False])
def test_a_head_is_cut_to_both_boxes(sided: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((100, 100, 100), np.uint8)
    values[50, 50, 30], values[50, 50, 70] = (3, 2) if sided else (1, 2)  # right at low x: the image is LPS
    for name, array in (("images", np.random.default_rng(0).random(values.shape, np.float32)), ("labels", values)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder(name, tmp_path) / "head.nii.gz"))
    rois = {
        "left": RegionOfInterest((-70.0, -50.0, 50.0), (36.0, 50.0, 36.0)),
        "right": RegionOfInterest((-30.0, -50.0, 50.0), (36.0, 50.0, 36.0)),
    }
    monkeypatch.setattr(corrected, "place", lambda *_: Placed(rois, 1.0, 1.0))
    left, right = added_cases(str(tmp_path), read_bundle(MODEL), folder("work", tmp_path))
    assert left.group == right.group == "head"
    found = [sitk.GetArrayFromImage(read_case(case).reference) for case in (left, right)]
    assert [each.max() for each in found] == [2, 1] and all(each.shape == (36, 50, 36) for each in found)
    values[0, 0, 0] = 47
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "labels" / "head.nii.gz"))
    with pytest.raises(InputError) as refused:
        added_cases(str(tmp_path), read_bundle(MODEL), folder("again", tmp_path))
    assert refused.value.code == "unknown-label"


@pytest.mark.parametrize("names", [{"17": "left hippocampus", "53": "right hippocampus"}, {"53": "right hippocampus"}])
def test_a_head_with_named_labels_is_cut_to_the_boxes_that_have_some(
    names: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, model = np.zeros((100, 100, 100), np.uint8), read_bundle(MODEL)
    values[50, 50, 30], values[50, 50, 70], values[0, 0, 0] = 53, 17, 4  # right at low x: the image is LPS
    for name, array in (("images", np.random.default_rng(0).random(values.shape, np.float32)), ("labels", values)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(folder(name, tmp_path) / "head.nii.gz"))
    rois = {
        "left": RegionOfInterest((-70.0, -50.0, 50.0), (36.0, 50.0, 36.0)),
        "right": RegionOfInterest((-30.0, -50.0, 50.0), (36.0, 50.0, 36.0)),
    }
    monkeypatch.setattr(corrected, "place", lambda *_: Placed(rois, 1.0, 1.0))
    parts = added_cases(str(tmp_path), model, folder("work", tmp_path), names)
    assert [part.name for part in parts] == ["head_left", "head_right"][-len(names) :]
    for part in parts:
        read = read_assessed(part, model)
        assert read.judged_as is not None and read.judged_as.tolist() == [0, 1, 1]
        assert read.truth.sum() == 1, "the one voxel of its side"


def test_a_finished_review_on_the_page_names_the_corrected_cases(segmented_cases: Path, tmp_path: Path) -> None:
    corrected_one = copied(segmented_cases / "hippocampus_075", tmp_path)
    copied(segmented_cases / "hippocampus_319", tmp_path)
    finished(corrected_one, "Ana")
    edited(corrected_one, "Ana")
    with served(tmp_path) as server:
        client = WebClient(server.gate.link)
        review = client.open(client.case_id("hippocampus_319"), "Ana")
        assert review.judge(review.ids[0])["corrected"] == ""
        names = ("anterior hippocampus", "posterior hippocampus")
        given = [{"event": "structure", "structure": name, "verdict": "accepted", "comment": ""} for name in names]
        places = [each.id for each in read_regions(tmp_path / "hippocampus_319") if each.kind is Kind.BLIND]
        status, _ = review.say(*given)
        assert status == 200
        assert [review.judge(place)["corrected"] for place in places][-1].startswith("2 cases ")
