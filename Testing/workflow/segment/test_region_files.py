"""Regions of real cases: in the case folder, through the command, and back."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import changed_case
from scipy.ndimage import generate_binary_structure, label
from segwithu_command import MODEL, Command, real_image, tiny_bundle
from written_case import make_case

from SegWithUCore.case.case_file import read_case
from SegWithUCore.case.case_regions import make_regions_again
from SegWithUCore.case.region_files import COLUMNS, parse_regions, read_regions, regions_csv, regions_hash
from SegWithUCore.cli.__main__ import main
from SegWithUCore.cli.case_summary import next_steps
from SegWithUCore.regions.find_regions import RegionSettings
from SegWithUCore.regions.region import Competition, Kind, Region, Shape
from SegWithUCore.report.tables import structures_table
from SegWithUCore.util.errors import InputError

DESIGNED = (
    "rank,id,structure,kind,expected_wrong_mm3,volume_mm3,peak,peak_r,peak_a,peak_s,centre_r,centre_a,centre_s,"
    "competing"
)


@pytest.fixture(scope="module")
def segmented(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole case, and the same image with a region of interest, by the shipped model."""
    output = tmp_path_factory.mktemp("results")
    image = real_image(data_folder)
    assert main(["segment", str(image), "--model", str(MODEL), "--output", str(output)]) == 0
    roi = "--roi=" + ",".join(map(str, [*_middle(image), 24, 30, 24]))
    options = ["--model", str(MODEL), "--output", str(output), "--name", "part", "--unlike-training"]
    assert main(["segment", str(image), roi, *options]) == 0
    return output


@pytest.fixture(params=["hippocampus_319", "part"])
def case(request: pytest.FixtureRequest, segmented: Path) -> Path:
    folder: Path = segmented / request.param
    return folder


def _middle(image: Path) -> list[float]:
    read = sitk.ReadImage(str(image))
    x, y, z = read.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in read.GetSize()])
    return [-x, -y, z]


