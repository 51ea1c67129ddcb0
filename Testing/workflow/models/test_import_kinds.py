"""`segwithu models import` takes folders and zip files of models and of nnU-Nets, and says what it found."""

import shutil
import zipfile
from pathlib import Path

import pytest
from nnunet_results import write_result_folder
from onnx_files import write_network
from segwithu_command import MODEL, MODEL_VERSION, Command, entries, refused

from SegWithUCore.models.bundle import read_bundle


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGWITHU_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """nnU-Net's folder of one data set, with two folds."""
    place = write_result_folder(tmp_path / "nnUNet_results" / "Dataset004_Hippocampus")
    shutil.copytree(place / "fold_0", place / "fold_1")
    return place


def zipped(folder: Path, within: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(within))
    return file


def test_a_zip_file_of_a_model_is_the_model(segwithu: Command, tmp_path: Path, models: Path) -> None:
    file = zipped(MODEL, MODEL.parent, tmp_path / "hippocampus.zip")
    outcome = segwithu("models", "import", file)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("Found a model of anterior hippocampus")
    target = models / f"hippocampus-{MODEL_VERSION}"
    assert read_bundle(target).weights_sha256 == read_bundle(MODEL).weights_sha256
    assert str(file) in (target / "origin.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in models.iterdir() if not path.name.startswith(".")) == [target.name]


@pytest.mark.parametrize("form", ["result folder", "data set folder", "zip file", "zip file of all results"])
def test_an_nnunet_is_found_wherever_it_lies(
    segwithu: Command, tmp_path: Path, models: Path, results: Path, form: str
) -> None:
    source = {"result folder": results, "data set folder": results.parent}.get(form)
    within = results.parents[1] if form == "zip file of all results" else results.parent
    outcome = segwithu("models", "import", source or zipped(results, within, tmp_path / "export.zip"))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"Found an nnU-Net ({results.name}, fold 0 of 0, 1) of ")
    (installed,) = [path for path in models.iterdir() if not path.name.startswith(".")]
    assert read_bundle(installed).backbone.kind == "nnunet"
    assert segwithu("models", "verify").code == 0


def test_what_is_no_model_is_refused_and_leaves_nothing(
    segwithu: Command, tmp_path: Path, models: Path, results: Path
) -> None:
    shutil.copytree(results, results.with_name("nnUNetTrainer__nnUNetPlans__3d_lowres"))
    refused(segwithu("models", "import", results.parent), "not-a-model", "3d_fullres", "3d_lowres")
    text = tmp_path / "model.txt"
    text.write_text("no model", encoding="utf-8")
    refused(segwithu("models", "import", text), "not-a-model", text)
    refused(segwithu("models", "import", tmp_path / "nowhere.zip"), "missing-file", "nowhere.zip")
    broken = zipped(MODEL, MODEL.parent, tmp_path / "broken.zip")
    broken.write_bytes(broken.read_bytes()[:-3000])
    refused(segwithu("models", "import", broken), "damaged-file", broken)
    damaged = zipped(MODEL, MODEL.parent, tmp_path / "damaged.zip")
    content = bytearray(damaged.read_bytes())
    content[3000:3100] = bytes(100)
    damaged.write_bytes(content)
    refused(segwithu("models", "import", damaged), "damaged-file", damaged)
    (tmp_path / "empty").mkdir()
    refused(segwithu("models", "import", tmp_path / "empty"), "not-a-model", "empty")
    refused(segwithu("models", "import", results, "--spec", text), "contradicting-options", code=2)
    assert entries(models) == []


def test_a_zip_file_writes_nowhere_else_and_no_more_than_fits(
    segwithu: Command, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = zipped(MODEL, MODEL.parent, tmp_path / "hippocampus.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../../outside.txt", "outside")
        archive.writestr("/tmp/outside_of_all.txt", "outside")
    assert segwithu("models", "import", file).code == 0
    assert not list(tmp_path.rglob("outside*.txt")) and not Path("/tmp/outside_of_all.txt").exists()
    assert segwithu("models", "delete", "hippocampus", "--yes").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("SegWithUCore.cli.import_model.MAXIMUM_ENTRIES", 3)
        refused(segwithu("models", "import", file), "large-file", file)
    assert entries(models) == []


def test_an_onnx_file_in_a_folder_is_named(segwithu: Command, tmp_path: Path) -> None:
    write_network(tmp_path)
    refused(segwithu("models", "import", tmp_path), "not-a-model", tmp_path)
