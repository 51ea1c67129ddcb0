"""What a case folder holds: the documented files, on the input's grid, with values that mean what they say."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import CASES, changed_case, copied, judged
from segwithu_command import (
    MODEL,
    SAMPLE,
    SAMPLE_ROI,
    Command,
    changed_description,
    child,
    entries,
    finished,
    real_image,
    tiny_bundle,
    write,
)

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_image import case_image, trusted_path, voxel_hash
from SegWithUCore.cli.__main__ import main
from SegWithUCore.inference.case_writer import save_case
from SegWithUCore.models.bundle import block_sha256, file_sha256
from SegWithUCore.review.log_format import Verdict
from SegWithUCore.review.worklist import read_for_worklist
from SegWithUCore.util.errors import InputError, OutputError

MAPS = ["calibration.nii.gz", "error_probability.nii.gz", "ranking.nii.gz"]
REGIONS = ["regions.csv", "regions.nii.gz", "runner_up.nii.gz"]
SOURCES = ["model_percentile.nii.gz", "data_percentile.nii.gz"]
OVERVIEW = ["preview.png", "structures.csv"]
FILES = sorted([*MAPS, *REGIONS, *SOURCES, *OVERVIEW, "case.json", "segmentation.nii.gz", "segmentation.seg.nrrd"])
REGION_ZYX = (slice(40, 76), slice(87, 137), slice(52, 88))
"""The voxels of the MNI sample whose centres lie in `SAMPLE_ROI` (36 x 50 x 36 mm around RAS -28, -22, -14)."""


@pytest.fixture(scope="module")
def image(data_folder: Path) -> sitk.Image:
    return sitk.ReadImage(str(real_image(data_folder)))


@pytest.fixture(scope="module")
def sample_case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in the box on the left hippocampus of the sample head."""
    output = tmp_path_factory.mktemp("results")
    assert main(["segment", str(SAMPLE), SAMPLE_ROI, "--model", "hippocampus", "--output", str(output)]) == 0
    return output / "MNI152_T1_1mm"


def _voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _facts(case: Path) -> dict[str, Any]:
    return dict(json.loads((case / "case.json").read_text(encoding="utf-8")))


def _assert_on_grid(path: Path, grid: sitk.Image) -> None:
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == grid.GetSize()
    for found, wanted in (
        (image.GetSpacing(), grid.GetSpacing()),
        (image.GetOrigin(), grid.GetOrigin()),
        (image.GetDirection(), grid.GetDirection()),
    ):
        assert np.allclose(found, wanted, atol=1e-5, rtol=1e-6), f"{path.name}: {found}, not {wanted}"


def test_case_folder_holds_exactly_the_documented_files(sample_case: Path) -> None:
    assert entries(sample_case) == FILES
    assert entries(sample_case.parent) == [sample_case.name, *(f"{sample_case.name}/{name}" for name in FILES)]


def test_include_image_adds_the_image_and_nothing_else(
    segwithu: Command, tiny: Path, image: sitk.Image, data_folder: Path, tmp_path: Path
) -> None:
    call = (real_image(data_folder), "--include-image")
    assert segwithu.segment(*call, model=tiny, output=tmp_path).code == 0
    assert entries(tmp_path / "hippocampus_319") == sorted([*FILES, "image.nii.gz"])
    assert np.array_equal(_voxels(tmp_path / "hippocampus_319" / "image.nii.gz"), sitk.GetArrayFromImage(image))


def test_all_volumes_lie_on_the_inputs_grid(sample_case: Path) -> None:
    for name in [*MAPS, "segmentation.nii.gz", "segmentation.seg.nrrd"]:
        _assert_on_grid(sample_case / name, sitk.ReadImage(str(SAMPLE)))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_all_volumes_lie_on_an_oblique_anisotropic_grid(
    suffix: str, segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path
) -> None:
    grid = sitk.Image(image)
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.7)
    grid.SetDirection(turn.GetMatrix())
    grid.SetSpacing((1.1, 0.9, 1.4))
    grid.SetOrigin((12.5, -40.25, 7.125))
    path = write(grid, tmp_path / f"oblique{suffix}")
    assert segwithu.segment(path, "--include-image", model=tiny, output=tmp_path / "results").code == 0
    for name in [*MAPS, "segmentation.nii.gz", "segmentation.seg.nrrd", "image.nii.gz"]:
        _assert_on_grid(tmp_path / "results" / "oblique" / name, grid)


