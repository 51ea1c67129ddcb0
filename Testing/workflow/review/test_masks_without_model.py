"""`segwithu review`: masks of elsewhere become cases without any model, which all other commands take."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from exchanged_cases import listed_regions, review
from jsonschema import Draft202012Validator
from mask_cases import (
    LABELS,
    LEFT,
    NAMES,
    RIGHT,
    SHAPE,
    SPACING,
    even_mask,
    with_hole,
    with_island,
    write,
    write_image,
)
from repository import PACKAGES
from segwithu_command import Command, entries, refused
from web_client import WebClient, WebReview, served

from SegWithUCore.case.case_file import is_mask_alone, read_case
from SegWithUCore.case.case_regions import ERROR_PROBABILITY_FILE, RUNNER_UP_FILE
from SegWithUCore.case.segmentation_file import write_segmentation_nrrd
from SegWithUCore.io.grid import VoxelGrid
from SegWithUCore.io.roi import whole_grid
from SegWithUCore.models.input_spec import Label
from SegWithUCore.regions.region import Kind
from SegWithUCore.review.log_format import StructureJudged, Verdict
from SegWithUCore.review.status import Level
from SegWithUCore.review.worklist import read_for_worklist

OF_MODELS = {"wrong_share", "predicted_dice", "benefit_mm3_per_minute", "worst_structure"}
VOXEL_MM3 = float(np.prod(SPACING))
READER = "Ana"


def _array(path: Path) -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array


def _many(folder: Path, masks: dict[str, np.ndarray], suffix: str = ".nii.gz") -> tuple[Path, Path]:
    """Write images and masks of the same names into two folders."""
    for seed, (name, labels) in enumerate(masks.items()):
        write_image(folder / "images" / f"{name}.nii.gz", seed)
        write(labels, folder / "masks" / f"{name}{suffix}")
    return folder / "images", folder / "masks"


def _cases(output: Path) -> list[str]:
    return sorted(path.parent.name for path in output.glob("*/case.json"))


def _warnings(case: Path) -> set[str]:
    return {each["kind"] for each in read_case(case)["ood"]["warnings"] if each["severity"] == "warning"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case with an island and a hole; its image and mask lie beside it."""
    from SegWithUCore.cli.__main__ import main

    folder = tmp_path_factory.mktemp("made")
    image = write_image(folder / "head.nii.gz")
    mask = write(with_hole(with_island(even_mask())), folder / "mask.nii.gz")
    call = ("review", image, mask, "-o", folder / "out", "--labels", *LABELS, "--include-image")
    assert main([*map(str, call)]) == 0
    return folder / "out" / "head"


@pytest.fixture
def case(made: Path, tmp_path: Path) -> Path:
    """A copy of the case for a test that changes it."""
    return Path(shutil.copytree(made, tmp_path / "cases" / made.name))


def test_a_mask_becomes_a_case_with_its_voxels_volumes_and_findings(made: Path) -> None:
    case, mask = read_case(made), with_hole(with_island(even_mask()))
    assert is_mask_alone(case)
    assert np.array_equal(_array(made / "segmentation.nii.gz"), mask)
    structures = {each["value"]: each for each in case["structures"][1:]}
    assert {value: each["name"] for value, each in structures.items()} == NAMES
    for value, entry in structures.items():
        assert entry["voxels"] == np.count_nonzero(mask == value)
        assert entry["volume_mm3"] == pytest.approx(entry["voxels"] * VOXEL_MM3)
    found = {region.kind: region for region in listed_regions(made)}
    assert {kind: region.structure for kind, region in found.items()} == {
        Kind.ISLAND: "left organ", Kind.HOLE: "right organ"
    }  # fmt: skip
    planted = {Kind.ISLAND: with_island(even_mask()), Kind.HOLE: with_hole(even_mask())}
    for kind, labels in planted.items():
        voxels = np.count_nonzero(labels != even_mask())
        assert found[kind].volume_mm3 == pytest.approx(voxels * VOXEL_MM3, rel=1e-5)
        assert found[kind].expected_wrong_mm3 is None
        assert found[kind].peak is None
    assert case["maps"] == {}
    assert case["regions"]["count"] == 2
    assert not {ERROR_PROBABILITY_FILE, RUNNER_UP_FILE} & set(entries(made))
    schema = json.loads((PACKAGES / "SegWithUCore" / "case" / "case.schema.json").read_text(encoding="utf-8"))
    assert not list(Draft202012Validator(schema).iter_errors(case))
    assert case["light"]["level"] == Level.NOT_FLAGGED


