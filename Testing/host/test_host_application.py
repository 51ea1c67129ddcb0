"""The headless application: a small module is opened, clicked, saved, reloaded, rendered and photographed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
import SlicerHost
from SlicerHost import strict
from SlicerHost.host import SlicerHost as Host

EXAMPLE = Path(SlicerHost.__file__).parent / "example" / "ExampleModule.py"


def _ramp():
    return sys.modules["ExampleModule"].make_ramp()


def test_module_is_set_up_then_entered_then_left_then_cleaned_up():
    with Host(EXAMPLE) as host:
        widget = host.widget
        assert widget.calls == ["enter"]
        host.leave_module()
        host.enter_module()
        assert slicer.util.selectedModule() == "ExampleModule"
        assert slicer.util.getModuleWidget("ExampleModule") is widget
    assert widget.calls == ["enter", "exit", "enter", "exit", "cleanup"]


def test_settling_waits_for_what_a_timer_does_once_and_soon():
    with Host() as host:
        import qt

        done, timers = [], []
        for name, delay_ms, once in (("soon", 150, True), ("later", 600_000, True), ("again and again", 60, False)):
            timer = qt.QTimer()
            timer.setSingleShot(once)
            timer.setInterval(delay_ms)
            timer.connect("timeout()", lambda name=name: done.append(name))
            timer.start()
            timers.append(timer)
        host.settle(60)
        assert "soon" in done
        assert "later" not in done
        for timer in timers:
            timer.stop()


def test_module_description_reaches_its_parent(open_module):
    open_module(EXAMPLE)
    module = slicer.modules.examplemodule
    assert (module.title, module.categories, module.name) == ("Example", ["Testing"], "ExampleModule")
    assert Path(module.path) == EXAMPLE
    with pytest.raises(AttributeError):
        module.titel = "x"
    with pytest.raises(AttributeError):
        slicer.modules.nosuchmodule  # noqa: B018


def test_click_runs_the_logic_on_real_nodes(open_module):
    ui = open_module(EXAMPLE).widget.ui
    assert ui.applyButton.enabled is False
    ui.inputSelector.setCurrentNode(_ramp())
    assert (ui.applyButton.enabled, ui.statusLabel.text) == (True, "ready")
    ui.applyButton.click()
    made = slicer.util.getNode("Ramp times 3")
    assert slicer.util.arrayFromVolume(made)[0, 0, 2] == 6


def test_only_connections_in_the_ui_file_pass_the_scene_on(open_module):
    ui = open_module(EXAMPLE).widget.ui
    _ramp()
    assert ui.inputSelector.nodeCount() == 1
    assert (ui.forgottenSelector.nodeCount(), ui.forgottenSelector.mrmlScene()) == (0, None)
    ui.quietBox.click()
    assert ui.noteEdit.enabled is False


def test_saved_and_loaded_scene_restores_parameters_and_widgets(open_module, tmp_path):
    host = open_module(EXAMPLE)
    widget = host.widget
    widget.ui.inputSelector.setCurrentNode(_ramp())
    widget.parameters.extraVolumes = [widget.parameters.inputVolume]
    widget.ui.opacitySlider.setValue(0.7)
    for name in ("scene with space ä.mrb", "scene.mrml"):
        path = host.save_scene(tmp_path / name)
        host.close_scene()
        assert widget.parameters.inputVolume is None
        host.load_scene(path)
        assert widget.ui.inputSelector.currentNode().GetName() == "Ramp"
        assert [node.GetName() for node in widget.parameters.extraVolumes] == ["Ramp"]
        assert (widget.ui.opacitySlider.value, widget.parameters.opacity) == (0.7, 0.7)
        assert slicer.util.arrayFromVolume(slicer.util.getNode("Ramp"))[0, 0, 2] == 2
    assert widget.calls.count("start close") == 4


def test_reload_makes_a_new_panel_and_cleans_the_old_one_up(open_module):
    host = open_module(EXAMPLE)
    old = host.widget
    old.onReload()
    assert old.calls[-1] == "cleanup"
    assert host.widget is not old
    assert host.widget.calls == ["enter"]


def test_self_test_of_the_module_runs(open_module):
    open_module(EXAMPLE)
    slicer.selfTests["ExampleModule"]()
    assert slicer.util.getNode("Ramp times 2")


def test_exception_in_a_slot_is_a_finding(slicer_host):
    import qt

    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    with slicer_host.expecting("exception") as found:
        button.click()
    assert "ZeroDivisionError" in found[0].what


def test_finding_left_at_the_end_fails_the_host():
    with pytest.raises(AssertionError, match="nosuch"), Host():
        import qt

        qt.QPushButton().connect("nosuch()", print)
    strict.take()


def test_popup_without_an_answer_is_a_finding_and_with_one_is_answered(slicer_host):
    assert slicer.util.confirmOkCancelDisplay("Go on?") is False
    assert "Go on?" in strict.take("popup")[0].what
    slicer_host.popups.answer("OK")
    assert slicer.util.confirmOkCancelDisplay("Go on?", windowTitle="Really") is True
    shown = slicer_host.popups.shown[-1]
    assert (shown.title, shown.text, shown.buttons) == ("Really", "Go on?", ["OK", "Cancel"])
    slicer.util.delayDisplay("for a moment", 500)
    assert slicer_host.popups.shown[-1].text == "for a moment"


def test_testing_mode_skips_popups():
    with Host(testing=True) as host:
        assert slicer.util.confirmYesNoDisplay("Go on?") is False  # slicer.util compares True with a button code
        slicer.util.infoDisplay("Done")
        assert host.popups.shown == []


def test_wait_returns_when_the_predicate_holds_and_fails_after_the_timeout(slicer_host):
    import qt

    fired = []
    qt.QTimer.singleShot(30, lambda: fired.append(1))
    slicer_host.wait(lambda: fired, 5)
    with pytest.raises(AssertionError, match="still not so"):
        slicer_host.wait(lambda: False, 0.05)


def test_slice_views_draw_background_foreground_outline_and_legend(slicer_host):
    values = np.full((20, 30, 40), 100, np.int16)
    background = slicer.util.addVolumeFromArray(values, name="B")
    slicer.util.setSliceViewerLayers(background=background, fit=True)
    plain = slicer_host.render_slice("Red", (300, 240))
    assert plain.shape == (240, 300, 3)
    red_map = np.zeros((20, 30, 40), np.float32)
    red_map[:, 10:20, 10:20] = 1
    overlay = slicer.util.addVolumeFromArray(red_map, name="F")
    display = overlay.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeFileInferno.txt")
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0, 1)
    display.SetLowerThreshold(0.5)
    display.ApplyThresholdOn()
    slicer.util.setSliceViewerLayers(foreground=overlay, foregroundOpacity=1)
    colored = slicer_host.render_slice("Red")
    assert (plain.reshape(-1, 3).std(axis=1) < 1).all()
    assert (colored.reshape(-1, 3).std(axis=1) > 5).any()
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(overlay)
    legend.SetVisibility(True)
    with_legend = slicer_host.render_slice("Red")
    changed = (with_legend != colored).any(axis=2)
    assert changed[:, 200:].sum() > 50
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(background)
    segment = segmentation.GetSegmentation().AddEmptySegment("one", "one", (0, 1, 0))
    slicer.util.updateSegmentBinaryLabelmapFromArray(red_map.astype(np.uint8), segmentation, segment, background)
    outlined = slicer_host.render_slice("Red")
    green = (outlined[..., 1] > 150) & (outlined[..., 0] < 100) & (outlined[..., 2] < 100)
    assert green.sum() > 20
    segmentation.CreateClosedSurfaceRepresentation()
    segmentation.GetDisplayNode().SetVisibility3D(True)
    threed = slicer_host.render_threed((200, 200)).astype(int)
    assert ((threed[..., 1] - threed[..., 0]) > 60).sum() > 30


def test_layout_manager_knows_three_slice_views_and_their_orientations(slicer_host):
    manager = slicer.app.layoutManager()
    assert manager.sliceViewNames() == ("Red", "Yellow", "Green")
    assert manager.sliceWidget("Green").mrmlSliceNode().GetOrientation() == "Coronal"
    assert manager.sliceWidget("Red").sliceLogic().GetSliceNode() is manager.sliceWidget("Red").mrmlSliceNode()
    assert manager.mrmlSliceLogics().GetNumberOfItems() == 3
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView


def test_data_nodes_get_a_subject_hierarchy_item_and_lose_it(slicer_host):
    volume = slicer.util.addVolumeFromArray(np.zeros((2, 2, 2)), name="V")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volume)
    assert item
    slicer.mrmlScene.RemoveNode(volume)
    assert hierarchy.GetItemName(item) == ""


def test_volume_files_load_through_slicer_util(slicer_host, tmp_path):
    volume = slicer.util.addVolumeFromArray(np.arange(8).reshape(2, 2, 2).astype(np.int16), name="V")
    path = tmp_path / "volume.nrrd"
    assert slicer.util.saveNode(volume, str(path))
    loaded = slicer.util.loadVolume(str(path))
    assert slicer.util.arrayFromVolume(loaded)[1, 1, 1] == 7
    with pytest.raises(RuntimeError):
        slicer.util.loadVolume(str(tmp_path / "absent.nrrd"))


def test_colour_tables_have_the_ids_of_the_application(slicer_host):
    for name in ("Inferno", "Viridis", "Magma", "Plasma", "Cividis"):
        node = slicer.mrmlScene.GetNodeByID(f"vtkMRMLColorTableNodeFile{name}.txt")
        assert node is not None
        assert node.GetNumberOfColors() == 256


def test_settings_are_thrown_away(slicer_host):
    import qt

    qt.QSettings().setValue("SegWithU/test", 5)
    assert int(slicer.app.settings().value("SegWithU/test")) == 5
    with Host():
        assert qt.QSettings().contains("SegWithU/test") is False


def test_release_5_10_says_its_version():
    with Host(release="5.10"):
        assert (slicer.app.majorVersion, slicer.app.minorVersion) == (5, 10)


def test_screenshot_shows_the_panel_to_its_last_widget(open_module, tmp_path):
    from PySide6 import QtGui

    host = open_module(EXAMPLE)
    picture = QtGui.QImage(str(host.screenshot(tmp_path / "panel.png", width=500)))
    assert picture.width() > 400
    ui = host.widget.ui
    assert picture.height() > ui.applyButton.y + ui.applyButton.height


def test_many_hosts_in_one_process_leave_no_scene_and_no_module_behind():
    import gc
    import weakref

    references = []
    before = getattr(slicer, "mrmlScene", None)  # other test files may have one of their own
    for _ in range(3):
        with Host(EXAMPLE) as host:
            references.append(weakref.ref(host.widget))
            _ramp()
        del host
    gc.collect()
    assert "ExampleModule" not in sys.modules
    assert getattr(slicer, "mrmlScene", None) is before
    assert sum(reference() is not None for reference in references) <= 1


def test_host_folder_is_removed():
    with Host() as host:
        folder = host.folder
        assert folder.is_dir()
    assert not folder.exists()


def test_quit_emits_about_to_quit(slicer_host):
    got = []
    slicer.app.connect("aboutToQuit()", lambda: got.append(1))
    slicer_host.quit()
    assert got == [1]
