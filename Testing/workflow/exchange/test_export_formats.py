"""Cases in the formats of others: BIDS derivatives, a data set of nnU-Net, and what ITK-SNAP and FSLeyes need."""

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, changed_case, copied, edited, judged, review
from segwithu_command import Command, entries, refused

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.region_files import read_regions
from SegWithUCore.review.log_format import StructureJudged, Verdict


@pytest.fixture
def cases(segmented_cases: Path, tmp_path: Path) -> Path:
    for name in CASES[:2]:
        copied(segmented_cases / name, tmp_path / "cases")
    return tmp_path / "cases"


def finish(case: Path, reviewer: str, last: Verdict = Verdict.CORRECTED) -> None:
    ranks = [region.rank for region in read_regions(case)]
    judged(case, reviewer, dict.fromkeys(ranks[:-1], Verdict.ACCEPTED) | {ranks[-1]: last})


def values(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


def test_bids_keeps_subject_and_session_and_tells_no_path(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    for folder, name in zip(sorted(cases.iterdir()), ("sub-07_ses-2_acq-mp_T1w", "Dr. Who_1"), strict=True):
        changed_case(folder, lambda case, name=name: case.update(name=name))
        judged(folder, "Secret Reviewer", {1: Verdict.REJECTED})
    assert segwithu("export", cases, "--bids", "--output", tmp_path / "derived").code == 0
    root, stem = tmp_path / "derived", "sub-07/ses-2/anat/sub-07_ses-2_acq-mp_desc-"
    kinds = ("segwithu_dseg.nii.gz", "segwithu_dseg.json", "segwithu_dseg.tsv", "error_probseg.nii.gz")
    files = {path for path in entries(root) if (root / path).is_file()}
    assert {f"{stem}{kind}" for kind in kinds} | {"sub-DrWho1/anat/sub-DrWho1_desc-segwithu_dseg.nii.gz"} <= files
    description = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))
    assert (description["DatasetType"], description["GeneratedBy"][0]["Name"]) == ("derivative", "SegWithU")
    (ours,) = [folder for folder in cases.iterdir() if read_case(folder)["name"].startswith("sub-07")]
    for ending, file in (("segwithu_dseg", "segmentation"), ("error_probseg", "error_probability")):
        np.testing.assert_array_equal(values(root / f"{stem}{ending}.nii.gz"), values(ours / f"{file}.nii.gz"))
    with (root / f"{stem}segwithu_dseg.tsv").open(encoding="utf-8", newline="") as file:
        table = {int(row["index"]): row["name"] for row in csv.DictReader(file, delimiter="\t")}
    assert table == {entry["value"]: entry["name"] for entry in read_case(ours)["structures"]}
    told = b"".join((root / path).read_bytes() for path in files if not path.endswith(".gz"))
    assert not any(word in told for word in (b"Secret", str(tmp_path).encode(), b"rejected"))


