"""`segwithu models input-check`: a model from before learns how sharp and shaded its training cases are."""

import json
import shutil
from pathlib import Path

import pytest
from segwithu_command import MODEL, Command, changed_description, one_sentence

from SegWithUCore.inference.appearance import MINIMUM_CASES
from SegWithUCore.models.bundle import read_bundle
from SegWithUCore.models.input_check import QUALITY, checks_lacking


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The shipped model as it was before, with as few training cases as will do."""
    model = tmp_path / "models" / "older"
    shutil.copytree(MODEL, model)
    changed_description(model, f"fingerprint/{QUALITY}", ...)
    changed_description(model, "fingerprint/cases", MINIMUM_CASES)
    return model


@pytest.fixture
def table(data_folder: Path, tmp_path: Path) -> Path:
    """Training cases and a validation case of the real data set."""
    source = data_folder / "hippocampus"
    names = [line.split(",")[0] for line in (source / "split.csv").read_text().splitlines() if line.endswith(",train")]
    images, labels = source / "images", source / "labels"
    rows = [f"{name},{'train' if number else 'select'},{images},{labels}" for number, name in enumerate(names)]
    path = tmp_path / "split.csv"
    test = next(line.split(",")[0] for line in (source / "split.csv").read_text().splitlines() if ",test" in line)
    rows = [*rows[: MINIMUM_CASES + 1], f"{test},other,{images},{labels}"]
    path.write_text("\n".join(["case,role,images,labels", *rows]) + "\n")
    return path


def test_an_older_model_learns_what_it_lacks_and_keeps_everything_else(
    older: Path, table: Path, segwithu: Command
) -> None:
    before = json.loads((older / "bundle.json").read_text())
    shown = segwithu("models", "show", older)
    assert "lacks shading, sharpness and brightness" in shown.out
    done = segwithu("models", "input-check", older, "--cases", f"{table}:train", "--select", f"{table}:select")
    assert done.code == 0, done.err
    assert f"of {MINIMUM_CASES} training cases" in done.out
    after = json.loads((older / "bundle.json").read_text())
    block = after["fingerprint"].pop(QUALITY)["T1"]
    assert after == before
    assert 1 < block["shading"] < 4
    assert all(0.4 < value < 0.9 for value in block["sharpness"])
    assert checks_lacking(read_bundle(older)) == []
    assert "shading, sharpness and brightness with" in (older / "MODEL_CARD.md").read_text()


def test_other_cases_than_those_of_the_training_are_refused(older: Path, table: Path, segwithu: Command) -> None:
    changed_description(older, "fingerprint/cases", 9)
    call = ("models", "input-check", older, "--cases", f"{table}:select", "--select", f"{table}:train")
    one_sentence(segwithu(*call), "was trained with 9", "give exactly those", code=2)
    changed_description(older, "fingerprint/cases", 1)
    other = ("models", "input-check", older, "--cases", f"{table}:other", "--select", f"{table}:select")
    one_sentence(segwithu(*other), "1 of 1 --cases, such as", "are no training cases of", code=2)
    assert checks_lacking(read_bundle(older)) != []
    changed_description(older, "fingerprint", None)
    one_sentence(segwithu(*call), "does not say how its training cases look", "calibrate --run")
