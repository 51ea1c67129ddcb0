"""Commands that need no network start without torch: what each loads, by running it on a real case."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT
from segwithu_command import MODEL

HEAVY = {"torch", "monai", "matplotlib", "torchvision"}
CALL = """
import sys
from SegWithUCore.cli.__main__ import main
try:
    code = main(sys.argv[2:])
except SystemExit as ended:
    code = ended.code
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write("\\n".join(sys.modules))
sys.exit(code)
"""
FIRST_WINDOW = """
import os, sys
from SegWithUCore.cli.__main__ import main
from SegWithUCore.inference.engines import openvino_engine

def ran(engine, request, inputs):
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write("\\n".join(name for name, module in sys.modules.items() if module is not None))
    os._exit(0)

openvino_engine.OpenVINOEngine._ran = ran
sys.exit(main(sys.argv[2:]))
"""
UNUSED = {
    "torch", "monai", "torchvision", "matplotlib", "pandas", "sklearn", "skimage", "scipy", "nibabel", "pydicom",
    "highdicom", "PIL", "jinja2", "requests", "tqdm", "distributed", "dask", "openvino_telemetry",
}  # fmt: skip
"""What a window needs none of: each would delay the first one."""
COMMANDS = {
    "--help": "usage:",
    "--version": "segwithu",
    "segment --help": "--roi",
    "check --help": "--images",
    "models list": "hippocampus",
    "models show hippocampus": "Dice, anterior hippocampus",
    "models verify": "hippocampus: whole",
    "worklist {cases} --output {out}": "not flagged",
    "report {case}": "report.html",
    "export {cases} --output {out}": "cases were exported to",
    "regions {case} --overwrite": "regions hold",
    "merge-reviews {copy} --into {cases}": "",
    "check {case}": "checked",
}
"""Each with words of what it prints."""


@pytest.fixture(scope="module")
def cases(segmented_cases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of three case folders, for commands that write into them."""
    return Path(shutil.copytree(segmented_cases, tmp_path_factory.mktemp("start") / "cases"))


@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs_without_loading_torch(command: str, cases: Path, tmp_path: Path) -> None:
    case = sorted(path for path in cases.iterdir() if path.is_dir())[0]
    if "{copy}" in command:
        shutil.copytree(cases, tmp_path / "copy")
    places = {"cases": cases, "case": case, "out": tmp_path / "out", "copy": tmp_path / "copy"}
    arguments = [part.format(**places) for part in command.split(" ")]
    call = [sys.executable, "-c", CALL, str(tmp_path / "modules"), *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert COMMANDS[command] in done.stdout
    loaded = {name.partition(".")[0] for name in (tmp_path / "modules").read_text(encoding="utf-8").split()}
    assert "SegWithUCore" in loaded
    assert not loaded & HEAVY


def test_at_the_first_window_nothing_is_loaded_that_it_does_not_need(tmp_path: Path) -> None:
    image = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
    arguments = ["segment", str(image), "--model", str(MODEL), "--engine", "openvino", "--roi=-28,-22,-14,36,50,36"]
    call = [
        sys.executable,
        "-c",
        FIRST_WINDOW,
        str(tmp_path / "modules"),
        *arguments,
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in (tmp_path / "modules").read_text(encoding="utf-8").split()}
    assert {"openvino", "SimpleITK", "numpy"} <= loaded
    assert not loaded & UNUSED


@pytest.mark.slow
def test_verify_loads_torch_only_when_asked_to(tmp_path: Path) -> None:
    call = [sys.executable, "-c", CALL, str(tmp_path / "modules"), "models", "verify", str(MODEL), "--load"]
    assert subprocess.run(call, capture_output=True, text=True, check=False).stdout == "hippocampus: whole\n"
    assert "torch" in (tmp_path / "modules").read_text(encoding="utf-8").split()
