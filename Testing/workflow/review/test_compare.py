"""`segwithu compare` and `calibrate --pairs` on hippocampi that are scanned twice."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from segwithu_command import MODEL, Command, refused

from SegWithUCore.calibration.change import EJECTION
from SegWithUCore.case.case_file import read_case
from SegWithUCore.cli.__main__ import main
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.review import changes
from SegWithUCore.util.errors import InputError


def scanned_again(path: Path, target: Path) -> Path:
    """Write an image with other noise."""
    image = sitk.Cast(sitk.ReadImage(path), sitk.sitkFloat32)
    array = sitk.GetArrayFromImage(image)
    noise = np.random.default_rng(1).normal(0, 0.01 * array.max(), array.shape)
    made = sitk.GetImageFromArray((array + noise).astype(np.float32))
    made.CopyInformation(image)
    sitk.WriteImage(made, target)
    return target


@pytest.fixture(scope="module")
def images(data_folder: Path) -> list[Path]:
    return sorted((data_folder / "hippocampus" / "images").glob("*.nii.gz"))[:3]


@pytest.fixture(scope="module")
def scans(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases of three patients, `NAME` and `NAME_again`, and the table of the pairs."""
    work, output = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("scans")
    again = [scanned_again(path, work / path.name.replace(".nii.gz", "_again.nii.gz")) for path in images]
    assert main(["segment", *map(str, images + again), "-m", str(MODEL), "-o", str(output), "--quiet"]) == 0
    names = [path.name.removesuffix(".nii.gz") for path in images]
    rows = [f"{name}{scan},{name}" for name in names for scan in ("", "_again")]
    (output / "pairs.csv").write_text("\n".join(["case,patient", *rows]) + "\n", encoding="utf-8")
    return output


