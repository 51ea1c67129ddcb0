"""Every way in which a run of the real worker can end, on real MRML: nothing is left behind."""

from __future__ import annotations

import os
import signal

import slicer
from opened_module import Opened, alive, sample_crop, segment_crop


def test_cancel_ends_the_processes_and_removes_the_files(opened: Opened) -> None:
    opened.choose_sample()
    pid = opened.begin_run()
    assert len(opened.private_folders()) == 1
    assert opened.ui.runButton.text == "Cancel"
    opened.ui.runButton.click()
    opened.wait(lambda: not opened.controller.is_busy)
    assert not alive(pid)
    assert opened.private_folders() == []
    assert "press Apply" in opened.ui.statusLabel.text
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_crash_is_told_and_the_next_run_works(opened: Opened) -> None:
    opened.choose_sample()
    os.kill(opened.begin_run(), signal.SIGKILL)
    said = opened.finish()
    assert "SIGKILL" in said
    assert "press Apply again" in said
    assert "SIGKILL" in opened.ui.logText.toPlainText()
    assert opened.private_folders() == []
    opened.ui.copyButton.click()
    import qt

    assert "run: idle, failed" in qt.QApplication.clipboard().text()
    segment_crop(opened)


def test_leaving_the_module_lets_the_run_go_on(opened: Opened) -> None:
    volume = sample_crop()
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    opened.panel.inputs.choose(volume, None, "hippocampus")
    opened.ui.runButton.click()
    opened.app.leave_module()
    assert opened.finish().startswith("Done")
    assert opened.nodes.inputs == [volume]
    opened.app.enter_module()


def test_closing_the_scene_cancels_the_run(opened: Opened) -> None:
    opened.choose_sample()
    pid = opened.begin_run()
    opened.app.close_scene()
    assert "scene was closed" in opened.finish()
    assert not alive(pid)
    assert opened.private_folders() == []
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []


def test_deleting_the_input_cancels_the_run(opened: Opened) -> None:
    opened.choose_sample()
    opened.begin_run()
    slicer.mrmlScene.RemoveNode(opened.panel.inputs.volumes[0])
    assert "image was removed" in opened.finish()
    assert opened.private_folders() == []


def test_input_that_changed_meanwhile_is_not_shown_as_current(opened: Opened) -> None:
    volume = sample_crop()
    opened.panel.inputs.choose(volume, None, "hippocampus")
    opened.begin_run()
    slicer.util.arrayFromVolume(volume)[:] = 0
    slicer.util.arrayFromVolumeModified(volume)
    assert "changed while it was segmented" in opened.finish()
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
