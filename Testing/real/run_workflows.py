"""Go through workflows in a real 3D Slicer, and write a report with pictures.

Nobody needs to look on; Slicer ends by itself (some minutes without a graphics card; `--all` takes about half an hour):

    Slicer --no-splash --testing --python-script Testing/real/run_workflows.py --output FOLDER

FOLDER gets report.html, results.json and the pictures. Exit code: 0, all workflows passed; 1, one failed or took too
long; 2, the engine (openvino) is not installed, so that nothing could be tried. Needs a window (Xvfb will do) and no
network. The module is the one that this Slicer has, else that of the checkout. Reviews go under a name of their own;
they are removed and the settings put back.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.metadata
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import slicer

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from first_installation import first_installation  # noqa: E402
from real_looks import LOOKS  # noqa: E402
from real_more import MORE  # noqa: E402
from real_pictures import documentation_pictures  # noqa: E402
from real_report import FAILED, PASSED, SKIPPED, TIMED_OUT, Report, Result  # noqa: E402
from real_user import LICENCES, MODULE, TimeIsUpError, User, read_settings, write_settings  # noqa: E402
from real_workflows import TEN  # noqa: E402

ROOT = HERE.parents[1]
WORKFLOWS = (*TEN, *LOOKS, *MORE, documentation_pictures, first_installation)
LIMIT_S = 900.0
"""A workflow waits on a loaded computer; what does not come at all ends it."""
GRACE_S = 60.0
"""So much longer than a workflow may wait, a Slicer that does not answer at all is ended."""


def options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read what stands after the script's name; Slicer's own options are left alone."""
    parser = argparse.ArgumentParser(prog="run_workflows.py", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the report is written")
    parser.add_argument(
        "--timeout", type=float, default=LIMIT_S, metavar="S", help="seconds that a workflow may wait for one thing"
    )
    names = [workflow.__name__ for workflow in WORKFLOWS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--all", action="store_true", help="also the long ones")
    parser.add_argument("--ten", action="store_true", help="the ten things that users do, without widths and looks")
    chosen = parser.parse_known_args(list(arguments))[0]
    some = [workflow.__name__ for workflow in (TEN if chosen.ten else (*TEN, *LOOKS))]
    chosen.only = chosen.only or (names[:-2] if chosen.all else some)  # the last wants a copy of Slicer
    return chosen


def load_module() -> None:
    """Load the module from this checkout if Slicer does not have it."""
    if slicer.app.moduleManager().module(MODULE) is not None:
        return
    import qt

    path = ROOT / MODULE / f"{MODULE}.py"
    sys.path.insert(0, str(path.parent))
    factory = slicer.app.moduleManager().factoryManager()
    factory.registerModule(qt.QFileInfo(str(path)))
    factory.loadModules([MODULE])
    if slicer.app.moduleManager().module(MODULE) is None:
        raise RuntimeError(f"Slicer could not load {path}: see its log (Help > Report a bug)")


def engine_problem() -> str:
    """Say what the engine lacks and what to do, or nothing."""
    from SegWithUCore.util.paths import resource_path

    lines = resource_path("requirements.txt").read_text(encoding="utf-8").splitlines()
    names = ["openvino", *(re.split(r"[^\w.-]", line)[0] for line in lines if line and not line.startswith("#"))]
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return ""
    return (
        f"The engine is not installed in this Slicer ({', '.join(missing)} missing), so nothing was tried: open the "
        "module, press Try it and Apply and agree to the installation, or run PythonSlicer -m pip install "
        f'-r "{resource_path("requirements.txt")}" and PythonSlicer -m pip install --no-deps "openvino>=2025.2"; '
        "then run this script again."
    )


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def run_one(user: User, workflow: Callable[[User], None], result: Result) -> None:
    """Go through one workflow; whatever happens in it ends here."""
    begun = time.monotonic()
    with user.workflow(result.name) as result.seen:
        try:
            user.forget_reviews()
            user.restore()
            workflow(user)
            result.status = PASSED
        except TimeIsUpError as error:
            result.status, result.message = TIMED_OUT, str(error)
        except Exception as error:  # noqa: BLE001  (the next workflow shall run)
            result.status, result.message = FAILED, f"{type(error).__name__}: {error}"
            result.details = traceback.format_exc()
        if result.status != PASSED:
            _last_picture(user, result)
    wrong = [check.name for check in result.seen.checks if not check.passed]
    wrong += ["an exception in a slot or an observer"] * bool(result.seen.surprises)
    if wrong:
        result.status = FAILED if result.status == PASSED else result.status
        result.message = "; ".join(filter(None, [result.message, f"not so: {', '.join(wrong)}"]))
    result.seconds = time.monotonic() - begun


def _last_picture(user: User, result: Result) -> None:
    try:
        user.picture("failed")
    except Exception:  # noqa: BLE001  (the reason why it failed is what matters)
        result.details += f"\nno picture:\n{traceback.format_exc()}"


def run(folder: Path, user: User, names: Sequence[str], watch: bool = False) -> Report:
    """Go through workflows one after the other.

    Args:
        folder: where the report is written.
        user: who does it.
        names: which workflows.
        watch: end the process with a stack (hang.txt) if Slicer does not answer for long.
    """
    report = Report(_facts(), problem="" if "first_installation" in names else engine_problem())
    before = read_settings()
    slicer.app.settings().setValue(LICENCES, "hippocampus CC-BY-SA-4.0")  # nobody can be asked
    with (folder / "hang.txt").open("w", encoding="utf-8") as hang:
        for workflow in (one for one in WORKFLOWS if one.__name__ in names):
            result = Result(workflow.__name__, " ".join((workflow.__doc__ or "").split()))
            report.results.append(result)
            if report.problem:
                result.status, result.message = SKIPPED, "the engine is not installed"
                continue
            report.write(folder)
            if watch:
                user.on_alive = partial(faulthandler.dump_traceback_later, user.limit_s + GRACE_S, exit=True, file=hang)
                user.on_alive()
            run_one(user, workflow, result)
            print(f"{result.name}: {result.status} ({result.seconds:.1f} s) {result.message}", flush=True)
        user.on_alive = lambda: None
        faulthandler.cancel_dump_traceback_later()
    (folder / "hang.txt").unlink()
    if not report.problem:
        user.forget_reviews()
        write_settings(before)
    report.write(folder)
    return report


def _facts() -> dict[str, str]:
    import platform

    app = slicer.app
    return {
        "Slicer": f"{app.applicationVersion} (revision {app.revision}, {app.os})",
        "Python": platform.python_version(),
        "System": platform.platform(),
        "openvino": importlib.metadata.version("openvino") if _is_installed("openvino") else "not installed",
        "torch": importlib.metadata.version("torch") if _is_installed("torch") else "not installed",
        "Begun": time.strftime("%Y-%m-%d %H:%M:%S"),
        "Processor cores": str(os.cpu_count()),
    }


def main(arguments: Sequence[str]) -> int:
    """Do all of it; returns the exit code."""
    chosen = options(arguments)
    folder = chosen.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    load_module()
    slicer.util.selectModule(MODULE)
    report = run(folder, User(folder, chosen.timeout), chosen.only, watch=True)
    print(f"{report.message} {report.problem}\n{folder / 'report.html'}", flush=True)
    return report.exit_code


if __name__ == "__main__":
    status = 1
    try:
        status = main(sys.argv[1:])
    except SystemExit as ended:  # by argparse: after --help, or it has said what is wrong with the options
        status = 1 if ended.code else 0
    except BaseException:  # noqa: BLE001  (Slicer shall end, and not with 0)
        traceback.print_exc()
    slicer.util.exit(status)