def test_maps_are_float32_and_within_their_ranges(sample_case: Path) -> None:
    calibration, probability, ranking = (_voxels(sample_case / name) for name in MAPS)
    assert {calibration.dtype, probability.dtype, ranking.dtype} == {np.dtype("float32")}
    assert calibration[REGION_ZYX].min() >= 0
    assert probability[REGION_ZYX].min() >= 0
    assert probability[REGION_ZYX].max() <= 1
    for values in (calibration, probability, ranking):
        assert np.isfinite(values).all()
        assert np.ptp(values[REGION_ZYX]) > 0, "nothing was assessed"


def test_outside_the_region_stands_not_assessed(sample_case: Path) -> None:
    facts = _facts(sample_case)
    outside = np.ones(_voxels(sample_case / "ranking.nii.gz").shape, bool)
    outside[REGION_ZYX] = False
    assert facts["not_assessed_value"] == -1
    for name in ("calibration", "error_probability", "ranking"):
        values = _voxels(sample_case / f"{name}.nii.gz")
        told = facts["maps"][name]["not_assessed"]
        assert np.unique(values[outside]).tolist() == [told]
        assert values[~outside].min() > told
    labels = _voxels(sample_case / "segmentation.nii.gz")
    assert not labels[outside].any()
    assert sorted(np.unique(labels[~outside]).tolist()) == [0, 1, 2]


def test_both_segmentation_files_hold_the_same_labels(sample_case: Path) -> None:
    nifti, nrrd = (_voxels(sample_case / f"segmentation{suffix}") for suffix in (".nii.gz", ".seg.nrrd"))
    assert np.array_equal(nifti, nrrd)


def test_case_json_repeats_the_bundles_hashes_and_tells_the_region(sample_case: Path) -> None:
    facts = _facts(sample_case)
    bundle = json.loads((MODEL / "bundle.json").read_text(encoding="utf-8"))
    assert facts["model"]["weights_sha256"] == bundle["weights_sha256"] == file_sha256(MODEL / "weights.safetensors")
    assert facts["model"]["calibration_sha256"] == block_sha256(bundle["calibration"])
    assert facts["model"]["calibrated"] is True
    assert facts["roi"]["index_ijk"] == [axis.start for axis in REGION_ZYX[::-1]]
    assert facts["roi"]["size_ijk"] == [36, 50, 36]
    assert facts["input"]["grid"]["size_ijk"] == [197, 233, 189]


def test_figures_of_structures_are_those_of_the_volumes(sample_case: Path) -> None:
    labels, probability = (_voxels(sample_case / f"{name}.nii.gz") for name in ("segmentation", "error_probability"))
    for entry in _facts(sample_case)["structures"]:
        inside = np.zeros(labels.shape, bool)
        inside[REGION_ZYX] = labels[REGION_ZYX] == entry["value"]
        assert entry["voxels"] == np.count_nonzero(inside)
        assert entry["volume_mm3"] == pytest.approx(np.count_nonzero(inside))
        assert entry["expected_wrong_mm3"] == pytest.approx(probability[inside].sum(dtype=float), rel=1e-5)
        assert entry["uncertain_mm3"] == pytest.approx(np.count_nonzero(probability[inside] > 0.25))


def test_input_path_is_relative_and_resolves(sample_case: Path) -> None:
    file = _facts(sample_case)["input"]["channels"][0]["file"]
    assert not Path(file).is_absolute()
    assert (sample_case / file).resolve() == SAMPLE.resolve()


def test_file_format_and_voxel_type_change_nothing(segwithu: Command, tiny: Path, image: sitk.Image,
                                                   tmp_path: Path) -> None:  # fmt: skip
    """The same values give the same hash and, bit by bit, the same maps."""
    kinds = {
        "uint8": sitk.sitkUInt8,
        "int16": sitk.sitkInt16,
        "uint16": sitk.sitkUInt16,
        "int32": sitk.sitkInt32,
        "float64": sitk.sitkFloat64,
    }
    paths = [write(sitk.Cast(image, kind), tmp_path / f"{name}.nii.gz") for name, kind in kinds.items()]
    paths += [write(image, tmp_path / f"format-{suffix}.{suffix}") for suffix in ("nrrd", "nii")]
    assert segwithu.segment(*paths, model=tiny, output=tmp_path / "results").code == 0
    cases = sorted(path for path in (tmp_path / "results").iterdir() if path.is_dir())
    assert len(cases) == 7
    expected = hashlib.sha256(sitk.GetArrayFromImage(image).astype("<f4").tobytes()).hexdigest()
    for case in cases:
        assert _facts(case)["input"]["channels"][0]["voxels_sha256"] == expected, case.name
        for name in [*MAPS, "segmentation.nii.gz"]:
            assert np.array_equal(_voxels(case / name), _voxels(cases[0] / name)), f"{case.name}/{name}"


