"""The sentence of a region."""

from dataclasses import replace

import pytest
from review_cases import a_region

from SegWithUCore.regions.region import Competition, Kind, Shape, why

MISSED = a_region(
    1, structure="anterior hippocampus", competing=(Competition("anterior hippocampus", "background", 0.71),)
)
BOTH_WAYS = (
    Competition("background", "liver", 0.6),
    Competition("liver", "background", 0.396),
    Competition("kidney", "liver", 0.004),
)


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        (
            replace(MISSED, shape=Shape.THIN, model_percentile=94.6),
            "anterior hippocampus may be missing here (71 %: too small); thin boundary; "
            "model uncertainty is high (94th percentile of calibration cases)",
        ),
        (MISSED, "anterior hippocampus may be missing here (71 %: too small); a thick blob"),
        (
            replace(MISSED, touches_border=True, data_percentile=50.0),
            "anterior hippocampus may be missing here (71 %: too small); a thick blob; data uncertainty is "
            "usual (50th percentile of calibration cases); touches the edge of the image: the structure may "
            "continue outside",
        ),
        (
            replace(MISSED, kind=Kind.EXTRA, competing=(Competition("background", "anterior hippocampus", 1.0),)),
            "anterior hippocampus may reach too far here (100 %: drawn too large); a thick blob",
        ),
        (
            replace(MISSED, kind=Kind.CONFUSION, competing=(Competition("posterior", "anterior", 0.8),)),
            "posterior and anterior may be confused here (80 %: posterior drawn as anterior); a thick blob",
        ),
        (
            replace(MISSED, structure="liver", kind=Kind.BOUNDARY, shape=Shape.THIN, competing=BOTH_WAYS),
            "the boundary of liver may lie elsewhere (60 %: drawn too large, 40 %: too small); thin boundary",
        ),
        (replace(MISSED, competing=()), "anterior hippocampus may be missing here; a thick blob"),
        (
            replace(MISSED, kind=Kind.CONFUSION, competing=()),
            "the boundary of anterior hippocampus may lie elsewhere; a thick blob",
        ),
        (
            replace(MISSED, competing=(Competition("a", "b", 0.001), Competition("a", "c", 0.0))),
            "anterior hippocampus may be missing here (under 1 %: a drawn as b); a thick blob",
        ),
    ],
)
def test_sentences(region: object, sentence: str) -> None:
    assert why(region) == sentence


def test_model_comes_before_data_and_edges_may_be_the_rois() -> None:
    region = replace(MISSED, model_percentile=80.0, data_percentile=10.0, touches_border=True)
    sentence = why(region, roi=True)
    assert sentence.index("model uncertainty is high") < sentence.index("data uncertainty is low")
    assert sentence.endswith("touches the edge of the region of interest: the structure may continue outside")
