"""The list of models in the panel: read without torch and jsonschema, damaged bundles left out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from repository import PACKAGES

from SegWithUCore.models.bundle import read_unchecked
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.paths import resource_path
from SegWithUSlicerLib.run.model_store import about_lines, find_model, installed_rows, list_models, read_model

SHIPPED = resource_path("Models/hippocampus")


def _changed(folder: Path, name: str, **blocks: object) -> Path:
    """A copy of the shipped description, in a folder of its own, with other blocks."""
    data = json.loads((SHIPPED / "bundle.json").read_text(encoding="utf-8"))
    data.update(blocks)
    data["about"] = {**data["about"], "name": name}
    (folder / name).mkdir()
    (folder / name / "bundle.json").write_text(json.dumps(data), encoding="utf-8")
    return folder / name


def test_the_shipped_model_says_what_it_takes() -> None:
    model = find_model("hippocampus")
    assert model == find_model(str(SHIPPED))
    assert find_model("").name == "brain"
    assert (model.folder, len(model.channels), model.calibrated) == (SHIPPED, 1, True)
    assert model.field_of_view_mm is not None
    assert all(20 < size < 100 for size in model.field_of_view_mm)
    with pytest.raises(ValueError, match="choose one of brain, hippocampus"):
        find_model("nowhere")


def test_damaged_bundles_are_left_out_and_the_first_of_a_name_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    good = _changed(first, "good")
    _changed(second, "good", calibration=None)
    other = _changed(second, "other", ood_reference=None, calibration=None)
    for number, blocks in enumerate(
        ({"heads": 3}, {"input": {}}, {"labels": [{"value": "x"}]}, {"backbone": {"a": 1}})
    ):
        folder = _changed(first, f"damaged{number}", **blocks)
        assert read_model(folder) is None
        with pytest.raises(InputError, match=rf"damaged{number}.*restore it from its source"):
            read_unchecked(folder)
    (first / "empty").mkdir()
    assert [model.folder for model in list_models([first, tmp_path / "missing", second])] == [good, other]
    assert (read_model(other).field_of_view_mm, read_model(other).calibrated) == (None, False)
    assert read_model(first / "empty") is None


def test_a_model_that_draws_nothing_is_warned_of_where_it_is_chosen(tmp_path: Path) -> None:
    quality = {"1": {"cases": 9, "present": 9, "missed": 9, "dice": 0.0}}
    calibration = json.loads((SHIPPED / "bundle.json").read_text(encoding="utf-8"))["calibration"]
    folder = _changed(tmp_path, "blind", calibration={**calibration, "quality": quality})
    found = read_model(folder)
    assert found is not None
    (warning,) = found.warnings
    assert any(warning in line for row in installed_rows([tmp_path]) for line in about_lines(row))
    assert find_model("hippocampus").warnings == ()


def test_of_one_name_the_newest_version_counts_and_of_one_version_the_first(tmp_path: Path) -> None:
    about = json.loads((SHIPPED / "bundle.json").read_text(encoding="utf-8"))["about"]
    places = {}
    for version in ("1.9.0", "1.10.0", "1.10.0+site", "1.10.0-rc1"):
        places[version] = tmp_path / version
        places[version].mkdir()
        folder = _changed(places[version], "liver")
        data = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        data["about"] = {**about, "name": "liver", "version": version}
        (folder / "bundle.json").write_text(json.dumps(data), encoding="utf-8")
    orders = (["1.9.0", "1.10.0"], ["1.10.0", "1.9.0", "1.10.0-rc1"], ["1.10.0+site", "1.10.0"])
    chosen = [list_models([places[version] for version in order])[0].version for order in orders]
    assert chosen == ["1.10.0", "1.10.0", "1.10.0+site"]


def test_the_list_needs_neither_torch_nor_jsonschema() -> None:
    code = (
        "import sys; from SegWithUSlicerLib.run.model_store import list_models; assert list_models()\n"
        "print([name for name in ('torch', 'jsonschema', 'monai') if name in sys.modules])"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, cwd=PACKAGES, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