def _voxels(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


def test_the_table_begins_with_the_documented_columns() -> None:
    assert ",".join(COLUMNS).startswith(DESIGNED)


def test_figures_in_the_table_are_those_of_the_label_volume(case: Path) -> None:
    labels, error = _voxels(case / "regions.nii.gz"), _voxels(case / "error_probability.nii.gz")
    image = sitk.ReadImage(str(case / "regions.nii.gz"))
    regions = read_regions(case)
    assert sorted(region.id for region in regions) == sorted(set(np.unique(labels).tolist()) - {0})
    assert [region.rank for region in regions] == list(range(1, len(regions) + 1))
    regions = _without_blind(case)
    wrong = [region.expected_wrong_mm3 for region in regions]
    assert wrong == sorted(wrong, reverse=True)
    voxel = float(np.prod(image.GetSpacing()))
    for region in regions:
        inside = labels == region.id
        assert region.volume_mm3 == pytest.approx(inside.sum() * voxel, rel=1e-4)
        assert region.expected_wrong_mm3 == pytest.approx(error[inside].sum(dtype=float) * voxel, rel=1e-4)
        assert region.peak == pytest.approx(error[inside].max(), rel=1e-4)
        assert error[inside].min() > 0.25
        assert label(inside, generate_binary_structure(3, 3))[1] == 1
        r, a, s = region.peak_ras_mm
        index = image.TransformPhysicalPointToIndex((-r, -a, s))
        assert labels[index[::-1]] == region.id
        assert error[index[::-1]] == pytest.approx(region.peak, rel=1e-4)


def test_competing_structures_are_those_of_the_runner_up_volume(case: Path) -> None:
    names = {entry["value"]: entry["name"] for entry in json.loads((case / "case.json").read_text())["structures"]}
    labels, error = _voxels(case / "regions.nii.gz"), _voxels(case / "error_probability.nii.gz").astype(float)
    segmentation, runner_up = _voxels(case / "segmentation.nii.gz"), _voxels(case / "runner_up.nii.gz")
    for region in _without_blind(case):
        inside = labels == region.id
        assert sum(way.share for way in region.competing) == pytest.approx(1, abs=0.01)
        for way in region.competing:
            here = inside & (np.vectorize(names.get)(segmentation) == way.read_as)
            here &= np.vectorize(names.get)(runner_up) == way.truth
            assert way.share == pytest.approx(error[here].sum() / error[inside].sum(), abs=0.002)


def test_the_runner_up_differs_where_an_error_is_likely(case: Path) -> None:
    likely = _voxels(case / "error_probability.nii.gz") > 0.05
    assert likely.any()
    differs = _voxels(case / "runner_up.nii.gz") != _voxels(case / "segmentation.nii.gz")
    np.testing.assert_array_equal(differs, likely)


def test_the_command_makes_the_same_regions_again(case: Path, segwithu: Command) -> None:
    before = [(case / name).read_bytes() for name in ("regions.csv", "case.json")]
    labels = _voxels(case / "regions.nii.gz")
    outcome = segwithu("regions", case)
    assert outcome.code == 0, outcome.err
    assert "regions hold" in outcome.out
    assert [(case / name).read_bytes() for name in ("regions.csv", "case.json")] == before
    np.testing.assert_array_equal(_voxels(case / "regions.nii.gz"), labels)


def test_people_get_the_regions_of_what_is_to_be_measured(segmented: Path, tmp_path: Path, segwithu: Command) -> None:
    case = _copied(segmented / "hippocampus_319", tmp_path)
    name = "posterior hippocampus"
    changed_case(case, lambda content: content.update(asked=[name]))
    said = segwithu("regions", case).out
    regions = _without_blind(case)
    asked = [region for region in regions if region.is_about([name])]
    assert 0 < len(asked) < len(regions)
    assert f"\n{len(asked)} regions hold" in said
    assert next_steps(read_case(case), case).startswith(f"{len(asked)} regions of 1 structure to review")
    assert structures_table(read_case(case)).rows[0][0] == name


def test_machines_get_every_region_in_the_order_of_its_rank(case: Path, segwithu: Command) -> None:
    (event,) = segwithu("regions", case, "--json").events
    wrong = [region["expected_wrong_mm3"] for region in event["regions"]]
    assert wrong == sorted(wrong, reverse=True)
    assert len(wrong) == len(_without_blind(case)) == event["count"]
    assert event["expected_wrong_in_regions_mm3"] <= event["expected_wrong_mm3"]


def test_a_higher_threshold_gives_other_regions_and_is_kept_in_the_case(segmented: Path, tmp_path: Path) -> None:
    case = _copied(segmented / "hippocampus_319", tmp_path)
    make_regions_again(case, RegionSettings(threshold=0.4))
    inside = np.isin(_voxels(case / "regions.nii.gz"), [region.id for region in _without_blind(case)])
    assert _voxels(case / "error_probability.nii.gz")[inside].min() > 0.4
    assert json.loads((case / "case.json").read_text())["regions"]["settings"]["threshold"] == 0.4


def test_regions_are_not_pulled_away_from_under_a_review(segmented: Path, tmp_path: Path, segwithu: Command) -> None:
    case = _copied(segmented / "hippocampus_319", tmp_path)
    (case / "review.ana.jsonl").write_text("{}\n")
    before = (case / "regions.csv").read_bytes()
    assert segwithu("regions", case).code == 0
    outcome = segwithu("regions", case, "--threshold", "0.4")
    assert outcome.code == 1
    assert "review.ana.jsonl" in outcome.messages[-1]
    assert "--overwrite" in outcome.messages[-1]
    assert (case / "regions.csv").read_bytes() == before
    assert segwithu("regions", case, "--threshold", "0.4", "--overwrite").code == 0
    assert (case / "review.ana.jsonl").read_text() == "{}\n"


def test_a_case_that_fails_does_not_stop_the_others(segmented: Path, tmp_path: Path, segwithu: Command) -> None:
    outcome = segwithu("regions", tmp_path, segmented / "part")
    assert outcome.code == 1
    assert len(outcome.messages) == 1
    assert str(tmp_path) in outcome.messages[0]
    assert "regions hold" in outcome.out


def test_an_uncalibrated_case_says_why_it_has_no_regions(data_folder: Path, tmp_path: Path, segwithu: Command) -> None:
    model = tiny_bundle(tmp_path / "raw", calibrated=False)
    assert segwithu.segment(real_image(data_folder), model=model, output=tmp_path / "results").code == 0
    case = tmp_path / "results" / "hippocampus_319"
    assert json.loads((case / "case.json").read_text())["regions"] is None
    assert "not calibrated" in segwithu("regions", case).messages[-1]


@pytest.mark.parametrize("options", [["--threshold", "1.5"], ["--threshold", "0"]])
def test_settings_out_of_range_are_wrong_usage(case: Path, segwithu: Command, options: list[str]) -> None:
    outcome = segwithu("regions", case, *options)
    assert outcome.code == 2
    assert options[0] in outcome.messages[-1]


def _without_blind(case: Path) -> list[Region]:
    """The regions of a case without the places of the blind sample, which are one voxel each."""
    return [region for region in read_regions(case) if region.kind is not Kind.BLIND]


def _copied(case: Path, target: Path) -> Path:
    copy = target / case.name
    copy.mkdir(parents=True)
    for file in case.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def _region(**changes: object) -> Region:
    fields = {
        "id": 7,
        "rank": 1,
        "structure": "Milz, links",
        "structure_value": 3,
        "kind": Kind.CONFUSION,
        "shape": Shape.BLOB,
        "expected_wrong_mm3": 12.5,
        "volume_mm3": 30.0,
        "peak": 0.75,
        "peak_ras_mm": (-1.25, 2.0, 3.5),
        "centre_ras_mm": (0.0, -0.125, 1e3),
        "size_mm": (4.0, 5.0, 6.5),
        "competing": (
            Competition("Magen “Fundus”", "Milz, links", 0.75),
            Competition("background", "Milz, links", 0.25),
        ),
        "touches_border": True,
    }
    return Region(**{**fields, **changes})


def test_regions_survive_the_table() -> None:
    regions = (_region(), _region(id=2, rank=2, model_percentile=94.0, data_percentile=3.0, touches_border=False))
    text = regions_csv(regions)
    assert parse_regions(text) == regions
    assert regions_csv(parse_regions(text)) == text
    assert parse_regions(regions_csv(())) == ()
    assert [row["structure"] for row in csv.DictReader(text.splitlines())] == ["Milz, links"] * 2


def test_another_table_has_another_hash() -> None:
    assert regions_hash(regions_csv([_region()])) != regions_hash(regions_csv([_region(peak=0.8)]))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("confusion", "muddle", "line 2 is damaged"),
        ("12.5", "a lot", "line 2 is damaged"),
        ("expected_wrong_mm3", "wrong", "no column 'expected_wrong_mm3'"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    (tmp_path / "regions.csv").write_text(regions_csv([_region()]).replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        read_regions(tmp_path)
    assert "regions.csv" in str(error.value)


def test_a_table_cut_short_is_named(tmp_path: Path) -> None:
    text = regions_csv([_region(), _region(id=8)])
    (tmp_path / "regions.csv").write_text(text[:-30], encoding="utf-8")
    with pytest.raises(InputError, match="line 3 is damaged"):
        read_regions(tmp_path)


def test_what_was_not_assessed_around_a_case_changes_none_of_its_regions(data_folder: Path, tmp_path: Path) -> None:
    """As nnU-Net leaves out the black border of an image."""
    case = make_case(data_folder, tmp_path, region=True).folder
    labels = sitk.ReadImage(str(case / "segmentation.nii.gz"))
    sitk.WriteImage(sitk.Cast(labels == 0, sitk.sitkUInt8), str(case / "runner_up.nii.gz"))
    (i, j, k), facts = labels.GetSize(), json.loads((case / "case.json").read_text())
    part = {"index_ijk": [0, 0, 0], "size_ijk": [i, j, k // 2]}
    facts["structures"].append({"value": 0, "name": "background"})
    (case / "case.json").write_text(json.dumps(facts | {"assessed": part}))
    make_regions_again(case, RegionSettings())
    assert any(region.touches_border for region in read_regions(case))
