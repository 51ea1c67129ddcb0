"""The pages of the documentation list the verdicts and their keys as the table has them."""

import pytest
from repository import ROOT

from SegWithUCore.review.verdicts import GIVEN, Verdict

USER = ROOT / "docs" / "user"


@pytest.mark.parametrize("verdict", GIVEN)
def test_a_verdict_stands_in_the_docs_with_its_keys(verdict: Verdict) -> None:
    keys = (USER / "slicer.md").read_text(encoding="utf-8")
    assert f"| {verdict.key} | {verdict.value} |" in keys
    page = " ".join((USER / "browser.md").read_text(encoding="utf-8").split())
    if verdict.kind.single_key:
        assert f"{verdict.kind.single_key} {verdict.text}," in page
    else:
        assert f"except *{verdict.value}*" in page


@pytest.mark.parametrize("verdict", [verdict for verdict in GIVEN if verdict.wants_attention])
def test_what_raises_a_flag_stands_beside_the_flags(verdict: Verdict) -> None:
    text = " ".join((USER / "reading_the_maps.md").read_text(encoding="utf-8").split())
    assert verdict.text in text.split("## Flags")[1]
