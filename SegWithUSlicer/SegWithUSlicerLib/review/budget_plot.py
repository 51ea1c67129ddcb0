"""The budget as plot nodes of Slicer: a chart of errors covered by regions, and one of risk and coverage.

Charts, series and the one table that they read from are made at the first call and updated in place. They hang on the
run's hub, so a loaded scene keeps using its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import slicer
import vtk

from ..i18n import _
from ..scene.case_nodes import CaseNodes

_ROLE = "segwithu.plot."
# Distinct with the common forms of colour blindness (Okabe and Ito), in the order in which series come.
_COLOURS = ((0.0, 0.45, 0.70), (0.84, 0.37, 0.0), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65))
_MARKER_COLOUR = (0.0, 0.0, 0.0)

Lines = dict[str, tuple[str, Sequence[float], Sequence[float]]]
"""Title, x and y of each line, by key."""


@dataclass(frozen=True)
class BudgetCurve:
    """Share of the errors that reviewing the first regions covers.

    Attributes:
        expected: share (0 to 1) of all expected errors covered after 0, 1, 2, ... regions.
        chosen: how many regions the reviewer will review.
        true: the same for the true errors, where a reference segmentation is at hand.
    """

    expected: Sequence[float]
    chosen: int
    true: Sequence[float] | None = None


@dataclass(frozen=True)
class RiskCurve:
    """Risk over coverage: `risk[n]` is the error rate among the share `coverage[n]` of least uncertain voxels."""

    coverage: Sequence[float]
    risk: Sequence[float]


def put_budget(nodes: CaseNodes, curve: BudgetCurve) -> "slicer.vtkMRMLPlotChartNode":
    """Draw, or redraw, the share of errors covered over the number of regions, with a mark at the choice."""
    last = len(curve.expected) - 1
    chosen = min(max(curve.chosen, 0), last)
    lines: Lines = {"expected": (_("expected errors"), range(len(curve.expected)), curve.expected)}
    if curve.true is not None:
        lines["true"] = (_("true errors (reference)"), range(len(curve.true)), curve.true)
    lines["chosen"] = (_("your budget"), [chosen], [curve.expected[chosen]])
    return _put_chart(
        nodes,
        "budget",
        (_("What looking at regions covers"), _("Regions looked at"), _("Share of errors covered")),
        lines,
    )


def put_risk_coverage(nodes: CaseNodes, curves: Mapping[str, RiskCurve]) -> "slicer.vtkMRMLPlotChartNode":
    """Draw, or redraw, one risk-coverage line for each title, in the order given."""
    lines = {f"risk{number}": (title, one.coverage, one.risk) for number, (title, one) in enumerate(curves.items())}
    return _put_chart(
        nodes, "risk", (_("Risk and coverage"), _("Share of voxels kept (coverage)"), _("Error rate (risk)")), lines
    )


def remove_plots(nodes: CaseNodes) -> None:
    """Take charts, series and table out of the scene."""
    scene = nodes.hub.GetScene()
    for role in _roles(nodes):
        node = nodes.hub.GetNodeReference(role)
        nodes.hub.SetNodeReferenceID(role, None)
        if node is not None:
            scene.RemoveNode(node)


def _put_chart(
    nodes: CaseNodes,
    chart_name: str,
    titles: tuple[str, str, str],
    lines: Lines,
) -> "slicer.vtkMRMLPlotChartNode":
    """Put lines (key -> title, x, y) into one chart with title, x label and y label."""
    chart = _node(nodes, chart_name, "vtkMRMLPlotChartNode", titles[0])
    table = _node(nodes, "table", "vtkMRMLTableNode", _("{input} review curves").format(input=nodes.label))
    _remove_series(nodes, chart_name, lines)
    _fill_table(table, chart_name, {key: line[1:] for key, line in lines.items()})
    was_modifying = chart.StartModify()
    chart.SetTitle(titles[0])
    chart.SetXAxisTitle(titles[1])
    chart.SetYAxisTitle(titles[2])
    chart.SetLegendVisibility(len(lines) > 1)
    wanted = [_series(nodes, chart_name, key, table, title) for key, (title, _x, _y) in lines.items()]
    for colour, (key, series) in zip(_COLOURS * len(wanted), zip(lines, wanted, strict=True), strict=False):
        _style(series, key == "chosen", colour)
    shown = [chart.GetNthPlotSeriesNodeID(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    if shown != [series.GetID() for series in wanted]:
        chart.RemoveAllPlotSeriesNodeIDs()
        for series in wanted:
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.EndModify(was_modifying)
    return chart


def _node(nodes: CaseNodes, key: str, kind: str, title: str) -> "slicer.vtkMRMLNode":
    node = nodes.hub.GetNodeReference(_ROLE + key)
    if node is None:
        node = nodes.hub.GetScene().AddNewNodeByClass(kind, title)
        nodes.hub.SetNodeReferenceID(_ROLE + key, node.GetID())
    return node


def _roles(nodes: CaseNodes) -> list[str]:
    roles: list[str] = []
    nodes.hub.GetNodeReferenceRoles(roles)
    return [role for role in roles if role.startswith(_ROLE)]


def _remove_series(nodes: CaseNodes, chart_name: str, kept: Mapping[str, object]) -> None:
    for role in _roles(nodes):
        prefix = f"{_ROLE}{chart_name}."
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


def _style(series: "slicer.vtkMRMLPlotSeriesNode", is_marker: bool, colour: tuple[float, float, float]) -> None:
    was_modifying = series.StartModify()
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    if is_marker:
        series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleNone)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleDiamond)
        series.SetMarkerSize(14)
        series.SetColor(*_MARKER_COLOUR)
    else:
        series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetLineWidth(2)
        series.SetColor(*colour)
    series.EndModify(was_modifying)


def _columns(chart_name: str, key: str) -> tuple[str, str]:
    return f"{chart_name} {key} x", f"{chart_name} {key} y"


def _fill_table(
    node: "slicer.vtkMRMLTableNode", chart_name: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """Replace the columns of one chart; all columns of the table are made equally long by repeating last values.

    A point that is drawn twice looks as if drawn once; empty cells would be drawn as zeros.
    """
    old = node.GetTable()
    columns = {}
    for index in range(old.GetNumberOfColumns()):
        column = old.GetColumn(index)
        if not column.GetName().startswith(f"{chart_name} "):
            columns[column.GetName()] = [column.GetValue(row) for row in range(column.GetNumberOfValues())]
    for key, points in lines.items():
        for name, values in zip(_columns(chart_name, key), points, strict=True):
            columns[name] = [float(value) for value in values]
    table, length = vtk.vtkTable(), max((len(values) for values in columns.values()), default=0)
    for name, values in columns.items():
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for value in [*values, *[values[-1]] * (length - len(values))]:
            column.InsertNextValue(value)
        table.AddColumn(column)
    node.SetAndObserveTable(table)
