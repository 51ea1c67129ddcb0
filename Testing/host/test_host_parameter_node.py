"""slicer.parameterNodeWrapper and pip of the stand-in."""

from __future__ import annotations

import subprocess
from typing import Annotated

import pytest
import slicer
from SlicerHost.parameter_node import parameterNodeWrapper
from SlicerHost.parameter_types import Choice, Default, WithinRange

pytestmark = pytest.mark.usefixtures("slicer_host")


@parameterNodeWrapper
class Parameters:
    volume: slicer.vtkMRMLScalarVolumeNode
    roi: slicer.vtkMRMLMarkupsROINode
    volumes: list[slicer.vtkMRMLScalarVolumeNode]
    numbers: list[int]
    share: Annotated[float, WithinRange(0, 1)] = 0.5
    count: Annotated[int, Default(4)]
    name: Annotated[str, Choice(["a", "b"])] = "a"
    mode: Annotated[str, Choice(["FAST", "SLOW"])] = "FAST"
    on: bool = True
    limit: float = 1.0


@pytest.fixture
def node(slicer_host):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "P")


def test_defaults_are_written_into_a_fresh_node(node):
    parameters = Parameters(node)
    assert (parameters.share, parameters.count, parameters.name, parameters.mode) == (0.5, 4, "a", "FAST")
    assert (parameters.volume, parameters.roi, parameters.limit, parameters.on) == (None, None, 1.0, True)
    assert node.GetParameter("count") == "4"
    assert list(parameters.numbers) == []


def test_values_are_kept_in_the_node_and_seen_by_another_wrapper(node):
    parameters = Parameters(node)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "V")
    parameters.volume = volume
    parameters.mode = "SLOW"
    parameters.limit = 2.5
    parameters.numbers = [7]
    other = Parameters(node)
    assert (other.volume, other.mode, other.limit, list(other.numbers)) == (volume, "SLOW", 2.5, [7])
    assert node.GetNodeReference("volume") is volume


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("share", 1.5, ValueError),
        ("name", "c", ValueError),
        ("count", "4", TypeError),
        ("on", 1, TypeError),
        ("numbers", ["x"], TypeError),
        ("mode", "fast", ValueError),
        ("volume", "id", TypeError),
    ],
)
def test_wrong_values_are_refused_and_the_old_one_stays(node, field, value, error):
    parameters = Parameters(node)
    before = parameters.getValue(field)
    with pytest.raises(error):
        setattr(parameters, field, value)
    assert parameters.getValue(field) == before


def test_shorter_list_leaves_no_elements_behind(node):
    parameters = Parameters(node)
    parameters.numbers = [1, 2, 3]
    parameters.numbers = [5]
    assert list(Parameters(node).numbers) == [5]
    assert not node.HasParameter("numbers_2")


def test_modified_is_observed_once_a_change_and_sees_the_new_value(node):
    parameters = Parameters(node)
    seen = []
    parameters.AddObserver("ModifiedEvent", lambda *_: seen.append(parameters.share))
    parameters.share = 0.25
    assert seen == [0.25]


def test_unsupported_type_is_refused():
    with pytest.raises(TypeError, match="cannot be of type"):

        @parameterNodeWrapper
        class Wrong:
            table: dict[str, int]


def test_reserved_name_is_refused():
    with pytest.raises(ValueError, match="reserved"):

        @parameterNodeWrapper
        class Wrong:
            connectGui: int  # noqa: N815


def test_widgets_and_fields_follow_each_other_until_disconnected(node):
    import ctk
    import qt

    parameters = Parameters(node)
    slider, box, mode = ctk.ctkSliderWidget(), qt.QCheckBox(), qt.QComboBox()
    tag = parameters.connectParametersToGui({"share": slider, "on": box, "mode": mode})
    assert (slider.minimum, slider.maximum, slider.value, mode.count) == (0.0, 1.0, 0.5, 2)
    slider.value = 0.75
    box.click()
    mode.currentIndex = 1
    assert (parameters.share, parameters.on, parameters.mode) == (0.75, False, "SLOW")
    parameters.share = 0.1
    assert slider.value == 0.1
    parameters.disconnectGui(tag)
    slider.value = 0.9
    parameters.on = True
    assert (parameters.share, box.checked) == (0.1, False)


def test_lists_have_no_gui_connector(node):
    import qt

    with pytest.raises(RuntimeError, match="no GUI connector"):
        Parameters(node).connectParametersToGui({"numbers": qt.QLineEdit()})


def test_unbounded_number_cannot_be_shown_by_a_slider(node):
    import qt

    with pytest.raises(RuntimeError, match="bounded"):
        Parameters(node).connectParametersToGui({"count": qt.QSlider()})


def test_reference_valid_without_an_event_stays_unnoticed(node):
    parameters = Parameters(node)
    node.DisableModifiedEventOn()
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "V")
    node.SetNodeReferenceID("volume", volume.GetID())
    assert parameters.volume is None
    assert Parameters(node).volume is volume


def test_pip_installs_nothing_and_records_or_fails(slicer_host):
    slicer.util.pip_install(["--no-deps", "not-there-at-all>=2"])
    (asked,) = slicer_host.packaging.installations
    assert asked.requirements == ["--no-deps", "not-there-at-all>=2"]
    slicer_host.packaging.fail_with = 1
    with pytest.raises(subprocess.CalledProcessError):
        slicer.util.pip_install("not-there-at-all")
