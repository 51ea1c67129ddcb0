"""A model that is there already, calibrated anew on other cases: same weights, new tables."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hippocampi import write_hippocampi
from repository import ROOT
from segwithu_command import Command, Outcome, one_sentence, refused

from SegWithUCore.models.bundle import file_sha256, read_bundle, write_bundle_json

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
SEEN = "--allow-seen-cases"
"""They are training cases of the shipped model, which keeps the hashes of their voxels."""


@pytest.fixture(scope="module")
def cases(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two cases that the model was trained with: tests say that they may be."""
    folder = tmp_path_factory.mktemp("site")
    names = write_hippocampi(data_folder, folder, 2)
    (folder / "split.csv").write_text("case,role\n" + "".join(f"{name},test\n" for name in names))
    return f"{folder / 'split.csv'}:test"


@pytest.fixture(scope="module")
def shifted(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight cases whose images are so noisy that the model errs far more often than it reads."""
    folder = tmp_path_factory.mktemp("noisy")
    write_hippocampi(data_folder, folder, 8)
    for number, path in enumerate(sorted((folder / "images").iterdir())):
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        spread = float(np.std(sitk.GetArrayViewFromImage(image)))
        sitk.WriteImage(sitk.AdditiveGaussianNoise(image, 2 * spread, 0.0, number), str(path))
    return str(folder)


def test_two_cases_are_too_few_to_change_a_calibration(cases: str, tmp_path: Path, segwithu: Command) -> None:
    target = tmp_path / "site"
    outcome = segwithu("calibrate", "--model", SHIPPED, "--add", cases, "--output", target, "--json", SEEN)
    assert outcome.code == 0, outcome.err
    (result,) = (event for event in outcome.events if event["event"] == "result")
    assert result["kept"] is True and result["bundle"] is None
    assert "2 patients are too few" in str(result["messages"])
    assert not target.exists()


def test_cases_where_probabilities_fail_move_them(shifted: str, tmp_path: Path, segwithu: Command) -> None:
    checked = segwithu("check-calibration", "--model", SHIPPED, "--cases", shifted)
    assert checked.code == 0 and ": too optimistic." in checked.out.splitlines()[0], checked.out
    target = tmp_path / "site"
    outcome = segwithu("calibrate", "--model", SHIPPED, "--add", shifted, "--output", target)
    assert outcome.code == 0, outcome.err
    before, after = read_bundle(SHIPPED), read_bundle(target)
    assert before.calibration is not None and after.calibration is not None
    assert file_sha256(target / "weights.safetensors") == before.weights_sha256 == after.weights_sha256
    assert (target / "LICENSE.txt").read_bytes() == (SHIPPED / "LICENSE.txt").read_bytes()
    assert (after.ood_reference, after.metrics, after.graphs) == (before.ood_reference, None, before.graphs)
    assert after.about["version"] == before.about["version"] + "+site"
    assert after.calibration["site"]["cases"] == 8
    assert after.calibration["flags"] == before.calibration["flags"]
    card = (target / "MODEL_CARD.md").read_text(encoding="utf-8")
    for sentence in after.calibration["site"]["messages"]:
        assert sentence in outcome.out and sentence in card
    assert "Error probability: refitted" in card and "8 cases are too few, give 17" in card
    assert after.calibration["site"]["factor"]["low"] > 1


def test_a_model_that_is_not_calibrated_cannot_be_checked(cases: str, tmp_path: Path, segwithu: Command) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    write_bundle_json(replace(read_bundle(SHIPPED), calibration=None), plain)
    one_sentence(segwithu("check-calibration", "--model", plain, "--cases", cases), "not calibrated", code=2)


def test_damaged_weights_are_not_calibrated(cases: str, tmp_path: Path, segwithu: Command) -> None:
    damaged = shutil.copytree(SHIPPED, tmp_path / "damaged")
    with (damaged / "weights.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\1\2\3")
    target = tmp_path / "new"
    outcome = segwithu("calibrate", "--model", damaged, "--add", cases, "--output", target, SEEN)
    one_sentence(outcome, "weights.safetensors", "damaged", code=1)
    assert not target.exists()


@pytest.mark.parametrize(
    ("model", "options", "code"),
    [
        ("--model", ("--cases",), "already-calibrated"),
        ("plain", ("--add",), "contradicting-options"),
        ("--run", ("--add",), "contradicting-options"),
        ("--model", ("--folds", "run", "--fold-cases", "CASES", "--add"), "contradicting-options"),
    ],
)
def test_what_does_not_go_together_is_refused(
    model: str, options: tuple[str, ...], code: str, cases: str, tmp_path: Path, segwithu: Command
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    write_bundle_json(replace(read_bundle(SHIPPED), calibration=None), plain)
    source = ("--model", plain) if model == "plain" else (model, SHIPPED)
    outcome = segwithu("calibrate", *source, *options, cases, "--output", tmp_path / "new")
    assert outcome.code == 2 and outcome.error_codes == [code], outcome.err
    assert not (tmp_path / "new").exists()


def test_the_shipped_calibration_says_its_rules_of_flags() -> None:
    flags = json.loads((SHIPPED / "bundle.json").read_text(encoding="utf-8"))["calibration"]["flags"]
    assert flags["cases"] == 46  # validation cases too
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(rule["message"] in card for rule in flags["rules"].values())


POISON: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "exchanged": (lambda labels: np.array([0, 2, 1])[labels], "posterior hippocampus"),
    "merged": (lambda labels: np.minimum(labels, 1), "posterior hippocampus"),
    "empty": (lambda labels: labels * 0, ""),
    "elsewhere": (lambda labels: np.roll(labels, 12, (0, 1, 2)), ""),
}


@pytest.mark.parametrize("command", ["add", "check"])
@pytest.mark.parametrize("poison", POISON)
def test_references_that_disagree_with_every_case_are_refused(
    poison: str, command: str, data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    write_hippocampi(data_folder, tmp_path / "data", 3)
    files = sorted((tmp_path / "data" / "labels").iterdir())
    change, named = POISON[poison]
    relabelled(tmp_path / "data", change)
    outcome = _used(segwithu, command, tmp_path)
    refused(outcome, "wrong-references")
    assert sum(str(path) in outcome.err for path in files) == 1
    assert named in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["add", "check", "evaluate"])
def test_references_without_a_drawn_structure_need_labels(
    command: str, data_folder: Path, tmp_path: Path, segwithu: Command
) -> None:
    write_hippocampi(data_folder, tmp_path / "data", 3)
    relabelled(tmp_path / "data", lambda labels: labels * (labels == 1))
    refused(_used(segwithu, command, tmp_path), "wrong-references", "posterior hippocampus", "--labels")
    assert not (tmp_path / "out").exists()
    assert _used(segwithu, command, tmp_path, "--labels", "1=anterior hippocampus").code == 0


def test_one_label_for_the_whole_hippocampus_teaches_both_parts(
    shifted: str, tmp_path: Path, segwithu: Command
) -> None:
    shutil.copytree(shifted, tmp_path / "data")
    relabelled(tmp_path / "data", lambda labels: np.where(labels, 17, 0))
    table = tmp_path / "labels.csv"
    table.write_text("label;structure\n17;Hippocampus\n", encoding="utf-8")
    outcome = _used(segwithu, "add", tmp_path, "--labels", str(table))
    assert outcome.code == 0, outcome.err
    before, after = read_bundle(SHIPPED).calibration, read_bundle(tmp_path / "out").calibration
    assert before is not None and after is not None
    assert after["site"]["factor"]["low"] > 1, "errors are counted"
    unlabelled = ("quality", "volume_interval", "predicted_dice")
    assert [after.get(part) for part in unlabelled] == [before.get(part) for part in unlabelled]
    fresh = shutil.copytree(SHIPPED, tmp_path / "plain")
    write_bundle_json(replace(read_bundle(SHIPPED), calibration=None), fresh)
    whole = ("--cases", tmp_path / "data", "--labels", "17=hippocampus", "--output", tmp_path / "new", SEEN)
    refused(segwithu("calibrate", "--model", fresh, *whole), "contradicting-options", code=2)
    assert not (tmp_path / "new").exists()


def test_labels_of_any_value_give_the_figures_of_the_models_own(
    shifted: str, tmp_path: Path, segwithu: Command
) -> None:
    own, names = tmp_path / "own", ("--labels", "53=anterior hippocampus", "17=posterior", "18=posterior")
    shutil.copytree(shifted, own / "data")
    shutil.copytree(shifted, tmp_path / "data")
    relabelled(
        tmp_path / "data",
        lambda labels: np.array([0, 53, 17])[labels] + (labels == 2) * (np.arange(labels.shape[2]) % 2),
    )
    found = [_used(segwithu, "check", own), _used(segwithu, "check", tmp_path, *names)]
    assert [each.code for each in found] == [0, 0] and found[0].out == found[1].out
    refused(_used(segwithu, "check", tmp_path), "unknown-label", code=1)
    refused(_used(segwithu, "check", tmp_path, "--labels", "53=liver"), "unknown-label", code=1)
    refused(_used(segwithu, "check", tmp_path, "--labels", "53"), "wrong-usage", code=2)


def relabelled(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the label values of all references of a folder."""
    for path in (folder / "labels").iterdir():
        image = sitk.ReadImage(str(path))
        changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)).astype(np.uint8))
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(path))


@pytest.mark.parametrize("command", ["add", "check"])
def test_copies_of_one_patient_are_refused(command: str, data_folder: Path, tmp_path: Path, segwithu: Command) -> None:
    (name,) = write_hippocampi(data_folder, tmp_path / "data", 1)
    for part in ("images", "labels"):
        shutil.copy(tmp_path / "data" / part / f"{name}.nii.gz", tmp_path / "data" / part / "copy.nii.gz")
    refused(_used(segwithu, command, tmp_path), "cases-of-one-scan", "copy.nii.gz", f"{name}.nii.gz")
    assert not (tmp_path / "out").exists()


def _used(segwithu: Command, command: str, folder: Path, *more: str) -> Outcome:
    """Add the cases of a folder to the shipped model, or check its calibration on them, or evaluate it."""
    words = {"add": ("calibrate", "--add"), "check": ("check-calibration", "--cases")}
    name, option = words.get(command, ("evaluate", "--cases"))
    rest = {"add": ("--output", folder / "out"), "evaluate": ("--output", folder / "out")}.get(command, ())
    return segwithu(name, "--model", SHIPPED, option, str(folder / "data"), *rest, *more, SEEN)