def test_two_cases_of_one_bids_name_are_not_mixed(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    for folder, name in zip(sorted(cases.iterdir()), ("a_1", "a-1"), strict=True):
        changed_case(folder, lambda case, name=name: case.update(name=name))
    outcome = segwithu("export", cases, "--bids", "--output", tmp_path / "derived")
    assert (outcome.code, outcome.error_codes) == (1, ["unusable-name"])
    assert [path for path in entries(tmp_path / "derived") if path.endswith("dseg.tsv")] == [
        "sub-a1/anat/sub-a1_desc-segwithu_dseg.tsv"
    ]


def test_nnunet_gets_finished_cases_alone_and_the_rest_is_a_worklist(
    cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    done, open_ = sorted(cases.iterdir())
    call = ("export", cases, "--nnunet", "--output")
    refused(segwithu(*call, tmp_path / "set"), "wrong-usage", "Dataset101_Hippocampus", code=2)
    refused(segwithu(*call, tmp_path / "Dataset101_H"), "unfinished-review", "2 cases")
    finish(done, "Anna")
    judged(open_, "Anna", {1: Verdict.ACCEPTED})
    refused(segwithu(*call, tmp_path / "Dataset101_H"), "missing-file", "segmentation_reviewed.Anna.seg.nrrd")
    version = edited(done, "Anna")
    assert segwithu(*call, tmp_path / "Dataset101_H").code == 0
    root = tmp_path / "Dataset101_H"
    content = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    names = [entry["name"] for entry in read_case(done)["structures"][1:]]
    assert content["labels"] == {"background": 0, **{name: number for number, name in enumerate(names, 1)}}
    assert (content["numTraining"], content["channel_names"]) == (1, {"0": "T1"})
    image, labels = root / "imagesTr" / f"{done.name}_0000.nii.gz", root / "labelsTr" / f"{done.name}.nii.gz"
    assert sorted(path.name for path in (*image.parent.iterdir(), *labels.parent.iterdir())) == [
        labels.name, image.name
    ]  # fmt: skip
    np.testing.assert_array_equal(values(image), values(done / "image.nii.gz"))
    np.testing.assert_array_equal(values(labels), values(version))
    assert (values(labels) != values(done / "segmentation.nii.gz")).any()
    with (root / "worklist.csv").open(encoding="utf-8", newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [open_.name]
    finish(done, "Bob", Verdict.ACCEPTED)
    shown = segwithu(*call, tmp_path / "Dataset102_H")
    assert (shown.code, shown.error_codes) == (1, ["no-such-review"])
    assert segwithu(*call, tmp_path / "Dataset103_H", "--reviewer", "Bob").code == 0
    theirs = values(tmp_path / "Dataset103_H" / "labelsTr" / f"{done.name}.nii.gz")
    np.testing.assert_array_equal(theirs, values(done / "segmentation.nii.gz"))


@pytest.mark.parametrize("last", [Verdict.REJECTED, Verdict.SECOND_READER, Verdict.NOT_LOOKED_AT])
def test_a_region_in_doubt_keeps_a_case_from_training(
    last: Verdict, cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    finish(cases / CASES[0], "Anna", last)
    outcome = segwithu("export", cases / CASES[0], "--nnunet", "--output", tmp_path / "Dataset101_H")
    refused(outcome, "unfinished-review", "1 cases")


def test_nnunet_ignores_what_may_be_of_a_structure_that_nobody_finished(
    cases: Path, tmp_path: Path, segwithu: Command
) -> None:
    done, other = sorted(cases.iterdir())
    review(done, "Anna", StructureJudged("anterior hippocampus", Verdict.ACCEPTED))
    version = edited(done, "Anna")
    for name in ("anterior hippocampus", "posterior hippocampus"):
        review(other, "Anna", StructureJudged(name, Verdict.ACCEPTED))
    assert segwithu("export", cases, "--nnunet", "--output", tmp_path / "Dataset101_H").code == 0
    labels = tmp_path / "Dataset101_H" / "labelsTr"
    content = json.loads((labels.parent / "dataset.json").read_text(encoding="utf-8"))
    assert content["labels"] == {"background": 0, "anterior hippocampus": 1, "posterior hippocampus": 2, "ignore": 3}
    drawn, may_be = values(version), [values(done / f"{name}.nii.gz") for name in ("segmentation", "runner_up")]
    for label, vouched, *others in zip(values(labels / f"{done.name}.nii.gz").flat, drawn.flat,
                                       *(each.flat for each in may_be), strict=True):  # fmt: skip
        assert label == (1 if vouched == 1 else 3 if 2 in (vouched, *others) else 0)
    np.testing.assert_array_equal(values(labels / f"{other.name}.nii.gz"), values(other / "segmentation.nii.gz"))
    for case in (done, other):
        changed_case(case, lambda content: content.update(asked=["anterior hippocampus"]))
    assert segwithu("export", cases, "--nnunet", "--output", tmp_path / "Dataset102_H").code == 0
    content = json.loads((tmp_path / "Dataset102_H" / "dataset.json").read_text(encoding="utf-8"))
    assert content["labels"] == {"background": 0, "anterior hippocampus": 1}, "all that was asked for is known"
    found = values(tmp_path / "Dataset102_H" / "labelsTr" / f"{done.name}.nii.gz")
    np.testing.assert_array_equal(found, drawn == 1)


def test_a_training_case_is_cut_to_what_was_segmented(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    done = cases / CASES[0]
    box = {"index_ijk": [3, 4, 5], "size_ijk": [20, 30, 25]}
    changed_case(done, lambda case: case.update(assessed=box))
    finish(done, "Anna", Verdict.ACCEPTED)
    assert segwithu("export", done, "--nnunet", "--output", tmp_path / "Dataset101_H").code == 0
    for path, file in (("imagesTr/{}_0000", "image"), ("labelsTr/{}", "segmentation")):
        found = sitk.ReadImage(str(tmp_path / "Dataset101_H" / f"{path.format(done.name)}.nii.gz"))
        wanted = sitk.ReadImage(str(done / f"{file}.nii.gz"))[3:23, 4:34, 5:30]
        np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(wanted))
        assert found.GetOrigin() == pytest.approx(wanted.GetOrigin())


def test_an_export_opens_in_itk_snap_and_fsleyes(cases: Path, tmp_path: Path, segwithu: Command) -> None:
    outcome = segwithu("export", cases / CASES[0], "--output", tmp_path / "sent", "--json")
    assert outcome.code == 0, outcome.err
    snap, eyes = (shlex.split(str(line)) for line in outcome.events[-1]["viewers"])  # type: ignore[attr-defined]
    assert (snap[0], eyes[0]) == ("itksnap", "fsleyes")
    files = [Path(word) for word in (*snap, *eyes) if "/" in word or "\\" in word]
    assert len(files) == 7 and all(path.is_file() for path in files)
    rows = [line for line in (tmp_path / "sent" / CASES[0] / "itksnap_labels.txt").read_text().splitlines()
            if not line.startswith("#")]  # fmt: skip
    found = {int(row.split()[0]): (row.split('"')[1], [int(part) for part in row.split()[1:4]]) for row in rows}
    labels = {entry["value"]: (entry["name"], entry["color"]) for entry in read_case(cases / CASES[0])["structures"]}
    assert found == {**labels, 0: ("Clear Label", [0, 0, 0])}
    again = segwithu("export", tmp_path / "sent" / CASES[0], "--output", tmp_path / "again", "--json")
    assert again.events[-1]["left_out"] == []


def test_headers_of_volumes_tell_viewers_what_they_are(cases: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    case = read_case(cases / CASES[0])
    windows = {facts["file"]: facts["window"] for facts in case["maps"].values()}
    windows |= {f"{kind}_percentile.nii.gz": [0, 100] for kind in ("model", "data")}
    for file, window in windows.items():
        header = nibabel.load(cases / CASES[0] / file).header
        assert header.get_intent()[0] == "estimate"
        assert [header["cal_min"], header["cal_max"]] == pytest.approx(window)
    for file in ("segmentation.nii.gz", "runner_up.nii.gz", "regions.nii.gz"):
        header = nibabel.load(cases / CASES[0] / file).header
        assert (header.get_intent()[0], header["cal_max"]) == ("label", 0)
        assert (header["qform_code"], header["sform_code"]) == (1, 1)
