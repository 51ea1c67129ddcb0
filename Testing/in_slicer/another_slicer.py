"""Another Slicer, which dies or quits in the middle of work; a test starts it and looks at what is left.

Run as the script of that Slicer. SEGWITHU_TOLD is its task as JSON: `how` ("die" or "quit"), `scene` to review, `cases`
to export, `folder` for the export, and `seen`, the file that says what this Slicer had done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path(os.environ["SEGWITHU_HERE"])
DEAD = 3
LIMIT_S = 200


def work(how: str, folder: Path, **task: str) -> tuple[int, dict[str, Any]]:
    """Let another Slicer do a task, with settings of its own in a folder; its exit code and what it had done."""
    import slicer

    launcher = Path(slicer.app.launcherExecutableFilePath)
    program = launcher if launcher.is_file() else Path(slicer.app.applicationFilePath())
    told = {"how": how, "folder": str(folder), "seen": str(folder / "seen.json"), **task}
    surroundings = {"XDG_CONFIG_HOME": str(folder / "settings"), "SEGWITHU_TOLD": json.dumps(told)}
    done = subprocess.run(
        [
            *(str(program), "--no-splash", "--testing", "--python-script", str(HERE / "another_slicer.py")),
            *("--additional-module-paths", str(HERE.parents[1] / "SegWithUSlicer")),
        ],
        env={**os.environ, **surroundings, "SEGWITHU_HERE": str(HERE)},
        stdout=subprocess.DEVNULL,
        timeout=LIMIT_S,
        check=False,
    )
    return done.returncode, json.loads((folder / "seen.json").read_text(encoding="utf-8"))


def labels_checksum(reviewing: Any) -> int:
    """Of the label of every voxel: an edit may move voxels between structures, which no count of voxels tells."""
    from SegWithUSlicerLib.review.edits import read_labels

    return zlib.crc32(read_labels(reviewing.nodes).tobytes())


def die(reviewing: Any, _told: dict[str, str]) -> dict[str, Any]:
    """Judge and draw; half of a comment is typed."""
    for verdict in ("accepted", "rejected", "second"):
        reviewing.judge(verdict)
    reviewing.paint_region()
    reviewing.app.wait(lambda: any(reviewing.folder().glob("*/segmentation_reviewed.Ana.seg.nrrd")), 60)
    reviewing.ui.commentEdit.text = "half written"
    return {"at": reviewing.session.current.id, "labels": labels_checksum(reviewing)}


def quit_busy(reviewing: Any, told: dict[str, str]) -> dict[str, Any]:
    """Comment in a review, export cases and segment, all at once."""
    from opened_module import hold

    reviewing.judge()
    reviewing.ui.commentEdit.text = "last words"
    panel = reviewing.opened.panel
    panel.inputs.choose(reviewing.nodes.inputs[0], None, "hippocampus")
    pids = [reviewing.opened.begin_run(is_held=True)]
    panel.cases.open_list(Path(told["cases"]))
    folders = sorted(path.parent for path in Path(told["cases"]).glob("*/case.json"))
    exports = panel.cases.exports
    exports.export(folders, Path(told["folder"]) / "out")
    pids.append(hold(exports.process, lambda: reviewing.ui.exportBar.value >= 1))
    files = [str(path) for path in reviewing.opened.private_folders()]
    return {"pids": pids, "private": files}


def main(told: dict[str, str]) -> None:
    """Do the task."""
    sys.path[:0] = [str(HERE), *(str(HERE.parent / name) for name in ("helpers", "real"))]
    import slicer
    from opened_module import Opened
    from real_slicer import RealSlicer
    from reviewing import Reviewing

    (Path(told["folder"]) / "out").mkdir(exist_ok=True)
    with RealSlicer(Path(told["folder"])).running() as app:
        app.load_scene(Path(told["scene"]))
        reviewing = Reviewing(Opened(app))
        reviewing.start("Ana")
        done = (die if told["how"] == "die" else quit_busy)(reviewing, told)
        done["reviews"] = str(reviewing.folder())
        Path(told["seen"]).write_text(json.dumps(done), encoding="utf-8")
        if told["how"] == "die":
            os._exit(DEAD)
        slicer.util.exit(0)


if __name__ == "__main__" and "SEGWITHU_TOLD" in os.environ:
    main(json.loads(os.environ["SEGWITHU_TOLD"]))