def test_values_names_and_formats_of_a_mask(segwithu: Command, tmp_path: Path) -> None:
    """A label map, a segmentation of Slicer and a folder with one file per structure are the same mask."""
    image, labels = write_image(tmp_path / "head.nii.gz"), with_island(even_mask())
    plain, folder = write(labels, tmp_path / "plain.nii.gz"), tmp_path / "parts"
    for value, name in NAMES.items():
        write((labels == value).astype(np.uint8), folder / f"{name.replace(' ', '_')}.nii.gz")
    grid = VoxelGrid.of(sitk.ReadImage(str(image)))
    named = [Label(0, "background", (0, 0, 0)), *(Label(value, name, (9, 9, 9)) for value, name in NAMES.items())]
    write_segmentation_nrrd(tmp_path / "slicer.seg.nrrd", labels.astype(np.uint8), whole_grid(grid), grid, named)
    found = {}
    for mask in (plain, folder, tmp_path / "slicer.seg.nrrd"):
        assert segwithu("review", image, mask, "-o", tmp_path / "out" / mask.name).code == 0, mask
        case = read_case(tmp_path / "out" / mask.name / "head")
        found[mask.name] = [each["volume_mm3"] for each in case["structures"][1:]], case["regions"]["count"]
    assert len({str(each) for each in found.values()}) == 1
    assert [each["name"] for each in read_case(tmp_path / "out" / "parts" / "head")["structures"][1:]] == list(
        NAMES.values()
    )
    unnamed = read_case(tmp_path / "out" / plain.name / "head")["structures"]
    assert [each["value"] for each in unnamed] == [0, LEFT, RIGHT]
    call = ("review", image, plain, "-o", tmp_path / "one", "--labels", f"{RIGHT}=liver")
    assert segwithu(*call).code == 0
    only = read_case(tmp_path / "one" / "head")
    assert [each["name"] for each in only["structures"]] == ["background", "liver"]
    assert any(each["kind"] == "judged" and str(LEFT) in each["message"] for each in only["ood"]["warnings"])


@pytest.mark.parametrize("suffix", [".nii.gz", "_mask.nii.gz", "-seg.nrrd"])
def test_folders_are_matched_by_names(segwithu: Command, tmp_path: Path, suffix: str) -> None:
    images, masks = _many(tmp_path, {"a": even_mask(), "ab": with_island(even_mask())}, suffix)
    write_image(images / "alone.nii.gz")
    outcome = segwithu("review", images, masks, "-o", tmp_path / "out", "--labels", *LABELS)
    assert outcome.code == 0, outcome.err
    assert "alone" in outcome.err
    assert _cases(tmp_path / "out") == ["a", "ab"]
    assert [read_case(tmp_path / "out" / name)["regions"]["count"] for name in ("a", "ab")] == [0, 1]


def test_images_in_nnunet_naming_have_masks_of_the_cases_name(segwithu: Command, tmp_path: Path) -> None:
    for name in ("case_1", "case_2"):
        write_image(tmp_path / "imagesTr" / f"{name}_0000.nii.gz")
        write(even_mask(), tmp_path / "labelsTr" / f"{name}.nii.gz")
    content = {"labels": {"background": 0, "left organ": LEFT, "right organ": RIGHT}}
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    call = ("review", tmp_path / "imagesTr", tmp_path / "labelsTr", "-o", tmp_path / "out")
    assert segwithu(*call, "--labels", tmp_path / "dataset.json").code == 0
    assert _cases(tmp_path / "out") == ["case_1", "case_2"]
    assert [each["name"] for each in read_case(tmp_path / "out" / "case_1")["structures"][1:]] == [*NAMES.values()]


