"""Longer workflows, run by `--all`: see `real_workflows`."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk
from real_user import MODULE, User
from real_workflows import _crosshair, _events, _shown_map, _voxels

ACTIONS = 200
SEED = int(os.environ.get("SEGWITHU_SEED", "1"))


def transform(user: User) -> None:
    """Segment a volume under a transform: the results lie under it, a review goes to the place, and they follow."""
    from SegWithUSlicerLib.scene.review_nodes import world_of

    user.choose_sample()
    volume, roi = user.widget.panel.inputs.volumes[0], user.find("roiSelector").currentNode()
    moved, matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved"), vtk.vtkTransform()
    matrix.Translate(30, -20, 10)
    matrix.RotateZ(20)
    moved.SetMatrixTransformToParent(matrix.GetMatrix())
    for node in (volume, roi):
        node.SetAndObserveTransformNodeID(moved.GetID())
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    user.click("runButton")
    nodes = user.finish()
    under = {node.GetTransformNodeID() for node in nodes.spatial}
    user.check("all results lie under the transform", under == {moved.GetID()}, under)
    segmentation = nodes.segmentation.GetSegmentation().GetNumberOfSegments()
    user.check("structures were found", segmentation > 0 and min(_voxels(nodes)) > 100, _voxels(nodes))
    user.start_review()
    wanted = world_of(nodes, user.review.session.current.peak_ras_mm)
    away = max(abs(a - b) for a, b in zip(wanted, _crosshair(), strict=True))
    user.check("the crosshair is at the region", away < 1e-3, away)
    user.picture("moved")
    user.click("acceptButton")
    user.click("endReviewButton")
    volume.SetAndObserveTransformNodeID(None)
    slicer.app.processEvents()
    user.check("the results follow the image", not any(node.GetTransformNodeID() for node in nodes.spatial))


def _work_on(nodes: Any) -> None:
    """Rename a segment, so that the next run leaves this result alone."""
    segment = nodes.segmentation.GetSegmentation().GetNthSegment(0)
    segment.SetName(f"{segment.GetName()} (mine)")


def two_results(user: User) -> None:
    """Segment the same image twice into two results: either is shown, reviewed and deleted without the other."""
    first = user.segment_sample()
    _work_on(first)
    user.click("runButton")
    second = user.finish()
    user.check("there are two results", len(user.runs) == 2 and first.hub is not second.hub, len(user.runs))
    box = user.find("resultBox")
    user.check("both are offered", box.visible and box.count == 2, box.count)
    for index, nodes in ((0, first), (1, second), (0, first)):
        box.currentIndex = index
        slicer.app.processEvents()
        user.check(f"result {index} is shown", _shown_map(nodes) is not None)
    user.start_review()
    user.click("acceptButton")
    user.click("endReviewButton")
    slicer.mrmlScene.RemoveNode(first.hub)
    slicer.app.processEvents()
    user.check("the other one is left", [one.hub for one in user.runs] == [second.hub])
    user.find("mapBox").currentIndex = 0
    slicer.app.processEvents()
    user.picture("two")


def saved_cases(user: User) -> None:
    """Save a scene of three results with a review begun, load it, and go on with the review."""
    user.segment_sample()
    for _more in range(2):
        _work_on(user.runs[-1])
        user.click("runButton")
        user.finish()
    user.find("resultBox").currentIndex = 1
    slicer.app.processEvents()
    user.start_review()
    user.click("acceptButton")
    path = user.folder / "three.mrb"
    user.check("the scene is saved", slicer.util.saveScene(str(path)) and path.is_file())
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    slicer.util.loadScene(str(path))
    slicer.app.processEvents()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    user.check("nothing is left of the mark of the region", not hierarchy.GetItemByName("Region"))
    user.check("three results are back", len(user.runs) == user.find("resultBox").count == 3, len(user.runs))
    user.find("resultBox").currentIndex = 1
    slicer.app.processEvents()
    user.start_review()
    decided = user.review.session.state.progress().decided
    user.check("the review goes on where it stopped", decided == 1, decided)
    user.picture("loaded")
    user.click("endReviewButton")


def worker_fails_in_review(user: User) -> None:
    """Lose the worker of another run in the middle of a review: the review goes on, and nothing of it is lost."""
    user.segment_sample()
    user.start_review()
    user.click("acceptButton")
    user.click("runButton")
    pid = user.until_computing()
    user.click("rejectButton")
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    user.wait("the crash to be noticed", lambda: not user.session.controller.is_busy)
    user.check("the run failed", user.outcome == "failed", user.outcome)
    user.check("the review is still open", user.review.session is not None)
    user.click("acceptButton")
    user.click("endReviewButton")
    events = _events(user)
    user.check("all verdicts were written", (events["verdict"], events["closed"]) == (3, 1), dict(events))
    user.click("runButton")
    user.finish()
    user.check("the next run works", len(user.runs) == 2, len(user.runs))


def random_actions(user: User) -> None:
    """Do 200 random things (seeded): the scene is whole after them, and the panel usable."""
    chance, done = random.Random(SEED), Counter[str]()
    names = sorted(_actions(user))
    user.segment_sample()
    user.find("reviewerEdit").text = user.reviewer
    actions = _actions(user)
    for _number in range(ACTIONS):
        if not user.runs and not user.session.controller.is_busy:
            user.segment_sample()  # it was deleted, or the scene closed
        name = next(name for name in chance.sample(names, len(names)) if actions[name](chance))
        done[name] += 1
        user.pause(0.02)
    print(f"seed {SEED}: {dict(done)}", flush=True)
    if user.session.controller.is_busy:
        user.wait("the run to end", lambda: not user.session.controller.is_busy)
    for nodes in user.runs:
        user.check("each result has its case", bool(nodes.case.structures))
        parts = [node for node in (nodes.segmentation, *nodes.maps.values()) if node is not None]
        user.check("its nodes are in the scene", all(node.GetScene() is slicer.mrmlScene for node in parts))
    shown = {
        composite.GetForegroundVolumeID() for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    }
    user.check(
        "views show nodes that exist", all(one is None or slicer.mrmlScene.GetNodeByID(one) for one in shown), shown
    )
    user.check("many different things were done", len(done) > len(names) / 2, dict(done))
    user.picture("after")
    if user.review.session is not None:
        user.click("endReviewButton")
    user.restore()
    slicer.app.settings().remove("SegWithU/Asked")
    user.check("one can begin again", _shown_map(user.segment_sample()) is not None)


def _actions(user: User) -> dict[str, Callable[[random.Random], Any]]:
    """Things that users do, by name; each returns whether it could be done."""

    def press(name: str) -> Callable[[random.Random], bool]:
        def action(_chance: random.Random) -> bool:
            button = user.find(name)
            if button.enabled and button.visible:
                button.click()
                return True
            return False

        return action

    def slide(name: str) -> Callable[[random.Random], bool]:
        def action(chance: random.Random) -> bool:
            slider = user.find(name)
            slider.value = chance.uniform(slider.minimum, slider.maximum)
            return bool(slider.enabled)

        return action

    def choose(name: str) -> Callable[[random.Random], bool]:
        def action(chance: random.Random) -> bool:
            box = user.find(name)
            if box.count and box.enabled:
                box.currentIndex = chance.randrange(box.count)
            return bool(box.count)

        return action

    def switch(name: str, of: str = "checked") -> Callable[[random.Random], bool]:
        def action(chance: random.Random) -> bool:
            box = user.find(name)
            if not box.visible or chance.random() < 0.5:  # else nothing else would be done
                return False
            setattr(box, of, not getattr(box, of))
            return True

        return action

    def remove(chance: random.Random) -> bool:
        nodes = [node for run in user.runs for node in run.results]
        if nodes and chance.random() < 0.2:
            slicer.mrmlScene.RemoveNode(chance.choice(nodes))
            return True
        return False

    def ask(chance: random.Random) -> bool:
        """Tick a structure, or go to it, or look for its regions."""
        table = user.find("structuresTable")
        row = chance.randrange(2)
        if row >= table.rowCount or not user.runs:
            return False
        tick = table.item(row, 0)
        way = chance.randrange(3)
        if way == 0:
            tick.setCheckState(0 if tick.checkState() else 2)
        elif way == 1:
            table.cellClicked(row, 1)
        else:
            user.find("regionFilterEdit").text = chance.choice(("", "anterior", "boundary", "nothing has this"))
        return True

    def other_module(_chance: random.Random) -> bool:
        slicer.util.selectModule("Data")
        slicer.app.processEvents()
        slicer.util.selectModule(MODULE)
        return True

    presses = (
        "tryItButton runButton proposeButton startReviewButton endReviewButton acceptButton correctButton rejectButton "
        "secondReaderButton undoButton previousButton nextButton acceptStructureButton secondReaderStructureButton "
        "clearStructureButton acceptRestButton finishButton addPlaceButton showInputButton copyButton"
    )
    sections = (
        "inputsButton overlayButton reviewButton advancedButton casesButton modelsButton editButton "
        "reviewMoreButton logButton"
    )
    return {
        **{name: press(name) for name in presses.split()},
        **{name: slide(name) for name in ("thresholdSlider", "opacitySlider", "unsureLimitBox")},
        **{name: choose(name) for name in ("mapBox", "colourBox", "resultBox", "orderBox")},
        **{name: switch(name) for name in ("show3DBox", "handlesBox", "goOnBox")},
        **{name: switch(name, "collapsed") for name in sections.split()},
        "remove a result": remove,
        "ask for a structure": ask,
        "visit another module": other_module,
        "close the scene": lambda chance: chance.random() < 0.1 and slicer.mrmlScene.Clear(0) is None,
    }


def console_script(user: User) -> None:
    """Run the script of the documentation in the Python console."""
    user.choose_sample()
    volume, roi = user.widget.panel.inputs.volumes[0], user.find("roiSelector").currentNode()
    names: dict[str, Any] = {"volumeNode": volume, "roiNode": roi}
    script = (
        "from SegWithUSlicer import SegWithUSlicerLogic\n"
        "nodes = SegWithUSlicerLogic().process(volumeNode, model='hippocampus', roiNode=roiNode)\n"
        "highest = slicer.util.arrayFromVolume(nodes.maps['error_probability']).max()\n"
    )
    names["slicer"] = slicer
    exec(script, names)
    user.check("the result has structures", min(_voxels(names["nodes"])) > 100, _voxels(names["nodes"]))
    user.check("it has an error probability", 0 < names["highest"] <= 1, names["highest"])
    user.check("the panel shows it", len(user.runs) == 1 and _shown_map(user.runs[0]) is not None)
    try:
        exec("SegWithUSlicerLogic().process(volumeNode, model='no such model')", names)
        user.check("an unknown model is refused", False)
    except ValueError as error:
        user.check("an unknown model is refused", "no such model" in str(error), error)


def every_effect(user: User) -> None:
    """Edit with every effect that is offered: each changes the segmentation or not, and undo takes it back."""
    from SegWithUSlicerLib.panels.edit_panel import EFFECTS

    user.set_size(1280, 800)
    nodes = user.segment_sample()
    user.start_review()
    user.find("goOnBox").checked = False
    user.find("editButton").collapsed = False
    slicer.app.processEvents()
    editor = user.review.edit.editor
    user.find("unsureBox").checked = False
    before, width = _voxels(nodes), slicer.util.mainWindow().width
    for effect in EFFECTS:
        editor.setActiveEffectByName(effect)
        slicer.app.processEvents()
        user.check(f"{effect} is active", editor.activeEffect() is not None and editor.activeEffect().name == effect)
        if effect in ("Paint", "Erase", "Scissors"):
            user.stroke(editor)
        elif effect != "Draw":
            options = slicer.util.findChildren(editor, name="EffectsOptionsFrame")[0]
            apply = [one for one in slicer.util.findChildren(options, text="Apply") if one.visible and one.enabled]
            for button in apply[:1]:
                button.click()
        user.pause(0.8)
        for _step in range(3):
            if _voxels(nodes) != before:  # Slicer complains of an undo that has nothing to undo
                editor.undo()
                slicer.app.processEvents()
        user.check(f"undo takes {effect} back", _voxels(nodes) == before, (effect, _voxels(nodes), before))
    user.check("the main window keeps its width", slicer.util.mainWindow().width == width)
    user.picture("edited")
    user.click("endReviewButton")
    user.check("no effect is left active", editor.activeEffect() is None)


def many_regions(user: User) -> None:
    """Review 300 regions: the list is there at once, and no verdict keeps the reviewer waiting."""
    import time

    count = 300
    nodes = user.segment_sample()
    _multiply_regions(nodes, count)
    user.find("orderBox").currentIndex = 1  # structure by structure a verdict leads to no other structure
    begun = time.monotonic()
    user.start_review()
    user.check("the review begins within 5 s", time.monotonic() - begun < 5, time.monotonic() - begun)
    user.check("all regions are listed", user.find("regionsTable").rowCount == count)
    user.find("goOnBox").checked = True
    longest = 0.0
    for number in range(count):
        begun = time.process_time()  # other programs do not count
        user.click(("acceptButton", "rejectButton")[number % 2])
        longest = max(longest, time.process_time() - begun)
    user.check("no verdict takes a second", longest < 1, longest)
    user.check("every region is decided", not user.review.session.state.rest().regions)
    user.picture("decided")
    user.click("endReviewButton")
    events = _events(user)
    user.check("every verdict is in the log", events["verdict"] == count, dict(events))


def _multiply_regions(nodes: Any, count: int) -> None:
    """Put so many regions of three voxels each into a result, with the texts of those that it has."""
    import csv
    import io

    import numpy as np

    from SegWithUSlicerLib.scene.case_images import Volume, image_from
    from SegWithUSlicerLib.scene.read_case import geometry_of
    from SegWithUSlicerLib.scene.review_nodes import boxes_of_labels, put_regions

    rows = list(csv.reader(io.StringIO(nodes.regions_text.GetText())))
    head, known = rows[0], [row for row in rows[1:] if "blind sample" not in row]
    error = slicer.util.arrayFromVolume(nodes.maps["error_probability"])
    labels = np.zeros(error.size, np.uint16)
    places = np.sort(np.argsort(-error.ravel(), kind="stable")[: 3 * count])
    labels[places] = np.repeat(np.arange(1, count + 1), 3)
    labels = labels.reshape(error.shape)
    made = []
    for number in range(1, count + 1):
        row = list(known[number % len(known)])
        for title in ("id", "rank"):
            row[head.index(title)] = str(number)
        made.append(row)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *made])
    grid = geometry_of(nodes.inputs[0])
    put_regions(nodes, text.getvalue(), Volume(image_from(labels), grid.ijk_to_ras), boxes_of_labels(labels))


def large_image(user: User) -> None:
    """Segment a region of an image of 512 x 512 x 300: all maps are loaded, another is shown by choice."""
    import numpy as np

    user.choose_sample()
    small = user.widget.panel.inputs.volumes[0]
    voxels = slicer.util.arrayFromVolume(small)
    large = np.zeros((300, 512, 512), voxels.dtype)
    large[: voxels.shape[0], : voxels.shape[1], : voxels.shape[2]] = voxels
    volume = slicer.util.addVolumeFromArray(large, name="Large")
    matrix = vtk.vtkMatrix4x4()
    small.GetIJKToRASMatrix(matrix)
    volume.SetIJKToRASMatrix(matrix)
    user.widget.panel.inputs.choose(volume, user.find("roiSelector").currentNode())
    user.click("runButton")
    nodes = user.finish()
    user.check(
        "all maps are loaded", {"error_probability", "ranking", "calibration"} <= set(nodes.maps), list(nodes.maps)
    )
    user.check("structures were found", min(_voxels(nodes)) > 100)
    user.find("mapBox").currentIndex = 1
    user.check("the chosen map is shown", user.widget.panel.overlay.overlay.map_name == "ranking")
    user.start_review()
    user.click("acceptButton")
    user.click("endReviewButton")
    user.picture("large")
    slicer.mrmlScene.Clear(0)
    user.check("no file of the image is left", not user.private_folders(), user.private_folders())


def whole_head(user: User) -> None:
    """Load the sample head, choose the hippocampus model, press Apply: both hippocampi are found."""
    user.click("tryItButton")
    user.find("modelBox").currentText = "hippocampus"
    slicer.app.processEvents()
    user.click("runButton")
    nodes = user.finish()
    names = [structure.name for structure in nodes.case.structures]
    user.check("two parts on either side", sorted({name.split()[0] for name in names}) == ["left", "right"], names)
    for side, sign in (("left", -1), ("right", 1)):
        values = [one.value for one in nodes.case.structures if one.name.startswith(side)]
        user.check(f"{side}: both parts", len(values) == 2, values)
        user.check(f"{side}: a size", all(one.volume_mm3 > 500 for one in nodes.case.structures if one.value in values))
        segmentation = nodes.segmentation.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        own = [each for each in ids if segmentation.GetSegment(each).GetName().startswith(side)]
        centre = nodes.segmentation.GetSegmentCenterRAS(own[0])
        user.check(f"{side}: lies there", centre[0] * sign > 10, centre)
    for box, sign in zip(nodes.boxes, (-1, 1), strict=True):
        bounds = [0.0] * 6
        box.GetRASBounds(bounds)
        user.check("a box: on its side", sign * (bounds[0] + bounds[1]) > 0, bounds)
        user.check("a box: of that size", bounds[3] - bounds[2] == 50.0, bounds)
        user.check("a box: locked", bool(box.GetLocked()))
    user.picture("boxes")
    user.start_review()
    user.click("nextButton")
    user.picture("both")
    user.click("endReviewButton")


def whole_brain(user: User) -> None:
    """Press Try it, then Apply: all structures of the whole brain, named, coloured and coded; review one of them."""
    from SegWithUCore.case.structures_table import table_entries

    user.click("tryItButton")
    user.check("no region is chosen", user.find("roiSelector").currentNode() is None)
    user.check("the model is chosen", user.find("modelBox").currentText == "brain")
    user.picture("chosen")
    user.click("runButton")
    nodes = user.finish()
    segmentation, structures = nodes.segmentation.GetSegmentation(), nodes.case.structures
    recipe = json.loads((Path(__file__).parents[2] / "Resources" / "Recipes" / "brain.json").read_text())
    codes = {label["name"]: label.get("type", {}).get("value") for label in recipe["labels"]}
    user.check("most have a code", sum(each is not None for each in codes.values()) == 26)
    user.check("many structures", segmentation.GetNumberOfSegments() == len(structures) >= 20, len(structures))
    for structure in structures:
        segment = segmentation.GetSegment(f"SegWithU_{structure.value}")
        colour = tuple(round(255 * part) for part in segment.GetColor())
        user.check(f"{structure.name}: its name", segment.GetName() == structure.name, segment.GetName())
        user.check(f"{structure.name}: its colour", colour == tuple(structure.color), (colour, structure.color))
        code = segment.GetTerminology()
        side = "Left" if structure.name.startswith("left ") else "Right" if structure.name.startswith("right ") else ""
        wanted = codes[structure.name]
        user.check(f"{structure.name}: its code", wanted is None or (wanted in code and side in code), code)
    table = user.find("structuresTable")
    user.check("the table has all rows", table.rowCount == len(table_entries(nodes.case.raw)), table.rowCount)
    user.check("and is no longer than the panel", table.height < 400, table.height)
    table.cellClicked(len(structures) - 1, 0)
    slicer.app.processEvents()
    user.picture("done")
    user.find("show3DBox").checked = True
    user.pause(1.0)
    user.picture("in-3d")
    user.check("the model is calibrated", "error_probability" in nodes.maps)
    user.start_review()
    user.picture("review")
    user.click("acceptButton")
    user.click("nextButton")
    user.picture("next")
    user.check("the verdict is kept", '"verdict"' in user.review_log())
    user.click("endReviewButton")


def judge(user: User) -> None:
    """Judge a segmentation of the scene: what was cut off is in the regions, and the rest of it is as it was."""
    import numpy as np

    drawn = user.segment_sample().segmentation
    volume = user.widget.panel.inputs.volumes[0]
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "From elsewhere")
    mask.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    mask.GetSegmentation().DeepCopy(drawn.GetSegmentation())
    first = mask.GetSegmentation().GetNthSegmentID(0)
    whole = slicer.util.arrayFromSegmentBinaryLabelmap(mask, first, volume).copy()
    layers = np.flatnonzero(whole.any((1, 2)))
    kept = whole.copy()
    kept[layers[len(layers) // 2] :] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(kept, mask, first, volume)
    user.check("nobody chose it yet", user.find("maskSelector").currentNode() is None)
    user.find("maskSelector").setCurrentNode(mask)
    slicer.app.processEvents()
    user.picture("chosen")
    user.click("runButton")
    nodes = user.finish()
    segmentation = nodes.segmentation.GetSegmentation()
    arrays = [slicer.util.arrayFromSegmentBinaryLabelmap(nodes.segmentation, segmentation.GetNthSegmentID(n), volume)
              for n in range(segmentation.GetNumberOfSegments())]  # fmt: skip
    user.check("the segmentation is the one that was given", np.array_equal(arrays[0] > 0, kept > 0))
    error = slicer.util.arrayFromVolume(nodes.maps["error_probability"])
    lost = float(error[(whole > 0) & (kept == 0)].mean())
    user.check("what was cut off reads as wrong", lost > 0.7, lost)
    user.check("the case says that it was judged", "judged" in nodes.case.raw)
    user.start_review()
    user.picture("judged")
    user.click("acceptButton")
    user.click("endReviewButton")
    slicer.mrmlScene.RemoveNode(mask)
    slicer.app.processEvents()
    user.check("without it the image is segmented again", user.find("maskSelector").currentNode() is None)


MORE: tuple[Callable[[User], None], ...] = (
    transform,
    two_results,
    saved_cases,
    worker_fails_in_review,
    random_actions,
    console_script,
    every_effect,
    many_regions,
    large_image,
    whole_head,
    whole_brain,
    judge,
)
