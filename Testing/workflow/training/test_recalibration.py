"""A model that is there already, calibrated anew on other cases: same weights, new tables."""

import json
from pathlib import Path

import pytest
from repository import ROOT
from segwithu_command import Command, one_sentence
from training_runs import small_data_set

from SegWithUCore.models.bundle import file_sha256, read_bundle

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"


@pytest.fixture(scope="module")
def cases(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("site")
    small_data_set(data_folder, folder)
    return f"{folder / 'split.csv'}:train"


def test_a_model_calibrated_on_other_cases_keeps_its_weights(cases: str, tmp_path: Path, segwithu: Command) -> None:
    target = tmp_path / "site"
    outcome = segwithu("calibrate", "--model", SHIPPED, "--cases", cases, "--output", target)
    assert outcome.code == 0, outcome.error
    before, after = read_bundle(SHIPPED), read_bundle(target)
    assert before.calibration is not None and after.calibration is not None
    assert file_sha256(target / "weights.safetensors") == before.weights_sha256 == after.weights_sha256
    assert (target / "LICENSE.txt").read_bytes() == (SHIPPED / "LICENSE.txt").read_bytes()
    assert (after.fingerprint, after.figures) == (before.fingerprint, None)
    assert after.calibration["cases"] == 6
    assert after.calibration_sha256 != before.calibration_sha256
    assert "fitted on 6 calibration cases" in (target / "MODEL_CARD.md").read_text(encoding="utf-8")
    for rule in after.calibration["flags"]["rules"].values():
        assert rule["sentence"] in outcome.out  # six cases allow no bound of 10 %, and that is said
        assert "6 cases allow no bound below 14.3 %" in rule["sentence"]


def test_damaged_weights_are_not_calibrated(cases: str, tmp_path: Path, segwithu: Command) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in SHIPPED.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    with (damaged / "weights.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\1\2\3")
    target = tmp_path / "new"
    outcome = segwithu("calibrate", "--model", damaged, "--cases", cases, "--output", target)
    one_sentence(outcome, "weights.safetensors", "damaged", code=1)
    assert not target.exists()


def test_a_model_s_training_cases_are_not_noted_anew(cases: str, tmp_path: Path, segwithu: Command) -> None:
    more = ("--train", cases, "--select", cases)
    outcome = segwithu("calibrate", "--model", SHIPPED, "--cases", cases, "--output", tmp_path / "new", *more)
    one_sentence(outcome, "--run", code=2)


def test_the_shipped_calibration_says_its_rules_of_flags() -> None:
    flags = json.loads((SHIPPED / "bundle.json").read_text(encoding="utf-8"))["calibration"]["flags"]
    assert flags["cases"] == 27
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(rule["sentence"] in card for rule in flags["rules"].values())
