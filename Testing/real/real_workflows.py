"""Ten things that users do, each a function: its name, in its docstring what the user does, and checks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from real_user import User

NOT_ASSESSED = -1.0
"""What maps hold outside the region of interest."""


def click_to_overlay(user: User) -> None:
    """Segment a region of the sample head; see structures and colours where the model is unsure."""
    from SegWithUCore.case.structures_table import table_entries

    nodes = user.segment_sample()
    segments = nodes.segmentation.GetSegmentation().GetNumberOfSegments()
    user.check("a segment for each structure", segments == len(nodes.case.structures) > 0, segments)
    user.check(
        "the table has a row for each", user.find("structuresTable").rowCount == len(table_entries(nodes.case.raw))
    )
    user.check("structures have a size", all(one.volume_mm3 > 0 for one in nodes.case.structures))
    values = slicer.util.arrayFromVolume(nodes.maps["error_probability"])
    assessed = values[values != NOT_ASSESSED]
    ends = (float(assessed.min()), float(assessed.max()))
    user.check("probabilities are between 0 and 1", 0 <= ends[0] < ends[1] <= 1, ends)
    user.check("outside the region nothing is assessed", 0 < assessed.size < values.size, assessed.size)
    user.check("a map lies over the image in every slice view", _shown_map(nodes) is not None)
    kept = user.private_folders()
    user.check("the files of the one result are kept, to be saved as a case", len(kept) == 1, kept)
    user.picture("done")


def threshold(user: User) -> None:
    """Drag the threshold and the opacity; choose another map, and none."""
    nodes = user.segment_sample()
    slider = user.find("thresholdSlider")
    slider.value = slider.minimum
    user.picture("low")
    middle = 0.5 * (slider.minimum + slider.maximum)
    slider.value = middle
    slicer.app.processEvents()
    shown = _shown_map(nodes)
    lower = shown.GetDisplayNode().GetLowerThreshold() if shown is not None else None
    step = max(slider.singleStep, 1e-6)
    user.check("the map is cut at the threshold", lower is not None and abs(lower - middle) <= step, (lower, middle))
    user.find("opacitySlider").value = 0.3
    slicer.app.processEvents()
    opacities = {round(composite.GetForegroundOpacity(), 3) for composite in _composites()}
    user.check("all slice views follow the opacity", opacities == {0.3}, opacities)
    user.picture("middle")
    maps = user.find("mapBox")
    maps.currentIndex = 1
    slicer.app.processEvents()
    other = _shown_map(nodes)
    user.check("another map is shown", other is not None and other is not shown)
    maps.currentIndex = maps.count - 1
    slicer.app.processEvents()
    user.check("no map is shown", _shown_map(nodes) is None)


def review(user: User) -> None:
    """Enter a name, judge three regions, take one verdict back, comment, accept a structure, end the review."""
    user.segment_sample()
    user.start_review()
    user.find("goOnBox").checked = True
    places = [_crosshair()]
    for button in ("acceptButton", "rejectButton", "secondReaderButton"):
        user.click(button)
        places.append(_crosshair())
    user.check("each verdict leads to another place", len(set(places)) == len(places), places)
    user.picture("judged")
    user.click("undoButton")
    user.find("commentEdit").text = "said by a workflow"
    user.click("nextButton")
    user.click("acceptStructureButton")
    user.click("endReviewButton")
    events = _events(user)
    user.check("three verdicts were written", events["verdict"] == 3, dict(events))
    user.check("the undo was written", events["undo"] == 1, dict(events))
    user.check("the comment was written", events["comment"] == 1, dict(events))
    user.check("the review was closed", events["closed"] == 1, dict(events))
    user.check("the regions are put away", user.widget.panel.review.session is None)


def edit(user: User) -> None:
    """Begin a review, open the editor, paint at the first region, judge it as corrected, undo the stroke."""
    nodes = user.segment_sample()
    user.start_review()
    user.find("goOnBox").checked = False
    user.find("editButton").collapsed = False
    slicer.app.processEvents()
    found = [one for one in slicer.util.findChildren(user.find("editButton")) if hasattr(one, "mrmlSegmentEditorNode")]
    user.check("one editor is in the panel", len(found) == 1, len(found))
    editor = found[0]
    user.check("it edits the result", editor.segmentationNode() is nodes.segmentation)
    user.check("a structure is chosen", bool(editor.currentSegmentID()), editor.currentSegmentID())
    before = _voxels(nodes)
    editor.setActiveEffectByName("Paint")
    user.check("Paint is active", editor.activeEffect() is not None)
    user.stroke(editor)
    painted = _voxels(nodes)
    user.check("the stroke changed the segmentation", painted != before, (before, painted))
    user.wait("the edit to be written", lambda: _events(user)["edited"] > 0)
    user.picture("painted")
    user.click("correctButton")
    editor.undo()
    slicer.app.processEvents()
    user.check("undo takes it back", _voxels(nodes) == before, (_voxels(nodes), before))
    user.click("endReviewButton")
    user.check("no effect is left active", editor.activeEffect() is None)


def cases(user: User) -> None:
    """Segment cases with the command, open their folder, go through them one after the other, review one."""
    from SegWithUCore.util.paths import resource_path
    from SegWithUSlicerLib.run.launch import worker_start

    folder = user.folder / "cases"
    start = worker_start()
    head = resource_path("SampleData/MNI152_T1_1mm.nii.gz")
    for name, right_mm in (("left", -28), ("right", 28)):
        words = ["segment", head, f"--roi={right_mm},-22,-14,36,50,36", "--model", "hippocampus", "--name", name]
        command = [start.command[0], "-m", "SegWithUCore.cli", *map(str, words), "--output", str(folder)]
        with (user.folder / "cases.log").open("ab") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            process = subprocess.Popen(command, env=start.environment, **streams, **start.options)
            _wait_for_command(user, process)
    found = sorted(path.parent.name for path in folder.glob("*/case.json"))
    user.check("the command segmented several cases (cases.log)", len(found) > 1, found)
    user.find("casesButton").collapsed = False
    # What the button does after its dialog, which nobody answers here.
    user.widget.panel.cases.open_list(folder)
    # Worse cases are listed above those that were read before them, so the order is known when all are read.
    user.wait("the list", lambda: user.find("casesTable").rowCount > 0 and user.find("readingBar").value == 100)
    rows = user.find("casesTable").rowCount
    opened: list[str] = []
    for _row in range(rows):
        user.click("nextCaseButton")
        user.wait("the case", lambda: len(user.runs) == 1 and _open_folder(user) not in ["", *opened])
        opened.append(_open_folder(user))
    user.check("all cases were opened, one at a time", len(set(opened)) == rows == len(found), (rows, opened))
    user.check("the last one is shown over its image", _shown_map(user.runs[-1]) is not None)
    user.check("no case is below the last", not user.find("nextCaseButton").enabled)
    user.start_review()
    user.find("editButton").collapsed = False
    slicer.app.processEvents()
    editor = next(
        one for one in slicer.util.findChildren(user.find("editButton")) if hasattr(one, "mrmlSegmentEditorNode")
    )
    editor.setActiveEffectByName("Paint")
    user.stroke(editor)
    log_file = Path(opened[-1]) / f"review.{user.reviewer}.jsonl"
    user.wait("the edit to be written", lambda: log_file.is_file() and '"edited"' in log_file.read_text("utf-8"))
    session = user.widget.panel.review.session
    for _act in range(3 * len(session.regions)):
        is_open = session.current is not None and session.state.is_open(session.current)
        if not session.core.is_done:
            user.click("acceptButton" if is_open else "finishButton")
    user.check("all structures are finished, and the blind sample is judged", session.core.is_done)
    user.picture("last-case")
    user.click("endReviewButton")
    said = str(user.find("reviewNoteLabel").text)
    user.check("the end says that the case can teach", "Cases" in said and opened[-1] in said, said)
    user.picture("corrected")
    logs = list(Path(opened[-1]).glob(f"review.{user.reviewer}.jsonl"))
    user.check("the review lies in the case folder", len(logs) == 1, logs)


def save_and_load(user: User) -> None:
    """Set map and threshold, save the scene, close it, load it again: everything is as it was."""
    nodes = user.segment_sample()
    user.find("mapBox").currentIndex = 1
    slider = user.find("thresholdSlider")
    slider.value = 0.5 * (slider.minimum + slider.maximum)
    user.find("opacitySlider").value = 0.45
    slicer.app.processEvents()
    before = (_voxels(nodes), user.find("structuresTable").rowCount, user.find("mapBox").currentIndex)
    at = slider.value
    path = user.folder / "scene.mrb"
    user.check("the scene is saved", slicer.util.saveScene(str(path)) and path.is_file())
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    user.check("the panel is empty", user.find("structuresTable").rowCount == 0 and not user.runs)
    slicer.util.loadScene(str(path))
    slicer.app.processEvents()
    user.check("the result is there once", len(user.runs) == 1, len(user.runs))
    loaded = user.runs[-1]
    after = (_voxels(loaded), user.find("structuresTable").rowCount, user.find("mapBox").currentIndex)
    user.check("structures, table and map are as they were", after == before, (before, after))
    again = user.find("thresholdSlider")
    user.check("the threshold is as it was", abs(again.value - at) <= max(again.singleStep, 1e-6), (at, again.value))
    user.check("the map lies over its image", _shown_map(loaded) is not None)
    user.picture("loaded")


def cancel(user: User) -> None:
    """Begin a run and press Apply again while it computes: nothing is left behind."""
    user.choose_sample()
    user.click("runButton")
    pid = user.until_computing()
    user.picture("running")
    user.click("runButton")
    user.wait("the run to be given up", lambda: not user.session.controller.is_busy)
    user.check("the run was cancelled", user.outcome == "cancelled", user.outcome)
    _check_nothing_is_left(user, pid)
    user.check("another run can be started", user.find("runButton").enabled)


def crash(user: User) -> None:
    """Lose the worker in mid-run: the panel says so, the diagnostics can be copied, the next run works."""
    import qt

    for _ in range(3):  # on a loaded computer a run of a second may end before it is killed
        slicer.mrmlScene.Clear(0)
        user.choose_sample()
        user.click("runButton")
        pid = user.until_computing()
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        user.wait("the crash to be noticed", lambda: not user.session.controller.is_busy)
        if user.outcome != "done":
            break
    user.check("the run failed", user.outcome == "failed", user.outcome)
    user.check("the panel says so", bool(user.find("statusLabel").text), user.find("statusLabel").text)
    _check_nothing_is_left(user, pid)
    user.find("logButton").collapsed = False
    user.click("copyButton")
    copied = qt.QApplication.clipboard().text()
    user.check("the diagnostics tell of the crash", user.session.controller.status.message in copied)
    user.picture("crashed")
    user.click("runButton")
    user.finish()
    user.check("the next run works", len(user.runs) == 1, len(user.runs))


def reload(user: User) -> None:
    """Press Reload in a review: the new panel shows the result, goes on with the review, and segments again."""
    nodes = user.segment_sample()
    pid, panel = user.session.worker.pid, user.widget.panel
    hub, rows = nodes.hub.GetID(), user.find("structuresTable").rowCount
    user.start_review()
    user.click("rejectButton")
    user.widget.onReload()
    slicer.app.processEvents()
    user.check("the panel is another one", user.widget.panel is not panel)
    user.check("the old panel's review is closed", (panel.review.session, _events(user)["closed"]) == (None, 1))
    user.start_review()
    decided = user.review.session.state.progress().decided
    user.check("the review goes on where it stopped", decided == 1, decided)
    user.click("endReviewButton")
    user.check("the old worker is gone", not _is_alive(pid), pid)
    user.check("the result is still there", [one.hub.GetID() for one in user.runs] == [hub])
    user.check("the new panel shows it", user.find("structuresTable").rowCount == rows > 0)
    user.picture("reloaded")
    user.click("runButton")
    user.finish()
    user.check("the reviewed result is kept beside the new one", len(user.runs) == 2, len(user.runs))


def close_scene(user: User) -> None:
    """Close the scene in mid-run, then in mid-review: both end, nothing is left, and one can begin again."""
    user.choose_sample()
    user.click("runButton")
    pid = user.until_computing()
    slicer.mrmlScene.Clear(0)
    user.wait("the run to be given up", lambda: not user.session.controller.is_busy)
    user.check("the run was cancelled", user.outcome == "cancelled", user.outcome)
    _check_nothing_is_left(user, pid)
    user.segment_sample()
    user.start_review()
    user.click("acceptButton")
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    user.check("the review is closed", user.widget.panel.review.session is None)
    events = _events(user)
    user.check("its verdict was kept", (events["verdict"], events["closed"]) == (1, 1), dict(events))
    user.check("the table of structures is empty", user.find("structuresTable").rowCount == 0)
    user.picture("closed")
    user.click("tryItButton")
    user.check("one can begin again", user.find("runButton").enabled)


TEN: tuple[Callable[[User], None], ...] = (
    click_to_overlay,
    threshold,
    review,
    edit,
    cases,
    save_and_load,
    cancel,
    crash,
    reload,
    close_scene,
)


def _wait_for_command(user: User, process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a command; it is ended if that takes too long."""
    from SegWithUSlicerLib.run.launch import end_process_tree

    try:
        user.wait("the command to segment", lambda: process.poll() is not None)
    finally:
        if process.poll() is None:
            end_process_tree(process, None)