def test_bids_derivatives_are_the_masks_of_their_subjects(segwithu: Command, tmp_path: Path) -> None:
    for subject in ("sub-01", "sub-02"):
        write_image(tmp_path / "raw" / subject / "anat" / f"{subject}_T1w.nii.gz")
    for subject in ("sub-01", "sub-02"):
        mask = tmp_path / "derivatives" / "reader" / subject / "anat" / f"{subject}_desc-ana_dseg.nii.gz"
        write(even_mask(), mask)
    call = ("review", tmp_path / "raw", tmp_path / "derivatives" / "reader", "-o", tmp_path / "out")
    assert segwithu(*call).code == 0
    assert _cases(tmp_path / "out") == ["sub-01_T1w", "sub-02_T1w"]


def test_a_mask_that_is_unclear_or_missing_is_refused_before_anything_is_written(
    segwithu: Command, tmp_path: Path
) -> None:
    images, masks = _many(tmp_path, {"a": even_mask()}, "_one.nii.gz")
    call = ("review", images, masks, "-o", tmp_path / "out")
    write(even_mask(), masks / "a_two.nii.gz")
    refused(segwithu(*call), "unclear-mask", "a_one", "a_two")
    write(even_mask(), masks / "a.nii.gz")  # the very name decides
    assert segwithu(*call).code == 0
    shutil.rmtree(tmp_path / "out")
    for path in masks.iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    refused(segwithu(*call), "no-mask", images, masks)
    assert not (tmp_path / "out").exists()
    refused(segwithu("review", images / "a.nii.gz", "-o", tmp_path / "out"), "wrong-usage", code=2)
    write_image(images / "b.nii.gz")
    refused(segwithu("review", images, masks / "other_a.nii.gz", "-o", tmp_path / "out"), "wrong-usage", code=2)


