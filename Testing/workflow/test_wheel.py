"""The wheel brings all that the command needs: it is built here, unpacked elsewhere and used in an empty folder."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
RESOURCES = "SegWithUCore/Resources/"
BACKEND = "hatchling"


def run_python(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a Python process prints; its complaints, where it fails."""
    call = [sys.executable, *map(str, arguments)]
    done = subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without the network."""
    for needed in (BACKEND, "pip"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"building a wheel needs {needed}, which is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run_python("-m", "pip", "wheel", *options, "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("segwithu-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was installed into; what it depends on is not."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run_python("-m", "pip", "install", *options, "--target", folder, wheel, cwd=folder)
    return folder


def run_installed(installed: Path, folder: Path, *arguments: str) -> str:
    """What Python prints in `folder` when it finds the installed wheel before any checkout."""
    variables = {**os.environ, "PYTHONPATH": str(installed), "HOME": str(folder), "PYTHONUTF8": "1"}
    variables.pop("SEGWITHU_MODELS", None)
    return run_python(*arguments, cwd=folder, env=variables)


def test_wheel_holds_models_sample_recipes_and_schemas(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("Models", "Recipes", "SampleData"):
        wanted = [path for path in (ROOT / "Resources" / folder).rglob("*") if path.is_file()]
        assert {RESOURCES + path.relative_to(ROOT / "Resources").as_posix() for path in wanted} <= names
    module = ROOT / "SegWithUSlicer"
    kinds = (".py", ".pyi", ".typed", ".json", ".html", ".css")
    sources = [path for part in ("segwithu", "SegWithUCore", "SegWithULab") for path in (module / part).rglob("*")]
    wanted = {path.relative_to(module).as_posix() for path in sources if path.suffix in kinds}
    assert {"segwithu/py.typed", "segwithu/__init__.pyi", "SegWithUCore/case/case.schema.json"} <= wanted <= names


def test_wheel_holds_nothing_but_the_engine(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"SegWithUCore", "SegWithULab", "segwithu"}
    assert not [name for name in names if name.endswith((".pyc", ".ui")) or "/Screenshots/" in name]
    licences = {name.split("/licenses/")[1] for name in names if "/licenses/" in name}
    assert {
        "LICENSE.txt",
        "Resources/Models/brain/LICENSE.txt",
        "Resources/Models/hippocampus/LICENSE.txt",
        "Resources/SampleData/NOTICE.txt",
    } <= licences


def test_installed_wheel_lists_its_own_model_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = "import segwithu; print(segwithu.__file__); print(segwithu.read_case, segwithu.__version__)"
    where = run_installed(installed, tmp_path, "-c", code).splitlines()[0]
    assert Path(where).is_relative_to(installed)
    assert "hippocampus" in run_installed(installed, tmp_path, "-m", "SegWithUCore.cli", "models", "list")


def test_installed_wheel_verifies_its_own_model(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed, tmp_path, "-m", "SegWithUCore.cli", "models", "verify", "hippocampus", "--load")
    assert "hippocampus: whole" in shown


def test_installed_wheel_runs_the_demo_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    run_installed(installed, tmp_path, "-m", "SegWithUCore.cli", "demo", "--output", "x")
    assert (tmp_path / "x" / "brain" / "preview.png").is_file()
    assert (tmp_path / "x" / "brain" / "case.json").is_file()