def _composites() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _shown_map(nodes: Any) -> Any:
    """The map of a run that lies over an image in every slice view, or None."""
    ids = {composite.GetForegroundVolumeID() for composite in _composites()}
    return next((volume for volume in nodes.maps.values() if ids == {volume.GetID()}), None)


def _crosshair() -> tuple[float, ...]:
    return tuple(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode").GetCrosshairRAS())


def _voxels(nodes: Any) -> list[int]:
    """How many voxels each segment has."""
    node = nodes.segmentation
    segmentation = node.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(number) for number in range(segmentation.GetNumberOfSegments())]
    return [int((slicer.util.arrayFromSegmentBinaryLabelmap(node, one, nodes.inputs[0]) > 0).sum()) for one in ids]


def _events(user: User) -> Counter[str]:
    """What the log of the review tells, by kind."""
    return Counter(json.loads(line)["event"] for line in user.review_log().splitlines())


def _open_folder(user: User) -> str:
    """The folder of the case that is shown, or nothing."""
    runs = user.runs
    return str(runs[-1].case_folder or "") if runs else ""


def _is_alive(pid: int) -> bool:
    """Whether a process is there, and not only waiting to be collected."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    if not Path("/proc/self/stat").is_file():
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:  # it ended just now
        return False


def _check_nothing_is_left(user: User, pid: int) -> None:
    user.check("its process is gone", not _is_alive(pid), pid)
    user.check("no file of the image is left", not user.private_folders(), user.private_folders())
    user.check("no result is in the scene", not user.runs, len(user.runs))
