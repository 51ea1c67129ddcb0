"""Segmentations that were made elsewhere: judged side by side, segments matched with structures, messages, 3D."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from opened_module import Opened, sample_crop, segment_crop
from repository import ROOT

from SegWithUSlicerLib.scene.case_nodes import find_cases

ANTERIOR, POSTERIOR = "anterior hippocampus", "posterior hippocampus"


def reader(drawn: Any, volume: Any, name: str, names: tuple[str, str] = (ANTERIOR, POSTERIOR)) -> Any:
    """A copy of a segmentation, as another reader's."""
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    mask.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    mask.GetSegmentation().DeepCopy(drawn.GetSegmentation())
    for place, own in enumerate(names):
        mask.GetSegmentation().GetNthSegment(place).SetName(own)
    return mask


def cut(mask: Any, volume: Any) -> None:
    """Take the upper half of the first segment away."""
    first = mask.GetSegmentation().GetNthSegmentID(0)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(mask, first, volume).copy()
    layers = np.flatnonzero(array.any((1, 2)))
    array[layers[len(layers) // 2] :] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, first, volume)


def judge(opened: Opened, mask: Any) -> Any:
    """Choose a mask and click Apply; the nodes that come of it."""
    opened.ui.maskSelector.setCurrentNode(mask)
    opened.ui.runButton.click()
    said = opened.finish()
    assert said.startswith("Done"), said
    return opened.nodes


def volumes() -> dict[str, list[float]]:
    """Of the structures of each result, by its label."""
    return {nodes.label: [each.volume_mm3 for each in nodes.case.structures] for nodes in find_cases(slicer.mrmlScene)}


@pytest.fixture
def judging(opened: Opened) -> Any:
    """A result of the model; nothing is judged afterwards."""
    segment_crop(opened)
    yield opened
    opened.ui.maskSelector.setCurrentNode(None)


def test_results_of_model_and_readers_lie_side_by_side(judging: Opened, tmp_path: Path) -> None:
    own = judging.nodes
    volume, drawn = own.inputs[0], own.segmentation
    masks = [reader(drawn, volume, name) for name in ("Reader A", "Reader B")]
    cut(masks[1], volume)
    found = [own, *(judge(judging, mask) for mask in masks)]
    names = ["Crop", "Crop judged: Reader A", "Crop judged: Reader B"]
    assert [nodes.label for nodes in found] == names
    assert [nodes.segmentation.GetName() for nodes in found] == ["Crop segmentation", *names[1:]]
    before = volumes()
    assert len({tuple(each) for each in before.values()}) == 2, "A is as the model's, B is not"
    cut(masks[0], volume)
    assert judge(judging, masks[0]).hub is found[1].hub, "the same mask again"
    after = volumes()
    changed = [name for name in names if after[name] != before[name]]
    assert (list(after), changed) == (names, ["Crop judged: Reader A"])
    corrected = found[0].segmentation
    cut(corrected, volume)
    again = judge(judging, corrected)
    assert again.label == "Crop judged: Crop segmentation corrected"
    judging.app.save_scene(tmp_path / "judged.mrb")
    judging.app.load_scene(tmp_path / "judged.mrb")
    kept = volumes()
    assert {name: kept[name] for name in names} == after
    loaded = slicer.util.getNode("Reader B")
    assert judge(judging, loaded).label == "Crop judged: Reader B"
    assert volumes() == kept


def test_segments_of_other_names_are_matched_in_a_table(judging: Opened) -> None:
    volume, drawn, ui = judging.nodes.inputs[0], judging.nodes.segmentation, judging.ui
    ui.maskSelector.setCurrentNode(reader(drawn, volume, "Exact"))
    assert not ui.maskTable.visible and ui.runButton.enabled
    mask = reader(drawn, volume, "Other", ("Hippocampus-Anterior", "Scribble"))
    ui.maskSelector.setCurrentNode(mask)
    assert ui.maskTable.visible

    def shown() -> list[tuple[str, str]]:
        rows = range(ui.maskTable.rowCount)
        return [(ui.maskTable.item(row, 0).text(), ui.maskTable.cellWidget(row, 1).currentText) for row in rows]

    def choose(row: int, structure: str) -> None:
        box = ui.maskTable.cellWidget(row, 1)
        box.currentIndex = box.findText(structure)
        box.activated(box.currentIndex)

    assert shown() == [("Hippocampus Anterior", ANTERIOR), ("Scribble", "not judged")]
    choose(0, "not judged")
    ui.runButton.click()
    assert "[empty-mask]" in judging.finish(), "nothing is left to be judged"
    choose(0, ANTERIOR)
    assert judge(judging, mask).case.raw["judged"]["labels"] == {"Hippocampus Anterior": ANTERIOR}
    choose(1, POSTERIOR)
    nodes = judge(judging, mask)
    assert nodes.case.raw["judged"]["labels"] == {"Hippocampus Anterior": ANTERIOR, "Scribble": POSTERIOR}
    ui.maskSelector.setCurrentNode(None)
    assert not ui.maskTable.visible
    ui.maskSelector.setCurrentNode(mask)
    assert shown() == [("Hippocampus Anterior", ANTERIOR), ("Scribble", POSTERIOR)]
    mask.GetSegmentation().GetNthSegment(1).SetName("posterior hippocampus")
    judge(judging, mask)
    assert shown() == [("Hippocampus Anterior", ANTERIOR)], "a segment that was renamed meanwhile"


def test_visibility_and_opacity_in_3d_come_from_the_bundle(opened: Opened, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "Resources" / "Models" / "hippocampus", tmp_path / "seen"))
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    bundle["display"]["opacity_3d"] = {ANTERIOR: 0.25, POSTERIOR: 0.0}
    (folder / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    nodes = opened.app.widget.logic.process(sample_crop(), model=str(folder))
    opened.panel.show_run(nodes)
    display = nodes.segmentation.GetDisplayNode()

    def seen() -> list[tuple[bool, float]]:
        ids = nodes.segmentation.GetSegmentation().GetSegmentIDs()
        return [(display.GetSegmentVisibility3D(one), display.GetSegmentOpacity3D(one)) for one in ids]

    wanted = [(True, 0.25), (False, 0.0)]
    assert seen() == wanted
    button = slicer.qMRMLSegmentationShow3DButton()
    button.setSegmentationNode(nodes.segmentation)
    button.click()
    assert (display.GetVisibility3D(), seen()) == (True, wanted), "Slicer's own button"
    opened.ui.show3DBox.checked = False
    opened.ui.show3DBox.checked = True
    assert seen() == wanted
    display.SetSegmentVisibility3D(nodes.segmentation.GetSegmentation().GetNthSegmentID(1), True)
    opened.app.widget.logic.process(nodes.inputs[0], model=str(folder))
    assert seen()[1][0], "the user's choice outlives another run"


def test_a_slice_is_refused_with_advice_that_can_be_followed(opened: Opened) -> None:
    flat = slicer.util.addVolumeFromArray(np.random.default_rng(0).random((1, 256, 256)) * 900, name="Flat")
    opened.panel.inputs.choose(flat, None, "brain")
    assert not opened.ui.proposeButton.enabled
    opened.ui.runButton.click()
    opened.finish()
    shown = f"{opened.ui.bannerLabel.text} {opened.ui.statusLabel.text}"
    assert opened.controller.status.outcome.value == "refused"
    assert opened.controller.status.refusal == {"size"}
    assert "Propose" not in shown and opened.ui.bannerLabel.text in shown


def test_messages_name_the_nodes_and_no_private_file(judging: Opened) -> None:
    volume = judging.nodes.inputs[0]
    mask = reader(judging.nodes.segmentation, volume, "Reader A", ("Anterior hippocampus", "anterior hippocampus"))
    judging.ui.maskSelector.setCurrentNode(mask)
    blank = sample_crop("Blank")
    slicer.util.arrayFromVolume(blank)[:] = 0
    slicer.util.arrayFromVolumeModified(blank)
    failed = []
    for chosen in (volume, blank):
        judging.panel.inputs.choose(chosen, None, "hippocampus")
        judging.ui.runButton.click()
        said = judging.finish()
        assert judging.controller.status.outcome.value in ("failed", "refused"), said
        failed.append(" ".join([said, *judging.controller.status.warnings]))
        judging.ui.maskSelector.setCurrentNode(None)
    assert "Reader A" in failed[0] and "Blank" in failed[1]
    assert not any(part in text for text in failed for part in ("nrrd", "segwithu-", "--", slicer.app.temporaryPath))
