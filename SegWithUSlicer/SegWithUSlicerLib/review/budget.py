"""How many of the errors reviewing N regions covers, expected and, with a reference, true."""

from dataclasses import dataclass
from math import ceil

import slicer

from SegWithUCore.review.budget import (
    Coverage,
    RiskCoverage,
    expected_coverage,
    risk_coverage,
    true_coverage,
)

from ..i18n import _
from ..scene.readout import volume_text
from ..scene.review_nodes import region_labels
from .budget_plot import BudgetCurve, RiskCurve, put_budget, put_risk_coverage
from .edits import grid_of, read_labels
from .reference import error_probability, reference_labels, time_of
from .session import ReviewSession


@dataclass(frozen=True)
class Truth:
    """Results of the comparison with a reference.

    Attributes:
        coverage: true errors in the first n regions.
        voxels: the true risk-coverage curve of the voxels in order of error probability.
    """

    coverage: Coverage
    voxels: RiskCoverage


class Budget:
    """The budget of one review.

    Blind places take time but are none of the case's expected errors: the curve is that of the real regions.
    """

    def __init__(self, session: ReviewSession) -> None:
        self.session = session
        self._truths: dict[tuple[str, int], Truth] = {}
        self._risk: RiskCoverage | None = None

    @property
    def expected(self) -> Coverage:
        """What the first n regions cover in the order of the review."""
        return expected_coverage(self.session.real_regions, self.session.total_mm3, self.session.order)

    def sentence(self, regions: int) -> str:
        """Describe what reviewing so many regions covers."""
        curve = self.expected
        number = min(max(regions, 0), len(curve.ids))
        text = _("{n} regions cover {share} % of the expected errors ({covered} of {total}); {left} remain.")
        return text.format(
            n=number,
            share=int(100 * curve.share[number] + 1e-9),
            covered=volume_text(float(curve.wrong_mm3[number])),
            total=volume_text(curve.total_wrong_mm3),
            left=volume_text(float(curve.remaining_mm3[number])),
        )

    def reached(self, regions: int) -> bool:
        """Whether as many regions have been looked at as were meant to be, and others are left."""
        progress = self.session.state.progress()
        return progress.decided >= regions and not self.session.is_done

    def rest_question(self) -> str:
        """Ask whether the regions without a verdict are to be taken unseen, and say what is taken with them."""
        rest = self.session.state.rest()
        total = self.session.total_mm3
        text = _(
            "Take the {n} regions without a verdict as they are, without a look? They hold {wrong} of expected error, "
            '{share} % of this case\'s. They are logged as "not looked at" and counted apart; undo takes all of it '
            "back."
        )
        share = rest.expected_wrong_mm3 / total if total > 0 else 0.0
        wrong = volume_text(rest.expected_wrong_mm3)
        return text.format(n=len(rest.regions), wrong=wrong, share=min(100, ceil(100 * share)))

    def show(
        self, regions: int, reference: "slicer.vtkMRMLNode | None" = None
    ) -> tuple["slicer.vtkMRMLPlotChartNode", "slicer.vtkMRMLPlotChartNode"]:
        """Redraw both charts: regions and errors covered, and risk over coverage of the voxels.

        Raises:
            InputError: the reference cannot be compared with the case.
        """
        nodes = self.session.nodes
        truth = self._truth(reference) if reference is not None else None
        share = self.expected.share.tolist()
        true_share = None if truth is None else truth.coverage.share.tolist()
        # Once per review: it reads every voxel, and no edit changes what the model expects.
        expected = self._risk = self._risk or risk_coverage(error_probability(nodes))
        curves = {_("expected"): RiskCurve(expected.coverage.tolist(), expected.selective_risk.tolist())}
        if truth is not None:
            true = truth.voxels
            curves[_("true (reference)")] = RiskCurve(true.coverage.tolist(), true.selective_risk.tolist())
        return put_budget(nodes, BudgetCurve(share, regions, true_share)), put_risk_coverage(nodes, curves)

    def reference_sentence(self, regions: int, reference: "slicer.vtkMRMLNode") -> str:
        """Describe what so many regions cover in truth, and how well the error probability ranks the voxels.

        Raises:
            InputError: the reference cannot be compared with the case.
        """
        truth = self._truth(reference)
        number = min(max(regions, 0), len(truth.coverage.ids))
        text = _(
            "In truth {n} regions cover {share} % of {total} that differ from {reference} (AURC {aurc}, AUGRC {augrc})."
        )
        return text.format(
            n=number,
            share=int(100 * truth.coverage.share[number] + 1e-9),
            total=volume_text(truth.coverage.total_wrong_mm3),
            reference=reference.GetName(),
            aurc=f"{truth.voxels.aurc:.2e}",
            augrc=f"{truth.voxels.augrc:.2e}",
        )

    def _truth(self, reference: "slicer.vtkMRMLNode") -> Truth:
        """Compare with the model's own segmentation: the regions are about its errors, not about what edits left."""
        nodes = self.session.nodes
        key = (f"{reference.GetID()} {self.session.order}", time_of(reference))
        if key not in self._truths:
            self._truths.clear()
            labels, truth = read_labels(nodes, original=True), reference_labels(nodes, reference)
            error = error_probability(nodes)
            shape, matrix = grid_of(nodes)
            regions, voxel_mm3 = region_labels(nodes, shape), abs(matrix.Determinant())
            coverage = true_coverage(regions, labels, truth, self.expected.ids, voxel_mm3, error >= 0)
            self._truths[key] = Truth(coverage, risk_coverage(error, labels != truth))
        return self._truths[key]