def test_voxel_hash_tells_one_changed_voxel(segwithu: Command, tiny: Path, image: sitk.Image, tmp_path: Path) -> None:
    other = sitk.Image(image)
    other[3, 4, 5] = image[3, 4, 5] + 1
    paths = [write(image, tmp_path / "a.nrrd"), write(other, tmp_path / "b.nrrd")]
    assert segwithu.segment(*paths, model=tiny, output=tmp_path).code == 0
    hashes = {_facts(tmp_path / name)["input"]["channels"][0]["voxels_sha256"] for name in "ab"}
    assert len(hashes) == 2


def test_slicer_reads_names_colours_terminology_and_an_empty_segment(
    segwithu: Command, data_folder: Path, tmp_path: Path
) -> None:
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    model = tiny_bundle(tmp_path / "models" / "one-structure", absent=2)
    tissue = {"scheme": "SCT", "value": "85756007", "meaning": "Tissue"}
    organ = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
    left = {"scheme": "SCT", "value": "7771000", "meaning": "Left"}
    for key, code in (("category", tissue), ("type", organ), ("modifier", left)):
        changed_description(model, f"labels/1/{key}", code)
    assert segwithu.segment(real_image(data_folder), model=model, output=tmp_path).code == 0
    case = tmp_path / "hippocampus_319"
    voxels = _voxels(case / "segmentation.nii.gz")
    assert not (voxels == 2).any()
    assert (voxels == 1).any()

    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(case / "segmentation.seg.nrrd"))
    assert storage.ReadData(node)
    segments = [node.GetSegmentation().GetNthSegment(n) for n in range(node.GetSegmentation().GetNumberOfSegments())]
    assert [segment.GetName() for segment in segments] == ["anterior hippocampus", "posterior hippocampus"]
    assert np.allclose(segments[0].GetColor(), np.asarray([230, 159, 0]) / 255, atol=1e-5)
    assert np.allclose(segments[1].GetColor(), np.asarray([86, 180, 233]) / 255, atol=1e-5)
    assert [segment.GetLabelValue() for segment in segments] == [1, 2]
    entry = _tag(segments[0], slicer.vtkSegment.GetTerminologyEntryTagName())
    assert entry.split("~")[1:4] == ["SCT^85756007^Tissue", "SCT^5366008^Hippocampus", "SCT^7771000^Left"]
    counts = [_voxel_count(segment, value) for value, segment in enumerate(segments, 1)]
    assert counts == [np.count_nonzero(voxels == 1), 0]


def _tag(segment: Any, name: str) -> str:
    import vtk

    text = vtk.reference("")
    assert segment.GetTag(name, text)
    return str(text)


def _voxel_count(segment: Any, value: int) -> int:
    from vtk.util.numpy_support import vtk_to_numpy

    labelmap = segment.GetRepresentation("Binary labelmap")
    scalars = labelmap.GetPointData().GetScalars()
    return 0 if scalars is None else int(np.count_nonzero(vtk_to_numpy(scalars) == value))


def test_uncalibrated_bundle_gives_no_probabilities_and_says_so(segwithu: Command, data_folder: Path,
                                                                tmp_path: Path) -> None:  # fmt: skip
    model = tiny_bundle(tmp_path / "models" / "raw", calibrated=False)
    outcome = segwithu.segment(real_image(data_folder), model=model, output=tmp_path / "results")
    assert outcome.code == 0
    assert "not calibrated" in outcome.out
    case = tmp_path / "results" / "hippocampus_319"
    assert entries(case) == sorted({*FILES} - {"error_probability.nii.gz", *REGIONS, *SOURCES})
    facts = _facts(case)
    assert facts["model"]["calibrated"] is False
    assert facts["model"]["calibration_sha256"] is None
    assert sorted(facts["maps"]) == ["calibration", "ranking"]
    assert {entry["expected_wrong_mm3"] for entry in facts["structures"]} == {None}


