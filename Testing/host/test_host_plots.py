"""Plot widgets and 2D/3D views: what a panel would show of real nodes is drawn, what Slicer leaves out is found."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from PySide6 import QtGui
from SlicerHost import strict

SIZE = (300, 200)


class Plot:
    """A plot widget in the host's window with one red curve of real nodes."""

    def __init__(self, host):
        self.host = host
        scene = slicer.mrmlScene
        self.table = scene.AddNewNodeByClass("vtkMRMLTableNode", "numbers")
        slicer.util.updateTableFromArray(self.table, np.array([[0, 0], [1, 4], [2, 1.0]]), ["x", "y"])
        self.series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "curve")
        self.series.SetAndObserveTableNodeID(self.table.GetID())
        self.series.SetXColumnName("x")
        self.series.SetYColumnName("y")
        self.series.SetPlotType(self.series.PlotTypeScatter)
        self.series.SetColor(1, 0, 0)
        self.series.SetLineWidth(4)
        self.chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "chart")
        self.chart.SetAndObserveNthPlotSeriesNodeID(0, self.series.GetID())
        self.chart.SetLegendVisibility(False)
        self.view_node = scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
        self.view_node.SetPlotChartNodeID(self.chart.GetID())
        self.widget = slicer.qMRMLPlotWidget()
        host._window._panel.setWidget(self.widget)
        self.widget.setMRMLScene(scene)
        self.widget.setMRMLPlotViewNode(self.view_node)

    def red(self):
        self.host.process_events()
        image = self.widget.plotView().grab().toImage().convertToFormat(QtGui.QImage.Format.Format_RGB888)
        rgb = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        rgb = rgb[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)
        return int(((rgb[..., 0] > 200) & (rgb[..., 1] < 90)).sum())


@pytest.fixture
def plot(slicer_host):
    return Plot(slicer_host)


def test_a_curve_of_the_scene_is_drawn_and_follows_its_nodes(plot):
    assert plot.red() > 100
    plot.series.SetColor(0, 0, 1)
    plot.chart.Modified()
    assert plot.red() == 0


def test_the_widget_gives_its_parts_and_node(plot):
    widget = plot.widget
    assert widget.mrmlPlotViewNode() is plot.view_node
    assert widget.plotView().className() == "qMRMLPlotView"
    assert widget.controllerWidget() is widget.plotController()
    assert widget.plotController().barWidget().visible is False
    plot.red()
    assert widget.plotView().height == widget.height
    widget.plotView().fitToContent()
    assert widget.plotView().chart().GetAxis(vtk.vtkAxis.LEFT).GetMaximum() >= 4


def test_another_chart_and_no_chart_are_drawn(plot):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "empty")
    plot.view_node.SetPlotChartNodeID(empty.GetID())
    assert plot.red() == 0
    plot.view_node.SetPlotChartNodeID(plot.chart.GetID())
    assert plot.red() > 100
    slicer.mrmlScene.RemoveNode(plot.chart)
    assert plot.red() == 0


def test_bars_and_index_curves_are_drawn(plot):
    plot.series.SetPlotType(plot.series.PlotTypeBar)
    assert plot.red() > 100
    plot.series.SetPlotType(plot.series.PlotTypeLine)
    plot.series.SetXColumnName("")
    assert plot.red() > 100


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda p: p.series.SetAndObserveTableNodeID(""), "series curve has no table"),
        (lambda p: p.series.SetYColumnName("z"), "series curve: the table has no column z"),
        (lambda p: p.series.SetYColumnName(""), "series curve names no Y column"),
        (lambda p: p.table.AddColumn(named_texts("x2")) and p.series.SetXColumnName("x2"), "holds no numbers"),
    ],
)
def test_a_curve_that_slicer_would_leave_out_is_found_once(plot, spoil, what):
    spoil(plot)
    assert (plot.red(), plot.red()) == (0, 0)
    (found,) = strict.take("plot")
    assert what in found.what


def named_texts(name):
    column = vtk.vtkStringArray()
    column.SetName(name)
    for text in "abc":
        column.InsertNextValue(text)
    return column


