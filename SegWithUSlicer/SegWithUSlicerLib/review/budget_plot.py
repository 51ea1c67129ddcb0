"""The budget as charts: errors covered by regions, and risk and coverage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import slicer

from ..i18n import _
from ..scene.case_nodes import CaseNodes
from ..scene.charts import Line, Style, Titles, put_chart


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
    lines = {"expected": Line(_("expected errors"), range(len(curve.expected)), curve.expected)}
    if curve.true is not None:
        lines["true"] = Line(_("true errors (reference)"), range(len(curve.true)), curve.true)
    lines["chosen"] = Line(_("your budget"), [chosen], [curve.expected[chosen]], Style.MARK)
    titles = Titles(_("What looking at regions covers"), _("Regions looked at"), _("Share of errors covered"))
    chart = put_chart(nodes, "budget", titles, lines)
    # To the whole: else the curve's end, which the budget is about, lies below the legend.
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.0)
    return chart


def put_risk_coverage(nodes: CaseNodes, curves: Mapping[str, RiskCurve]) -> "slicer.vtkMRMLPlotChartNode":
    """Draw, or redraw, one risk-coverage line for each title, in the order given."""
    lines = {f"risk{number}": Line(title, one.coverage, one.risk) for number, (title, one) in enumerate(curves.items())}
    titles = Titles(_("Risk and coverage"), _("Share of voxels kept (coverage)"), _("Error rate (risk)"))
    return put_chart(nodes, "risk", titles, lines)