@pytest.mark.slow
def test_paths_with_spaces_and_any_letters_work_on_any_terminal(tiny: Path, image: sitk.Image, tmp_path: Path) -> None:
    """As a child process whose terminal knows ASCII only."""
    path = write(image, tmp_path / "Größe für Zoë" / "Kopf – 脑 1.nii.gz")
    model = tmp_path / "モデル eins"
    model.symlink_to(tiny, target_is_directory=True)
    output = tmp_path / "Ergebnis für 脑"
    process = child("segment", path, "--model", model, "--output", output,
                    env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
    outcome = finished(process, within_s=300)
    assert (outcome.code, [line for line in outcome.messages if not line.startswith("Flagged: ")]) == (0, [])
    assert entries(output / "Kopf – 脑 1") == FILES
    facts = _facts(output / "Kopf – 脑 1")
    assert facts["name"] == "Kopf – 脑 1"
    assert (output / "Kopf – 脑 1" / facts["input"]["channels"][0]["file"]).resolve() == path.resolve()


def test_json_prints_only_json_lines(segwithu: Command, tiny: Path, data_folder: Path, tmp_path: Path) -> None:
    outcome = segwithu.segment(real_image(data_folder), "--json", model=tiny, output=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    engine, first, *events = (event for event in outcome.events if event["event"] != "note")  # notes tell flags
    assert (engine["event"], engine["engine"], engine["reason"]) == (
        "engine",
        _facts(tmp_path / "hippocampus_319")["engine"],
        "the model 'tiny' has no compiled graphs",
    )
    assert (first["event"], first["number"], first["of"]) == ("case", 1, 1)
    assert {event["event"] for event in events[:-1]} == {"progress"}
    shares = [event["fraction"] for event in events[:-1]]
    assert shares == sorted(shares)  # type: ignore[type-var]
    assert shares[-1] == 1
    assert events[-1]["event"] == "result"
    assert events[-1]["case"] == str(tmp_path / "hippocampus_319")
    assert events[-1]["structures"] == _facts(tmp_path / "hippocampus_319")["structures"]


def test_same_input_gives_the_same_bytes_of_every_volume(segwithu: Command, tiny: Path, data_folder: Path,
                                                         tmp_path: Path) -> None:  # fmt: skip
    for run in ("first", "second"):
        assert segwithu.segment(real_image(data_folder), "--name", run, model=tiny, output=tmp_path).code == 0
    for name in [*MAPS, "segmentation.nii.gz", "segmentation.seg.nrrd"]:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.fixture
def made(segmented_cases: Path, tmp_path: Path) -> Path:
    """A case as a run in Slicer leaves it: named "case", with its image beside it, and a review elsewhere."""
    folder = copied(segmented_cases / CASES[0], tmp_path / "private", "case")
    image = folder.with_name("channel_0.nrrd")
    sitk.WriteImage(sitk.ReadImage(str(folder / "image.nii.gz")), str(image))
    (folder / "image.nii.gz").unlink()
    changed_case(folder, lambda case: case["input"]["channels"][0].update(file="../channel_0.nrrd", file_mac=None))
    judged(folder, "Ana", {1: Verdict.REJECTED})
    (tmp_path / "reviews").mkdir()
    (folder / "review.Ana.jsonl").rename(tmp_path / "reviews" / "review.Ana.jsonl")
    return folder


@pytest.mark.parametrize("original", ["none", "same", "other voxels", "elsewhere"])
def test_a_saved_case_is_whole_with_its_image_and_its_review(made: Path, tmp_path: Path, original: str) -> None:
    file, target = tmp_path / "mine.nii.gz", tmp_path / "new" / "Head 1"
    image = sitk.ReadImage(str(made.with_name("channel_0.nrrd")))
    if original == "elsewhere":
        image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image + 1 if original == "other voxels" else image, str(file))
    save_case(made, target, [None if original == "none" else file], tmp_path / "reviews")
    before = read_case(made)
    shutil.rmtree(made.parent)
    assert main(["check", str(target)]) == 0
    case, entry = read_case(target), read_for_worklist(target)
    assert (case["name"], case["created"], case["structures"]) == ("Head 1", before["created"], before["structures"])
    assert (entry.name, entry.trouble, [review.reviewer for review in entry.reviews]) == ("Head 1", "", ["Ana"])
    assert (target / "image.nii.gz").is_file() == (original != "same")
    assert trusted_path(target, case) == (file if original == "same" else target / "image.nii.gz")
    assert voxel_hash(case_image(target, case)) == case["input"]["channels"][0]["voxels_sha256"]
    assert "Head 1" in (target / "structures.csv").read_text(encoding="utf-8")


def test_a_case_that_cannot_be_saved_leaves_nothing(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "case"
    target.mkdir(parents=True)
    with pytest.raises(OutputError) as taken:
        save_case(made, target, [None], tmp_path / "reviews")
    assert taken.value.code == "exists-already" and not list(target.iterdir())
    (made / "ranking.nii.gz").write_bytes(b"cut")
    with pytest.raises(InputError, match="ranking"):
        save_case(made, target.with_name("other"), [None], tmp_path / "reviews")
    assert [path.name for path in target.parent.iterdir()] == ["case"]
