"""A segmentation made elsewhere is judged by a model, kept as it was given, or refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_phantoms import as_mr, write_series
from phantoms import rotation
from repository import ROOT
from scipy import ndimage
from segwithu_command import MODEL, Command, entries, refused

from SegWithUCore.case.segmentation_file import write_segmentation_nrrd
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.roi import whole_grid
from SegWithUCore.models.input_spec import Label

CASE = "hippocampus_319"
HEAD = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
Given = tuple[sitk.Image, np.ndarray]
_OF_ANOTHER = {
    "PatientID": "Q",
    "FrameOfReferenceUID": "1.2.3.4",
    "SeriesInstanceUID": "1.2.3.5",
}


@pytest.fixture(scope="module")
def image(data_folder: Path) -> Path:
    return data_folder / "hippocampus" / "images" / f"{CASE}.nii.gz"


@pytest.fixture
def given(data_folder: Path) -> Given:
    """A reference, and its labels."""
    reference = sitk.ReadImage(str(data_folder / "hippocampus" / "labels" / f"{CASE}.nii.gz"))
    return reference, sitk.GetArrayFromImage(reference).astype(np.uint8)


def _write(labels: np.ndarray, grid: sitk.Image, path: Path) -> Path:
    mask = sitk.GetImageFromArray(labels)
    mask.CopyInformation(grid)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(mask, str(path))
    return path


def _array(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _case(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / "case.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_the_models_own_mask_is_judged_as_its_segmentation(segwithu: Command, image: Path, tmp_path: Path) -> None:
    assert segwithu.segment(image, output=tmp_path / "own").code == 0
    own, again = tmp_path / "own" / CASE, tmp_path / "again" / CASE
    assert segwithu("judge", image, own / "segmentation.nii.gz", "-m", MODEL, "-o", again.parent).code == 0
    for name in ("segmentation", "error_probability", "runner_up", "regions", "ranking"):
        assert np.array_equal(_array(own / f"{name}.nii.gz"), _array(again / f"{name}.nii.gz")), name
    assert [each["expected_wrong_mm3"] for each in _case(own)["structures"]] == pytest.approx(
        [each["expected_wrong_mm3"] for each in _case(again)["structures"]]
    )


def test_a_changed_mask_is_kept_as_given_and_read_as_wrong_where_it_was_changed(
    segwithu: Command, image: Path, given: Given, tmp_path: Path
) -> None:
    """A third is cut off, and a block is added far from the structure; values are those of another program."""
    reference, labels = given
    where = np.argwhere(labels > 0)
    cut = int(np.quantile(where[:, 0], 0.7))
    changed = np.where(labels > 0, np.uint8(53), np.uint8(0))
    changed[cut:] = 0
    changed[:4, :4, :4] = 53
    mask = _write(changed, reference, tmp_path / "mask.nrrd")
    call = ("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out", "--labels", "53=hippocampus")
    assert segwithu(*call).code == 0
    folder = tmp_path / "out" / CASE
    written = sitk.ReadImage(str(folder / "segmentation.nii.gz"))
    assert np.array_equal(sitk.GetArrayFromImage(written), changed)
    assert written.GetOrigin() == pytest.approx(reference.GetOrigin())
    error = _array(folder / "error_probability.nii.gz")
    assert error[:4, :4, :4].min() > 0.95
    is_cut = (labels > 0) & (changed == 0)
    assert error[is_cut].mean() > 0.7
    assert np.all(_array(folder / "runner_up.nii.gz")[is_cut & (error > 0.5)] == 53)
    inner = np.zeros_like(is_cut)
    inner[1:-1, 1:-1, 1:-1] = True
    assert error[(changed == 53) & (labels > 0) & inner].mean() < 0.2
    case = _case(folder)
    assert [(entry["value"], entry["name"]) for entry in case["structures"]] == [(0, "background"), (53, "hippocampus")]
    assert case["structures"][1]["voxels"] == np.count_nonzero(changed)
    assert case["light"]["level"] == "look at it"
    assert case["model"]["flags"] is None  # limits were fitted on the model's own segmentations
    assert case["judged"]["labels"] == {"53": "hippocampus"}
    assert any(entry["kind"] == "judged" and "53" in entry["message"] for entry in case["ood"]["warnings"])
    assert segwithu("report", folder).code == 0
    assert segwithu("export", folder, "-o", tmp_path / "sent", "--anonymous").code == 0
    told = json.loads((tmp_path / "sent" / "case-001" / "case.json").read_text(encoding="utf-8"))
    assert told["judged"] == {"sha256": case["judged"]["sha256"], "labels": {}}
    assert segwithu(*call, "--resume").code == 0
    _write(53 * ndimage.binary_dilation(labels > 0).astype(np.uint8), reference, mask)
    refused(segwithu(*call, "--resume"), "case-outdated", folder)
    assert segwithu(*call, "--overwrite").code == 0
    warned = [entry for entry in _case(folder)["ood"]["warnings"] if entry["severity"] == "warning"]
    assert [entry["kind"] for entry in warned] == ["judged"], warned
    _write(np.where(labels > 0, np.uint8(53), np.uint8(0)), reference, mask)
    assert segwithu(*call, "--overwrite").code == 0
    assert [entry["severity"] for entry in _case(folder)["ood"]["warnings"]] == ["note"]


def test_one_file_a_structure_and_a_segmentation_of_slicer_are_the_same_mask(
    segwithu: Command, image: Path, given: Given, tmp_path: Path
) -> None:
    reference, labels = given
    names = {1: "anterior_hippocampus", 2: "Posterior hippocampus"}
    for value, name in names.items():
        _write((labels == value).astype(np.uint8), reference, tmp_path / "folder" / f"{name}.nii.gz")
    _write((labels == 0).astype(np.uint8), reference, tmp_path / "folder" / "liver.nii.gz")
    slicer = [Label(0, "background", (0, 0, 0)), *(Label(value, name, (9, 9, 9)) for value, name in names.items())]
    grid, part = VoxelGrid.of(reference), tmp_path / "mask.seg.nrrd"
    write_segmentation_nrrd(part, labels, whole_grid(grid), grid, slicer)
    found = []
    for mask in (tmp_path / "folder", part, _write(labels, reference, tmp_path / "mask.nii.gz")):
        assert segwithu("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out", "--overwrite").code == 0
        found.append({name: _array(tmp_path / "out" / CASE / name) for name in ("segmentation.nii.gz",
                      "error_probability.nii.gz", "runner_up.nii.gz")})  # fmt: skip
    for name, values in found[0].items():
        assert all(np.array_equal(values, other[name]) for other in found[1:]), name


def test_a_dicom_seg_is_the_mask_of_its_series(segwithu: Command, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    turned = sitk.ReadImage(str(image))
    turned.SetDirection((rotation([7, -9, 5]) @ np.reshape(turned.GetDirection(), (3, 3))).ravel().tolist())
    series = tmp_path / "series"
    write_series(
        turned,
        series,
        scale=lambda number: (1, 0),
        change=as_mr(PatientID="P", PatientName="DOE^JOHN", StudyInstanceUID="1.2.3"),
    )
    assert segwithu.segment(series, output=tmp_path / "own").code == 0
    assert segwithu("export-dicom", tmp_path / "own" / "series", "-o", tmp_path / "dicom").code == 0
    mask = next((tmp_path / "dicom").rglob("*seg*.dcm"))
    assert segwithu("judge", series, mask, "-m", MODEL, "-o", tmp_path / "out").code == 0
    for name in ("segmentation.nii.gz", "error_probability.nii.gz"):
        assert np.array_equal(_array(tmp_path / "own" / "series" / name), _array(tmp_path / "out" / "series" / name))
    refused(segwithu("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out", "--name", "b"), "other-grid", mask)
    for number, (keyword, value) in enumerate(_OF_ANOTHER.items()):
        dataset = pydicom.dcmread(mask)
        changed = dataset.ReferencedSeriesSequence[0] if keyword == "SeriesInstanceUID" else dataset
        setattr(changed, keyword, value)
        other = tmp_path / f"{number}.dcm"
        dataset.save_as(other)
        refused(segwithu("judge", series, other, "-m", MODEL, "-o", tmp_path / "c"), "other-image", other, series)
    for patient, name, code in (("P", "Other^Name", 0), ("", "doe^john^", 0), ("", "Other^Name", 1)):
        dataset = pydicom.dcmread(mask)
        dataset.PatientID, dataset.PatientName = patient, name  # a name counts only where there is no PatientID
        dataset.save_as(other)
        outcome = segwithu("judge", series, other, "-m", MODEL, "-o", tmp_path / "c", "--overwrite")
        assert outcome.code == code
    refused(outcome, "other-image", other, series)
    for keyword in ("PatientID", "PatientName"):  # what a SEG does not say is not compared
        setattr(dataset, keyword, "")
    dataset.ReferencedSeriesSequence = pydicom.dcmread(mask).ReferencedSeriesSequence
    dataset.save_as(other)
    assert segwithu("judge", series, other, "-m", MODEL, "-o", tmp_path / "c", "--overwrite").code == 0


def test_masks_that_cannot_be_judged_are_refused(segwithu: Command, image: Path, given: Given, tmp_path: Path) -> None:
    reference, labels = given
    moved = sitk.Image(reference)
    moved.SetOrigin((500.0, 0.0, 0.0))
    corner = np.zeros_like(labels)
    corner[:3, :3, :3] = 1
    _write((labels > 0).astype(np.uint8), reference, tmp_path / "two" / "anterior_hippocampus.nii.gz")
    _write((labels == 2).astype(np.uint8), reference, tmp_path / "two" / "posterior_hippocampus.nii.gz")
    (tmp_path / "none" / "folder.nii.gz").mkdir(parents=True)
    masks = {
        "other-grid": _write(labels, moved, tmp_path / "moved.nii.gz"),
        "empty-mask": _write(0 * labels, reference, tmp_path / "empty.nii.gz"),
        "unknown-label": _write(labels + 1, reference, tmp_path / "unknown.nii.gz"),
        "no-overlap": _write(corner, reference, tmp_path / "other.nii.gz"),
        "label-values": _write(labels * np.float32(0.5), reference, tmp_path / "halves.nii.gz"),
        "overlapping-masks": tmp_path / "two",
        "no-image": tmp_path / "none",
        "missing-file": tmp_path / "nowhere.nii.gz",
    }
    for code, mask in masks.items():
        refused(segwithu("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out"), code, mask)
    _write(labels * np.float32(0.25), reference, tmp_path / "chances" / "anterior_hippocampus.nii.gz")
    for name in ("anterior_hippocampus.nii.gz", "anterior hippocampus.nrrd"):
        _write((labels == 1).astype(np.uint8), reference, tmp_path / "twice" / name)
    for code, mask in {"label-values": tmp_path / "chances", "double-structure": tmp_path / "twice"}.items():
        refused(segwithu("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out"), code, mask)
    good = _write(labels, reference, tmp_path / "good.nii.gz")
    for code, names in {
        "double-structure": ["1=hippocampus", "2=posterior hippocampus"],
        "unknown-label": ["0=anterior hippocampus", "1=posterior hippocampus"],
        "unknown-label ": ["1=liver"],
    }.items():
        refused(
            segwithu("judge", image, good, "-m", MODEL, "-o", tmp_path / "out", "--labels", *names), code.strip(), good
        )
    refused(segwithu("judge", image, good, "-m", MODEL, "-o", tmp_path / "out", "--labels", "1"), "wrong-usage", code=2)
    refused(segwithu("judge", image, "-m", MODEL, "-o", tmp_path / "out"), "wrong-usage", image, code=2)
    (tmp_path / "rows.csv").write_text("case,image,mask\n", encoding="utf-8")
    refused(segwithu("judge", tmp_path / "rows.csv", "-m", MODEL, "-o", tmp_path / "out"), "no-data-set", code=2)
    assert not entries(tmp_path / "out")


def test_exchanged_names_are_the_headline_and_make_the_case_unusable(
    segwithu: Command, image: Path, given: Given, tmp_path: Path
) -> None:
    reference, labels = given
    mask = _write(np.array([0, 2, 1], np.uint8)[labels], reference, tmp_path / "mask.nii.gz")
    assert segwithu("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out").code == 0
    case = _case(tmp_path / "out" / CASE)
    assert case["light"]["level"] == "do not use" and case["light"]["reason"] == case["flags"][0]["message"]
    warnings = case["ood"]["warnings"]
    assert [case["flags"][0]["rule"], warnings[0]["kind"]] == ["misplaced structure"] * 2
    assert all(name in warnings[0]["message"] for name in ("anterior hippocampus", "posterior hippocampus"))
    by_structure = {flag["structure"] for flag in case["flags"] if flag["rule"] == "expected wrong share"}
    assert {"anterior hippocampus", "posterior hippocampus"} <= by_structure


def test_the_headline_is_what_is_wrong_and_not_what_lies_outside(
    segwithu: Command, image: Path, given: Given, tmp_path: Path
) -> None:
    """Two slices remain of the structure, two voxels lie outside of the region, and its posterior part is missing."""
    reference, labels = given
    cut = np.where(labels == 1, labels, 0)
    cut[:, : np.flatnonzero((cut > 0).any((0, 2)))[-2]] = 0
    cut[0, 0, :2] = 1
    middle = reference.TransformContinuousIndexToPhysicalPoint([(size - 1) / 2 for size in reference.GetSize()])
    box = [-middle[0], -middle[1], middle[2], *(size - 4 for size in reference.GetSize())]
    mask = _write(cut, reference, tmp_path / "mask.nii.gz")
    call = ("judge", image, mask, "-m", MODEL, "-o", tmp_path / "out", f"--roi={','.join(map(str, box))}")
    assert segwithu(*call).code == 0
    case = _case(tmp_path / "out" / CASE)
    messages = [warning["message"] for warning in case["ood"]["warnings"] if warning["kind"] == "judged"]
    (lacks,) = (number for number, text in enumerate(messages) if "lacks" in text and "posterior hippocampus" in text)
    (outside,) = (number for number, text in enumerate(messages) if "0.002 of the" in text and " mL of " in text)
    assert 0 < lacks < outside
    assert case["flags"][0]["rule"] == "misplaced structure" and case["light"]["level"] == "do not use"
    assert [entry["name"] for entry in case["structures"]] == ["background", "anterior hippocampus"]


def test_a_table_of_images_and_masks(segwithu: Command, data_folder: Path, given: Given, tmp_path: Path) -> None:
    folder = data_folder / "hippocampus"
    rows = [[folder / "images" / f"{name}.nii.gz", folder / "labels" / f"{name}.nii.gz"]
            for name in (CASE, "hippocampus_320")]  # fmt: skip
    rows.append([rows[0][0], _write(0 * given[1], given[0], tmp_path / "empty.nii.gz")])
    with (tmp_path / "masks.csv").open("w", encoding="utf-8", newline="") as file:
        table = [["case", "image", "mask"], *([name, *row] for name, row in zip("abc", rows, strict=True))]
        csv.writer(file, delimiter=";").writerows(table)
    outcome = segwithu("judge", tmp_path / "masks.csv", "-m", MODEL, "-o", tmp_path / "out", "--resume")
    assert (outcome.code, [each for each in outcome.error_codes if each == "empty-mask"]) == (1, ["empty-mask"])
    for name, (_image, mask) in zip("ab", rows, strict=False):
        assert np.array_equal(_array(tmp_path / "out" / name / "segmentation.nii.gz"), _array(mask))
    assert segwithu("worklist", tmp_path / "out", "-o", tmp_path / "worklist.csv").code == 0


@pytest.mark.slow
def test_a_whole_head_is_judged_inside_the_boxes_and_by_side(segwithu: Command, tmp_path: Path) -> None:
    """The model's own sides under other values, with a block outside of both boxes."""
    assert segwithu.segment(HEAD, output=tmp_path / "own").code == 0
    own = tmp_path / "own" / "MNI152_T1_1mm"
    stored = sitk.ReadImage(str(own / "segmentation.nii.gz"))
    sides = np.array([0, 17, 17, 53, 53], np.uint8)[sitk.GetArrayFromImage(stored)]
    sides[:2, :5, :10] = 17
    mask = _write(sides, stored, tmp_path / "mask.nii.gz")
    call = ("judge", HEAD, mask, "-m", MODEL, "-o", tmp_path / "out", "--labels")
    assert segwithu(*call, "17=left hippocampus", "53=right hippocampus").code == 0
    folder = tmp_path / "out" / "MNI152_T1_1mm"
    assert np.array_equal(_array(folder / "segmentation.nii.gz"), sides)
    case, error = _case(folder), _array(folder / "error_probability.nii.gz")
    assert [entry["voxels"] for entry in case["structures"][1:]] == [np.count_nonzero(sides == v) for v in (17, 53)]
    assert [e["severity"] for e in case["ood"]["warnings"] if "0.1 of the" in e["message"]] == ["warning"]
    before = _array(own / "error_probability.nii.gz")
    assert np.array_equal(error < 0, before < 0)
    assert (error <= before + 1e-6).all()  # the two parts of a side are one structure here
    assert segwithu(*call, "53=left hippocampus", "17=right hippocampus", "--overwrite").code == 0
    case = _case(folder)
    assert case["light"]["level"] == "do not use" and "sides" in case["light"]["reason"]
    assert case["flags"][0]["rule"] == "misplaced structure"
    refused(segwithu(*call, "17=right hippocampus", "--overwrite"), "no-overlap", mask)