def test_a_plot_view_without_a_scene_is_found(slicer_host):
    widget = slicer.qMRMLPlotWidget()
    slicer_host._window._panel.setWidget(widget)
    widget.setMRMLPlotViewNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode"))
    widget.plotView().grab()
    assert "no MRML scene" in strict.take("plot")[0].what


def changed(before, after):
    return int((np.abs(before.astype(int) - after).max(axis=2) > 20).sum())


CENTRE = (20.0, 20.0, 20.0)


def outlined_segmentation(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("a", "A", (1.0, 0.0, 0.0))
    mask = np.zeros((40, 40, 40), np.uint8)
    mask[10:30, 12:28, 12:28] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "a", volume)
    node.CreateClosedSurfaceRepresentation()


def point(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    node.CreateDefaultDisplayNodes()
    node.AddControlPoint(*CENTRE, "P")


def ball(volume):
    sphere = vtk.vtkSphereSource()
    sphere.SetCenter(*CENTRE)
    sphere.SetRadius(12)
    sphere.Update()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    node.SetAndObservePolyData(sphere.GetOutput())
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility2D(True)
    node.GetDisplayNode().SetColor(1, 0, 0)


def box(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    node.CreateDefaultDisplayNodes()
    node.SetCenter(*CENTRE)
    node.SetSize(20, 20, 20)


def line(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsLineNode")
    node.CreateDefaultDisplayNodes()
    node.AddControlPoint(8, 8, 20)
    node.AddControlPoint(32, 32, 20)


@pytest.mark.parametrize("add", [outlined_segmentation, point, ball, box, line])
def test_each_kind_of_highlight_is_drawn_in_slices_and_in_3d(slicer_host, add):
    volume = slicer.util.addVolumeFromArray(np.full((40, 40, 40), 100, np.int16))
    slicer.util.setSliceViewerLayers(background=volume)
    slicer_host.fit_slices()
    slicer_host.threed_view.node.SetBoxVisible(False)
    slice_before, threed_before = slicer_host.render_slice("Red", SIZE), slicer_host.render_threed(SIZE)
    add(volume)
    assert changed(slice_before, slicer_host.render_slice("Red", SIZE)) > 50
    assert changed(threed_before, slicer_host.render_threed(SIZE)) > 50


def test_the_camera_of_the_3d_view_is_kept_on_request(slicer_host):
    ball(None)
    near = slicer_host.render_threed(SIZE)
    slicer_host.threed_view.renderer.GetActiveCamera().Azimuth(40)
    slicer_host.threed_view.renderer.GetActiveCamera().Dolly(0.4)
    far = slicer_host.render_threed(SIZE, keep_camera=True)
    assert changed(near, far) > 200
    assert changed(far, slicer_host.render_threed(SIZE, keep_camera=True)) == 0
    assert changed(far, slicer_host.render_threed(SIZE)) > 200


UI = """<ui version="4.0"><widget class="qMRMLWidget" name="Top"><layout class="QVBoxLayout" name="rows">
<item><widget class="qMRMLSegmentEditorWidget" name="editor"><property name="undoEnabled"><bool>false</bool></property>
</widget></item><item><widget class="qMRMLPlotWidget" name="plot"/></item></layout></widget><connections>{0}{1}
</connections></ui>"""
CONNECTION = """<connection><sender>Top</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>{}</receiver>
<slot>setMRMLScene(vtkMRMLScene*)</slot></connection>"""


def test_editor_and_plot_come_from_a_ui_file_and_get_their_scene(slicer_host, tmp_path):
    path = tmp_path / "panel.ui"
    path.write_text(UI.format(CONNECTION.format("editor"), CONNECTION.format("plot")))
    top = slicer.util.loadUI(str(path))
    ui = slicer.util.childWidgetVariables(top)
    slicer_host._window._panel.setWidget(top)
    top.setMRMLScene(slicer.mrmlScene)
    assert (ui.editor.mrmlScene(), ui.plot.mrmlScene()) == (slicer.mrmlScene, slicer.mrmlScene)
    slicer_host.process_events()
    assert (ui.editor.undoEnabled, ui.editor.show3DButtonVisible) == (False, True)
