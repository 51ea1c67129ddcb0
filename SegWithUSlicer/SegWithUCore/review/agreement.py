"""What several reviewers say about the same regions, and where they disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..csv_files import csv_text
from ..regions.region import Region
from .events import Verdict
from .reviews import Review

COLUMNS = ("case", "region", "structure", "expected_wrong_mm3", "reviewer", "verdict", "comment", "reviewers_disagree")
"""Of the table of all verdicts."""


@dataclass(frozen=True)
class RegionVerdicts:
    """Verdicts of all reviewers on one region; None where one has not decided.

    Attributes:
        verdicts: in the order of the reviewers.
        comments: theirs; "" for none.
    """

    region: Region
    verdicts: tuple[Verdict | None, ...]
    comments: tuple[str, ...]

    @property
    def decided(self) -> bool:
        """Whether two reviewers or more have given a verdict."""
        return len([verdict for verdict in self.verdicts if verdict is not None]) > 1

    @property
    def disagree(self) -> bool:
        """Whether two verdicts differ; a missing one does not."""
        return len({verdict for verdict in self.verdicts if verdict is not None}) > 1


def verdict_table(regions: Sequence[Region], reviews: Sequence[Review]) -> list[RegionVerdicts]:
    """The verdicts on each region."""
    return [
        RegionVerdicts(
            region,
            tuple(review.state.verdict_of(region.id) for review in reviews),
            tuple(review.state.comment_of(region.id) for review in reviews),
        )
        for region in regions
    ]


def disagreements(regions: Sequence[Region], reviews: Sequence[Review]) -> list[RegionVerdicts]:
    """The regions whose verdicts differ."""
    return [row for row in verdict_table(regions, reviews) if row.disagree]


def agreement_csv(cases: Sequence[tuple[str, Sequence[Region], Sequence[Review]]]) -> str:
    """A table of all cases: case, region, structure, expected wrong volume, reviewer, verdict, comment, disagreement.

    One row for each region and reviewer, so that any number of reviewers fits.
    """
    rows: list[list[object]] = []
    for name, regions, reviews in cases:
        for row in verdict_table(regions, reviews):
            for review, verdict, comment in zip(reviews, row.verdicts, row.comments, strict=True):
                given = "" if verdict is None else verdict.value
                wrong = f"{row.region.expected_wrong_mm3:.6g}"
                cells = [name, row.region.id, row.region.structure, wrong, review.reviewer, given, comment]
                rows.append([*cells, int(row.disagree)])
    return csv_text(COLUMNS, rows)
