"""Charts of a run: lines of numbers as Slicer's plot nodes.

Charts, series and the one table that they read from are made at the first call and updated in place. They hang on the
run's hub, so a loaded scene keeps using its own, and lie in the run's folder of the subject hierarchy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import slicer
import vtk

from ..i18n import _
from .case_nodes import PLOT_ROLE, CaseNodes
from .load_case import put_in_folder

# Distinct with the common forms of colour blindness (Okabe and Ito), in the order in which series come.
_COLOURS = ((0.0, 0.45, 0.70), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65))
_GUIDE_COLOUR = (0.6, 0.6, 0.6)
_ROOM = 1.4
_TITLE_PT, _TEXT_PT = 12, 10


class Style(Enum):
    """How a line is drawn: as a line, with its points marked, or as a thin grey guide."""

    LINE = "line"
    POINTS = "points"
    GUIDE = "guide"


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        title: what the legend shows.
        x, y: of its points, equally many.
    """

    title: str
    x: Sequence[float]
    y: Sequence[float]
    style: Style = Style.LINE


@dataclass(frozen=True)
class Titles:
    """The words of a chart: over it and at its axes."""

    chart: str
    x: str
    y: str


def put_chart(nodes: CaseNodes, name: str, titles: Titles, lines: Mapping[str, Line]) -> "slicer.vtkMRMLPlotChartNode":
    """Draw, or redraw, a chart of a run.

    Args:
        name: of the chart, a word; charts of other names stay as they are.
        lines: by key, a word; drawn in this order.
    """
    before = len(nodes.plots)
    chart = _node(nodes, name, "vtkMRMLPlotChartNode", titles.chart)
    table = _node(nodes, "table", "vtkMRMLTableNode", _("{input} curves").format(input=nodes.label))
    _remove_series(nodes, name, lines)
    _fill_table(table, name, lines)
    was_modifying = chart.StartModify()
    chart.SetTitle(titles.chart)
    chart.SetXAxisTitle(titles.x)
    chart.SetYAxisTitle(titles.y)
    chart.SetLegendVisibility(len(lines) > 1)
    chart.SetTitleFontSize(_TITLE_PT)  # a plot view of the usual layout is small
    for set_size in (chart.SetLegendFontSize, chart.SetAxisTitleFontSize, chart.SetAxisLabelFontSize):
        set_size(_TEXT_PT)
    # Room for the legend, which VTK puts over the upper right: every curve of ours ends there.
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, _ROOM * max((max(line.y, default=0.0) for line in lines.values()), default=1.0) or 1.0)
    wanted = [_series(nodes, name, key, table, line.title) for key, line in lines.items()]
    colours = iter(_COLOURS * len(wanted))
    for line, series in zip(lines.values(), wanted, strict=True):
        _draw(series, line.style, _GUIDE_COLOUR if line.style is Style.GUIDE else next(colours))
    shown = [chart.GetNthPlotSeriesNodeID(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    if shown != [series.GetID() for series in wanted]:
        chart.RemoveAllPlotSeriesNodeIDs()
        for series in wanted:
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.EndModify(was_modifying)
    if len(nodes.plots) != before:
        put_in_folder(nodes)
    return chart


def _node(nodes: CaseNodes, key: str, kind: str, title: str) -> "slicer.vtkMRMLNode":
    node = nodes.hub.GetNodeReference(PLOT_ROLE + key)
    if node is None:
        node = nodes.hub.GetScene().AddNewNodeByClass(kind, title)
        nodes.hub.SetNodeReferenceID(PLOT_ROLE + key, node.GetID())
    return node


def _remove_series(nodes: CaseNodes, chart_name: str, kept: Mapping[str, object]) -> None:
    for role in nodes.plot_roles:
        prefix = f"{PLOT_ROLE}{chart_name}."
        series = nodes.hub.GetNodeReference(role)
        if role.startswith(prefix) and role.removeprefix(prefix) not in kept and series is not None:
            nodes.hub.GetScene().RemoveNode(series)


def _series(
    nodes: CaseNodes, chart_name: str, key: str, table: "slicer.vtkMRMLTableNode", title: str
) -> "slicer.vtkMRMLPlotSeriesNode":
    series = _node(nodes, f"{chart_name}.{key}", "vtkMRMLPlotSeriesNode", title)
    # The name is what the legend shows.
    series.SetName(title)
    series.SetAndObserveTableNodeID(table.GetID())
    x, y = _columns(chart_name, key)
    series.SetXColumnName(x)
    series.SetYColumnName(y)
    return series


def _draw(series: "slicer.vtkMRMLPlotSeriesNode", style: Style, colour: tuple[float, float, float]) -> None:
    was_modifying = series.StartModify()
    kind = slicer.vtkMRMLPlotSeriesNode
    series.SetPlotType(kind.PlotTypeScatter)
    series.SetLineStyle(kind.LineStyleDash if style is Style.GUIDE else kind.LineStyleSolid)
    series.SetMarkerStyle(kind.MarkerStyleCircle if style is Style.POINTS else kind.MarkerStyleNone)
    series.SetMarkerSize(7)
    series.SetLineWidth(1 if style is Style.GUIDE else 2)
    series.SetColor(*colour)
    series.EndModify(was_modifying)


def _columns(chart_name: str, key: str) -> tuple[str, str]:
    return f"{chart_name} {key} x", f"{chart_name} {key} y"


def _fill_table(node: "slicer.vtkMRMLTableNode", chart_name: str, lines: Mapping[str, Line]) -> None:
    """Replace the columns of one chart; all columns of the table are made equally long by repeating last values.

    A point that is drawn twice looks as if drawn once; empty cells would be drawn as zeros.
    """
    old = node.GetTable()
    columns = {}
    for index in range(old.GetNumberOfColumns()):
        column = old.GetColumn(index)
        if not column.GetName().startswith(f"{chart_name} "):
            columns[column.GetName()] = [column.GetValue(row) for row in range(column.GetNumberOfValues())]
    for key, line in lines.items():
        for name, values in zip(_columns(chart_name, key), (line.x, line.y), strict=True):
            columns[name] = [float(value) for value in values]
    table, length = vtk.vtkTable(), max((len(values) for values in columns.values()), default=0)
    for name, values in columns.items():
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for value in [*values, *[values[-1]] * (length - len(values))]:
            column.InsertNextValue(value)
        table.AddColumn(column)
    node.SetAndObserveTable(table)