def test_one_damaged_mask_fails_alone_and_a_second_call_makes_what_is_missing(
    segwithu: Command, tmp_path: Path
) -> None:
    _images, masks = _many(tmp_path, dict.fromkeys("abcd", even_mask()))
    whole = (masks / "b.nii.gz").read_bytes()
    (masks / "b.nii.gz").write_bytes(whole[: len(whole) // 2])
    write(even_mask(), masks / "c.nii.gz", (1, 1, 1))
    table = tmp_path / "table.csv"
    rows = [f"case {name},images/{name}.nii.gz,masks/{name}.nii.gz" for name in "abcd"]
    table.write_text("\n".join(["case,image,mask", *rows]), encoding="utf-8")
    call = ("review", table, "-o", tmp_path / "out", "--labels", *LABELS)
    outcome = segwithu(*call)
    assert (outcome.code, sorted(outcome.error_codes)) == (1, ["damaged-file", "other-grid"]), outcome.err
    assert _cases(tmp_path / "out") == ["case a", "case d"]
    with (tmp_path / "out" / "failed.csv").open(encoding="utf-8", newline="") as file:
        assert sorted(row["case"] for row in csv.DictReader(file)) == ["case b", "case c"]
    before = (tmp_path / "out" / "case a" / "case.json").stat().st_mtime_ns
    for name in "bc":
        write(even_mask(), masks / f"{name}.nii.gz")
    assert segwithu(*call).code == 0
    assert len(_cases(tmp_path / "out")) == 4
    assert (tmp_path / "out" / "case a" / "case.json").stat().st_mtime_ns == before
    assert not (tmp_path / "out" / "failed.csv").exists()
    write(with_island(even_mask()), masks / "a.nii.gz")
    outcome = segwithu(*call)
    assert (outcome.code, outcome.error_codes) == (1, ["case-outdated"])


def test_of_many_masks_what_is_unusual_is_flagged(segwithu: Command, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    masks = {f"usual_{number}": even_mask(8 + random.uniform(-0.2, 0.2)) for number in range(8)}
    one_side = even_mask()
    one_side[one_side == RIGHT] = 0
    thin = even_mask()
    thin[(thin == LEFT) & (even_mask(6) == 0)] = 0
    masks |= {"lacking": one_side, "small": even_mask(5.5), "uneven": thin, "exchanged": even_mask(8, (RIGHT, LEFT))}
    images, folder = _many(tmp_path, masks)
    assert segwithu("review", images, folder, "-o", tmp_path / "out", "--labels", *LABELS).code == 0
    found = {name: read_case(tmp_path / "out" / name) for name in masks}
    levels = {name: Level(case["light"]["level"]) for name, case in found.items()}
    assert {levels[name] for name in masks if name.startswith("usual")} == {Level.NOT_FLAGGED}
    assert levels["exchanged"] is Level.DO_NOT_USE
    assert {levels[name] for name in ("lacking", "small", "uneven")} == {Level.LOOK}
    about = {
        name: {each["structure"] for each in case["ood"]["warnings"] if each["severity"] == "warning"}
        for name, case in found.items()
    }
    assert about["lacking"] == {RIGHT}
    assert about["small"] >= {LEFT, RIGHT}
    assert {LEFT} <= about["uneven"] and RIGHT not in about["uneven"]


def test_seven_masks_do_not_say_what_is_usual(segwithu: Command, tmp_path: Path) -> None:
    masks = {f"m{number}": even_mask() for number in range(6)} | {"small": even_mask(5)}
    assert segwithu("review", *_many(tmp_path, masks), "-o", tmp_path / "out", "--labels", *LABELS).code == 0
    assert _warnings(tmp_path / "out" / "small") == set()


def test_masks_whose_values_mean_different_things_keep_both_names(segwithu: Command, tmp_path: Path) -> None:
    """Two segmentations of Slicer may use one value for two structures."""
    images, masks, grid = tmp_path / "images", tmp_path / "masks", None
    for name, structures in (("a", ("liver", "spleen")), ("b", ("spleen", "liver"))):
        grid = VoxelGrid.of(sitk.ReadImage(str(write_image(images / f"{name}.nii.gz"))))
        labels = np.searchsorted([0, LEFT, RIGHT], even_mask()).astype(np.uint8)
        labels[labels == 2] *= np.uint8(1)
        named = [Label(number, each, (9, 9, 9)) for number, each in enumerate(("background", *structures))]
        masks.mkdir(exist_ok=True)
        write_segmentation_nrrd(masks / f"{name}.seg.nrrd", labels, whole_grid(grid), grid, named)
    write(even_mask(), masks / "c.nii.gz")
    write_image(images / "c.nii.gz")
    assert segwithu("review", images, masks, "-o", tmp_path / "out").code == 0
    for name in "ab":
        case, drawn = read_case(tmp_path / "out" / name), _array(tmp_path / "out" / name / "segmentation.nii.gz")
        values = {each["name"]: each["value"] for each in case["structures"]}
        centre = {each: np.argwhere(drawn == values[each])[:, 2].mean() for each in ("liver", "spleen")}
        assert (centre["liver"] < centre["spleen"]) == (name == "a")


def test_worklist_and_report_have_no_columns_of_models(case: Path, segwithu: Command, tmp_path: Path) -> None:
    entry = read_for_worklist(case)
    assert entry.is_mask_alone
    assert (entry.regions, entry.open_regions, entry.open_wrong_mm3) == (2, 2, None)
    assert segwithu("worklist", case, "-o", tmp_path / "worklist").code == 0
    (row,) = json.loads((tmp_path / "worklist" / "worklist.json").read_text(encoding="utf-8"))["cases"]
    assert {key for key in OF_MODELS if row.get(key) not in (None, "")} == set()
    assert row["open_regions"] == 2
    assert segwithu("report", case).code == 0
    report = (case / "report.html").read_text(encoding="utf-8")
    assert all(name in report for name in NAMES.values())
    assert segwithu("check", case).code == 0


def test_exports_of_a_mask_alone(case: Path, segwithu: Command, tmp_path: Path) -> None:
    assert segwithu("export", case, "-o", tmp_path / "sent").code == 0
    assert is_mask_alone(read_case(tmp_path / "sent" / "head"))
    assert segwithu("export", case, "-o", tmp_path / "blind", "--anonymous").code == 0
    told = read_case(tmp_path / "blind" / "case-001")
    assert is_mask_alone(told)
    assert told["judged"]["labels"] == {}
    assert segwithu("export", case, "-o", tmp_path / "pages", "--page", "--without-image").code == 0
    assert len([name for name in entries(tmp_path / "pages") if name.endswith(".html")]) == 2
    assert segwithu("export", case, "-o", tmp_path / "bids", "--bids").code == 0
    (drawn,) = (tmp_path / "bids").glob("**/*_dseg.nii.gz")
    assert np.array_equal(_array(drawn), _array(case / "segmentation.nii.gz"))
    refused(segwithu("export", case, "-o", tmp_path / "Dataset101_Organ", "--nnunet"), "unfinished-review")
    review(case, READER, *(StructureJudged(name, Verdict.ACCEPTED) for name in NAMES.values()))
    assert segwithu("export", case, "-o", tmp_path / "Dataset101_Organ", "--nnunet").code == 0
    (labels,) = (tmp_path / "Dataset101_Organ" / "labelsTr").iterdir()
    drawn_labels = np.searchsorted([0, LEFT, RIGHT], _array(case / "segmentation.nii.gz"))
    assert np.array_equal(_array(labels), drawn_labels)


def test_a_correction_removes_the_region_that_it_mends(case: Path, segwithu: Command, tmp_path: Path) -> None:
    (island,) = (region for region in listed_regions(case) if region.kind is Kind.ISLAND)
    mask = write(with_hole(even_mask()), tmp_path / "mended.nii.gz")
    outcome = segwithu("correct", case, mask, "--reviewer", READER, "--json")
    assert outcome.code == 0, outcome.err
    (result,) = [event for event in outcome.events if event["event"] == "result"]
    before, after = result["volumes_mm3"]["left organ"]  # type: ignore[index]
    assert before - after == pytest.approx(island.volume_mm3, rel=1e-5)
    entry = read_for_worklist(case)
    assert entry.open_regions == 1
    assert segwithu("report", case).code == 0


def test_reviews_of_a_colleague_come_home(case: Path, segwithu: Command, tmp_path: Path) -> None:
    assert segwithu("export", case, "-o", tmp_path / "sent").code == 0
    review(tmp_path / "sent" / "head", "Bob", StructureJudged("left organ", Verdict.ACCEPTED))
    assert segwithu("merge-reviews", tmp_path / "sent", "--into", case.parent).code == 0
    assert (case / "review.Bob.jsonl").is_file()


def test_what_needs_a_model_is_refused(case: Path, segwithu: Command, tmp_path: Path) -> None:
    second = shutil.copytree(case, tmp_path / "second")
    refused(segwithu("compare", case, second), "other-model", case)
    refused(segwithu("regions", case, "--overwrite"), "not-calibrated", case)


def test_the_page_draws_with_the_brush_and_scrolls_no_contour(case: Path) -> None:
    drawn = _array(case / "segmentation.nii.gz")
    (island,) = (region for region in listed_regions(case) if region.kind is Kind.ISLAND)
    inside = np.flatnonzero(with_island(even_mask()) != even_mask())
    breaks = np.flatnonzero(np.diff(inside) > 1) + 1
    runs = [[int(part[0]), len(part), LEFT, 0] for part in np.split(inside, breaks)]
    with served(case.parent) as server:
        client = WebClient(server.gate.link)
        identity = client.case_id("head")
        facts = client.get(f"/api/cases/{identity}")
        assert {each["kind"] for each in facts["regions"]} >= {Kind.ISLAND, Kind.HOLE}
        opened: WebReview = client.open(identity, READER)
        asked = {"session": opened.session, "structure": "left organ", "region": None}
        status, answer = client.post(f"/api/cases/{identity}/scroll", asked)
        assert status != 200 and "brush" in answer["error"]
        status, answer = opened.say({"event": "drawn", "gesture": "brush", "region": island.id, "runs": runs})
        assert status == 200, answer
        voxels = np.count_nonzero(drawn == LEFT) - len(inside)
        assert answer["figures"]["left organ"]["volume_mm3"] == pytest.approx(voxels * VOXEL_MM3)
        assert opened.judge(island.id, "corrected")
    version = _array(case / f"segmentation_reviewed.{READER}.seg.nrrd")
    assert np.array_equal(version, with_hole(even_mask()))
    assert version.shape == SHAPE
    assert read_for_worklist(case).open_regions == 1


def test_two_readers_agree_or_differ(segwithu: Command, tmp_path: Path) -> None:
    one = write(even_mask(), tmp_path / "ana.nii.gz")
    other = write(with_hole(with_island(even_mask())), tmp_path / "ben.nii.gz")
    outcome = segwithu("agree", one, other, "--labels", *LABELS, "--json")
    assert outcome.code == 0, outcome.err
    (result,) = [event for event in outcome.events if event["event"] == "result"]
    rows = {row["structure"]: row for row in result["agreement"]}  # type: ignore[attr-defined]
    first, second = even_mask(), with_hole(with_island(even_mask()))
    for value, name in NAMES.items():
        a, b = first == value, second == value
        assert rows[name]["dice"] == pytest.approx(2 * np.count_nonzero(a & b) / (a.sum() + b.sum()))
        assert rows[name]["first_mm3"] == pytest.approx(a.sum() * VOXEL_MM3)
        assert rows[name]["second_mm3"] == pytest.approx(b.sum() * VOXEL_MM3)
    assert not list(tmp_path.glob("**/case.json"))
    same = segwithu("agree", one, one, "--labels", *LABELS, "--json")
    (result,) = [event for event in same.events if event["event"] == "result"]
    assert {(row["dice"], row["mean_distance_mm"]) for row in result["agreement"]} == {(1.0, 0.0)}  # type: ignore[attr-defined]


def test_the_places_where_two_readers_differ_are_the_regions(segwithu: Command, tmp_path: Path) -> None:
    images, ana = _many(tmp_path, {"a": even_mask(), "b": even_mask(), "c": even_mask()})
    for name, labels in (("a", even_mask()), ("b", with_hole(even_mask())), ("d", even_mask())):
        write(labels, tmp_path / "ben" / f"{name}_ben.nii.gz")
    call = ("agree", ana, tmp_path / "ben", "--images", images, "-o", tmp_path / "out", "--labels", *LABELS)
    outcome = segwithu(*call)
    assert outcome.code == 0, outcome.err
    with (tmp_path / "out" / "agreement.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["structure"]) for row in rows] == [(n, each) for n in "ab" for each in NAMES.values()]
    assert _cases(tmp_path / "out") == ["a", "b"]
    assert listed_regions(tmp_path / "out" / "a") == []
    (region,) = listed_regions(tmp_path / "out" / "b")
    hole = np.count_nonzero(with_hole(even_mask()) != even_mask())
    assert (region.structure, region.volume_mm3) == ("right organ", pytest.approx(hole * VOXEL_MM3, rel=1e-5))
    assert region.expected_wrong_mm3 is None
    assert np.array_equal(_array(tmp_path / "out" / "b" / "segmentation.nii.gz"), even_mask())
    assert segwithu(*call).code == 0
    refused(segwithu("agree", ana, tmp_path / "ben", "--images", images), "contradicting-options", code=2)
    write(even_mask(), tmp_path / "ben" / "a_ben.nii.gz", (1, 1, 1))
    outcome = segwithu("agree", ana, tmp_path / "ben", "--images", images, "-o", tmp_path / "new")
    assert (outcome.code, outcome.error_codes) == (1, ["other-grid"])
    assert _cases(tmp_path / "new") == ["b"]
