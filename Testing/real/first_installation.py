"""The first installation, as a user has it: in a copy of Slicer without the engine, from a folder of wheels.

    python Testing/real/first_installation.py --slicer /path/to/Slicer --wheels FOLDER --output FOLDER

The copy is made under the output folder, and removed at the end; the given Slicer is not touched. The wheels are those
that `pip download -r Resources/requirements.txt` and `pip download --no-deps openvino` bring for Slicer's Python; the
network is closed to pip. The report is that of `run_workflows.py`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WHEELS = "SEGWITHU_TEST_WHEELS"
"""The environment variable that names the folder of wheels to the workflow."""
OF_SLICER = ("packaging",)
"""Of what the engine needs, what every Slicer has: its own `slicer.packaging` imports it."""
KEPT = ("numpy", "scipy", "SimpleITK", "vtk", "requests")
NO_NETWORK = {
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_RETRIES": "0",
    "PIP_CONFIG_FILE": os.devnull,
}
LIMIT_S = 900.0


def needed() -> list[str]:
    """Return the packages of a first installation."""
    lines = (ROOT / "Resources" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = ["openvino", *(re.split(r"[^\w.-]", line)[0] for line in lines if line and not line.startswith("#"))]
    return [name for name in names if name not in OF_SLICER]


def missing() -> list[str]:
    """Return which of them this Python lacks."""
    found = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    return [name for name in needed() if name.lower() not in found]


def first_installation(user: Any) -> None:
    """Press Try it and Apply in a new Slicer; decline the installation, then agree, and see the result."""
    import slicer

    asked: list[str] = []
    answer = [False]

    def confirm(text: str, *_: Any, **__: Any) -> bool:
        asked.append(text)
        return answer[0]

    before = {name: importlib.metadata.version(name) for name in KEPT}
    lacking = missing()
    user.check("this Slicer lacks the engine", "openvino" in lacking, lacking)
    user.find("wheelsEdit").currentPath = os.environ[WHEELS]
    slicer.util.confirmOkCancelDisplay = confirm
    user.click("tryItButton")
    user.click("runButton")
    user.wait("the question", lambda: asked and not user.session.controller.is_busy)
    user.check("the question names what is installed", all(name in asked[0] for name in lacking), asked[0])
    user.check("a declined installation changes nothing", missing() == lacking, missing())
    user.check("and ends the run without a result", not user.runs and user.outcome != "done", user.outcome)
    user.picture("declined")
    answer[0] = True
    user.click("runButton")
    nodes = user.finish()
    user.check("it asked again", len(asked) == 2, len(asked))
    user.check("nothing is missing", not missing(), missing())
    after = {name: importlib.metadata.version(name) for name in KEPT}
    user.check("the packages that Slicer ships are as before", after == before, (before, after))
    segments = nodes.segmentation.GetSegmentation().GetNumberOfSegments()
    user.check("all structures are there", segments == len(nodes.case.structures), segments)
    kept = user.private_folders()
    user.check("the files of the one result are kept, to be saved as a case", len(kept) == 1, kept)
    user.picture("done")
    user.click("runButton")
    user.finish()
    user.check("the next run does not ask", len(asked) == 2, len(asked))


def launch(slicer: Path, *arguments: str | Path, **environment: str) -> int:
    """Run Slicer without the network for pip; returns its exit code."""
    command = [slicer, "--no-splash", "--testing", *arguments]
    return subprocess.run(
        command, env={**os.environ, **NO_NETWORK, **environment}, timeout=LIMIT_S, check=False
    ).returncode


def main() -> int:
    """Copy Slicer, take away what it need not have, go through the workflow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slicer", type=Path, required=True, metavar="FILE", help="the program that starts Slicer")
    parser.add_argument("--wheels", type=Path, required=True, metavar="FOLDER", help="wheels for Slicer's Python")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the report is written")
    options = parser.parse_args()
    if not any(options.wheels.glob("*.whl")):
        parser.error(f"{options.wheels} holds no wheels: pip download -r {ROOT / 'Resources' / 'requirements.txt'}")
    options.output.mkdir(parents=True, exist_ok=True)
    copy = options.output / "Slicer"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(options.slicer.resolve().parent, copy, symlinks=True)
    try:
        slicer = copy / options.slicer.name
        code = f"import slicer; slicer.util.pip_uninstall({needed()!r}); slicer.util.exit(0)"
        if launch(slicer, "--python-code", code) != 0:
            raise SystemExit("The packages could not be removed from the copy of Slicer.")
        return launch(
            slicer,
            *("--additional-module-paths", ROOT / "SegWithUSlicer"),
            *("--python-script", HERE / "run_workflows.py"),
            *("--only", "first_installation", "--output", options.output.resolve(), "--timeout", str(LIMIT_S)),
            **{WHEELS: str(options.wheels.resolve())},
        )
    finally:
        shutil.rmtree(copy, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
