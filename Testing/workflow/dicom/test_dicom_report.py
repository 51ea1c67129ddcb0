"""The Structured Report of a DICOM case, read by others: figures, and one reviewer's verdicts where these lie."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest
import SimpleITK as sitk
from dicom_readers import frames
from exchanged_cases import changed_case, copied, edited, judged, limited, review
from segwithu_command import Command, refused

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.inference.placed_case import LATERALITY
from SegWithUCore.review.log_format import StructureJudged, Verdict
from SegWithUCore.review.reviewed_case import reviewed_case
from SegWithUCore.review.reviews import read_reviews
from SegWithUCore.review.signing import signature

ANNA, BOB = "Łucja Wójcik", "Bob Other"


@pytest.fixture
def case(dicom_cases: Path, tmp_path: Path) -> Path:
    return copied(dicom_cases / "cases" / "axial", tmp_path / "cases")


@pytest.fixture
def exported(case: Path, dicom_cases: Path, tmp_path: Path, segwithu: Command) -> Any:
    def export(*options: str) -> Path:
        shutil.rmtree(tmp_path / "sent", ignore_errors=True)
        call = ["export-dicom", case, "--output", tmp_path / "sent", "--source", dicom_cases / "series" / "axial"]
        outcome = segwithu(*call, *options)
        assert outcome.code == 0, outcome.err
        return tmp_path / "sent" / "axial"

    return export


def by_dcmqi(report: Path, target: Path) -> dict[str, Any]:
    """What `tid1500reader` (DCMTK, written in C++) reads."""
    dcmqi = pytest.importorskip("dcmqi", reason="no dcmqi for this system")
    program = str(shutil.which("tid1500reader", path=Path(dcmqi.__file__).parent / "bin"))
    call = [program, "--inputDICOM", str(report), "--outputMetadata", str(target)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return content


def test_dcmqi_reads_the_figures_of_each_structure_in_mm3(case: Path, exported: Any, tmp_path: Path) -> None:
    limited(case, wrong_share=0.01)
    folder = exported()
    assert not (folder / "regions.dcm").exists()
    found = by_dcmqi(folder / "report.dcm", tmp_path / "report.json")
    segmentation = pydicom.dcmread(folder / "segmentation.dcm")
    entries = [entry for entry in read_case(case)["structures"] if entry["value"]]
    *groups, total, whole = found["Measurements"]
    assert (whole["TrackingIdentifier"], "ReferencedSegment" in whole) == ("case", False)
    assert (total["TrackingIdentifier"], "ReferencedSegment" in total) == ("whole hippocampus", False)
    assert [group["TrackingIdentifier"] for group in groups] == [entry["name"] for entry in entries]
    for group, entry in zip(groups, entries, strict=True):
        assert group["segmentationSOPInstanceUID"] == segmentation.SOPInstanceUID
        assert group["ReferencedSegment"] == entry["value"]
        volume, estimated, wrong, dice = group["measurementItems"]
        assert [item["units"]["CodeValue"] for item in group["measurementItems"]] == ["mm3", "mm3", "mm3", "1"]
        values = [float(item["value"]) for item in (volume, estimated, wrong, dice)]
        keys = ("volume_mm3", "expected_volume_mm3", "expected_wrong_mm3", "predicted_dice")
        assert values == pytest.approx([entry[key] for key in keys], abs=1e-3)
        assert "derivationModifier" not in volume
        assert estimated["derivationModifier"]["CodeMeaning"] == "Estimated"
        above, below = estimated["measurementNumProperties"]
        assert {above["numPropertyUnits"]["CodeValue"], below["numPropertyUnits"]["CodeValue"]} == {"mm3"}
        ends = (values[1] - float(below["numPropertyValue"]), values[1] + float(above["numPropertyValue"]))
        assert ends == pytest.approx(entry["expected_interval_mm3"], abs=1e-3)
        flags = [said["conceptValue"] for said in group["qualitativeEvaluations"]]
        assert flags[0]["CodeValue"] == "WRONG_SHARE"
    assert (found["CompletionFlag"], found["VerificationFlag"]) == ("PARTIAL", "UNVERIFIED"), "nobody has reviewed it"


def test_totals_and_asymmetries_are_groups_of_their_own_and_parts_of_a_side_differ(case: Path, exported: Any) -> None:
    from highdicom import sr

    code, left = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}, LATERALITY["left"].__dict__
    total = {"name": "left whole", "of": [1, 2], "type": code, "modifier": left, "volume_mm3": 3000.0}
    total |= {"expected_volume_mm3": 3100.0, "expected_interval_mm3": [2900.0, 3400.0], "is_denominator": True}
    asymmetry = {"name": "whole", "percent": -3.5, "interval_percent": [-8.5, 1.5]}

    def change(content: dict[str, Any]) -> None:
        content.update(totals=[total], asymmetries=[asymmetry])
        for entry in content["structures"][1:]:
            entry["laterality"] = left

    changed_case(case, change)
    folder = exported()
    report = sr.srread(folder / "report.dcm").content
    named = {one.tracking_identifier: one for one in report.get_image_measurement_groups()}

    def figures(name: str) -> list[tuple[str, float]]:
        return [(one.name.value, float(one.value)) for one in named[name].get_measurements()]

    assert [value for _, value in figures("left whole")] == [3000, 3100, 100]
    assert figures("asymmetry of whole") == [("ASYMMETRY", -3.5)]
    (site,) = named["left whole"].finding_sites
    assert site.laterality.value == left["value"]
    parts = [one.finding_sites[0] for one in report.get_volumetric_roi_measurement_groups()]
    assert [(one.laterality.meaning, one.topographical_modifier.meaning) for one in parts] == [
        ("Left", "Anterior"), ("Left", "Posterior")
    ]  # fmt: skip
    segments = pydicom.dcmread(folder / "segmentation.dcm").SegmentSequence
    kinds = [one.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence for one in segments]
    assert [[code.CodeMeaning for code in codes] for codes in kinds] == [["Left", "Anterior"], ["Left", "Posterior"]]


def test_one_reviewer_s_verdicts_lie_on_the_regions(case: Path, exported: Any) -> None:
    from highdicom import sr

    given = {1: Verdict.CORRECTED, 2: Verdict.ACCEPTED, 3: Verdict.REJECTED}
    judged(case, ANNA, given, comment="phone her daughter")
    judged(case, BOB, {1: Verdict.SECOND_READER})
    edited(case, ANNA)
    edited(case, BOB)
    folder = exported("--reviewer", ANNA)
    assert not list(folder.glob(f"*{BOB}*"))
    report, regions = sr.srread(folder / "report.dcm"), pydicom.dcmread(folder / "regions.dcm")
    assert BOB not in str(report)
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")
    names = {
        str(observer.observer_identifying_attributes.name)
        for observer in report.content.get_observer_contexts()
        if observer.observer_type.meaning == "Person"
    }
    assert names == {f"{ANNA}^"}
    ids = sitk.GetArrayFromImage(sitk.ReadImage(str(case / "regions.nii.gz")))
    numbers = [one.SegmentIdentificationSequence[0].ReferencedSegmentNumber
               for one in regions.PerFrameFunctionalGroupsSequence]  # fmt: skip
    groups = report.content.get_volumetric_roi_measurement_groups()
    by_rank = {region.rank: region for region in read_regions(case)}
    for rank, verdict in given.items():
        (group,) = [one for one in groups if one.tracking_identifier == f"region {by_rank[rank].id}"]
        (said,) = [one for one in group.get_qualitative_evaluations() if one.name.value == "VERDICT"]
        assert said.value.meaning == verdict.value
        (segment, _) = group.referenced_segment
        assert segment.referenced_sop_instance_uid == regions.SOPInstanceUID
        voxels = sum(int(frame.sum()) for frame, number in zip(frames(regions), numbers, strict=True)
                     if number in segment.referenced_segment_numbers)  # fmt: skip
        assert voxels == (ids == by_rank[rank].id).sum() > 0
        (wrong,) = group.get_measurements()
        assert (wrong.value, wrong.unit.value) == (pytest.approx(by_rank[rank].expected_wrong_mm3, abs=1e-3), "mm3")
    assert "phone her daughter" not in str(report)
    assert str(report).count("Observation DateTime") == len(given)


@pytest.mark.parametrize(
    ("last", "flags"),
    [
        (Verdict.ACCEPTED, "COMPLETE"),
        (Verdict.REJECTED, "PARTIAL"),
        (Verdict.NOT_LOOKED_AT, "PARTIAL"),
    ],
)
def test_only_what_was_seen_whole_is_complete(case: Path, exported: Any, last: Verdict, flags: str) -> None:
    ranks = [region.rank for region in read_regions(case)]
    judged(case, ANNA, dict.fromkeys(ranks[:-1], Verdict.ACCEPTED) | {ranks[-1]: last})
    report = pydicom.dcmread(exported("--reviewer", ANNA) / "report.dcm")
    assert (report.CompletionFlag, report.VerificationFlag) == (flags, "UNVERIFIED"), "nobody has signed"


def test_a_report_is_complete_when_the_structures_asked_for_are_finished(case: Path, exported: Any) -> None:
    changed_case(case, lambda content: content.update(asked=["posterior hippocampus"]))
    judged(case, ANNA, {1: Verdict.REJECTED})

    def flag() -> str:
        return str(pydicom.dcmread(exported("--reviewer", ANNA) / "report.dcm").CompletionFlag)

    review(case, ANNA, StructureJudged("anterior hippocampus", Verdict.ACCEPTED))
    assert flag() == "PARTIAL", "nobody asked for it"
    review(case, ANNA, StructureJudged("posterior hippocampus", Verdict.SECOND_READER))
    assert flag() == "PARTIAL"
    review(case, ANNA, StructureJudged("posterior hippocampus", Verdict.ACCEPTED))
    assert flag() == "COMPLETE"


def test_signed_volumes_are_verified_by_who_signed_them_until_something_changes(case: Path, exported: Any) -> None:
    from highdicom import sr

    changed_case(case, lambda content: content.update(asked=["posterior hippocampus"]))
    review(case, ANNA, StructureJudged("posterior hippocampus", Verdict.ACCEPTED))
    content, (found,) = read_case(case), read_reviews(case, read_case(case)).reviews
    signed = signature(reviewed_case(case, content, found), found)
    review(case, ANNA, signed)
    report = sr.srread(exported("--reviewer", ANNA) / "report.dcm")
    (observer,) = report.VerifyingObserverSequence
    assert (report.VerificationFlag, str(observer.VerifyingObserverName)) == ("VERIFIED", f"{ANNA}^")
    groups = report.content.get_planar_roi_measurement_groups() + report.content.get_image_measurement_groups()
    (group,) = [one for one in groups if one.tracking_identifier == "signed posterior hippocampus"]
    (volume,), (basis,) = group.get_measurements(), group.get_qualitative_evaluations()
    (entry,) = [one for one in content["structures"] if one["name"] == "posterior hippocampus"]
    assert (volume.value, basis.value.meaning) == (pytest.approx(entry["volume_mm3"], abs=1e-3), "finished")
    review(case, ANNA, StructureJudged("posterior hippocampus", None))
    assert pydicom.dcmread(exported("--reviewer", ANNA) / "report.dcm").VerificationFlag == "UNVERIFIED"


def test_verdicts_are_not_told_unasked_and_an_unknown_reviewer_is_refused(
    case: Path, dicom_cases: Path, exported: Any, tmp_path: Path, segwithu: Command
) -> None:
    judged(case, ANNA, {1: Verdict.REJECTED})
    report = pydicom.dcmread(exported() / "report.dcm")
    assert ANNA not in str(report)
    assert "rejected" not in str(report)
    call = ["export-dicom", case, "--output", tmp_path / "none", "--source", dicom_cases / "series" / "axial"]
    refused(segwithu(*call, "--reviewer", BOB), "no-such-review", case)
    assert not (tmp_path / "none").exists()
