"""A whole head in, both hippocampi out: boxes placed by registration, or refused, never a result of another place."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from repository import ROOT

from SegWithUCore.api import Model, SegmentationResult, load_model, segment_image
from SegWithUCore.inference.placement import place
from SegWithUCore.io.volume import orientation_of, reorient
from SegWithUCore.models.bundle import check_bundle
from SegWithUCore.util.errors import InputError

HEAD = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
PARTS = ("anterior hippocampus", "posterior hippocampus")
VOLUMES = ("segmentation", "error_probability", "ranking", "calibration")
SIDES = {"left": (1, 2), "right": (3, 4)}

# Alone, in a process that has read few other files: whole heads take 0.6 GB.
pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("hippocampus")


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    return sitk.ReadImage(str(HEAD), sitk.sitkFloat32)


@pytest.fixture(scope="module")
def found(model: Model, head: sitk.Image) -> SegmentationResult:
    return segment_image(head, model)


def _turned(image: sitk.Image, axis: int, degrees: float) -> sitk.Image:
    """The same voxels, turned about their middle."""
    turn = sitk.Euler3DTransform()
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint([(count - 1) / 2 for count in image.GetSize()]))
    turn.SetRotation(*(np.eye(3)[axis] * np.radians(degrees)).tolist())
    result = sitk.Image(image)
    matrix = np.array(turn.GetMatrix()).reshape(3, 3)
    result.SetDirection((matrix @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    result.SetOrigin(turn.TransformPoint(image.GetOrigin()))
    return result


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_left_lies_left_and_each_side_has_its_parts(found: SegmentationResult) -> None:
    assert found.labels == {
        0: "background",
        **{SIDES[side][part]: f"{side} {name}" for side in SIDES for part, name in enumerate(PARTS)},
    }
    for side, sign in (("left", -1), ("right", 1)):
        inside = np.isin(found.array("segmentation"), SIDES[side])
        index = np.argwhere(inside).mean(0)[::-1].tolist()
        x, y, z = found.segmentation.TransformContinuousIndexToPhysicalPoint(index)
        assert np.linalg.norm([-x - 25 * sign, -y + 22, z + 13]) < 10
        assert 2500 < inside.sum() < 6000


def test_numbers_of_each_side_are_those_of_its_voxels(found: SegmentationResult) -> None:
    labels, wrong = found.array("segmentation"), found.array("error_probability")
    for entry in found.structures[1:]:
        own = labels == entry.label.value
        assert entry.voxels == own.sum()
        assert entry.expected_wrong_mm3 == pytest.approx(wrong[own].sum(), rel=1e-4)
    assert found.structures[0].voxels == ((labels == 0) & (wrong >= 0)).sum()
    assert {region.structure for region in found.regions} <= {entry.label.name for entry in found.structures}


def test_between_and_outside_the_boxes_nothing_was_assessed(found: SegmentationResult) -> None:
    wrong = found.array("error_probability")
    assert (wrong == -1).sum() == wrong.size - 2 * 36 * 50 * 36
    assert (found.array("segmentation")[wrong < 0] == 0).all()
    assert wrong[wrong >= 0].max() <= 1
    ranking = found.array("ranking")
    assert ranking[wrong < 0].max() < ranking[wrong >= 0].min()


@pytest.mark.parametrize(
    ("axis", "degrees"),
    [pytest.param(0, 25, marks=pytest.mark.slow), (1, -20), pytest.param(2, 30, marks=pytest.mark.slow)],
)
def test_a_turned_head_is_found(
    axis: int, degrees: float, model: Model, head: sitk.Image, found: SegmentationResult
) -> None:
    other = segment_image(_turned(head, axis, degrees), model)
    for values in SIDES.values():
        one, two = (np.isin(each.array("segmentation"), values) for each in (found, other))
        assert _dice(one, two) > 0.93


@pytest.mark.parametrize("axes", [pytest.param("LPS", marks=pytest.mark.slow), "PSR"])
def test_a_head_stored_in_other_axes_has_the_same_labels(
    axes: str, model: Model, head: sitk.Image, found: SegmentationResult
) -> None:
    assert orientation_of(head) != axes
    other = segment_image(reorient(head, axes), model)
    upright = {name: sitk.GetArrayFromImage(reorient(other.image(name), orientation_of(head))) for name in VOLUMES}
    assert np.array_equal(upright["segmentation"], found.array("segmentation"))
    for name in VOLUMES:  # the rounding of another order of the same sums
        assert np.allclose(upright[name], found.array(name), rtol=1e-4, atol=1e-4), name
    assert [each.volume_mm3 for each in other.structures] == pytest.approx(
        [each.volume_mm3 for each in found.structures], rel=1e-9
    )


def test_the_case_holds_boxes_and_asymmetry(segwithu: Any, tmp_path: Path) -> None:
    assert segwithu.segment(HEAD, model="hippocampus", output=tmp_path).code == 0
    (folder,) = tmp_path.iterdir()
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    placed = case["placement"]
    assert [box["side"] for box in placed["boxes"]] == ["left", "right"]
    assert all(box["expected_dice"] > 0.8 and not box["shifted"] for box in placed["boxes"])
    assert {entry["name"] for entry in case["asymmetries"]} == {*PARTS, "whole hippocampus"}
    volumes = {each["name"]: each["volume_mm3"] for each in (*case["structures"], *case["totals"])}
    for entry in case["asymmetries"]:
        left, right = (volumes[f"{side} {entry['name']}"] for side in SIDES)
        assert entry["percent"] == pytest.approx(200 * (left - right) / (left + right))
        low, high = entry["interval_percent"]
        assert low < entry["percent"] < high and entry["held_of"] == 23
    codes = [(each["modifier"]["meaning"], each["laterality"]["meaning"]) for each in case["structures"][1:]]
    assert codes == [(part.split()[0].capitalize(), side.capitalize()) for side in SIDES for part in PARTS]
    for name, facts in case["maps"].items():
        counted = sum(sum(row) for row in facts["histograms"]["counts"].values())
        assert counted == 2 * 36 * 50 * 36, name
    assert case["roi"] is None
    assert segwithu("check", folder).code == 0
    assert segwithu("regions", folder, "--threshold", "0.3").code == 0


@pytest.mark.slow
def test_one_box_of_all_structures_keeps_their_names(model: Model, head: sitk.Image) -> None:
    bundle = model.bundle
    assert bundle.placement is not None
    box = replace(bundle.placement.boxes[0], side="whole", size_mm=(96.0, 96.0, 96.0))
    one = Model(replace(bundle, placement=replace(bundle.placement, boxes=(box,), least_dice=0.0)))
    result = segment_image(head, one)
    assert "field of view" not in {each.kind for each in result.warnings}
    facts = result._case.placement
    assert [each["side"] for each in facts["boxes"]] == ["whole"]
    assert set(result.labels.values()) == {"background", *PARTS}
    apart = segment_image(head, one, roi=(*facts["boxes"][0]["centre_ras_mm"], *box.size_mm))
    labels = result.array("segmentation")
    np.testing.assert_array_equal(labels, apart.array("segmentation"))
    assert {each.label.name: each.voxels for each in result.structures[1:]} == {
        name: int((labels == value).sum()) for value, name in enumerate(PARTS, 1)
    }
    with pytest.raises(InputError) as refusal:
        segment_image(_turned(head, 0, 180), one)
    assert refusal.value.code == "not-placed"
    with pytest.raises(InputError) as refusal:
        segment_image(head[:, :, 80:160], one)  # a slab is no head, and no box is placed in it
    assert refusal.value.code == "unusable-input"


def test_one_box_of_all_structures_comes_alone(model: Model) -> None:
    bundle = model.bundle
    assert bundle.placement is not None
    boxes = (replace(bundle.placement.boxes[0], side="whole"), bundle.placement.boxes[1])
    with pytest.raises(InputError):
        check_bundle(replace(bundle, placement=replace(bundle.placement, boxes=boxes)))


def test_a_region_of_interest_wins(model: Model, head: sitk.Image) -> None:
    result = segment_image(head, model, roi=(-25, -23, -13, 36, 50, 36))
    assert set(result.labels.values()) == {"background", *PARTS}


@pytest.mark.parametrize("axis", [0, 2])
def test_a_head_upside_down_or_back_to_front_is_refused(axis: int, model: Model, head: sitk.Image) -> None:
    with pytest.raises(InputError) as refusal:
        segment_image(_turned(head, axis, 180), model)
    assert refusal.value.code == "not-placed"


@pytest.mark.slow
def test_a_head_of_inverted_contrast_is_refused(model: Model, head: sitk.Image) -> None:
    """Its place is found, but what is drawn there is worthless, with an expected Dice of 0.7 to 0.8."""
    inside = sitk.Cast(head > 0, sitk.sitkFloat32)
    highest = float(sitk.GetArrayViewFromImage(head).max())
    with pytest.raises(InputError) as refusal:
        segment_image((highest - head) * inside, model)
    assert refusal.value.code == "not-placed"


def test_what_is_not_a_head_is_refused(segwithu: Any, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 10, (60, 70, 60)).astype(np.float32)
    z, y, x = np.ogrid[:60, :70, :60]
    noise[((z - 30) ** 2 + (y - 35) ** 2 + (x - 30) ** 2) > 25**2] = 0
    image = sitk.GetImageFromArray(noise)
    image.SetSpacing((3, 3, 3))
    sitk.WriteImage(image, str(tmp_path / "ball.nii.gz"))
    outcome = segwithu.segment(tmp_path / "ball.nii.gz", model="hippocampus", output=tmp_path / "out")
    assert outcome.code == 1
    assert "ball.nii.gz" in outcome.err and "[not-placed]" in outcome.err
    assert not any((tmp_path / "out").glob("*"))


@pytest.mark.slow
def test_a_box_at_the_wrong_place_is_corrected_by_its_neighbours(
    model: Model, head: sitk.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registration that is 17 mm off: the model expects little there, and more next to it."""
    from SegWithUCore.inference import placed_case

    def off(*arguments: Any) -> Any:
        placed = place(*arguments)
        rois = {side: replace(roi, centre_ras_mm=tuple(np.add(roi.centre_ras_mm, (0, 0, 17)).tolist()))
                for side, roi in placed.rois.items()}  # fmt: skip
        return replace(placed, rois=rois)

    monkeypatch.setattr(placed_case, "place", off)
    seen: list[float] = []
    result = segment_image(head, model, progress=lambda _stage, fraction, _detail="": seen.append(fraction))
    boxes = result._case.placement["boxes"]
    assert seen == sorted(seen)
    assert all(box["expected_dice"] >= 0.82 and box["shifted"] for box in boxes)