@pytest.fixture(scope="module")
def model(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "here"
    assert main(["calibrate", "-m", str(MODEL), "--pairs", str(scans / "pairs.csv"), "-o", str(target)]) == 0
    return target


def name_of(image: Path) -> str:
    return image.name.removesuffix(".nii.gz")


def test_pairs_change_nothing_else_of_a_model(model: Path) -> None:
    shipped, made = read_bundle(MODEL), read_bundle(model)
    assert set(made.changes) == {"anterior hippocampus", "posterior hippocampus", "whole hippocampus"}
    assert all(each.patients == 3 and each.scans == 6 for each in made.changes.values())
    assert {name: each.recovered for name, each in made.changes.items()} == {
        name: each.recovered for name, each in shipped.changes.items()
    }, "what the network shows of a change"
    own = {"changes", "about"}
    before, after = (
        {name: block for name, block in bundle.to_json().items() if name not in own} for bundle in (shipped, made)
    )
    assert before == after and made.about["version"] == f"{shipped.about['version']}+site"
    assert main(["models", "verify", str(model)]) == 0


def test_a_scan_again_is_no_change_and_another_patient_is_one(
    scans: Path, model: Path, images: list[Path], segwithu: Command, tmp_path: Path
) -> None:
    first, again, other = (scans / name for name in (name_of(images[0]), f"{name_of(images[0])}_again",
                                                     name_of(images[1])))  # fmt: skip
    outcome = segwithu("compare", first, again, other, "-m", model, "--output", tmp_path / "changes", "--json")
    assert outcome.code == 0
    rows = outcome.events[-1]["changes"]
    with (tmp_path / "changes" / "changes.csv").open(encoding="utf-8", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["verdict"] for row in written] == [row["verdict"] for row in rows]
    of = {(row["structure"], row["scan"]): row for row in written}
    volumes = {entry["name"]: entry["volume_mm3"] for entry in read_case(other)["structures"]}
    for name in ("anterior hippocampus", "posterior hippocampus"):
        same, another = of[name, again.name], of[name, other.name]
        low, high = float(same["percent_low"]), float(same["percent_high"])
        assert (same["verdict"] == "changed") == (not low <= 0 <= high)
        assert float(another["after_mm3"]) == pytest.approx(volumes[name])
        before, after = float(another["before_mm3"]), float(another["after_mm3"])
        assert float(another["percent"]) == pytest.approx(100 * (after / before - 1), abs=1e-2)
    assert any(row["verdict"] == "changed" for row in written if row["scan"] == other.name)
    page = (tmp_path / "changes" / "changes.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3 and page.count("<circle") == 9


@pytest.mark.parametrize(("recovered", "is_said"), [(0.5, True), (0.95, False), (None, False)])
def test_a_row_says_where_volumes_show_less_than_a_change(
    recovered: float | None, is_said: bool, scans: Path, model: Path, images: list[Path]
) -> None:
    bundle = read_bundle(model)
    bundle = replace(
        bundle, changes={name: replace(each, recovered=recovered) for name, each in bundle.changes.items()}
    )
    name = name_of(images[0])
    found = changes.compare([scans / name, scans / f"{name}_again"], bundle)
    assert [bool(change.reason) for change in found.changes] == [is_said] * 3
    assert all(change.verdict in (changes.CHANGED, changes.NO_CHANGE) for change in found.changes)


def test_two_phases_of_a_ventricle_give_its_ejection_fraction(scans: Path, model: Path, images: list[Path]) -> None:
    bundle, name = read_bundle(model), "anterior hippocampus"
    fitted = {"mean_error": 2.0, "half_width": 1.0, "cases": 20, "held": 19}
    bundle = replace(bundle, calibration={**(bundle.calibration or {}), EJECTION: {name: fitted}})
    folders = [scans / name_of(image) for image in images[:2]]
    volumes = {each: {entry["name"]: entry["volume_mm3"] for entry in read_case(each)["structures"]}[name]
               for each in folders}  # fmt: skip
    small, large = sorted(folders, key=volumes.__getitem__)
    found, backward = (
        next(each for each in changes.compare(both, bundle).changes if each.structure == name)
        for both in ([large, small], [small, large])
    )
    fraction = 100 * (1 - volumes[small] / volumes[large])
    assert found.percent == pytest.approx(-fraction)
    assert found.interval_percent == pytest.approx((-(fraction - 1), -(fraction - 3)))
    assert f"{fraction:.0f} %" in found.reason and found.verdict in (changes.CHANGED, changes.NO_CHANGE)
    assert (backward.verdict, backward.interval_percent) == (changes.UNKNOWN, None) and backward.reason


def test_images_are_segmented_first(
    scans: Path, model: Path, images: list[Path], segwithu: Command, tmp_path: Path
) -> None:
    again = scanned_again(images[0], tmp_path / "again.nii.gz")
    refused(segwithu("compare", again, scans / name_of(images[0])), "contradicting-options", again, code=2)
    call = ("compare", images[0], again, scans / name_of(images[1]), "-m", model, "--output", tmp_path / "out")
    for _ in range(2):  # the second time they are there
        outcome = segwithu(*call, "--json")
        assert outcome.code == 0
        assert outcome.events[-1]["scans"] == [name_of(images[0]), "again", name_of(images[1])]
    assert {path.name for path in (tmp_path / "out" / "cases").iterdir() if path.is_dir()} == {
        name_of(images[0]),
        "again",
    }
    refused(segwithu("compare", again, tmp_path / "nowhere"), "missing-file", tmp_path / "nowhere")
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(again.read_bytes()[:1000])
    lost = segwithu("compare", again, damaged, "-m", model, "--output", tmp_path / "other")
    assert lost.error_codes[-1] == "not-segmented" and not (tmp_path / "other" / "changes.csv").exists()


def test_only_what_all_scans_were_to_be_measured_for_is_compared_with_a_warning(
    scans: Path, model: Path, images: list[Path], segwithu: Command, tmp_path: Path
) -> None:
    again = scanned_again(images[0], tmp_path / "again.nii.gz")
    asked = ("segment", again, "-m", model, "-o", tmp_path, "--structures", "anterior hippocampus", "--quiet")
    assert segwithu(*asked).code == 0
    found = segwithu("compare", scans / name_of(images[0]), tmp_path / "again", "-m", model, "--json").events[-1]
    assert [row["structure"] for row in found["changes"]] == ["anterior hippocampus"]
    assert any("different structures" in warning for warning in found["warnings"])
    both = segwithu("compare", *(scans / f"{name_of(images[0])}{end}" for end in ("", "_again")), "-m", model, "--json")
    assert not any("different structures" in warning for warning in both.events[-1]["warnings"])


def test_an_edit_leaves_no_interval(
    scans: Path, model: Path, images: list[Path], segwithu: Command, tmp_path: Path
) -> None:
    first, again = scans / name_of(images[0]), scans / f"{name_of(images[0])}_again"
    edited = shutil.copytree(again, tmp_path / "edited")
    labels = sitk.ReadImage(edited / "segmentation.nii.gz")
    array = sitk.GetArrayFromImage(labels)
    z, y, x = np.argwhere(array == 1)[0]
    array[z, y, x] = 0
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(labels)
    sitk.WriteImage(changed, tmp_path / "mask.nii.gz")
    assert segwithu("correct", edited, tmp_path / "mask.nii.gz", "--reviewer", "Ana").code == 0
    rows = {
        row["structure"]: row for row in segwithu("compare", first, edited, "-m", model, "--json").events[-1]["changes"]
    }
    assert rows["anterior hippocampus"]["verdict"] == rows["whole hippocampus"]["verdict"] == "not comparable"
    assert rows["anterior hippocampus"]["percent_low"] == "" and "edited" in rows["anterior hippocampus"]["reason"]
    assert rows["posterior hippocampus"]["verdict"] != "not comparable"


def test_what_cannot_be_compared_is_refused(
    scans: Path, model: Path, images: list[Path], segwithu: Command, tmp_path: Path
) -> None:
    first, again = scans / name_of(images[0]), scans / f"{name_of(images[0])}_again"
    assert segwithu("compare", first, "-m", model).code == 2
    copy = shutil.copytree(first, tmp_path / "copy")
    assert segwithu("compare", first, copy, "-m", model).error_codes == ["same-image"]
    case = json.loads((again / "case.json").read_text(encoding="utf-8"))
    case["model"]["weights_sha256"] = "0" * 64
    del case["content_sha256"]
    other = shutil.copytree(again, tmp_path / "other")
    (other / "case.json").write_text(json.dumps(case), encoding="utf-8")
    assert segwithu("compare", first, other, "-m", model).error_codes == ["other-model"]
    (tmp_path / "few.csv").write_text(f"case,patient\n{first},a\n{again},a\n", encoding="utf-8")
    few = segwithu("calibrate", "-m", MODEL, "--pairs", tmp_path / "few.csv", "-o", tmp_path / "made")
    assert few.error_codes == ["too-few-pairs"] and not (tmp_path / "made").exists()
    rows = (scans / "pairs.csv").read_text(encoding="utf-8").replace("case,patient\n", f"case,patient\n{copy},a\n")
    (scans / "twice.csv").write_text(rows, encoding="utf-8")
    twice = segwithu("calibrate", "-m", MODEL, "--pairs", scans / "twice.csv", "-o", tmp_path / "made")
    assert twice.error_codes == ["same-image"] and not (tmp_path / "made").exists()


def test_scans_of_other_contrasts_patients_and_spacings(scans: Path, images: list[Path]) -> None:
    case = read_case(scans / name_of(images[0]))
    structures = [{"name": f"part {value}", "value": value, "voxels": 10} for value in range(1, 7)]
    total = {"name": "brain", "of": list(range(1, 7)), "is_denominator": True}

    def scan(name: str, whole: float, grey: list[float], edges: list[float]) -> changes.Scan:
        grid = {**case["input"]["grid"], "spacing_mm": edges}
        own = {"channels": [{"voxels_sha256": name}], "grid": grid}
        made = {**case, "structures": structures, "totals": [total], "input": own, "ood": {"warnings": []}}
        return changes.Scan(name, made, {"brain": whole}, frozenset(), frozenset(), np.array([0.0, *grey]))

    t1, t2 = [1.0, 2, 3, 4, 5, 6], [6.0, 5, 4, 3, 2, 1]
    first = scan("first", 1000, t1, [1, 1, 1])
    assert changes.warnings_of(first, scan("same", 1040, t1, [1, 1, 1.1])) == []
    found = changes.warnings_of(first, scan("other", 1200, t1, [1, 1, 1.5]))
    assert len(found) == 2 and "patient" in found[1]
    with pytest.raises(InputError) as refusal:
        changes.warnings_of(first, scan("t2", 1000, t2, [1, 1, 1]))
    assert refusal.value.code == "other-contrast"