def test_voxels_of_a_label_that_may_be_a_structure_are_not_judged(
    segwithu: Command, image: Path, given: Given, tmp_path: Path
) -> None:
    reference, labels = given
    inside = np.zeros(labels.shape, bool)
    inside[:, :, labels.shape[2] // 2] = labels[:, :, labels.shape[2] // 2] == 1
    mask = _write(np.where(inside, 77, labels).astype(np.uint8), reference, tmp_path / "mask.nii.gz")
    table = tmp_path / "labels.csv"
    errors = {}
    for cell in ("", None):
        rows = [("label", "structure"), (1, "anterior hippocampus"), (2, "posterior hippocampus")]
        rows += [(77, cell)] if cell is not None else []
        table.write_text("\n".join(f"{label},{name}" for label, name in rows), encoding="utf-8")
        output = tmp_path / f"out {cell}"
        assert segwithu("judge", image, mask, "-m", MODEL, "-o", output, "--labels", table).code == 0
        errors[cell] = _array(output / CASE / "error_probability.nii.gz")
        case = _case(output / CASE)
        assert [entry["voxels"] for entry in case["structures"][1:]] == [
            np.count_nonzero((labels == value) & ~inside) for value in (1, 2)
        ]
        anterior, posterior = (entry["expected_volume_mm3"] is not None for entry in case["structures"][1:])
        assert (anterior, posterior) == (cell is None, True), "a part of it was not judged"
    assert (errors[""][inside] == 0).all(), "nobody says whether this is hippocampus"
    assert errors[None][inside].mean() > 0.8, "it is said to be no hippocampus"
    assert np.array_equal(errors[""][~inside], errors[None][~inside])
