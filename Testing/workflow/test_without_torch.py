"""What works where neither torch, MONAI nor scikit-learn is installed: all but training."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from judged_balls import table_of, write_case
from onnx_files import write_cases, write_network
from repository import ROOT

pytestmark = pytest.mark.slow
ABSENT = ("torch", "monai", "functorch", "torchgen", "sklearn")
LIGHT = (
    "segwithu",
    "segwithu._case",
    "segwithu._functions",
    "SegWithUCore.api",
    "SegWithUCore.cli.__main__",
    "SegWithUCore.cohort.workers",
    "SegWithUCore.inference.segment",
    "SegWithUCore.inference.engines.openvino_engine",
    "SegWithULab.evaluation.evaluate",
    "SegWithULab.evaluation.report",
    "SegWithUCore.export.case_export",
    "SegWithUCore.export.dicom",
    "SegWithUCore.models.model_card",
    "SegWithUCore.models.registry",
    "SegWithUCore.models.bundle_files",
    "SegWithUCore.regions.find_regions",
    "SegWithUCore.report.case_report",
    "SegWithULab.calibration.bundles",
    "SegWithULab.calibration.fit",
    "SegWithULab.calibration.fit_judge",
    "SegWithUCore.worker.check",
    "SegWithUCore.worker.jobs",
)
"""Modules of commands that need no torch."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to all installed packages but torch and MONAI."""
    folder = tmp_path_factory.mktemp("packages")
    for place in (Path(entry) for entry in sys.path if "site-packages" in entry):
        for path in place.iterdir() if place.is_dir() else ():
            name = path.name.partition("-")[0].partition(".")[0]
            if name not in ABSENT and path.suffix != ".pth" and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return folder


def light(
    packages: Path, *arguments: str | Path, cwd: Path, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with those packages alone: no site, no user's packages."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SEGWITHU", "PYTHON"))}
    variables |= {
        "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT / "SegWithUSlicer")]),
        "HOME": str(cwd),
        **(more or {}),
    }
    call = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(call, cwd=cwd, env=variables, capture_output=True, text=True, encoding="utf-8", check=False)


def segwithu(packages: Path, *arguments: str | Path, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    done = light(packages, "-m", "SegWithUCore.cli", *arguments, cwd=cwd, more=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_no_torch_here(packages: Path, tmp_path: Path) -> None:
    for name in ABSENT[:2]:
        assert f"No module named '{name}'" in light(packages, "-c", f"import {name}", cwd=tmp_path).stderr


def test_modules_of_light_commands_import(packages: Path, tmp_path: Path) -> None:
    lines: Sequence[str] = [f"import {module}" for module in LIGHT]
    done = light(packages, "-c", "\n".join(lines), cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_demo_and_what_follows_a_case(packages: Path, tmp_path: Path) -> None:
    segwithu(packages, "demo", "--output", "demo", cwd=tmp_path)
    assert (tmp_path / "demo" / "brain" / "preview.png").is_file()
    case = json.loads((tmp_path / "demo" / "brain" / "case.json").read_text(encoding="utf-8"))
    assert case["engine"]["name"] == "openvino"
    assert not (tmp_path / "intel").exists(), "telemetry wrote its files"
    segwithu(packages, "report", "demo/brain", cwd=tmp_path)
    assert "regions hold" in segwithu(packages, "regions", "demo/brain", "--overwrite", cwd=tmp_path)
    segwithu(packages, "export", "demo/brain", "--output", "sent", cwd=tmp_path)
    segwithu(packages, "export", "demo/brain", "--anonymous", "--output", "anonymous", cwd=tmp_path)
    assert (tmp_path / "sent" / "brain").is_dir()
    segwithu(packages, "models", "verify", "hippocampus", cwd=tmp_path)


SEEN = "--allow-seen-cases"
"""The model was trained with the cases of the checkout."""


@pytest.fixture
def labelled(tmp_path: Path, data_folder: Path) -> Path:
    """A split table of few cases, beside their images and labels."""
    for folder in ("images", "labels"):
        (tmp_path / folder).symlink_to(data_folder / "hippocampus" / folder)
    roles = {"319": "test", "075": "calibration", "197": "calibration", "251": "calibration"}
    lines = ["case,role", *(f"hippocampus_{number},{role}" for number, role in roles.items())]
    (tmp_path / "split.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "split.csv"


def test_a_network_from_onnx_is_imported_calibrated_and_run(packages: Path, tmp_path: Path) -> None:
    write_cases(tmp_path)
    models = {"SEGWITHU_MODELS": str(tmp_path / "models")}
    for words in (
        ("models", "import", write_network(tmp_path)),
        ("calibrate", "--model", "bright", "--cases", "cases.csv:calibration", "--output", "calibrated"),
        ("segment", "image.nii.gz", "--model", "calibrated", "--output", "results"),
    ):
        segwithu(packages, *words, cwd=tmp_path, variables=models)
    assert (tmp_path / "results" / "image" / "error_probability.nii.gz").is_file()


def test_evaluation(packages: Path, tmp_path: Path, labelled: Path) -> None:
    options = ("--model", "hippocampus", "--cases", f"{labelled}:test", "--output", tmp_path / "metrics.json")
    segwithu(packages, "evaluate", *options, SEEN, cwd=tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["cases"] == 1


def test_calibrating_a_model_on_own_cases(packages: Path, tmp_path: Path, labelled: Path) -> None:
    options = ("--model", "hippocampus", "--add", f"{labelled}:calibration", "--output", tmp_path / "Mine")
    said = segwithu(packages, "calibrate", *options, SEEN, cwd=tmp_path)
    assert "Error probability: " in said and "on 3 patients" in said
    said = segwithu(packages, "check-calibration", *options[:2], "--cases", f"{labelled}:test", SEEN, cwd=tmp_path)
    assert "No verdict" in said


def test_a_judge_of_masks_is_fitted_and_used(packages: Path, tmp_path: Path) -> None:
    rows = [write_case(tmp_path, number) for number in range(3)]
    table = table_of(rows, tmp_path / "table.csv")
    fit = ("fit-judge", table, "-o", tmp_path / "m", "--threads", "1")
    judge = ("judge", *rows[0][:2], "-m", tmp_path / "m", "-o", tmp_path / "out", "--threads", "1")
    for call in (fit, judge):
        done = light(packages, "-m", "SegWithUCore.cli", *call, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "image_0" / "error_probability.nii.gz").is_file()


def test_what_needs_torch_is_one_sentence(packages: Path, tmp_path: Path) -> None:
    image = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
    paper = ["segment", str(image), "--model", "hippocampus", "--head", "paper", "--output", "out"]
    compiling = ["models", "compile", "hippocampus"]
    for call, words in ((paper, ".[torch]"), (compiling, ".[train]")):
        done = light(packages, "-m", "SegWithUCore.cli", *call, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_training_says_what_it_lacks(packages: Path, tmp_path: Path) -> None:
    done = light(packages, "-m", "SegWithUCore.cli", "import-checkpoint", "--help", cwd=tmp_path)
    assert done.returncode == 0
    code = "from SegWithUCore.util.failures import failure_message\n"
    code += "try:\n    import SegWithULab.training.head\n"
    code += "except ImportError as error:\n    print(failure_message(error))"
    assert 'pip install ".[train]"' in light(packages, "-c", code, cwd=tmp_path).stdout
